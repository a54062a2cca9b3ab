"""Stores of trackers: Trackio and MLflow in SQLite, and MLflow's folder of files."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from rlceiling.errors import DataError
from rlceiling.logs.conventions import steps_of_rows
from rlceiling.logs.formats.wandb import seconds
from rlceiling.logs.probe import Format, Probe
from rlceiling.logs.rows import TIME, LoggedRun, Rows, object_in

SQLITE = b"SQLite format 3\0"
_AT = re.compile(r"_at_(?=\d)")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _columns(path: Path, table: str) -> set[str]:
    try:
        with closing(_connect(path)) as store:
            return {str(row[1]) for row in store.execute(f"PRAGMA table_info({table})")}
    except sqlite3.Error:
        return set()


def _is_store(probe: Probe, needed: set[str]) -> bool:
    return probe.head[:16] == SQLITE and needed <= _columns(probe.path, "metrics")


def _recognises_trackio(probe: Probe) -> bool:
    return _is_store(probe, {"run_name", "step", "metrics"})


def _read_trackio(path: Path) -> list[LoggedRun]:
    runs: dict[str, LoggedRun] = {}
    try:
        with closing(_connect(path)) as store:
            store.text_factory = lambda text: text.decode(errors="replace")
            for name, step, time, text in store.execute(
                "SELECT run_name, step, timestamp, metrics FROM metrics ORDER BY id"
            ):
                run = runs.setdefault(str(name), LoggedRun(str(name), Rows()))
                if (numbers := object_in(text)) is not None:
                    at = seconds(time)
                    run.rows.add(float("nan"), {"_step": step, **numbers, **({} if at is None else {TIME: at})})
    except sqlite3.Error as error:
        raise DataError(f"{path.name} cannot be read ({error}); copy it while nothing writes to it.") from None
    for run in runs.values():
        run.notes += steps_of_rows(run.rows)
    return list(runs.values())


def _recognises_mlflow_store(probe: Probe) -> bool:
    return _is_store(probe, {"run_uuid", "key", "value", "step", "timestamp"})


def _read_mlflow_store(path: Path) -> list[LoggedRun]:
    found: dict[str, list[tuple[float, float, str, float]]] = {}
    try:
        with closing(_connect(path)) as store:
            names = dict(store.execute("SELECT run_uuid, name FROM runs"))
            for run, key, value, time, step in store.execute(
                "SELECT run_uuid, key, CASE WHEN is_nan THEN NULL ELSE value END, timestamp, step FROM metrics"
            ):
                found.setdefault(run, []).append((time, step, key, math.nan if value is None else value))
    except sqlite3.Error as error:
        raise DataError(f"{path.name} cannot be read ({error}); copy it while nothing writes to it.") from None
    return [LoggedRun(str(names.get(run) or run), _rows(points)) for run, points in found.items()]


def _rows(points: Iterable[tuple[float, float, str, float]]) -> Rows:
    """Rows of points (milliseconds, step, key, value), in the order in which they were logged.

    A writer of metrics replaces odd characters of a key: ``mean_at_8`` is ``mean@8``.
    """
    rows, pending = Rows(), dict[str, float]()
    now, at = math.nan, math.nan
    for time, step, key, value in sorted(points, key=lambda point: (point[0], point[1])):
        plain = _AT.sub("@", key)
        if pending and (step != at or plain in pending):
            rows.add(at, {**pending, TIME: now / 1000.0})
            pending = {}
        now, at = time, step
        pending[plain] = value
    if pending:
        rows.add(at, {**pending, TIME: now / 1000.0})
    return rows


def _recognises_mlflow_files(probe: Probe) -> bool:
    return probe.is_folder and bool(next(_mlflow_runs(probe.path), None))


def _mlflow_runs(folder: Path) -> Iterator[Path]:
    """Folders of runs: of a run, of an experiment, or of all experiments."""
    for pattern in ("meta.yaml", "*/meta.yaml", "*/*/meta.yaml"):
        for meta in sorted(folder.glob(pattern)):
            if (meta.parent / "metrics").is_dir() and (meta.parent / "params").is_dir():
                yield meta.parent


def _read_mlflow_files(path: Path) -> list[LoggedRun]:
    runs = []
    for folder in _mlflow_runs(path):
        points = []
        for file in sorted(one for one in (folder / "metrics").rglob("*") if one.is_file()):
            key = file.relative_to(folder / "metrics").as_posix()
            for line in file.read_text(encoding="utf-8").splitlines():
                cells = line.split()  # timestamp, value and, in all but old stores, step
                try:
                    time, value = float(cells[0]), float(cells[1])
                    points.append((time, float(cells[2]) if len(cells) > 2 else math.nan, key, value))
                except (ValueError, IndexError):
                    continue  # the line that is being written
        name = folder / "tags" / "mlflow.runName"
        runs.append(
            LoggedRun(name.read_text(encoding="utf-8").strip() if name.is_file() else folder.name, _rows(points))
        )
    return runs


FORMATS = (
    Format("Trackio store", _recognises_trackio, _read_trackio, rank=21),
    Format("MLflow store", _recognises_mlflow_store, _read_mlflow_store, rank=22),
    Format("MLflow files", _recognises_mlflow_files, _read_mlflow_files, rank=22),
)
