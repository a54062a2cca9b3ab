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
from jax.nn import log_sigmoid, softplus

from rlceiling.curves.arrays import log_expm1
from rlceiling.curves.sigmoid import LN_2, share_of_rise, steepness
from rlceiling.models.recipe_coordinates import (
    NOISE_REACH,
    SIGMA_SCALE,
    VARIES,
    Centre,
    Natural,
    StageCentre,
    dimension,
    to_natural,
)
from rlceiling.models.recipe_data import RecipeData, Start
from rlceiling.models.transforms import log_slope, stretch

SIGMA_PLACE = 4
"""Place of the coordinate of sigma among those of the last stage."""


class Earlier(NamedTuple):
    """Parameters of the stages before the last, in their order."""

    R0: Array
    headrooms: list[Array]
    ratios: list[Array]
    """Midpoints over the origins of their priors."""


def staged_natural(z: Array, recipe: RecipeData, centre: Centre) -> tuple[Natural, Earlier, Array]:
    """Map coordinates to the parameters of a run with several stages.

    Parameters
    ----------
    z : Array, shape (dimension(1) + 2 * (stages - 1),)
        Unconstrained coordinates; 0 corresponds approximately to `centre`.
    recipe : RecipeData
        The recipe.
    centre : Centre
        From `rlceiling.models.stage_centre.staged_centre`.

    Returns
    -------
    Natural
        Parameters of the recipe and of its last stage, whose start is the level at its beginning.
    Earlier
        Parameters of the stages before the last.
    Array
        Log absolute determinant of the Jacobian of the parameters, with the start and not that level, in `z`.
    """
    assert centre.stages is not None
    z_last, z_earlier = z[: dimension(1)], z[dimension(1) :].reshape(centre.stages.origin.shape)
    # The levels at the beginnings of stages are known to about the noise, so their coordinates are in units of it, as
    # those of the points of the last stage are. The start of the run is so if its evaluation is not logged.
    units = jnp.append(centre.unit[0], centre.stages.unit[:, 0])
    known = jnp.append(jnp.array([True, recipe.start is None]), jnp.ones(len(z_earlier) - 1, bool))
    log_sigma, _ = stretch(centre.curve[SIGMA_PLACE] + centre.unit[SIGMA_PLACE] * z_last[SIGMA_PLACE])
    noise = jnp.hypot(SIGMA_SCALE * jnp.exp(log_sigma), jnp.sqrt(recipe.runs.eval_var[0, 0]))
    extra = jnp.where(known, noise / centre.noise - 1.0, 0.0)
    from_centre, reach = units * jnp.append(z_last[0], z_earlier[:, 0]), NOISE_REACH * centre.noise
    bend = jnp.tanh(from_centre / reach)
    moved = (from_centre + extra * reach * bend) / units
    log_moved = jnp.log1p(extra * (1.0 - bend**2)).sum()

    # To the last stage, the level at its beginning is a start that has no evaluation.
    natural, log_det = to_natural(z_last.at[0].set(moved[0]), recipe._replace(start=None), centre)
    earlier, log_earlier = _earlier_natural(z_earlier.at[:, 0].set(moved[1:]), natural, recipe, centre.stages)
    return natural, earlier, log_det + log_earlier + log_moved


def _earlier_natural(z: Array, natural: Natural, recipe: RecipeData, centre: StageCentre) -> tuple[Earlier, Array]:
    """Map coordinates to the parameters of the stages before the last.

    Parameters
    ----------
    z : Array, shape (stages - 1, 2)
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
    places = centre.origin + centre.unit * z
    log_det = jnp.log(centre.unit).sum()
    level, headrooms, ratios = natural.R0, [], []
    for k in reversed(range(len(stages.x_prior))):
        if k == 0 and recipe.start is not None:
            white_var = (1.0 - natural.share) * natural.sigma**2
            log_share, log_slope_below = _logged_start(places[k, 0], level, recipe.start, white_var)
        else:
            stretched, log_stretch = stretch(places[k, 0])
            log_share, log_slope_below = log_sigmoid(stretched), jnp.log(level) + log_slope(stretched) + log_stretch
        below = level * jnp.exp(log_share)
        gain = jnp.maximum(-level * jnp.expm1(log_share) / (1.0 - below), 1e-100)
        # At this midpoint the ceiling would be 1. That of a flat stage is close to it, unless its headroom is small.
        largest = stages.log_spent[k] - (log_expm1(-tail * jnp.log1p(-gain)) - log_expm1(LN_2 * tail)) / b
        x_mid = largest - softplus(places[k, 1])
        share = share_of_rise(b * (stages.log_spent[k] - x_mid), tail)
        log_ratio = x_mid - stages.x_prior[k]
        # d(below, gain) / d(coordinate, level) and d(headroom, C_mid) / d(gain, coordinate), both triangular.
        log_det = log_det + log_slope_below - jnp.log1p(-below) - softplus(-places[k, 1]) - jnp.log(share) + log_ratio
        headrooms.append(jnp.clip(gain / share, 1e-300, 1.0 - 1e-15))
        ratios.append(jnp.exp(log_ratio))
        level = below
    return Earlier(level, headrooms[::-1], ratios[::-1]), log_det


def _logged_start(place: Array, level: Array, start: Start, white_var: Array) -> tuple[Array, Array]:
    """Logarithm of the start as a share of `level`, below which it stays, and log derivative of the start.

    The start is near its evaluation, in units of its error, as in a run with one stage, unless the level is as low.
    """
    sd = jnp.sqrt(start.var + start.white_weight * white_var)
    logit_sd = sd * start.logit_slope
    logit = start.logit + logit_sd * place
    width = jnp.minimum(logit_sd, 1.0)
    distance = (jnp.log(level) - log_sigmoid(logit)) / width
    log_share = -width * softplus(distance)
    return log_share, jnp.log(level) + log_share + log_sigmoid(distance) + log_sigmoid(-logit) + jnp.log(logit_sd)
