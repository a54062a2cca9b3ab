"""Resumed and restarted runs: which rows of a log belong to the training that went on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlceiling.errors import DataError

KEEP_LAST, APPEND = "keep-last", "append"
FEWEST_PER_ATTEMPT = 3.0  # rows between two steps back, on average; in fewer the rows of a table have no order

FEWEST_ROWS = 2  # of an attempt in a table; a single row is out of order

REMEDIES = (
    'if the training went on and only the counter began again, join the parts with resume="append" (command line: '
    '--resume append); if it was started again, keep its last attempt with resume="keep-last" (command line: --resume '
    "keep-last)"
)


class Attempt(NamedTuple):
    """One attempt of a run that was resumed.

    Attributes
    ----------
    row : int
        Its first row.
    step : float
        Step of this row.
    before : float
        Largest step of the rows that the run had kept until then.
    dropped : int
        Number of earlier rows that it replaces.
    """

    row: int
    step: float
    before: float
    dropped: int


class Settled(NamedTuple):
    """Rows of a run whose attempts have been put in order.

    Attributes
    ----------
    keep : ndarray of bool
        Rows that belong to the training that went on.
    step : ndarray
        Steps, counted from the beginning of the run.
    attempt : ndarray of int
        Number of the attempt of each row, from 0.
    resumed : list of Attempt
        The second attempt and those after it.
    """

    keep: NDArray[np.bool_]
    step: NDArray[np.float64]
    attempt: NDArray[np.int64]
    resumed: list[Attempt]


class Ambiguous(DataError):
    """A counter that begins again near its start: a second run, a new start, or the same run with another counter."""

    def __init__(self, row: int, step: float, before: float):
        super().__init__(f"the step goes back from {before:.10g} to {step:.10g}; {REMEDIES}.")
        self.row, self.step, self.before = row, step, before


def check_resume(resume: str | None) -> None:
    """Raise DataError if `resume` is neither None nor the name of a treatment."""
    if resume not in (None, KEEP_LAST, APPEND):
        raise DataError(f'resume must be "{KEEP_LAST}" or "{APPEND}", not {resume!r}.')


def steps_back(step: ArrayLike) -> list[int]:
    """Rows at which the attempts after the first one begin, for the rows of one run of a table.

    Rows without an order (fewer than three rows between two steps back on average, or a single one somewhere) and parts
    whose ranges of steps do not overlap, which are merely in another order, are not attempts.

    Parameters
    ----------
    step : array_like, shape (n,)
        Steps, or any other compute, in the order of the rows.
    """
    steps = np.asarray(step, dtype=np.float64)
    back = np.flatnonzero(steps[1:] < steps[:-1]) + 1
    if not len(back) or len(steps) < FEWEST_PER_ATTEMPT * (len(back) + 1):
        return []
    parts = np.split(steps, back)
    if min(map(len, parts)) < FEWEST_ROWS:
        return []
    low, high = (np.array([end(part) for part in parts]) for end in (np.min, np.max))
    order = np.argsort(low)
    overlap = low[order][1:] <= np.maximum.accumulate(high[order])[:-1]
    return back.tolist() if overlap.any() else []


def settle(
    step: ArrayLike, begins: Sequence[int], resume: str | None, evaluated_first: Sequence[bool] | None = None
) -> Settled:
    """Decide which rows of a run stay, given where its attempts begin.

    An attempt that begins at a step replaces the earlier rows from that step on, as TensorBoard does it. Where its
    first row is an evaluation of the checkpoint that it continues, an earlier evaluation at that very step stays
    beside it.

    Parameters
    ----------
    step : array_like, shape (n,)
        Step of each row, in the order in which the rows were written.
    begins : sequence of int
        First row of each attempt after the first one, ascending.
    resume : {None, "keep-last", "append"}
        "keep-last": an attempt replaces what it repeats. "append": it is joined on, so that its steps count from the
        last step before it. None: "keep-last", unless an attempt begins no later than the first positive step of what
        is before it; then the rows alone do not decide.
    evaluated_first : sequence of bool, optional
        For each entry of `begins`, whether its first row evaluates the checkpoint. Default: none does.

    Raises
    ------
    Ambiguous
        If `resume` is None and an attempt begins at the beginning.
    """
    steps = np.array(step, dtype=np.float64)
    keep, attempt = np.ones(len(steps), dtype=bool), np.zeros(len(steps), dtype=np.int64)
    resumed = []
    for number, row in enumerate(begins, start=1):
        attempt[row:] = number
        own = steps[row]
        earlier = steps[:row][keep[:row]]
        if not len(earlier):
            continue
        before, positive = float(earlier.max()), earlier[earlier > 0]
        if resume is None and own <= (positive.min() if len(positive) else 0.0):
            raise Ambiguous(row, float(own), before)
        if resume == APPEND:
            steps[row:] += before
            resumed.append(Attempt(row, float(own), before, 0))
            continue
        stays = evaluated_first is not None and evaluated_first[number - 1]
        gone = keep[:row] & (steps[:row] > own if stays else steps[:row] >= own)
        keep[:row] &= ~gone
        resumed.append(Attempt(row, float(own), before, int(gone.sum())))
    return Settled(keep, steps, attempt, resumed)
