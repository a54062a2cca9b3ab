"""Check for a second rise: two rises with a level stretch between them against one rise of any smooth form.

After a change of context length, curriculum or data a run may begin a new rise. The autocorrelated noise of the model
can absorb it, so the comparison does not use the posterior: it profiles the noise for one rise and for two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit

from rlceiling.posterior.regression_checks import growth_without_ceiling, whiten

if TYPE_CHECKING:
    from rlceiling.models.recipe_data import Start
    from rlceiling.models.run_data import RunData

NOISE_SHARE = np.array([0.0, 0.6, 0.6, 0.9, 0.9, 0.95])
"""Shares of autocorrelated noise over which both likelihoods are maximised, one for each entry of `NOISE_LENGTH`."""

NOISE_LENGTH = np.array([0.5, 0.25, 0.8, 0.25, 0.8, 2.0])
"""Correlation lengths in ln C."""

ONE_B = np.array([0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.5, 8.0])
"""Efficiencies of the single rises."""

PAIR_B = np.array([1.0, 2.0, 4.0, 8.0])
"""Efficiencies of the two rises; a slower rise cannot be told from growth without a ceiling."""

MIDPOINTS = 18
"""Number of midpoints in the range of the evaluations, for one of two rises."""

LEVEL = 0.5
"""Between two rises the slope against ln C must fall below this share of the slopes at both midpoints."""

PART = 0.15
"""Each of two rises must have gained at least this share of the rise of the run."""

ONE, TWO = 7, 10
"""Numbers of parameters: start, noise (variance, share, length), and gain, midpoint and efficiency of each rise."""


class SecondRise(NamedTuple):
    """Comparison of two rises with one."""

    evidence: float
    """Half of the difference in AICc, which is the log likelihood of the best two rises minus that of the best single
    rise, less the penalty for three more parameters; 0 if no two rises that are apart fit better."""
    x: float
    """``ln C`` at which the slope between the two rises is smallest, on the scale of the inputs of the run; nan if
    there are none."""


NONE = SecondRise(0.0, np.nan)


def second_rise(run: RunData, start: Start | None) -> SecondRise:
    r"""Compare two rises with one, by the likelihood maximised over the curve and the noise.

    Single rises are sigmoids, stretched exponentials and Gompertz curves in ln C, and growth without a ceiling; two
    rises are sums of two sigmoids. Start and gains follow by generalised least squares, and the noise by the largest
    likelihood over a grid of its share and correlation length. The corrected Akaike information criterion (AICc)
    accounts for the parameters of the second rise.

    .. math:: AIC_c = -2 \ln L + 2 k + \frac{2 k (k + 1)}{n - k - 1}

    Parameters
    ----------
    run : RunData
        The run, or its last stage.
    start : Start or None
        The step-0 evaluation of its recipe, or what is known of the level at the beginning of the last stage.

    References
    ----------
    Hurvich and Tsai, "Regression and time series model selection in small samples", Biometrika 1989,
    doi 10.1093/biomet/76.2.297.
    """
    seen = np.asarray(run.observed)
    x, clock, reward, count = (
        np.asarray(values)[seen] for values in (run.inputs[:, -1], run.clock, run.reward, run.count)
    )
    n = len(x) + (start is not None)
    if n <= TWO + 1:
        return NONE
    B, x_mid = (grid.ravel() for grid in np.meshgrid(PAIR_B, np.linspace(x[0] - 0.5, x[-1], MIDPOINTS)))
    pairs = expit(B * (x[:, None] - x_mid))
    columns = np.column_stack([reward, np.ones(len(x)), pairs, single_rises(x)])
    whitener, log_det = _whiteners(clock, count)
    whitened = whitener @ columns
    if start is not None:  # one more evaluation, where every rise is 0
        row = np.zeros((len(NOISE_SHARE), 1, columns.shape[1]))
        row[..., 0], row[..., 1] = start.reward, 1.0
        whitened = np.concatenate([whitened, row], axis=1)
    constant = whitened[..., 1:2]
    whitened = whitened - constant * ((constant * whitened).sum(1) / (constant**2).sum(1))[:, None]

    def log_likelihood(squares: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.asarray(-0.5 * n * np.log(np.maximum(squares, 1e-12)) - 0.5 * log_det[at])

    y, shapes = whitened[..., 0], whitened[..., 2:]
    score, power = (y[..., None] * shapes).sum(1), np.maximum((shapes**2).sum(1), 1e-9)
    total = (y**2).sum(1)
    one = log_likelihood(total - (np.maximum(score, 0.0) ** 2 / power).max(1), np.arange(len(total))).max()

    first, second = np.triu_indices(len(B), 1)
    swap = x_mid[first] > x_mid[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    gram = np.swapaxes(shapes[..., : len(B)], 1, 2) @ shapes[..., : len(B)]
    a, b, c = power[:, first], gram[:, first, second], power[:, second]
    determinant = a * c - b**2
    apart = determinant > 1e-6 * a * c
    determinant = np.where(apart, determinant, 1.0)
    gains = np.stack([c * score[:, first] - b * score[:, second], a * score[:, second] - b * score[:, first]])
    gains /= determinant
    squares = total[:, None] - gains[0] * score[:, first] - gains[1] * score[:, second]
    ratio = log_likelihood(squares, np.arange(len(total))[:, None]) - one
    evidence = ratio - _penalty(TWO, n) + _penalty(ONE, n)
    candidates = np.nonzero(apart & (gains > 0.0).all(0) & (evidence > 0.0))
    order = np.argsort(-evidence[candidates])
    noise, pair = candidates[0][order], candidates[1][order]
    if not len(pair):
        return NONE
    two = np.stack([first[pair], second[pair]])
    gain = gains[:, noise, pair]
    distinct, between = _apart(B[two], x_mid[two], gain, x[-1])
    if not distinct.any():
        return NONE
    best = int(np.argmax(distinct))
    return SecondRise(float(evidence[noise[best], pair[best]]), float(between[best]))


def _penalty(parameters: int, n: int) -> float:
    """Half of the penalty of AICc."""
    return parameters + parameters * (parameters + 1.0) / (n - parameters - 1.0)


def single_rises(x: np.ndarray) -> np.ndarray:
    """Shapes of single rises at ``ln C``, shape (n, shapes): sigmoid, stretched exponential, Gompertz, no ceiling."""
    B, x_mid = (grid.ravel() for grid in np.meshgrid(ONE_B, np.linspace(x[0] - 1.5, x[-1] + 1.0, 24)))
    z = B * (x[:, None] - x_mid)
    return np.concatenate([expit(z), -np.expm1(-np.exp(z)), np.exp(-np.exp(-z)), growth_without_ceiling(x)], axis=1)


def _whiteners(clock: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse Cholesky factor of the noise of variance 1 for each entry of the grid, and the log determinant."""
    identity = np.broadcast_to(np.eye(len(clock)), (len(NOISE_SHARE), len(clock), len(clock)))
    white_var = (1.0 - NOISE_SHARE)[:, None] / count
    whitener = whiten(identity, clock, NOISE_SHARE, NOISE_LENGTH, white_var)
    return whitener, -2.0 * np.log(np.diagonal(whitener, axis1=1, axis2=2)).sum(1)


def _apart(B: np.ndarray, x_mid: np.ndarray, gain: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether two rises are apart, and where the slope between them is smallest; arguments of shape (2, pairs)."""
    places = x_mid[:1] + (x_mid[1:] - x_mid[:1]) * np.linspace(0.0, 1.0, 9)[:, None]  # (places, pairs)
    rise = expit(B[:, None] * (places - x_mid[:, None]))
    slope = (gain[:, None] * B[:, None] * rise * (1.0 - rise)).sum(0)
    gained = gain * np.array([np.ones(gain.shape[1]), expit(B[1] * (last - x_mid[1]))])
    level = slope[1:-1].min(0) < LEVEL * np.minimum(slope[0], slope[-1])
    lowest = 1 + slope[1:-1].argmin(0)
    between = np.take_along_axis(places, lowest[None], axis=0)[0]
    return level & (gained > PART * gained.sum(0)).all(0), between
