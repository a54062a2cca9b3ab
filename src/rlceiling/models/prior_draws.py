"""Draws from the priors of one recipe, for comparison with its posterior."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist

from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.likeness import GROUPS, LIKE, drawn_priors
from rlceiling.models.priors import Distributions
from rlceiling.models.recipe_data import RecipeData, Start
from rlceiling.models.recipe_model import stage_levels, stage_parameters
from rlceiling.models.recipe_priors import SigmoidPriors

DRAWS = 2000


def prior_draws(recipe: RecipeData, priors: SigmoidPriors, draws: int = DRAWS) -> dict[str, np.ndarray]:
    """Draw the recipe's parameters from their priors.

    Parameters
    ----------
    recipe : RecipeData
        The recipe, whose step-0 evaluation and origin of the midpoint prior are used.
    priors : SigmoidPriors
        Priors.
    draws : int, default 2000
        Number of draws; the default is enough for quantiles in plots.

    Returns
    -------
    dict of str to ndarray, shape (draws,)
        Draws by name, with names as in `Fit.draws`; rewards on [0, 1], C_mid in the unit of compute. The random seed
        is fixed, so repeated calls return the same draws.
    """
    number = len(recipe.log_begins)
    with double_precision_on_cpu():
        distributions = priors.distributions()
        drawn = _draw(distributions, recipe.start, recipe.log_origin + recipe.x_prior, draws)
        out = {name: np.asarray(values) for name, values in drawn.items()}
        if recipe.stages is not None:
            headrooms, ratios = (
                list(distributions[name].sample(jax.random.key(2 + i), (number, draws)))
                for i, name in enumerate(("headroom", "C_mid"))
            )
            # The rise of a stage is that of a run, whose B is as uncertain as that of the recipe and hardly more.
            levels = stage_levels(recipe.stages, drawn["R0"], headrooms, ratios, drawn["B"], drawn["tail"])
            earlier = stage_parameters(recipe, levels, headrooms, ratios) | {"R0": levels[-1]}
            out |= {name: np.asarray(values) for name, values in earlier.items()}
    out["A"] = out["R0"] + (1.0 - out["R0"]) * out["headroom"]
    out["C_mid"] = out["C_mid"] * np.exp(recipe.log_origin + recipe.x_prior)
    return out


@partial(jax.jit, static_argnames="draws", compiler_options={"xla_backend_optimization_level": 0})
def _draw(priors: Distributions, start: Start | None, log_origin: jax.Array, draws: int) -> dict[str, jax.Array]:
    names = list(SigmoidPriors.supports)
    keys = dict(zip(names, jax.random.split(jax.random.key(0), len(names)), strict=True))
    like = {
        group: priors[LIKE(group)].sample(jax.random.key(100 + place), (draws,))
        for place, group in enumerate(GROUPS)
        if LIKE(group) in priors
    }
    chosen = drawn_priors(priors, log_origin, like)
    out = {name: chosen[name].sample(key, () if chosen[name].batch_shape else (draws,)) for name, key in keys.items()}
    if start is not None:
        white_var = (1.0 - out["share"]) * out["sigma"] ** 2
        sd = jnp.sqrt(start.var + start.white_weight * white_var)
        out["R0"] = dist.TruncatedNormal(start.reward, sd, low=0.0, high=1.0).sample(jax.random.key(1))
    return out
