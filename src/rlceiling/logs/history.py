"""A logged run whose attempts have been put in order, and its resources counted from the beginning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlceiling.errors import DataError, count
from rlceiling.logs.conventions import HOUR, NOT_METRICS, RESOURCES, Resource, gaps, is_evaluation
from rlceiling.logs.rows import TIME, LoggedRun
from rlceiling.runs.attempts import APPEND, REMEDIES, Ambiguous, Settled, settle


class Curve(NamedTuple):
    """A resource of a run, counted from the beginning.

    Attributes
    ----------
    steps : ndarray, shape (n,)
        Steps after which it stands at a value, strictly ascending.
    totals : ndarray, shape (n,)
        The values.
    source : str
        Where it comes from, for notes.
    multiplied : bool
        Whether it is time that was multiplied by the number of GPUs.
    """

    steps: NDArray[np.float64]
    totals: NDArray[np.float64]
    source: str
    multiplied: bool = False

    def at(self, steps: NDArray[np.float64], *, before: bool) -> NDArray[np.float64]:
        """Value at each step, with what the step itself took unless `before`, and 0 at step 0.

        Between logged steps it is interpolated, and after the last one it goes on at the last pace.
        """
        known = self.steps + 1.0 if before else self.steps
        totals = self.totals
        if known[0] > 0:
            known, totals = np.append(0.0, known), np.append(0.0, totals)
        values = np.interp(steps, known, totals)
        if len(known) > 1:
            back = max(len(known) - 10, 0)
            pace = (totals[-1] - totals[back]) / (known[-1] - known[back])
            values += pace * np.maximum(steps - known[-1], 0.0)
        return np.where(steps > 0, values, 0.0)


def _last_of_each(
    steps: NDArray[np.float64], values: NDArray[np.float64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Of several rows of a step, the last."""
    last = np.append(steps[1:] != steps[:-1], True)
    return steps[last], values[last], rows[last]


class History:
    """A run, in the order of its training.

    Parameters
    ----------
    run : LoggedRun
        As it was logged.
    resume : {None, "keep-last", "append"}
        As in `rlceiling.read_log`.

    Attributes
    ----------
    notes : list of str
        What was left out and joined.
    """

    def __init__(self, run: LoggedRun, resume: str | None):
        self.run, self.rows = run, run.rows
        self.notes = list(run.notes)
        logged = self.rows.steps
        begins, first = self._begins(logged)
        try:
            self.settled: Settled = settle(logged, begins, resume, first)
        except Ambiguous as found:
            raise DataError(
                f"run {run.name!r}: the step goes back from {found.before:.10g} to {found.step:.10g} in the middle "
                f"of the "
                f"log; {REMEDIES}; if these are two runs, give each a file of its own."
            ) from None
        for attempt in self.settled.resumed:
            goes = f"resumed: the step goes back from {attempt.before:.10g} to {attempt.step:.10g}"
            if resume == APPEND:
                self.notes.append(f"{goes}; what comes after counts from {attempt.before:.10g}")
            else:
                rows = count(attempt.dropped, "row")
                self.notes.append(f"{goes}; left out {rows} of the attempt before, from there on")
        self.keep = self.settled.keep & np.isfinite(self.settled.step)

    def _begins(self, steps: NDArray[np.float64]) -> tuple[list[int], list[bool]]:
        """First row of each attempt after the first one, and whether it is the evaluation of a checkpoint.

        An attempt begins where a key is logged at a smaller step than before. Evaluations that are logged late, while
        the training goes on, are no attempts.
        """
        back: dict[int, int] = {}
        trained = np.zeros(len(steps), dtype=bool)
        for key in self.rows.keys:
            if key in NOT_METRICS:  # of every row, whatever it is about
                continue
            rows = self.rows.series(key)[0]
            if not is_evaluation(key):
                trained[rows] = True
            own = steps[rows]
            for place in np.flatnonzero(own[1:] < own[:-1]):
                row = int(rows[place + 1])
                back[row] = max(back.get(row, -1), int(rows[place]))
        begins, current = [], 0
        for row in sorted(back):
            if back[row] >= current:
                current = row
                begins.append(row)
        return begins, [bool(trained.any() and not trained[row]) for row in begins]

    def values(self, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Steps, values and rows of a key, in the order of the steps, without those of abandoned attempts."""
        if key not in self.rows:
            return np.empty(0), np.empty(0), np.empty(0, dtype=np.int64)
        rows, values = self.rows.series(key)
        own = self.keep[rows]
        rows, values = rows[own], values[own]
        steps = self.settled.step[rows]
        order = np.argsort(steps, kind="stable")
        return steps[order], values[order], rows[order]

    def resource(self, name: str, gpus: int | None) -> Curve | None:
        """A resource counted from the beginning; None if the log does not have it."""
        for one in RESOURCES:
            if one.name == name and all(key in self.rows for key in one.keys):
                curve = self._sum(one) if one.each else self._level(one)
                if curve is not None:
                    return curve
        if name == "wall_hours":
            return self._clock()
        if name == "gpu_hours" and gpus is not None and (wall := self.resource("wall_hours", None)) is not None:
            source = f"{wall.source} x {gpus} GPUs"
            return wall._replace(totals=wall.totals * gpus, source=source, multiplied=True)
        return None

    def counter(self, key: str) -> Curve | None:
        """A key that counts from the beginning; None if there is no such key, or if it falls."""
        return self._level(Resource(key, (key,), False)) if key in self.rows else None

    def _sum(self, resource: Resource) -> Curve | None:
        """Sum of what each step took; None if the log begins later than its first step."""
        steps, values, rows = self.values(resource.keys[0])
        if len(resource.keys) == 2:
            others, divisors, _ = self.values(resource.keys[1])
            place = np.searchsorted(others, steps)
            found = (place < len(others)) & (others[np.minimum(place, len(others) - 1)] == steps) if len(others) else []
            found = np.asarray(found, dtype=bool)
            steps, values, rows, place = steps[found], values[found], rows[found], place[found]
            with np.errstate(divide="ignore", invalid="ignore"):
                values = values / divisors[place]
            fine = np.isfinite(values)
            steps, values, rows = steps[fine], values[fine], rows[fine]
        if not len(steps):
            return None
        steps, values, rows = _last_of_each(steps, values, rows)
        # Values of rows that lie several steps apart, as with logging_steps, are means of these steps.
        distance = np.diff(steps, prepend=steps[0])
        usual = gaps(steps)
        if steps[0] > 2.0 * usual + 1.0:
            return None
        distance[0] = max(min(steps[0], usual), 1.0)
        totals = np.cumsum(values * distance) * resource.unit
        if not (totals[-1] > 0 and (np.diff(totals) >= 0).all()):
            return None
        return Curve(steps, totals, f"the sum of {' / '.join(resource.keys)}")

    def _level(self, resource: Resource) -> Curve | None:
        """A count from the beginning, joined where an attempt began again at 0."""
        steps, values, rows = self.values(resource.keys[0])
        if not len(steps):
            return None
        steps, values, rows = _last_of_each(steps, values, rows)
        for number in range(1, len(self.settled.resumed) + 1):
            new = np.flatnonzero(self.settled.attempt[rows] == number)
            if len(new) and new[0] > 0 and values[new[0]] < values[new[0] - 1]:
                values[new[0] :] += values[new[0] - 1]
        if not (np.diff(values) >= 0).all() or values[-1] <= 0:
            return None
        return Curve(steps, values * resource.unit, resource.keys[0])

    def _clock(self) -> Curve | None:
        """Time at which rows were logged, without pauses between attempts."""
        steps, times, rows = self.values(TIME)
        if len(steps) < 2:
            return None
        steps, times, rows = _last_of_each(steps, times, rows)
        attempts = self.settled.attempt[rows]
        same = attempts[1:] == attempts[:-1]
        paces = np.diff(times)[same] / np.diff(steps)[same]
        if not len(paces) or (paces < 0).any():
            return None
        pace = float(np.median(paces))
        taken = np.where(same, np.diff(times), pace * np.diff(steps))
        totals = np.concatenate([[pace * steps[0]], taken]).cumsum()
        if (taken < 0).any() or steps[0] > 2.0 * gaps(steps) + 1.0:
            return None
        return Curve(steps, totals * HOUR, "the time at which rows were logged")
