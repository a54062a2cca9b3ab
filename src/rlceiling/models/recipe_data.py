"""Arrays of one recipe: its runs, padded and stacked along an axis of lanes, and its step-0 evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlceiling.models.run_curves import RunCurves, complete_curves
from rlceiling.models.run_data import (
    BUCKETS,
    NO_STAGES,
    NOT_BEGUN,
    RunData,
    bucket,
    evaluation_sd,
    in_last_stage,
    lane,
    resolution,
    run_data,
    stack_runs,
    stage_inputs,
)
from rlceiling.runs import Run

SHORT_BUCKET = 16
"""Additional padded length for recipes with several runs, for which padding costs more."""

RUN_BUCKETS = (1, 3, 5, 10, 20, 40)
"""Numbers of runs to which recipes are padded: typical numbers of seeds. Larger recipes are compiled separately."""

ANCHORS = (0.15, 0.85)
"""Fractions of the observed range of ln C at which the values of the mean curve serve as sampling coordinates."""


class Start(NamedTuple):
    """Step-0 evaluation of a recipe: the mean of the distinct step-0 evaluations that its runs logged."""

    reward: Any
    """Reward at zero compute, on [0, 1]."""
    var: Any
    """Variance of its evaluation error (0 where n_eval is unknown)."""
    white_weight: Any
    """Share of the white-noise variance that replaces the evaluation error: one over the number of step-0 evaluations
    where n_eval is unknown, else 0."""
    logit: Any
    """Logit of the reward, the origin of the sampling coordinate of R0."""
    logit_slope: Any
    """Derivative of the logit at the reward."""


class EarlierStages(NamedTuple):
    """The stages of a run before its last, arrays of shape (stages - 1,), relative to `RecipeData.log_origin`."""

    log_begins: Any
    """``ln C`` at the beginning of the next stage."""
    log_spent: Any
    """Logarithm of the compute spent in the stage."""
    x_prior: Any
    """Logarithm of the origin of its midpoint prior."""


class RecipeData(NamedTuple):
    """Arrays of the runs of one recipe, a JAX pytree.

    The first lane is the run with the most evaluations, which is the reference of the sampling coordinates.
    """

    runs: RunData
    """Arrays of the runs, shape (lanes, padded length), one lane per run."""
    order: Any
    """Index in the recipe of the run in each lane, shape (lanes,); lanes beyond the number of runs are padding."""
    start: Start | None
    """The step-0 evaluation, or None if no run logged one."""
    x_low: Any
    """Lower anchor, scalar; both anchors lie in the last stage, and count from its beginning."""
    x_high: Any
    """Upper anchor, scalar."""
    x_prior: Any
    """ln C of the origin of the midpoint prior, relative to `log_origin`, scalar; of the last
    stage, from its beginning."""
    log_origin: Any
    """Mean ln C of all evaluations, scalar. It is subtracted so that results do not depend on the unit of compute."""
    stages: EarlierStages | None = None
    """The stages before the last, for a recipe whose only run has several."""
    curves: RunCurves | None = None
    """Estimates of the curve of each run, for a recipe with several runs that have all risen and levelled off."""

    @property
    def present(self) -> Any:
        """Lanes that hold a run, a boolean array of shape (lanes,)."""
        return self.runs.observed.any(-1)

    @property
    def log_begins(self) -> Any:
        """``ln C`` at the beginning of every stage but the first, relative to `log_origin`."""
        return NO_STAGES if self.stages is None else self.stages.log_begins

    @property
    def begins(self) -> np.ndarray:
        """Compute at which each stage begins, in the unit of the run; 0 for a recipe without stages."""
        return np.append(0.0, np.exp(self.log_begins + self.log_origin))

    def run(self, place: int) -> RunData:
        """Arrays of the run with index `place` in the recipe."""
        return lane(self.runs, int(np.flatnonzero(self.order == place)[0]))


def prepare(
    runs: Sequence[Run], *, evaluation_error: float, bad_share: float = 0.0, C_mid_origin: float | None = None
) -> RecipeData:
    """Make the arrays of one recipe.

    Parameters
    ----------
    runs : sequence of Run
        Runs of the recipe; only one if it has several stages.
    evaluation_error, bad_share, C_mid_origin
        As in `SigmoidPriors`.
    """
    log_compute = [np.log(run.compute) for run in runs]
    log_origin = float(np.concatenate(log_compute).mean())
    order = sorted(range(len(runs)), key=lambda i: -len(runs[i].compute))
    longest = max(map(len, log_compute))
    lanes = next((b for b in RUN_BUCKETS if b >= len(runs)), len(runs))
    lengths = BUCKETS if lanes == 1 else (SHORT_BUCKET, *BUCKETS)
    length = bucket(longest, lengths)
    # Rounded far below any relevant precision, so that another unit of compute gives bit-identical arrays.
    x = [np.round(log_compute[i] - log_origin, 9) for i in order]
    log_begins = np.round(np.log(runs[0].begins[1:]) - log_origin, 9)
    spent = stage_inputs(x[0], log_begins)
    first = spent[in_last_stage(spent), -1]
    x_low, x_high = first[0] + np.array(ANCHORS) * (first[-1] - first[0])
    # Runs of a recipe are evaluated alike, and one that is only ever at 0 or 1 does not show how.
    rounding = resolution(np.concatenate([run.reward for run in runs]))
    made = [
        run_data(values, runs[i], length, evaluation_error, bad_share, log_begins, rounding)
        for values, i in zip(x, order, strict=True)
    ]
    made += [made[0]._replace(observed=np.zeros(length, bool))] * (lanes - len(runs))
    origins = _midpoint_origins(spent, log_origin, C_mid_origin)
    recipe = RecipeData(
        runs=stack_runs(made),
        order=np.array([*order, *range(len(runs), lanes)]),
        start=_start(runs, evaluation_error, rounding),
        x_low=x_low,
        x_high=x_high,
        x_prior=origins[-1],
        log_origin=np.float64(log_origin),
        stages=None if len(origins) == 1 else _earlier_stages(log_begins, origins[:-1]),
    )
    start = None if recipe.start is None else float(recipe.start.reward)
    return recipe._replace(curves=complete_curves(recipe.runs, start, x_high) if lanes > 1 else None)


def padded(recipe: RecipeData, length: int) -> RecipeData:
    """The same recipe with runs padded to this length, which must be at least their own."""
    runs, own = recipe.runs, recipe.runs.reward.shape[1]

    def longer(array: Any) -> Any:
        along = [(0, 0), (0, length - own), *[(0, 0)] * (np.ndim(array) - 2)]
        return None if array is None else np.pad(array, along, mode="edge")

    observed = np.pad(runs.observed, [(0, 0), (0, length - own)])
    return recipe._replace(runs=RunData(*map(longer, runs))._replace(observed=observed))


def _midpoint_origins(spent: np.ndarray, log_origin: float, C_mid_origin: float | None) -> np.ndarray:
    """Logarithm of the origin of the midpoint prior of each stage, relative to `log_origin`."""
    if C_mid_origin is not None:
        return np.full(spent.shape[1], np.log(C_mid_origin) - log_origin)
    if spent.shape[1] == 1:
        return np.zeros(1)
    stage = (spent > NOT_BEGUN).sum(axis=1) - 1
    return np.array([spent[stage == k, k].mean() for k in range(spent.shape[1])])


def _earlier_stages(log_begins: np.ndarray, x_prior: np.ndarray) -> EarlierStages:
    log_spent = np.log(np.diff(np.exp([-np.inf, *log_begins])))
    return EarlierStages(log_begins, log_spent, x_prior)


def _start(runs: Sequence[Run], evaluation_error: float, rounding: float) -> Start | None:
    """Mean of the distinct step-0 evaluations; one that several runs share counts as one evaluation."""
    logged = {(reward, None if np.isnan(n) else n) for reward, n in (run.start for run in runs if run.start)}
    if not logged:
        return None
    rewards = np.array([reward for reward, _ in sorted(logged, key=str)])
    n_eval = np.array([np.nan if n is None else n for _, n in sorted(logged, key=str)])
    known = not np.isnan(n_eval).any()
    weight = n_eval if known else np.ones(len(rewards))
    reward = float(np.average(rewards, weights=weight))
    sd = float(evaluation_sd(np.array(reward), np.array(n_eval.sum()), evaluation_error))
    return start_of(reward, sd**2 + rounding**2, 0.0 if known else 1.0 / len(rewards))


def start_of(reward: float, var: float, white_weight: float) -> Start:
    """Evaluation of the start with this reward and error."""
    centre = np.clip(reward, 1e-3, 1.0 - 1e-3)
    return Start(
        reward=np.float64(reward),
        var=np.float64(var),
        white_weight=np.float64(white_weight),
        logit=np.log(centre / (1.0 - centre)),
        logit_slope=1.0 / (centre * (1.0 - centre)),
    )
