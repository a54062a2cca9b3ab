"""The curve of a run whose training has stages, each of which begins a new rise from the level reached.

Stages ``k = 1 .. S`` begin at the compute ``c_k``, with ``c_1 = 0``, and have their own ceiling and midpoint:

.. math::
    R(C) = L_k + (A_k - L_k)\\, s(C - c_k; B, C_{mid,k}, \\tau) \\quad (c_k < C \\le c_{k+1}), \\qquad
    L_1 = R_0, \\quad L_{k+1} = R(c_{k+1})

with the share ``s`` of `rlceiling.curves.sigmoid_share`. Parameters are given by name: those of the last stage are A,
C_mid and R0 (the level at its beginning), those of stage ``k`` before it are ``A_k``, ``C_mid_k`` and ``R0_k``; B and
tail are common to all. A run with one stage has the curve `rlceiling.curves.sigmoid_curve`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rlceiling.curves.sigmoid import sigmoid_compute, sigmoid_curve

OF_STAGE = ("A", "C_mid", "R0", "headroom")
"""Parameters that each stage has of its own."""


def stage_names(stages: int) -> tuple[str, ...]:
    """Names of the parameters of the stages before the last."""
    return tuple(f"{name}_{stage}" for stage in range(1, stages) for name in OF_STAGE)


def _by_stage(parameters: Mapping[str, Any], begins: np.ndarray) -> Iterator[tuple[float, tuple[Any, ...]]]:
    """Beginning of each stage, and its parameters in the order of `sigmoid_curve`."""
    for stage, begin in enumerate(begins, start=1):
        suffix = f"_{stage}" if stage < len(begins) else ""
        A, C_mid, R0 = (parameters[name + suffix] for name in OF_STAGE[:3])
        yield float(begin), (A, parameters["B"], C_mid, R0, parameters["tail"])


def staged_curve(compute: Any, parameters: Mapping[str, Any], begins: np.ndarray) -> Any:
    """Reward expected at a compute.

    Parameters
    ----------
    compute : array_like
        Compute ``C >= 0``.
    parameters : mapping of name to array_like
        Parameters of the stages; they broadcast against `compute`.
    begins : ndarray, shape (stages,)
        Compute at which each stage begins, ascending from 0.

    Returns
    -------
    array
        Reward, of the broadcast shape of the arguments.
    """
    compute = np.asarray(compute)
    curve = None
    for begin, own in _by_stage(parameters, begins):
        rise = sigmoid_curve(np.maximum(compute - begin, 0.0), *own)
        curve = rise if curve is None else np.where(compute > begin, rise, curve)
    return curve


def staged_compute(reward: Any, parameters: Mapping[str, Any], begins: np.ndarray) -> Any:
    """Compute at which the curve reaches a reward, the inverse of `staged_curve`.

    Returns
    -------
    array
        0 up to the start, infinite from the ceiling of the last stage on.
    """
    reward = np.asarray(reward)
    compute = None
    for begin, own in _by_stage(parameters, begins):
        reached = begin + sigmoid_compute(reward, *own)
        compute = reached if compute is None else np.where(compute > begin, reached, compute)
    return compute
