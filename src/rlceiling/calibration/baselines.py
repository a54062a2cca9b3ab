"""Baseline forecasts in common use: least squares with two kinds of interval, and the last value carried forward.

Each baseline takes a truncated run and the compute of held-out evaluations, and returns a `Mixture` with one forecast
per held-out evaluation, rewards on [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from rlceiling.calibration.scores import Mixture
from rlceiling.curves.least_squares import GridCurves, grid_curves
from rlceiling.runs import Run

A_STEP = 0.005
"""Step of the grid of ceilings, as in ScaleRL. Their grid ends at .80, which other runs exceed; this grid ends at 1."""

B_GRID = np.geomspace(0.3, 12.0, 60)
"""Grid of efficiencies. ScaleRL optimises B in each cell of its grid, which steps of 6% approximate closely."""

C_MID_GRID = np.geomspace(1.0 / 80.0, 5.0, 100)
"""Grid of midpoints divided by the largest compute, with the number of points and about the range of ScaleRL's grid."""

REPLICATES = 200
"""Number of bootstrap replicates, enough for 95% intervals."""

RIDGE = 1e-9
"""Added to the diagonal of a normal matrix that may be singular, so that undetermined parameters get wide intervals."""


class LeastSquares(NamedTuple):
    """Best curve of one run on the grid of ScaleRL; arrays over curves have shape (k,)."""

    R0: np.ndarray
    A: np.ndarray
    B: np.ndarray
    x_mid: np.ndarray

    def curve(self, x: np.ndarray) -> np.ndarray:
        """Rewards at ``x = ln C``, shape (k, m)."""
        share = expit(self.B[:, None] * (x - self.x_mid[:, None]))
        return np.asarray(self.R0[:, None] + (self.A - self.R0)[:, None] * share)


def least_squares(run: Run, reward: np.ndarray) -> LeastSquares:
    """Least squares on the grid of ScaleRL, with R0 fixed at the step-0 reward (fitted if none was logged).

    Parameters
    ----------
    run : Run
        Run that gives the compute of the evaluations and the step-0 evaluation.
    reward : ndarray, shape (n, k)
        Rewards of `k` data sets at the compute of the run.

    References
    ----------
    Khatri et al., "The Art of Scaling Reinforcement Learning Compute for LLMs", arXiv 2510.13786.
    """
    x = np.log(run.compute)
    grid: GridCurves = grid_curves(
        x,
        reward,
        B_GRID,
        x[-1] + np.log(C_MID_GRID),
        R0=None if run.start is None else run.start[0],
        least_gain=A_STEP,
        A_step=A_STEP,
    )
    best = grid.squares.argmin(axis=0)
    each = best, np.arange(reward.shape[1])
    R0 = grid.R0[each]
    return LeastSquares(R0, R0 + grid.gain[each], grid.B[best], grid.x_mid[best])


def covariance_forecast(run: Run, compute: np.ndarray, rng: np.random.Generator) -> Mixture:
    r"""Least squares with intervals from the covariance of the estimates.

    The residual variance is ``s^2 = SSE / (n - 3)``, the covariance of ``(A, ln B, ln C_mid)`` is
    ``s^2 (J'J)^{-1}`` with the Jacobian ``J`` of the curve, and a held-out evaluation has the variance
    ``g' cov g + s^2``, where ``g`` is the gradient of the curve there, as from ``scipy.optimize.curve_fit`` and the
    delta method.
    """
    x, later = np.log(run.compute), np.log(compute)
    best = least_squares(run, run.reward[:, None])
    noise_var = _noise_var(run.reward, best.curve(x)[0])
    jacobian = _jacobian(best, x)
    information = jacobian.T @ jacobian
    covariance = noise_var * np.linalg.inv(information + RIDGE * np.eye(3))
    slope = _jacobian(best, later)
    variance = np.einsum("ij,jk,ik->i", slope, covariance, slope) + noise_var
    return Mixture(best.curve(later), np.sqrt(variance)[None, :])


def bootstrap_forecast(run: Run, compute: np.ndarray, rng: np.random.Generator) -> Mixture:
    """Residual bootstrap: least squares refitted to the curve plus resampled residuals.

    The variance of a held-out evaluation adds the residual variance.
    """
    x = np.log(run.compute)
    curve = least_squares(run, run.reward[:, None]).curve(x)[0]
    sd = np.sqrt(_noise_var(run.reward, curve))
    residual = run.reward - curve
    # Residuals of a fit are smaller than the noise, so they are rescaled to the noise standard deviation.
    residual = (residual - residual.mean()) * sd / max(float(residual.std()), 1e-12)
    replicas = curve[:, None] + rng.choice(residual, (len(x), REPLICATES))
    mean = least_squares(run, replicas).curve(np.log(compute))
    return Mixture(mean, np.full_like(mean, sd))


def last_value_forecast(run: Run, compute: np.ndarray, rng: np.random.Generator) -> Mixture:
    """Last value carried forward, with the root mean square of the differences of neighbouring evaluations as error.

    The difference of two evaluations contains the noise of both, as the error of this forecast does on a flat run.
    """
    sd = max(float(np.sqrt(np.mean(np.diff(run.reward) ** 2))), A_STEP / 10.0)
    return Mixture(np.full((1, len(compute)), run.reward[-1]), np.full((1, len(compute)), sd))


BASELINES: Mapping[str, Callable[[Run, np.ndarray, np.random.Generator], Mixture]] = MappingProxyType(
    {
        "least squares": covariance_forecast,
        "bootstrap": bootstrap_forecast,
        "last value": last_value_forecast,
    }
)
"""Name of the method in tables -> forecast function."""


def _noise_var(reward: np.ndarray, curve: np.ndarray) -> float:
    """Residual variance with three fitted parameters, at least (0.001 of the range of the reward) squared."""
    return max(float(np.sum((reward - curve) ** 2)) / max(len(reward) - 3, 1), 1e-6)


def _jacobian(fitted: LeastSquares, x: np.ndarray) -> np.ndarray:
    """Jacobian of one curve with respect to A, ln B and ln C_mid, shape (m, 3)."""
    R0, A, B, x_mid = (float(v[0]) for v in fitted)
    share = expit(B * (x - x_mid))
    steep = (A - R0) * share * (1.0 - share) * B
    return np.stack([share, steep * (x - x_mid), -steep], axis=1)
