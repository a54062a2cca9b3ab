"""Curves and noise of many draws, at the evaluations of a run and at any point between or beyond them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlceiling.curves.stages import staged_curve
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.noise import kalman_filter, smooth
from rlceiling.models.recipe_data import RecipeData
from rlceiling.models.run_data import RunData, in_last_stage, stage_inputs, usual_eval_var

QUERY_BUCKETS = (0, 16, 128, 1024)
"""Numbers of query points to which queries are padded, so that repeated queries reuse compiled programs."""


class Paths(NamedTuple):
    """Arrays of shape (draws, points), rewards on [0, 1]."""

    curve: np.ndarray
    """Learning curve, the mean without noise."""
    innovation: np.ndarray
    """One-step-ahead prediction error divided by its standard deviation; standard normal for evaluations that are not
    bad."""
    log_prob: np.ndarray
    """Log density of each evaluation given the evaluations before it."""
    wander: np.ndarray
    """Mean of the autocorrelated noise given all evaluations."""
    wander_var: np.ndarray
    """Variance of the autocorrelated noise given all evaluations."""
    white_var: np.ndarray
    """Variance of the white noise of one evaluation that is not bad."""
    p_bad: np.ndarray
    """Probability that an evaluation is bad, given it and those before it."""


@jax.jit
def _paths(run: RunData, draws: tuple[Array, ...]) -> tuple[Array, ...]:
    def one(curve: Array, sigma: Array, share: Array, length: Array) -> tuple[Array, ...]:
        ou_var, white_var = share * sigma**2, (1.0 - share) * sigma**2 / run.count + run.eval_var
        residual = run.reward - curve
        state = kalman_filter(residual, run.clock, run.observed, ou_var, length, white_var, run.bad_log_odds)
        error, sd = residual - state.predicted_mean, jnp.sqrt(state.predicted_var + white_var)
        wander, wander_var = smooth(state)
        return (curve, error / sd, state.log_prob, wander, wander_var, white_var, state.p_bad)

    return jax.vmap(one)(*draws)


Curve = Callable[[np.ndarray], np.ndarray]
"""Curve of every draw: inputs, shape (m, k) -> rewards on [0, 1], shape (draws, m)."""


def paths_at_evaluations(recipe: RecipeData, place: int, draws: Mapping[str, np.ndarray]) -> Paths:
    """Paths of a run at its own evaluations.

    Parameters
    ----------
    recipe : RecipeData
        The recipe.
    place : int
        Index of the run in the recipe.
    draws : mapping of name to ndarray, shape (draws,)
        R0, sigma, share, length and tail of the recipe, and A, B and C_mid of the run; rewards on [0, 1].
    """
    run = recipe.run(place)
    return paths_of(run, curve_of_inputs(draws, recipe), draws, np.arange(int(np.sum(run.observed))))


def paths_of_last_stage(recipe: RecipeData, place: int, draws: Mapping[str, np.ndarray]) -> Paths:
    """Paths of a run at the evaluations of its last stage (all, if it has only one), given all evaluations."""
    run = recipe.run(place)
    own = np.flatnonzero(np.asarray(run.observed) & in_last_stage(run.inputs))
    return paths_of(run, curve_of_inputs(draws, recipe), draws, own)


def paths_at(recipe: RecipeData, place: int, draws: Mapping[str, np.ndarray], compute: np.ndarray) -> Paths:
    """Paths of a run of a recipe at any positive compute, given all evaluations of the run (see `paths_beyond`)."""
    x = np.log(compute) - recipe.log_origin
    inputs = stage_inputs(x, recipe.log_begins)
    return paths_beyond(recipe.run(place), curve_of_inputs(draws, recipe), draws, inputs, x)


def curve_of_inputs(draws: Mapping[str, np.ndarray], recipe: RecipeData) -> Curve:
    """Curve of a run of a recipe for every draw, shape (draws,), rewards on [0, 1]."""
    columns = {name: np.asarray(values)[:, None] for name, values in draws.items()}

    def curve(inputs: np.ndarray) -> np.ndarray:
        compute = np.exp(inputs + recipe.log_origin).sum(axis=1)  # that spent in all stages
        return np.asarray(staged_curve(compute, columns, recipe.begins))

    return curve


def paths_beyond(
    run: RunData, curve: Curve, noise: Mapping[str, np.ndarray], inputs: np.ndarray, clock: np.ndarray
) -> Paths:
    """Paths of a run with any curve at query points, given all evaluations of the run.

    The fields `innovation` and `log_prob` of the result have no meaning at query points.

    Parameters
    ----------
    run : RunData
        The run.
    curve : callable
        Curve of every draw.
    noise : mapping of name to ndarray, shape (draws,)
        sigma, share and length.
    inputs, clock : ndarray, shapes (m, k) and (m,)
        Inputs of the curve and positions on the axis of the noise. A new evaluation (posterior predictive) is not
        binned and has the median evaluation error of the run's own evaluations.
    """
    asked = len(clock)
    pad = next((b for b in QUERY_BUCKETS if b >= asked), asked) - asked
    inputs, clock = np.pad(inputs, ((0, pad), (0, 0)), mode="edge"), np.pad(clock, (0, pad), mode="edge")
    # The run is padded with unobserved copies of its last point, which do not change the result.
    order = np.argsort(np.concatenate([run.clock, clock]), kind="stable")

    def extended(values: np.ndarray, fill: float) -> np.ndarray:
        return np.concatenate([values, np.full(len(clock), fill, dtype=values.dtype)])[order]

    with_query = RunData(
        inputs=np.concatenate([run.inputs, inputs])[order],
        clock=np.concatenate([run.clock, clock])[order],
        reward=extended(run.reward, 0.0),
        observed=extended(run.observed, False),
        eval_var=extended(run.eval_var, usual_eval_var(run)),
        count=extended(run.count, 1.0),
        bad_log_odds=None if run.bad_log_odds is None else extended(run.bad_log_odds, -np.inf),
    )
    where = np.argsort(order, kind="stable")[len(run.clock) : len(run.clock) + asked]
    return paths_of(with_query, curve, noise, where)


def paths_of(run: RunData, curve: Curve, noise: Mapping[str, np.ndarray], places: np.ndarray) -> Paths:
    """Paths of a run at the evaluations with indices `places`; sigma, share and length have shape (draws,)."""
    with double_precision_on_cpu():
        out = _paths(run, (curve(run.inputs), *(np.asarray(noise[name]) for name in ("sigma", "share", "length"))))
        return Paths(*(np.asarray(a)[:, places] for a in out))
