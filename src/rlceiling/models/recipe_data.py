"""A recipe as the model sees it: its runs as lanes of centred ln C, rewards on [0, 1] and evaluation errors, padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlceiling.runs import Run

BUCKETS = (32, 64, 128)
"""Lengths that runs are padded to, so that runs of about the same length share one compiled program."""

SHORT_BUCKET = 16
"""One more length for recipes with several runs, whose padding costs the more."""

RUN_BUCKETS = (1, 3, 5, 10, 20, 40)
"""Numbers of runs that recipes are padded to: those people make. Larger recipes get a program of their own."""

MAX_BINS = 64
"""Bins of equal width in ln C that a run longer than the last bucket is averaged into."""

RESOLUTION = 1e-4
"""Smallest standard deviation of one evaluation: logs hold about four decimals. Without it a run whose
rewards lie exactly on a curve would have no proper posterior."""

ANCHORS = (0.15, 0.85)
"""Places in the observed range of ln C where the sampler takes the mean curve as coordinates."""


class Start(NamedTuple):
    """Step-0 evaluation of a recipe: the mean of the different ones that its runs logged."""

    reward: Any
    """Reward at zero compute, on [0, 1]."""
    var: Any
    """Variance of its evaluation error (0 where n_eval is unknown)."""
    white_weight: Any
    """Share of the white noise that stands in for the error: one over the evaluations where n_eval is unknown, else
    0."""
    logit: Any
    """Centre of the sampling coordinate of R0."""
    logit_slope: Any
    """Derivative of the logit there."""


class RunData(NamedTuple):
    """Arrays of one run, a JAX pytree; all have the padded length."""

    x: Any
    """ln C minus the recipe's `log_origin`, ascending; padding repeats the last value."""
    reward: Any
    """Reward on [0, 1]."""
    observed: Any
    """False for padding."""
    eval_var: Any
    """Variance of the evaluation error, the floor of the white noise."""
    count: Any
    """Evaluations averaged into this one (1 unless binned)."""


class RecipeData(NamedTuple):
    """Arrays of the runs of one recipe, a JAX pytree.

    The first lane is the run with the most evaluations, which the sampler takes as its point of reference.
    """

    runs: RunData
    """Runs as lanes: every array has shape (lanes, padded length)."""
    order: Any
    """Place of each lane's run in the recipe, shape (lanes,); lanes beyond the number of runs are padding."""
    start: Start | None
    """The step-0 evaluation, None if no run logged one."""
    x_low: Any
    """Lower anchor, scalar."""
    x_high: Any
    """Upper anchor, scalar."""
    x_prior: Any
    """Place of the midpoint prior relative to `log_origin`, scalar."""
    log_origin: Any
    """Mean ln C of all evaluations, scalar: results do not depend on the unit of compute."""

    def run(self, place: int) -> RunData:
        """Run at a place in the recipe."""
        lane = int(np.flatnonzero(self.order == place)[0])
        return RunData(*(array[lane] for array in self.runs))


def evaluation_sd(reward: np.ndarray, n_eval: np.ndarray, scale: float) -> np.ndarray:
    """Standard error of a mean pass rate over n_eval answers, `scale` times binomial; 0 where n_eval is unknown.

    The half counts keep it positive when every answer was right or wrong.
    """
    p = (reward * n_eval + 0.5) / (n_eval + 1.0)
    return np.where(np.isnan(n_eval), 0.0, scale * np.sqrt(p * (1.0 - p) / np.where(np.isnan(n_eval), 1, n_eval)))


def bin_evaluations(
    x: np.ndarray, reward: np.ndarray, eval_var: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average evaluations in bins of equal width in `x`; the last array returned counts them."""
    edges = np.linspace(x[0], x[-1], bins + 1)
    index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    count = count[filled].astype(float)
    mean_x, mean_reward, mean_var = (
        np.bincount(index, weights=values, minlength=bins)[filled] / count for values in (x, reward, eval_var)
    )
    return mean_x, mean_reward, mean_var / count, count


def prepare(runs: Sequence[Run], *, evaluation_error: float, C_mid_origin: float | None = None) -> RecipeData:
    """Make the arrays of one recipe.

    Parameters
    ----------
    runs : sequence of Run
        Runs of the recipe.
    evaluation_error, C_mid_origin
        As in `SigmoidPriors`.
    """
    log_compute = [np.log(run.compute) for run in runs]
    log_origin = float(np.concatenate(log_compute).mean())
    order = sorted(range(len(runs)), key=lambda i: -len(runs[i].compute))
    longest = max(map(len, log_compute))
    lanes = next((b for b in RUN_BUCKETS if b >= len(runs)), len(runs))
    lengths = BUCKETS if lanes == 1 else (SHORT_BUCKET, *BUCKETS)
    length = next((b for b in lengths if b >= longest), MAX_BINS)
    # Rounded far below any meaning, so that another unit of compute gives the same arrays bit for bit.
    x = [np.round(log_compute[i] - log_origin, 9) for i in order]
    first = x[0]
    x_low, x_high = first[0] + np.array(ANCHORS) * (first[-1] - first[0])
    made = [run_data(values, runs[i], length, evaluation_error) for values, i in zip(x, order, strict=True)]
    made += [made[0]._replace(observed=np.zeros(length, bool))] * (lanes - len(runs))
    return RecipeData(
        runs=RunData(*(np.stack(arrays) for arrays in zip(*made, strict=True))),
        order=np.array([*order, *range(len(runs), lanes)]),
        start=_start(runs, evaluation_error),
        x_low=x_low,
        x_high=x_high,
        x_prior=np.float64(0.0 if C_mid_origin is None else np.log(C_mid_origin) - log_origin),
        log_origin=np.float64(log_origin),
    )


def run_data(x: np.ndarray, run: Run, length: int, evaluation_error: float) -> RunData:
    """Arrays of a run whose evaluations stand at `x`, padded, or binned where they are too many."""
    reward, eval_var = run.reward, evaluation_sd(run.reward, run.n_eval, evaluation_error) ** 2
    count = np.ones_like(x)
    if len(x) > length:
        x, reward, eval_var, count = bin_evaluations(x, reward, eval_var, MAX_BINS)
    pad = length - len(x)
    return RunData(
        x=np.pad(x, (0, pad), mode="edge"),
        reward=np.pad(reward, (0, pad), mode="edge"),
        observed=np.pad(np.ones(len(x), bool), (0, pad)),
        eval_var=np.pad(eval_var + RESOLUTION**2, (0, pad), mode="edge"),
        count=np.pad(count, (0, pad), mode="edge"),
    )


def _start(runs: Sequence[Run], evaluation_error: float) -> Start | None:
    """Mean of the different step-0 evaluations; one that several runs share is one evaluation."""
    logged = {(reward, None if np.isnan(n) else n) for reward, n in (run.start for run in runs if run.start)}
    if not logged:
        return None
    rewards = np.array([reward for reward, _ in sorted(logged, key=str)])
    n_eval = np.array([np.nan if n is None else n for _, n in sorted(logged, key=str)])
    known = not np.isnan(n_eval).any()
    weight = n_eval if known else np.ones(len(rewards))
    reward = float(np.average(rewards, weights=weight))
    sd = float(evaluation_sd(np.array(reward), np.array(n_eval.sum()), evaluation_error))
    centre = np.clip(reward, 1e-3, 1.0 - 1e-3)
    return Start(
        reward=np.float64(reward),
        var=np.float64(sd**2 + RESOLUTION**2),
        white_weight=np.float64(0.0 if known else 1.0 / len(rewards)),
        logit=np.log(centre / (1.0 - centre)),
        logit_slope=1.0 / (centre * (1.0 - centre)),
    )
