"""Cells as people write numbers: 81.4%, 1,000, 27,3 or 0.31 ± 0.02."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

MISSING = frozenset({"", "nan", "-nan", "+nan", "null", "none", "n/a", "na", "#n/a", "<na>", "nat"})
"""Texts of cells without a value, in lower case."""

_PLAIN = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_COMMA_THOUSANDS = r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?"
_DOT_THOUSANDS = r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+"
_DOT_THOUSANDS_OR_WHOLE = rf"[+-]?\d+|{_DOT_THOUSANDS}"
_DECIMAL_COMMA = r"[+-]?\d+(?:,\d+)?(?:[eE][+-]?\d+)?|[+-]?\d{1,3}(?:\.\d{3})+,\d+"
MOSTLY = 0.5
"""Share of cells that are written in one way."""

_REMARK = r"\s*(?:±.*|\+/-.*|\(.*\))$"
_PERCENT = r"\s*%"


class _Way(NamedTuple):
    """A way to write numbers: what matches, which character is left out, and its name; a comma left is a point."""

    pattern: str
    without: str
    what: str


_ENGLISH = (
    _Way(_PLAIN, "", ""),
    _Way(f"{_PLAIN}|{_COMMA_THOUSANDS}", ",", "commas that separate thousands"),
    _Way(_DECIMAL_COMMA, ".", "decimal commas"),
)
_EUROPEAN = (
    _Way(_PLAIN, "", ""),
    _Way(_DECIMAL_COMMA, ".", "decimal commas"),
    _Way(_DOT_THOUSANDS_OR_WHOLE, ".", "dots that separate thousands"),
)


def is_missing(cells: pd.Series) -> pd.Series:
    """Whether each cell holds no value: empty, null, NaN or "N/A"."""
    missing = cells.isna()
    if pd.api.types.is_numeric_dtype(cells):
        return missing
    return missing | cells.astype(str).str.strip().str.lower().isin(MISSING)


def plain_numbers(
    cells: pd.Series, column: str, *, ascending: bool, percent: bool, european: bool
) -> tuple[pd.Series, list[str]]:
    """Rewrite cells so that each is a plain number, if most of them are written in one recognised way.

    The others stay as they are, to be quoted in a message.

    Parameters
    ----------
    cells : Series
        Cells of one column, as they were read.
    column : str
        Name of the column, for notes.
    ascending : bool
        Whether the cells are a compute. Then ``500, 1.000, 1.500`` is recognised as five hundred, one thousand and one
        and a half thousand, because only so the numbers ascend.
    percent : bool
        Whether a percentage is divided by 100.
    european : bool
        Whether the table has decimal commas, as of `is_european`.

    Returns
    -------
    Series
        The cells, rewritten where that was needed; those that fit no pattern are returned as they are.
    list of str
        A note on what was rewritten.
    """
    if pd.api.types.is_numeric_dtype(cells):
        return cells, []
    missing = is_missing(cells)
    texts = cells[~missing].astype(str).str.strip()
    plain = texts.str.fullmatch(_PLAIN)
    if not len(texts):
        return cells, []
    if plain.all():
        dots = texts.str.fullmatch(_DOT_THOUSANDS_OR_WHOLE).all() and texts.str.fullmatch(_DOT_THOUSANDS).any()
        if not (dots and (european or (ascending and _only_so_ascending(texts)))):
            whole = texts[texts.str.fullmatch(r"[+-]?[1-9]\d{2,}")]
            if not (dots and len(whole)):
                return cells, []
            odd = texts[texts.str.fullmatch(_DOT_THOUSANDS)].iloc[0]
            says = f"{odd!r} is read as {float(odd):g}, beside {whole.iloc[0]!r}"
            return cells, [f"column {column!r}: {says}; if dots separate thousands in it, write numbers without them"]
        numbers = texts.str.replace(".", "", regex=False)
        note = f"column {column!r}: read dots that separate thousands ({_example(cells, numbers)})"
        return _written(cells, numbers), [note]
    remark = texts.str.contains(_REMARK, regex=True)
    bare = texts.str.replace(_REMARK, "", regex=True).str.strip()
    is_percent = bare.str.contains(_PERCENT + "$", regex=True)
    bare = bare.str.replace(_PERCENT + "$", "", regex=True)
    ways = _EUROPEAN if european else _ENGLISH
    fits = [bare.str.fullmatch(way.pattern) for way in ways]
    best = int(np.argmax([one.mean() for one in fits]))
    if fits[best].mean() < MOSTLY:
        return cells, []
    way, kept = ways[best], fits[best]
    bare, is_percent, remark = bare[kept], is_percent[kept], remark[kept]
    if is_percent.any() and not is_percent.all():
        return cells, []
    numbers = bare.str.replace(way.without, "", regex=False) if way.without else bare
    numbers = numbers.str.replace(",", ".", regex=False)
    if (numbers == texts[kept]).all():
        return cells, []
    said = [way.what] if way.what else []
    if is_percent.all():
        said.append("percent")
        if percent:
            numbers = numbers.map(lambda text: repr(float(text) / 100.0))
    if remark.any():
        said.append("the number at the beginning of the cell, without the rest")
    note = f"column {column!r}: read {' and '.join(said)} ({_example(cells, numbers)})"
    return _written(cells, numbers), [note]


def is_european(columns: pd.DataFrame) -> bool:
    """Whether numbers of a table whose cells are separated by semicolons have decimal commas: 27,3."""
    texts = pd.concat([columns[c][~is_missing(columns[c])].astype(str).str.strip() for c in columns])
    commas = texts.str.contains(r"\d,\d", regex=True)
    points = texts.str.contains(r"\d\.\d", regex=True) & ~texts.str.fullmatch(rf"{_DOT_THOUSANDS}(?:,\d+)?")
    return bool(commas.any() and not points.any())


def _only_so_ascending(texts: pd.Series) -> bool:
    """Whether numbers ascend if their dots separate thousands, and fall somewhere if the dots are decimal points."""
    as_decimals = texts.astype(float).to_numpy()
    as_thousands = texts.str.replace(".", "", regex=False).astype(float).to_numpy()
    return bool((np.diff(as_decimals) < 0).any() and (np.diff(as_thousands) > 0).all())


def _example(cells: pd.Series, numbers: pd.Series) -> str:
    """The first cell that changed, before and after."""
    before = cells[numbers.index].astype(str).str.strip()
    row = int(np.argmax((before != numbers).to_numpy()))
    return f"{before.iloc[row]!r} is {float(numbers.iloc[row]):.10g}"


def _written(cells: pd.Series, numbers: pd.Series) -> pd.Series:
    """Cells with the rewritten numbers in their places."""
    out = cells.astype(object)
    out[numbers.index] = numbers.to_numpy(dtype=object)
    return out
