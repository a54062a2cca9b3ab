"""Posterior checks behind the verdict: rise, falls, form, share of the rise reached, agreement with siblings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import erfc, ndtr

from rlceiling.curves.sigmoid import sigmoid_share
from rlceiling.models.run_data import RESOLUTION, last_stage
from rlceiling.posterior.regression_checks import regress
from rlceiling.posterior.second_rise import second_rise
from rlceiling.runs.table import FEWEST

if TYPE_CHECKING:
    from rlceiling.models.paths import Paths
    from rlceiling.models.recipe_data import RecipeData, Start
    from rlceiling.models.run_data import RunData

CHECKED_DRAWS = 1000
"""Number of draws that the checks use; they estimate probabilities near 0.9 with a standard error of about 0.01."""

REGRESSED_DRAWS = 200
"""Number of draws whose noise the regressions use; they are averages and medians, which need fewer."""

SPREAD_GRID = np.geomspace(1e-3, 3.0, 80)
"""Between-run standard deviations over which the comparison with siblings is averaged."""


@dataclass(frozen=True)
class Checks:
    """Posterior checks of one run of a fit, or of its last stage; rewards on [0, 1], compute in the user's unit.

    If the run has stages, all fields belong to the last: its evaluations, the rise from the level at its beginning, and
    the midpoint counted from there. The other computes count from the beginning of the run.

    Attributes
    ----------
    constant : bool
        Whether all evaluations of the run after step 0 are equal.
    rise : float
        Posterior median of the rise: the curve at the largest compute minus the start (minus the curve at the
        first evaluation if no start was logged).
    rise_se : float
        Median standard error of the rise (see `rlceiling.posterior.regression_checks.regress`).
    p_rise : float
        Posterior probability of a rise, given the shape of the curve and the noise: ``Phi(z)``, averaged over the
        posterior draws, where ``z`` is the rise by generalised least squares divided by its standard error.
    noise_sd : float
        Posterior median of the standard deviation of one evaluation around the curve.
    evaluations : int
        Number of evaluations of the run after step 0 (of bins, if they were averaged).
    bad_computes : tuple of float
        Compute of each evaluation that is bad with posterior probability above one half. They are set aside: they have
        little weight in the posterior and none in the other checks, except in `last_fall`.
    bad_sd : float
        Median one-step-ahead error of the one that lies furthest off, in standard deviations; 0 if there is none.
    decline : float
        Posterior median of ``(highest - last) / (highest - start)`` of the path (curve plus autocorrelated noise).
    p_decline : float
        Posterior probability that this is larger than `VerdictRules.max_decline`, and that the path has fallen by more
        than `VerdictRules.min_fall` of its standard deviations.
    p_shared_decline : float
        Posterior probability that the median over the runs of the recipe of these declines is larger than
        `VerdictRules.max_decline`, and the median fall as clear. With one run it equals `p_decline`.
    last_fall : float
        Fall from the highest mean of two neighbouring evaluations to the mean of the last two, in robust standard
        deviations of one evaluation (from the median absolute difference of neighbours). A sudden fall at the end
        widens the noise of the model, and with it the standard deviation of the path.
    last_share : float
        That fall as a share of the gain until then.
    best_compute : float
        Compute at which the path is highest.
    start, level : float
        Posterior medians of the start and of the path at the largest compute.
    p_below : float
        Posterior probability that the path has fallen below its start by more than `VerdictRules.min_fall` of its
        standard deviations.
    wander : float
        Posterior median of the range of the autocorrelated noise divided by the rise: the part of the path that the
        sigmoid does not explain.
    p_wander : float
        Posterior probability that this is larger than `VerdictRules.max_wander`, and that the range is larger than
        `VerdictRules.min_wander` times the largest standard deviation of the path.
    second_rise : float
        Evidence for two rises against one (see `rlceiling.posterior.second_rise.second_rise`), 0 or more.
    second_rise_compute : float
        Compute at which the curve is flattest between the two rises; nan if there is no evidence for two.
    reached : float
        Posterior median of the share of the final rise that the curve has reached at the largest compute,
        ``(R(C_max) - R0) / (A - R0)``.
    p_reach : float
        Posterior probability that this share is at least `VerdictRules.min_reached`.
    width : float
        Width of the 90% credible interval of the recipe's ceiling divided by the rise so far.
    ceiling_log_ratio : float
        Posterior median of the log likelihood of the sigmoid minus that of the best growth without a ceiling.
    C_mid : float
        Posterior median of the midpoint.
    first_compute, largest_compute : float
        Compute of the first and of the last evaluation.
    """

    constant: bool
    rise: float
    rise_se: float
    p_rise: float
    noise_sd: float
    evaluations: int
    bad_computes: tuple[float, ...]
    bad_sd: float
    decline: float
    p_decline: float
    p_shared_decline: float
    last_fall: float
    last_share: float
    best_compute: float
    start: float
    level: float
    p_below: float
    wander: float
    p_wander: float
    second_rise: float
    second_rise_compute: float
    reached: float
    p_reach: float
    width: float
    ceiling_log_ratio: float
    C_mid: float
    first_compute: float
    largest_compute: float


def check_runs(
    recipe: RecipeData,
    draws: Sequence[Mapping[str, np.ndarray]],
    ceiling: np.ndarray,
    *,
    max_decline: float,
    min_fall: float,
    max_wander: float,
    min_wander: float,
    min_reached: float,
) -> list[Checks]:
    """Compute the posterior checks of each run of a recipe.

    Parameters
    ----------
    recipe : RecipeData
        The recipe.
    draws : sequence of mapping of name to ndarray, shape (chains, draws)
        Posterior draws for each run, rewards on [0, 1]; A, B and C_mid belong to the run, the others to the recipe.
    ceiling : ndarray
        Posterior draws of the ceiling of the recipe, on [0, 1].
    max_decline, min_fall, max_wander, min_wander, min_reached : float
        As in `VerdictRules`.
    """
    lower, upper = np.quantile(ceiling, [0.05, 0.95])
    thresholds = {"max_wander": max_wander, "min_wander": min_wander, "min_reached": min_reached}
    found, falls = zip(*(_check(recipe, place, own, **thresholds) for place, own in enumerate(draws)), strict=True)
    shares, clarity = np.array([fall.share for fall in falls]), np.array([fall.clarity for fall in falls])
    p_decline = np.mean((shares > max_decline) & (clarity > min_fall), axis=1)
    p_below = np.mean([fall.below > min_fall for fall in falls], axis=1)
    shared = np.mean((np.median(shares, axis=0) > max_decline) & (np.median(clarity, axis=0) > min_fall))
    return [
        replace(
            checks,
            p_decline=float(declines),
            p_below=float(below),
            p_shared_decline=float(shared),
            width=float((upper - lower) / max(checks.rise, checks.rise_se)),
        )
        for checks, declines, below in zip(found, p_decline, p_below, strict=True)
    ]


class _Fall(NamedTuple):
    """Fall of the path of one run, arrays of shape (draws,)."""

    share: np.ndarray
    """Fall from the highest point to the last as a share of the gain until the highest point."""
    clarity: np.ndarray
    """That fall in standard deviations of the path."""
    below: np.ndarray
    """Fall from the start to the last point in standard deviations of the path."""


def _check(
    recipe: RecipeData,
    place: int,
    draws: Mapping[str, np.ndarray],
    *,
    max_wander: float,
    min_wander: float,
    min_reached: float,
) -> tuple[Checks, _Fall]:
    # A saved posterior holds its checks, so that questions to it need neither JAX nor ArviZ.
    from rlceiling.models.paths import paths_of_last_stage

    flat = {name: values.reshape(-1) for name, values in draws.items()}
    few = thinned(flat, CHECKED_DRAWS)
    run, begin = last_stage(recipe.run(place)), float(recipe.begins[-1])
    paths = paths_of_last_stage(recipe, place, few)
    compute = np.exp(np.asarray(run.clock)[np.asarray(run.observed)] + recipe.log_origin)
    start = start_of_last_stage(recipe, flat)
    bad = paths.p_bad.mean(axis=0) > 0.5
    fewer = thinned(flat, REGRESSED_DRAWS)
    sound = set_aside(run, bad)
    regressions = regress(sound, start, np.log(fewer["C_mid"]) - recipe.log_origin, fewer)

    logged = start is not None
    foot = few["R0"] if logged else paths.curve[:, 0]
    rise = paths.curve[:, -1] - foot
    noise = np.sqrt(few["sigma"] ** 2 + np.median(run.eval_var))
    errors = np.median(paths.innovation, axis=0)[bad]

    path, path_var = paths.curve + paths.wander, np.maximum(paths.wander_var, 0.0)
    highest = path.argmax(axis=1)
    best = path.max(axis=1)
    end_var = path_var[:, -1] + RESOLUTION**2
    fall_sd = np.sqrt(path_var[np.arange(len(path)), highest] + end_var)
    origin = few["R0"] if logged else path[:, 0]
    origin_var = 0.0 if logged else path_var[:, 0]
    fall = _Fall(
        share=(best - path[:, -1]) / np.maximum(best - foot, noise),
        clarity=(best - path[:, -1]) / fall_sd,
        below=(origin - path[:, -1]) / np.sqrt(end_var + origin_var),
    )
    extent = np.ptp(paths.wander, axis=1)
    wander = extent / np.maximum(rise, noise)
    clear = extent > min_wander * np.sqrt(path_var.max(axis=1) + RESOLUTION**2)
    last = float(compute[-1])
    reached = sigmoid_share(last - begin, flat["B"], flat["C_mid"], flat["tail"])
    rewards = np.asarray(run.reward)[np.asarray(run.observed)]
    rises = second_rise(sound, start)
    last_fall, last_share = _last_fall(rewards, bad, float(np.median(foot)) if logged else float(rewards[0]))
    checks = Checks(
        constant=is_constant(rewards),
        rise=float(np.median(rise)),
        rise_se=float(np.median(regressions.rise_se)),
        p_rise=float(np.mean(ndtr(regressions.rise_z))),
        noise_sd=float(np.median(noise)),
        evaluations=len(compute),
        bad_computes=tuple(compute[bad].tolist()),
        bad_sd=float(errors[np.argmax(np.abs(errors))]) if bad.any() else 0.0,
        decline=float(np.median(fall.share)),
        p_decline=np.nan,
        p_shared_decline=np.nan,
        last_fall=last_fall,
        last_share=last_share,
        best_compute=float(compute[int(np.argmax(np.median(path, axis=0)))]),
        start=float(np.median(origin)),
        level=float(np.median(path[:, -1])),
        p_below=np.nan,
        wander=float(np.median(wander)),
        p_wander=float(np.mean((wander > max_wander) & clear)),
        second_rise=rises.evidence,
        second_rise_compute=begin + float(np.exp(rises.x + recipe.log_origin)),
        reached=float(np.median(reached)),
        p_reach=float(np.mean(reached >= min_reached)),
        width=np.nan,
        ceiling_log_ratio=float(np.median(regressions.ceiling_log_ratio)),
        C_mid=float(np.median(flat["C_mid"])),
        first_compute=float(compute[0]),
        largest_compute=last,
    )
    return checks, fall


def start_of_last_stage(recipe: RecipeData, draws: Mapping[str, np.ndarray]) -> Start | None:
    """Step-0 evaluation, or after other stages the posterior of the level at the beginning of the last stage.

    `draws` holds R0 on [0, 1], the level at the beginning of the last stage.
    """
    if recipe.stages is None:
        return recipe.start
    from rlceiling.models.recipe_data import start_of

    return start_of(float(draws["R0"].mean()), float(draws["R0"].var()), 0.0)


def is_constant(reward: np.ndarray) -> bool:
    """Whether all rewards of a run after step 0 are equal."""
    return bool(len(reward) > 1 and np.ptp(reward) <= RESOLUTION)


def set_aside(run: RunData, bad: np.ndarray) -> RunData:
    """Arrays of a run without its bad evaluations, unless too few would be left to fit.

    `bad` has one entry for each observed evaluation.
    """
    if np.count_nonzero(~bad) < FEWEST:
        return run
    observed = np.asarray(run.observed).copy()
    observed[: len(bad)] &= ~bad
    return run._replace(observed=observed)


def _last_fall(reward: np.ndarray, bad: np.ndarray, start: float) -> tuple[float, float]:
    """`Checks.last_fall` and `Checks.last_share` of the rewards of a run.

    A bad evaluation is no height that the run has reached. At the end of a run it may be the beginning of a collapse.
    """
    sound = reward[~bad]
    if len(sound) < FEWEST:
        return 0.0, 0.0
    # For independent normal noise the median absolute difference of two evaluations is 0.954 standard deviations.
    sd = max(float(np.median(np.abs(np.diff(sound)))) / 0.954, RESOLUTION)
    highest = float((0.5 * (sound[1:] + sound[:-1])).max())
    fall = highest - float(reward[-2:].mean())
    return fall / sd, fall / max(highest - start, sd)


def thinned(draws: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Every k-th draw of flat arrays, so that about `number` remain."""
    step = max(1, len(next(iter(draws.values()))) // number)
    return {name: values[::step] for name, values in draws.items()}


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
    recipe : RecipeData
        The recipe.
    place : int
        Index of the run in the recipe.
    draws : mapping of name to ndarray, shape (chains, draws)
        Posterior draws of the run, as in `check_runs`.

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

    flat = {name: values.reshape(-1) for name, values in draws.items()}
    paths = paths_at_evaluations(recipe, place, thinned(flat, CHECKED_DRAWS))
    below = 0.5 * erfc(-paths.innovation / np.sqrt(2.0))
    log_weight, _ = array_stats.psislw(paths.log_prob, axis=0)  # psislw moves the draws to the last axis
    weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    return np.asarray((weight * below.T).sum(axis=-1) / weight.sum(axis=-1))


def sibling_p(values: np.ndarray, log_prior: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    r"""Two-sided tail probability of each run under the distribution of its siblings.

    The siblings ``j`` of run ``i`` are healthy, and so normal around an unknown mean with an unknown between-run spread
    ``tau``, which is inferred from the prior and the siblings, without run ``i``. Another healthy run of the recipe is
    then normal around the mean of the siblings with variance ``tau**2 (1 + 1 / (n - 1))``. The probability that it lies
    as far from that mean as run ``i`` does is averaged over ``tau`` and the posterior draws. The heavy tails of the
    model are left out here, because the question is whether the run is like the others.

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
