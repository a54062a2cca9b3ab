"""Scalar transforms that the sampling coordinates of recipes and of model sizes share."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid

STRETCH = 4.0 / math.sqrt(2.0 * math.pi)
"""Slope of `stretch` at 0."""


def log_slope(z: Array) -> Array:
    """``ln d sigmoid(z) / dz``."""
    return log_sigmoid(z) + log_sigmoid(-z)


def stretch(w: Array) -> tuple[Array, Array]:
    """Map ``u = a w sqrt(1 + (w / 2a)**2)`` with ``a = 4 / sqrt(2 pi)``, and its log derivative.

    Priors leave exponential tails on log and logit scales (a ceiling near 1, a noise near 0), in which a chain can lose
    its way. ``u`` grows like ``w**2 / 2`` there, which makes those tails Gaussian; it is within 2% of
    ``logit(Phi(w))``, which would make a logistic variable exactly normal and is long to compute.
    """
    square = (w / (2.0 * STRETCH)) ** 2
    root = jnp.sqrt(1.0 + square)
    return STRETCH * w * root, jnp.log(STRETCH * (1.0 + 2.0 * square) / root)


def unstretch(u: float) -> float:
    """Inverse of `stretch`."""
    square = 0.5 * (math.sqrt(1.0 + (u / STRETCH**2) ** 2) - 1.0)
    return math.copysign(2.0 * STRETCH * math.sqrt(square), u)
