"""Arrays of runs of several model sizes: padded lanes, one per run, with the index of the size of each lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlceiling.models.run_data import RESOLUTION, RunData, bucket, evaluation_sd, run_data, stack_runs
from rlceiling.runs import Run


class SizeData(NamedTuple):
    """Arrays of runs of several sizes, a JAX pytree."""

    runs: RunData
    """Arrays of the runs, with a leading axis of lanes; the input is ln X minus `log_origin`."""
    size_of: Any
    """Index of the size of each lane, shape (lanes,)."""
    t: Any
    """ln N minus `log_size_origin`, ascending, shape (sizes,)."""
    start: Any
    """Step-0 evaluation of each size, on [0, 1], shape (sizes,); .5 where none was logged."""
    start_sd: Any
    """Standard error of the step-0 evaluation, shape (sizes,); infinite where none was logged."""
    log_origin: Any
    """Mean ln X over sizes, each size with equal weight: ``ln X_ref``."""
    log_size_origin: Any
    """Mean ln N of all sizes: ``ln N_ref``."""


def prepare_sizes(sizes: Sequence[float], runs: Sequence[Sequence[Run]], evaluation_error: float) -> SizeData:
    """Make the arrays of runs of several model sizes.

    Parameters
    ----------
    sizes : sequence of float
        Model sizes, ascending, in the unit of the user.
    runs : sequence of sequences of Run
        Runs of each size.
    evaluation_error : float
        As in `SigmoidPriors`.
    """
    members = [run for own in runs for run in own]
    log_resource = [np.log(run.compute) for run in members]
    size_of = np.repeat(np.arange(len(sizes)), [len(own) for own in runs])
    per_size = [
        np.concatenate([x for x, s in zip(log_resource, size_of, strict=True) if s == i]).mean()
        for i in range(len(sizes))
    ]
    log_origin = float(np.mean(per_size))
    longest = max(map(len, log_resource))
    length = bucket(longest)
    made = [
        run_data(np.round(x - log_origin, 9), run, length, evaluation_error)
        for x, run in zip(log_resource, members, strict=True)
    ]
    starts = [_start(own, evaluation_error) for own in runs]
    t = np.log(np.asarray(sizes, dtype=float))
    return SizeData(
        runs=stack_runs(made),
        size_of=size_of,
        t=np.round(t - t.mean(), 9),
        start=np.array([s[0] for s in starts]),
        start_sd=np.array([s[1] for s in starts]),
        log_origin=np.float64(log_origin),
        log_size_origin=np.float64(t.mean()),
    )


def _start(runs: Sequence[Run], evaluation_error: float) -> tuple[float, float]:
    """Mean of the distinct step-0 evaluations of one size, and its standard error, .01 where that is unknown."""
    logged = sorted({(run.start[0], -1.0 if np.isnan(run.start[1]) else run.start[1]) for run in runs if run.start})
    if not logged:
        return 0.5, np.inf
    reward, n = (np.array(v) for v in zip(*logged, strict=True))
    known = bool((n > 0).all())
    mean = float(np.average(reward, weights=n if known else None))
    if not known:
        return mean, UNKNOWN_START_SD / float(np.sqrt(len(reward)))
    return mean, float(np.hypot(evaluation_sd(np.array(mean), n.sum(), evaluation_error), RESOLUTION))


UNKNOWN_START_SD = 0.01
"""Standard error of a step-0 evaluation with unknown n_eval: about the noise of real curves."""
