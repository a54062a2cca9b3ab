"""The sigmoid of reward against compute: functions of its natural parameters, and its `Curve`."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from rlceiling.curves.arrays import exp, expit, log_expit, log_expm1, namespace
from rlceiling.curves.curve import Curve, Guess, LocalCoordinates, Parameter
from rlceiling.curves.least_squares import grid_curves

LN_2 = float(np.log(2.0))

LARGEST = 700.0
"""Largest argument of an exponential, which overflows at 709."""

# Natural parameters, in the user's units --------------------------------------------------------------------------


def steepness(tail: Any) -> Any:
    r"""Ratio ``b / B`` of the exponent of `sigmoid_share` and the efficiency, ``tail / (2 (1 - 2^-tail))``."""
    return -0.5 * tail / namespace(tail).expm1(-LN_2 * tail)


def share_of_rise(z: Any, tail: Any) -> Any:
    r"""Share ``s`` that `sigmoid_share` has at ``z = b (ln C - ln C_mid)``, without overflow.

    .. math:: s = 1 - (1 + (2^\tau - 1) e^z)^{-1/\tau}
    """
    xp = namespace(z, tail)
    u = z + log_expm1(LN_2 * tail)
    if xp is np:
        return -xp.expm1(-xp.logaddexp(0.0, u) / tail)
    # Plain exponentials and logarithms, which are faster when compiled; the error is that of rounding 1.
    return 1.0 - xp.exp(-xp.log(1.0 + xp.exp(xp.minimum(u, LARGEST))) / tail)


def sigmoid_share(compute: Any, B: Any, C_mid: Any, tail: Any = 1.0) -> Any:
    r"""Share of the gain ``A - R0`` that is reached at a compute.

    .. math:: s(C) = 1 - (1 + (2^\tau - 1) (C/C_{mid})^b)^{-1/\tau}, \qquad b = \frac{B \tau}{2 (1 - 2^{-\tau})}

    This is the Burr XII distribution function of compute, with median ``C_mid``. With ``tau = 1`` it is the sigmoid
    ``1 / (1 + (C_mid/C)^B)``. As ``tau`` approaches 0 it approaches ``1 - 2^(-(C/C_mid)^b)``, a stretched exponential;
    with a large ``tau`` the last part of the gain takes many times the compute. For every ``tau`` half of the gain is
    reached at ``C_mid``, and the log-odds of ``s`` have the slope ``B`` against ``ln C`` there.

    Parameters
    ----------
    compute : array_like
        Compute ``C >= 0``, in any unit.
    B : array_like
        Efficiency, positive, no unit.
    C_mid : array_like
        Midpoint, positive, in the unit of `compute`.
    tail : array_like, default 1.0
        Tail ``tau``, positive, no unit. The default gives the sigmoid.

    Returns
    -------
    array
        Share between 0 (at ``C = 0``) and 1, of the broadcast shape of the arguments.

    References
    ----------
    Sigmoid: Khatri et al., "The Art of Scaling Reinforcement Learning Compute for LLMs", arXiv 2510.13786.
    Tail: Burr, "Cumulative frequency functions", Annals of Mathematical Statistics 1942, doi 10.1214/aoms/1177731607.
    """
    xp = namespace(compute, B, C_mid, tail)
    tail = xp.asarray(tail)
    ratio, b = xp.asarray(compute) / C_mid, B * steepness(tail)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        product = xp.expm1(LN_2 * tail) * ratio**b
        share = -xp.expm1(-xp.log1p(product) / tail)
        if xp is not np or np.isfinite(product).all():
            return share
        # Steep curves far beyond the midpoint, and long tails, need logarithms.
        return np.where(np.isfinite(product), share, share_of_rise(b * np.log(ratio), tail))[()]


def sigmoid_curve(compute: Any, A: Any, B: Any, C_mid: Any, R0: Any = 0.0, tail: Any = 1.0) -> Any:
    r"""Reward expected at a compute.

    .. math:: R(C) = R_0 + (A - R_0)\, s(C)

    with the share ``s`` of `sigmoid_share`; with the default tail ``R(C) = R0 + (A - R0) / (1 + (C_mid/C)^B)``. With
    ``A < R0`` the curve falls.

    Parameters
    ----------
    compute : array_like
        Compute ``C >= 0``, in any unit. At 0 the curve equals `R0`.
    A : array_like
        Ceiling: the reward approached as compute grows, in the unit of the reward.
    B : array_like
        Efficiency: how steeply the curve rises in ``ln C``; positive, no unit.
    C_mid : array_like
        Midpoint: the compute at which half of ``A - R0`` is gained, in the unit of `compute`.
    R0 : array_like, default 0.0
        Start: reward at zero compute. The default gives the three-parameter form of the paper.
    tail : array_like, default 1.0
        Tail, as in `sigmoid_share`.

    Returns
    -------
    array
        Reward, of the broadcast shape of the arguments.

    References
    ----------
    Khatri et al., "The Art of Scaling Reinforcement Learning Compute for LLMs", arXiv 2510.13786.
    """
    return R0 + (A - R0) * sigmoid_share(compute, B, C_mid, tail)


def sigmoid_compute(reward: Any, A: Any, B: Any, C_mid: Any, R0: Any = 0.0, tail: Any = 1.0) -> Any:
    r"""Compute at which a rising curve reaches a reward, the inverse of `sigmoid_curve`.

    .. math::
        C(R) = C_{mid} \left(\frac{((A - R_0) / (A - R))^\tau - 1}{2^\tau - 1}\right)^{1/b}

    with ``b`` as in `sigmoid_share`; with the default tail ``C_mid ((R - R0) / (A - R))^(1/B)``.

    Parameters
    ----------
    reward : array_like
        Reward, in the unit of `A` and `R0`.
    A, B, C_mid, R0, tail : array_like
        As in `sigmoid_curve`, with ``A > R0``.

    Returns
    -------
    array
        Compute in the unit of `C_mid`, of the broadcast shape of the arguments; 0 up to the start, infinite from the
        ceiling on.
    """
    xp = namespace(reward, A, B, C_mid, R0, tail)
    gained, left = xp.asarray(reward) - R0, xp.asarray(A) - reward
    inside = (gained > 0) & (left > 0)
    # Where there is no such compute, the power is taken of 1/1, which raises no floating-point warning.
    ratio = xp.where(inside, gained, 1.0) / xp.where(inside, left, 1.0)
    tail = xp.asarray(tail)
    z = log_expm1(tail * xp.log1p(ratio)) - log_expm1(LN_2 * tail)
    return xp.where(inside, C_mid * xp.exp(z / (B * steepness(tail))), xp.where(gained > 0, xp.inf, 0.0))


# Unconstrained parameters, rewards on [0, 1] ------------------------------------------------------------------------


def _value(inputs: Any, logit_A: Any, logit_start: Any, x_mid: Any, ln_B: Any) -> Any:
    """Reward ``R0 + (A - R0) / (1 + (X_mid / X)^B)``.

    The input is ``ln (X / X_ref)``. The parameters are the logit of ``A``, the logit of ``R0 / A``, ``ln (X_mid /
    X_ref)`` and ``ln B``.
    """
    x = inputs[..., 0]
    R0, A = start_of(logit_A, logit_start), expit(logit_A)
    return R0 + (A - R0) * expit(namespace(x, ln_B).exp(ln_B) * (x - x_mid))


def start_of(logit_A: Any, logit_start: Any, *_: Any) -> Any:
    """Start ``R0``, which is below the ceiling for all parameters."""
    return expit(logit_A) * expit(logit_start)


def limit_of(logit_A: Any, *_: Any) -> Any:
    """Ceiling ``A``."""
    return expit(logit_A)


def _inverse(reward: Any, logit_A: Any, logit_start: Any, x_mid: Any, ln_B: Any) -> Any:
    """``ln (X / X_ref)`` at a reward; infinite from the ceiling on, and minus infinite up to ``R0``."""
    xp = namespace(reward, logit_A)
    R0, A = start_of(logit_A, logit_start), expit(logit_A)
    above, below = xp.maximum(reward - R0, 0.0), xp.maximum(A - reward, 0.0)
    with np.errstate(divide="ignore"):
        return x_mid + (xp.log(above) - xp.log(below)) / xp.exp(ln_B)


def _guess(inputs: np.ndarray, reward: np.ndarray, weight: np.ndarray) -> Guess:
    """Best curve on a grid of efficiencies and midpoints, without weights."""
    order = np.argsort(inputs[:, 0])
    x, reward = inputs[order, 0], reward[order]
    grid = grid_curves(x, reward, np.geomspace(0.5, 6.0, 15), np.linspace(x[0] - 1.0, x[-1] + 1.0, 31), R0=None)
    penalty = ((np.log(grid.B) - 0.5) / 0.6) ** 2 * 1e-4
    best = int(np.argmin(grid.squares + penalty))
    R0, gain = float(grid.R0[best]), float(grid.gain[best])
    A = R0 + gain
    eta = np.array(
        [special.logit(A), special.logit(np.clip(R0 / A, 0.02, 0.98)), grid.x_mid[best], np.log(grid.B[best])]
    )
    usual = np.array([special.logit(np.clip(reward.max(), 0.02, 0.98)), -0.5, x.mean(), 0.5])
    return Guess(eta, usual, np.array([1.0, 1.5, 2.0, 0.6]))


def _to_local(eta: Any, place: Any) -> Any:
    """Reward and slope of the curve at a place, and its distances from the start and the ceiling there.

    With ``v`` the reward and ``D`` its derivative with respect to ``ln X`` at `place`, the coordinates are the logit of
    ``v``, ``ln D``, the logit of ``R0 / v`` and the logit of ``(A - v) / (1 - v)``. Data around `place` determine the
    first two and may leave the others open; the posterior of (A, R0, X_mid, B) is then strongly curved.
    """
    logit_A, logit_start, x_mid, ln_B = eta
    xp = namespace(logit_A, place)
    rise = xp.exp(ln_B) * (place - x_mid)
    log_A, log_above_A = log_expit(logit_A), log_expit(-logit_A)
    log_start, log_gain = log_A + log_expit(logit_start), log_A + log_expit(-logit_start)
    log_below, log_above = log_gain + log_expit(rise), log_gain + log_expit(-rise)  # v - R0 and A - v
    logit_v = xp.logaddexp(log_start, log_below) - xp.logaddexp(log_above, log_above_A)
    log_slope = ln_B + log_below + log_above - log_gain
    return xp.stack([logit_v, log_slope, log_start - log_below, log_above - log_above_A])


def _from_local(local: Any, place: Any) -> Any:
    """Inverse of `_to_local`."""
    logit_v, log_slope, logit_start, logit_room = local
    xp = namespace(logit_v, place)
    log_v, log_room = log_expit(logit_v), log_expit(-logit_v)
    log_start, log_below = log_v + log_expit(logit_start), log_v + log_expit(-logit_start)
    log_above, log_above_A = log_room + log_expit(logit_room), log_room + log_expit(-logit_room)
    log_gain = xp.logaddexp(log_below, log_above)
    ln_B = log_slope + log_gain - log_below - log_above
    x_mid = place - (log_below - log_above) * xp.exp(-ln_B)
    return xp.stack([xp.logaddexp(log_v, log_above) - log_above_A, log_start - log_gain, x_mid, ln_B])


STEEP = 0.2
"""Slope, as a share of the largest slope at an evaluation, above which evaluations have equal weight in `_place`."""


def _place(x: np.ndarray, observed: np.ndarray, eta: np.ndarray) -> float:
    """Mean ``ln X`` of the evaluations, in which those have little weight where the slope of the curve is near 0."""
    rise = special.expit(np.exp(eta[3]) * (x - eta[2]))
    steep = observed * (rise * (1.0 - rise) + 1e-12)
    return float(np.average(x, weights=np.minimum(steep / steep.max(), STEEP)))


SIGMOID = Curve(
    name="sigmoid",
    parameters=(
        Parameter("logit_A", "A", "ceiling", "reward", expit),
        Parameter("logit_start", "R0/A", "start over ceiling", "none", expit),
        Parameter("x_mid", "X_mid", "midpoint", "resource", exp),
        Parameter("ln_B", "B", "efficiency", "none", exp),
    ),
    value=_value,
    inverse=_inverse,
    guess=_guess,
    limit=limit_of,
    start=start_of,
    local=LocalCoordinates(_to_local, _from_local, lambda eta: -eta[3], _place),
)
