r"""The sigmoid with a tail of its own: reward against compute as a Burr XII distribution function.

.. math:: R(C) = R_0 + (A - R_0) \left[1 - (1 + (2^\tau - 1) (C/C_{mid})^b)^{-1/\tau}\right],
    \qquad b = \frac{B \tau}{2 (1 - 2^{-\tau})}

With ``tau = 1`` it is the sigmoid (see `rlceiling.curves.sigmoid_share` for the other limits and the source).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlceiling.curves.arrays import exp, expit, log_expm1, namespace
from rlceiling.curves.curve import Curve, Guess, Parameter
from rlceiling.curves.sigmoid import LN_2, SIGMOID, limit_of, share_of_rise, start_of, steepness


def _value(inputs: Any, logit_A: Any, logit_start: Any, x_mid: Any, ln_B: Any, ln_tail: Any) -> Any:
    """Reward at ``ln (X / X_ref)``; the parameters are those of the sigmoid and ``ln tau``."""
    x = inputs[..., 0]
    xp = namespace(x, ln_B)
    R0, A, tail = start_of(logit_A, logit_start), expit(logit_A), xp.exp(ln_tail)
    return R0 + (A - R0) * share_of_rise(xp.exp(ln_B) * steepness(tail) * (x - x_mid), tail)


def _inverse(reward: Any, logit_A: Any, logit_start: Any, x_mid: Any, ln_B: Any, ln_tail: Any) -> Any:
    """``ln (X / X_ref)`` at a reward; infinite from the ceiling on, and minus infinite up to ``R0``."""
    xp = namespace(reward, logit_A)
    R0, A, tail = start_of(logit_A, logit_start), expit(logit_A), xp.exp(ln_tail)
    above, below = xp.maximum(reward - R0, 0.0), xp.maximum(A - reward, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        passed = log_expm1(tail * xp.log1p(above / below))
    # Where the ceiling is reached, the expression above is a difference of infinities.
    z = xp.where(below > 0.0, passed, xp.inf) - log_expm1(LN_2 * tail)
    return x_mid + z / (xp.exp(ln_B) * steepness(tail))


def _guess(inputs: np.ndarray, reward: np.ndarray, weight: np.ndarray) -> Guess:
    """First guess of the sigmoid."""
    eta, usual, width = SIGMOID.guess(inputs, reward, weight)
    return Guess(np.append(eta, 0.0), np.append(usual, 0.0), np.append(width, 1.0))


BURR = Curve(
    name="burr",
    parameters=(*SIGMOID.parameters, Parameter("ln_tail", "tail", "tail", "none", exp)),
    value=_value,
    inverse=_inverse,
    guess=_guess,
    limit=limit_of,
    start=start_of,
)
