"""Read evaluations from files and data frames."""

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from rlceiling.errors import DataError, listing, unknown_name
from rlceiling.runs.table import Runs
from rlceiling.runs.units import are_natural
from rlceiling.runs.validation import COLUMNS, bounds_of, tidy, wide_bounds

# Unambiguous column names, in lower case.
OBVIOUS = {
    "compute": (
        *("compute", "gpu_hours", "gpu_seconds", "flops", "wall_hours", "hours", "seconds"),
        *("samples", "tokens", "episodes", "steps", "step", "iteration"),
    ),
    "reward": ("reward", "pass_rate", "accuracy", "score", "mean_reward", "success_rate"),
    "recipe": ("recipe", "method", "config", "experiment", "name"),
    "run": ("run", "seed", "run_id"),
    "n_eval": ("n_eval", "n_samples", "eval_size"),
    "stage": ("stage", "training_stage"),
}


def read_runs(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    compute: str | None = None,
    reward: str | None = None,
    recipe: str | None = None,
    run: str | None = None,
    n_eval: str | None = None,
    stage: str | None = None,
    reward_bounds: tuple[float, float] | None = (0.0, 1.0),
    duplicates: str = "error",
) -> Runs:
    """Read and validate evaluations, one row per evaluation.

    Parameters
    ----------
    source : path or DataFrame
        A file that ends in .csv, .tsv, .jsonl, .ndjson or .parquet, or a data frame.
    compute, reward, recipe, run, n_eval, stage : str, optional
        Names of the columns. A column that is not named is guessed if exactly one has an obvious name, such
        as gpu_hours, pass_rate, recipe, seed or n_eval, in any letter case; a note states the guess.
        Without a recipe column all rows belong to one recipe, named after the file; without a run column
        each recipe has one run, "0"; without n_eval the number of samples is unknown. A run whose training has
        stages, each of which begins a new rise, such as a longer context, has the name of the stage in the stage
        column; without it a run has one stage.
    reward_bounds : tuple of float or None
        Lowest and highest possible reward. Default (0, 1), for a pass rate; use (0, 100) for percent, and None for a
        reward without natural bounds, such as the return of an episode. Bounds that are neither of these two nor whole
        numbers at most 10 apart, as of a judge, are taken for such a reward as well: how wide they are then changes
        nothing (see `rlceiling.runs.units.span_of_data`).
    duplicates : {"error", "mean"}
        Treatment of rows with the same recipe, run and compute. Default "error", since duplicates often mean
        that a column which distinguishes runs was forgotten; "mean" averages the reward (weighted by
        `n_eval` where all are known), adds up `n_eval` and adds a note.

    Returns
    -------
    Runs
        The validated table, with a note where the runs of a recipe seem to differ in their unit of compute or
        in the model they start from.

    Raises
    ------
    DataError
        If the file, a column or a cell cannot be used, or if a run is listed twice. The message states the
        offending value, its location, and what to do.

    Examples
    --------
    >>> read_runs("runs.csv", compute="gpu_hours", reward="pass_rate", run="seed")  # doctest: +SKIP
    """
    if reward_bounds is None or tuple(reward_bounds) == (-math.inf, math.inf):  # as the command line gives them
        bounds = None
    else:
        bounds = bounds_of(reward_bounds)
    raw, name, stem = _open(source)
    if raw.empty:
        raise DataError(f"{name} has no rows; give at least one evaluation.")
    asked = {"compute": compute, "reward": reward, "recipe": recipe, "run": run, "n_eval": n_eval, "stage": stage}
    columns, notes = _find_columns(raw, name, asked)
    cells = pd.DataFrame({role: raw[column] for role, column in columns.items()}, index=raw.index)
    if bounds is None:
        bounds = wide_bounds(cells["reward"])
    if "n_eval" in cells and not are_natural(bounds):
        # Its binomial error belongs to pass rates.
        if n_eval is not None:
            raise DataError(
                f"{name}, column {n_eval!r}: n_eval belongs to pass rates, and this reward has no natural bounds; "
                "leave n_eval out."
            )
        notes.append(f"column {columns.pop('n_eval')!r} is not used, since the reward is not a pass rate")
        cells = cells.drop(columns="n_eval")
    if "recipe" not in cells:
        notes.append(f"no recipe column: all rows are one recipe, {stem!r}")
    for role, default in (("recipe", stem), ("run", "0"), ("n_eval", float("nan"))):
        if role not in cells:
            cells[role] = default
    table, done = tidy(cells, columns, source=name, bounds=bounds, duplicates=duplicates)
    others = [c for c in raw.columns if c not in columns.values()]
    kept = [c for c in others if c not in (*COLUMNS, "stage") and others.count(c) == 1]
    if len(kept) < len(others):
        left = listing(dict.fromkeys(repr(c) for c in others if c not in kept))
        notes.append(f"columns not kept, since their names are taken or repeated: {left}")
    for column in kept:
        table[column] = _merged(raw[column], table["rows"])
    labels = {f"{role}_label": columns.get(role, role) for role in ("recipe", "run")}
    table = table[[*COLUMNS, *(["stage"] if "stage" in table else []), *kept]]
    return Runs(table, columns["compute"], columns["reward"], bounds, name, (*notes, *done), **labels)


def _merged(cells: pd.Series, rows: pd.Series) -> pd.Series:
    """Cells of another column for evaluations merged from rows; missing where the merged rows differ."""
    if all(len(own) == 1 for own in rows):
        return cells.loc[[own[0] for own in rows]].set_axis(rows.index)
    alike = [cells.loc[list(own)] for own in rows]
    return pd.Series([c.iloc[0] if c.nunique(dropna=False) == 1 else None for c in alike], rows.index, dtype=object)


def _find_columns(raw: pd.DataFrame, source: str, asked: dict[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """Return the user's column for each role that has one, and notes on guesses."""
    held = list(raw.columns)
    found = {role: column for role, column in asked.items() if column is not None}
    for role, column in found.items():
        if column not in held:
            raise unknown_name(source, "column", str(column), held)
        if held.count(column) > 1:
            raise DataError(f"{source} has {held.count(column)} columns {column!r}; rename all but one.")
        twin = next(other for other, its in found.items() if its == column)
        if twin != role:
            raise DataError(f"{source}: column {column!r} cannot be both {twin} and {role}; name two columns.")
    guessed = []
    for role in (role for role in asked if role not in found):
        likely = [c for c in held if str(c).strip().lower() in OBVIOUS[role] and c not in found.values()]
        if len(likely) > 1:
            raise DataError(
                f"{source} has {len(likely)} columns that could be the {role}: {listing(likely)};"
                f' name one with {role}="{likely[0]}" (command line: {_option(role)} {likely[0]}).'
            )
        if likely:
            found[role] = likely[0]
            guessed.append(f"{role}={likely[0]}")
        elif role in ("compute", "reward"):
            raise DataError(
                f"{source} has no column with an obvious name for the {role}, such as {OBVIOUS[role][1]};"
                f' name one with {role}="..." (command line: {_option(role)} ...);'
                f" it has: {listing(held)}."
            )
    return found, [f"columns guessed: {', '.join(guessed)}"] if guessed else []


def _option(role: str) -> str:
    return "--" + role.replace("_", "-")


def _open(source: str | os.PathLike[str] | pd.DataFrame) -> tuple[pd.DataFrame, str, str]:
    """Return raw cells indexed by row number, the name of the source, and the default name of the recipe."""
    if isinstance(source, pd.DataFrame):
        return source.set_axis(pd.RangeIndex(1, len(source) + 1), axis=0), "DataFrame", "recipe"
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(f"read_runs takes a file or a pandas DataFrame, not {type(source).__name__}.")
    path = Path(source)
    read = _reader_of(path)
    if not path.is_file():
        raise DataError(f"there is no file {path.name}; check its folder and spelling.")
    try:
        return read(path), path.name, path.stem
    except DataError:
        raise
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not UTF-8 text; save it as UTF-8.") from None
    except (ValueError, OSError, NotImplementedError) as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip().rstrip(".")
        raise DataError(f"{path.name} cannot be read ({reason}); check or export it again.") from error


def _reader_of(path: Path) -> Callable[[Path], pd.DataFrame]:
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path.name} does not end in one of {listing(_READERS)}; convert or rename it.")
    return read


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
    _reader_of(path)
    try:
        raw, name, _ = _open(path)
    except DataError:
        return
    if not raw.empty:
        _find_columns(raw, name, {role: asked.get(role) for role in OBVIOUS})


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    """Read cells as text, so that a cell that is not a number can be quoted in a message."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would drop cells
        try:
            raw = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=False)
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
        except pd.errors.ParserWarning:
            raise DataError(
                f"{path.name} has rows with more cells than the header; name every column, or remove"
                " separators at the end of lines."
            ) from None
    return raw.set_axis(pd.RangeIndex(1, len(raw) + 1), axis=0)


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows: dict[int, dict[str, object]] = {}
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                rows[number] = json.loads(line.strip())
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path.name}, row {number}: not valid JSON ({error.msg} at character {error.colno});"
                    " write one JSON object on each line."
                ) from None
            if not isinstance(rows[number], dict):
                raise DataError(f"{path.name}, row {number}: not a JSON object; write one JSON object on each line.")
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    cells = {column: [row.get(column) for row in rows.values()] for column in columns}
    return pd.DataFrame(cells, index=list(rows), dtype=object)  # object: keeps null distinct from NaN


def _read_parquet(path: Path) -> pd.DataFrame:
    raw = pd.read_parquet(path)
    return raw.set_axis(pd.RangeIndex(1, len(raw) + 1), axis=0)


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: _read_text(path, ","),
    ".tsv": lambda path: _read_text(path, "\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
