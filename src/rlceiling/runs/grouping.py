"""Grouping of runs by model size: parsing and validation of the size column."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from rlceiling.errors import DataError, count, listing, unknown_name
from rlceiling.runs.table import Run, Runs
from rlceiling.runs.units import RewardUnits

FEWEST = 4
"""Number of distinct values of the resource that a size needs: one more than a line and its noise have parameters."""

_SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([kmbt]?)", re.IGNORECASE)


@dataclass(frozen=True)
class SizeUnits(RewardUnits):
    """Names of the columns, bounds of the reward and notation of the sizes in the user's data.

    Attributes
    ----------
    size, resource, reward : str
        Names of the columns.
    bounds : tuple of float
        Lowest and highest possible reward.
    lettered : bool
        Whether sizes were written with letters, such as 7B, so that they are numbers of parameters.
    """

    size: str
    resource: str
    reward: str
    bounds: tuple[float, float]
    lettered: bool

    def show(self, size: float) -> str:
        """Text of a size in the notation of the user."""
        if self.lettered:
            for letter in ("T", "B", "M", "K"):
                if size >= _SUFFIX[letter.lower()]:
                    return f"{size / _SUFFIX[letter.lower()]:.4g}{letter}"
        return f"{size:,.6g}"

    def read(self, where: str, size: Any) -> float:
        """Parse a requested size: a positive number, or a text such as 7B if the fitted sizes were written so."""
        value, lettered = read_size(size)
        if not (math.isfinite(value) and value > 0):
            raise DataError(
                f"{where}: size {size!r} is not a model size; give a positive number"
                f"{', or one such as 7B' if self.lettered else ''}."
            )
        if lettered and not self.lettered:
            raise DataError(
                f"{where}: size {size!r} has a letter and the sizes fitted ({self.size}) are plain numbers; give one in"
                " their unit."
            )
        return value


@dataclass(frozen=True)
class GroupedRuns:
    """Runs of every model size, in ascending order of size."""

    sizes: tuple[float, ...]
    runs: tuple[tuple[Run, ...], ...]
    units: SizeUnits
    notes: tuple[str, ...]


def read_size(cell: Any) -> tuple[float, bool]:
    """Parse a model size, and whether it was written with a letter; NaN if the cell is not a size."""
    if isinstance(cell, (int, float, np.integer, np.floating)) and not isinstance(cell, bool):
        return float(cell), False
    matched = _NUMBER.fullmatch(str(cell).strip())
    if matched is None:
        return math.nan, False
    number, letter = matched.groups()
    return float(number) * _SUFFIX[letter.lower()], bool(letter)


def group_by_size(runs: Runs, size: str, resource: str) -> GroupedRuns:
    """Group runs by the size of their model.

    Parameters
    ----------
    runs : Runs
        The table.
    size, resource : str
        As in `rlceiling.fit_sizes`.

    Raises
    ------
    DataError
        As in `rlceiling.fit_sizes`.
    """
    table = runs.table
    if any(run.stages for run in runs.iter_runs()):
        raise DataError(
            f"fit_sizes: {runs.source} has runs that were trained in stages, which laws across sizes do not model; "
            "keep the evaluations of one stage."
        )
    size_column, resource_column = (
        _column(runs, table, role, name) for role, name in (("size", size), ("resource", resource))
    )
    if size_column == resource_column:
        raise DataError(f"fit_sizes: column {size!r} cannot be both size and resource; name two columns.")
    table, lettered = _with_sizes(table, runs.source, size, size_column)
    label = runs.compute_label if resource_column == "compute" else resource
    table["resource"] = _resource(table, runs.source, label, resource_column)
    notes = [*runs.notes, *_labels(table, size_column, size)]

    pairs = table.groupby(["recipe", "run"], sort=False)
    of_run = pairs["size"].agg(["min", "max"])
    torn = of_run[of_run["min"] != of_run["max"]]
    if len(torn):
        (recipe, run), row = torn.index[0], torn.iloc[0]
        more = f" (and {count(len(torn) - 1, 'more run')} like it)" if len(torn) > 1 else ""
        raise DataError(
            f"{runs.source}: run {run!r} of recipe {recipe!r} has the model sizes {row['min']:g} and {row['max']:g}"
            f"{more}; name the column that tells runs apart, such as recipe={size!r} (command line: --recipe {size})."
        )
    by_size: dict[float, list[Run]] = {}
    for (recipe, run), rows in pairs:
        by_size.setdefault(float(rows["size"].iloc[0]), []).append(_run(runs, str(recipe), str(run), rows))
    units = SizeUnits(size, label, runs.reward_label, runs.reward_bounds, lettered)
    sizes = tuple(sorted(by_size))
    for value in sizes:
        distinct = len({x for run in by_size[value] for x in run.compute})
        if distinct < FEWEST:
            raise DataError(
                f"{runs.source}: size {units.show(value)} has {count(distinct, 'distinct value')} of {label} above 0"
                f" and a fit needs {FEWEST}; log more evaluations, or leave the size out."
            )
    several = [v for v in sizes if len(by_size[v]) > 1]
    if several:
        shown = listing(f"{units.show(v)} ({len(by_size[v])})" for v in several)
        notes.append(f"sizes with several runs, which share a curve: {shown}")
    starts = sum(run.start is not None for own in by_size.values() for run in own)
    if starts:
        notes.append(
            f"step 0: {count(starts, 'evaluation')} at {label} 0 have no ln {label}; only the ceiling law uses them"
        )
    notes += _apart(sizes, by_size, units)
    return GroupedRuns(sizes, tuple(tuple(by_size[v]) for v in sizes), units, tuple(notes))


def _column(runs: Runs, table: pd.DataFrame, role: str, name: str) -> str:
    """Column of the table, given its internal name or the user's name."""
    own = {
        runs.compute_label: "compute",
        runs.reward_label: "reward",
        runs.recipe_label: "recipe",
        runs.run_label: "run",
    }
    if name in table.columns:
        return name
    if name in own:
        return own[name]
    others = (c for c in table.columns if c not in own.values() and c != "n_eval")
    known = dict.fromkeys([runs.compute_label, *others, runs.recipe_label, runs.run_label])
    raise unknown_name(runs.source, f"{role} column", str(name), known)


def _with_sizes(table: pd.DataFrame, source: str, label: str, column: str) -> tuple[pd.DataFrame, bool]:
    read = {cell: read_size(cell) for cell in table[column].unique()}
    sizes = table[column].map(lambda cell: read[cell][0]).to_numpy(float)
    _refuse(
        table,
        source,
        label,
        column,
        ~(np.isfinite(sizes) & (sizes > 0)),
        "is not a model size",
        "write a positive number, or one such as 7B",
    )
    lettered = {cell: letter for cell, (_, letter) in read.items()}
    if len(set(lettered.values())) > 1:
        plain, with_letter = (next(c for c, has in lettered.items() if has is wanted) for wanted in (False, True))
        raise DataError(
            f"{source}, column {label!r}: {str(plain)!r} is a plain number and {str(with_letter)!r} has a letter, so"
            " their units may differ; write all sizes alike."
        )
    return table.assign(size=sizes), any(lettered.values())


def _resource(table: pd.DataFrame, source: str, label: str, column: str) -> np.ndarray:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    start = table["compute"].to_numpy() == 0  # step 0, whatever the value of the resource in that row
    _refuse(
        table,
        source,
        label,
        column,
        ~start & ~(np.isfinite(values) & (values > 0)),
        "is not a positive number",
        "correct the cell or leave the row out",
    )
    return np.where(start, 0.0, values)


def _refuse(table: pd.DataFrame, source: str, label: str, column: str, bad: np.ndarray, what: str, advice: str) -> None:
    if not bad.any():
        return
    row = table[bad].iloc[0]
    more = f" (and {count(int(bad.sum()) - 1, 'more row')} to correct)" if bad.sum() > 1 else ""
    raise DataError(
        f"{source}, column {label!r}: {str(row[column])!r} (run {row['run']!r} of recipe {row['recipe']!r}) {what}"
        f"{more}; {advice}."
    )


def _labels(table: pd.DataFrame, column: str, label: str) -> list[str]:
    """Note on sizes that are written in two ways."""
    notes = []
    for size, cells in table.groupby("size")[column].unique().items():
        if len(cells) > 1:
            notes.append(f"{label}: {listing(repr(str(c)) for c in cells)} are one size, {size:g}")
    return notes


def _apart(sizes: tuple[float, ...], by_size: dict[float, list[Run]], units: SizeUnits) -> list[str]:
    """Notes on neighbouring sizes whose ranges of the resource do not overlap."""
    notes = []
    for small, large in pairwise(sizes):
        (low, high), (other_low, other_high) = (
            (min(run.compute[0] for run in by_size[v]), max(run.compute[-1] for run in by_size[v]))
            for v in (small, large)
        )
        if high < other_low or other_high < low:
            notes.append(
                f"{units.resource}: sizes {units.show(small)} ({low:.3g} to {high:.3g}) and {units.show(large)}"
                f" ({other_low:.3g} to {other_high:.3g}) do not overlap, so one of them is extrapolated wherever they"
                " are compared; check that both count in one unit"
            )
    return notes


def _run(runs: Runs, recipe: str, run: str, rows: pd.DataFrame) -> Run:
    rows = rows.sort_values("resource", kind="stable")
    resource, n_eval = rows["resource"].to_numpy(float), rows["n_eval"].to_numpy(float)
    reward = runs.scale(rows["reward"])
    first = int(resource[0] == 0)
    start = (float(reward[0]), float(n_eval[0])) if first else None
    return Run(recipe, run, resource[first:], reward[first:], n_eval[first:], start)
