"""The one place where evaluations are checked and put in order."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlceiling.errors import DataError, count

COLUMNS = ["recipe", "run", "compute", "reward", "n_eval"]
REPAIR = "correct the cell or leave the row out"
UNKNOWN = ("empty", "NaN")


def bounds_of(reward_bounds: Sequence[float]) -> tuple[float, float]:
    """Return the bounds as two floats, the lower one first, or raise DataError."""
    try:
        low, high = (float(bound) for bound in reward_bounds)
        fine = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise DataError(f"reward_bounds must be two finite numbers, low below high, not {reward_bounds!r}.")
    return low, high


def tidy(
    raw: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    source: str,
    bounds: tuple[float, float],
    duplicates: str,
) -> tuple[pd.DataFrame, list[str]]:
    """Check raw cells and return the tidy table and notes on what was done.

    Parameters
    ----------
    raw : DataFrame
        Columns `recipe`, `run`, `compute`, `reward`, `n_eval` with cells as they were read; the index
        holds the row numbers that messages quote.
    columns : mapping
        The user's name of each column.
    source : str
        What messages call the data.
    bounds : tuple of float
        Lowest and highest possible reward.
    duplicates : {"error", "mean"}
        What to do with rows of the same recipe, run and compute.

    Returns
    -------
    table : DataFrame
        Checked, typed and ordered.
    notes : list of str
        One sentence for each thing done to the rows.

    Raises
    ------
    DataError
        About the first thing that cannot be used.
    """
    if duplicates not in ("error", "mean"):
        raise DataError(f"duplicates must be 'error' or 'mean', not {duplicates!r}.")
    recipe, run = _names(raw["recipe"]), _names(raw["run"])
    numbers = {role: _numbers(raw[role]) for role in ("compute", "reward", "n_eval")}
    compute, reward, n_eval = numbers.values()

    def refuse(role: str, bad: NDArray[np.bool_], says: str, advice: str = REPAIR) -> None:
        """Raise about the first bad row, if there is one; `says` may quote the value or what is there."""
        if not bad.any():
            return
        first, more = int(np.argmax(bad)), int(bad.sum()) - 1
        value = numbers[role][first] if role in numbers else np.nan
        says = says.format(value=f"{value:.10g}", what=_what(raw[role].iloc[first], value))
        of_recipe = f" (recipe {recipe[first]!r})" if recipe[first] else ""
        others = f" (and {count(more, 'more row')} to correct)" if more else ""
        where = f"{source}, row {raw.index[first]}, column {columns[role]!r}{of_recipe}"
        raise DataError(f"{where}: the {role} {says}{others}; {advice}.")

    for role, labels in (("recipe", recipe), ("run", run)):
        refuse(role, labels == "", "is missing", f"name the {role} or leave the row out")
    for role in ("compute", "reward"):
        refuse(role, ~np.isfinite(numbers[role]), "is {what}")
    refuse("compute", compute < 0, "{value} is below zero")
    low, high = bounds
    outside = (reward < low) | (reward > high)
    advice = "set the bounds with reward_bounds=(low, high) (command line: --reward-bounds LOW HIGH)"
    if reward.min() >= 0 and reward.max() <= 100:
        advice = "for percent set reward_bounds=(0, 100) (command line: --reward-bounds 0 100)"
    refuse("reward", outside, f"{{value}} is outside the bounds {low:g} to {high:g}", advice)
    advice = "correct the cell, or leave it blank where the number is unknown"
    text = np.isnan(n_eval)
    text[text] = [_what(cell) not in UNKNOWN for cell in raw["n_eval"][text]]
    refuse("n_eval", text, "is {what}", advice)
    refuse("n_eval", (n_eval <= 0) | np.isinf(n_eval), "{value} is not a positive number", advice)
    _check_spelling(recipe, raw.index, source)

    table = pd.DataFrame({"recipe": recipe, "run": run, **numbers}, index=raw.index)
    pair = table.groupby(["recipe", "run"], sort=False).ngroup()  # numbered by first appearance
    table = table.iloc[np.lexsort((compute, pair, pd.factorize(recipe)[0]))]
    table, notes = _merge(table, columns, source, bounds, average=duplicates == "mean")
    return table.astype({"recipe": str, "run": str}).reset_index(drop=True), notes


def _names(column: pd.Series) -> NDArray[np.object_]:
    """Return the cells as text, whole numbers without a decimal point, and "" where there is none."""
    try:
        codes, uniques = pd.factorize(column)
    except TypeError:  # lists or dicts in JSON lines
        codes, uniques = pd.factorize(column.map(str, na_action="ignore"))
    texts = [str(name) for name in uniques]
    names = pd.Series(["" if text.strip().lower() in ("", "nan") else text for text in texts], dtype=object)
    if len(names) and names.str.fullmatch(r"(-?\d+(\.0*)?)?").all():  # seeds read as floats: 3.0 is 3
        names = names.str.replace(r"\.0*$", "", regex=True)
    return np.append(names.to_numpy(dtype=object), "")[codes]  # code -1, a missing cell, takes the last


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    """Return the cells as numbers, NaN where they are none."""
    if not pd.api.types.is_numeric_dtype(column):
        column = column.astype(object)  # or dates would turn into nanoseconds
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _what(cell: Any, value: float = math.nan) -> str:
    """Say what a cell holds that is not a finite number, given the number it was read as."""
    if math.isinf(value):
        return "infinite"
    text = "" if cell is None or cell is pd.NA or cell is pd.NaT else str(cell).strip()
    if text.lower() in ("", "nan", "-nan", "+nan"):
        return "NaN" if text else "empty"
    return f"the text {text if len(text) <= 40 else text[:37] + '...'!r}, not a number"


def _check_spelling(recipe: NDArray[np.object_], rows: pd.Index, source: str) -> None:
    """Raise if two recipe names look like one name typed twice."""
    seen: dict[str, str] = {}
    for name in pd.unique(recipe):
        twin = seen.setdefault(name.strip().casefold(), name)
        if twin != name:
            first, second = (rows[int(np.argmax(recipe == one))] for one in (twin, name))
            raise DataError(
                f"{source}: the recipe names {twin!r} (row {first}) and {name!r} (row {second}) differ only"
                " in letter case or surrounding blanks; spell them alike, or make them clearly different."
            )


def _merge(
    table: pd.DataFrame,
    columns: Mapping[str, str],
    source: str,
    bounds: tuple[float, float],
    *,
    average: bool,
) -> tuple[pd.DataFrame, list[str]]:
    """Average, or refuse, neighbouring rows of the same recipe, run and compute."""
    key = table[["recipe", "run", "compute"]]
    again = key.eq(key.shift()).all(axis=1).to_numpy()
    repeats = int(again.sum())
    if not repeats:
        return table, []
    if not average:
        second = int(np.argmax(again))
        of = table.iloc[second]
        rows = " and ".join(str(row) for row in table.index[second - 1 : second + 1])
        others = f" (and {count(repeats - 1, 'more row')} like it)" if repeats > 1 else ""
        apart = ', or name the column that tells runs apart with run="..." (command line: --run ...)'
        raise DataError(
            f"{source}, rows {rows}: run {of['run']!r} of recipe {of['recipe']!r} is evaluated twice at"
            f" {columns['compute']} {of['compute']:.10g}{others}; average the rows, or pass"
            f' duplicates="mean" (command line: --duplicates mean){"" if "run" in columns else apart}.'
        )
    starts = np.flatnonzero(~again)
    size = np.diff(np.append(starts, len(table)))
    total = np.add.reduceat(table["n_eval"].to_numpy(), starts)  # NaN as soon as one is unknown
    weight = np.where(np.isnan(np.repeat(total, size)), 1.0, table["n_eval"])
    reward = table["reward"].to_numpy()
    mean = np.add.reduceat(weight * reward, starts) / np.add.reduceat(weight, starts)
    # Rows that stand alone keep their reward to the last digit; rounding must not leave the bounds.
    mean = np.where(size == 1, reward[starts], np.clip(mean, *bounds))
    merged = int(size[size > 1].sum())
    note = f"duplicates: averaged {count(merged, 'row')} into {count(merged - repeats, 'evaluation')}"
    return table.iloc[starts].assign(reward=mean, n_eval=total), [note]
