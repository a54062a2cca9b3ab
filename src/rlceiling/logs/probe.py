"""A first look at a file or folder, by which formats recognise their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rlceiling.logs.rows import LoggedRun, object_in
from rlceiling.runs.files import open_text

HEAD = 1 << 16
"""Bytes at the beginning of a file that are looked at."""

MOST_ODD = 0.01
"""Share of characters of a text that cannot be decoded."""

WEIGHTS = frozenset({".safetensors", ".pt", ".pth", ".bin", ".distcp", ".ckpt", ".npz", ".npy", ".png", ".html", ".py"})
MOST_FILES = 20_000
"""Files of a folder that are looked at."""


class Probe:
    """The beginning of a file, or the entries of a folder.

    Attributes
    ----------
    path : Path
        The file or folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._found: dict[str, Any] = {}

    def once(self, name: str, look: Callable[[Probe], Any]) -> Any:
        """What a function finds, which is called once for all formats that ask."""
        if name not in self._found:
            self._found[name] = look(self)
        return self._found[name]

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @cached_property
    def names(self) -> list[str]:
        """Sorted names of the entries of a folder; empty for a file."""
        return sorted(os.listdir(self.path)) if self.is_folder else []

    @cached_property
    def head(self) -> bytes:
        """Bytes at the beginning of a file; empty for a folder."""
        if self.is_folder:
            return b""
        with self.path.open("rb") as file:
            return file.read(HEAD)

    @cached_property
    def text(self) -> str:
        """Text at the beginning of a file; empty if it is not text."""
        if self.is_folder or not self.head:
            return ""
        parts: list[str] = []
        with open_text(self.path) as file:
            file.reconfigure(errors="replace")
            try:
                while sum(map(len, parts)) < HEAD and (part := file.read(4096)):
                    parts.append(part)
            except (OSError, EOFError, UnicodeError):  # a compressed file that is cut
                pass
        text = "".join(parts)
        return "" if "\0" in text or text.count("\ufffd") > MOST_ODD * len(text) else text

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """JSON objects on the first lines, if the first line is one."""
        found = []
        for line in self.text.splitlines()[:200]:
            if not line.strip():
                continue
            one = json_object(line)
            if one is None:
                break
            found.append(one)
        return found

    @cached_property
    def header(self) -> list[str]:
        """Names on the first line of a table."""
        lines = self.text.splitlines()
        if not lines or self.objects:
            return []
        import csv

        return next(csv.reader([lines[0]]), [])

    @cached_property
    def document(self) -> dict[str, Any] | None:
        """The object of a file that is one JSON document; None if it is not one."""
        if not self.text.lstrip().startswith("{") or len(self.objects) > 1:
            return None
        try:
            with open_text(self.path) as file:
                found = json.load(file)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


class Format(NamedTuple):
    """A format of logs.

    Attributes
    ----------
    name : str
        Its name in messages.
    recognises : callable
        Whether a file or folder is of this format, given its `Probe`.
    read : callable
        Runs in a file or folder.
    rank : int
        Place among the formats that a folder may hold side by side; the smallest is read.
    table : bool
        Whether its files are also tables, one row per evaluation, for who names the columns.
    """

    name: str
    recognises: Callable[[Probe], bool]
    read: Callable[[Path], list[LoggedRun]]
    rank: int = 50
    table: bool = False


def json_object(line: str) -> dict[str, Any] | None:
    """The JSON object on a line; None if there is none."""
    return object_in(line) if line.lstrip().startswith("{") else None


def files_in(folder: Path) -> Iterator[Path]:
    """Files below a folder in the order of their names, without hidden folders and weights of models."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() in WEIGHTS or name.startswith("."):
                continue
            seen += 1
            if seen > MOST_FILES:
                return
            yield path
