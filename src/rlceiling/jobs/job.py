"""A job: one recipe at one cut, with everything that its posterior depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import numpy as np

from rlceiling.inference.fit import Fitter, versions
from rlceiling.inference.recipes import TARGET_ACCEPT
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.fit import Fit, Settings, Units
from rlceiling.posterior.store import SCHEMA
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.runs import Run


@dataclass(frozen=True, eq=False)
class Job:
    """One posterior to be made; plain data, so that it can be sent anywhere.

    Attributes
    ----------
    source : str
        Where its evaluations come from.
    share : float
        Share of each run's largest compute at which it was cut; 1 as it stands.
    runs : tuple of Run
        Runs of the recipe, rewards on [0, 1].
    units : Units
        What the user's numbers mean.
    priors : dict
        As `SigmoidPriors.to_dict` writes them.
    chains, tune, draws, seed : int
        As of `rlceiling.fit`.
    """

    source: str
    share: float
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
        fitter = _fitter(self.settings)
        (made,) = fitter.fit([fitter.recipe(self.recipe, self.runs)])
        return made


@lru_cache(maxsize=16)
def _fitter(settings: str) -> Fitter:
    """One for all jobs of a process that are sampled alike, which so compile each program once."""
    own = json.loads(settings)
    units = own["units"]
    device = jax.devices("cpu")[0]  # a trainer may be using the GPU
    return Fitter(
        units=Units(units["compute"], units["reward"], tuple(units["bounds"])),
        priors=SigmoidPriors.from_dict(own["priors"]),
        rules=VerdictRules(),
        settings=Settings(
            own["chains"], own["tune"], own["draws"], TARGET_ACCEPT, own["seed"], False, versions(device)
        ),
        device=device,
        batch_size=1,
    )
