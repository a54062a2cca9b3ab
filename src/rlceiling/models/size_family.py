"""The families of `rlceiling.fit_sizes`, one per law across model sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax import Array

from rlceiling.curves.curve import Curve
from rlceiling.models.pooling import AcrossSizes
from rlceiling.models.size_coordinates import SizeCentre, dimension, least_squares_centre, to_natural
from rlceiling.models.size_data import SizeData, prepare_sizes
from rlceiling.models.size_laws import LAWS, SizeLaw
from rlceiling.models.size_model import size_model, size_parameters, standard_normals
from rlceiling.models.size_priors import SizePriors
from rlceiling.models.unit import Unit
from rlceiling.settings import SIZE_SAMPLER, SamplerSettings


@dataclass(frozen=True, eq=False)
class SizeFamily:
    """Hierarchical model of runs of several model sizes under one law; see `size_model.size_model`."""

    law: SizeLaw
    sampler: SamplerSettings = SIZE_SAMPLER
    parallel: bool = False
    """False, because its programs call LAPACK: on JAX 0.10, two of them running at once deadlocked."""

    @property
    def name(self) -> str:
        """Name of the law."""
        return self.law.name

    @property
    def curve(self) -> Curve:
        """Learning curve of one size."""
        return self.law.curve

    @property
    def pooling(self) -> AcrossSizes:
        """Distribution of the size-level parameters around the law."""
        return self.law.pooling

    @property
    def priors(self) -> type[SizePriors]:
        """Class of the priors of the law."""
        return self.law.priors

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters of the law."""
        return self.law.pooling.sampled

    @property
    def unit_parameters(self) -> tuple[str, ...]:
        """Names of the size-level parameters."""
        return tuple(parameter.name for parameter in self.law.pooling.parameters)

    @property
    def prior_sites(self) -> Mapping[str, str]:
        """Every parameter of the law."""
        return {name: name for name in self.parameters}

    def prepare(self, units: Sequence[Unit], priors: SizePriors) -> SizeData:
        """Arrays of runs of several sizes."""
        sizes, runs = [unit.covariate for unit in units], [unit.runs for unit in units]
        return prepare_sizes(sizes, runs, priors.evaluation_error)

    def unit_places(self, data: SizeData, units: Sequence[Unit]) -> np.ndarray:
        """Index of every size."""
        return np.arange(len(units))

    def lanes(self, data: SizeData, units: Sequence[Unit]) -> np.ndarray:
        """Lane of every run: lanes are in the order of sizes."""
        return np.arange(len(data.size_of))

    def model(self, data: SizeData, priors: Mapping[str, Any], *, predict: bool = False) -> None:
        """NumPyro model."""
        size_model(data, priors, self.law, predict=predict)

    def centre(self, data: SizeData) -> SizeCentre:
        """Least-squares curves and the linearised likelihood."""
        return least_squares_centre(data, self.law)

    def dimension(self, data: SizeData) -> tuple[int, int]:
        """Number of coordinates of the law and of the sizes; the mass matrix is dense."""
        number = dimension(data, self.law)
        return number, number

    def to_sites(
        self, z: Array, data: SizeData, centre: SizeCentre, priors: Mapping[str, Any]
    ) -> tuple[dict[str, Array], Array]:
        """Sites of the model, and the log determinant of the Jacobian."""
        values, standard, log_det = to_natural(z, data, centre, priors, self.law)
        return {**values, "standard": standard}, log_det

    def kept(
        self, sites: Mapping[str, Array], data: SizeData, priors: Mapping[str, Any]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Parameters of the law, and parameters of every size."""
        values = {name: sites[name] for name in self.parameters}
        own = size_parameters(sites["standard"], values, data, priors, self.law)
        return values, dict(zip(self.unit_parameters, own, strict=True))

    def sites_of_draws(
        self,
        draws: Mapping[str, np.ndarray],
        unit_draws: Mapping[str, np.ndarray],
        data: SizeData,
        priors: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Sites of the model from stored draws."""
        values = {name: draws[name] for name in self.parameters}

        def of_draw(values: Any, own: Any) -> Array:
            return standard_normals(own, values, data, priors, self.law)

        standard = jax.vmap(of_draw)(values, dict(unit_draws))
        return values | {"standard": standard}

    def log_prior_of_units(
        self, log_prob: Mapping[str, np.ndarray], sites: Mapping[str, Any], data: SizeData, units: Sequence[Unit]
    ) -> np.ndarray:
        """Log density of the sizes around the law, and of their step-0 evaluations.

        Step-0 evaluations are included as in `RecipeFamily`, where they enter through the prior of R0.
        """
        return np.asarray(log_prob["standard"] + log_prob.get("start", 0.0))


SIZE_FAMILIES: Mapping[str, SizeFamily] = MappingProxyType({name: SizeFamily(law) for name, law in LAWS.items()})
"""Name of the law -> family."""
