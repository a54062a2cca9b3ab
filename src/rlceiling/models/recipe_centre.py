"""Origin of the sampling coordinates of a recipe, from least-squares curves of its runs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit, logit

from rlceiling.curves.least_squares import grid_curves
from rlceiling.models.recipe_coordinates import CURVE_DIMENSION, OF_CURVE, SIGMA_SCALE, VARIES, Centre
from rlceiling.models.recipe_data import RecipeData
from rlceiling.models.transforms import stretch, unstretch

USUAL_SPREADS = np.array([0.2, 0.3, 0.2])
"""Penalty scales of the offsets of runs in the least-squares fit, a few times the between-run standard deviation of
real runs."""

LOW_AND_HIGH = slice(1, 3)
"""Coordinates of the low and the high point of the reference."""

POINT_UNIT = 10.0
"""Unit of these coordinates in multiples of the usual noise, at most 1. Chains begin at distances in proportion to it:
where they begin many standard deviations off the data, many evaluations seem bad, and a chain may stay there."""

LENT = 4.0
"""Number of evaluations, with the noise of all runs, that the noise of each run lends."""


def least_squares_centre(recipe: RecipeData) -> Centre:
    """Coordinates of the least-squares curves, used as the origin of the sampling coordinates.

    The reference comes from a coarse grid of (B, C_mid); a mild penalty prefers typical curves where the data are
    uninformative. With several runs all curves are then fitted jointly, with a quadratic penalty on their offsets.
    """
    if recipe.curves is not None:
        return _complete_centre(recipe)
    R0, curve, noise = _best_on_grid(recipe)
    lanes = len(recipe.order)
    offsets = np.zeros((lanes, len(VARIES)))
    present = recipe.runs.observed.any(axis=1)
    if present[1:].any():
        R0, curve, offsets[:, :OF_CURVE], noises = _best_together(recipe, R0, curve, noise)
        offsets[present, OF_CURVE] = np.log(noises[present] / noises[0])
        noise = float(noises[0])
    apart = np.where(present[:, None], offsets - np.median(offsets[present], axis=0), 0.0)
    return coordinates(recipe, R0, curve, noise, offsets, apart)


def _complete_centre(recipe: RecipeData) -> Centre:
    """Coordinates of the estimates of the curve of each run on its own."""
    curves, present = recipe.curves, recipe.present
    assert curves is not None
    offsets = np.concatenate([curves.mean, np.log(curves.sigma)[:, None]], axis=1)
    offsets = np.where(present[:, None], offsets - offsets[0], 0.0)
    apart = np.where(present[:, None], offsets - np.median(offsets[present], axis=0), 0.0)
    logit_headroom, _, log_B = curves.mean[0]
    top = unstretch(logit_headroom)
    slope = float(np.exp(stretch(jnp.asarray(top))[1]))
    start = unstretch(logit(curves.R0)) if recipe.start is None else 0.0
    z_sigma = unstretch(np.log(curves.sigma[0] / SIGMA_SCALE))
    curve = np.array([start, curves.rise[0, 0], log_B, top, z_sigma, 0.0, np.log(0.5), 0.0])
    unit = np.ones(CURVE_DIMENSION)
    unit[1:4] = np.array([curves.rise[0, 1], *curves.sd[0, [2, 0]]]) / [1.0, 1.0, slope]
    return Centre(curve, offsets, apart, np.hypot(curves.sigma[0], np.sqrt(curves.eval_var[0])), unit)


def coordinates(
    recipe: RecipeData, R0: float, curve: np.ndarray, noise: float, offsets: np.ndarray, apart: np.ndarray
) -> Centre:
    """Coordinates of the curve of the reference (logit of headroom, ln C_mid, ln B) and of the offsets of the runs."""
    gain = (1.0 - R0) * expit(curve[0])
    low, high = gain * expit(np.exp(curve[2]) * (np.array([recipe.x_low, recipe.x_high]) - curve[1]))
    z_top = logit((gain - high) / (1.0 - R0 - high))
    if recipe.start is None:
        z_start, z_low, z_high = unstretch(logit(R0 / (R0 + low))), logit((R0 + low) / (R0 + high)), logit(R0 + high)
    else:
        z_start, z_low, z_high = 0.0, logit(low / high), logit(high / (1.0 - R0))
    z_sigma = unstretch(np.log(noise / SIGMA_SCALE))
    curve = np.array([z_start, z_low, z_high, z_top, z_sigma, 0.0, np.log(0.5), 0.0])
    usual = np.hypot(noise, np.sqrt(recipe.runs.eval_var[0, 0]))
    unit = np.ones(CURVE_DIMENSION)
    unit[LOW_AND_HIGH] = min(POINT_UNIT * usual, 1.0)
    return Centre(curve, offsets, apart, usual, unit)


def _best_on_grid(recipe: RecipeData) -> tuple[float, np.ndarray, float]:
    """Start, reference (logit of headroom, ln C_mid, ln B) and noise of the best curve on a grid."""
    run = recipe.run(int(recipe.order[0]))
    n = int(np.sum(run.observed))
    x, weight = run.inputs[:n, 0], run.count[:n]
    grid = grid_curves(
        x,
        run.reward[:n],
        np.geomspace(0.5, 8.0, 25),
        np.linspace(x[0] - 1.0, x[-1] + 1.5, 41),
        R0=None if recipe.start is None else float(expit(recipe.start.logit)),
        weight=weight,
    )
    noise = max(float(np.sqrt(grid.squares.min() / weight.sum())), 2e-3)
    penalty = ((np.log(grid.B) - 0.5) / 0.6) ** 2 + (grid.x_mid / 2.0) ** 2
    best = int(np.argmin(grid.squares / noise**2 + penalty))
    R0, gain = float(grid.R0[best]), float(grid.gain[best])
    return R0, np.array([logit(gain / (1.0 - R0)), grid.x_mid[best], np.log(grid.B[best])]), noise


def _best_together(
    recipe: RecipeData, R0: float, reference: np.ndarray, noise: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Start, reference, offsets of all runs from the reference, and noise of each run."""
    runs, shape = recipe.runs, (len(recipe.order), OF_CURVE)
    x, weight = runs.inputs[..., 0], np.sqrt(runs.count) * runs.observed

    def errors(free: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        start = float(expit(free[0])) if recipe.start is None else R0
        logit_headroom, x_mid, log_B = (free[1:4] + free[4:].reshape(shape)).T[..., None]
        curve = start + (1.0 - start) * expit(logit_headroom) * expit(np.exp(np.clip(log_B, -3, 3)) * (x - x_mid))
        return start, free[4:].reshape(shape), weight * (runs.reward - curve)

    def penalised(free: np.ndarray) -> np.ndarray:
        _, offsets, error = errors(free)
        centre = (free[:4] - [logit(R0), 0.0, 0.0, 0.5]) / [1.0, 2.0, 2.0, 0.6]
        return np.concatenate([error.ravel() / noise, (offsets / USUAL_SPREADS).ravel(), centre])

    free = np.concatenate([[logit(R0)], reference, np.zeros(shape[0] * shape[1])])
    free = least_squares(penalised, free, max_nfev=50).x
    start, offsets, error = errors(free)
    squares, number = (error**2).sum(axis=1), (weight**2).sum(axis=1)
    # A run with few evaluations lends from the others.
    lent = LENT * squares.sum() / number.sum()
    noises = np.maximum(np.sqrt((squares + lent) / (number + LENT)), 2e-3)
    return start, free[1:4] + offsets[0], offsets - offsets[0], noises
