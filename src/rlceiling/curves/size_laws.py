"""Curves of reward against a resource for models of different sizes, on numpy or JAX arrays alike.

Both laws are written in terms of numbers of each size that may have any value, so that each can vary around a law of
its own across sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlceiling.curves.sigmoid import namespace


def expit(z: Any) -> Any:
    """Logistic function, without overflow."""
    return 0.5 * (1.0 + namespace(z).tanh(0.5 * z))


def power_law(x: Any, ln_K: Any, ln_E: Any) -> Any:
    r"""Pass rate ``1 - K X^-E``.

    Parameters
    ----------
    x : array_like
        ``ln (X / X_ref)``.
    ln_K, ln_E : array_like
        Logarithms of the coefficient (the test loss at ``X_ref``) and of the exponent.
    """
    xp = namespace(x, ln_K, ln_E)
    return 1.0 - xp.exp(ln_K - xp.exp(ln_E) * x)


def ceiling_law(x: Any, logit_A: Any, logit_start: Any, x_mid: Any, ln_B: Any) -> Any:
    r"""Pass rate ``R0 + (A - R0) / (1 + (X_mid / X)^B)``.

    Parameters
    ----------
    x, x_mid : array_like
        ``ln (X / X_ref)`` and ``ln (X_mid / X_ref)``.
    logit_A : array_like
        Logit of the ceiling.
    logit_start : array_like
        Logit of ``R0 / A``, so that the start lies below the ceiling.
    ln_B : array_like
        Logarithm of the efficiency.
    """
    R0, A = start_of_ceiling_law(logit_A, logit_start), expit(logit_A)
    return R0 + (A - R0) * expit(namespace(x, ln_B).exp(ln_B) * (x - x_mid))


def saturating_exponent(size: Any, E_max: Any, N0: Any) -> Any:
    r"""Exponent ``E(N) = E_max / (1 + N0 / N)``."""
    return E_max / (1.0 + N0 / size)


def ceiling_of_size(t: Any, span: tuple[float, float], A_smallest: Any, A_largest: Any, A_limit: Any) -> Any:
    r"""Ceiling ``A(N) = 1 - L_inf - (N1 / N)^alpha`` through its values at two sizes, and no lower than 1e-6.

    Parameters
    ----------
    t : array_like
        ln N.
    span : (float, float)
        ``t`` of the smallest and largest size. If they are one, the ceiling is `A_largest` everywhere.
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


def start_of_ceiling_law(logit_A: Any, logit_start: Any) -> Any:
    """Start ``R0`` of `ceiling_law`."""
    return expit(logit_A) * expit(logit_start)


def reach_of_power_law(pass_rate: float, ln_K: Any, ln_E: Any) -> Any:
    """``ln (X / X_ref)`` at which `power_law` has a pass rate."""
    xp = namespace(ln_K, ln_E)
    return (ln_K - xp.log(1.0 - pass_rate)) / xp.exp(ln_E)


def reach_of_ceiling_law(pass_rate: float, logit_A: Any, logit_start: Any, x_mid: Any, ln_B: Any) -> Any:
    """``ln (X / X_ref)`` at which `ceiling_law` has a rate: infinite above the ceiling, minus infinite below R0."""
    xp = namespace(logit_A)
    R0, A = start_of_ceiling_law(logit_A, logit_start), expit(logit_A)
    above, below = xp.maximum(pass_rate - R0, 0.0), xp.maximum(A - pass_rate, 0.0)
    with np.errstate(divide="ignore"):
        return x_mid + (xp.log(above) - xp.log(below)) / xp.exp(ln_B)
