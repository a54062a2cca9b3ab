"""Files that are being written: only their complete lines are read."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Suffixes of files to which lines are appended; others are read as they are."""


def complete_lines(content: bytes) -> bytes:
    """Content of a file without a last line that has no line end."""
    return content[: content.rfind(b"\n") + 1]


LEFT_OUT = "was left out"


def ends_with_line(path: Path) -> bool:
    """Whether a file ends with a line end; also true of an empty and of a compressed one."""
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return True
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2))
        return size == 0 or bool(set(file.read().replace(b"\0", b"")[-1:]) & set(b"\r\n"))


def unfinished(cells: pd.DataFrame) -> str:
    """Note on the last row of a table whose last line has no line end, as while a logger writes it.

    The row is left out if it must have been cut: it has fewer cells than the header, its last cell ends like the
    beginning of a number or of another name of the column, or is empty while no other is, or has fewer decimals than
    every one of at least ten others. A note says if it may have been cut: its last cell has fewer decimals than others.

    Parameters
    ----------
    cells : DataFrame
        Cells as text, NaN where a row has fewer of them than the header.

    Returns
    -------
    str
        One sentence, which ends with `LEFT_OUT` if the row must be left out; empty if nothing is to be said.
    """
    if len(cells) < 2:
        return ""
    row = f"row {cells.index[-1]}, the last, has no line end"
    last: Any = cells.iloc[-1, -1]
    others = cells.iloc[:-1, -1].dropna().astype(str).str.strip()
    cut = f"{row} and is cut in the middle; it {LEFT_OUT}"
    if pd.isna(last):
        return cut
    last = str(last).strip()
    if last == "":
        return cut if (others != "").all() else ""
    if re.fullmatch(r"[+-]?(\d+\.|(\d+\.?\d*)?[eE][+-]?|\.?)|[+-]", last):
        return cut
    if not re.fullmatch(r"[+-]?\d*\.?\d+", last):
        begins = others.str.startswith(last) & (others != last)
        return cut if begins.any() and not (others == last).any() else ""
    decimals = others[others.str.fullmatch(r"[+-]?\d*\.\d+")].str.partition(".")[2].str.len()
    own = len(last.partition(".")[2])
    if len(decimals) >= FEWEST_DECIMALS and own < decimals.min():
        return cut
    if len(decimals) and own < decimals.max():
        return f"{row}: if it is still being written, its last cell, {last!r}, may be cut; end the line if it is not"
    return ""


FEWEST_DECIMALS = 10
"""Numbers whose decimals are compared with those of the last one."""


@contextmanager
def snapshot(path: Path) -> Iterator[tuple[Path, str]]:
    """Copy the complete lines of a file, so that neither a cut last line nor later writing disturbs reading.

    Parameters
    ----------
    path : Path
        The file. It is not copied unless lines are appended to files of its kind.

    Yields
    ------
    copy : Path
        File with the same name, which is deleted at the end.
    note : str
        One sentence if a last line is left out; empty otherwise.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    if path.suffix.lower() not in LINES or not path.is_file():
        yield path, ""
        return
    content = path.read_bytes()
    whole = complete_lines(content)
    cut = len(whole) < len(content)
    with tempfile.TemporaryDirectory(prefix="rlceiling-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(whole)
        yield copy, "the last line has no line end yet and is left out until it has" if cut else ""
