"""Results as files: what a benchmark measured, and with which version on which machine.

Every command writes one JSON file for each of its parts into ``results/`` of its folder with :func:`record`. The
``render.py`` of the folder makes the README from these files.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


def record(
    name: str,
    command: str,
    tables: Mapping[str, pd.DataFrame],
    lines: Sequence[str] = (),
    seconds: float | None = None,
    folder: Path = HERE,
) -> Path:
    """Write the tables and sentences that a command measured to ``results/<name>.json`` in `folder`.

    `command` is the command line without ``python`` and the folder. The named levels of a table's index become its
    first columns.
    """
    measured = {
        "command": f"python {folder.relative_to(REPOSITORY).as_posix()}/{command}",
        "measured_by": "this command",
        "stale": False,
        "rlceiling": version("rlceiling"),
        **commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "seconds": None if seconds is None else round(seconds),
    }
    plain_tables = {title: plain(table) for title, table in tables.items()}
    return write(folder / "results" / f"{name}.json", measured, plain_tables, lines)


def write(path: Path, measured: Mapping[str, Any], tables: Mapping[str, Any], lines: Sequence[str]) -> Path:
    """Write one result file; a row of a table takes one line, so that a new measurement gives a readable diff."""
    parts = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in measured.items()]
    parts.append(f'  "lines": {json.dumps(list(lines), indent=4)}'.replace("\n]", "\n  ]"))
    shown = []
    for title, table in tables.items():
        rows = ",\n".join(f"        {json.dumps(row)}" for row in table["rows"])
        columns = json.dumps(table["columns"])
        shown.append(
            f'    {json.dumps(title)}: {{\n      "columns": {columns},\n      "rows": [\n{rows}\n      ]\n    }}'
        )
    parts.append('  "tables": {\n' + ",\n".join(shown) + "\n  }")
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    return path


def plain(table: pd.DataFrame) -> dict[str, Any]:
    """Columns and rows of a table, index first; levels of the columns are joined by a bar."""
    if table.index.nlevels > 1 or table.index.name:
        table = table.reset_index()
    names = [
        " | ".join(str(level) for level in column if level != "") if isinstance(column, tuple) else str(column)
        for column in table.columns
    ]
    return {
        "columns": [name.strip() for name in names],
        "rows": [list(map(value, row)) for row in table.to_numpy(object)],
    }


def value(cell: Any) -> Any:
    """A cell as JSON takes it, numbers with six digits."""
    if isinstance(cell, (bool, np.bool_)):
        return bool(cell)
    if isinstance(cell, (int, np.integer)):
        return int(cell)
    if isinstance(cell, (float, np.floating)):
        return float(f"{cell:.6g}") if np.isfinite(cell) else None
    return None if cell is None else str(cell)


def commit() -> dict[str, Any]:
    """The checked-out commit, and whether the package or the commands differ from it."""
    try:
        head = git("rev-parse", "--short=7", "HEAD")
        changed = git("status", "--porcelain", "--", ":(top)src", ":(top,glob)benchmarks/**/*.py")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "uncommitted_changes": None}
    return {"commit": head, "uncommitted_changes": bool(changed)}


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "jax": version("jax"),
        "numpyro": version("numpyro"),
    }


def cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None
