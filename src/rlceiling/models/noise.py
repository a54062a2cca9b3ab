"""Noise along a run: an Ornstein-Uhlenbeck process in ln C plus white noise, by an exact Kalman filter.

Residuals of one run are autocorrelated. The residual at evaluation ``i`` is ``o(x_i) + w_i``, ``x = ln C``,
where ``o`` is stationary with ``Cov(o(x), o(x')) = ou_var * exp(-|x - x'| / length)`` and
``w_i ~ Normal(0, white_var_i)`` independently. The state is a scalar, so the likelihood costs O(n) and handles
unequal spacing, repeated values of ``x`` and gaps.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import distributions as dist


class Filtered(NamedTuple):
    """State of the Ornstein-Uhlenbeck process at each evaluation, before and after conditioning on that evaluation."""

    decay: Array
    """Correlation with the state at the previous evaluation, shape (n,); 0 at the first."""
    predicted_mean: Array
    """Mean given the evaluations before the current one, shape (n,)."""
    predicted_var: Array
    """Variance given the evaluations before the current one, shape (n,)."""
    mean: Array
    """Mean given the evaluations up to and including the current one, shape (n,)."""
    var: Array
    """Variance given the evaluations up to and including the current one, shape (n,)."""


def decays(clock: Array, length: Array) -> Array:
    """Correlation of the process between neighbouring evaluations, 0 at the first (the process starts stationary)."""
    return jnp.concatenate([jnp.zeros(1), jnp.exp(-jnp.diff(clock) / length)])


def kalman_filter(
    residual: Array, clock: Array, observed: Array, ou_var: Array, length: Array, white_var: Array
) -> Filtered:
    """Run the Kalman filter forwards.

    Parameters
    ----------
    residual : Array, shape (n,)
        Reward minus curve; ignored where `observed` is False.
    clock : Array, shape (n,)
        ``ln C``, ascending.
    observed : Array of bool, shape (n,)
        False for padding and for points at which only a prediction is wanted.
    ou_var, length : Array, scalars
        Stationary variance and correlation length (in ln C) of the autocorrelated noise.
    white_var : Array, shape (n,)
        Variance of the white noise at each evaluation.
    """
    decay = decays(clock, length)

    def step(state: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        a, r, w, seen = at
        predicted_mean = a * state[0]
        predicted_var = a**2 * state[1] + (1.0 - a**2) * ou_var
        gain = seen * predicted_var / (predicted_var + w)
        mean = predicted_mean + gain * (r - predicted_mean)
        var = predicted_var - gain * predicted_var
        return (mean, var), (predicted_mean, predicted_var, mean, var)

    seen = observed.astype(residual.dtype)
    _, out = jax.lax.scan(step, (jnp.zeros(()), jnp.zeros(())), (decay, residual, white_var, seen))
    return Filtered(decay, *out)


def innovations(
    residual: Array, clock: Array, observed: Array, ou_var: Array, length: Array, white_var: Array
) -> tuple[Array, Array]:
    """One-step-ahead prediction error of each evaluation and its standard deviation, shapes (n,)."""
    state = kalman_filter(residual, clock, observed, ou_var, length, white_var)
    return residual - state.predicted_mean, jnp.sqrt(state.predicted_var + white_var)


def whiten(columns: Array, clock: Array, observed: Array, ou_var: Array, length: Array, white_var: Array) -> Array:
    """Whiten residuals: residuals distributed as this noise become independent standard normals.

    The map is linear: it is ``L^-1``, where ``S = L L'`` is the covariance of the observed residuals.

    Parameters
    ----------
    columns : Array, shape (n, m)
        Residuals, or their derivatives, one set per column.
    clock, observed, ou_var, length, white_var
        As in `kalman_filter`.

    Returns
    -------
    Array, shape (n, m)
        Whitened columns; 0 where `observed` is False.
    """
    decay = decays(clock, length)

    def step(state: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        a, column, w, seen = at
        predicted_mean = a * state[0]
        predicted_var = a**2 * state[1] + (1.0 - a**2) * ou_var
        gain = seen * predicted_var / (predicted_var + w)
        error = column - predicted_mean
        out = seen * error / jnp.sqrt(predicted_var + w)
        return (predicted_mean + gain * error, predicted_var - gain * predicted_var), out

    start = (jnp.zeros(columns.shape[1:]), jnp.zeros(()))
    return jax.lax.scan(step, start, (decay, columns, white_var, observed.astype(columns.dtype)))[1]


def smooth(filtered: Filtered) -> tuple[Array, Array]:
    """Mean and variance of the autocorrelated noise given all evaluations (Rauch-Tung-Striebel), shapes (n,)."""

    def step(later: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        next_decay, next_predicted_mean, next_predicted_var, mean, var = at
        gain = next_decay * var / next_predicted_var
        mean = mean + gain * (later[0] - next_predicted_mean)
        var = var + gain**2 * (later[1] - next_predicted_var)
        return (mean, var), (mean, var)

    last = (filtered.mean[-1], filtered.var[-1])
    earlier = (
        filtered.decay[1:],
        filtered.predicted_mean[1:],
        filtered.predicted_var[1:],
        filtered.mean[:-1],
        filtered.var[:-1],
    )
    _, (mean, var) = jax.lax.scan(step, last, earlier, reverse=True)
    return jnp.append(mean, last[0]), jnp.append(var, last[1])


class OUWhiteNoise(dist.Distribution):
    """Distribution of the evaluations of a recipe's runs around their curves; runs are independent.

    Parameters
    ----------
    curve : Array, shape (runs, n)
        Mean of each evaluation.
    clock, observed, white_var : Array, shape (runs, n)
        As in `kalman_filter`, one row per run. Evaluations that are not observed add nothing to the density.
    ou_var, length : Array, scalars or of shape (runs,)
        As in `kalman_filter`.
    """

    support = dist.constraints.real_matrix
    pytree_data_fields = ("curve", "clock", "observed", "ou_var", "length", "white_var")

    def __init__(
        self, curve: Array, clock: Array, observed: Array, ou_var: Array, length: Array, white_var: Array
    ) -> None:
        self.curve, self.clock, self.observed = curve, clock, observed
        self.ou_var, self.length, self.white_var = ou_var, length, white_var
        super().__init__(batch_shape=(), event_shape=jnp.shape(curve))

    def log_prob(self, value: Array) -> Array:
        """Log density of the rewards of all runs."""

        def of_run(
            residual: Array, clock: Array, observed: Array, ou_var: Array, length: Array, white_var: Array
        ) -> Array:
            error, sd = innovations(residual, clock, observed, ou_var, length, white_var)
            return jnp.where(observed, dist.Normal(0.0, sd).log_prob(error), 0.0).sum()

        lanes = value - self.curve, self.clock, self.observed, self.ou_var, self.length, self.white_var
        of_lanes = (0 if jnp.ndim(v) else None for v in (self.ou_var, self.length))
        return jax.vmap(of_run, in_axes=(0, 0, 0, *of_lanes, 0))(*lanes).sum()

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw the rewards of whole recipes, shape ``sample_shape + (runs, n)``."""
        decay = jax.vmap(decays, in_axes=(0, 0 if jnp.ndim(self.length) else None))(self.clock, self.length)
        ou_key, white_key = jax.random.split(key)
        shape = sample_shape + self.event_shape
        shocks = jnp.sqrt((1.0 - decay**2) * jnp.reshape(self.ou_var, (-1, 1))) * jax.random.normal(ou_key, shape)

        def step(state: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            state = at[0] * state + at[1]
            return state, state

        start = jnp.zeros(shape[:-1])
        _, path = jax.lax.scan(step, start, (jnp.moveaxis(decay, -1, 0), jnp.moveaxis(shocks, -1, 0)))
        white = jnp.sqrt(self.white_var) * jax.random.normal(white_key, shape)
        return self.curve + jnp.moveaxis(path, 0, -1) + white
