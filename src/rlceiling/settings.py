"""Settings of the sampler: the one place of their defaults, which help texts read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rlceiling.errors import DataError


@dataclass(frozen=True)
class SamplerSettings:
    """How a posterior is sampled.

    Attributes
    ----------
    chains : int, default 4
        Number of MCMC chains.
    tune : int, default 500
        Warm-up steps of each chain; 1000 for laws across model sizes (`SIZE_SAMPLER`).
    draws : int, default 1000
        Draws kept of each chain. The defaults leave more than 400 effective draws of every parameter on the bundled
        runs.
    seed : int, default 0
        The same seed gives the same draws.
    target_accept : float, default 0.95
        Mean acceptance probability that the step size is tuned to. Short runs have a corner (a curve that saturates
        before the first evaluation, the rest noise) in which longer steps diverge now and then.
    """

    chains: int = 4
    tune: int = 500
    draws: int = 1000
    seed: int = 0
    target_accept: float = 0.95

    def check(self, where: str) -> None:
        """Raise DataError unless the settings make sense."""
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise DataError(
                    f"{where}: {name}={value!r} is too few for a diagnosis; give a whole number from {least} up."
                )
        if not isinstance(self.seed, int):
            raise DataError(f"{where}: seed={self.seed!r} is not a whole number; give one.")

    def sampler(self) -> dict[str, Any]:
        """Settings of the sampler alone, as keyword arguments."""
        return {name: getattr(self, name) for name in SamplerSettings.__dataclass_fields__}

    def as_dict(self) -> dict[str, Any]:
        """Plain description, for JSON."""
        return asdict(self)


LEAST = {"chains": 2, "tune": 100, "draws": 100}
"""Smallest numbers that convergence diagnostics can work with."""

RECIPE_SAMPLER = SamplerSettings()
"""Defaults of `rlceiling.fit`."""

SIZE_SAMPLER = SamplerSettings(tune=1000, target_accept=0.98)
"""Defaults of `rlceiling.fit_sizes`. Where sizes lie close to a line in one parameter and ceilings are open, longer
steps diverge in one of a thousand draws; with these most fits need no second try."""


DEFAULT_LAW = "power law"
"""Law across model sizes that `rlceiling.fit_sizes` fits by default."""

BACKTEST_CUTS = (0.25, 0.5)
"""Shares of each run at which `rlceiling.backtest` cuts by default."""


@dataclass(frozen=True)
class Settings(SamplerSettings):
    """How a fit was made.

    Attributes
    ----------
    chains, tune, draws, seed, target_accept
        As in `SamplerSettings`.
    retried : bool
        Whether this is the automatic longer second try.
    versions : dict
        Versions of rlceiling, JAX and NumPyro, and the backend.
    """

    retried: bool = False
    versions: dict[str, str] = field(default_factory=dict)
