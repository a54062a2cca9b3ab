"""Origin of the sampling coordinates of a run with several stages, from its least-squares curve."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit, logit

from rlceiling.models.recipe_centre import POINT_UNIT, coordinates
from rlceiling.models.recipe_coordinates import VARIES, Centre, StageCentre
from rlceiling.models.recipe_data import RecipeData
from rlceiling.models.run_data import NOT_BEGUN
from rlceiling.models.transforms import STRETCH, unstretch

FIRST_B = (1.0, 2.0, 4.0)
FIRST_MIDPOINTS = (-1.0, 0.0)
"""Efficiencies, and midpoints in ln C relative to the origin of their prior, from which the least squares start."""

MIDPOINT_UNIT = 0.3
"""Unit of the coordinates of the midpoints of the stages before the last."""


def staged_centre(recipe: RecipeData) -> Centre:
    """Coordinates of the least-squares curve, with a mild penalty that prefers typical curves."""
    assert recipe.stages is not None
    run = recipe.run(0)
    seen = np.asarray(run.observed)
    inputs, reward, weight = run.inputs[seen], run.reward[seen], np.sqrt(run.count[seen])
    stage = (inputs > NOT_BEGUN).sum(axis=1) - 1
    x_prior, log_spent = np.append(recipe.stages.x_prior, recipe.x_prior), recipe.stages.log_spent
    number = len(x_prior)

    def curve_of(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Level at the beginning of each stage, and the curve at the evaluations."""
        B, levels, curve = np.exp(np.clip(free[1], -3.0, 3.0)), [float(expit(free[0]))], np.empty(len(reward))
        for k, (logit_headroom, x_mid) in enumerate(free[2:].reshape(number, 2)):
            gain, own = (1.0 - levels[k]) * expit(logit_headroom), stage == k
            curve[own] = levels[k] + gain * expit(B * (inputs[own, k] - x_mid))
            if k + 1 < number:
                levels.append(levels[k] + float(gain * expit(B * (log_spent[k] - x_mid))))
        return np.array(levels), curve

    def free_of(start: float, B: float, headroom: np.ndarray, x_mid: np.ndarray) -> np.ndarray:
        return np.concatenate([[logit(start), np.log(B)], np.stack([logit(headroom), x_mid], axis=1).ravel()])

    ends = np.clip([reward[stage == k].max() for k in range(number)], 0.05, 0.95)
    start = float(np.clip(reward[0], 0.02, 0.9)) if recipe.start is None else float(expit(recipe.start.logit))
    gains = np.diff(ends, prepend=start) / (1.0 - np.append(start, ends[:-1]))
    usual = free_of(start, 1.65, np.full(number, 0.5), x_prior)
    scale = np.array([0.5 if recipe.start is None else 0.01, 0.6, *[2.0] * (2 * number)])
    noise = max(float(np.median(np.abs(np.diff(reward)))), 2e-3)

    def penalised(free: np.ndarray) -> np.ndarray:
        return np.concatenate([weight * (reward - curve_of(free)[1]) / noise, (free - usual) / scale])

    starts = [
        free_of(start, B, np.clip(gains / 0.8, 0.02, 0.95), x_prior + moved)
        for B, moved in product(FIRST_B, FIRST_MIDPOINTS)
    ]
    free = min((least_squares(penalised, one, max_nfev=50) for one in starts), key=lambda found: found.cost).x
    levels, curve = curve_of(free)
    noise = max(float(np.sqrt(((weight * (reward - curve)) ** 2).sum() / (weight**2).sum())), 2e-3)
    none = np.zeros((1, len(VARIES)))
    reference = np.array([free[-2], free[-1], free[1]])
    last = coordinates(recipe._replace(start=None), float(levels[-1]), reference, noise, none, none)

    B, x_mid = np.exp(free[1]), free[3:-1:2]
    below, above = levels[:-1], levels[1:]
    gain = (above - below) / (1.0 - below)
    # Inverse of x_mid = largest - softplus(coordinate), at a tail of 1.
    room = np.maximum(log_spent - logit(gain) / B - x_mid, 1e-3)
    origin = np.stack([[unstretch(u) for u in logit(below / above)], room + np.log(-np.expm1(-room))], axis=1)
    unit = np.stack([_level_unit(last.noise, below, above), np.full(number - 1, MIDPOINT_UNIT)], axis=1)
    if recipe.start is not None:
        origin[0, 0], unit[0, 0] = 0.0, 1.0
    # The level at the beginning of the last stage is also known from the stages before it.
    units = last.unit.copy()
    units[0] = _level_unit(last.noise, levels[-1], levels[-1] / expit(STRETCH * last.curve[0]))
    return last._replace(unit=units, stages=StageCentre(origin, unit))


def _level_unit(noise: Any, below: Any, above: Any) -> Any:
    """Unit of the stretched logit of ``below / above``: `POINT_UNIT` times the noise in `below`, at most 1."""
    return np.minimum(POINT_UNIT * noise / (STRETCH * below * (1.0 - below / above)), 1.0)
