"""Manifest: a TOML file that names what a batch fits, and how."""

from __future__ import annotations

import glob
import hashlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rlceiling.errors import DataError, count, listing
from rlceiling.fitting.learn_priors import FEWEST_RECIPES
from rlceiling.jobs.job import Job, Label, PooledJob, RecipeJob, SizeJob, law_name
from rlceiling.models.priors import Priors
from rlceiling.models.recipe_priors import LearnedPriors, SigmoidPriors, named_priors
from rlceiling.models.size_laws import LAWS
from rlceiling.models.size_priors import SizePriors
from rlceiling.runs import Runs
from rlceiling.runs.cuts import cut_runs, cut_runs_at
from rlceiling.runs.grouping import group_by_size
from rlceiling.runs.sources import COLUMNS, read_source
from rlceiling.runs.table import FEWEST
from rlceiling.runs.units import Units
from rlceiling.runs.validation import bounds_of
from rlceiling.settings import LEAST, RECIPE_SAMPLER, SEEDS, SIZE_SAMPLER, SamplerSettings

AnyPriors = TypeVar("AnyPriors", bound=Priors)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class Source(_Part):
    """Where evaluations come from, and what is fitted to them.

    Keys have the names of the arguments of `read_runs`, `read_log` and `fit_sizes` and of the methods of `Runs`. A
    source makes one job per recipe and cut; if recipes are pooled, one job per file and cut; and if it has a `law`, one
    job per file.
    """

    files: list[str] = Field(default_factory=list)
    """Files, or patterns such as ``logs/*.csv``, relative to the directory of the manifest unless they are absolute."""
    dataset: str | None = None
    split: str | None = None
    compute: str | None = None
    reward: str | None = None
    recipe: str | None = None
    run: str | None = None
    n_eval: str | None = None
    stage: str | None = None
    reward_bounds: tuple[float, float] | None = None
    duplicates: str | None = None
    resume: str | None = None
    where: list[str] = Field(default_factory=list)
    wide: str | None = None
    metric: str | None = None
    gpus: int | None = None
    prompts: int | None = None
    select: list[str] = Field(default_factory=list)
    drop: list[str] = Field(default_factory=list)
    burn_in: float | None = None
    until: float | None = None
    shares: list[float] = Field(default_factory=list)
    """Shares of each run's largest compute at which recipes are also fitted; not with a law."""
    cut_compute: list[float] = Field(default_factory=list)
    """Computes at which recipes with longer runs are also fitted; not with a law."""
    pool: bool = False
    """Let the recipes of each file learn from each other, as ``rlceiling.fit(pool=True)`` does. They are one job."""
    law: str | None = None
    """``"power law"`` or ``"ceiling"``: fit a law across model sizes to all runs of a file. [default: fit recipes]"""
    size: str | None = None
    """With a law: the column of the model size; also the default of `recipe`."""
    resource: str | None = None
    """With a law: the column of the resource; also the default of `compute`. [default: "compute"]"""
    priors: dict[str, Any] = Field(default_factory=dict)
    """With a law: priors that replace its defaults. Priors of recipes stand in the table ``[priors]``."""


class Sampler(_Part):
    """How posteriors are sampled, as of `rlceiling.fit` and `rlceiling.fit_sizes`.

    A key that is left out takes the default of recipes or of laws, whichever is fitted.
    """

    chains: int | None = Field(default=None, ge=LEAST["chains"])
    tune: int | None = Field(default=None, ge=LEAST["tune"])
    draws: int | None = Field(default=None, ge=LEAST["draws"])
    seed: int | None = Field(default=None, ge=SEEDS[0], lt=SEEDS[1])

    def settings(self, defaults: SamplerSettings) -> SamplerSettings:
        """Settings of a job."""
        return replace(defaults, **self.model_dump(exclude_none=True))


class Outputs(_Part):
    """What is written into the store when a batch ends."""

    summary: bool = False
    """``summary.csv``: the index of what the manifest names, recipes and laws."""
    draws: bool = False
    """``draws.parquet``: posterior draws of the parameters of recipes, one row per draw, by key. Laws are not in it."""
    plots: bool = False
    """``plots/``: a picture of every curve, of its growth where shares of it are fitted, and of every law."""
    report: bool = False
    """``report.html``: recipes without cuts, and laws."""


class Manifest(_Part):
    """What is fitted and how."""

    source: list[Source] = Field(min_length=1)
    sampler: Sampler = Field(default_factory=Sampler)
    priors: dict[str, Any] | str = Field(default_factory=dict)
    """Priors of recipes: a table of those that replace the defaults of `SigmoidPriors`, or ``"weak"``, ``"reference"``,
    or a file that `rlceiling priors learn` wrote, relative to the directory of the manifest."""
    outputs: Outputs = Field(default_factory=Outputs)

    @field_validator("priors", mode="before")
    @classmethod
    def _table_or_name(cls, given: Any) -> Any:
        if not isinstance(given, dict | str):
            raise ValueError("is neither a table of priors nor a name")
        return given


class ReadManifest(NamedTuple):
    """A manifest that was checked, with the priors that it names.

    Attributes
    ----------
    manifest : Manifest
        Its entries; laws by the names of `rlceiling.models.size_laws.LAWS`.
    priors : SigmoidPriors
        Priors of recipes.
    law_priors : list of SizePriors or None
        Priors of each source's law; None for a source without a law.
    """

    manifest: Manifest
    priors: SigmoidPriors
    law_priors: list[SizePriors | None]


class Unreadable(NamedTuple):
    """Something that a manifest names and that cannot be fitted.

    Attributes
    ----------
    label : Label
        Where its evaluations come from.
    recipe : str
        Name of the recipe or law; empty where a whole source cannot be read.
    reason : str
        Why it cannot be fitted.
    """

    label: Label
    recipe: str
    reason: str

    @property
    def key(self) -> str:
        """Address of the failure in the store."""
        return hashlib.sha256(repr((*self.label, self.recipe)).encode()).hexdigest()[:32]


class Plan(NamedTuple):
    """Jobs of a manifest.

    Attributes
    ----------
    jobs : list of Job
        In the order of the manifest. Jobs with the same evaluations and settings are one job with several labels.
    unreadable : list of Unreadable
        Sources, recipes and laws that cannot be fitted, with the reason.
    outputs : Outputs
        What is written when the batch ends.
    """

    jobs: list[Job]
    unreadable: list[Unreadable]
    outputs: Outputs


def read_manifest(path: str | Path) -> ReadManifest:
    """Read and check a manifest.

    Parameters
    ----------
    path : path
        A TOML file.

    Returns
    -------
    ReadManifest

    Raises
    ------
    DataError
        If the file is not TOML, or an entry is unknown or wrong; the sentence names its line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        plain = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path.name}, line {line}: is not UTF-8 text; save it as UTF-8.") from None
    except RecursionError:
        raise DataError(f"{path.name} is nested too deeply; correct it.") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path.name} is not TOML: {error}; correct that line.") from None
    try:
        manifest = Manifest.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) if not isinstance(part, int) else part for part in first["loc"]]
        name = ".".join(str(part) for part in where if not isinstance(part, int))
        what = {"extra_forbidden": "is not known", "missing": "is missing"}.get(first["type"], first["msg"].lower())
        given = "" if first["type"] == "missing" else f" ({first['input']!r})"
        raise DataError(f"{path.name}, line {_line(text, where)}: {name}{given} {what}; correct it.") from None

    def fail(sentence: str, *where: str | int) -> DataError:
        return DataError(f"{path.name}, line {_line(text, where)}: {sentence}")

    law_priors: list[SizePriors | None] = []
    for place, source in enumerate(manifest.source):
        if bool(source.files) == (source.dataset is not None):
            raise fail("a source names either files or a dataset; give one of them.", "source", place)
        for key, sentence in _misfits(source):
            raise fail(f"source.{key} {sentence}", "source", place, key)
        if source.law is None:
            for key in ("size", "resource", "priors"):
                if getattr(source, key):
                    advice = "add a law, or leave it out" if key != "priors" else "those of recipes stand in [priors]"
                    raise fail(f"source.{key} belongs to a law across model sizes; {advice}.", "source", place, key)
            law_priors.append(None)
            continue
        source.law = source.law.replace("-", " ")
        if source.law not in LAWS:
            known = listing(repr(name) for name in LAWS)
            raise fail(f"source.law ({source.law!r}) is not one of {known}; give one of them.", "source", place, "law")
        if source.pool:
            raise fail(
                "source.pool is for recipes, and a law is fitted to all sizes; leave it out.", "source", place, "pool"
            )
        for key in ("shares", "cut_compute"):
            if getattr(source, key):
                sentence = f"source.{key} is for recipes, and a law is fitted to whole runs; leave it out"
                raise fail(f"{sentence}, or give until, which cuts all runs.", "source", place, key)
        if source.size is None:
            sentence = 'a law needs the column of the model size; add one such as size = "model_size".'
            raise fail(sentence, "source", place, "law")
        try:
            law_priors.append(_priors(LAWS[source.law].priors, source.priors))
        except _BadPrior as error:
            raise fail(f"source.priors: {error}", "source", place, "priors", error.prior) from None
    try:
        if isinstance(manifest.priors, str):
            priors = named_priors(manifest.priors, path.parent)
        else:
            priors = _priors(SigmoidPriors, manifest.priors)
    except _BadPrior as error:
        raise fail(f"priors: {error}", "priors", error.prior) from None
    except DataError as error:
        raise fail(f"priors: {error}", "priors") from None
    for place, source in enumerate(manifest.source):
        if source.pool and isinstance(priors, LearnedPriors) and not priors.studies:
            sentence = "source.pool learns from the recipes themselves, and priors were learned from one study; leave"
            raise fail(f"{sentence} one of them out.", "source", place, "pool")
    return ReadManifest(manifest, priors, law_priors)


def _misfits(source: Source) -> Iterator[tuple[str, str]]:
    """Keys of a source that no runs can satisfy, and why."""
    if source.dataset is not None:
        for key in COLUMNS:
            if getattr(source, key) not in (None, []):
                yield key, "says how a file is read, and a data set is read already; leave it out."
    if source.reward_bounds is not None and source.reward_bounds != (-math.inf, math.inf):
        try:
            bounds_of(source.reward_bounds)
        except DataError:
            yield (
                "reward_bounds",
                f"{list(source.reward_bounds)} are not two finite numbers, low below high; correct it.",
            )
    for key in ("burn_in", "until"):
        value = getattr(source, key)
        if value is not None and not (math.isfinite(value) and value >= 0):
            yield key, f"({value:g}) is not a compute; give a number of 0 or more."
    for share in source.shares:
        if not 0.0 < share < 1.0:
            yield "shares", f"has {share:g}, which is not a share of a run; give numbers between 0 and 1."
    for compute in source.cut_compute:
        if not (math.isfinite(compute) and compute > 0):
            yield "cut_compute", f"has {compute:g}, which is not a compute above 0; correct it."


class _BadPrior(ValueError):
    """A prior of a manifest cannot be used.

    Attributes
    ----------
    prior : str
        Name of the prior, as the manifest has it.
    """

    def __init__(self, kind: type[Priors], prior: str, reason: str) -> None:
        example = "B" if "B" in kind.supports else "N0"
        super().__init__(f'{reason}; write one as {example} = {{distribution = "LogNormal", loc = 0.5, scale = 0.6}}.')
        self.prior = prior


def _priors(kind: type[AnyPriors], plain: Mapping[str, Any]) -> AnyPriors:
    """Priors of a model, the defaults where none is given; raises `_BadPrior`."""
    defaults = kind().to_dict()
    for name, value in plain.items():
        if name not in defaults:
            raise _BadPrior(kind, name, f"{name} is not a prior; there are {', '.join(defaults)}")
        try:
            kind.from_dict({name: value})
        except DataError as error:
            raise _BadPrior(kind, name, str(error)) from None
        except (AttributeError, TypeError, KeyError, NotImplementedError):
            raise _BadPrior(kind, name, f"{name} = {value!r} is not a distribution of NumPyro") from None
        except ValueError as error:  # such as a scale below 0
            raise _BadPrior(kind, name, f"{name} = {value!r} cannot be used ({str(error).rstrip('.')})") from None
    return kind.from_dict(plain)


def plan(path: str | Path) -> Plan:
    """Read the evaluations that a manifest names, and make its jobs.

    Parameters
    ----------
    path : path
        The manifest.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        If the manifest is wrong.
    """
    path = Path(path)
    manifest, priors, law_priors = read_manifest(path)
    found = _Jobs()
    recipe_sampler = manifest.sampler.settings(RECIPE_SAMPLER)
    size_sampler = manifest.sampler.settings(SIZE_SAMPLER)
    for source, own_priors in zip(manifest.source, law_priors, strict=True):
        for name, runs in _read(source, path.parent, found.unreadable):
            if own_priors is None:
                _plan_recipes(name, runs, source, priors, recipe_sampler, found)
            else:
                _plan_law(name, runs, source, own_priors, size_sampler, found)
    return Plan(list(found.jobs.values()), found.unreadable, manifest.outputs)


class _Jobs:
    """Jobs and failures that were found so far."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.unreadable: list[Unreadable] = []
        self._keys: dict[tuple[Label, str], str] = {}

    def add(self, job: Job) -> None:
        """Add a job with one label, or the label to the job that has the same key."""
        known = self.jobs.setdefault(job.key, job)
        self._keys |= {(job.labels[0], name): key for name, key in job.keys.items()}
        if job.labels[0] not in known.labels:
            self.jobs[job.key] = replace(known, labels=(*known.labels, *job.labels))

    def held_by_another(self, job: Job) -> list[str]:
        """Names that another job, with other evaluations or settings, has under the same label.

        Recipes fitted alone by two sources are not among them: of those, the last counts.
        """
        held = {name: self._keys.get((job.labels[0], name), key) for name, key in job.keys.items()}
        both_alone = isinstance(job, RecipeJob) and held[job.name] in self.jobs
        return [] if both_alone else [name for name, key in job.keys.items() if held[name] != key]


def _plan_recipes(
    source_name: str, runs: Runs, source: Source, priors: SigmoidPriors, sampler: SamplerSettings, found: _Jobs
) -> None:
    """Make a job of every recipe and cut."""
    for label, part in _cuts(source_name, runs, source, found.unreadable):
        units = Units(part.compute_label, part.reward_label, part.reward_bounds)
        usable: list[str] = []
        for recipe, members in part.iter_recipes():
            lengths = [len(run.compute) for run in members]
            staged = any(run.stages for run in members)
            if max(lengths) < FEWEST or not min(lengths) or staged:  # check_enough is too slow for every recipe
                try:
                    part.select(recipe).check_enough()
                except DataError as error:
                    found.unreadable.append(Unreadable(label, recipe, str(error)))
                    continue
            usable.append(recipe)
            if not source.pool:
                plain = priors.suited_to(part.compute_label, staged=staged).to_dict()
                job = RecipeJob(labels=(label,), runs=tuple(members), units=units, priors=plain, sampler=sampler)
                _add_unless_held(job, found)
        if not source.pool:
            continue
        if len(usable) < FEWEST_RECIPES:
            reason = (
                f"{count(len(usable), 'recipe')} of {source_name} can be used, and pool needs {FEWEST_RECIPES} in one "
                "file; put the recipes that are to learn from each other into one table."
            )
            found.unreadable.append(Unreadable(label, "", reason))
            continue
        # As for a law, notes on how the file was read are left out.
        pooled = replace(part.select(*usable), notes=())
        _add_unless_held(PooledJob(labels=(label,), runs=pooled, priors=priors.to_dict(), sampler=sampler), found)


def _add_unless_held(job: Job, found: _Jobs) -> None:
    """Add a job, unless an earlier source has its recipes or law with other runs or priors."""
    for name in (held := found.held_by_another(job)):
        reason = (
            f"an earlier source of the manifest also fits {'the ' * isinstance(job, SizeJob)}{name} to "
            f"{job.labels[0].source}, with other runs or priors, "
            "and a store keeps one of them; fit the other one from a manifest and a store of its own."
        )
        found.unreadable.append(Unreadable(job.labels[0], name, reason))
    if not held:
        found.add(job)


def _plan_law(
    source_name: str, runs: Runs, source: Source, priors: SizePriors, sampler: SamplerSettings, found: _Jobs
) -> None:
    """Make a job of all runs of a file."""
    assert source.law is not None
    assert source.size is not None
    label, resource = Label(source_name), source.resource or "compute"
    try:
        # Notes on how a file was read are left out: a posterior that was read from another file is the same.
        grouped = group_by_size(replace(runs, notes=()), source.size, resource)
    except DataError as error:
        name = law_name(source.law, source.size, runs.compute_label if resource == "compute" else resource)
        found.unreadable.append(Unreadable(label, name, str(error)))
        return
    job = SizeJob(labels=(label,), law=source.law, grouped=grouped, priors=priors.to_dict(), sampler=sampler)
    _add_unless_held(job, found)


def _read(source: Source, folder: Path, unreadable: list[Unreadable]) -> Iterator[tuple[str, Runs]]:
    """Yield the name and runs of every file, or of the data set."""
    found: list[tuple[str, Path | str]] = [] if source.dataset is None else [(source.dataset, source.dataset)]
    for pattern in source.files:
        paths = [Path(one) for one in sorted(glob.glob(_below(folder, pattern), recursive=True))]
        if not paths:
            unreadable.append(Unreadable(Label(pattern), "", f"no file matches {pattern!r}; correct it."))
        found += [(str(one.relative_to(folder) if one.is_relative_to(folder) else one), one) for one in paths]
    arguments = COLUMNS if source.dataset is None else ("split",)
    given = {name: value for name in arguments if (value := getattr(source, name)) not in (None, [])}
    if source.law is not None and source.dataset is None:
        # As on the command line, a file of sizes needs no column of recipes: sizes distinguish its runs.
        given = {"recipe": source.size, **({} if source.resource is None else {"compute": source.resource}), **given}
    left_out = {name: getattr(source, name) for name in ("select", "drop", "burn_in", "until")}
    for name, place in found:
        try:
            yield name, read_source(place, given, **left_out)
        except (DataError, OSError) as error:
            unreadable.append(Unreadable(Label(name), "", str(error)))


def _below(folder: Path, pattern: str) -> str:
    """Pattern of paths below a folder, whose own name may hold the characters of patterns.

    A pattern that is the name of a file is that file, also if it holds such characters.
    """
    if (folder / pattern).is_file():
        return glob.escape(str(folder / pattern))
    return str(Path(glob.escape(str(folder))) / pattern)


def _cuts(name: str, runs: Runs, source: Source, unreadable: list[Unreadable]) -> Iterator[tuple[Label, Runs]]:
    """Yield the runs at every cut, and then without one."""
    try:
        for share, part in cut_runs("shares", runs, source.shares).items():
            yield Label(name, share), part
        for compute, part in cut_runs_at(runs, source.cut_compute).items():
            yield Label(name, cut_compute=compute), part
    except DataError as error:
        unreadable.append(Unreadable(Label(name), "", str(error)))
    yield Label(name), runs


def _line(text: str, where: Sequence[str | int]) -> int:
    """Line of an entry, counted from 1.

    Parameters
    ----------
    text : str
        The manifest.
    where : sequence of str and int
        Name of a table or key, its place among tables of that name, and names of keys in it, from the outside in. The
        line is that of the innermost key which is found.
    """
    table, *rest = where
    nth = int(rest.pop(0)) if rest and isinstance(rest[0], int) else 0
    lines = text.splitlines()
    name = re.escape(str(table))
    begins = [at for at, line in enumerate(lines) if re.match(rf"\s*(\[+\s*{name}\s*\]|{name}\s*[=.])", line)]
    if not begins:
        return 1
    at = begins[min(nth, len(begins) - 1)]
    other_table = re.compile(rf"\s*(\[\[|\[\s*(?!{name}\.))")
    in_table = list(takewhile(lambda i: not other_table.match(lines[i]), range(at + 1, len(lines))))
    for key in map(str, rest):
        pattern = rf"\s*(\[.*\.)?\s*[\"']?{re.escape(key)}\b"
        at = next((i for i in in_table if i > at and re.match(pattern, lines[i])), at)
    return at + 1
