"""Sampling coordinates of the stages of a run before its last.

The last stage has the coordinates of a run with one stage (see `rlceiling.models.recipe_coordinates`), whose start is
the level at its beginning. From the last stage backwards, each earlier stage adds two coordinates. Given the level
``L'`` at its end, the first determines the level ``L < L'`` at its beginning. Both are values of the curve, which the
data determine directly. The second determines its midpoint, which lies below the one at which its ceiling would be 1.
The headroom follows: the gain ``(L' - L) / (1 - L)`` divided by the share of the rise at the end of the stage.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid, softplus

from rlceiling.curves.arrays import log_expm1
from rlceiling.curves.sigmoid import LN_2, share_of_rise, steepness
from rlceiling.models.recipe_coordinates import VARIES, Natural, StageCentre
from rlceiling.models.recipe_data import RecipeData, Start
from rlceiling.models.transforms import log_slope, stretch

ROOM = 0.01
"""Reward over which the origin of the coordinate of the start bends to stay below the level at the end of the stage."""


class Earlier(NamedTuple):
    """Parameters of the stages before the last, in their order."""

    R0: Array
    headrooms: list[Array]
    ratios: list[Array]
    """Midpoints over the origins of their priors."""


def earlier_natural(z: Array, natural: Natural, recipe: RecipeData, centre: StageCentre) -> tuple[Earlier, Array]:
    """Map coordinates to the parameters of the stages before the last.

    Parameters
    ----------
    z : Array, shape (2 * (stages - 1),)
        Unconstrained coordinates; 0 corresponds approximately to `centre`.
    natural : Natural
        Parameters of the recipe and of its last stage, whose start is the level at its beginning.
    recipe : RecipeData
        The recipe.
    centre : StageCentre
        Origin of the coordinates.

    Returns
    -------
    Earlier
        The parameters.
    Array
        Log absolute determinant of the Jacobian of (R0, headrooms, ratios) with respect to the level at the beginning
        of the last stage and `z`.
    """
    stages, tail = recipe.stages, natural.tail
    assert stages is not None
    b = natural.B * jnp.exp(natural.offsets[0, VARIES.index("B")]) * steepness(tail)
    places = centre.origin + centre.unit * z.reshape(centre.origin.shape)
    log_det = jnp.log(centre.unit).sum()
    level, headrooms, ratios = natural.R0, [], []
    for k in reversed(range(len(stages.x_prior))):
        if k == 0 and recipe.start is not None:
            white_var = (1.0 - natural.share) * natural.sigma**2
            logit, log_unit = _logged_start(places[k, 0], level, recipe.start, white_var)
        else:
            logit, log_unit = stretch(places[k, 0])
        below = level * sigmoid(logit)
        gain = jnp.maximum(level * sigmoid(-logit) / (1.0 - below), 1e-100)
        log_slope_below = jnp.log(level) + log_slope(logit) + log_unit
        # At this midpoint the ceiling would be 1; the midpoint follows its coordinate until it comes close.
        largest = stages.log_spent[k] - (log_expm1(-tail * jnp.log1p(-gain)) - log_expm1(LN_2 * tail)) / b
        distance = largest - places[k, 1]
        x_mid = largest - softplus(distance)
        share = share_of_rise(b * (stages.log_spent[k] - x_mid), tail)
        log_ratio = x_mid - stages.x_prior[k]
        # d(below, gain) / d(coordinate, level) and d(headroom, ln C_mid) / d(gain, coordinate), both triangular.
        log_det = log_det + log_slope_below - jnp.log1p(-below) - softplus(-distance) - jnp.log(share) + log_ratio
        headrooms.append(jnp.clip(gain / share, 1e-300, 1.0 - 1e-15))
        ratios.append(jnp.exp(log_ratio))
        level = below
    return Earlier(level, headrooms[::-1], ratios[::-1]), log_det


def _logged_start(place: Array, level: Array, start: Start, white_var: Array) -> tuple[Array, Array]:
    """Logit of the start over `level`, in units of the error of its evaluation, and the log of that unit."""
    room = ROOM * softplus((level - start.reward) / ROOM)
    reward = jnp.clip(start.reward, 1e-3, 1.0 - 1e-3)
    scale = jnp.sqrt(start.var + start.white_weight * white_var) * (1.0 / reward + 1.0 / room)
    return jnp.log(reward) - jnp.log(room) + scale * place, jnp.log(scale)
