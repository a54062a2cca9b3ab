"""TensorBoard: folders of event files, CSV downloads of a scalar, and the JSON dump of all scalars."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rlceiling.errors import DataError
from rlceiling.logs.probe import Format, Probe
from rlceiling.logs.rows import TIME, LoggedRun, Rows, number_in
from rlceiling.runs.files import open_text

EVENTS = "events.out.tfevents."
_DOWNLOAD = re.compile(r"(?:run-)?(?P<run>.+?)[-_]tag-(?P<tag>.+)")
_DUMP = re.compile(r'\s*\{\s*"[^"]+"\s*:\s*\{\s*"\d+"\s*:')
HEADER = ["Wall time", "Step", "Value"]


def _recognises_events(probe: Probe) -> bool:
    if probe.is_folder:
        return any(EVENTS in name for name in probe.names)
    return EVENTS in probe.path.name


def _scalars(path: Path) -> Iterator[tuple[float, float, str, float]]:
    """Yield time, step, tag and value of the scalars in an event file, in the order in which they were written."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util import tensor_util
    except ImportError:
        raise DataError(
            f'{path.name}: event files are read by tensorboard; install it with `pip install "rlceiling[logs]"`, or '
            "download the scalars as CSV."
        ) from None
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield event.wall_time, float(event.step), value.tag, value.simple_value
            elif value.HasField("tensor") and value.tensor.dtype in (1, 2):  # floats of one or two words
                number = tensor_util.make_ndarray(value.tensor)
                if number.size == 1:
                    yield event.wall_time, float(event.step), value.tag, float(number.reshape(()))


def _read_events(path: Path) -> list[LoggedRun]:
    files = [path] if path.is_file() else [path / name for name in Probe(path).names if EVENTS in name]
    began = sorted(files, key=lambda one: (_began(one), one.name))  # a file for each attempt
    rows = Rows()
    step, time, pending = float("nan"), float("nan"), dict[str, float]()
    for file in began:
        for now, at, tag, value in _scalars(file):
            if pending and (at != step or tag in pending):
                rows.add(step, {**pending, TIME: time})
                pending = {}
            step, time = at, now
            pending[tag] = value
    if pending:
        rows.add(step, {**pending, TIME: time})
    return [LoggedRun("", rows)]


def _began(path: Path) -> float:
    """Time in the name of an event file at which it was opened."""
    found = re.search(r"tfevents\.(\d+)", path.name)
    return float(found[1]) if found else path.stat().st_mtime


def _recognises_download(probe: Probe) -> bool:
    return probe.header == HEADER


def _read_download(path: Path) -> list[LoggedRun]:
    with open_text(path) as text:
        table = pd.read_csv(text)
    named = _DOWNLOAD.fullmatch(path.stem)
    key = named["tag"] if named else "Value"
    rows = Rows()
    for time, step, value in table[HEADER].itertuples(index=False):
        rows.add(float(step), {key: value, TIME: number_in(time)})
    return [LoggedRun(named["run"] if named else "", rows, metrics=(key,))]


def _recognises_dump(probe: Probe) -> bool:
    if not _DUMP.match(probe.text):
        return False
    found = probe.document or {}
    series = [one for one in found.values() if isinstance(one, dict)]
    return bool(series) and len(series) == len(found) and all(_is_series(one) for one in series)


def _is_series(one: dict[str, object]) -> bool:
    return bool(one) and all(
        step.isdigit() and (cell is None or number_in(cell) is not None) for step, cell in one.items()
    )


def _read_dump(path: Path) -> list[LoggedRun]:
    document = Probe(path).document or {}
    by_step: dict[float, dict[str, object]] = {}
    for tag, one in document.items():
        for step, value in one.items():
            by_step.setdefault(float(step), {})[tag] = value
    rows = Rows()
    for step in sorted(by_step):
        rows.add(step, by_step[step])
    return [LoggedRun("", rows)]


FORMATS = (
    Format("TensorBoard events", _recognises_events, _read_events, rank=20),
    Format("TensorBoard CSV", _recognises_download, _read_download, rank=31, table=True),
    Format("JSON dump of TensorBoard", _recognises_dump, _read_dump, rank=32),
)
