"""Noise along a run: an Ornstein-Uhlenbeck process in ln C plus white noise, by a Kalman filter, with bad evaluations.

Residuals of one run are autocorrelated. The residual at evaluation ``i`` is ``o(x_i) + w_i``, ``x = ln C``,
where ``o`` is stationary with ``Cov(o(x), o(x')) = ou_var * exp(-|x - x'| / length)`` and
``w_i ~ Normal(0, white_var_i)`` independently. The state is a scalar, so the likelihood costs O(n) and handles
unequal spacing, repeated values of ``x`` and gaps.

An evaluation may be bad, which has a small prior probability: it then lies around the curve with a Cauchy distribution,
whose scale is `BAD_SCALE` times the standard deviation of a sound evaluation, and says nothing about ``o``. Its tails
give it little influence on the curve, wherever it lies, and its scale lets a chain leave a region in which every
evaluation seems bad, by a larger noise. Given the evaluations before it, the state after an evaluation is a mixture of
two normals, which is replaced by the normal with the same mean and variance (generalised pseudo-Bayes of first order).
This is exact where no evaluation can be bad and where there is no autocorrelated noise, and otherwise close, since a
doubt that is carried on is rare.

References
----------
Ackerson and Fu, "On state estimation in switching environments", IEEE Trans. Automatic Control 1970,
doi 10.1109/TAC.1970.1099359.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import distributions as dist

BAD_SCALE = 5.0
"""Scale of a bad evaluation around the curve, in standard deviations of a sound one."""


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
    log_prob: Array
    """Log density of the current evaluation given those before it, shape (n,); 0 where not observed."""
    p_bad: Array
    """Probability that the current evaluation is bad, given it and those before it, shape (n,)."""


def decays(clock: Array, length: Array) -> Array:
    """Correlation of the process between neighbouring evaluations, 0 at the first (the process starts stationary)."""
    return jnp.concatenate([jnp.zeros(1), jnp.exp(-jnp.diff(clock) / length)])


def kalman_filter(
    residual: Array,
    clock: Array,
    observed: Array,
    ou_var: Array,
    length: Array,
    white_var: Array,
    bad_log_odds: Array | None = None,
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
    bad_log_odds : Array, shape (n,), optional
        Prior log odds that an evaluation is bad, minus infinity where it cannot be. Default: none is.
    """
    decay = decays(clock, length)

    def step(state: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        a, r, w, seen, *odds = at
        predicted_mean = a * state[0]
        predicted_var = a**2 * state[1] + (1.0 - a**2) * ou_var
        total, error = predicted_var + w, r - predicted_mean
        gain = predicted_var / total
        log_prob = -0.5 * (error**2 / total + jnp.log(2.0 * jnp.pi * total))
        p_bad, doubt = jnp.zeros(()), jnp.zeros(())
        if odds:
            scale = BAD_SCALE * jnp.sqrt(ou_var + w)
            log_odds = odds[0] - jnp.log(jnp.pi * scale * (1.0 + (r / scale) ** 2)) - log_prob
            p_bad = jax.nn.sigmoid(log_odds)
            log_prob = log_prob + jax.nn.softplus(log_odds) - jax.nn.softplus(odds[0])
            doubt = p_bad * (1.0 - p_bad) * (gain * error) ** 2
            gain = (1.0 - p_bad) * gain
        mean = predicted_mean + seen * gain * error
        var = predicted_var + seen * (doubt - gain * predicted_var)
        return (mean, var), (predicted_mean, predicted_var, mean, var, seen * log_prob, seen * p_bad)

    seen = observed.astype(residual.dtype)
    inputs = (decay, residual, white_var, seen, *(() if bad_log_odds is None else (bad_log_odds,)))
    _, out = jax.lax.scan(step, (jnp.zeros(()), jnp.zeros(())), inputs)
    return Filtered(decay, *out)


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
    bad_log_odds : Array, shape (runs, n), optional
        As in `kalman_filter`.
    """

    support = dist.constraints.real_matrix
    pytree_data_fields = ("curve", "clock", "observed", "ou_var", "length", "white_var", "bad_log_odds")

    def __init__(
        self,
        curve: Array,
        clock: Array,
        observed: Array,
        ou_var: Array,
        length: Array,
        white_var: Array,
        bad_log_odds: Array | None = None,
    ) -> None:
        self.curve, self.clock, self.observed = curve, clock, observed
        self.ou_var, self.length, self.white_var, self.bad_log_odds = ou_var, length, white_var, bad_log_odds
        super().__init__(batch_shape=(), event_shape=jnp.shape(curve))

    def log_prob(self, value: Array) -> Array:
        """Log density of the rewards of all runs."""
        lanes = value - self.curve, self.clock, self.observed, self.ou_var, self.length, self.white_var
        of_lanes = (0 if jnp.ndim(v) else None for v in (self.ou_var, self.length))
        bad = () if self.bad_log_odds is None else (self.bad_log_odds,)
        axes = (0, 0, 0, *of_lanes, 0, *(0 for _ in bad))
        return jax.vmap(lambda *run: kalman_filter(*run).log_prob, in_axes=axes)(*lanes, *bad).sum()

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
        around = jnp.moveaxis(path, 0, -1) + jnp.sqrt(self.white_var) * jax.random.normal(white_key, shape)
        if self.bad_log_odds is not None:
            which_key, where_key = jax.random.split(jax.random.fold_in(key, 2))
            scale = BAD_SCALE * jnp.sqrt(jnp.reshape(self.ou_var, (-1, 1)) + self.white_var)
            bad = jax.random.uniform(which_key, shape) < jax.nn.sigmoid(self.bad_log_odds)
            around = jnp.where(bad, scale * jax.random.cauchy(where_key, shape), around)
        return self.curve + around
