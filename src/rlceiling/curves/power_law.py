"""The power law of test loss against a resource: the curve of models of one size in arXiv 2509.25300."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlceiling.curves.arrays import exp, namespace
from rlceiling.curves.curve import Curve, Guess, Parameter

USUAL_EXPONENT = 0.05
"""Exponent towards which least squares is pulled where the data leave it open; published: .02 to .13."""


def power_law(inputs: Any, ln_K: Any, ln_E: Any) -> Any:
    r"""Pass rate ``1 - K X^-E``.

    Parameters
    ----------
    inputs : array, shape (..., 1)
        ``ln (X / X_ref)``.
    ln_K, ln_E : array_like
        Logarithms of the coefficient (the test loss at ``X_ref``) and of the exponent.

    References
    ----------
    "Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300.
    """
    x = inputs[..., 0]
    xp = namespace(x, ln_K, ln_E)
    return 1.0 - xp.exp(ln_K - xp.exp(ln_E) * x)


def power_law_inverse(reward: Any, ln_K: Any, ln_E: Any) -> Any:
    """``ln (X / X_ref)`` at which `power_law` has a pass rate; infinite from 1 on, which no resource gives."""
    xp = namespace(reward, ln_K, ln_E)
    with np.errstate(divide="ignore"):
        return (ln_K - xp.log(xp.maximum(1.0 - reward, 0.0))) / xp.exp(ln_E)


def _guess(inputs: np.ndarray, reward: np.ndarray, weight: np.ndarray) -> Guess:
    """Straight line through the logarithm of the test loss."""
    x, loss = inputs[:, 0], np.log(np.maximum(1.0 - reward, 1e-3))
    slope, level = np.polyfit(x, loss, 1) if np.ptp(x) > 0 else (0.0, loss.mean())
    eta = np.array([level, np.log(np.clip(-slope, 0.005, 2.0))])
    return Guess(eta, np.array([level, np.log(USUAL_EXPONENT)]), np.array([1.0, 2.0]))


POWER_LAW = Curve(
    name="power law",
    parameters=(
        Parameter("ln_K", "K", "coefficient", "none", exp),
        Parameter("ln_E", "E", "exponent", "none", exp),
    ),
    value=power_law,
    inverse=power_law_inverse,
    guess=_guess,
)
