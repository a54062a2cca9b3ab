"""The family of `rlceiling.fit`: a hierarchical model with one sigmoid per run and exchangeable runs of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import distributions as dist

from rlceiling.curves.burr import BURR
from rlceiling.curves.curve import Curve
from rlceiling.curves.stages import stage_names
from rlceiling.models.pooling import CORE, FREEDOM, Exchangeable
from rlceiling.models.recipe_centre import least_squares_centre
from rlceiling.models.recipe_coordinates import VARIES, Centre, dimension, to_natural
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.models.recipe_model import sigmoid_model, stage_levels, stage_parameters
from rlceiling.models.recipe_priors import SigmoidPriors
from rlceiling.models.stage_centre import staged_centre
from rlceiling.models.stage_coordinates import staged_natural
from rlceiling.models.unit import Unit
from rlceiling.settings import RECIPE_SAMPLER, SamplerSettings

RUNS_OF_A_RECIPE = Exchangeable("run", VARIES)


@dataclass(frozen=True, eq=False)
class RecipeFamily:
    """Hierarchical model (partial pooling) of the runs of one recipe; see `recipe_model.sigmoid_model`."""

    name: str = "sigmoid"
    curve: Curve = BURR
    pooling: Exchangeable = RUNS_OF_A_RECIPE
    priors: type[SigmoidPriors] = SigmoidPriors
    sampler: SamplerSettings = RECIPE_SAMPLER
    parallel: bool = True
    stages: int = 1
    """Number of stages of the run of a recipe that is stored; for sampling, the arrays say how many there are."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters of the recipe."""
        own = ("A", "B", "C_mid", "R0", "headroom", "sigma", "share", "length", "tail", *self.pooling.scales)
        return (*own, *stage_names(self.stages))

    @property
    def unit_parameters(self) -> tuple[str, ...]:
        """Names of the parameters of each run."""
        return ("A", "B", "C_mid", "sigma")

    @property
    def prior_sites(self) -> Mapping[str, str]:
        """Every parameter except ceilings, which follow from the start and the headroom, and levels of later stages."""
        sites = {name: name for name in RECIPE.parameters if name != "A"} | {"C_mid": "C_mid_ratio"}
        for k in range(1, self.stages):
            sites |= {f"headroom_{k}": f"headroom_{k}", f"C_mid_{k}": f"C_mid_ratio_{k}"}
        if self.stages > 1:
            del sites["R0"]
            sites["R0_1"] = "R0_1"
        return sites

    def prepare(self, units: Sequence[Unit], priors: SigmoidPriors) -> RecipeData:
        """Arrays of a recipe."""
        runs = [run for unit in units for run in unit.runs]
        return prepare(
            runs,
            evaluation_error=priors.evaluation_error,
            bad_share=priors.bad_share,
            C_mid_origin=priors.C_mid_origin,
        )

    def unit_places(self, data: RecipeData, units: Sequence[Unit]) -> np.ndarray:
        """Lane of every run."""
        return self.lanes(data, units)

    def lanes(self, data: RecipeData, units: Sequence[Unit]) -> np.ndarray:
        """Lane of every run; the longest run is in the first lane."""
        return np.argsort(data.order)[: len(units)]

    def model(self, data: RecipeData, priors: Mapping[str, Any], *, predict: bool = False) -> None:
        """NumPyro model."""
        sigmoid_model(data, priors, predict=predict)

    def centre(self, data: RecipeData) -> Centre:
        """Sampling coordinates of the least-squares curves."""
        return least_squares_centre(data) if data.stages is None else staged_centre(data)

    def dimension(self, data: RecipeData) -> tuple[int, int]:
        """Number of coordinates of the recipe and its runs, and size of the dense block of the mass matrix.

        The offsets of runs are nearly independent in their coordinates, and a dense mass matrix for them would cost
        more time than the gradient.
        """
        earlier = 2 * len(data.log_begins)
        return dimension(len(data.order)) + earlier, dimension(1) + earlier

    def to_sites(
        self, z: Array, data: RecipeData, centre: Centre, priors: Mapping[str, Any]
    ) -> tuple[dict[str, Array], Array]:
        """Sites of the model, and the log determinant of the Jacobian."""
        if data.stages is None:
            natural, log_det = to_natural(z, data, centre)
        else:
            natural, earlier, log_det = staged_natural(z, data, centre)
        sites = natural._asdict()
        sites |= {name: natural.spreads[i] for i, name in enumerate(self.pooling.scales)}
        del sites["spreads"]
        if data.stages is not None:
            del sites["R0"]
            sites["R0_1"] = earlier.R0
            for k, (headroom, ratio) in enumerate(zip(earlier.headrooms, earlier.ratios, strict=True), start=1):
                sites |= {f"headroom_{k}": headroom, f"C_mid_ratio_{k}": ratio}
        return sites, log_det

    def kept(
        self, sites: Mapping[str, Array], data: RecipeData, priors: Mapping[str, Any]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Parameters of the recipe, and parameters of its runs by lane."""
        headroom, offsets = sites["headroom"], sites["offsets"]
        earlier: dict[str, Array] = {}
        if data.stages is None:
            R0 = sites["R0"]
        else:
            stages = range(1, len(data.log_begins) + 1)
            headrooms, ratios = ([sites[f"{name}_{k}"] for k in stages] for name in ("headroom", "C_mid_ratio"))
            own_B = sites["B"] * jnp.exp(offsets[0, VARIES.index("B")])
            levels = stage_levels(data.stages, sites["R0_1"], headrooms, ratios, own_B, sites["tail"])
            R0, earlier = levels[-1], stage_parameters(data, levels, headrooms, ratios)
        C_mid = sites["C_mid_ratio"] * jnp.exp(data.log_origin + data.x_prior)
        logit_headroom = jnp.log(headroom) - jnp.log1p(-headroom)
        same = ("headroom", "B", "sigma", "share", "length", "tail", *self.pooling.scales)
        own = {name: sites[name] for name in same}
        own |= {"R0": R0, "A": R0 + (1.0 - R0) * headroom, "C_mid": C_mid, **earlier}
        runs = {
            "A": R0 + (1.0 - R0) * jax.nn.sigmoid(logit_headroom + offsets[:, 0]),
            "C_mid": C_mid * jnp.exp(offsets[:, 1]),
            "B": sites["B"] * jnp.exp(offsets[:, 2]),
            "sigma": sites["sigma"] * jnp.exp(offsets[:, 3]),
        }
        return own, runs

    def sites_of_draws(
        self,
        draws: Mapping[str, np.ndarray],
        unit_draws: Mapping[str, np.ndarray],
        data: RecipeData,
        priors: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Sites of the model from stored draws; offsets of padded lanes are 0."""
        sites = {site: draws[name] for name, site in self.prior_sites.items()}
        sites["C_mid_ratio"] = draws["C_mid"] / np.exp(data.log_origin + data.x_prior)
        x_priors = () if data.stages is None else data.stages.x_prior
        for k, x_prior in enumerate(x_priors, start=1):
            sites[f"C_mid_ratio_{k}"] = draws[f"C_mid_{k}"] / np.exp(data.log_origin + x_prior)
        runs = unit_draws["A"].shape[-1]

        def varying(values: Mapping[str, np.ndarray], R0: np.ndarray) -> np.ndarray:
            logit_headroom = np.log(values["A"] - R0) - np.log1p(-values["A"])
            return np.stack([logit_headroom, *(np.log(values[name]) for name in VARIES[1:])], axis=-1)

        offsets = np.zeros((len(draws["A"]), len(data.order), len(VARIES)))
        lanes = np.argsort(data.order)[:runs]
        offsets[:, lanes] = varying(unit_draws, draws["R0"][:, None]) - varying(draws, draws["R0"])[:, None]
        return sites | {"offsets": offsets}

    def log_prior_of_units(
        self, log_prob: Mapping[str, np.ndarray], sites: Mapping[str, Any], data: RecipeData, units: Sequence[Unit]
    ) -> np.ndarray:
        """Log density of the runs around the recipe; padded lanes are left out."""
        spreads = np.stack([sites[name] for name in self.pooling.scales], axis=-1)[:, None]
        offsets = sites["offsets"][:, self.lanes(data, units)]
        return np.asarray(dist.StudentT(FREEDOM, 0.0, CORE * spreads).log_prob(offsets)).sum((1, 2))


RECIPE = RecipeFamily()
"""The default family of recipes."""


@cache
def recipe_family(stages: int) -> RecipeFamily:
    """The family of a recipe whose run has this many stages; compiled programs are cached by family."""
    return RECIPE if stages == 1 else replace(RECIPE, stages=stages)
