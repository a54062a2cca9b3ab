"""A straight line in ln C: the learning curve of a run that shows no ceiling."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from rlceiling.curves.arrays import exp, expit, log_expit, namespace
from rlceiling.curves.curve import Curve, Guess, Parameter

USUAL_SLOPE = 0.05
"""Reward per unit of ln C towards which least squares is pulled where the data leave the slope open."""


def log_linear(inputs: Any, logit_R0: Any, ln_s: Any, ln_C0: Any) -> Any:
    r"""Reward that grows without limit as the logarithm of the resource.

    .. math:: R(C) = R_0 + s \ln(1 + C / C_0)

    Far above ``C_0`` the curve is a straight line in ``ln C`` with slope ``s``; far below it is linear in ``C``. It
    has no ceiling and passes 1 at a finite resource, so it describes a run only as far as that.

    Parameters
    ----------
    inputs : array, shape (..., 1)
        ``ln (C / C_ref)``, no unit.
    logit_R0 : array_like
        Logit of the start ``R_0``, the reward on [0, 1] at zero resource.
    ln_s : array_like
        Logarithm of the slope ``s``, in reward per unit of ``ln C``.
    ln_C0 : array_like
        ``ln (C_0 / C_ref)``, where the curve bends from the start into the straight line.

    Returns
    -------
    array
        Reward, of the broadcast shape of ``inputs[..., 0]`` and the parameters.
    """
    return expit(logit_R0) + namespace(ln_s).exp(ln_s) * _growth(inputs[..., 0] - ln_C0)


def log_linear_inverse(reward: Any, logit_R0: Any, ln_s: Any, ln_C0: Any) -> Any:
    r"""Logarithm of the resource at which `log_linear` reaches a reward.

    .. math:: \ln C(R) = \ln C_0 + \ln(e^{(R - R_0) / s} - 1)

    Parameters
    ----------
    reward : array_like
        Reward, in the unit of `log_linear`.
    logit_R0, ln_s, ln_C0 : array_like
        As in `log_linear`.

    Returns
    -------
    array
        ``ln (C / C_ref)``, of the broadcast shape of the arguments; minus infinite up to the start.
    """
    xp = namespace(reward, logit_R0, ln_s, ln_C0)
    growth = xp.maximum(reward - expit(logit_R0), 0.0) / xp.exp(ln_s)
    with np.errstate(divide="ignore"):
        return ln_C0 + growth + xp.log(-xp.expm1(-growth))


def _growth(z: Any) -> Any:
    """``ln(1 + e^z)``, without overflow."""
    return -log_expit(-z)


def _start(logit_R0: Any, *_: Any) -> Any:
    return expit(logit_R0)


def _guess(inputs: np.ndarray, reward: np.ndarray, weight: np.ndarray) -> Guess:
    """Best curve on a grid of ``C_0``: given it, the curve is linear in ``R_0`` and ``s``."""
    x, total = inputs[:, 0], weight.sum()
    ln_C0 = np.linspace(x.min() - 3.0, x.max() + 3.0, 61)
    growth = _growth(x - ln_C0[:, None])
    first, second, product = growth @ weight, growth**2 @ weight, growth @ (weight * reward)
    level = weight @ reward / total
    slope = (product - first * level) / np.maximum(second - first**2 / total, 1e-12)
    R0 = np.clip(level - slope * first / total, 0.01, 0.99)
    s = np.maximum((product - R0 * first) / second, 1e-3)
    best = int(np.argmin((reward - R0[:, None] - s[:, None] * growth) ** 2 @ weight))
    eta = np.array([special.logit(R0[best]), np.log(s[best]), ln_C0[best]])
    usual = np.array([special.logit(np.clip(reward.min(), 0.02, 0.98)), np.log(USUAL_SLOPE), x.mean()])
    return Guess(eta, usual, np.array([1.5, 1.0, 2.0]))


# There are no local coordinates. Value and slope at one place, together with the start, have no inverse in elementary
# functions (it needs Lambert's W), and none at all where the slope exceeds the gain. The start and C0 together with the
# slope or the gain at one place have an inverse, but posteriors of simulated runs were no closer to Gaussian in them:
# in the parameters as in both, the divergence from the Gaussian with the same moments was mostly 0.1 to 0.6 nat.
LOG_LINEAR = Curve(
    name="log-linear",
    parameters=(
        Parameter("logit_R0", "R0", "start", "reward", expit),
        Parameter("ln_s", "s", "slope", "none", exp),
        Parameter("ln_C0", "C0", "bend", "resource", exp),
    ),
    value=log_linear,
    inverse=log_linear_inverse,
    guess=_guess,
    start=_start,
)
