"""Sampling coordinates in which the posterior of one run is close to Gaussian.

In (headroom, ln B, ln C_mid) the posterior is a banana. Expected-value coordinates (Ross, "Nonlinear
Estimation", 1990) replace them by the mean curve at two computes inside the observed range, ``p1`` and ``p2``,
which the data fix directly. Every quantity is an ordered stick, ``R0 < p1 < p2 < A < 1``, broken at logistic
places; gaps are kept as logarithms so that nothing cancels when the curve is flat.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import log_sigmoid, sigmoid, softplus
from jax.scipy.special import log_ndtr
from scipy.special import expit, logit, ndtri

from rlceiling.curves.least_squares import grid_curves
from rlceiling.models.run_data import RunData

DIMENSION = 7
"""Length of the coordinate vector: start, low point, high point, ceiling, sigma, share, length."""

SIGMA_SCALE = 0.005
"""Noise at the centre of its coordinate, about that of real curves; steers the sampler only."""

NOISE_REACH = 60.0
"""How far, on the logit scale and in multiples of the usual noise, the noise stretches the coordinates of the curve:
about six standard deviations for a gain of 0.1. Wider reaches left divergences on flat and on short runs, narrower
ones mix more slowly."""


class Natural(NamedTuple):
    """Parameters on which the priors stand (see `rlceiling.models.sigmoid_model`)."""

    R0: Array
    headroom: Array
    B: Array
    C_mid_ratio: Array
    sigma: Array
    share: Array
    length: Array


def _log_slope(z: Array) -> Array:
    """``ln d sigmoid(z) / dz``."""
    return log_sigmoid(z) + log_sigmoid(-z)


def stretch(w: Array) -> tuple[Array, Array]:
    """Map ``u = logit(Phi(w))`` and its log derivative.

    Priors leave exponential tails on log and logit scales (a ceiling near 1, a noise near 0), in which a chain
    can lose its way. ``u`` grows like ``w**2 / 2`` there, which makes those tails Gaussian.
    """
    log_below, log_above = log_ndtr(w), log_ndtr(-w)
    return log_below - log_above, -0.5 * w**2 - 0.5 * math.log(2.0 * math.pi) - log_below - log_above


def to_natural(z: Array, run: RunData, centre: Array) -> tuple[Natural, Array]:
    """Map coordinates to parameters.

    Parameters
    ----------
    z : Array, shape (7,)
        Unconstrained coordinates; 0 is `centre`.
    run : RunData
        The run: its anchors ``x1, x2`` and how its start is known.
    centre : Array, shape (7,)
        Place of the least-squares curve, from `least_squares_centre`.

    Returns
    -------
    Natural
        The parameters.
    Array
        Log absolute determinant of their derivative with respect to `z`.
    """
    (z_sigma, z_share), log_stretch = stretch(centre[4:6] + z[4:6])
    sigma = SIGMA_SCALE * jnp.exp(z_sigma)
    # Near the data the curve is known as well as the noise allows, so there its coordinates are in units of the
    # noise, or a small noise would be a funnel; further out the noise has no say in them.
    usual_noise = jnp.hypot(SIGMA_SCALE * jnp.exp(stretch(centre[4])[0]), jnp.sqrt(run.eval_var[0]))
    noise_ratio = jnp.hypot(sigma, jnp.sqrt(run.eval_var[0])) / usual_noise
    reach = NOISE_REACH * usual_noise
    bend = jnp.tanh(z[1:4] / reach)
    z_low, z_high, z_top = centre[1:4] + z[1:4] + (noise_ratio - 1.0) * reach * bend
    z_start, z_length = centre[0] + z[0], centre[6] + z[6]
    if run.start is None:
        # Nothing pins R0 but the curve above it, so the stick is broken from the well-known p2 downwards.
        p_high = sigmoid(z_high)
        p_low = p_high * sigmoid(z_low)
        R0 = p_low * sigmoid(z_start)
        log_start_low = jnp.log(p_low) + log_sigmoid(-z_start)
        log_low_high = jnp.log(p_high) + log_sigmoid(-z_low)
        log_above_high = log_sigmoid(-z_high)
        log_det = _log_slope(z_high) + jnp.log(p_high) + _log_slope(z_low) + jnp.log(p_low) + _log_slope(z_start)
    else:
        # R0 is known to about its evaluation error, so the stick is broken from R0 upwards.
        start_sd = jnp.sqrt(run.start.var + run.start.white_weight * sigmoid(-z_share) * sigma**2)
        logit_sd = start_sd * run.start.logit_slope
        R0 = sigmoid(run.start.logit + logit_sd * z_start)
        log_start_high = jnp.log1p(-R0) + log_sigmoid(z_high)
        log_start_low = log_start_high + log_sigmoid(z_low)
        log_low_high = log_start_high + log_sigmoid(-z_low)
        log_above_high = jnp.log1p(-R0) + log_sigmoid(-z_high)
        log_det = (
            jnp.log(logit_sd * R0 * (1.0 - R0))
            + jnp.log1p(-R0)
            + _log_slope(z_high)
            + log_start_high
            + _log_slope(z_low)
        )
    log_high_top = log_above_high + log_sigmoid(z_top)
    log_det = log_det + log_above_high + _log_slope(z_top)

    log_start_high = jnp.logaddexp(log_start_low, log_low_high)
    log_low_top = jnp.logaddexp(log_low_high, log_high_top)
    log_gain = jnp.logaddexp(log_start_high, log_high_top)

    # l_i = logit((p_i - R0)/(A - R0)); the difference is a sum of positive terms, so it never cancels.
    logit_low = log_start_low - log_low_top
    logit_step = softplus(log_low_high - log_start_low) + softplus(log_low_high - log_high_top)
    x_step = run.x_high - run.x_low
    B = logit_step / x_step
    x_mid = run.x_low - logit_low / B
    log_det = (
        log_det
        + jnp.log(x_step)
        - 2.0 * jnp.log(logit_step)
        + 2.0 * log_gain
        - (log_start_low + log_low_top + log_start_high + log_high_top)
    )

    # headroom = (A - R0)/(1 - R0); B and C_mid carry densities of their own, not of their logarithms.
    headroom = jnp.clip(jnp.exp(log_gain - jnp.log1p(-R0)), 1e-300, 1.0 - 1e-15)
    log_ratio = x_mid - run.x_prior
    log_det = log_det - jnp.log1p(-R0) + jnp.log(B) + log_ratio + jnp.log1p((noise_ratio - 1.0) * (1.0 - bend**2)).sum()
    log_det = log_det + jnp.log(sigma) + _log_slope(z_share) + z_length + log_stretch.sum()
    natural = Natural(R0, headroom, B, jnp.exp(log_ratio), sigma, sigmoid(z_share), jnp.exp(z_length))
    return natural, log_det


def least_squares_centre(run: RunData) -> np.ndarray:
    """Place of the best curve on a coarse grid of (B, C_mid), fitted in A by least squares, as coordinates.

    NUTS does the rest. A mild penalty prefers ordinary curves where the data do not care.
    """
    n = int(np.sum(run.observed))
    x, weight = run.x[:n], run.count[:n]
    grid = grid_curves(
        x,
        run.reward[:n],
        np.geomspace(0.5, 8.0, 25),
        np.linspace(x[0] - 1.0, x[-1] + 1.5, 41),
        R0=None if run.start is None else float(expit(run.start.logit)),
        weight=weight,
    )
    noise = max(float(np.sqrt(grid.squares.min() / weight.sum())), 2e-3)
    penalty = ((np.log(grid.B) - 0.5) / 0.6) ** 2 + (grid.x_mid / 2.0) ** 2
    best = int(np.argmin(grid.squares / noise**2 + penalty))

    R0, gain = float(grid.R0[best]), float(grid.gain[best])
    low, high = gain * expit(grid.B[best] * (np.array([run.x_low, run.x_high]) - grid.x_mid[best]))
    z_top = logit((gain - high) / (1.0 - R0 - high))
    if run.start is None:
        z_start, z_low, z_high = logit(R0 / (R0 + low)), logit((R0 + low) / (R0 + high)), logit(R0 + high)
    else:
        z_start, z_low, z_high = 0.0, logit(low / high), logit(high / (1.0 - R0))
    z_sigma = ndtri(expit(np.log(noise / SIGMA_SCALE)))
    return np.array([z_start, z_low, z_high, z_top, z_sigma, 0.0, np.log(0.5)])
