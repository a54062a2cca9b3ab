"""Curves and noise of many draws at the evaluations of a run and anywhere between or beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlceiling.models.noise import OUWhiteNoise, kalman_filter, smooth
from rlceiling.models.run_data import RunData

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
def _paths(run: RunData, draws: tuple[Array, ...]) -> tuple[Array, ...]:
    def one(
        R0: Array, A: Array, B: Array, C_mid: Array, sigma: Array, share: Array, length: Array
    ) -> tuple[Array, ...]:
        curve = R0 + (A - R0) * jax.nn.sigmoid(B * (run.x + run.log_origin - jnp.log(C_mid)))
        ou_var, white_var = share * sigma**2, (1.0 - share) * sigma**2 / run.count + run.eval_var
        noise = OUWhiteNoise(curve, run.x, run.observed, ou_var, length, white_var)
        error, sd = noise.innovations(run.reward)
        state = kalman_filter(run.reward - curve, run.x, run.observed, ou_var, length, white_var)
        wander, wander_var = smooth(state)
        return (curve, error / sd, noise.pointwise_log_prob(run.reward), wander, wander_var, white_var)

    return jax.vmap(one)(*draws)


def paths_at_evaluations(run: RunData, draws: Mapping[str, np.ndarray]) -> Paths:
    """Paths at the run's own evaluations.

    Parameters
    ----------
    run : RunData
        The run.
    draws : mapping of name to ndarray, shape (draws,)
        R0, A, B, C_mid, sigma, share and length, rewards on [0, 1].
    """
    n = int(np.sum(run.observed))
    return _run(run, draws, np.arange(n))


def paths_at(run: RunData, draws: Mapping[str, np.ndarray], compute: np.ndarray) -> Paths:
    """Paths at any positive compute, given all evaluations of the run; `innovation` and `log_prob` are void.

    A new evaluation is taken to be like the run's own: not binned, with their median evaluation error.
    """
    query = np.log(compute) - run.log_origin
    pad = next((b for b in QUERY_BUCKETS if b >= len(query)), len(query)) - len(query)
    query = np.pad(query, (0, pad), mode="edge")
    n = int(np.sum(run.observed))
    # Padding of the run sits at its last x, where an unobserved place changes nothing.
    x = np.concatenate([run.x, query])
    order = np.argsort(x, kind="stable")
    error = np.median(run.eval_var[:n] * run.count[:n])

    def extended(values: np.ndarray, fill: float) -> np.ndarray:
        return np.concatenate([values, np.full(len(query), fill, dtype=values.dtype)])[order]

    with_query = run._replace(
        x=x[order],
        reward=extended(run.reward, 0.0),
        observed=extended(run.observed, False),
        eval_var=extended(run.eval_var, error),
        count=extended(run.count, 1.0),
    )
    place = np.argsort(order, kind="stable")[len(run.x) : len(run.x) + len(compute)]
    return _run(with_query, draws, place)


def _run(run: RunData, draws: Mapping[str, np.ndarray], places: np.ndarray) -> Paths:
    with jax.enable_x64(True):
        out = _paths(run, tuple(np.asarray(draws[name]) for name in _SCALARS))
        return Paths(*(np.asarray(a)[:, places] for a in out))
