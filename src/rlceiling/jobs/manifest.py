"""Manifest: a TOML file that says what is to be fitted and how."""

from __future__ import annotations

import glob
import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlceiling.errors import DataError
from rlceiling.jobs.job import Job
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.fit import Units
from rlceiling.runs import Runs, load_dataset, read_runs
from rlceiling.runs.cuts import cut_runs


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


class Sampler(_Part):
    """How posteriors are sampled; as of `rlceiling.fit`."""

    chains: int = Field(default=4, ge=2)
    tune: int = Field(default=500, ge=100)
    draws: int = Field(default=1000, ge=100)
    seed: int = 0


class Outputs(_Part):
    """What is written beside the posteriors when a batch ends."""

    report: bool = False
    """``report.html`` of the latest posteriors."""


class Manifest(_Part):
    """What is to be fitted and how."""

    source: list[Source] = Field(min_length=1)
    sampler: Sampler = Field(default_factory=Sampler)
    priors: dict[str, Any] = Field(default_factory=dict)
    outputs: Outputs = Field(default_factory=Outputs)


class Unreadable(NamedTuple):
    """What a manifest names and cannot be fitted."""

    source: str
    recipe: str
    share: float
    reason: str

    @property
    def key(self) -> str:
        """Address of the failure."""
        return hashlib.sha256("\0".join(map(str, self[:3])).encode()).hexdigest()[:32]


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


def plan(path: str | Path) -> tuple[list[Job], list[Unreadable]]:
    """Read what a manifest names.

    Parameters
    ----------
    path : path
        The manifest.

    Returns
    -------
    jobs : list of Job
        In the order of the manifest; jobs with the same evaluations and settings are one.
    unreadable : list of Unreadable
        Sources and recipes that cannot be fitted, with the reason.

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
        for name, runs in _sources(source, path.parent, unreadable):
            for share, part in _cuts(name, runs, source.shares, unreadable):
                units = Units(part.compute_label, part.reward_label, part.reward_bounds)
                for recipe, members in part.iter_recipes():
                    try:
                        part.select(recipe).check_enough()
                    except DataError as error:
                        unreadable.append(Unreadable(name, recipe, share, str(error)))
                        continue
                    job = Job(name, share, tuple(members), units, plain, **manifest.sampler.model_dump())
                    jobs.setdefault(job.key, job)
    return list(jobs.values()), unreadable


def _sources(source: Source, folder: Path, unreadable: list[Unreadable]) -> Iterator[tuple[str, Runs]]:
    """Name and runs of every file, or of the data set."""
    columns = ("compute", "reward", "recipe", "run", "n_eval", "reward_bounds", "duplicates")
    given = {name: getattr(source, name) for name in columns if getattr(source, name) is not None}
    found: list[tuple[str, Path | None]] = []
    if source.dataset is not None:
        found.append((source.dataset, None))
    for pattern in source.files:
        paths = sorted(glob.glob(str(folder / pattern), recursive=True))
        if not paths:
            unreadable.append(Unreadable(pattern, "", 1.0, f"no file is called {pattern!r}; correct it."))
        found += [
            (str(Path(one).relative_to(folder) if Path(one).is_relative_to(folder) else one), Path(one))
            for one in paths
        ]
    for name, path in found:
        try:
            split = {} if source.split is None else {"split": source.split}
            runs = load_dataset(name, **split) if path is None else read_runs(path, **given)
            for verb in ("select", "drop"):
                if names := getattr(source, verb):
                    runs = getattr(runs, verb)(*names)
            for verb in ("burn_in", "until"):
                if (compute := getattr(source, verb)) is not None:
                    runs = getattr(runs, verb)(compute)
        except (DataError, OSError) as error:
            unreadable.append(Unreadable(name, "", 1.0, str(error)))
            continue
        yield name, runs


def _cuts(name: str, runs: Runs, shares: Sequence[float], unreadable: list[Unreadable]) -> Iterator[tuple[float, Runs]]:
    try:
        yield from cut_runs("shares", runs, shares).items()
    except DataError as error:
        unreadable.append(Unreadable(name, "", 1.0, str(error)))
    yield 1.0, runs


def _line(text: str, where: Sequence[str | int]) -> int:
    """Line on which an entry stands, or else the table it belongs to, or else the first."""
    lines = text.splitlines()
    start, found = 0, 1
    place = 0
    while place < len(where):
        part = where[place]
        nth = where[place + 1] if place + 1 < len(where) and isinstance(where[place + 1], int) else 0
        assert isinstance(nth, int)
        header = re.compile(rf"\s*\[+\s*{re.escape(str(part))}\s*\]+")
        entry = re.compile(rf"\s*[\"']?{re.escape(str(part))}[\"']?\s*[=.]")
        headers = [i for i in range(start, len(lines)) if header.match(lines[i])]
        entries = [i for i in range(start, len(lines)) if entry.match(lines[i])]
        hits = headers[nth : nth + 1] if place == 0 and headers else entries[:1]
        if not hits:
            break
        start, found = hits[0] + 1, hits[0] + 1
        place += 2 if place + 1 < len(where) and isinstance(where[place + 1], int) else 1
    return found
