"""Regression checks of one run: whether it rises at all, and whether growth without a ceiling explains it as well.

Both compare curves by generalised least squares with the noise of each posterior draw. In NumPy, because a Kalman
filter over all draws at once takes a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rlceiling.curves.sigmoid import share_of_rise, steepness

if TYPE_CHECKING:
    from rlceiling.models.recipe_data import Start
    from rlceiling.models.run_data import RunData

KNEES = 24
"""Number of values of ``ln C_0``, at which growth without a ceiling changes from a straight line in C to its law. Where
they are far apart, a straight line in ln C with a knee between them seems to be told apart from itself."""

LEAD = 4.0
"""Distance, in ln C, of the smallest ``C_0`` from the first evaluation; the largest is the last evaluation."""

POWERS = (0.0, 0.25)
"""Exponents of growth without a ceiling: a straight line in ln C, and a power law."""


TINY = 1e-12
"""Lower bound of variances, far below any resolution; rounding may make them negative."""


class Regressions(NamedTuple):
    """Regressions of one run for each draw, arrays of shape (draws,)."""

    rise_z: np.ndarray
    """Estimated rise divided by its standard error, given the shape of the curve and the noise of the draw."""
    rise_se: np.ndarray
    """Standard error of the rise from the start, or from the first evaluation if no start was logged; on [0, 1]."""
    ceiling_log_ratio: np.ndarray
    """Log likelihood of the sigmoid of the draw minus that of the best growth without a ceiling."""


def whiten(
    columns: np.ndarray, clock: np.ndarray, ou_var: np.ndarray, length: np.ndarray, white_var: np.ndarray
) -> np.ndarray:
    """Whiten residuals of one run for many draws of the noise (see `rlceiling.models.noise.whiten`).

    Parameters
    ----------
    columns : ndarray, shape (draws, n, m)
        Columns of residuals, or of regressors.
    clock : ndarray, shape (n,)
        ``ln C``, ascending.
    ou_var, length : ndarray, shape (draws,)
        Variance and correlation length of the autocorrelated noise.
    white_var : ndarray, shape (draws, n)
        Variance of the white noise.

    Returns
    -------
    ndarray, shape (draws, n, m)
        Columns in which the noise is independent and standard normal.
    """
    whitened = np.empty_like(columns)
    mean, var = np.zeros((len(columns), columns.shape[2])), np.zeros(len(columns))
    for i in range(columns.shape[1]):
        decay = np.exp(-(clock[i] - clock[i - 1]) / length) if i else np.zeros(len(columns))
        mean = decay[:, None] * mean
        var = decay**2 * var + (1.0 - decay**2) * ou_var
        total = np.maximum(var + white_var[:, i], TINY)
        error = columns[:, i] - mean
        whitened[:, i] = error / np.sqrt(total)[:, None]
        gain = var / total
        mean, var = mean + gain[:, None] * error, var - gain * var
    return whitened


def growth_without_ceiling(x: np.ndarray) -> np.ndarray:
    r"""Shapes of growth without a ceiling: 0 at compute 0, and 1 at the last evaluation.

    .. math::
        g(C) \propto \ln(1 + C / C_0), \qquad g(C) \propto (1 + C / C_0)^p - 1

    Parameters
    ----------
    x : ndarray, shape (n,)
        ``ln C``, ascending.

    Returns
    -------
    ndarray, shape (n, shapes)
    """
    log_growth = np.logaddexp(0.0, x[:, None] - np.linspace(x[0] - LEAD, x[-1], KNEES))
    shapes = [log_growth if p == 0.0 else np.expm1(p * log_growth) for p in POWERS]
    return np.concatenate([shape / shape[-1] for shape in shapes], axis=1)


def regress(run: RunData, start: Start | None, x_mid: np.ndarray, draws: Mapping[str, np.ndarray]) -> Regressions:
    """Regress one run on a constant and a shape, for each draw.

    Parameters
    ----------
    run : RunData
        The run, or its last stage.
    start : Start or None
        The step-0 evaluation of its recipe, or what is known of the level at the beginning of the last stage.
    x_mid : ndarray, shape (draws,)
        ``ln C_mid`` on the scale of the inputs of the run.
    draws : mapping of name to ndarray, shape (draws,)
        A, B and R0 of the run, and sigma, share, length and tail; rewards on [0, 1].
    """
    whitened, sigmoid = _whitened(run, start, x_mid, draws)
    residual = ((whitened[..., 0] - whitened[..., -1]) ** 2).sum(axis=1)
    estimate, variance_of, squares = _with_constant(_products(whitened), slice(2, -1))
    slope, slope_se = estimate[:, -1], np.sqrt(variance_of[:, -1])
    rise = sigmoid[:, -1] - (sigmoid[:, 0] if start is None else 0.0)
    estimable = np.isfinite(slope_se)  # not where the shape is the same at all evaluations
    return Regressions(
        rise_z=np.where(estimable, slope, 0.0) / np.where(estimable, slope_se, 1.0),
        rise_se=np.where(estimable, rise * slope_se, 0.0),
        ceiling_log_ratio=0.5 * (squares[:, :-1].min(axis=1) - residual),
    )


def ceiling_log_ratio(
    run: RunData, start: Start | None, x_mid: np.ndarray, draws: Mapping[str, np.ndarray]
) -> np.ndarray:
    """`Regressions.ceiling_log_ratio` of a run without noise, whose rewards are the curve of each draw.

    Parameters
    ----------
    run, start, x_mid, draws
        As in `regress`; the rewards of the run are ignored.
    """
    whitened, _ = _whitened(run, start, x_mid, draws)
    products = _products(whitened[..., [-1, *range(1, whitened.shape[2] - 2)]])
    _, _, squares = _with_constant(products, slice(2, None))
    return 0.5 * squares.min(axis=1)


def _whitened(
    run: RunData, start: Start | None, x_mid: np.ndarray, draws: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Whitened columns for each draw, and the sigmoid at the evaluations.

    The columns are the reward, a constant, growth without a ceiling, the sigmoid between 0 and 1, and the curve.
    """
    seen = np.asarray(run.observed)
    clock, x, reward = (np.asarray(values)[seen] for values in (run.clock, run.inputs[:, -1], run.reward))
    variance = draws["sigma"] ** 2
    white = (1.0 - draws["share"]) * variance
    white_var = white[:, None] / np.asarray(run.count)[seen] + np.asarray(run.eval_var)[seen]
    b, tail = draws["B"] * steepness(draws["tail"]), draws["tail"][:, None]
    sigmoid = share_of_rise(b[:, None] * (x - x_mid[:, None]), tail)
    curve = draws["R0"][:, None] + (draws["A"] - draws["R0"])[:, None] * sigmoid
    shared = np.column_stack([reward, np.ones(len(x)), growth_without_ceiling(x)])
    columns = np.concatenate(
        [np.broadcast_to(shared, (len(white), *shared.shape)), sigmoid[..., None], curve[..., None]], axis=2
    )
    whitened = whiten(columns, clock, draws["share"] * variance, draws["length"], white_var)
    if start is None:
        return whitened, sigmoid
    # The step-0 evaluation is one more observation, where every shape is 0.
    sd = np.sqrt(start.var + start.white_weight * white)
    row = np.zeros((len(white), 1, columns.shape[2]))
    row[:, 0, 0], row[:, 0, 1], row[:, 0, -1] = start.reward / sd, 1.0 / sd, draws["R0"] / sd
    return np.concatenate([whitened, row], axis=1), sigmoid


def _products(columns: np.ndarray) -> np.ndarray:
    """Sums of products of columns, shape (draws, m, m)."""
    return np.asarray(np.swapaxes(columns, 1, 2) @ columns)


def _with_constant(gram: np.ndarray, regressors: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regressions on a constant and one column each: estimates, their variances and residual sums of squares.

    `gram` holds the products of the whitened columns, shape (draws, m, m); the first is the reward, the second the
    constant.
    """
    yy, y1, one = gram[:, 0, 0, None], gram[:, 0, 1, None], gram[:, 1, 1, None]
    y, cross, own = gram[:, 0, regressors], gram[:, 1, regressors], np.diagonal(gram, axis1=1, axis2=2)[:, regressors]
    determinant = np.maximum(one * own - cross**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate, variance = (one * y - cross * y1) / determinant, one / determinant
        explained = np.where(determinant > 0.0, (one * y - cross * y1) ** 2 / (one * determinant), 0.0)
    return estimate, variance, yy - y1**2 / one - explained
