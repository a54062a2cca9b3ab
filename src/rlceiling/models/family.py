"""What sampling, storage and questions need of a model, and no more: the `Family` of a fit."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax import Array
from numpyro.infer.util import log_density

from rlceiling.curves.curve import Curve
from rlceiling.models.pooling import Pooling
from rlceiling.models.priors import Priors
from rlceiling.models.run_data import RunData
from rlceiling.runs import Run
from rlceiling.settings import SamplerSettings

NUMPYRO_LOCK = threading.Lock()
"""Held while a model is traced: NumPyro keeps its handlers in one stack for all threads."""


class Unit(NamedTuple):
    """What has a curve of its own in a fit: one run of a recipe, or all runs of one model size."""

    name: str
    runs: tuple[Run, ...]
    covariate: float = np.nan
    """What its parameters depend on, such as the model size; NaN if on nothing known."""


class Data(Protocol):
    """Arrays of one fit, a JAX pytree."""

    @property
    def runs(self) -> RunData:
        """Runs as lanes: every array has a first axis of lanes."""


class Family(Protocol):
    """A model of one fit: a curve, how its parameters vary between units, priors, and sampling coordinates.

    Draws of a parameter have shape (chains, draws); those of a unit parameter have a last axis of units.
    """

    def __hash__(self) -> int:
        """Families are compared by identity: compiled programs are cached by them."""

    @property
    def name(self) -> str:
        """Name in the registry, which files keep."""

    @property
    def curve(self) -> Curve:
        """Curve of one unit."""

    @property
    def pooling(self) -> Pooling:
        """How units vary around their population."""

    @property
    def priors(self) -> type[Priors]:
        """Class of the priors."""

    @property
    def sampler(self) -> SamplerSettings:
        """Default settings of the sampler."""

    @property
    def parallel(self) -> bool:
        """Whether several of its programs may run at once in one process."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the population parameters that are kept, in the order of tables."""

    @property
    def unit_parameters(self) -> tuple[str, ...]:
        """Names of the unit parameters that are kept."""

    @property
    def prior_sites(self) -> Mapping[str, str]:
        """Kept parameters that have a prior of their own, and their sites in the NumPyro model."""

    def prepare(self, units: Sequence[Unit], priors: Any) -> Any:
        """Arrays of a fit."""

    def unit_places(self, data: Any, units: Sequence[Unit]) -> np.ndarray:
        """Place of every unit on the last axis of the unit parameters of `kept`."""

    def lanes(self, data: Any, units: Sequence[Unit]) -> np.ndarray:
        """Lane of every run, unit after unit, in the arrays of `prepare`."""

    def model(self, data: Any, priors: Mapping[str, Any], *, predict: bool = False) -> None:
        """NumPyro model; with `predict` rewards are drawn."""

    def centre(self, data: Any) -> Any:
        """Where the sampling coordinates are zero, a JAX pytree."""

    def dimension(self, data: Any) -> tuple[int, int]:
        """Number of sampling coordinates, and for how many of them, the first, the metric is dense."""

    def to_sites(self, z: Array, data: Any, centre: Any, priors: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
        """Sites of the model at a point of the sampling coordinates, and the log determinant of their derivative."""

    def kept(
        self, sites: Mapping[str, Array], data: Any, priors: Mapping[str, Any]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Parameters and unit parameters that are kept, on the scale of the model (rewards on [0, 1])."""

    def sites_of_draws(
        self,
        draws: Mapping[str, np.ndarray],
        unit_draws: Mapping[str, np.ndarray],
        data: Any,
        priors: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Inverse of `kept`, for draws of shape (draws,) and (draws, units)."""

    def log_prior_of_units(
        self, log_prob: Mapping[str, np.ndarray], sites: Mapping[str, Any], data: Any, units: Sequence[Unit]
    ) -> np.ndarray:
        """Log density of the units around their population, shape (draws,), given that of all sites."""


def log_posterior(z: Array, family: Family, data: Any, centre: Any, priors: Mapping[str, Any]) -> Array:
    """Unnormalised log posterior density of the sampling coordinates."""
    sites, log_det = family.to_sites(z, data, centre, priors)
    with NUMPYRO_LOCK:
        density, _ = log_density(family.model, (data, priors), {}, sites)
    return density + log_det
