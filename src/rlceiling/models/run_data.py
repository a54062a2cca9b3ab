"""Padded arrays of one run: curve inputs, positions on the axis of the noise, rewards and evaluation errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlceiling.runs import Run

BUCKETS = (32, 64, 128)
"""Lengths to which runs are padded, so that runs of similar length share one compiled program."""

MAX_BINS = 64
"""Number of bins of equal width in ln C into which a run longer than the last bucket is averaged."""

RESOLUTION = 1e-4
"""Smallest standard deviation of one evaluation, because logs keep about four decimals. Without it a run whose
rewards lie exactly on a curve would have no proper posterior."""


COARSEST, FINEST = 2, 100
"""Numbers of equal steps between the bounds of the reward that `resolution` recognises."""

NO_STAGES = np.zeros(0)
"""Beginnings of the later stages of a run that has only one."""

NOT_BEGUN = -1e3
"""Input of a stage that has not begun, where its share of the rise is 0 to machine precision."""


def resolution(reward: np.ndarray) -> float:
    """Standard deviation of the rounding of rewards, a lower bound of the error of one evaluation.

    If all rewards of at least eight evaluations are whole multiples of ``1 / k``, they are shares of k answers or were
    rounded to them, and the error is that of rounding, ``1 / (k sqrt(12))``; otherwise it is `RESOLUTION`. Without it
    a run that stays exactly at its bound, such as a success rate of 1.0, seems to be known to four decimals.
    """
    values = np.unique(reward)
    if len(reward) >= 8 and len(values) >= 3:
        steps = np.arange(COARSEST, FINEST + 1)
        off = np.abs(values * steps[:, None] - np.round(values * steps[:, None])).max(axis=1)
        if (off < 1e-6).any():
            return float(1.0 / (steps[np.argmax(off < 1e-6)] * np.sqrt(12.0)))
    return RESOLUTION


class RunData(NamedTuple):
    """Arrays of one run, a JAX pytree; n is the padded length. Arrays of several runs have a leading axis of lanes."""

    inputs: Any
    """Inputs of the curve, shape (n, k), relative to the logarithm of the reference resource; padding repeats the last
    row. For sizes the first input is the logarithm of the resource. For recipes there is one input per stage, the
    logarithm of the compute spent in it (see `stage_inputs`)."""
    clock: Any
    """Position of each evaluation on the axis along which the noise is autocorrelated, shape (n,), ascending: the
    logarithm of the resource minus that of the reference resource. Without stages it equals the first input."""
    reward: Any
    """Reward on [0, 1], shape (n,)."""
    observed: Any
    """False for padding, shape (n,)."""
    eval_var: Any
    """Variance of the evaluation error, a lower bound of the variance of the white noise, shape (n,)."""
    count: Any
    """Number of evaluations averaged into each entry (1 without binning), shape (n,)."""
    bad_log_odds: Any = None
    """Prior log odds that an evaluation is bad, shape (n,); None if the model has no bad evaluations."""


def lane(runs: RunData, place: Any) -> RunData:
    """Select one run or several from arrays with a leading axis of lanes."""
    return RunData(*(None if array is None else array[place] for array in runs))


def stack_runs(runs: list[RunData]) -> RunData:
    """Stack several runs of the same padded length along a leading axis of lanes."""
    return RunData(*(None if arrays[0] is None else np.stack(arrays) for arrays in zip(*runs, strict=True)))


def bucket(longest: int, lengths: tuple[int, ...] = BUCKETS) -> int:
    """Padded length for runs of which the longest has `longest` evaluations."""
    return next((b for b in lengths if b >= longest), MAX_BINS)


def evaluation_sd(reward: np.ndarray, n_eval: np.ndarray, scale: float) -> np.ndarray:
    """Standard error of a mean pass rate over n_eval answers, `scale` times binomial; 0 where n_eval is unknown.

    ``p = (reward * n_eval + 0.5) / (n_eval + 1)``: the half counts keep the error positive when all answers were right
    or all were wrong.
    """
    p = (reward * n_eval + 0.5) / (n_eval + 1.0)
    return np.where(np.isnan(n_eval), 0.0, scale * np.sqrt(p * (1.0 - p) / np.where(np.isnan(n_eval), 1, n_eval)))


def bin_evaluations(
    x: np.ndarray, reward: np.ndarray, eval_var: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average evaluations in bins of equal width in `x`; the last array returned is the number in each bin."""
    edges = np.linspace(x[0], x[-1], bins + 1)
    index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    count = count[filled].astype(float)
    mean_x, mean_reward, mean_var = (
        np.bincount(index, weights=values, minlength=bins)[filled] / count for values in (x, reward, eval_var)
    )
    return mean_x, mean_reward, mean_var / count, count


def stage_inputs(x: np.ndarray, log_begins: np.ndarray) -> np.ndarray:
    """Logarithm of the compute spent in each stage, shape (n, stages), `NOT_BEGUN` in stages to come.

    Parameters
    ----------
    x : ndarray, shape (n,)
        ``ln C``.
    log_begins : ndarray, shape (stages - 1,)
        ``ln C`` at the beginning of every stage but the first.
    """
    if len(log_begins) == 0:
        return x[:, None]
    bounds = np.exp([-np.inf, *log_begins, np.inf])
    spent = np.clip(np.exp(x)[:, None], bounds[:-1], bounds[1:]) - bounds[:-1]
    begun = spent > 0.0
    return np.where(begun, np.log(spent, where=begun, out=np.zeros_like(spent)), NOT_BEGUN)


def in_last_stage(inputs: np.ndarray) -> np.ndarray:
    """Whether each of the inputs of a run belongs to its last stage, shape (n,); all do if there are no stages."""
    return np.asarray(inputs)[:, -1] > NOT_BEGUN


def last_stage(run: RunData) -> RunData:
    """Arrays of the last stage of a run, with the compute spent in that stage as the only input."""
    own = in_last_stage(run.inputs)
    cut = RunData(*(None if array is None else np.asarray(array)[own] for array in run))
    return cut._replace(inputs=cut.inputs[:, -1:])


def run_data(
    x: np.ndarray,
    run: Run,
    length: int,
    evaluation_error: float,
    bad_share: float | None = None,
    log_begins: np.ndarray = NO_STAGES,
    rounding: float | None = None,
) -> RunData:
    """Arrays of a run at log compute `x`, padded to `length`, or binned if it has more evaluations than that.

    The error of an evaluation is at least `rounding`, by default the `resolution` of the rewards of the run.

    Stages are binned one by one, each along the logarithm of the compute spent in it.
    """
    reward, eval_var = run.reward, evaluation_sd(run.reward, run.n_eval, evaluation_error) ** 2
    rounding = resolution(reward) if rounding is None else rounding
    eval_var = np.maximum(eval_var, rounding**2 - RESOLUTION**2)
    count = np.ones_like(x)
    if len(x) > length:
        parts = []
        stages = np.searchsorted(log_begins, x)
        for stage, begin in enumerate([-np.inf, *log_begins]):
            own = stages == stage
            inputs = stage_inputs(x[own], log_begins)[:, stage]
            binned, *others = bin_evaluations(inputs, reward[own], eval_var[own], MAX_BINS // (len(log_begins) + 1))
            parts.append((np.logaddexp(binned, begin), *others))
        x, reward, eval_var, count = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    pad = length - len(x)
    x = np.pad(x, (0, pad), mode="edge")
    return RunData(
        inputs=stage_inputs(x, log_begins),
        clock=x,
        reward=np.pad(reward, (0, pad), mode="edge"),
        observed=np.arange(length) < length - pad,
        eval_var=np.pad(eval_var + RESOLUTION**2, (0, pad), mode="edge"),
        count=np.pad(count, (0, pad), mode="edge"),
        # The mean of many evaluations is not bad as a whole.
        bad_log_odds=None if bad_share is None else np.full(length, log_odds(bad_share if count.max() == 1.0 else 0.0)),
    )


def log_odds(share: float) -> float:
    """``ln (share / (1 - share))``, minus infinity at 0."""
    return float(np.log(share / (1.0 - share))) if share > 0.0 else -np.inf


def usual_eval_var(run: RunData) -> float:
    """Variance of the evaluation error of a new evaluation, not binned: the median over the run's own evaluations."""
    return float(np.median((run.eval_var * run.count)[run.observed]))
