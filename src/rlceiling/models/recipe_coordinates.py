"""Sampling coordinates in which the posterior of one recipe is close to Gaussian.

In (headroom, ln B, ln C_mid) the posterior of a curve is strongly curved ("banana-shaped"). Expected-value coordinates
(Ross, "Nonlinear Estimation", 1990) replace them by the values of the curve of one run, the reference, at two computes
inside its observed range, ``p1`` and ``p2``, which the data determine directly. The ordering ``R0 < p1 < p2 < A < 1``
is enforced by a stick-breaking reparameterisation with logistic fractions; gaps are kept as logarithms to avoid
cancellation when the curve is flat.

The recipe and its other runs are parameterised by their offsets from the reference. The relative weight of the data
and of the between-run standard deviation differs between runs and changes with that standard deviation, so neither a
centred nor a non-centred parameterisation suits all runs. Each offset is therefore standardised by its conditional mean
and standard deviation in a linearised model, in this order: the reference, then the recipe, then each run given the
recipe.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import log_sigmoid, sigmoid, softplus

from rlceiling.curves.arrays import log_expm1
from rlceiling.curves.sigmoid import LN_2, share_of_rise, steepness
from rlceiling.models.noise import whiten
from rlceiling.models.pooling import CORE, FREEDOM
from rlceiling.models.recipe_data import RecipeData
from rlceiling.models.run_curves import RunCurves
from rlceiling.models.transforms import log_slope, stretch

CURVE_DIMENSION = 8
"""Number of coordinates of the reference and the noise: start, low point, high point, ceiling, sigma, share, length,
tail."""

VARIES = ("headroom", "C_mid", "B", "sigma")
"""Parameters that differ between the runs of a recipe, as logit of headroom, ln C_mid, ln B and ln sigma. The first
three are those of the curve."""

OF_CURVE = 3
"""Number of these parameters that belong to the curve."""

SIGMA_SCALE = 0.005
"""Noise standard deviation at the origin of its coordinate, typical of real curves. Affects sampling efficiency only,
not the posterior."""

SPREAD_SCALE = np.array([0.1, 0.1, 0.1, 0.3])
"""Between-run spreads at the origin of their coordinates. Affects sampling efficiency only, not the posterior."""

OFFSET_ERROR = np.array([0.1, 0.15, 0.15, 0.3])
"""Typical standard errors of the offsets of the least-squares curves, in the order of `VARIES`."""

TAIL_SCALE = 0.8
"""Standard deviation of ln tail per unit of its coordinate. Affects sampling efficiency only, not the posterior."""

LEAST_WIDTH = 0.01
"""Smallest width in ln C over which a slope is averaged."""

NOISE_REACH = 60.0
"""Range, on the logit scale and in multiples of the usual noise, over which the coordinates of the curve are scaled by
the noise: about six standard deviations for a gain of 0.1. Wider ranges left divergences on flat and on short runs,
narrower ones mix more slowly."""


class Natural(NamedTuple):
    """Parameters for which the priors are defined (see `rlceiling.models.sigmoid_model`); scalars unless noted."""

    R0: Array
    headroom: Array
    B: Array
    C_mid_ratio: Array
    sigma: Array
    share: Array
    length: Array
    tail: Array
    spreads: Array
    """Between-run spreads, shape (4,), in the order of `VARIES`."""
    offsets: Array
    """Offsets of the runs from the recipe in logit of headroom, ln C_mid, ln B and ln sigma, shape (lanes, 4)."""


class StageCentre(NamedTuple):
    """Origin and units of the coordinates of each stage before the last, arrays of shape (stages - 1, 2)."""

    origin: np.ndarray
    unit: np.ndarray


class Centre(NamedTuple):
    """Origin of the sampling coordinates."""

    curve: np.ndarray
    """Coordinates of the reference and the noise, shape (8,)."""
    offsets: np.ndarray
    """Offsets of the runs from the reference, shape (lanes, 4)."""
    apart: np.ndarray
    """Offsets of the runs from the median of the runs, shape (lanes, 4)."""
    noise: np.ndarray
    """Standard deviation of one evaluation of the reference."""
    unit: np.ndarray
    """Units of the coordinates of the reference and the noise, shape (8,)."""
    stages: StageCentre | None = None
    """Origin of the coordinates of the stages before the last, if there are any."""


def dimension(lanes: int) -> int:
    """Length of the coordinate vector: reference and noise, between-run standard deviations, recipe, other runs."""
    return CURVE_DIMENSION + (1 + lanes) * len(VARIES)


def to_natural(z: Array, recipe: RecipeData, centre: Centre) -> tuple[Natural, Array]:
    """Map coordinates to parameters.

    Parameters
    ----------
    z : Array, shape (dimension(lanes),)
        Unconstrained coordinates; 0 corresponds approximately to `centre`.
    recipe : RecipeData
        The recipe.
    centre : Centre
        From `rlceiling.models.recipe_centre.least_squares_centre`.

    Returns
    -------
    Natural
        The parameters.
    Array
        Log absolute determinant of the Jacobian of the parameters with respect to `z`.
    """
    k, lanes = len(VARIES), centre.offsets.shape[0]
    z_curve, z_spread, z_recipe, z_runs = jnp.split(z, CURVE_DIMENSION + k * np.arange(3))
    z_curve = centre.curve + centre.unit * z_curve
    # One call for sigma, share, start and the between-run spreads, because `stretch` compiles slowest.
    stretched, log_stretch = stretch(jnp.concatenate([z_curve[4:6], z_curve[:1], z_spread]))
    of_reference = _reference if recipe.curves is None else _complete_reference
    R0, reference, tail, (sigma, share, length), log_det = of_reference(
        z_curve, recipe, centre, stretched[:3], log_stretch[:3]
    )
    spreads = jnp.asarray(SPREAD_SCALE) * jnp.exp(stretched[3:])
    log_det = log_det + (jnp.log(spreads) + log_stretch[3:]).sum() + lanes * jnp.log(spreads).sum()
    log_det = log_det + jnp.log(centre.unit).sum()
    z_runs = z_runs.reshape(lanes - 1, k)

    # The noise first, because the weight of the data of a run depends on it. All in units of the between-run spreads.
    weight = prior_weight(centre.apart, spreads)
    steps = recipe.runs.observed.sum(-1)[1:, None, None]
    noise_offset, own_noise, log_scale = _recipe_and_runs(
        weight[:, OF_CURVE:],
        spreads[OF_CURVE:] ** 2 * steps,
        spreads[OF_CURVE:] * steps[:, 0] * centre.offsets[1:, OF_CURVE:],
        z_recipe[OF_CURVE:],
        z_runs[:, OF_CURVE:],
    )
    log_det = log_det + log_scale
    sigmas = sigma * jnp.exp(spreads[OF_CURVE:] * own_noise)  # of the runs beside the reference, shape (lanes - 1, 1)
    information = jnp.zeros((0, OF_CURVE, OF_CURVE))
    score = jnp.zeros((0, OF_CURVE))
    if recipe.curves is not None:
        information, score = _estimated(recipe.curves, reference, tail, sigmas.squeeze(-1))
    elif lanes > 1:
        information, score = _information(
            recipe, R0, reference, tail, centre.offsets[:, :OF_CURVE], sigmas.squeeze(-1), share, length
        )
    scale = spreads[:OF_CURVE]
    curve_offset, own_curve, log_scale = _recipe_and_runs(
        weight[:, :OF_CURVE],
        scale[:, None] * information * scale,
        scale * score,
        z_recipe[:OF_CURVE],
        z_runs[:, :OF_CURVE],
    )
    log_det = log_det + log_scale
    offset = jnp.concatenate([curve_offset, noise_offset])
    own = jnp.concatenate([own_curve, own_noise], axis=1)
    of_runs = jnp.concatenate([jnp.zeros((1, k)), own]) - offset  # the reference is at 0

    moved = spreads * offset
    logit_headroom, x_mid, log_B = reference + moved[:OF_CURVE]
    # The priors are densities of headroom, B, C_mid and sigma, not of the logit and the logarithms.
    headroom = jnp.clip(sigmoid(logit_headroom), 1e-300, 1.0 - 1e-15)
    log_ratio = x_mid - recipe.x_prior
    log_det = log_det + log_slope(logit_headroom) + log_B + log_ratio + moved[OF_CURVE:].sum()
    sigma_of_recipe = sigma * jnp.exp(moved[OF_CURVE:].sum())
    natural = Natural(
        R0,
        headroom,
        jnp.exp(log_B),
        jnp.exp(log_ratio),
        sigma_of_recipe,
        share,
        length,
        tail,
        spreads,
        spreads * of_runs,
    )
    return natural, log_det


def prior_weight(offsets: Any, spreads: Array) -> Array:
    """Precision, in units of the spread, of a normal that stands for the heavy-tailed prior of each offset.

    It is that of the scale mixture of normals at the offset of the least-squares curves, so that a run that lies far
    from its siblings is hardly pulled towards them. An offset within `OFFSET_ERROR` says nothing about the tail.
    """
    return (FREEDOM + 1.0) / (FREEDOM * CORE**2 + offsets**2 / (spreads**2 + OFFSET_ERROR**2))


def _recipe_and_runs(
    weight: Array, information: Array, pull: Array, z_recipe: Array, z_runs: Array
) -> tuple[Array, Array, Array]:
    """Offsets of the recipe and of the other runs from the reference, in units of the spreads, by conditional normals.

    Parameters
    ----------
    weight : Array, shape (lanes, k)
        Precision of the prior of each run around the recipe; the first is the reference.
    information : Array, shape (lanes - 1, k, k)
        Precision of the data of each other run.
    pull : Array, shape (lanes - 1, k)
        That precision times the offset that the data prefer.
    z_recipe, z_runs : Array, shapes (k,) and (lanes - 1, k)
        Coordinates.

    Returns
    -------
    recipe : Array, shape (k,)
    runs : Array, shape (lanes - 1, k)
    log_scale : Array
        Log determinant of the map.
    """
    diagonal = jnp.eye(weight.shape[-1])
    precision, towards = diagonal * weight[:1], jnp.zeros(weight.shape[-1])
    own_precision, own_weight = diagonal * weight[1:, None] + information, weight[1:]
    if len(own_weight):
        # Every other run contributes its likelihood with its own offset integrated out.
        root = _cholesky(own_precision)
        carried = own_weight[..., None] * _solve(root, diagonal * own_weight[:, None])
        precision = precision + (diagonal * own_weight[:, None] - carried).sum(axis=0)
        towards = towards + (own_weight * _solve(root, pull[..., None])[..., 0]).sum(axis=0)
    recipe, log_scale = _conditional(precision, towards, z_recipe)
    runs, own_scale = _conditional(own_precision, pull + own_weight * recipe, z_runs)
    return recipe, runs, log_scale + own_scale.sum()


def _reference(
    z: Array, recipe: RecipeData, centre: Centre, stretched: Array, log_stretch: Array
) -> tuple[Array, Array, Array, tuple[Array, Array, Array], Array]:
    """Start, curve of the reference (logit of headroom, ln C_mid, ln B), tail, noise, and the log determinant."""
    z_sigma, z_share, stretched_start = stretched
    sigma = SIGMA_SCALE * jnp.exp(z_sigma)
    # Near the data the posterior width of the curve is proportional to the noise, so its coordinates are in units of
    # the noise there; otherwise a small noise would form a funnel. Further out they do not depend on the noise.
    noise_ratio = jnp.hypot(sigma, jnp.sqrt(recipe.runs.eval_var[0, 0])) / centre.noise
    reach = NOISE_REACH * centre.noise
    from_centre = z[1:4] - centre.curve[1:4]
    bend = jnp.tanh(from_centre / reach)
    z_low, z_high, z_top = z[1:4] + (noise_ratio - 1.0) * reach * bend
    z_start, z_length = z[0], z[6]
    tail = jnp.exp(TAIL_SCALE * z[7])
    if recipe.start is None:
        # Without a step-0 evaluation only the curve constrains R0, so stick-breaking goes from p2 downwards.
        p_high = sigmoid(z_high)
        p_low = p_high * sigmoid(z_low)
        # R0 may be close to 0, which is far out on a logit scale.
        R0 = p_low * sigmoid(stretched_start)
        log_det_start = log_slope(stretched_start) + log_stretch[2]
        log_start_low = jnp.log(p_low) + log_sigmoid(-stretched_start)
        log_low_high = jnp.log(p_high) + log_sigmoid(-z_low)
        log_above_high = log_sigmoid(-z_high)
        log_det = log_slope(z_high) + jnp.log(p_high) + log_slope(z_low) + jnp.log(p_low) + log_det_start
    else:
        # R0 is known to about its evaluation error, so stick-breaking goes from R0 upwards.
        start_sd = jnp.sqrt(recipe.start.var + recipe.start.white_weight * sigmoid(-z_share) * sigma**2)
        logit_sd = start_sd * recipe.start.logit_slope
        R0 = sigmoid(recipe.start.logit + logit_sd * z_start)
        log_start_high = jnp.log1p(-R0) + log_sigmoid(z_high)
        log_start_low = log_start_high + log_sigmoid(z_low)
        log_low_high = log_start_high + log_sigmoid(-z_low)
        log_above_high = jnp.log1p(-R0) + log_sigmoid(-z_high)
        log_det = (
            jnp.log(logit_sd * R0 * (1.0 - R0)) + jnp.log1p(-R0) + log_slope(z_high) + log_start_high + log_slope(z_low)
        )
    log_high_top = log_above_high + log_sigmoid(z_top)
    log_det = log_det + log_above_high + log_slope(z_top)

    log_start_high = jnp.logaddexp(log_start_low, log_low_high)
    log_low_top = jnp.logaddexp(log_low_high, log_high_top)
    log_gain = jnp.logaddexp(log_start_high, log_high_top)

    # With s_i = (p_i - R0)/(A - R0) and v_i = -ln(1 - s_i), z_i = ln((e^(tau v_i) - 1)/(2^tau - 1)). The ratio of the
    # two numerators is 1 + (e^(tau (v_2 - v_1)) - 1)/(1 - e^(-tau v_1)), so that there is no cancellation.
    v_low = softplus(log_start_low - log_low_top)
    v_high = softplus(log_start_high - log_high_top)
    log_part_low, log_part_high = _log1mexp(tail * v_low), _log1mexp(tail * v_high)
    v_step = tail * softplus(log_low_high - log_high_top)
    z_step = softplus(v_step + _log1mexp(v_step) - log_part_low)
    z_low_anchor = tail * v_low + log_part_low - log_expm1(LN_2 * tail)
    x_step = recipe.x_high - recipe.x_low
    b = z_step / x_step
    x_mid = recipe.x_low - z_low_anchor / b
    log_det = (
        log_det
        + jnp.log(x_step)
        - 2.0 * jnp.log(z_step)
        + 2.0 * jnp.log(tail)
        - (log_low_top + log_high_top + log_part_low + log_part_high)
        + jnp.log(TAIL_SCALE * tail)
    )

    # logit of headroom = ln (A - R0) - ln (1 - A); the determinant so far is that of (R0, A, ln B, ln C_mid).
    log_above = log_above_high + log_sigmoid(-z_top)
    log_det = log_det + jnp.log1p(-R0) - log_gain - log_above
    log_det = log_det + jnp.log1p((noise_ratio - 1.0) * (1.0 - bend**2)).sum()
    log_det = log_det + jnp.log(sigma) + log_slope(z_share) + z_length + log_stretch[:2].sum()
    reference = jnp.stack([log_gain - log_above, x_mid, jnp.log(b / steepness(tail))])
    return R0, reference, tail, (sigma, sigmoid(z_share), jnp.exp(z_length)), log_det


def _complete_reference(
    z: Array, recipe: RecipeData, centre: Centre, stretched: Array, log_stretch: Array
) -> tuple[Array, Array, Array, tuple[Array, Array, Array], Array]:
    """As `_reference`, for a reference that has risen and levelled off.

    The coordinates are its headroom, B, and ``b (place - ln C_mid)`` at the place where the data know it best.
    """
    assert recipe.curves is not None
    z_sigma, z_share, stretched_start = stretched
    sigma, tail = SIGMA_SCALE * jnp.exp(z_sigma), jnp.exp(TAIL_SCALE * z[7])
    if recipe.start is None:
        R0 = sigmoid(stretched_start)
        log_det = log_slope(stretched_start) + log_stretch[2]
    else:
        start_sd = jnp.sqrt(recipe.start.var + recipe.start.white_weight * sigmoid(-z_share) * sigma**2)
        logit_sd = start_sd * recipe.start.logit_slope
        R0 = sigmoid(recipe.start.logit + logit_sd * z[0])
        log_det = jnp.log(logit_sd * R0 * (1.0 - R0))
    # By stretching, the exponential tail that a ceiling near 1 has on the logit scale becomes Gaussian.
    logit_headroom, log_stretched = stretch(z[3])
    by_tail = recipe.curves.by_tail[0] * TAIL_SCALE * z[7]
    log_B = z[2] + by_tail[2]
    b = jnp.exp(log_B) * steepness(tail)
    reference = jnp.stack([logit_headroom + by_tail[0], recipe.curves.place[0] - z[1] / b, log_B])
    log_det = log_det + log_stretched - jnp.log(b) + jnp.log(TAIL_SCALE * tail)
    log_det = log_det + jnp.log(sigma) + log_slope(z_share) + z[6] + log_stretch[:2].sum()
    return R0, reference, tail, (sigma, sigmoid(z_share), jnp.exp(z[6])), log_det


def _estimated(curves: RunCurves, reference: Array, tail: Array, sigma: Array) -> tuple[Array, Array]:
    """As `_information`, from the estimates of the curve of each run on its own."""
    eval_var = curves.eval_var[1:]
    ratio = (curves.sigma[1:] ** 2 + eval_var) / (sigma**2 + eval_var)
    information = ratio[:, None, None] * curves.precision[1:]
    offset = curves.mean[1:] + curves.by_tail[1:] * jnp.log(tail) - reference
    return information, (information * offset[:, None]).sum(-1)


def _log1mexp(v: Array) -> Array:
    """``ln(1 - e^-v)`` for positive `v`."""
    return jnp.log(-jnp.expm1(-v))


def _information(
    recipe: RecipeData,
    R0: Array,
    reference: Array,
    tail: Array,
    offsets: np.ndarray,
    sigma: Array,
    share: Array,
    length: Array,
) -> tuple[Array, Array]:
    """Gaussian approximation of the likelihood of each non-reference run in its offset from the reference.

    `sigma` has one value per run. Returns the precision matrix, shape (3, 3) per run, and the precision-weighted mean,
    shape (3,) per run. The curve of the run is linearised around the reference curve shifted by the run's entry of
    `offsets`.
    """
    runs = jax.tree.map(lambda array: array[1:], recipe.runs)
    logit_headroom, x_mid, log_B = (reference + offsets[1:]).T[..., None]
    x = runs.inputs[..., 0]
    headroom, b, distance = sigmoid(logit_headroom), jnp.exp(log_B) * steepness(tail), x - x_mid
    rise = share_of_rise(b * distance, tail)
    gain = (1.0 - R0) * headroom
    # The slope against x is averaged around each evaluation. The slope of a steep curve at the evaluations alone would
    # make a midpoint in a gap appear unknown, and a midpoint at an evaluation appear exactly known.
    gap = jnp.diff(x, prepend=x[:, :1], append=x[:, -1:])
    width = jnp.maximum(jnp.maximum(gap[:, :-1], gap[:, 1:]), LEAST_WIDTH)
    after, before = (share_of_rise(b * (distance + side * width), tail) for side in (0.5, -0.5))
    bend = gain * (after - before) / width
    residual = runs.reward - R0 - gain * rise
    columns = jnp.stack([residual, gain * (1.0 - headroom) * rise, -bend, bend * distance], axis=-1)
    white_var = (1.0 - share) * sigma[:, None] ** 2 / runs.count + runs.eval_var
    whitened = jax.vmap(whiten, in_axes=(0, 0, 0, 0, None, 0))(
        columns, runs.clock, runs.observed, share * sigma**2, length, white_var
    )
    residual, slopes = whitened[..., 0], whitened[..., 1:]
    information = jnp.einsum("rni,rnj->rij", slopes, slopes)
    score = jnp.einsum("rni,rn->ri", slopes, residual) + jnp.einsum("rij,rj->ri", information, offsets[1:])
    return information, score


def _conditional(precision: Array, pull: Array, z: Array) -> tuple[Array, Array]:
    """Map standard normal `z` to ``Normal(precision^-1 pull, precision^-1)``; also returns the log determinant."""
    root = _cholesky(precision)
    # With precision = L L', the point is L'^-1 (L^-1 pull + z).
    point = _solve_upper(root, _solve_lower(root, pull[..., None]) + z[..., None])[..., 0]
    return point, -jnp.log((root * jnp.eye(root.shape[-1])).sum(-1)).sum(-1)


# The matrices are many and 3 x 3, for which unrolled code is far cheaper than LAPACK calls. Entries are slices, because
# the derivative of an index is a scatter, which XLA on CPU does not fuse with the rest of a loop.


def _entry(matrix: Array, i: int, j: int) -> Array:
    return matrix[..., i : i + 1, j : j + 1].squeeze((-2, -1))


def _row(matrix: Array, i: int) -> Array:
    return matrix[..., i : i + 1, :].squeeze(-2)


def _cholesky(matrix: Array) -> Array:
    """Lower Cholesky factor, shape (..., k, k)."""
    k = matrix.shape[-1]
    root: list[list[Array]] = [[jnp.zeros(matrix.shape[:-2])] * k for _ in range(k)]
    for j in range(k):
        for i in range(j, k):
            left = _entry(matrix, i, j) - sum(root[i][m] * root[j][m] for m in range(j))
            root[i][j] = jnp.sqrt(left) if i == j else left / root[j][j]
    return jnp.stack([jnp.stack(row, axis=-1) for row in root], axis=-2)


def _solve_lower(root: Array, right: Array) -> Array:
    """``L^-1 right``, shapes (..., k, k) and (..., k, m)."""
    rows: list[Array] = []
    for i in range(root.shape[-1]):
        known = sum(_entry(root, i, m)[..., None] * rows[m] for m in range(i))
        rows.append((_row(right, i) - known) / _entry(root, i, i)[..., None])
    return jnp.stack(rows, axis=-2)


def _solve_upper(root: Array, right: Array) -> Array:
    """``L'^-1 right``."""
    k = root.shape[-1]
    rows: list[Array] = [_row(right, 0)] * k
    for i in reversed(range(k)):
        known = sum(_entry(root, m, i)[..., None] * rows[m] for m in range(i + 1, k))
        rows[i] = (_row(right, i) - known) / _entry(root, i, i)[..., None]
    return jnp.stack(rows, axis=-2)


def _solve(root: Array, right: Array) -> Array:
    """``(L L')^-1 right``."""
    return _solve_upper(root, _solve_lower(root, jnp.broadcast_to(right, (*root.shape[:-1], right.shape[-1]))))
