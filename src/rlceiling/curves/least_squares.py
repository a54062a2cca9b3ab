"""Least squares of the sigmoid on a grid of efficiencies and midpoints.

Given ``B`` and ``C_mid`` the sigmoid is a line in ``A`` and ``R0``, so a grid of those two finds the best curve of
any run: it cannot be trapped in a side mode and needs no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit


class GridCurves(NamedTuple):
    """Best curve for each pair of efficiency and midpoint; shape (cells,), those with a star (cells, ...)."""

    B: np.ndarray
    """Efficiency."""
    x_mid: np.ndarray
    """Midpoint in ln C."""
    R0: np.ndarray
    """Start*."""
    gain: np.ndarray
    """``A - R0``*."""
    squares: np.ndarray
    """Weighted sum of squared residuals*."""


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

    Parameters
    ----------
    x : ndarray, shape (n,)
        ``ln C`` of the evaluations.
    reward : ndarray, shape (n, ...)
        Rewards on [0, 1]; further axes are other rewards at the same compute.
    B, x_mid : ndarray, shapes (b,) and (m,)
        Values of the grid, ``cells = b * m``.
    R0 : float or None
        Start. None: the foot of the line, within .01 of the bounds.
    weight : ndarray, shape (n,), optional
        Weights of the evaluations; default 1.
    least_gain : float, default 0.02
        Smallest headroom; the largest is one minus it.
    A_step : float, optional
        Round ``A`` to a multiple of this. The squares are a parabola in it, so that is the best one on a grid of
        ceilings. Default: no rounding.

    Returns
    -------
    GridCurves
    """
    weight = np.ones(len(x)) if weight is None else weight
    B, x_mid = (g.ravel() for g in np.meshgrid(B, x_mid))
    share = expit(B[:, None] * (x - x_mid[:, None]))

    def per_cell(values: np.ndarray) -> np.ndarray:
        """Shape of a cell's number that goes with each of the other rewards."""
        return values.reshape(values.shape + (1,) * (reward.ndim - 1))

    total, linear = share @ weight, share**2 @ weight
    weighted = (weight * reward.T).T
    product = share @ weighted
    if R0 is None:
        # Reward is a line in the share: its foot is R0.
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
