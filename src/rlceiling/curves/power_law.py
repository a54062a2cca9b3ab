"""The power law of test loss against a resource, the learning curve of one model size in arXiv 2509.25300."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlceiling.curves.arrays import exp, namespace
from rlceiling.curves.curve import Curve, Guess, Parameter

USUAL_EXPONENT = 0.05
"""Exponent towards which least squares is pulled where the data leave it open. Published exponents are .02 to .13."""


def power_law(inputs: Any, ln_K: Any, ln_E: Any) -> Any:
    r"""Pass rate at a resource under a power law of the test loss.

    .. math:: R(X) = 1 - K (X / X_{ref})^{-E}

    The curve approaches 1 as the resource grows and falls without limit as the resource goes to zero.

    Parameters
    ----------
    inputs : array, shape (..., 1)
        ``ln (X / X_ref)``, no unit.
    ln_K : array_like
        Logarithm of the coefficient ``K``, the test loss ``1 - R`` at ``X_ref``.
    ln_E : array_like
        Logarithm of the exponent ``E``, no unit.

    Returns
    -------
    array
        Pass rate, of the broadcast shape of ``inputs[..., 0]`` and the parameters.

    References
    ----------
    "Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300.
    """
    x = inputs[..., 0]
    xp = namespace(x, ln_K, ln_E)
    return 1.0 - xp.exp(ln_K - xp.exp(ln_E) * x)


def power_law_inverse(reward: Any, ln_K: Any, ln_E: Any) -> Any:
    r"""Logarithm of the resource at which `power_law` reaches a pass rate.

    .. math:: \ln(X / X_{ref}) = (\ln K - \ln(1 - R)) / E

    Parameters
    ----------
    reward : array_like
        Pass rate.
    ln_K, ln_E : array_like
        As in `power_law`.

    Returns
    -------
    array
        ``ln (X / X_ref)``, of the broadcast shape of the arguments; infinite for a pass rate of 1 or more.
    """
    xp = namespace(reward, ln_K, ln_E)
    with np.errstate(divide="ignore"):
        return (ln_K - xp.log(xp.maximum(1.0 - reward, 0.0))) / xp.exp(ln_E)


def _guess(inputs: np.ndarray, reward: np.ndarray, weight: np.ndarray) -> Guess:
    """Straight line through the logarithm of the test loss, without weights."""
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
