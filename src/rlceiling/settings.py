"""Settings of the sampler; the only definition of their defaults, from which help texts are generated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rlceiling.errors import DataError

SEEDS = -(2**63), 2**63
"""Seeds are whole numbers from the first to below the second, which 64 bits hold."""


@dataclass(frozen=True)
class SamplerSettings:
    """Settings of the sampler.

    Attributes
    ----------
    chains : int, default 4
        Number of MCMC chains.
    tune : int, default 500
        Number of warm-up steps of each chain; 1000 for laws across model sizes (`SIZE_SAMPLER`).
    draws : int, default 1000
        Number of draws of each chain after warm-up. The defaults give more than 400 effective draws of every parameter
        on the bundled runs.
    seed : int, default 0
        Seed of the random numbers; the same seed gives the same draws.
    target_accept : float, default 0.95
        Mean acceptance probability to which the step size is adapted. The posterior of short runs has a region of high
        curvature (a curve that saturates before the first evaluation, the rest noise) in which longer steps
        occasionally diverge.
    """

    chains: int = 4
    tune: int = 500
    draws: int = 1000
    seed: int = 0
    target_accept: float = 0.95

    def check(self, where: str) -> None:
        """Raise DataError unless the settings are valid; `where` is the name of the calling function."""
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise DataError(
                    f"{where}: {name}={value!r} is too few for a diagnosis; give a whole number from {least} up."
                )
        check_seed(where, self.seed)

    def sampler(self) -> dict[str, Any]:
        """Settings of the sampler only, as keyword arguments."""
        return {name: getattr(self, name) for name in SamplerSettings.__dataclass_fields__}

    def as_dict(self) -> dict[str, Any]:
        """All settings as plain types, for JSON."""
        return asdict(self)


LEAST = {"chains": 2, "tune": 100, "draws": 100}
"""Smallest values with which convergence diagnostics can be computed."""


def check_seed(where: str, seed: int) -> None:
    """Raise DataError unless a seed is a whole number of 64 bits; `where` is the name of the calling function."""
    if not isinstance(seed, int):
        raise DataError(f"{where}: seed={seed!r} is not a whole number; give one.")
    if not SEEDS[0] <= seed < SEEDS[1]:
        raise DataError(f"{where}: seed={seed} does not fit into 64 bits; give a whole number from -2^63 to 2^63 - 1.")


def check_cores(where: str, cores: int | None) -> None:
    """Raise DataError unless a number of cores is None, for all of them, or a whole number from 1 up."""
    if cores is not None and not (isinstance(cores, int) and cores >= 1):
        raise DataError(f"{where}: cores={cores!r} is not a number of cores; give a whole number from 1 up, or none.")


RECIPE_SAMPLER = SamplerSettings()
"""Defaults of `rlceiling.fit`."""

SIZE_SAMPLER = SamplerSettings(tune=1000, target_accept=0.98)
"""Defaults of `rlceiling.fit_sizes`. Where sizes are close to a line in one parameter and their ceilings are not
determined, longer steps diverge in one of a thousand draws; with these defaults most fits need no retry."""

LIVE_SAMPLER = SamplerSettings(chains=2, tune=300, draws=300)
"""Defaults of refits of runs that go on (`rlceiling.Gate`, ``rlceiling watch``): some hundred effective draws, in less
than a second."""

LIVE_FIRST = 8
"""Number of evaluations of a run from which a decision about it is made while it goes on, by default."""

DEFAULT_LAW = "power law"
"""Law across model sizes that `rlceiling.fit_sizes` fits by default."""

BACKTEST_CUTS = (0.25, 0.5)
"""Shares of each run at which `rlceiling.backtest` cuts by default."""


@dataclass(frozen=True)
class Settings(SamplerSettings):
    """Sampler settings and package versions of a fit.

    Attributes
    ----------
    chains, tune, draws, seed, target_accept
        As in `SamplerSettings`.
    retried : bool
        Whether the fit is the automatic longer retry.
    versions : dict
        Versions of rlceiling, JAX and NumPyro, and the backend.
    sampled_together : str
        Name of the joint sampling of several recipes, the same for each of them; empty if the fit was sampled alone.
        Draws of two such fits belong together, one by one.
    """

    retried: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    sampled_together: str = ""
