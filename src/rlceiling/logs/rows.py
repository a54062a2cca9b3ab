"""What a log holds: numbers under keys, in the order in which they were logged."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlceiling.errors import DataError, is_finite
from rlceiling.runs.cells import MISSING

MOST_KEYS = 20_000
"""Number of different keys of a log. More are not metrics, and each of them takes memory."""

DEEPEST = 6
"""Levels of nested objects that are read as one key with slashes."""

COUNT = "\0n_eval of "
"""Beginning of the key that holds how many answers each value of another key is the mean of."""

TIME = "\0time"
"""Key of the time at which a row was logged, in seconds."""


class Rows:
    """Rows of a log, of which each has a step and numbers under some of the keys.

    Numbers are stored by key, with the number of their row, so that a log with a thousand keys in each hundredth row
    takes little memory: 12 bytes for a number.
    """

    def __init__(self) -> None:
        self._steps = array("d")
        self._columns: dict[str, tuple[array[int], array[float]]] = {}
        self.empty: Counter[str] = Counter()
        """Number of rows in which a key had no finite number: null, NaN, Infinity or "N/A"."""

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: float, numbers: Mapping[str, Any]) -> None:
        """Add a row; what is not a number is left out."""
        row = len(self._steps)
        self._steps.append(math.nan if step is None else step)
        columns = self._columns
        for key, cell in flat(numbers):
            # Nearly all cells are finite floats of known keys.
            value = cell if type(cell) is float and cell - cell == 0.0 else number_in(cell)
            if value is None:
                if (
                    cell is None
                    or isinstance(cell, float)
                    or (isinstance(cell, str) and cell.strip().lower() in MISSING)
                ):
                    self.empty[key] += 1
                continue
            column = columns.get(key)
            if column is None:
                column = self._new_column(key)
            column[0].append(row)
            column[1].append(value)

    def _new_column(self, key: str) -> tuple[array[int], array[float]]:
        if len(self._columns) >= MOST_KEYS:
            raise DataError(
                f"more than {MOST_KEYS:,} different keys, such as {key[:60]!r}; they are not metrics, so log the "
                "evaluations alone."
            )
        self._columns[key] = array("I"), array("d")
        return self._columns[key]

    def __contains__(self, key: str) -> bool:
        return key in self._columns

    @property
    def keys(self) -> list[str]:
        """Keys with at least one number, without those that are not metrics."""
        return [key for key in self._columns if not key.startswith("\0")]

    @property
    def steps(self) -> NDArray[np.float64]:
        """Step of each row; NaN where it is not known."""
        return np.array(self._steps, dtype=np.float64)

    def set_steps(self, steps: NDArray[np.float64]) -> None:
        """Replace the step of each row."""
        self._steps = array("d", steps.tobytes())

    def series(self, key: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows in which a key has a number, and the numbers."""
        rows, values = self._columns[key]
        return np.array(rows, dtype=np.int64), np.array(values, dtype=np.float64)

    def count(self, key: str) -> int:
        """Number of rows in which a key has a number."""
        return len(self._columns[key][0]) if key in self._columns else 0

    def extend(self, other: Rows) -> None:
        """Add the rows of another log after these."""
        offset = len(self._steps)
        self._steps.extend(other._steps)
        self.empty.update(other.empty)
        for key, (rows, values) in other._columns.items():
            own = self._columns.setdefault(key, (array("I"), array("d")))
            own[0].extend(row + offset for row in rows)
            own[1].extend(values)


@dataclass
class LoggedRun:
    """One run, as a log holds it.

    Attributes
    ----------
    name : str
        Name of the run in its source; empty if the source holds only one.
    rows : Rows
        What it logged.
    notes : list of str
        What was left out when it was read, and what the format is known for.
    step_label : str
        What the steps are, if they are no steps.
    metrics : tuple of str
        Keys that hold the evaluations, where the format says so and their names do not matter.
    """

    name: str
    rows: Rows
    notes: list[str] = field(default_factory=list)
    step_label: str = "step"
    metrics: tuple[str, ...] = ()


def flat(numbers: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Keys and cells of nested objects, with slashes between the levels of a key."""
    if not any(type(cell) is dict for cell in numbers.values()):
        return numbers.items()
    return _flat(numbers, "", 0)


def _flat(numbers: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, cell in numbers.items():
        if isinstance(cell, dict):
            if depth < DEEPEST:
                yield from _flat(cell, f"{prefix}{key}/", depth + 1)
        else:
            yield f"{prefix}{key}", cell


def object_in(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object in a text; None if there is none. Keys with a NUL, which marks keys of our own, are left out."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return {key: cell for key, cell in found.items() if "\0" not in key} if "\\u0000" in text else found


def number_in(cell: Any) -> float | None:
    """A finite number, also one that is written as text; None if there is none."""
    if isinstance(cell, bool):
        return None
    if isinstance(cell, str):
        try:
            cell = float(cell) if len(cell) < 40 else None
        except ValueError:
            return None
    try:
        return float(cell) if is_finite(cell) else None
    except OverflowError:  # an integer of hundreds of digits
        return None
