"""How a parameter of a learning curve depends on model size: exponents and ceilings that saturate as models grow."""

from __future__ import annotations

from typing import Any

from rlceiling.curves.arrays import namespace


def saturating_exponent(size: Any, E_max: Any, N0: Any) -> Any:
    r"""Exponent ``E(N) = E_max / (1 + N0 / N)``.

    References
    ----------
    "Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300, where it is called the learning
    efficiency ``k(N)``.
    """
    return E_max / (1.0 + N0 / size)


def ceiling_of_size(t: Any, span: tuple[float, float], A_smallest: Any, A_largest: Any, A_limit: Any) -> Any:
    r"""Ceiling ``A(N) = 1 - L_inf - (N1 / N)^alpha`` through its values at two sizes, and no lower than 1e-6.

    Parameters
    ----------
    t : array_like
        ln N.
    span : (float, float)
        ``t`` of the smallest and largest size. If they are equal, the ceiling is `A_largest` everywhere.
    A_smallest, A_largest, A_limit : array_like
        Ceilings there, and ``1 - L_inf``.
    """
    alpha = ceiling_exponent(span, A_smallest, A_largest, A_limit)
    xp = namespace(t, alpha)
    return xp.maximum(A_limit - (A_limit - A_largest) * xp.exp(-alpha * (t - span[1])), 1e-6)


def ceiling_exponent(span: tuple[Any, Any], A_smallest: Any, A_largest: Any, A_limit: Any) -> Any:
    """``alpha`` of `ceiling_of_size`; 0 for one size."""
    xp = namespace(A_smallest, A_largest, A_limit)
    width = span[1] - span[0]
    rise = xp.log((A_limit - A_smallest) / (A_limit - A_largest))
    return xp.where(width > 0, rise / xp.where(width > 0, width, 1.0), 0.0)
