"""Elementary functions that curves share, for numpy and JAX arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace(*arrays: Any) -> Any:
    """Array library in which a function of the arguments is to be computed.

    Parameters
    ----------
    *arrays : array_like
        Arrays and plain numbers.

    Returns
    -------
    module
        ``jax.numpy`` if an argument is a JAX array, else numpy.
    """
    for array in arrays:
        if not isinstance(array, (np.ndarray, np.generic, float, int, list, tuple)):
            return array.__array_namespace__()
    return np


def exp(z: Any) -> Any:
    """Exponential function ``e^z``, of the shape of `z`."""
    return namespace(z).exp(z)


def expit(z: Any) -> Any:
    """Logistic function ``1 / (1 + e^-z)``, of the shape of `z` and without overflow."""
    return 0.5 * (1.0 + namespace(z).tanh(0.5 * z))


def log_expit(z: Any) -> Any:
    """Logarithm of the logistic function, ``-ln(1 + e^-z)``, of the shape of `z` and without overflow."""
    return -namespace(z).logaddexp(0.0, -z)


def log_expm1(v: Any) -> Any:
    """Logarithm of ``e^v - 1`` for positive `v`, of its shape and without overflow."""
    xp = namespace(v)
    return v + xp.log(-xp.expm1(-v))
