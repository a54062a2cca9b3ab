"""Estimates of the curve of each run on its own, for recipes whose runs have all risen and levelled off.

A run that rises between two evaluations determines its midpoint and its efficiency only within limits, which a
linearised model takes for errors that are far too small or too large. The moments of its posterior are therefore
integrated over a grid, with bad evaluations, whose absence may decide between a steep curve and a slower one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from rlceiling.curves.sigmoid import share_of_rise, steepness
from rlceiling.models.noise import BAD_SCALE
from rlceiling.models.run_data import RunData, lane

CELLS = 13
"""Number of grid points of each of the three parameters of a curve."""

GRIDS = 4
"""Number of grids, each over the region that holds the mass of the one before. They stay coarse where that region has
several modes, which widens the estimates; finer grids find one mode too narrow for all."""

NEGLIGIBLE = 1e-5
"""Weight, relative to the largest, of cells that the next grid leaves out."""

USUAL = np.array([0.0, 0.0, 0.5])
BROAD = np.array([3.0, 2.0, 1.2])
"""Means and standard deviations of a broad normal prior of logit of headroom, ln C_mid and ln B. What it contributes is
subtracted again."""

SIGMAS = np.array([0.002, 0.004, 0.008, 0.016, 0.032, 0.064])
LOG_WEIGHTS = np.log(SIGMAS) - 0.5 * (SIGMAS / 0.02) ** 2
"""Standard deviations of the noise over which is summed, and their weights under the default prior."""

BAD_SHARE = 0.01
"""Probability of a bad evaluation."""

LN_TAILS = (-1.0, 0.7)
"""Logarithms of tails between which the derivatives are differences; they span most of the default prior."""

MOST_SD = np.array([0.4, 0.8])
"""Largest standard deviations of ln C_mid and ln B of a reference that has risen and levelled off."""

MOST_SD_OF_OTHERS = np.array([1.0, 1.0])
"""The same for the other runs, of which some may have risen before their first evaluation."""

FLAT = 0.25
"""Largest distance from the ceiling, in multiples of the noise, of a curve that has levelled off."""

FEWEST = 4
"""Smallest number of evaluations of a run that can show a whole curve."""

LEAST_PRECISION = 1e-3
"""Lower bound of the eigenvalues of a precision, which rounding could make negative."""


class RunCurves(NamedTuple):
    """Normal approximations of the likelihoods of the runs, by lane.

    The parameters are the logit of headroom, ln C_mid and ln B, in this order.
    """

    mean: Any
    """Means at a tail of 1, shape (lanes, 3)."""
    by_tail: Any
    """Derivatives of the means with respect to the logarithm of the tail, shape (lanes, 3)."""
    precision: Any
    """Precision at the noise `sigma`, shape (lanes, 3, 3)."""
    sd: Any
    """Posterior standard deviations, shape (lanes, 3)."""
    sigma: Any
    """Standard deviation of the noise, without the evaluation error, shape (lanes,)."""
    eval_var: Any
    """Mean variance of the evaluation error, shape (lanes,)."""
    place: Any
    """ln C at which ``b (place - ln C_mid)`` has the smallest standard deviation, shape (lanes,). An evaluation
    in the rise determines the curve there whatever B, so that the midpoint is a curved function of B."""
    rise: Any
    """Mean and standard deviation of ``b (place - ln C_mid)``, shape (lanes, 2)."""
    R0: Any
    """Start for which they hold."""


class RunMoments(NamedTuple):
    """Posterior moments of one run at one tail."""

    mean: np.ndarray
    """Of logit of headroom, ln C_mid and ln B."""
    covariance: np.ndarray
    sigma: float
    """Geometric mean of the noise."""
    place: float
    rise: np.ndarray
    """Place and rise as in `RunCurves`."""


def run_moments(run: RunData, R0: float, tail: float) -> RunMoments:
    """Posterior moments of the curve of one run at a given start and tail, with independent noise.

    Parameters
    ----------
    run : RunData
        Arrays of one run.
    R0, tail : float
        Start, a reward on [0, 1], and tail.
    """
    seen = np.asarray(run.observed)
    x, reward = run.inputs[seen, 0], run.reward[seen]
    variance = SIGMAS[:, None] ** 2 / run.count[seen] + run.eval_var[seen]
    height, scale = 1.0 / np.sqrt(2.0 * np.pi * variance), BAD_SCALE * np.sqrt(variance)

    def posterior(grid: np.ndarray) -> np.ndarray:
        """Weights of the points of a grid and of the noise, shape (points, sigmas)."""
        rise = share_of_rise(np.exp(grid[:, 2:]) * steepness(tail) * (x - grid[:, 1:2]), tail)
        squares = ((reward - R0 - (1.0 - R0) * expit(grid[:, :1]) * rise) ** 2)[:, None]
        sound, bad = height * np.exp(-0.5 * squares / variance), 1.0 / (np.pi * scale * (1.0 + squares / scale**2))
        log_weight = np.log((1.0 - BAD_SHARE) * sound + BAD_SHARE * bad).sum(axis=-1) + LOG_WEIGHTS
        log_weight -= 0.5 * (((grid - USUAL) / BROAD) ** 2).sum(axis=1)[:, None]
        weight = np.exp(log_weight - log_weight.max())
        return weight / weight.sum()

    low, high = np.array([-5.0, x[0] - 1.0, np.log(0.3)]), np.array([8.0, x[-1] + 1.0, np.log(150.0)])
    for _ in range(GRIDS):
        axes = [np.linspace(a, b, CELLS) for a, b in zip(low, high, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        weight = posterior(grid)
        heavy = grid[weight.sum(axis=1) > NEGLIGIBLE * weight.sum(axis=1).max()]
        step = (high - low) / (CELLS - 1)
        low, high = heavy.min(axis=0) - step, heavy.max(axis=0) + step
    of_cell = weight.sum(axis=1)
    b = np.exp(grid[:, 2]) * steepness(tail)
    # Var(b (place - ln C_mid)) is a parabola in the place.
    off = b - of_cell @ b
    place = float(np.clip(of_cell @ (off * b * grid[:, 1]) / (of_cell @ off**2), x[0], x[-1]))
    rise = b * (place - grid[:, 1])
    middle = of_cell @ rise
    moments = np.array([middle, np.sqrt(of_cell @ (rise - middle) ** 2)])
    mean = of_cell @ grid
    off = grid - mean
    # The mass between two points of a grid has at least the variance that is added.
    covariance = (of_cell[:, None] * off).T @ off + np.diag(step**2 / 12.0)
    return RunMoments(mean, covariance, float(np.exp((weight @ np.log(SIGMAS)).sum())), place, moments)


def complete_curves(runs: RunData, start: float | None, x_high: float) -> RunCurves | None:
    """Estimates of the curves of all runs, or None unless each shows its whole rise.

    Parameters
    ----------
    runs : RunData
        Arrays of the runs, the reference in the first lane.
    start : float or None
        Reward of the step-0 evaluation.
    x_high : float
        Upper anchor, by which the reference must have levelled off.

    Returns
    -------
    RunCurves or None
        Lanes without a run repeat the first.
    """
    lanes = np.flatnonzero(runs.observed.any(axis=1))
    if runs.observed[lanes].sum(axis=1).min() < FEWEST:
        return None
    R0 = float(np.clip(runs.reward[lanes, 0].min() if start is None else start, 1e-3, 1.0))
    if R0 > 1.0 - 1e-3:
        return None
    found: list[RunMoments] = []
    for place in lanes:
        found.append(run_moments(lane(runs, place), R0, 1.0))
        if place == lanes[0] and _above(found[0].mean, R0, x_high) > FLAT * _noise(runs, found[0]):
            return None
        most = MOST_SD if place == lanes[0] else MOST_SD_OF_OTHERS
        if (np.sqrt(np.diag(found[-1].covariance)[1:]) > most).any():
            return None
    low, high = ([run_moments(lane(runs, place), R0, float(np.exp(t))).mean for place in lanes] for t in LN_TAILS)
    # Lanes beyond the number of runs.
    index = np.where(np.arange(len(runs.reward)) < len(lanes), np.arange(len(runs.reward)), 0)
    covariance = np.stack([one.covariance for one in found])
    values, vectors = np.linalg.eigh(np.linalg.inv(covariance) - np.diag(BROAD**-2))
    precision = np.einsum("rij,rj,rkj->rik", vectors, np.maximum(values, LEAST_PRECISION), vectors)
    by_lane = RunCurves(
        mean=np.stack([one.mean for one in found]),
        by_tail=(np.stack(high) - np.stack(low)) / (LN_TAILS[-1] - LN_TAILS[0]),
        precision=precision,
        sd=np.sqrt(np.einsum("rii->ri", covariance)),
        sigma=np.array([one.sigma for one in found]),
        eval_var=np.array([runs.eval_var[place, runs.observed[place]].mean() for place in lanes]),
        place=np.array([one.place for one in found]),
        rise=np.stack([one.rise for one in found]),
        R0=np.full(len(lanes), R0),
    )
    return RunCurves(*(array[index] for array in by_lane))._replace(R0=np.float64(R0))


def _above(mean: np.ndarray, R0: float, x: float) -> float:
    """Distance between the ceiling and the curve at `x`, at a tail of 1."""
    logit_headroom, x_mid, log_B = mean
    return float((1.0 - R0) * expit(logit_headroom) * expit(-np.exp(log_B) * (x - x_mid)))


def _noise(runs: RunData, reference: RunMoments) -> float:
    """Standard deviation of an evaluation of the reference."""
    return float(np.sqrt(reference.sigma**2 + runs.eval_var[0, runs.observed[0]].mean()))
