"""Curves and noise of many draws at the evaluations of a run and anywhere between or beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import distributions as dist

from rlceiling.models.noise import kalman_filter, smooth
from rlceiling.models.recipe_data import RecipeData, RunData

QUERY_BUCKETS = (0, 16, 128, 1024)
"""Numbers of asked-for places that are padded to, so that repeated questions compile nothing."""

_SCALARS = ("R0", "A", "B", "C_mid", "sigma", "share", "length")


class Paths(NamedTuple):
    """Arrays of shape (draws, places), rewards on [0, 1]."""

    curve: np.ndarray
    """Mean curve."""
    innovation: np.ndarray
    """One-step-ahead prediction error over its standard deviation; standard normal under the model."""
    log_prob: np.ndarray
    """Log density of each evaluation given those before it."""
    wander: np.ndarray
    """Mean of the correlated noise given all evaluations."""
    wander_var: np.ndarray
    """Its variance."""
    white_var: np.ndarray
    """Variance of the white noise of one evaluation."""


@jax.jit
def _paths(run: RunData, log_origin: Array, draws: tuple[Array, ...]) -> tuple[Array, ...]:
    def one(
        R0: Array, A: Array, B: Array, C_mid: Array, sigma: Array, share: Array, length: Array
    ) -> tuple[Array, ...]:
        curve = R0 + (A - R0) * jax.nn.sigmoid(B * (run.x + log_origin - jnp.log(C_mid)))
        ou_var, white_var = share * sigma**2, (1.0 - share) * sigma**2 / run.count + run.eval_var
        residual = run.reward - curve
        state = kalman_filter(residual, run.x, run.observed, ou_var, length, white_var)
        error, sd = residual - state.predicted_mean, jnp.sqrt(state.predicted_var + white_var)
        wander, wander_var = smooth(state)
        return (curve, error / sd, dist.Normal(0.0, sd).log_prob(error), wander, wander_var, white_var)

    return jax.vmap(one)(*draws)


def paths_at_evaluations(recipe: RecipeData, place: int, draws: Mapping[str, np.ndarray]) -> Paths:
    """Paths at the own evaluations of a run.

    Parameters
    ----------
    recipe : RecipeData
        The recipe.
    place : int
        Place of the run in it.
    draws : mapping of name to ndarray, shape (draws,)
        R0, sigma, share and length of the recipe, A, B and C_mid of the run; rewards on [0, 1].
    """
    run = recipe.run(place)
    return _run(run, recipe, draws, np.arange(int(np.sum(run.observed))))


def paths_at(recipe: RecipeData, place: int, draws: Mapping[str, np.ndarray], compute: np.ndarray) -> Paths:
    """Paths of a run at any positive compute, given all its evaluations; `innovation` and `log_prob` are void.

    A new evaluation is taken to be like the run's own: not binned, with their median evaluation error.
    """
    run = recipe.run(place)
    query = np.log(compute) - recipe.log_origin
    pad = next((b for b in QUERY_BUCKETS if b >= len(query)), len(query)) - len(query)
    query = np.pad(query, (0, pad), mode="edge")
    # Padding of the run sits at its last x, where an unobserved place changes nothing.
    x = np.concatenate([run.x, query])
    order = np.argsort(x, kind="stable")

    def extended(values: np.ndarray, fill: float) -> np.ndarray:
        return np.concatenate([values, np.full(len(query), fill, dtype=values.dtype)])[order]

    with_query = RunData(
        x=x[order],
        reward=extended(run.reward, 0.0),
        observed=extended(run.observed, False),
        eval_var=extended(run.eval_var, usual_eval_var(run)),
        count=extended(run.count, 1.0),
    )
    where = np.argsort(order, kind="stable")[len(run.x) : len(run.x) + len(compute)]
    return _run(with_query, recipe, draws, where)


def usual_eval_var(run: RunData) -> float:
    """Variance of the evaluation error of one more evaluation, not binned: the median of the run's own."""
    return float(np.median((run.eval_var * run.count)[run.observed]))


def _run(run: RunData, recipe: RecipeData, draws: Mapping[str, np.ndarray], places: np.ndarray) -> Paths:
    with jax.enable_x64(True):
        out = _paths(run, recipe.log_origin, tuple(np.asarray(draws[name]) for name in _SCALARS))
        return Paths(*(np.asarray(a)[:, places] for a in out))
