"""Find the logs in files, folders, patterns and standard input, and the runs in them."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from rlceiling.errors import DataError, count, listing
from rlceiling.logs.conventions import slime_steps
from rlceiling.logs.probe import WEIGHTS, Format, Probe
from rlceiling.logs.registry import all_formats, format_of
from rlceiling.logs.rows import LoggedRun
from rlceiling.runs.files import kind_of
from rlceiling.runs.growing import snapshot

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

TABLES = frozenset({".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".xlsx"})
DEEPEST = 8
"""Levels of folders that are searched."""

_UNNAMED = re.compile(
    r"trainer_state|metrics|logs?|std(out|err)|output|history|console|events.*|checkpoints?|checkpoint-\d+|tb|tensorboard"
    r"|tensorboard_log|runs?|orchestrator|mlruns|trackio|global_step_?\d*(_evals)?|dumped_evals|val(idation)?_data|file",
    re.IGNORECASE,
)
"""Names of files and folders that say nothing of the run."""

_ATTEMPT = re.compile(r"attempt[-_]?(\d+)", re.IGNORECASE)
_ROTATED = re.compile(r"(.*\.\w+)\.(\d+)(\.gz)?")


class Found(NamedTuple):
    """A file or folder of a format.

    Attributes
    ----------
    asked : int
        Number of the path that the user named, at or below which it lies.
    path : Path
        The file or folder.
    format : Format or None
        Its format; None for a table, as `read_runs` reads it.
    """

    asked: int
    path: Path
    format: Format | None

    @property
    def rank(self) -> float:
        """Rank of its format; tables come last."""
        return float("inf") if self.format is None else self.format.rank


@dataclass
class Log:
    """Runs of one or several logs.

    Attributes
    ----------
    source : str
        Name in messages.
    runs : list of LoggedRun
        The runs, each with a name of its own.
    notes : list of str
        What was read, and what else was seen.
    tables : list of Path
        Tables; a log has either tables or runs.
    """

    source: str
    runs: list[LoggedRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)


def find_logs(paths: Sequence[Path]) -> list[Found]:
    """Find the logs in files and folders; a folder that no format recognises as a whole is searched."""
    found: list[Found] = []
    for place, path in enumerate(paths):
        own = [Found(place, *one) for one in _find(path, named=True)]
        if not own and path.is_file() and not Probe(path).head.strip():
            raise DataError(f"{path.name} is empty; give a file with evaluations.")
        if not own and path.is_dir() and not any(path.iterdir()):
            raise DataError(f"{path.name or path} is an empty folder; give one with a log.")
        if not own:
            known = listing(dict.fromkeys(one.name for one in all_formats()), 40)
            raise DataError(f"{path.name or path} holds no log that is recognised; known are tables and: {known}.")
        found += own
    return found


def _find(path: Path, *, named: bool, depth: int = 0) -> Iterator[tuple[Path, Format | None]]:
    """Logs at a path. A file that the user did not name is only looked at if it may be a log."""
    if not path.is_file() and not path.is_dir():
        if named:
            raise DataError(f"{path} is neither a file nor a folder; pipe it in and give - for it.")
        return
    if path.is_file():
        if not named and (path.suffix.lower() in WEIGHTS or not os.access(path, os.R_OK)):
            return
        probe = Probe(path)
        form = format_of(probe)
        if form is not None:
            yield path, form
        elif kind_of(path)[0] in TABLES and (named or kind_of(path)[0] != ".txt"):
            yield path, None
        return
    probe = Probe(path)
    if (form := format_of(probe)) is not None:
        yield path, form
        return
    if depth < DEEPEST:
        for name in probe.names:
            is_link = (path / name).is_symlink() and (path / name).is_dir()  # such as the latest run of W&B
            if not name.startswith(".") and not is_link:
                yield from _find(path / name, named=False, depth=depth + 1)


LOGS = frozenset({".json", ".log", ".out", ".err", ".db", ".eval"})
"""Suffixes of logs."""


def is_log(path: Path) -> bool:
    """Whether a path is a log or a folder, and not a table; by its name if there is nothing yet."""
    if not path.exists():
        return not path.suffix or path.suffix.lower() in LOGS
    return path.is_dir() or format_of(Probe(path)) is not None


def expand(source: Source) -> list[Path]:
    """Files and folders that a source names, of which a pattern may name several."""
    given = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    paths: list[Path] = []
    for one in given:
        text = os.fspath(one)
        if not os.path.exists(text) and glob.has_magic(text):
            matching = [Path(name) for name in sorted(glob.glob(os.path.expanduser(text), recursive=True))]
            if not matching:
                raise DataError(f"no file matches {text!r}; correct the pattern.")
            paths += matching
            continue
        path = Path(text).expanduser()
        if not path.exists():
            raise DataError(f"there is no file {path.name}; check its folder and spelling.")
        paths.append(path)
    if not paths:
        raise DataError("read_log needs a file or folder.")
    return list(dict.fromkeys(paths))


def gather(paths: Sequence[Path], one_run: str | None = None, *, as_tables: bool = False) -> Log:
    """Read the logs at some paths.

    Of several formats side by side in a folder, such as the state of a trainer and the events of TensorBoard, which
    hold the same numbers, one is read.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    one_run : str, optional
        Name of the run of which all logs are attempts, in their order.
    as_tables : bool
        Whether files that are logs and tables are tables, such as JSON lines of metrics.
    """
    found = find_logs(paths)
    if as_tables and all(one.format is None or one.format.table for one in found):
        found = [one._replace(format=None) for one in found]
    logs = [one for one in found if one.format is not None]
    source = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
    if not logs:
        return Log(source, tables=[one.path for one in found])
    best = {place: min(one.rank for one in logs if one.asked == place) for place in {one.asked for one in logs}}
    read = [one for one in logs if one.rank == best[one.asked]]
    log = Log(source)
    forms = dict.fromkeys(one.format.name for one in read if one.format is not None)
    log.notes.append(f"read as {listing(forms)}" + (f": {len(read)} logs" if len(read) > 1 else ""))
    others = [one for one in found if one not in read]
    if others:
        kinds = dict.fromkeys("tables" if one.format is None else one.format.name for one in others)
        log.notes.append(
            f"also there and not read: {listing(kinds)} ({count(len(others), 'file')}, such as "
            f"{others[0].path.name}); name "
            "it to read it"
        )
    logged: list[tuple[str, int, LoggedRun]] = []
    for one, (name, order) in zip(read, name_places([one.path for one in read]), strict=True):
        assert one.format is not None
        for run in one.format.read(one.path):
            run.notes += slime_steps(run.rows)
            logged.append((name, order, run))
    own = [run.name for _, _, run in logged]
    unique = all(own) and len(set(own)) == len(own)
    placed = [
        (run.name if unique else f"{name}/{run.name}" if run.name else name, order, run) for name, order, run in logged
    ]
    log.runs = _join_attempts(placed, one_run)
    return log


def name_places(paths: Sequence[Path]) -> list[tuple[str, int]]:
    """Name the run of each log by the parts of its path that say something, and number the attempts of a run.

    Folders ``attempt_2`` and the numbers of rotated files (``metrics.jsonl.1`` is older than ``metrics.jsonl``) are
    numbers of attempts. What all paths have in common is left out.
    """
    places = [_place(path) for path in paths]
    if len(set(places)) < len(places):
        places = [(path.resolve().parts[1:], order) for path, (_, order) in zip(paths, places, strict=True)]
    parts = [own for own, _ in places]
    if len(set(parts)) > 1:
        first, last = _alike(parts), _alike([own[::-1] for own in parts])
        parts = [own[first : len(own) - last] or own[first:] or own[-1:] for own in parts]
    else:
        parts = [own[-1:] for own in parts]
    names = ["/".join(own) for own in parts]
    return [(name, order) for name, (_, order) in zip(names, places, strict=True)]


def _alike(parts: Sequence[tuple[str, ...]]) -> int:
    """Number of leading parts that all have."""
    return sum(1 for _ in takewhile(lambda one: len(set(one)) == 1, zip(*parts, strict=False)))


def _place(path: Path) -> tuple[tuple[str, ...], int]:
    """Parts of a path that say something of the run, and the number of the attempt."""
    whole = path.resolve()
    names, order = list(whole.parts[1:]), 0
    if whole.is_file():
        name = whole.name
        if rotated := _ROTATED.fullmatch(name):
            name, order = rotated[1], -int(rotated[2])
        names[-1] = kind_of(Path(name))[1]
    for attempt in filter(None, map(_ATTEMPT.fullmatch, names)):
        order = int(attempt[1])
    kept = [name for name in names if not _UNNAMED.fullmatch(name) and not _ATTEMPT.fullmatch(name)]
    return tuple(kept or names[-1:]), order


def _join_attempts(placed: Sequence[tuple[str, int, LoggedRun]], one_run: str | None) -> list[LoggedRun]:
    """Join the attempts of each run, in their order."""
    runs: dict[str, list[tuple[int, LoggedRun]]] = {}
    for name, order, run in placed:
        runs.setdefault(one_run or name, []).append((0 if one_run else order, run))
    joined = []
    for name, attempts in runs.items():
        first, *more = [run for _, run in sorted(attempts, key=lambda one: one[0])]
        whole = replace(first, name=name)
        for run in more:
            whole.rows.extend(run.rows)
            whole.notes += run.notes
        if more:
            whole.notes.append(f"{count(len(attempts), 'log')} joined in their order, as attempts of one run")
        joined.append(whole)
    return joined


@contextmanager
def opened(source: Source, one_run: str | None = None, *, as_tables: bool = False) -> Iterator[Log]:
    """Read the logs of a source; standard input is a file as long as they are used."""
    if source in ("-", ["-"], ("-",)):
        with standard_input() as path:
            yield replace(gather([path], one_run, as_tables=as_tables), source="standard input")
    else:
        yield gather(expand(source), one_run, as_tables=as_tables)


@contextmanager
def as_written(source: str) -> Iterator[tuple[list[str], str]]:
    """Copy the complete lines of tables that grow; logs stay as they are, since their readers leave out a cut line.

    Parameters
    ----------
    source : str
        A file, a folder or a pattern.

    Yields
    ------
    paths : list of str
        What is to be read.
    note : str
        A sentence if last lines are left out; empty otherwise.
    """
    found = find_logs(expand(source))
    if any(one.format is not None for one in found):
        yield [source], ""
        return
    with ExitStack() as stack:
        copies = [stack.enter_context(snapshot(one.path)) for one in found]
        notes = [note if len(found) == 1 else f"{copy.name}: {note}" for copy, note in copies if note]
        yield [str(copy) for copy, _ in copies], "; ".join(notes)


@contextmanager
def standard_input() -> Iterator[Path]:
    """Standard input as a file, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "stdin"
        with plain.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        head = plain.read_bytes()[:4] if plain.stat().st_size < 4 else Probe(plain).head[:4]
        suffix = {b"PAR1": ".parquet", b"PK\x03\x04": ".xlsx"}.get(head, ".jsonl" if head[:1] == b"{" else ".csv")
        path = plain.rename(plain.with_suffix(suffix))
        yield path
