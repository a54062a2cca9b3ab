"""Validation and ordering of evaluations."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlceiling.errors import DataError, count
from rlceiling.runs.names import check_shown, check_spelling, lookalike_notes
from rlceiling.runs.units import span_of_data

COLUMNS = ["recipe", "run", "compute", "reward", "n_eval"]
REPAIR = "correct the cell or leave the row out"
UNKNOWN = ("empty", "NaN")
FEWEST_ALIKE = 4  # fewer rewards, rounded as they are, may coincide by chance
MOST_UNEVEN = 100.0  # lengths of seeds differ by less, units by more: factors of 1,000 or 3,600
MOST_ERRORS = 4.0  # binomial standard errors between two evaluations of one model
MOST_OUTSIDE = 0.01  # of the reward range: what rounding or a correction adds; bounds that are wrong are left by more
MOST_APART = 0.02  # the same as a share of the reward range, where n_eval is unknown


def wide_bounds(reward: pd.Series) -> tuple[float, float]:
    """Bounds for a reward that has none: far beyond the data on both sides, where they change nothing."""
    values = numbers_of(reward)
    values = values[np.isfinite(values)]
    return span_of_data(values if len(values) else (0.0, 1.0), ranges=1000.5)


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


def check_duplicates(duplicates: str) -> None:
    """Raise DataError unless this is a treatment of rows with the same recipe, run and compute."""
    if duplicates not in ("error", "mean"):
        raise DataError(f"duplicates must be 'error' or 'mean', not {duplicates!r}.")


def tidy(
    raw: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    source: str,
    bounds: tuple[float, float],
    duplicates: str,
    advise: Callable[[Sequence[Hashable]], str] = lambda rows: "",
) -> tuple[pd.DataFrame, list[str]]:
    """Validate raw cells and return the tidy table and notes on the changes.

    Parameters
    ----------
    raw : DataFrame
        Columns `recipe`, `run`, `compute`, `reward`, `n_eval`, and `stage` if there is one, with cells as they were
        read; the index contains the row numbers for messages.
    columns : mapping
        The user's name of each column.
    source : str
        Name of the data in messages.
    bounds : tuple of float
        Lowest and highest possible reward.
    duplicates : {"error", "mean"}
        Treatment of rows with the same recipe, run and compute.
    advise : callable
        Further advice on some rows with the same recipe, run and compute, given their index.

    Returns
    -------
    table : DataFrame
        Validated, typed and ordered, with a column `rows`: the rows from which each evaluation was merged.
    notes : list of str
        One sentence per change made to the rows, and per recipe whose runs are inconsistent with each other.

    Raises
    ------
    DataError
        On the first cell, row or run that cannot be used.
    """
    check_duplicates(duplicates)
    recipe, run = _names(raw["recipe"]), _names(raw["run"], seeds=True)
    numbers = {role: numbers_of(raw[role]) for role in ("compute", "reward", "n_eval")}
    compute, reward, n_eval = numbers.values()

    def refuse(role: str, bad: NDArray[np.bool_], says: str, advice: str = REPAIR) -> None:
        """Raise DataError for the first bad row, if any; `says` may quote the value or the cell."""
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
    numbers["reward"], clipped = _clipped(reward, bounds, columns["reward"])
    reward = numbers["reward"]
    outside = (reward < low) | (reward > high)
    advice = "set the bounds with reward_bounds=(low, high) (command line: --reward-bounds LOW HIGH)"
    if reward.min() >= 0 and 20.0 < reward.max() <= 100.0 and np.mean(reward > 1.0) >= 0.5:
        advice = "for percent set reward_bounds=(0, 100) (command line: --reward-bounds 0 100)"
    else:
        advice += "; None (command line: -inf inf) is for a reward without natural bounds, such as a return"
    refuse("reward", outside, f"{{value}} is outside the bounds {low:g} to {high:g}", advice)
    advice = "correct the cell, or leave it blank where the number is unknown"
    text = np.isnan(n_eval)
    text[text] = [_what(cell) not in UNKNOWN for cell in raw["n_eval"][text]]
    refuse("n_eval", text, "is {what}", advice)
    refuse("n_eval", (n_eval <= 0) | np.isinf(n_eval), "{value} is not a positive number", advice)
    for role, column in columns.items():
        check_shown(source, f"name of the {role} column", [str(column)])
    for role, labels in (("recipe", recipe), ("run", run)):
        check_shown(source, f"name of the {role}", pd.unique(labels))
    check_spelling(recipe, raw.index, source)

    table = pd.DataFrame({"recipe": recipe, "run": run, **numbers}, index=raw.index)
    if "stage" in raw:
        table["stage"] = _names(raw["stage"])
        check_shown(source, "name of the stage", pd.unique(table["stage"]))
    table["rows"] = [(row,) for row in raw.index]
    pair = table.groupby(["recipe", "run"], sort=False).ngroup()  # numbered by first appearance
    table = table.iloc[np.lexsort((compute, pair, pd.factorize(recipe)[0]))]
    table, notes = _merge(table, columns, source, bounds, advise, average=duplicates == "mean")
    _check_twins(table, columns["compute"], source)
    if "stage" in table:
        table["stage"] = _stages(table, columns, source)
    named = table[["recipe", "run"]].drop_duplicates()
    notes += lookalike_notes(named["recipe"].tolist(), named["run"].tolist())
    notes += clipped + odd_notes(table, columns["compute"], columns["reward"], bounds)
    return table.astype({"recipe": str, "run": str}).reset_index(drop=True), notes


def _clipped(
    reward: NDArray[np.float64], bounds: tuple[float, float], label: str
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the rewards, those slightly outside set to the bound, with a note; all as they are if one is far off."""
    low, high = bounds
    off = np.maximum(low - reward, reward - high)
    if not 0.0 < off.max() <= MOST_OUTSIDE * (high - low):
        return reward, []
    value, number = reward[np.argmax(off)], int((off > 0).sum())
    note = f"{count(number, 'value')} of {label} slightly outside the bounds {low:g} to {high:g}, such as {value:.10g}"
    return np.clip(reward, low, high), [f"{note}: set to the bound"]


def _stages(table: pd.DataFrame, columns: Mapping[str, str], source: str) -> NDArray[np.object_]:
    """Return the name of the stage of each evaluation; raise DataError unless every stage is one stretch of compute.

    A run may have no names of stages. The evaluation at compute 0 gets that of the first stage, also where the
    untrained model has a name of its own.
    """
    names, compute = table["stage"].to_numpy(copy=True), table["compute"].to_numpy()

    def refuse(place: int, says: str) -> None:
        of = f"column {columns['stage']!r} (recipe {table['recipe'].iloc[place]!r})"
        raise DataError(f"{source}, row {table.index[place]}, {of}: {says}.")

    for places in table.groupby(["recipe", "run"], sort=False).indices.values():
        places = np.asarray(places)
        above = places[compute[places] > 0]
        own = names[above]
        if not len(above) or not (names[places] != "").any():
            continue
        if (own == "").any():
            refuse(above[np.argmax(own == "")], "the stage is missing; name the stage of every evaluation of the run")
        new = np.append(True, own[1:] != own[:-1])
        stages = own[new]
        again = pd.Series(stages).duplicated().to_numpy()
        if again.any():
            i = int(np.argmax(again))
            place = above[new][i]
            at = f"at {columns['compute']} {compute[place]:.10g}, after {stages[i - 1]!r}"
            refuse(place, f"stage {stages[i]!r} comes back {at}; give each stage a name of its own")
        if names[places[0]] in stages[1:]:
            refuse(places[0], f"step 0 belongs to the first stage, {stages[0]!r}; leave its stage empty")
        names[places[0]] = stages[0]
    return names


def odd_notes(table: pd.DataFrame, compute: str, reward: str, bounds: tuple[float, float]) -> list[str]:
    """Return a note on each recipe with mutually inconsistent runs; `compute` and `reward` are the user's names."""
    return [*_uneven_computes(table, compute), *_uneven_starts(table, reward, bounds)]


def _names(column: pd.Series, *, seeds: bool = False) -> NDArray[np.object_]:
    """Return the cells as text, and "" for missing cells; texts as written, whole numbers without a decimal point.

    Texts of `seeds` are taken for numbers too, since a file that was written from numbers has 3.0 for 3, unless two of
    them would become one.
    """
    try:
        codes, uniques = pd.factorize(column)
    except TypeError:  # lists or dicts in JSON lines
        codes, uniques = pd.factorize(column.map(str, na_action="ignore"))
    texts = [str(name) for name in uniques]
    names = pd.Series(["" if text.strip().lower() in ("", "nan") else text for text in texts], dtype=object)
    written = any(isinstance(name, str) for name in uniques) and not seeds
    if len(names) and not written and names.str.fullmatch(r"(-?\d+(\.0*)?)?").all():  # seeds read as floats: 3.0 is 3
        whole = names.str.replace(r"\.0*$", "", regex=True)
        names = whole if whole.nunique() == names.nunique() else names
    return np.append(names.to_numpy(dtype=object), "")[codes]  # code -1 (missing) selects the appended ""


def numbers_of(column: pd.Series) -> NDArray[np.float64]:
    """Return the cells as numbers, NaN where they are not numbers."""
    if pd.api.types.is_bool_dtype(column):
        return np.full(len(column), np.nan)
    if not pd.api.types.is_numeric_dtype(column):
        column = column.astype(object)  # otherwise dates would become nanoseconds
        if pd.api.types.infer_dtype(column) in ("boolean", "mixed", "mixed-integer"):
            column = column.where(~column.map(lambda cell: isinstance(cell, bool | np.bool_)), None)
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except OverflowError:  # whole numbers of Python may have any number of digits
        numbers = pd.to_numeric(column.astype(str), errors="coerce")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _what(cell: Any, value: float = math.nan) -> str:
    """Describe a cell that is not a finite number, given the number as which it was read."""
    if math.isinf(value):
        return "infinite"
    if isinstance(cell, bool | np.bool_):
        return f"the truth value {cell}, not a number"
    text = "" if cell is None or cell is pd.NA or cell is pd.NaT else str(cell).strip()
    if text.lower() in ("", "nan", "-nan", "+nan"):
        return "NaN" if text else "empty"
    return f"the text {text if len(text) <= 40 else text[:37] + '...'!r}, not a number"


def _merge(
    table: pd.DataFrame,
    columns: Mapping[str, str],
    source: str,
    bounds: tuple[float, float],
    advise: Callable[[Sequence[Hashable]], str],
    *,
    average: bool,
) -> tuple[pd.DataFrame, list[str]]:
    """Average neighbouring rows with the same recipe, run and compute, or raise DataError."""
    key = table[["recipe", "run", "compute"]]
    again = key.eq(key.shift()).all(axis=1).to_numpy()
    repeats = int(again.sum())
    if not repeats:
        return table, []
    if not average:
        second = int(np.argmax(again))
        of, pair = table.iloc[second], list(table.index[second - 1 : second + 1])
        rows = " and ".join(str(row) for row in table.index[second - 1 : second + 1])
        others = f" (and {count(repeats - 1, 'more row')} like it)" if repeats > 1 else ""
        apart = ', or name the column that tells runs apart with run="..." (command line: --run ...)'
        raise DataError(
            f"{source}, rows {rows}: run {of['run']!r} of recipe {of['recipe']!r} is evaluated twice at"
            f" {columns['compute']} {of['compute']:.10g}{others}; average the rows, or pass"
            f' duplicates="mean" (command line: --duplicates mean){"" if "run" in columns else apart}{advise(pair)}.'
        )
    if "stage" in table:
        torn = again & table["stage"].ne(table["stage"].shift()).to_numpy()
        if torn.any():
            of = table.iloc[int(np.argmax(torn))]
            raise DataError(
                f"{source}, row {table.index[int(np.argmax(torn))]}: run {of['run']!r} of recipe {of['recipe']!r} is "
                f"evaluated in two stages at {columns['compute']} {of['compute']:.10g}; keep the evaluation of the "
                "earlier stage."
            )
    starts = np.flatnonzero(~again)
    size = np.diff(np.append(starts, len(table)))
    total = np.add.reduceat(table["n_eval"].to_numpy(), starts)  # NaN if any is unknown
    weight = np.where(np.isnan(np.repeat(total, size)), 1.0, table["n_eval"])
    reward = table["reward"].to_numpy()
    mean = np.add.reduceat(weight * reward, starts) / np.add.reduceat(weight, starts)
    # Single rows keep their exact reward; means are clipped because rounding might leave the bounds.
    mean = np.where(size == 1, reward[starts], np.clip(mean, *bounds))
    merged = int(size[size > 1].sum())
    note = f"duplicates: averaged {count(merged, 'row')} into {count(merged - repeats, 'evaluation')}"
    made_of = [tuple(table.index[first : first + n]) for first, n in zip(starts, size, strict=True)]
    return table.iloc[starts].assign(reward=mean, n_eval=total, rows=pd.Series(made_of, table.index[starts])), [note]


def _check_twins(table: pd.DataFrame, label: str, source: str) -> None:
    """Raise DataError if two runs have the same evaluations above 0, since a run counted twice looks like a replicate.

    Step 0 is ignored, because runs may share one evaluation of the model from which they start.
    """
    above = table[table["compute"] > 0]
    pair = above[["recipe", "run"]]
    starts = np.flatnonzero(pair.ne(pair.shift()).any(axis=1))
    cells = above[["compute", "reward"]].to_numpy() + 0.0  # -0.0 is 0.0
    seen: dict[bytes, tuple[str, str]] = {}
    twins = []
    for own, name in zip(np.split(cells, starts)[1:], pair.iloc[starts].itertuples(index=False), strict=True):
        if len(own) >= FEWEST_ALIKE and np.ptp(own[:, 1]) > 0:
            twin = seen.setdefault(own.tobytes(), name)
            if twin is not name:
                twins.append((twin, name, len(own)))
    if twins:
        *both, size = twins[0]
        first, second = (f"run {run!r} of recipe {recipe!r}" for recipe, run in both)
        others = f" (and {count(len(twins) - 1, 'more run')} listed again)" if len(twins) > 1 else ""
        raise DataError(
            f"{source}: {first} and {second} hold the same {count(size, 'evaluation')} with {label} above 0{others};"
            " that is one run counted twice, so leave the rows of one of them out."
        )


def _uneven_computes(table: pd.DataFrame, label: str) -> list[str]:
    """Return a note on each recipe whose runs seem to count compute in different units."""
    above = table[table["compute"] > 0].groupby(["recipe", "run"], sort=False)["compute"]
    spans = above.agg(["min", "max", "size"]).reset_index()
    ranges = spans[spans["size"] > 1]  # the compute of a single evaluation may differ from the others
    notes: dict[str, str] = {}
    for runs, end, factor, why in (
        (ranges, "min", 1.0, "do not overlap"),
        (spans, "max", MOST_UNEVEN, f"end more than a factor of {MOST_UNEVEN:g} apart"),
    ):
        recipes = runs.groupby("recipe", sort=False)
        low, high = runs.loc[recipes["max"].idxmin()], runs.loc[recipes[end].idxmax()]
        odd = high[end].to_numpy() / factor > low["max"].to_numpy()
        for one, other in zip(low[odd].itertuples(), high[odd].itertuples(), strict=True):
            both = f"{_span(one)} in run {one.run!r} and {_span(other)} in run {other.run!r}"
            notes.setdefault(
                str(one.recipe),
                f"compute: the runs of recipe {one.recipe!r} {why} in {label}, {both}; check that all count in one"
                " unit and from the start of training",
            )
    return list(notes.values())


def _span(run: Any) -> str:
    """Text of the compute range of a run: "0.5 to 6", or "5" for a single evaluation."""
    return f"{run.min:,.6g}" + (f" to {run.max:,.6g}" if run.max > run.min else "")


def _uneven_starts(table: pd.DataFrame, label: str, bounds: tuple[float, float]) -> list[str]:
    """Return a note on each recipe whose runs seem to start from different models."""
    logged = table[table["compute"] == 0]
    recipes = logged.groupby("recipe", sort=False)["reward"]
    low, high = logged.loc[recipes.idxmin()], logged.loc[recipes.idxmax()]
    first, second = ((end["reward"].to_numpy() - bounds[0]) / (bounds[1] - bounds[0]) for end in (low, high))
    n, m = low["n_eval"].to_numpy(), high["n_eval"].to_numpy()
    pooled = np.clip((n * first + m * second) / (n + m), 0.0, 1.0)  # rounding might leave the bounds
    allowed = MOST_ERRORS * np.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m))
    far = second - first > np.where(np.isnan(allowed), MOST_APART, allowed)
    return [
        f"step 0: recipe {one.recipe!r} starts at {label} {one.reward:.6g} in run {one.run!r} and at {other.reward:.6g}"
        f" in run {other.run!r}, too far apart for one model; check that its runs start from the same model and are"
        " evaluated alike, or name them as two recipes"
        for one, other in zip(low[far].itertuples(), high[far].itertuples(), strict=True)
    ]
