"""Posterior checks behind the verdict: rise above noise, sigmoid shape, inflection reached, agreement with siblings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import erfc

if TYPE_CHECKING:
    from rlceiling.models.paths import Paths
    from rlceiling.models.recipe_data import RecipeData

CHECKED_DRAWS = 1000
"""Number of draws that the checks use; they estimate probabilities near 0.9 with a standard error of about 0.01."""


SPREAD_GRID = np.geomspace(1e-3, 3.0, 80)
"""Between-run standard deviations over which the comparison with siblings is averaged."""


@dataclass(frozen=True)
class Checks:
    """Posterior checks of one run of a fit; rewards on [0, 1], compute in the user's unit.

    Attributes
    ----------
    rise : float
        Posterior median of the rise: the curve at the largest compute minus the start (minus the curve at the
        first evaluation if no start was logged).
    noise_sd : float
        Posterior median of the standard deviation of one evaluation around the curve.
    p_rise : float
        Posterior probability that the rise is larger than that noise.
    outlier_p : float
        Posterior predictive p-value of the largest absolute one-step-ahead error.
    outlier_compute, outlier_sd : float
        Compute of that evaluation, and its error in standard deviations.
    decline : float
        Posterior median of ``(highest - last) / (highest - start)`` of the path (curve plus autocorrelated noise).
    p_decline : float
        Posterior probability that this is larger than `VerdictRules.max_decline`.
    best_compute : float
        Compute at which the path is highest.
    wander : float
        Posterior median of the range of the autocorrelated noise divided by the rise: the part of the path that the
        sigmoid does not explain.
    p_wander : float
        Posterior probability that this is larger than `VerdictRules.max_wander`.
    p_reach : float
        Posterior probability that the largest compute is beyond `VerdictRules.min_reach` times C_mid.
    width_ratio : float
        Width of the 90% credible interval of the recipe's headroom divided by the width of its 90% prior interval.
    C_mid : float
        Posterior median of the midpoint.
    largest_compute : float
        Compute of the last evaluation.
    """

    rise: float
    noise_sd: float
    p_rise: float
    outlier_p: float
    outlier_compute: float
    outlier_sd: float
    decline: float
    p_decline: float
    best_compute: float
    wander: float
    p_wander: float
    p_reach: float
    width_ratio: float
    C_mid: float
    largest_compute: float


def check(
    recipe: RecipeData,
    place: int,
    draws: Mapping[str, np.ndarray],
    prior_headroom_width: float,
    *,
    max_decline: float,
    max_wander: float,
    min_reach: float,
) -> Checks:
    """Compute the posterior checks of one run.

    Parameters
    ----------
    recipe : RecipeData
        The recipe.
    place : int
        Index of the run in the recipe.
    draws : mapping of name to ndarray, shape (chains, draws)
        Posterior draws, rewards on [0, 1]; A, B and C_mid belong to the run, the others to the recipe.
    prior_headroom_width : float
        Width of the 90% prior interval of the headroom.
    max_decline, max_wander, min_reach : float
        As in `VerdictRules`.
    """
    # A saved posterior holds its checks, so that questions to it need neither JAX nor ArviZ.
    from rlceiling.models.paths import paths_at_evaluations

    flat = {name: values.reshape(-1) for name, values in draws.items()}
    step = max(1, len(flat["A"]) // CHECKED_DRAWS)
    few = {name: values[::step] for name, values in flat.items()}
    run = recipe.run(place)
    paths = paths_at_evaluations(recipe, place, few)
    compute = np.exp(run.inputs[: paths.curve.shape[1], 0] + recipe.log_origin)

    foot = few["R0"] if recipe.start is not None else paths.curve[:, 0]
    rise = paths.curve[:, -1] - foot
    noise = np.sqrt(few["sigma"] ** 2 + np.median(run.eval_var))

    outlier = largest_error(paths)

    path = paths.curve + paths.wander
    best = path.max(axis=1)
    gained = np.maximum(best - foot, noise)
    decline = (best - path[:, -1]) / gained
    wander = np.ptp(paths.wander, axis=1) / np.maximum(rise, noise)
    headroom = np.quantile(flat["headroom"], [0.05, 0.95])
    last = float(compute[-1])
    return Checks(
        rise=float(np.median(rise)),
        noise_sd=float(np.median(noise)),
        p_rise=float(np.mean(rise > noise)),
        outlier_p=outlier.p,
        outlier_compute=float(compute[outlier.place]),
        outlier_sd=outlier.sd,
        decline=float(np.median(decline)),
        p_decline=float(np.mean(decline > max_decline)),
        best_compute=float(compute[int(np.argmax(np.median(path, axis=0)))]),
        wander=float(np.median(wander)),
        p_wander=float(np.mean(wander > max_wander)),
        p_reach=float(np.mean(min_reach * flat["C_mid"] < last)),
        width_ratio=float((headroom[1] - headroom[0]) / prior_headroom_width),
        C_mid=float(np.median(flat["C_mid"])),
        largest_compute=last,
    )


class LargestError(NamedTuple):
    """The largest one-step-ahead prediction error of a run."""

    p: float
    """Posterior predictive p-value of its absolute value."""
    place: int
    """Index of the evaluation."""
    sd: float
    """Posterior median of its error, in standard deviations."""


def largest_error(paths: Paths) -> LargestError:
    """Posterior predictive check of the largest one-step-ahead error of a run."""
    # Under the model the errors are independent standard normals, so their maximum has a known distribution.
    size = np.abs(paths.innovation)
    place = int(np.argmax(np.median(size, axis=0)))
    p = float(np.mean(1.0 - (1.0 - _two_sided(size.max(axis=1))) ** size.shape[1]))
    return LargestError(p, place, float(np.median(paths.innovation[:, place])))


def evaluation_pits(recipe: RecipeData, place: int, draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """Leave-one-out probability integral transform (PIT) of each evaluation in its one-step-ahead prediction.

    The posterior is conditioned on the evaluation itself, which would make predictions look too good. Draws are
    therefore weighted by Pareto-smoothed importance sampling so that the evaluation's own factor of the likelihood is
    left out. The PIT values are uniform on (0, 1) if the model is right.

    Parameters
    ----------
    recipe, place, draws
        As in `check`.

    Returns
    -------
    ndarray, shape (n,)
        PIT of each evaluation, or bin, of the run.

    References
    ----------
    Vehtari, Gelman, Gabry, "Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC",
    Statistics and Computing 2017, doi 10.1007/s11222-016-9696-4.
    """
    from arviz_stats.base import array_stats

    from rlceiling.models.paths import paths_at_evaluations

    step = max(1, draws["A"].size // CHECKED_DRAWS)
    paths = paths_at_evaluations(recipe, place, {name: values.reshape(-1)[::step] for name, values in draws.items()})
    below = 0.5 * erfc(-paths.innovation / np.sqrt(2.0))
    log_weight, _ = array_stats.psislw(paths.log_prob, axis=0)  # psislw moves the draws to the last axis
    weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    return np.asarray((weight * below.T).sum(axis=-1) / weight.sum(axis=-1))


def sibling_p(values: np.ndarray, log_prior: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    r"""Two-sided tail probability of each run under the distribution of its siblings.

    The siblings ``j`` of run ``i`` are normal around an unknown mean with an unknown between-run standard deviation
    ``tau``, which is inferred from the prior and the siblings, without run ``i``. Another run of the recipe is then
    normal around the mean of the siblings with variance ``tau**2 (1 + 1 / (n - 1))``. The probability that it lies as
    far from that mean as run ``i`` does is averaged over ``tau`` and the posterior draws.

    Parameters
    ----------
    values : ndarray, shape (draws, n)
        Draws of the compared quantity, for at least three runs.
    log_prior : callable
        Log density of the prior of ``tau``.

    Returns
    -------
    ndarray, shape (n,)
        Tail probability of each run.
    """
    n = values.shape[1]
    tau = SPREAD_GRID[:, None]
    p = np.empty(n)
    for i in range(n):
        siblings = np.delete(values, i, axis=1)
        squares = ((siblings - siblings.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        log_weight = log_prior(tau) + (3 - n) * np.log(tau) - 0.5 * squares / tau**2  # 2 - n, plus 1 for the log grid
        weight = np.exp(log_weight - log_weight.max(axis=0))
        distance = np.abs(values[:, i] - siblings.mean(axis=1)) / (tau * np.sqrt(1.0 + 1.0 / (n - 1)))
        p[i] = np.mean((weight * _two_sided(distance)).sum(axis=0) / weight.sum(axis=0))
    return p


def _two_sided(z: np.ndarray) -> np.ndarray:
    """``P(|Z| > z)`` of a standard normal."""
    return np.asarray(erfc(z / np.sqrt(2.0)))
