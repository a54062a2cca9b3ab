"""Read evaluations from files and data frames."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rlceiling.errors import DataError, count, listing
from rlceiling.runs.attempts import Ambiguous, Settled, check_resume, settle, steps_back
from rlceiling.runs.cells import is_european, is_missing, plain_numbers
from rlceiling.runs.columns import find_columns, join_columns, keep_where, melt
from rlceiling.runs.files import RawTable, open_table, reader_of, without_empty
from rlceiling.runs.plausibility import plausibility_notes
from rlceiling.runs.table import Runs
from rlceiling.runs.units import are_natural
from rlceiling.runs.validation import COLUMNS, bounds_of, numbers_of, tidy, wide_bounds

ROLES = ("compute", "reward", "recipe", "run", "n_eval", "stage")
"""Roles of columns, in the order in which they are looked for."""


def read_runs(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    compute: str | None = None,
    reward: str | None = None,
    recipe: str | Sequence[str] | None = None,
    run: str | Sequence[str] | None = None,
    n_eval: str | None = None,
    stage: str | None = None,
    reward_bounds: tuple[float, float] | None = (0.0, 1.0),
    duplicates: str = "error",
    resume: str | None = None,
    where: Sequence[str] = (),
    wide: str | None = None,
) -> Runs:
    """Read and validate evaluations, one row per evaluation.

    Parameters
    ----------
    source : path or DataFrame
        A file that ends in .csv, .tsv, .txt, .jsonl, .ndjson, .parquet or .xlsx, which may be compressed (.csv.gz), or
        a data frame. Text is UTF-8, or UTF-16 with a byte order mark; its cells may be separated by commas, semicolons
        or tabs.
    compute, reward, recipe, run, n_eval, stage : str, optional
        Names of the columns. A column that is not named is guessed if exactly one has an obvious name, such
        as gpu_hours, pass_rate, recipe, seed or n_eval, in any letter case; a note states the guess.
        Without a recipe column all rows belong to one recipe, named after the file; without a run column
        each recipe has one run, "0"; without n_eval the number of samples is unknown. A run whose training has
        stages, each of which begins a new rise, such as a longer context, has the name of the stage in the stage
        column; without it a run has one stage. Several columns that name a recipe (or a run) together are given as a
        sequence, or with commas: ``recipe="domain,agent"``.
    reward_bounds : tuple of float or None
        Lowest and highest possible reward. Default (0, 1), for a pass rate; use (0, 100) for percent, and None for a
        reward without natural bounds, such as the return of an episode. Bounds that are neither of these two nor whole
        numbers at most 10 apart, as of a judge, are taken for such a reward as well: how wide they are then changes
        nothing (see `rlceiling.runs.units.span_of_data`).
    duplicates : {"error", "mean"}
        Treatment of rows with the same recipe, run and compute. Default "error", since duplicates often mean
        that a column which distinguishes runs was forgotten; "mean" averages the reward (weighted by
        `n_eval` where all are known), adds up `n_eval` and adds a note.
    resume : {"keep-last", "append"}, optional
        Treatment of a run whose compute goes back from one row to the next, as in the log of a run that was resumed.
        "keep-last" leaves out the earlier rows from that compute on, which the later attempt replaces; "append" counts
        the compute of the later rows from the last one before them, for a counter that began again. Default:
        "keep-last", with a note, unless the compute goes back to the beginning, which is refused, because that may
        also be a second run. Rows without an order are sorted. With ``duplicates="mean"`` the rows are not examined.
    where : sequence of str
        Conditions ``column=value``; only rows that meet all of them are used.
    wide : str, optional
        Names or patterns, separated by commas, of columns of which each holds the rewards of a recipe, or of a run
        where `recipe` is given: ``"*"``, ``"seed_*"``, ``"GRPO,DAPO"``.

    Returns
    -------
    Runs
        The validated table, with a note where the runs of a recipe seem to differ in their unit of compute or
        in the model they start from. Rows without a reward (empty, null, NaN or N/A) are left out, with a note.

    Raises
    ------
    DataError
        If the file, a column or a cell cannot be used, or if a run is listed twice. The message states the
        offending value, its location, and what to do.

    Examples
    --------
    >>> read_runs("runs.csv", compute="gpu_hours", reward="pass_rate", run="seed")  # doctest: +SKIP
    """
    asked = {"compute": compute, "reward": reward, "n_eval": n_eval, "stage": stage}
    check_resume(resume)
    return runs_of(
        open_table(source),
        asked,
        recipe=recipe,
        run=run,
        reward_bounds=reward_bounds,
        duplicates=duplicates,
        resume=resume,
        where=[where] if isinstance(where, str) else where,
        wide=wide,
    )


def runs_of(
    table: RawTable,
    asked: dict[str, str | None],
    *,
    recipe: str | Sequence[str] | None,
    run: str | Sequence[str] | None,
    reward_bounds: tuple[float, float] | None,
    duplicates: str,
    resume: str | None,
    where: Sequence[str] = (),
    wide: str | None = None,
) -> Runs:
    """Make `Runs` of raw cells; arguments as of `read_runs`."""
    if reward_bounds is None or tuple(reward_bounds) == (-math.inf, math.inf):  # as the command line gives them
        bounds = None
    else:
        bounds = bounds_of(reward_bounds)
    raw, name = without_empty(table.cells), table.name
    if raw.empty:
        raise DataError(f"{name} has no rows; give at least one evaluation.")
    raw, filtered = keep_where(raw, where, name)
    raw, asked["recipe"] = join_columns(raw, recipe)
    raw, asked["run"] = join_columns(raw, run)
    if wide is not None:
        raw, melted = melt(raw, wide, asked, name)
        filtered += melted
    columns, guessed = find_columns(raw, name, {role: asked[role] for role in ROLES})
    notes = [*table.notes, *filtered, *guessed]
    try:
        cells = pd.DataFrame({role: raw[column].to_numpy() for role, column in columns.items()})
    except UnicodeEncodeError as error:  # pandas encodes texts
        raise DataError(f"{name}: {error.object!r} holds half of a surrogate pair; remove it.") from None
    cells.index = positions = pd.RangeIndex(len(raw))  # rows of a wide table have the same number several times
    cells, said = _as_numbers(cells, columns, table.separator, bounds)
    notes += said
    cells, said = _with_reward(cells, columns["reward"], name, raw.index)
    notes += said
    if bounds is None:
        bounds = wide_bounds(cells["reward"])
    if "n_eval" in cells and not are_natural(bounds):
        # Its binomial error belongs to pass rates.
        if asked["n_eval"] is not None:
            raise DataError(
                f"{name}, column {asked['n_eval']!r}: n_eval belongs to pass rates, and this reward has no natural "
                "bounds; leave n_eval out."
            )
        notes.append(f"column {columns.pop('n_eval')!r} is not used, since the reward is not a pass rate")
        cells = cells.drop(columns="n_eval")
    if "recipe" not in cells:
        notes.append(f"no recipe column: all rows are one recipe, {table.stem!r}")
    for role, default in (("recipe", table.stem), ("run", "0"), ("n_eval", float("nan"))):
        if role not in cells:
            cells[role] = default
    if duplicates != "mean" or resume is not None:
        cells, said = _join_attempts(cells, raw, columns, name, resume)
        notes += said
    kept = cells.index
    rows = raw.index[kept]
    cells = cells.set_axis(rows, axis=0)
    repeated = not rows.is_unique
    if repeated:
        cells = cells.reset_index(drop=True)
    own = raw.set_axis(positions).loc[kept].set_axis(cells.index, axis=0)
    tidied, done = tidy(
        cells,
        columns,
        source=name,
        bounds=bounds,
        duplicates=duplicates,
        advise=lambda pair: _what_differs(own.loc[[pair[0]]], own.loc[[pair[1]]], columns),
    )
    others = [c for c in raw.columns if c not in columns.values()]
    free = [c for c in others if c not in (*COLUMNS, "stage") and others.count(c) == 1]
    if len(free) < len(others):
        left = listing(dict.fromkeys(repr(c) for c in others if c not in free))
        notes.append(f"columns not kept, since their names are taken or repeated: {left}")
    for column in free:
        tidied[column] = _merged(own[column], tidied["rows"])
    labels = {f"{role}_label": columns.get(role, role) for role in ("recipe", "run")}
    tidied = tidied[[*COLUMNS, *(["stage"] if "stage" in tidied else []), *free]]
    notes += [*done, *plausibility_notes(tidied, columns["compute"], columns["reward"])]
    return Runs(tidied, columns["compute"], columns["reward"], bounds, name, tuple(notes), **labels)


def check_columns(path: Path, asked: Mapping[str, str | None]) -> None:
    """Raise DataError if a file can never be read: its name has an unknown suffix, or columns are not there.

    A file that does not exist, has no rows or cannot be read now is not judged.

    Parameters
    ----------
    path : Path
        The file.
    asked : mapping
        Names of columns, as arguments of `read_runs`.
    """
    reader_of(path)
    try:
        table = open_table(path)
    except DataError:
        return
    if table.cells.empty or asked.get("wide") is not None:
        return
    given = dict(asked)
    raw = without_empty(table.cells)
    for role in ("recipe", "run"):
        raw, given[role] = join_columns(raw, given.get(role))
    find_columns(raw, table.name, {role: given.get(role) for role in ROLES})


def _merged(cells: pd.Series, rows: pd.Series) -> pd.Series:
    """Cells of another column for evaluations merged from rows; missing where the merged rows differ."""
    if all(len(own) == 1 for own in rows):
        return cells.loc[[own[0] for own in rows]].set_axis(rows.index)
    alike = [cells.loc[list(own)] for own in rows]
    return pd.Series([c.iloc[0] if c.nunique(dropna=False) == 1 else None for c in alike], rows.index, dtype=object)


def _as_numbers(
    cells: pd.DataFrame, columns: dict[str, str], separator: str, bounds: tuple[float, float] | None
) -> tuple[pd.DataFrame, list[str]]:
    """Rewrite numbers that are written as people write them, with notes."""
    numeric = [role for role in ("compute", "reward", "n_eval") if role in cells]
    european = separator == ";" and is_european(cells[numeric])
    notes = []
    for role in numeric:
        cells[role], said = plain_numbers(
            cells[role],
            columns[role],
            ascending=role == "compute",
            percent=role == "reward" and bounds == (0.0, 1.0),
            european=european,
        )
        notes += said
    return cells, notes


def _with_reward(cells: pd.DataFrame, column: str, source: str, numbers: pd.Index) -> tuple[pd.DataFrame, list[str]]:
    """Leave out rows without an evaluation, which logs of training and evaluation together have."""
    missing = is_missing(cells["reward"])
    if not missing.any():
        return cells, []
    if missing.all():
        raise DataError(
            f"{source}, column {column!r}: no row has an evaluation (all are empty, null, NaN or N/A); name another "
            'column with reward="..." (command line: --reward ...).'
        )
    first = numbers[int(np.argmax(missing.to_numpy()))]
    left = f"left out {count(int(missing.sum()), 'row')} without an evaluation"
    return cells[~missing], [f"{left} ({column} is empty, null, NaN or N/A), the first is row {first}"]


def _join_attempts(
    cells: pd.DataFrame, raw: pd.DataFrame, columns: dict[str, str], source: str, resume: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Treat runs whose compute goes back from one row to the next, with notes."""
    compute = pd.Series(numbers_of(cells["compute"]), cells.index)
    known = np.isfinite(compute.to_numpy())
    keys = [cells["recipe"].astype(str), cells["run"].astype(str)]
    back = (compute.diff() < 0).to_numpy() & ~_changes(keys)
    if not back.any():
        return cells, []
    suspects = pd.Series(back, cells.index).groupby(keys, sort=False).transform("any").to_numpy() & known
    drop: list[int] = []
    notes: list[str] = []
    moved: dict[int, float] = {}
    for (recipe, run), own in compute[suspects].groupby([key[suspects] for key in keys], sort=False):
        begins = steps_back(own.to_numpy())
        if not begins:
            continue
        of = f"run {run!r} of recipe {recipe!r}"
        try:
            settled = settle(own.to_numpy(), begins, resume)
        except Ambiguous as found:
            place = own.index[found.row]
            rows = raw.iloc[own.index]
            apart = _what_differs(rows.iloc[: found.row], rows.iloc[found.row :], columns)
            raise DataError(
                f"{source}, row {raw.index[place]}, column {columns['compute']!r}: in {of} the compute goes back from "
                f"{found.before:.10g} to {found.step:.10g}; {REMEDIES_OF_TABLES}{apart}."
            ) from None
        drop += own.index[~settled.keep].tolist()
        if resume == "append":
            moved |= dict(zip(own.index, settled.step, strict=True))
        notes += [_resumed(settled, number, of, columns["compute"], resume) for number in range(len(settled.resumed))]
    if moved:
        joined = cells["compute"].astype(object)
        joined[list(moved)] = list(moved.values())
        cells = cells.assign(compute=joined)
    return cells.drop(index=drop), notes


REMEDIES_OF_TABLES = (
    'join the parts with resume="append" if only the counter began again (command line: --resume append), keep the '
    'last attempt with resume="keep-last" if the training was started again (command line: --resume keep-last), or '
    'name the column that tells two runs apart with run="..." (command line: --run ...)'
)


def _changes(keys: Sequence[pd.Series]) -> np.ndarray:
    """Rows that belong to another run than the row before."""
    return np.any([(key != key.shift()).to_numpy() for key in keys], axis=0)


def _what_differs(before: pd.DataFrame, after: pd.DataFrame, columns: dict[str, str]) -> str:
    """Advice if a column of names has one value in some rows and another one in others."""
    for column in (c for c in before.columns if c not in columns.values() and list(before.columns).count(c) == 1):
        one, other = before[column].astype(str).unique(), after[column].astype(str).unique()
        is_name = one[0].strip() and not one[0].strip()[0].isdigit()
        if len(one) == 1 and one[0] not in other and is_name:
            return (
                f'; column {column!r} differs between them: name it as recipe="{column}" (command line: --recipe '
                f'{column}), or use only some rows with where=["{column}={one[0]}"] (command line: --where '
                f'"{column}={one[0]}")'
            )
    return ""


def _resumed(settled: Settled, number: int, of: str, label: str, resume: str | None) -> str:
    """Note on an attempt that was joined on or that replaces another one."""
    attempt = settled.resumed[number]
    goes = f"resumed: in {of} {label} goes back from {attempt.before:.10g} to {attempt.step:.10g}"
    if resume == "append":
        return f"{goes}; the rows after that count from {attempt.before:.10g}"
    return f"{goes}; left out {count(attempt.dropped, 'evaluation')} of the attempt before, from there on"
