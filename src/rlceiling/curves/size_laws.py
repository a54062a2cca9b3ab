"""Laws of parameters of learning curves across model sizes: exponents and ceilings that saturate as models grow."""

from __future__ import annotations

from typing import Any

from rlceiling.curves.arrays import namespace


def saturating_exponent(size: Any, E_max: Any, N0: Any) -> Any:
    r"""Exponent of a power law at a model size.

    .. math:: E(N) = E_{max} / (1 + N_0 / N)

    Parameters
    ----------
    size : array_like
        Model size ``N``, positive, in any unit.
    E_max : array_like
        Exponent that models approach as they grow, no unit.
    N0 : array_like
        Size at which half of `E_max` is reached, in the unit of `size`.

    Returns
    -------
    array
        Exponent, of the broadcast shape of the arguments.

    References
    ----------
    "Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300, where it is called the learning
    efficiency ``k(N)``.
    """
    return E_max / (1.0 + N0 / size)


def ceiling_of_size(t: Any, span: tuple[float, float], A_smallest: Any, A_largest: Any, A_limit: Any) -> Any:
    r"""Ceiling at a model size under a power law of its distance from the ceiling of a model without limit.

    .. math:: A(N) = 1 - L_\infty - (N_1 / N)^\alpha

    The law is given by its values at two sizes, from which ``N_1`` and ``alpha`` follow.

    Parameters
    ----------
    t : array_like
        ``ln N``, the size in any unit.
    span : (float, float)
        ``ln N`` of the smallest and the largest size. If they are equal, the ceiling is `A_largest` at all sizes.
    A_smallest, A_largest : array_like
        Ceilings at those two sizes, rewards on [0, 1], with ``A_smallest < A_largest < A_limit``.
    A_limit : array_like
        ``1 - L_inf``, the ceiling that models approach as they grow.

    Returns
    -------
    array
        Ceiling, of the broadcast shape of the arguments; at least 1e-6, since the law falls below 0 at small sizes.
    """
    alpha = ceiling_exponent(span, A_smallest, A_largest, A_limit)
    xp = namespace(t, alpha)
    return xp.maximum(A_limit - (A_limit - A_largest) * xp.exp(-alpha * (t - span[1])), 1e-6)


def ceiling_exponent(span: tuple[Any, Any], A_smallest: Any, A_largest: Any, A_limit: Any) -> Any:
    r"""Exponent ``alpha`` of `ceiling_of_size`.

    .. math:: \alpha = \ln\frac{A_\infty - A_1}{A_\infty - A_2} \Big/ (\ln N_2 - \ln N_1)

    with ``A_1`` and ``A_2`` the ceilings at the smallest and the largest size and ``A_inf`` that of the limit.

    Parameters
    ----------
    span, A_smallest, A_largest, A_limit
        As in `ceiling_of_size`.

    Returns
    -------
    array
        Exponent, no unit, of the broadcast shape of the ceilings; 0 if both sizes are equal.
    """
    xp = namespace(A_smallest, A_largest, A_limit)
    width = span[1] - span[0]
    rise = xp.log((A_limit - A_smallest) / (A_limit - A_largest))
    return xp.where(width > 0, rise / xp.where(width > 0, width, 1.0), 0.0)
