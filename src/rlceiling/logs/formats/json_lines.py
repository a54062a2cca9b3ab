"""JSON lines: verl's file logger, prime-rl, tinker-cookbook, W&B history and other metrics with slashes in keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlceiling.errors import count
from rlceiling.logs.conventions import STEP_KEYS, held_out_keys, is_metric_key, steps_of_rows
from rlceiling.logs.probe import Format, Probe
from rlceiling.logs.rows import TIME, LoggedRun, Rows, flat, number_in, object_in
from rlceiling.runs.files import open_text

TIMES = ("time", "_timestamp", "timestamp")
TEXTS = ("recipe", "method", "input", "output", "prompt", "completion", "content", "messages")
"""Keys of tables of recipes and of samples, which are no logs of metrics."""

LONGEST_LINE = 1 << 26
"""Characters of a line; a longer one does not hold metrics."""


def iter_objects(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file with one on each line, and note lines that are left out.

    A file that is being written may end in the middle of a line, and one to which a resumed run appended may have
    such a line in its middle.
    """
    broken: list[int] = []
    cut = False
    with open_text(path) as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                found = object_in(line) if len(line) < LONGEST_LINE else None
                if found is not None:
                    yield found
                elif not line.endswith("\n"):
                    cut = True
                else:
                    broken.append(number)
        except (EOFError, UnicodeDecodeError):  # a compressed file, or a letter, is cut
            cut, number = True, number + 1
    if cut:
        notes.append(f"{path.name}: line {number}, the last, is cut in the middle and was left out")
    if broken:
        lines_ = f"{count(len(broken), 'line')} without a JSON object (the first is line {broken[0]})"
        notes.append(f"{path.name}: left out {lines_}")


def _recognises_verl(probe: Probe) -> bool:
    first = probe.objects[0] if probe.objects else {}
    return number_in(first.get("step")) is not None and isinstance(first.get("data"), dict)


def _read_verl(path: Path) -> list[LoggedRun]:
    rows, notes = Rows(), list[str]()
    for one in iter_objects(path, notes):
        step, data = number_in(one.get("step")), one.get("data")
        if step is not None and isinstance(data, dict):
            rows.add(step, data)
    return [LoggedRun("", rows, notes)]


def _recognises_metrics(probe: Probe) -> bool:
    if not probe.objects or _recognises_verl(probe) or _has_series(probe.objects[0]):
        return False
    if len(probe.objects) == 1 and probe.path.suffix == ".json":  # a summary, such as that of a W&B run
        return False
    keys = {key for one in probe.objects for key in one}
    if any(isinstance(one.get(key), (str, list)) for one in probe.objects for key in TEXTS):
        return False
    nested = {key for one in probe.objects for key, _ in flat(one) if key not in one}
    return "_step" in keys or any(is_metric_key(key) for key in keys) or bool(held_out_keys(sorted(nested)))


def _has_series(one: dict[str, Any]) -> bool:
    """Whether an object holds series {step: value} and not the values of one step."""
    return any(isinstance(cell, dict) and cell and all(key.isdigit() for key in cell) for cell in one.values())


def _read_metrics(path: Path) -> list[LoggedRun]:
    rows, notes = Rows(), list[str]()
    for one in iter_objects(path, notes):
        time = next((number_in(one[key]) for key in TIMES if key in one), None)
        rows.add(float("nan"), one if time is None else {**one, TIME: time})
    notes += steps_of_rows(rows)
    return [LoggedRun("", rows, notes)]


def _list_in(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON list, such as an exported `log_history`; empty if the file is not one."""
    try:
        with open_text(path) as file:
            found = json.load(file)
    except (ValueError, RecursionError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _recognises_list(probe: Probe) -> bool:
    if not re.match(r"\s*\[\s*\{", probe.text):
        return False
    keys = {key for one in _list_in(probe.path) for key in one}
    return bool(keys & set(STEP_KEYS)) and any(is_metric_key(key) for key in keys)


def _read_list(path: Path) -> list[LoggedRun]:
    rows = Rows()
    for one in _list_in(path):
        rows.add(float("nan"), {key: cell for key, cell in one.items() if "\0" not in key})
    return [LoggedRun("", rows, steps_of_rows(rows))]


FORMATS = (
    Format("verl file logger", _recognises_verl, _read_verl, rank=10),
    Format("JSON lines of metrics", _recognises_metrics, _read_metrics, rank=12, table=True),
    Format("JSON list of metrics", _recognises_list, _read_list, rank=13),
)
