"""Where runs come from, and what is left out of them: the same words for the command line and for manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlceiling.runs.datasets import load_dataset
from rlceiling.runs.readers import read_runs
from rlceiling.runs.table import Runs

COLUMNS = ("compute", "reward", "recipe", "run", "n_eval", "reward_bounds", "duplicates")
"""Arguments of `read_runs` that can be given."""


def read_source(
    source: str | Path,
    given: Mapping[str, Any],
    *,
    select: Sequence[str] = (),
    drop: Sequence[str] = (),
    burn_in: float | None = None,
    until: float | None = None,
) -> Runs:
    """Read a file or a bundled data set, and leave out of it what is not wanted.

    Parameters
    ----------
    source : path or str
        A path is a file, a text the name of a data set.
    given : dict
        Arguments of `read_runs`, or of `load_dataset`.
    select, drop : sequence of str
        As of `Runs.select` and `Runs.drop`.
    burn_in, until : float, optional
        As of `Runs.burn_in` and `Runs.until`.

    Returns
    -------
    Runs

    Raises
    ------
    DataError
        As those functions do.
    """
    runs = read_runs(source, **given) if isinstance(source, Path) else load_dataset(source, **given)
    if select:
        runs = runs.select(*select)
    if drop:
        runs = runs.drop(*drop)
    if burn_in is not None:
        runs = runs.burn_in(burn_in)
    if until is not None:
        runs = runs.until(until)
    return runs
