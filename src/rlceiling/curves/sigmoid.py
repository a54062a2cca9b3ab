"""The sigmoid of reward against compute, on numpy or JAX arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace(*arrays: Any) -> Any:
    """Array library of the arguments: numpy unless one of them says otherwise."""
    for array in arrays:
        if not isinstance(array, (np.ndarray, np.generic, float, int, list, tuple)):
            return array.__array_namespace__()
    return np


def sigmoid_share(compute: Any, B: Any, C_mid: Any) -> Any:
    r"""Share of the gain that is reached at a compute.

    .. math:: s(C) = \frac{1}{1 + (C_{mid}/C)^B}

    Parameters
    ----------
    compute : array_like
        Compute ``C >= 0``, in any unit.
    B : array_like
        Efficiency, positive, no unit.
    C_mid : array_like
        Midpoint, positive, in the unit of `compute`.

    Returns
    -------
    array
        Share between 0 (at ``C = 0``) and 1, of the broadcast shape of the arguments.

    References
    ----------
    Khatri et al., "The Art of Scaling Reinforcement Learning Compute for LLMs", arXiv 2510.13786.
    """
    xp = namespace(compute, B, C_mid)
    # 1 - 1/(1 + r) rather than r/(1 + r): exact at C = 0 and never inf/inf.
    return 1.0 - 1.0 / (1.0 + (xp.asarray(compute) / C_mid) ** B)


def sigmoid_curve(compute: Any, A: Any, B: Any, C_mid: Any, R0: Any = 0.0) -> Any:
    r"""Reward expected at a compute.

    .. math:: R(C) = R_0 + \frac{A - R_0}{1 + (C_{mid}/C)^B}

    With ``A < R0`` the curve falls; with ``R0 = 0`` it is ``A / (1 + (C_mid/C)^B)``.

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

    Returns
    -------
    array
        Reward, of the broadcast shape of the arguments.

    References
    ----------
    Khatri et al., "The Art of Scaling Reinforcement Learning Compute for LLMs", arXiv 2510.13786.
    """
    return R0 + (A - R0) * sigmoid_share(compute, B, C_mid)


def sigmoid_compute(reward: Any, A: Any, B: Any, C_mid: Any, R0: Any = 0.0) -> Any:
    r"""Compute at which a rising curve reaches a reward, the inverse of `sigmoid_curve`.

    .. math:: C(R) = C_{mid} \left(\frac{R - R_0}{A - R}\right)^{1/B}

    Parameters
    ----------
    reward : array_like
        Reward, in any unit.
    A, B, C_mid, R0 : array_like
        As in `sigmoid_curve`, with ``A > R0``.

    Returns
    -------
    array
        Compute in the unit of `C_mid`, of the broadcast shape of the arguments; 0 up to the start, infinite from the
        ceiling on.
    """
    xp = namespace(reward, A, B, C_mid, R0)
    gained, left = xp.asarray(reward) - R0, xp.asarray(A) - reward
    inside = (gained > 0) & (left > 0)
    # Where there is no answer, 1/1 keeps the power quiet.
    ratio = xp.where(inside, gained, 1.0) / xp.where(inside, left, 1.0)
    return xp.where(inside, C_mid * ratio ** (1.0 / xp.asarray(B)), xp.where(gained > 0, xp.inf, 0.0))
