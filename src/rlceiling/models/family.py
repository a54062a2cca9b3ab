"""The `Family` protocol: the interface of a model to sampling, storage and decisions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jax import Array
from numpyro.infer.util import log_density

from rlceiling.curves.curve import Curve
from rlceiling.models.pooling import Pooling
from rlceiling.models.priors import Priors
from rlceiling.models.run_data import RunData
from rlceiling.models.unit import Unit
from rlceiling.settings import SamplerSettings

NUMPYRO_LOCK = threading.Lock()
"""Held while a model is traced, because NumPyro keeps its effect handlers in one stack for all threads."""


class Data(Protocol):
    """Arrays of one fit, a JAX pytree."""

    @property
    def runs(self) -> RunData:
        """Arrays of the runs, each with a leading axis of lanes (one lane per run)."""


class Family(Protocol):
    """Model of one fit: a curve, partial pooling of its parameters between units, priors, and sampling coordinates.

    Draws of a population parameter have shape (chains, draws); draws of a unit parameter have a last axis of units.
    """

    def __hash__(self) -> int:
        """Hash by identity: a family is a key of the cache of compiled programs."""

    @property
    def name(self) -> str:
        """Name in the registry, which is stored in files."""

    @property
    def curve(self) -> Curve:
        """Learning curve of one unit."""

    @property
    def pooling(self) -> Pooling:
        """Distribution of the units around their population."""

    @property
    def priors(self) -> type[Priors]:
        """Class of the priors."""

    @property
    def sampler(self) -> SamplerSettings:
        """Default settings of the sampler."""

    @property
    def parallel(self) -> bool:
        """Whether several of its compiled programs may run at once in one process."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the population parameters that are stored, in the order of tables."""

    @property
    def unit_parameters(self) -> tuple[str, ...]:
        """Names of the unit parameters that are stored."""

    @property
    def prior_sites(self) -> Mapping[str, str]:
        """Stored parameters that have a prior of their own -> their sites in the NumPyro model."""

    def prepare(self, units: Sequence[Unit], priors: Any) -> Any:
        """Arrays of a fit."""

    def unit_places(self, data: Any, units: Sequence[Unit]) -> np.ndarray:
        """Index of every unit on the last axis of the unit parameters returned by `kept`."""

    def lanes(self, data: Any, units: Sequence[Unit]) -> np.ndarray:
        """Lane of every run in the arrays of `prepare`, in the order of the units."""

    def model(self, data: Any, priors: Mapping[str, Any], *, predict: bool = False) -> None:
        """NumPyro model; with `predict` the rewards are drawn (prior or posterior predictive), not conditioned on."""

    def centre(self, data: Any) -> Any:
        """Origin of the sampling coordinates, a JAX pytree."""

    def dimension(self, data: Any) -> tuple[int, int]:
        """Number of sampling coordinates, and size of the leading block in which the mass matrix is dense."""

    def to_sites(self, z: Array, data: Any, centre: Any, priors: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
        """Sites of the model at a point of the sampling coordinates, and the log determinant of the Jacobian."""

    def kept(
        self, sites: Mapping[str, Array], data: Any, priors: Mapping[str, Any]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Population and unit parameters that are stored, on the scale of the model (rewards on [0, 1])."""

    def sites_of_draws(
        self,
        draws: Mapping[str, np.ndarray],
        unit_draws: Mapping[str, np.ndarray],
        data: Any,
        priors: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Inverse of `kept`, for population draws of shape (draws,) and unit draws of shape (draws, units)."""

    def log_prior_of_units(
        self, log_prob: Mapping[str, np.ndarray], sites: Mapping[str, Any], data: Any, units: Sequence[Unit]
    ) -> np.ndarray:
        """Log density of the units around their population, shape (draws,), from the log densities of all sites."""


def log_posterior(z: Array, family: Family, data: Any, centre: Any, priors: Mapping[str, Any]) -> Array:
    """Unnormalised log posterior density of the sampling coordinates."""
    sites, log_det = family.to_sites(z, data, centre, priors)
    with NUMPYRO_LOCK:
        density, _ = log_density(family.model, (data, priors), {}, sites)
    return density + log_det
