"""Sources of runs and selections from them, with the same option names on the command line and in manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlceiling.logs.read import read_any
from rlceiling.runs.datasets import load_dataset
from rlceiling.runs.table import Runs

COLUMNS = (
    *("compute", "reward", "recipe", "run", "n_eval", "stage", "reward_bounds", "duplicates"),
    *("resume", "where", "wide", "metric", "gpus", "prompts"),
)
"""Arguments of `read_runs` and `read_log` that can be set."""


def read_source(
    source: str | Path | Sequence[str],
    given: Mapping[str, Any],
    *,
    select: Sequence[str] = (),
    drop: Sequence[str] = (),
    burn_in: float | None = None,
    until: float | None = None,
) -> Runs:
    """Read a table, logs or a bundled data set, and select a part of it.

    Parameters
    ----------
    source : path, sequence of str, or str
        A path is a table, a log or a folder of logs; a sequence holds such paths, patterns, or "-" for standard input;
        a str is the name of a data set.
    given : dict
        Arguments of `read_runs` and `read_log`, or of `load_dataset`.
    select, drop : sequence of str
        As in `Runs.select` and `Runs.drop`.
    burn_in, until : float, optional
        As in `Runs.burn_in` and `Runs.until`.

    Returns
    -------
    Runs
        The selected runs.

    Raises
    ------
    DataError
        As in those functions.
    """
    runs = load_dataset(source, **given) if isinstance(source, str) else read_any(source, given)
    return select_part(runs, select=select, drop=drop, burn_in=burn_in, until=until)


def select_part(
    runs: Runs,
    *,
    select: Sequence[str] = (),
    drop: Sequence[str] = (),
    burn_in: float | None = None,
    until: float | None = None,
) -> Runs:
    """Select a part of runs; arguments and errors as in `read_source`."""
    if select:
        runs = runs.select(*select)
    if drop:
        runs = runs.drop(*drop)
    if burn_in is not None:
        runs = runs.burn_in(burn_in)
    if until is not None:
        runs = runs.until(until)
    return runs
