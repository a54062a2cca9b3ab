"""W&B: CSV downloads of charts, and histories in Parquet."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from rlceiling.errors import DataError, count, listing
from rlceiling.logs.conventions import steps_of_rows
from rlceiling.logs.probe import Format, Probe
from rlceiling.logs.rows import TIME, LoggedRun, Rows, number_in
from rlceiling.runs.files import open_text

_CHART = re.compile(r"(?P<run>.+) - (?P<key>.+?)(?P<end>__MIN|__MAX)?")
_STEP = re.compile(r"(?:.*/)?_?(?:global_)?step|step|frame|iteration|epoch", re.IGNORECASE)
_SECONDS = re.compile(r"relative time.*|_runtime|runtime", re.IGNORECASE)
BATCH = 4096


def _recognises_chart(probe: Probe) -> bool:
    first, *others = probe.header or [""]
    return bool(others) and all(_CHART.fullmatch(name) for name in others) and not _CHART.fullmatch(first)


def _read_chart(path: Path) -> list[LoggedRun]:
    with open_text(path) as text:
        table = pd.read_csv(text, dtype=str, keep_default_na=False)
    x = table.columns[0]
    at = pd.to_numeric(table[x].str.replace(",", ""), errors="coerce").to_numpy(dtype=float)
    runs: dict[str, LoggedRun] = {}
    averaged: dict[str, int] = {}
    keys: dict[str, dict[str, str]] = {}
    for name in table.columns[1:]:
        if found := _CHART.fullmatch(name):
            keys.setdefault(found["run"], {})[f"{found['key']}{found['end'] or ''}"] = name
    for run, columns in keys.items():
        runs[run] = LoggedRun(run, Rows(), step_label="step" if _STEP.fullmatch(x.strip()) else x)
        numbers = {key: pd.to_numeric(table[column], errors="coerce").to_numpy() for key, column in columns.items()}
        plain = [key for key in columns if not key.endswith(("__MIN", "__MAX")) and key != "_step"]
        runs[run].metrics = tuple(plain)
        for key in plain:
            written = table[columns[key]].str.strip().ne("").to_numpy()
            runs[run].rows.empty[key] = int((written & ~np.isfinite(numbers[key])).sum())
        for row, step in enumerate(at):
            cells = {key: numbers[key][row] for key in plain if np.isfinite(numbers[key][row])}
            if cells and np.isfinite(step):
                if _SECONDS.fullmatch(x.strip()):
                    cells["_runtime"] = step
                runs[run].rows.add(step, cells)
        for key in plain:
            ends = [numbers.get(f"{key}__{end}") for end in ("MIN", "MAX")]
            if ends[0] is not None and ends[1] is not None:
                apart = int(np.nansum(ends[0] != ends[1]) - np.isnan(ends[0]).sum())
                if apart > 0:
                    averaged[run] = apart
    found_runs = list(runs.values())
    if averaged:
        worst = next(iter(averaged))
        runs[worst].notes.append(
            f"__MIN and __MAX differ at {count(sum(averaged.values()), 'point')} of {listing(averaged, 3)}: these "
            f"are means, "
            "of a group of runs or of several evaluations, which hide the noise; export single runs, or the history"
        )
    return found_runs


def _recognises_history(probe: Probe) -> bool:
    if probe.head[:4] != b"PAR1":
        return False
    names = _parquet(probe.path).schema_arrow.names
    return "_step" in names or {"run_name", "step", "timestamp"} <= set(names)


def _parquet(path: Path):  # type: ignore[no-untyped-def]
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} is not a whole Parquet file ({error}); download it again.") from None


def _read_history(path: Path) -> list[LoggedRun]:
    import pyarrow.types as kinds

    file = _parquet(path)
    wanted = [
        field.name
        for field in file.schema_arrow
        if kinds.is_integer(field.type) or kinds.is_floating(field.type) or field.name in ("run_name", "timestamp")
    ]
    runs: dict[str, LoggedRun] = {}
    for batch in file.iter_batches(BATCH, columns=wanted):
        columns = batch.to_pydict()
        names = columns.pop("run_name", None)
        for row in range(batch.num_rows):
            own = {key: cell for key, cells in columns.items() if (cell := cells[row]) is not None}
            name = str(names[row]) if names else ""
            run = runs.setdefault(name, LoggedRun(name, Rows()))
            time = number_in(own.get("_timestamp")) or seconds(own.pop("timestamp", None))
            run.rows.add(float("nan"), own if time is None else {**own, TIME: time})
    for run in runs.values():
        run.notes += steps_of_rows(run.rows)
    return list(runs.values())


def seconds(cell: object) -> float | None:
    """Seconds since 1970 of a time that is written as text or number; None if there is none."""
    if cell is None:
        return None
    if (value := number_in(cell)) is not None:
        return value
    stamp = pd.to_datetime(str(cell), errors="coerce", utc=True)
    return float(stamp.timestamp()) if isinstance(stamp, pd.Timestamp) else None


def _recognises_binary(probe: Probe) -> bool:
    names = probe.names if probe.is_folder else [probe.path.name]
    return any(name.endswith(".wandb") for name in names)


def _read_binary(path: Path) -> list[LoggedRun]:
    folder = path if path.is_dir() else path.parent
    raise DataError(
        f"{path.name} is W&B's own binary file, which only W&B reads; upload it with `wandb sync {folder.name}` and "
        "download the history of the run (the artifact that ends in -history), or let the trainer also log to a file, "
        "TensorBoard or Trackio."
    )


FORMATS = (
    Format("W&B chart CSV", _recognises_chart, _read_chart, rank=30, table=True),
    Format("W&B history", _recognises_history, _read_history, rank=20, table=True),
    Format("W&B binary file", _recognises_binary, _read_binary, rank=90),
)
