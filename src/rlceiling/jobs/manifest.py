"""Manifest: a TOML file that says what is to be fitted and how."""

from __future__ import annotations

import glob
import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlceiling.errors import DataError
from rlceiling.jobs.job import Job, Label
from rlceiling.models.recipe_model import SigmoidPriors
from rlceiling.runs import Runs
from rlceiling.runs.cuts import cut_runs, cut_runs_at
from rlceiling.runs.sources import COLUMNS, read_source
from rlceiling.runs.table import FEWEST
from rlceiling.runs.units import Units


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class Source(_Part):
    """Where evaluations come from, and what is done to them; words as of `read_runs` and the methods of `Runs`."""

    files: list[str] = Field(default_factory=list)
    """Files, or patterns such as ``logs/*.csv``, beside the manifest unless they begin with a slash."""
    dataset: str | None = None
    split: str | None = None
    compute: str | None = None
    reward: str | None = None
    recipe: str | None = None
    run: str | None = None
    n_eval: str | None = None
    reward_bounds: tuple[float, float] | None = None
    duplicates: str | None = None
    select: list[str] = Field(default_factory=list)
    drop: list[str] = Field(default_factory=list)
    burn_in: float | None = None
    until: float | None = None
    shares: list[float] = Field(default_factory=list)
    """Shares of each run's largest compute at which it is fitted too."""
    cut_compute: list[float] = Field(default_factory=list)
    """Computes at which runs that went further are fitted too."""


class Sampler(_Part):
    """How posteriors are sampled; as of `rlceiling.fit`."""

    chains: int = Field(default=4, ge=2)
    tune: int = Field(default=500, ge=100)
    draws: int = Field(default=1000, ge=100)
    seed: int = 0


class Outputs(_Part):
    """What is written beside the posteriors when a batch ends."""

    summary: bool = False
    """``summary.csv``: the index of what the manifest names."""
    draws: bool = False
    """``draws.parquet``: draws of the recipes' parameters in the same posteriors, a row a draw, by their key."""
    plots: bool = False
    """``plots/``: a picture of every curve as it stands, and of its growth where shares of it are fitted."""
    report: bool = False
    """``report.html`` of the runs as they stand."""


class Manifest(_Part):
    """What is to be fitted and how."""

    source: list[Source] = Field(min_length=1)
    sampler: Sampler = Field(default_factory=Sampler)
    priors: dict[str, Any] = Field(default_factory=dict)
    outputs: Outputs = Field(default_factory=Outputs)


class Unreadable(NamedTuple):
    """What a manifest names and cannot be fitted."""

    label: Label
    recipe: str
    reason: str

    @property
    def key(self) -> str:
        """Address of the failure."""
        return hashlib.sha256(repr((*self.label, self.recipe)).encode()).hexdigest()[:32]


class Plan(NamedTuple):
    """What a manifest means.

    Attributes
    ----------
    jobs : list of Job
        In the order of the manifest; those with the same evaluations and settings are one.
    unreadable : list of Unreadable
        Sources and recipes that cannot be fitted, with the reason.
    outputs : Outputs
        What is to be written when the batch ends.
    """

    jobs: list[Job]
    unreadable: list[Unreadable]
    outputs: Outputs


def read_manifest(path: str | Path) -> tuple[Manifest, SigmoidPriors]:
    """Read and check a manifest.

    Parameters
    ----------
    path : path
        A TOML file.

    Returns
    -------
    Manifest
    SigmoidPriors
        Its priors, the defaults where it names none.

    Raises
    ------
    DataError
        If it is no TOML, or an entry is unknown or wrong; the sentence names its line.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path.name} is no TOML: {error}; correct that line.") from None
    try:
        manifest = Manifest.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) if not isinstance(part, int) else part for part in first["loc"]]
        at = _line(text, where)
        name = ".".join(str(part) for part in where if not isinstance(part, int))
        what = {"extra_forbidden": "is not known", "missing": "is missing"}.get(first["type"], first["msg"].lower())
        given = "" if first["type"] == "missing" else f" ({first['input']!r})"
        raise DataError(f"{path.name}, line {at}: {name}{given} {what}; correct it.") from None
    for place, source in enumerate(manifest.source):
        if bool(source.files) == (source.dataset is not None):
            at = _line(text, ["source", place])
            raise DataError(f"{path.name}, line {at}: a source names either files or a dataset; give one of them.")
    try:
        defaults = SigmoidPriors().to_dict()
        for name in manifest.priors:
            if name not in defaults:
                raise DataError(f"{name} is no prior; there are {', '.join(defaults)}")
        priors = SigmoidPriors.from_dict(manifest.priors)
    except (DataError, AttributeError, TypeError, KeyError) as error:
        named = next((name for name in manifest.priors if name in str(error)), None)
        at = _line(text, ["priors", *([] if named is None else [named])])
        raise DataError(
            f'{path.name}, line {at}: priors: {error}; write one as B = {{distribution = "LogNormal", loc = 0.5, '
            "scale = 0.6}."
        ) from None
    return manifest, priors


def plan(path: str | Path) -> Plan:
    """Read what a manifest names.

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
    manifest, priors = read_manifest(path)
    plain = priors.to_dict()
    jobs: dict[str, Job] = {}
    unreadable: list[Unreadable] = []
    for source in manifest.source:
        for name, runs in _read(source, path.parent, unreadable):
            for label, part in _cuts(name, runs, source, unreadable):
                units = Units(part.compute_label, part.reward_label, part.reward_bounds)
                for recipe, members in part.iter_recipes():
                    lengths = [len(run.compute) for run in members]
                    if max(lengths) < FEWEST or not min(lengths):  # of many, asking each for its sentence takes long
                        try:
                            part.select(recipe).check_enough()
                        except DataError as error:
                            unreadable.append(Unreadable(label, recipe, str(error)))
                            continue
                    job = Job((label,), tuple(members), units, plain, **manifest.sampler.model_dump())
                    known = jobs.setdefault(job.key, job)
                    if label not in known.labels:
                        jobs[job.key] = replace(known, labels=(*known.labels, label))
    return Plan(list(jobs.values()), unreadable, manifest.outputs)


def _read(source: Source, folder: Path, unreadable: list[Unreadable]) -> Iterator[tuple[str, Runs]]:
    """Name and runs of every file, or of the data set."""
    found: list[tuple[str, Path | str]] = [] if source.dataset is None else [(source.dataset, source.dataset)]
    for pattern in source.files:
        paths = [Path(one) for one in sorted(glob.glob(str(folder / pattern), recursive=True))]
        if not paths:
            unreadable.append(Unreadable(Label(pattern), "", f"no file is called {pattern!r}; correct it."))
        found += [(str(one.relative_to(folder) if one.is_relative_to(folder) else one), one) for one in paths]
    words = COLUMNS if source.dataset is None else ("split",)
    given = {word: value for word in words if (value := getattr(source, word)) is not None}
    left_out = {word: getattr(source, word) for word in ("select", "drop", "burn_in", "until")}
    for name, place in found:
        try:
            yield name, read_source(place, given, **left_out)
        except (DataError, OSError) as error:
            unreadable.append(Unreadable(Label(name), "", str(error)))


def _cuts(name: str, runs: Runs, source: Source, unreadable: list[Unreadable]) -> Iterator[tuple[Label, Runs]]:
    """The runs as they stood, and as they stand."""
    try:
        for share, part in cut_runs("shares", runs, source.shares).items():
            yield Label(name, share), part
        for compute, part in cut_runs_at(runs, source.cut_compute).items():
            yield Label(name, cut_compute=compute), part
    except DataError as error:
        unreadable.append(Unreadable(Label(name), "", str(error)))
    yield Label(name), runs


def _line(text: str, where: Sequence[str | int]) -> int:
    """Line on which an entry stands: the nth of its tables, and in it the line that begins with its name."""
    table, *rest = where
    nth = rest.pop(0) if rest and isinstance(rest[0], int) else 0
    lines = text.splitlines()
    begins = [at for at, line in enumerate(lines) if re.match(rf"\s*\[*\s*{re.escape(str(table))}\b", line)]
    if not begins:
        return 1
    at = begins[min(int(nth), len(begins) - 1)]
    if rest:
        name = rf"\s*[\"']?{re.escape(str(rest[0]))}\b"
        below = takewhile(lambda i: not lines[i].lstrip().startswith("["), range(at + 1, len(lines)))
        at = next((i for i in below if re.match(name, lines[i])), at)
    return at + 1
