"""Files of tables, opened as raw cells."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rlceiling.errors import DataError, listing
from rlceiling.runs.growing import LEFT_OUT, ends_with_line, unfinished

GZIP, UTF16 = b"\x1f\x8b", (b"\xff\xfe", b"\xfe\xff")


class RawTable(NamedTuple):
    """Cells of a table as they were read.

    Attributes
    ----------
    cells : DataFrame
        Cells, indexed by the number of the row in the file.
    name : str
        Name of the source in messages.
    stem : str
        Default name of the recipe.
    separator : str
        Character between cells; empty if the file is not text.
    notes : tuple of str
        What was left out.
    """

    cells: pd.DataFrame
    name: str
    stem: str
    separator: str = ""
    notes: tuple[str, ...] = ()


def open_table(source: str | os.PathLike[str] | pd.DataFrame) -> RawTable:
    """Open a file or a data frame.

    Raises
    ------
    DataError
        If there is no such file, or if it cannot be read.
    """
    if isinstance(source, pd.DataFrame):
        return RawTable(source.set_axis(pd.RangeIndex(1, len(source) + 1), axis=0), "DataFrame", "recipe")
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(f"read_runs takes a file or a pandas DataFrame, not {type(source).__name__}.")
    path = Path(source)
    read = reader_of(path)
    if not path.is_file():
        raise DataError(f"there is no file {path.name}; check its folder and spelling.")
    try:
        return read(path)._replace(stem=kind_of(path)[1])
    except DataError:
        raise
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not UTF-8 text; save it as UTF-8.") from None
    except (ValueError, OSError, EOFError, NotImplementedError) as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip().rstrip(".")
        raise DataError(f"{path.name} cannot be read ({reason}); check or export it again.") from error


def reader_of(path: Path) -> Callable[[Path], RawTable]:
    """Function that reads a table; raises DataError if its suffix is not known."""
    read = _READERS.get(kind_of(path)[0])
    if read is None:
        logs = "; logs of trainers and trackers are read by read_log" if path.exists() else ""
        raise DataError(f"{path.name} does not end in one of {listing(_READERS)}; convert or rename it{logs}.")
    return read


def kind_of(path: Path) -> tuple[str, str]:
    """Suffix of a table in lower case, without that of a compression, and the rest of its name."""
    name = path.name.removesuffix(".gz") if path.name.lower().endswith(".gz") else path.name
    return Path(name).suffix.lower(), Path(name).stem


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a text file, whether compressed by gzip or not, in UTF-8 or UTF-16 with a byte order mark."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    opened = gzip.open(path, "rb") if compressed else path.open("rb")  # noqa: SIM115
    head = opened.read(2)
    opened.seek(0)
    encoding = "utf-16" if head in UTF16 else "utf-8-sig"
    return io.TextIOWrapper(opened, encoding=encoding, newline="")  # type: ignore[arg-type, unused-ignore]


def _read_text(path: Path, separator: str) -> RawTable:
    """Read cells as text, so that a cell that is not a number can be quoted in a message."""
    with open_text(path) as lines:
        header = lines.readline()
    found = max((separator, ";", "\t"), key=header.count) if header.count(separator) == 0 else separator
    _check_distinct(next(csv.reader([header], delimiter=found), []), path.name)
    try:
        raw = _parse(path, found)
    except pd.errors.EmptyDataError:
        return RawTable(pd.DataFrame(), path.name, "", found)
    except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
        widened = _with_more_columns(path, found)
        if widened is None and isinstance(error, pd.errors.ParserWarning):
            raise DataError(
                f"{path.name} has rows with more cells than its first line, {header.strip()[:60]!r}; give every column "
                "a name there, remove separators at the end of lines, and lines above the names."
            ) from None
        if widened is None:
            raise
        raw = widened
    raw = raw.set_axis(pd.RangeIndex(1, len(raw) + 1), axis=0)
    note = "" if ends_with_line(path) else unfinished(raw)
    kept = raw.iloc[:-1] if note.endswith(LEFT_OUT) else raw
    return RawTable(kept, path.name, "", found, (note,) if note else ())


def _parse(path: Path, separator: str, names: list[str] | None = None) -> pd.DataFrame:
    with warnings.catch_warnings(), open_text(path) as text:
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would drop cells
        more: dict[str, Any] = {} if names is None else {"names": names, "header": 0}
        return pd.read_csv(text, sep=separator, dtype=str, keep_default_na=False, index_col=False, **more)


def _with_more_columns(path: Path, separator: str) -> pd.DataFrame | None:
    """Cells of a file whose rows end with more separators than its header; None if such a cell holds something."""
    with open_text(path) as text:
        rows = csv.reader(text, delimiter=separator)
        header = next(rows)
        widest = max((len(row) for row in rows), default=0)
    if widest <= len(header):
        return None
    raw = _parse(path, separator, [*header, *(f"\0{i}" for i in range(widest - len(header)))])
    more = raw.iloc[:, len(header) :]
    return raw.iloc[:, : len(header)] if (more.isna() | more.isin([""])).to_numpy().all() else None


def without_empty(raw: pd.DataFrame) -> pd.DataFrame:
    """Leave out rows without any cell, and columns without a name and without any cell."""
    if all(pd.api.types.is_numeric_dtype(dtype) for dtype in raw.dtypes):
        return raw
    blank = raw.isna() | raw.isin([""])
    unnamed = [str(c).startswith("Unnamed: ") or not str(c).strip() for c in raw.columns]
    gone = [one and bool(blank.iloc[:, place].all()) for place, one in enumerate(unnamed)]
    kept = raw.loc[~blank.all(axis=1)] if blank.all(axis=1).any() else raw
    return kept.loc[:, [not one for one in gone]] if any(gone) else kept


MOST_DIGITS = 300
"""Digits of a number that are still read; numbers of 309 digits are infinite."""


class _Repeated(ValueError):
    """A key stands twice in a JSON object."""


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; raises `_Repeated` if a key stands twice in it, of which Python would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Repeated(repr(next(key for key in keys if keys.count(key) > 1)))
    return found


def _check_distinct(columns: Sequence[object], source: str) -> None:
    """Raise DataError if two columns have one name, of which pandas renames the second."""
    names = [str(column).strip() for column in columns if not pd.isna(column)]  # type: ignore[call-overload]
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{source} has {names.count(name)} columns {name!r}; rename all but one.")


def _read_json_lines(path: Path) -> RawTable:
    rows: dict[int, dict[str, object]] = {}
    notes: tuple[str, ...] = ()
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                rows[number] = json.loads(line.strip(), object_pairs_hook=_distinct)
                if len(line) > MOST_DIGITS and re.search(rf"\d{{{MOST_DIGITS}}}", line):
                    raise DataError(f"{path.name}, row {number}: a number has more than {MOST_DIGITS} digits.")
            except RecursionError:
                raise DataError(
                    f"{path.name}, row {number}: nested too deeply; write one flat JSON object on each line."
                ) from None
            except _Repeated as error:
                raise DataError(f"{path.name}, row {number}: the key {error} stands twice in it; keep one.") from None
            except json.JSONDecodeError as error:
                if not line.endswith("\n") and rows:
                    notes = (f"row {number}, the last, is cut in the middle and was left out",)
                    break
                raise DataError(
                    f"{path.name}, row {number}: not valid JSON ({error.msg} at character {error.colno});"
                    " write one JSON object on each line."
                ) from None
            if not isinstance(rows[number], dict):
                raise DataError(f"{path.name}, row {number}: not a JSON object; write one JSON object on each line.")
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    cells = {column: [row.get(column) for row in rows.values()] for column in columns}
    # dtype object keeps null distinct from NaN.
    return RawTable(pd.DataFrame(cells, index=list(rows), dtype=object), path.name, "", notes=notes)


def _read_parquet(path: Path) -> RawTable:
    raw = pd.read_parquet(path)
    return RawTable(raw.set_axis(pd.RangeIndex(1, len(raw) + 1), axis=0), path.name, "")


def _read_excel(path: Path) -> RawTable:
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise DataError(
            f'{path.name}: a workbook is read by openpyxl; install it with `pip install "rlceiling[logs]"`, or save the'
            " sheet as CSV."
        ) from None
    try:
        sheets = pd.read_excel(path, sheet_name=None, dtype=object)
        headers = pd.read_excel(path, sheet_name=None, dtype=object, header=None, nrows=1)
    except Exception as error:  # openpyxl and zipfile raise many kinds
        raise DataError(f"{path.name} cannot be read ({error}); check or export it again.") from error
    filled = {name: cells for name, cells in sheets.items() if len(cells)}
    if len(filled) > 1:
        raise DataError(f"{path.name} has {len(filled)} sheets: {listing(filled)}; save the one with the runs as CSV.")
    raw = next(iter(filled.values()), pd.DataFrame())
    for name in filled:
        _check_distinct(headers[name].iloc[0].tolist(), path.name)
    return RawTable(raw.set_axis(pd.RangeIndex(1, len(raw) + 1), axis=0), path.name, "")


_READERS: dict[str, Callable[[Path], RawTable]] = {
    ".csv": lambda path: _read_text(path, ","),
    ".tsv": lambda path: _read_text(path, "\t"),
    ".txt": lambda path: _read_text(path, "\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
    ".xlsx": _read_excel,
}
