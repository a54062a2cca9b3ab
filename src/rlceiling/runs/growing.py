"""Files that are being written: only their complete lines are read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Suffixes of files to which lines are appended; others are read as they are."""


def complete_lines(content: bytes) -> bytes:
    """Content of a file without a last line that has no line end."""
    return content[: content.rfind(b"\n") + 1]


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
