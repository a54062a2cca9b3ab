"""`trainer_state.json` of Hugging Face's Trainer and TRL, and folders of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlceiling.errors import DataError
from rlceiling.logs.probe import Format, Probe, files_in
from rlceiling.logs.rows import LoggedRun, Rows, number_in
from rlceiling.runs.files import open_text

NAME = "trainer_state.json"


def _recognises(probe: Probe) -> bool:
    if probe.is_folder:
        return NAME in probe.names or any(
            name.startswith("checkpoint-") and (probe.path / name / NAME).is_file() for name in probe.names
        )
    return probe.text.lstrip().startswith("{") and '"log_history"' in probe.text  # keys are sorted


def _load(path: Path) -> dict[str, Any] | None:
    try:
        with open_text(path) as file:
            found = json.load(file)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("log_history"), list) else None


def _read(path: Path) -> list[LoggedRun]:
    files = [path] if path.is_file() else [one for one in files_in(path) if one.name == NAME and _near(one, path)]
    states = {one: state for one in files if (state := _load(one)) is not None}
    notes = [f"{_short(one)} is cut in the middle and was left out" for one in files if one not in states]
    if not states:
        raise DataError(
            f"{_short(files[0])} is not a whole JSON document, as while a trainer writes it; read it again, or read "
            "the one of an earlier checkpoint."
        )
    # The latest checkpoint holds the whole history.
    latest = max(states, key=lambda one: (number_in(states[one].get("global_step")) or 0.0, one.stat().st_mtime))
    if len(files) > 1:
        notes.append(f"read {_short(latest)}, the last of {len(files)} checkpoints, which holds the history of all")
    rows = Rows()
    for one in states[latest]["log_history"]:
        if isinstance(one, dict) and (step := number_in(one.get("step"))) is not None:
            rows.add(step, {key: cell for key, cell in one.items() if key != "step"})
    return [LoggedRun("", rows, notes)]


def _near(file: Path, folder: Path) -> bool:
    """Whether a file is in a folder, or in a checkpoint of it."""
    return file.parent == folder or (file.parent.parent == folder and file.parent.name.startswith("checkpoint-"))


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


FORMATS = (Format("trainer_state.json", _recognises, _read, rank=5),)
