"""A job: one recipe at one cut, with everything that its posterior depends on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from rlceiling.fitting.driver import Driver
from rlceiling.fitting.fit_recipes import recipe_driver, recipe_task
from rlceiling.models.recipe_model import SigmoidPriors
from rlceiling.posterior.files import SCHEMA, netcdf_bytes
from rlceiling.posterior.fit import Fit
from rlceiling.results.fits import Fits
from rlceiling.runs import Run
from rlceiling.runs.units import Units
from rlceiling.settings import SamplerSettings


class Label(NamedTuple):
    """What a job is to its user; several labels may have the same evaluations, and so the same posterior.

    Attributes
    ----------
    source : str
        Where the evaluations come from.
    share : float
        Share of each run's largest compute at which it was cut; 1 if it was not.
    cut_compute : float or None
        Compute at which runs were cut; None if they were not.
    """

    source: str
    share: float = 1.0
    cut_compute: float | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """One posterior to be made; plain data, so that it can be sent anywhere.

    Attributes
    ----------
    labels : tuple of Label
        What it is, at least one.
    runs : tuple of Run
        Runs of the recipe, rewards on [0, 1].
    units : Units
        What the user's numbers mean.
    priors : dict
        As `SigmoidPriors.to_dict` writes them.
    chains, tune, draws, seed : int
        As of `rlceiling.fit`.
    """

    labels: tuple[Label, ...]
    runs: tuple[Run, ...]
    units: Units
    priors: Mapping[str, Any]
    chains: int
    tune: int
    draws: int
    seed: int

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self.runs[0].recipe

    @property
    def settings(self) -> str:
        """What jobs that are sampled alike have in common."""
        own = {"units": asdict(self.units), "priors": dict(self.priors), "chains": self.chains}
        return json.dumps(own | {"tune": self.tune, "draws": self.draws, "seed": self.seed}, sort_keys=True)

    @cached_property
    def key(self) -> str:
        """Address of its posterior: a digest of evaluations, settings and the version of the files.

        The same evaluations have the same address wherever they were read, and whatever they were cut from.
        """
        digest = hashlib.sha256(f"{SCHEMA}\0{self.settings}\0{self.recipe}".encode())
        for run in self.runs:
            start = None if run.start is None else [float(v).hex() for v in run.start]
            digest.update(f"\0{run.run}\0{start}\0".encode())
            for array in (run.compute, run.reward, run.n_eval):
                digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()[:32]

    def fit(self) -> Fit:
        """Sample the posterior; the same as `rlceiling.fit` makes of the same runs."""
        driver = _driver(self.settings)
        return driver.fit_one(recipe_task(driver, self.recipe, self.runs))


class Outcome(NamedTuple):
    """What became of a job, made where it was fitted, so that who hands jobs out only keeps it.

    Attributes
    ----------
    content : bytes
        The posterior as a NetCDF file; empty if the job failed.
    row : dict
        Its row of the index, less the label.
    reason : str
        Why the job failed; empty if it did not.
    """

    content: bytes
    row: dict[str, Any]
    reason: str = ""


def fit_jobs(jobs: Sequence[Job]) -> list[Outcome]:
    """Fit a chunk of jobs, one after the other; one that fails does not stop the rest."""
    return [_fit_job(job) for job in jobs]


def _fit_job(job: Job) -> Outcome:
    begun = time.monotonic()
    try:
        fit = job.fit()
        return Outcome(netcdf_bytes(fit), row_of(fit, time.monotonic() - begun))
    except Exception as error:
        return Outcome(b"", {}, f"{type(error).__name__}: {error}")


def now() -> str:
    """Time of day, UTC, for people; nothing depends on it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def row_of(fit: Fit, seconds: float) -> dict[str, Any]:
    """Row of the index; numbers that are not known are None."""
    summary = Fits([fit]).summary().iloc[0]
    columns = [f"{name}{end}" for name in ("A", "B", "C_mid") for end in ("", "_lower", "_upper")]
    row: dict[str, Any] = {"recipe": fit.name, "largest_compute": fit.largest_compute, "runs": len(fit.runs)}
    row |= {"evaluations": fit.evaluations, "compute": fit.units.compute, "reward": fit.units.reward}
    row |= {name: float(summary[name]) for name in (*columns, "r_hat", "ess_bulk", "ess_tail")}
    row |= {"divergences": int(summary["divergences"]), "verdict": summary["verdict"], "advice": summary["advice"]}
    row |= {"seconds": round(seconds, 3), "fitted_at": now()}
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}


@lru_cache(maxsize=16)
def _driver(settings: str) -> Driver[Fit]:
    """One driver for all jobs of a process that are sampled alike, so that each program is compiled once."""
    own = json.loads(settings)
    units = Units(own["units"]["compute"], own["units"]["reward"], tuple(own["units"]["bounds"]))
    sampler = SamplerSettings(own["chains"], own["tune"], own["draws"], own["seed"])
    # A trainer may be using the GPU.
    return recipe_driver(units, SigmoidPriors.from_dict(own["priors"]), settings=sampler, backend="cpu")
