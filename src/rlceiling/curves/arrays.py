"""Functions of arrays that curves share, on numpy and JAX arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace(*arrays: Any) -> Any:
    """Array library of the arguments: that of the first argument that is not numpy or a plain number, else numpy."""
    for array in arrays:
        if not isinstance(array, (np.ndarray, np.generic, float, int, list, tuple)):
            return array.__array_namespace__()
    return np


def exp(z: Any) -> Any:
    """Exponential function."""
    return namespace(z).exp(z)


def expit(z: Any) -> Any:
    """Logistic function, without overflow."""
    return 0.5 * (1.0 + namespace(z).tanh(0.5 * z))


def log_expit(z: Any) -> Any:
    """Logarithm of the logistic function, without overflow."""
    return -namespace(z).logaddexp(0.0, -z)
