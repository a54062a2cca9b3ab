"""Truncation of runs at earlier values of compute."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from rlceiling.errors import DataError, is_finite
from rlceiling.runs.table import FEWEST, Runs, in_last_stages


def cut_runs(where: str, runs: Runs, shares: Sequence[float]) -> dict[float, Runs]:
    """Truncate runs at shares of each run's largest compute.

    Parameters
    ----------
    where : str
        Name of the calling function, for error messages.
    runs : Runs
        The full runs.
    shares : sequence of float
        Shares of the largest compute, between 0 and 1.

    Returns
    -------
    dict of float to Runs
        Truncated runs by share, ascending. A recipe is left out at a share that leaves too few evaluations in the stage
        in which it lies, or the same evaluations as a smaller share or as the full runs; a share that leaves no recipe
        is left out.

    Raises
    ------
    DataError
        If a share is not between 0 and 1.
    """
    for share in shares:
        if not (is_finite(share) and 0.0 < share < 1.0):
            raise DataError(f"{where}: share {share!r} of a run is not between 0 and 1; give one that is.")
    table = runs.table
    last = table.groupby(["recipe", "run"], sort=False)["compute"].transform("max")
    above = table["compute"] > 0
    pairs = pd.MultiIndex.from_frame(table[["recipe", "run"]])
    known = set(table[above].groupby("recipe").size().items())
    cuts = {}
    for share in sorted(set(shares)):
        before = table["compute"] <= share * last
        then = table[above & before]
        runs_then = then[in_last_stages(then)].groupby(["recipe", "run"])["compute"].nunique()
        enough = runs_then.groupby("recipe").max() >= FEWEST
        evaluations = set(table[above & before].groupby("recipe").size().items())
        names = [name for name, _ in evaluations - known if enough[str(name)]]
        known |= evaluations
        if names:
            # A run with step 0 only is not a run, so it is left out.
            begun = pd.Series(pairs.isin(runs_then.index), table.index)
            cuts[share] = runs.keep(before & begun & table["recipe"].isin(names))
    return cuts


def cut_runs_at(runs: Runs, computes: Sequence[float]) -> dict[float, Runs]:
    """Truncate runs at values of compute.

    Parameters
    ----------
    runs : Runs
        The full runs.
    computes : sequence of float
        Values of compute, in the unit of the runs.

    Returns
    -------
    dict of float to Runs
        Truncated runs by compute, ascending. A recipe is left out at a compute that leaves too few evaluations, or that
        the recipe did not pass; a compute that leaves no recipe is left out.
    """
    table = runs.table
    cuts = {}
    for compute in sorted(set(computes)):
        before = table[(table["compute"] > 0) & (table["compute"] <= compute)]
        evaluations = before[in_last_stages(before)].groupby(["recipe", "run"])["compute"].nunique()
        evaluations = evaluations.groupby("recipe").max()
        enough = set(evaluations.index[evaluations >= FEWEST])
        passed = set(table.loc[table["compute"] > compute, "recipe"])
        if names := [name for name in runs.recipes if name in enough & passed]:
            cuts[compute] = runs.select(*names).until(compute)
    return cuts
