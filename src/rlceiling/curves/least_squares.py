"""Least squares of the sigmoid on a grid of efficiencies and midpoints.

For given ``B`` and ``C_mid`` the sigmoid is linear in ``A`` and ``R0``, which therefore have a closed form. A grid over
``B`` and ``C_mid`` finds the best curve of any run: it needs no gradient and does not stop at a local minimum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit


class GridCurves(NamedTuple):
    """Best curve for each pair of efficiency and midpoint (a cell of the grid)."""

    B: np.ndarray
    """Efficiency, no unit, shape (cells,)."""
    x_mid: np.ndarray
    """Midpoint in ln C, shape (cells,)."""
    R0: np.ndarray
    """Start, a reward on [0, 1], shape (cells, ...)."""
    gain: np.ndarray
    """``A - R0``, shape (cells, ...)."""
    squares: np.ndarray
    """Weighted sum of squared residuals, shape (cells, ...)."""


def grid_curves(
    x: np.ndarray,
    reward: np.ndarray,
    B: np.ndarray,
    x_mid: np.ndarray,
    *,
    R0: float | None,
    weight: np.ndarray | None = None,
    least_gain: float = 0.02,
    A_step: float | None = None,
) -> GridCurves:
    r"""Fit ``A`` (and ``R0``, unless it is given) by least squares for every pair of `B` and `x_mid`.

    .. math:: R(x) = R_0 + (A - R_0) / (1 + e^{-B (x - x_{mid})}), \qquad x = \ln C

    Parameters
    ----------
    x : ndarray, shape (n,)
        ``ln C`` of the evaluations.
    reward : ndarray, shape (n, ...)
        Rewards on [0, 1]. Each entry of the further axes is a run of its own, with the same compute.
    B, x_mid : ndarray, shapes (b,) and (m,)
        Efficiencies (positive, no unit) and midpoints (in ``ln C``) of the grid, which has ``cells = b * m``.
    R0 : float or None
        Start on [0, 1]. With None it is fitted, and kept between .01 and .99.
    weight : ndarray, shape (n,), optional
        Weights of the evaluations. [default: 1]
    least_gain : float, default 0.02
        Smallest headroom ``(A - R0) / (1 - R0)``; the largest is one minus it.
    A_step : float, optional
        Round ``A`` to a multiple of this. The sum of squares is a parabola in ``A``, so the rounded value is the best
        one on a grid of ceilings. [default: no rounding]

    Returns
    -------
    GridCurves
        Curves, with those of one efficiency and midpoint in one cell.
    """
    weight = np.ones(len(x)) if weight is None else weight
    B, x_mid = (g.ravel() for g in np.meshgrid(B, x_mid))
    share = expit(B[:, None] * (x - x_mid[:, None]))

    def per_cell(values: np.ndarray) -> np.ndarray:
        """Append axes of length 1, so that a number of each cell broadcasts over the runs."""
        return values.reshape(values.shape + (1,) * (reward.ndim - 1))

    total, linear = share @ weight, share**2 @ weight
    weighted = (weight * reward.T).T
    product = share @ weighted
    if R0 is None:
        # The reward is linear in the share, and R0 is the intercept.
        mean_share, mean_reward = total / weight.sum(), weighted.sum(axis=0) / weight.sum()
        spread = linear - weight.sum() * mean_share**2
        slope = (product - per_cell(total) * mean_reward) / per_cell(np.maximum(spread, 1e-12))
        foot = np.clip(mean_reward - slope * per_cell(mean_share), 0.01, 0.99)
    else:
        foot = np.full(product.shape, R0)
    gain = (product - foot * per_cell(total)) / per_cell(linear)
    if A_step is not None:
        gain = np.round((foot + gain) / A_step) * A_step - foot
    gain = np.clip(gain, least_gain * (1.0 - foot), (1.0 - least_gain) * (1.0 - foot))
    # Sum of (y - foot - gain * share)^2, multiplied out so that no array has an axis for evaluations and cells.
    squares = (
        (weighted * reward).sum(axis=0)
        - 2.0 * foot * weighted.sum(axis=0)
        + foot**2 * weight.sum()
        - 2.0 * gain * (product - foot * per_cell(total))
        + gain**2 * per_cell(linear)
    )
    return GridCurves(B, x_mid, foot, gain, np.maximum(squares, 0.0))
