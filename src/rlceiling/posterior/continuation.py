"""Chance that a ceiling is identified after a longer run, from simulated continuations of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy.special import expit

from rlceiling.curves.sigmoid import share_of_rise, steepness
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.run_data import last_stage, stage_inputs, usual_eval_var
from rlceiling.posterior.predictive_checks import start_of_last_stage, thinned
from rlceiling.posterior.regression_checks import ceiling_log_ratio

if TYPE_CHECKING:
    from rlceiling.models.recipe_data import RecipeData, Start
    from rlceiling.models.run_data import RunData
    from rlceiling.posterior.predictive_checks import Checks
    from rlceiling.posterior.verdicts import VerdictRules
    from rlceiling.settings import Settings


class Continued(Protocol):
    """Interface of a fit that can be continued."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def rules(self) -> VerdictRules: ...  # noqa: D102
    @property
    def settings(self) -> Settings: ...  # noqa: D102
    @property
    def data(self) -> RecipeData: ...  # noqa: D102
    @property
    def checks(self) -> Mapping[str, Checks]: ...  # noqa: D102
    @property
    def scaled_draws(self) -> Mapping[str, np.ndarray]: ...  # noqa: D102
    def scaled_draws_of(self, run: str) -> Mapping[str, np.ndarray]: ...  # noqa: D102
    def place(self, run: str) -> int: ...  # noqa: D102


MULTIPLES = (1.5, 2.0, 3.0, 5.0)
"""Multiples of the present compute at which the chance is computed."""

CANDIDATES = 800
"""Number of posterior draws that are weighted by a simulated continuation."""

SIMULATIONS = 60
"""Number of simulated continuations; their share has a standard error of at most 0.065."""

POINTS = 24
"""Largest number of simulated evaluations; where a run is evaluated more often, each stands for the mean of several."""

A_FRACTION = 1e-6
"""Smallest number of evaluations that a simulated one stands for."""

CEILING_ODDS = 3.0
"""Odds, before the data, that a run has a ceiling at all. With equal odds the chances stated for real runs were too low
(``benchmarks/calibration``)."""

TAILS = (0.05, 0.95)
"""Probabilities of the limits of the 90% credible interval."""


def chance_identified(fit: Continued, multiples: tuple[float, ...] = MULTIPLES) -> dict[float, float]:
    """Chance that the ceiling of a recipe is identified at multiples of its compute; see `continued`."""
    return {multiple: after.chance for multiple, after in continued(fit, multiples).items()}


class Afterwards(NamedTuple):
    """What will be known of a ceiling when a run has gone on."""

    chance: float
    """Chance that it is identified."""
    width: float
    """Mean width of its 90% credible interval, in units of the range of the reward."""


def continued(fit: Continued, multiples: tuple[float, ...] = MULTIPLES) -> dict[float, Afterwards]:
    """What will be known of the ceiling of a recipe when its furthest run has gone on to multiples of its compute.

    Posterior draws are taken as truths in turn, and the run is continued from where it stands, as often evaluated as
    before, with the noise of the draw. All draws are then weighted by their likelihood of the continuation (importance
    sampling), and the criteria of the share of the rise and of the width are applied to the weighted draws. The curve
    of the truth must also differ from growth without a ceiling by enough. The result is multiplied by the probability
    that there is a ceiling at all, ``sigmoid(ln CEILING_ODDS + log likelihood ratio)``.

    Parameters
    ----------
    fit : Fit
        Posterior of a recipe.
    multiples : tuple of float
        Multiples of the present compute, ascending.

    Returns
    -------
    dict of float to Afterwards
        By multiple.
    """
    rules, rng = fit.rules, np.random.default_rng(stream_key(fit.settings.seed, fit.name, "continuation"))
    ahead = _prepared(fit, multiples)
    truth = rng.choice(len(ahead.curve), SIMULATIONS)
    truths = {name: values[truth] for name, values in ahead.draws.items()}
    told_apart = {multiple: _told_apart(fit, ahead, truths, np.log(multiple)) for multiple in multiples}
    evidence = sum(c.ceiling_log_ratio for c in fit.checks.values() if rules.rises(c) and rules.is_sigmoid(c))
    has_ceiling = float(expit(np.log(CEILING_ODDS) + evidence))
    order = np.argsort(ahead.draws["ceiling"])
    ceiling = ahead.draws["ceiling"][order]
    found: dict[float, Afterwards] = {}
    for multiple, i, log_weight in _log_weights(ahead, multiples, truth, rng):
        weight = normalised(log_weight)
        p_reach = weight @ (ahead.share[:, i] >= rules.min_reached)
        gain = weight @ (ahead.curve[:, i] - ahead.foot)
        below = np.cumsum(weight[:, order], axis=1)
        lower, upper = (ceiling[(below < q).sum(axis=1).clip(max=len(order) - 1)] for q in TAILS)
        fixed = (p_reach >= rules.min_p_reach) & (upper - lower <= rules.max_width * gain)
        chance = has_ceiling * float(np.mean(fixed & told_apart[multiple]))
        found[multiple] = Afterwards(chance, float(np.mean(upper - lower)))
    return found


def simulated(fit: Continued, multiples: tuple[float, ...], truth: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Weights of posterior draws after simulated continuations of the furthest run of a recipe.

    Evaluations are as frequent as before, those between two multiples are averaged, and where less compute is added
    than an evaluation takes, it counts as a fraction of one, so that what is learned grows steadily with compute.

    Parameters
    ----------
    fit : Fit
        Posterior of a recipe.
    multiples : tuple of float
        Multiples of the present compute, ascending.
    truth : ndarray of int, shape (simulations,)
        Place of the draw that each continuation goes on from, among the draws that `thinned` leaves of `CANDIDATES`.
        This draw gets no weight itself: it stands for the truth, of which the other draws know nothing.

    Yields
    ------
    multiple : float
    weight : ndarray, shape (simulations, draws)
        Weights given the continuation up to there; each row adds up to one.
    """
    rng = np.random.default_rng(stream_key(fit.settings.seed, fit.name, "simulated"))
    for multiple, _, log_weight in _log_weights(_prepared(fit, multiples, fewest=A_FRACTION), multiples, truth, rng):
        without_truth = log_weight.copy()
        without_truth[np.arange(len(truth)), truth] = -np.inf
        yield multiple, normalised(without_truth)


def normalised(log_weight: np.ndarray) -> np.ndarray:
    """Weights that add up to one in each row."""
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def furthest_run(fit: Continued) -> str:
    """The run of a recipe that has most probably reached most of its rise, which is the one that goes on."""
    return max(fit.checks, key=lambda name: fit.checks[name].p_reach)


class _Ahead(NamedTuple):
    """The run that goes on, and what each of the weighted draws expects of it; arrays of shape (draws, evaluations)."""

    data: RunData
    start: Start | None
    inputs: Callable[[np.ndarray], np.ndarray]
    """Input of the last stage at places in ln C beyond the last evaluation."""
    draws: dict[str, np.ndarray]
    ahead: np.ndarray
    """Simulated evaluations, in ln C beyond the last one, shape (evaluations,)."""
    number: np.ndarray
    """Number of evaluations in each, shape (evaluations,)."""
    share: np.ndarray
    curve: np.ndarray
    foot: np.ndarray
    """Level at which the curve begins, shape (draws,)."""
    ou_var: np.ndarray
    white: np.ndarray
    decay: np.ndarray
    wander: np.ndarray
    """Mean of the autocorrelated noise at the last evaluation, shape (draws,), and its variance."""
    wander_var: np.ndarray


def _prepared(fit: Continued, multiples: tuple[float, ...], fewest: float = 1.0) -> _Ahead:
    from rlceiling.models.paths import paths_of_last_stage

    run = furthest_run(fit)
    place = fit.place(run)
    flat = {name: values.reshape(-1) for name, values in fit.scaled_draws_of(run).items()}
    draws = thinned(flat | {"ceiling": fit.scaled_draws["A"].reshape(-1)}, CANDIDATES)
    data = last_stage(fit.data.run(place))
    paths = paths_of_last_stage(fit.data, place, draws)
    start = start_of_last_stage(fit.data, draws)
    seen = np.asarray(data.observed)
    x = np.asarray(data.clock)[seen]
    ahead, count = _evaluations_ahead(np.exp(x - x[-1]), np.asarray(data.count)[seen], multiples, fewest)
    x_mid = np.log(draws["C_mid"]) - fit.data.log_origin
    b = draws["B"] * steepness(draws["tail"])

    def inputs(ahead: np.ndarray) -> np.ndarray:
        return stage_inputs(x[-1] + ahead, fit.data.log_begins)[:, -1]

    share = np.asarray(share_of_rise(b[:, None] * (inputs(ahead) - x_mid[:, None]), draws["tail"][:, None]))
    variance = draws["sigma"] ** 2
    ou_var, white_var = draws["share"] * variance, (1.0 - draws["share"]) * variance
    return _Ahead(
        data=data,
        start=start,
        inputs=inputs,
        draws=draws,
        ahead=ahead,
        number=count,
        share=share,
        curve=draws["R0"][:, None] + (draws["A"] - draws["R0"])[:, None] * share,
        foot=draws["R0"] if start is not None else paths.curve[:, 0],
        ou_var=ou_var,
        white=(white_var[:, None] + usual_eval_var(data)) / count,
        decay=np.exp(-np.diff(ahead, prepend=0.0) / draws["length"][:, None]),
        wander=paths.wander[:, -1],
        wander_var=np.maximum(paths.wander_var[:, -1], 0.0),
    )


def _log_weights(
    of: _Ahead, multiples: tuple[float, ...], truth: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[float, int, np.ndarray]]:
    """Log likelihood of continuations under each draw, shape (truths, draws), up to each multiple.

    Yields the multiple, the index of the evaluation there, and the log likelihood.
    """
    left = list(multiples)
    simulations = len(truth)
    noise = of.wander[truth] + np.sqrt(of.wander_var[truth]) * rng.standard_normal(simulations)
    # One Kalman filter for each pair of a simulated continuation and a draw that may explain it.
    mean = np.broadcast_to(of.wander, (simulations, len(of.wander)))
    var = of.wander_var
    log_weight = np.zeros(mean.shape)
    for i, at in enumerate(of.ahead):
        decay, ou_var, white = of.decay[:, i], of.ou_var, of.white[:, i]
        shock = np.sqrt((1.0 - decay[truth] ** 2) * ou_var[truth])
        noise = decay[truth] * noise + shock * rng.standard_normal(simulations)
        reward = of.curve[truth, i] + noise + np.sqrt(white[truth]) * rng.standard_normal(simulations)
        mean, var = decay * mean, decay**2 * var + (1.0 - decay**2) * ou_var
        total = var + white
        error = reward[:, None] - of.curve[:, i] - mean
        log_weight -= 0.5 * (error**2 / total + np.log(total))
        mean, var = mean + var / total * error, var - var**2 / total
        while left and np.exp(at) >= left[0] * (1.0 - 1e-9):
            yield left.pop(0), i, log_weight


def _told_apart(fit: Continued, of: _Ahead, truth: dict[str, np.ndarray], until: float) -> np.ndarray:
    """Whether the curve of each truth, evaluated on, differs enough from growth without a ceiling, shape (truths,)."""
    data, ahead, count = of.data, of.ahead, of.number
    seen, new = np.asarray(data.observed), ahead <= until + 1e-9
    clock = np.asarray(data.clock)[seen]
    clock = np.concatenate([clock, clock[-1] + ahead[new]])
    longer = data._replace(
        inputs=np.concatenate([np.asarray(data.inputs)[seen, -1], of.inputs(ahead[new])])[:, None],
        clock=clock,
        reward=np.zeros(len(clock)),
        observed=np.ones(len(clock), bool),
        eval_var=np.concatenate([np.asarray(data.eval_var)[seen], usual_eval_var(data) / count[new]]),
        count=np.concatenate([np.asarray(data.count)[seen], count[new]]),
    )
    ratio = ceiling_log_ratio(longer, of.start, np.log(truth["C_mid"]) - fit.data.log_origin, truth)
    return np.asarray(ratio >= fit.rules.min_ceiling_log_ratio)


def _evaluations_ahead(
    compute: np.ndarray, count: np.ndarray, multiples: tuple[float, ...], fewest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Places of simulated evaluations, in ln C beyond the last one, and the number of evaluations in each.

    `compute` is relative to the last evaluation. The run goes on with the mean spacing of its second half, and each
    place stands for at least `fewest` evaluations. There are places between the multiples unless it may be a fraction.
    """
    half = len(compute) // 2
    spacing = (1.0 - compute[half]) / max(count[half + 1 :].sum(), 1.0) if len(compute) > 1 else 1.0
    spacing = max(spacing, 1e-9)
    ahead = np.log(multiples)
    if fewest >= 1.0:
        points = int(np.clip((multiples[-1] - 1.0) / spacing, 1, POINTS))
        ahead = np.unique(np.concatenate([np.linspace(ahead[-1] / points, ahead[-1], points), ahead]))
    return ahead, np.maximum(np.diff(np.exp(ahead), prepend=1.0) / spacing, fewest)
