"""Jobs: a recipe at one cut, the pooled recipes of a file, or a law across model sizes, with all they depend on."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from rlceiling.errors import DataError, listing
from rlceiling.fitting.driver import Driver
from rlceiling.fitting.fit_recipes import fit as fit_recipes
from rlceiling.fitting.fit_sizes import size_driver, size_task
from rlceiling.fitting.recipe_driver import recipe_driver, recipe_task
from rlceiling.models.recipe_priors import LearnedPriors, restored_priors
from rlceiling.models.size_laws import LAWS
from rlceiling.posterior.files import FILE_SCHEMA, netcdf_bytes
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.size_fit import SizePosterior
from rlceiling.results.fits import Fits
from rlceiling.results.sizes import Sizes
from rlceiling.runs import Run, Runs
from rlceiling.runs.digest import add_run
from rlceiling.runs.grouping import GroupedRuns
from rlceiling.runs.units import Units
from rlceiling.settings import SamplerSettings


class Label(NamedTuple):
    """Where the evaluations of a job come from.

    Several labels may have the same evaluations, and so the same posterior.

    Attributes
    ----------
    source : str
        File or bundled data set.
    share : float
        Share of each run's largest compute at which it was cut; 1 if it was not.
    cut_compute : float or None
        Compute at which runs were cut; None if they were not.
    """

    source: str
    share: float = 1.0
    cut_compute: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Job(ABC):
    """One posterior to be made, or several together. A job is plain data, so it can be pickled and sent to any worker.

    Attributes
    ----------
    labels : tuple of Label
        Where its evaluations come from; at least one.
    priors : dict
        As `Priors.to_dict` writes them.
    sampler : SamplerSettings
        Settings of the first try.
    """

    labels: tuple[Label, ...]
    priors: Mapping[str, Any]
    sampler: SamplerSettings

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the recipe or of the law: the column ``recipe`` of the index."""

    @cached_property
    @abstractmethod
    def key(self) -> str:
        """Digest of evaluations, settings, priors and the version of the files: the address of a single posterior.

        The same evaluations have the same address wherever they were read, and whatever they were cut from.
        """

    @cached_property
    def keys(self) -> dict[str, str]:
        """Address of each posterior, by the name of its recipe or law."""
        return {self.name: self.key}

    @abstractmethod
    def fit(self) -> Fit | Sizes | Fits:
        """Sample the posteriors, on a CPU since a trainer may be using the GPU."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RecipeJob(Job):
    """A recipe at one cut. The posterior is that of `rlceiling.fit` for the same runs.

    Attributes
    ----------
    runs : tuple of Run
        Runs of the recipe, rewards on [0, 1].
    units : Units
        What the user's numbers mean.
    """

    runs: tuple[Run, ...]
    units: Units

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.runs[0].recipe

    @property
    def settings(self) -> str:
        """Everything but the evaluations, as JSON. Jobs that agree in it share a sampling driver.

        It is part of the key, so its form must not change: a key that changes makes every stored posterior of a recipe
        be sampled again.
        """
        own = {"units": self.units.to_dict(), "priors": dict(self.priors), "chains": self.sampler.chains}
        own |= {"tune": self.sampler.tune, "draws": self.sampler.draws, "seed": self.sampler.seed}
        return json.dumps(own, sort_keys=True)

    @cached_property
    def key(self) -> str:
        """Address of the posterior."""
        digest = hashlib.sha256(f"{FILE_SCHEMA}\0{self.settings}\0{self.name}".encode())
        for run in self.runs:
            add_run(digest, run.run, run)
        return digest.hexdigest()[:32]

    def fit(self) -> Fit:
        """Sample the posterior."""
        driver = _recipe_driver(self.settings)
        return driver.fit_one(recipe_task(driver, self.name, self.runs, self.units))


@dataclass(frozen=True, eq=False, kw_only=True)
class PooledJob(Job):
    """The recipes of one file at one cut. Posteriors are those of ``rlceiling.fit(runs, pool=True)``.

    Attributes
    ----------
    runs : Runs
        All of them.
    """

    runs: Runs

    @property
    def name(self) -> str:
        """Names of the first recipes."""
        return f"pooled recipes {listing(self.runs.recipes, 3)}"

    @cached_property
    def key(self) -> str:
        """Digest of all recipes: each depends on the others."""
        own = {"priors": dict(self.priors), "sampler": self.sampler.as_dict(), "units": self._units.to_dict()}
        digest = hashlib.sha256(f"{FILE_SCHEMA}\0pooled recipes\0{json.dumps(own, sort_keys=True)}".encode())
        for run in self.runs.iter_runs():
            add_run(digest, f"{run.recipe}\0{run.run}", run)
        return digest.hexdigest()[:32]

    @cached_property
    def keys(self) -> dict[str, str]:
        """Address of the posterior of each recipe."""
        names = self.runs.recipes
        return {name: hashlib.sha256(f"{self.key}\0{name}".encode()).hexdigest()[:32] for name in names}

    @property
    def _units(self) -> Units:
        return Units(self.runs.compute_label, self.runs.reward_label, self.runs.reward_bounds)

    def fit(self) -> Fits:
        """Sample the posteriors.

        Raises
        ------
        DataError
            If the recipes cannot be sampled together. `rlceiling.fit` then fits each alone, which is another job.
        """
        sampler, priors = self.sampler, restored_priors(dict(self.priors))
        fits = fit_recipes(
            self.runs,
            priors,
            chains=sampler.chains,
            tune=sampler.tune,
            draws=sampler.draws,
            seed=sampler.seed,
            pool=True,
            cores=1,
            backend="cpu",
            progress=False,
        )
        if not all(isinstance(fit.priors, LearnedPriors) and not fit.priors.studies for fit in fits.values()):
            raise DataError(" ".join(fits.notes))
        return fits


@dataclass(frozen=True, eq=False, kw_only=True)
class SizeJob(Job):
    """A law across model sizes. The posterior is that of `rlceiling.fit_sizes` for the same runs.

    Attributes
    ----------
    law : {"power law", "ceiling"}
        The law.
    grouped : GroupedRuns
        Runs of every size, without the notes on how the file was read, which the store keeps for no posterior.
    """

    law: str
    grouped: GroupedRuns

    @property
    def name(self) -> str:
        """Law, size and resource, as `law_name` writes them."""
        return law_name(self.law, self.grouped.units.size, self.grouped.units.resource)

    @cached_property
    def key(self) -> str:
        """Address of the posterior.

        The notes of the runs are part of it, since the file holds them and one address stands for one content.
        """
        grouped = self.grouped
        own = {"law": self.law, "units": asdict(grouped.units), "priors": dict(self.priors)}
        own |= {"sampler": self.sampler.as_dict(), "notes": list(grouped.notes)}
        digest = hashlib.sha256(f"{FILE_SCHEMA}\0law across sizes\0{json.dumps(own, sort_keys=True)}".encode())
        for size, runs in zip(grouped.sizes, grouped.runs, strict=True):
            for run in runs:
                add_run(digest, f"{size.hex()}\0{run.recipe}\0{run.run}", run)
        return digest.hexdigest()[:32]

    def fit(self) -> Sizes:
        """Sample the posterior."""
        priors = LAWS[self.law].priors.from_dict(self.priors)
        driver = size_driver(self.grouped, self.law, priors, settings=self.sampler, backend="cpu")
        return driver.fit_one(size_task(driver, self.grouped))


def law_name(law: str, size: str, resource: str) -> str:
    """What the store calls a law of a source, such as ``"power law across model_size by flops"``.

    The number of sizes is no part of it, so the name stays the same when a size is added to a file.
    """
    return f"{LAWS[law].phrase.removeprefix('the ')} across {size} by {resource}"


@lru_cache(maxsize=16)
def _recipe_driver(settings: str) -> Driver[Fit]:
    """One driver for all jobs of a process that have the same settings, so that each program is compiled once."""
    own = json.loads(settings)
    sampler = SamplerSettings(own["chains"], own["tune"], own["draws"], own["seed"])
    return recipe_driver(restored_priors(own["priors"]), settings=sampler, backend="cpu")


class Made(NamedTuple):
    """A posterior, serialised on the worker so that the dispatcher only writes it to disk.

    Attributes
    ----------
    content : bytes
        The posterior as a NetCDF file.
    row : dict
        Its row of the index, without the label.
    """

    content: bytes
    row: dict[str, Any]


class Outcome(NamedTuple):
    """Result of a job.

    Attributes
    ----------
    made : dict of str to Made
        Its posteriors by their addresses; empty if the job failed.
    reason : str
        Why the job failed; empty if it did not.
    """

    made: dict[str, Made]
    reason: str = ""


def fit_jobs(jobs: Sequence[Job]) -> list[Outcome]:
    """Fit a chunk of jobs one after the other. A job that raises has an outcome with a reason; the rest goes on."""
    return [_fit_job(job) for job in jobs]


def _fit_job(job: Job) -> Outcome:
    started = time.monotonic()
    try:
        fitted = job.fit()
        posteriors = fitted if isinstance(fitted, Fits) else {job.name: fitted}
        seconds = (time.monotonic() - started) / len(posteriors)
        made = {job.keys[name]: Made(netcdf_bytes(one), row_of(one, seconds)) for name, one in posteriors.items()}
        return Outcome(made)
    except DataError as error:
        return Outcome({}, str(error))
    except Exception as error:
        return Outcome({}, f"{type(error).__name__}: {error}")


def now() -> str:
    """Time of day in UTC, for people to read; nothing depends on it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


CURVE_COLUMNS = tuple(f"{name}{end}" for name in ("A", "B", "C_mid") for end in ("", "_lower", "_upper"))
"""Columns of the index that only recipes fill."""


def row_of(posterior: Fit | SizePosterior, seconds: float) -> dict[str, Any]:
    """Row of the index, as JSON holds it: numbers that are not known are None.

    Parameters
    ----------
    posterior : Fit or SizePosterior
        The posterior.
    seconds : float
        How long it took to make it.
    """
    row = _size_row(posterior) if isinstance(posterior, SizePosterior) else _recipe_row(posterior)
    row |= {"seconds": round(seconds, 3), "fitted_at": now()}
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}


def _recipe_row(fit: Fit) -> dict[str, Any]:
    """Row of a recipe. It has no column ``family``, as rows of stores that were written before there was one."""
    summary = Fits([fit]).summary().iloc[0]
    row: dict[str, Any] = {"recipe": fit.name, "largest_compute": fit.largest_compute, "runs": len(fit.runs)}
    row |= {"evaluations": fit.evaluations, "compute": fit.units.compute, "reward": fit.units.reward}
    row |= {name: float(summary[name]) for name in (*CURVE_COLUMNS, "r_hat", "ess_bulk", "ess_tail")}
    row |= {"divergences": int(summary["divergences"]), "verdict": summary["verdict"]}
    return row | {"reasons": summary["reasons"], "advice": summary["advice"]}


def _size_row(sizes: SizePosterior) -> dict[str, Any]:
    """Row of a law across sizes, in the same columns."""
    units, convergence = sizes.units, sizes.convergence
    row: dict[str, Any] = {"family": sizes.law, "recipe": law_name(sizes.law, units.size, units.resource)}
    row |= {"largest_compute": sizes.largest_compute, "runs": len(sizes.all_runs)}
    row |= {"evaluations": sizes.evaluations, "compute": units.resource, "reward": units.reward}
    row |= dict.fromkeys(CURVE_COLUMNS)
    row |= {name: float(getattr(convergence, name)) for name in ("r_hat", "ess_bulk", "ess_tail")}
    row |= {"divergences": int(convergence.divergences), "verdict": sizes.verdict.name}
    return row | {"reasons": None, "advice": sizes.verdict.advice}
