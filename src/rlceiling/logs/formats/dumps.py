"""Dumps of samples, which give the exact number of answers: of verl, SkyRL, NeMo-RL and prime-rl."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rlceiling.logs.formats.json_lines import iter_objects
from rlceiling.logs.probe import Format, Probe
from rlceiling.logs.rows import COUNT, LoggedRun, Rows, number_in

_VERL_NAME = re.compile(r"(\d+)\.jsonl(?:\.gz)?")
_SKYRL_FOLDER = re.compile(r"global_step_(\d+)_evals")
_NEMO_NAME = re.compile(r"val_data_step(\d+)\.jsonl")
_PRIME_FOLDER = re.compile(r"step_(\d+)")
AGGREGATED = "aggregated_results.jsonl"


class Sums:
    """Means of the numbers in rows of samples, and how many there are."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.size: dict[str, int] = {}

    def add(self, key: str, cell: Any) -> None:
        """Add a number, or a list of them."""
        for one in cell if isinstance(cell, list) else [cell]:
            value = float(one) if isinstance(one, bool) else number_in(one)
            if value is not None:
                self.total[key] = self.total.get(key, 0.0) + value
                self.size[key] = self.size.get(key, 0) + 1

    def numbers(self, prefix: str = "") -> dict[str, float]:
        """Means and sizes by key."""
        means = {f"{prefix}{key}": total / self.size[key] for key, total in self.total.items()}
        return means | {f"{COUNT}{prefix}{key}": float(size) for key, size in self.size.items()}


def _in_order(steps: Iterable[tuple[float, dict[str, Any]]], notes: list[str]) -> list[LoggedRun]:
    rows = Rows()
    for step, numbers in sorted(steps, key=lambda one: one[0]):
        rows.add(step, numbers)
    return [LoggedRun("", rows, notes)]


def _matching(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[float, Path]]:
    for path in sorted(folder.iterdir()):
        if found := pattern.fullmatch(path.name):
            yield float(found[1]), path


def _first_object(path: Path) -> dict[str, Any]:
    return next(iter(Probe(path).objects), {})


def _recognises_verl(probe: Probe) -> bool:
    if not probe.is_folder:
        return bool(_VERL_NAME.fullmatch(probe.path.name)) and {"input", "output", "score"} <= set(
            _first_object(probe.path)
        )
    first = next((path for _, path in _matching(probe.path, _VERL_NAME)), None)
    return first is not None and {"input", "output", "score"} <= set(_first_object(first))


def _read_verl(path: Path) -> list[LoggedRun]:
    files = list(_matching(path, _VERL_NAME)) if path.is_dir() else [(float(_VERL_NAME.fullmatch(path.name)[1]), path)]  # type: ignore[index]
    notes: list[str] = []
    steps = []
    for step, file in files:
        sums, of_source = Sums(), dict[str, Sums]()
        for row in iter_objects(file, notes):
            key = "acc" if "acc" in row else "score"
            source = row.get("data_source")
            of_source.setdefault(str(source), Sums()).add(key, row.get(key)) if source else sums.add(key, row.get(key))
        numbers = sums.numbers("val/")
        for source, own in of_source.items():
            numbers |= own.numbers(f"val/{source}/")
        steps.append((step, numbers))
    return _in_order(steps, notes)


def _recognises_skyrl(probe: Probe) -> bool:
    return probe.is_folder and any(_SKYRL_FOLDER.fullmatch(name) for name in probe.names)


def _read_skyrl(path: Path) -> list[LoggedRun]:
    notes: list[str] = []
    steps = []
    for step, folder in _matching(path, _SKYRL_FOLDER):
        if not (folder / AGGREGATED).is_file():
            continue
        numbers: dict[str, Any] = {}
        for row in iter_objects(folder / AGGREGATED, notes):
            numbers |= row
        sizes = {file.stem: sum(1 for _ in iter_objects(file, notes)) for file in folder.glob("*.jsonl")}
        sizes.pop(Path(AGGREGATED).stem, None)
        sizes["all"] = sum(sizes.values())
        for key in list(numbers):
            parts = key.split("/")
            if len(parts) == 3 and parts[2] == "avg_score" and sizes.get(parts[1].replace("/", "_")):
                numbers[COUNT + key] = sizes[parts[1]]
        steps.append((step, numbers))
    return _in_order(steps, notes)


def _recognises_nemo(probe: Probe) -> bool:
    names = probe.names if probe.is_folder else [probe.path.name]
    return any(_NEMO_NAME.fullmatch(name) for name in names)


def _read_nemo(path: Path) -> list[LoggedRun]:
    folder = path if path.is_dir() else path.parent
    notes: list[str] = []
    steps = []
    for step, file in _matching(folder, _NEMO_NAME):
        if path.is_file() and file != path:
            continue
        sums = Sums()
        for row in iter_objects(file, notes):
            sums.add("accuracy", row.get("rewards"))
        steps.append((step, sums.numbers("validation/")))
    return _in_order(steps, notes)


def _recognises_prime(probe: Probe) -> bool:
    return probe.is_folder and any(
        _PRIME_FOLDER.fullmatch(name) and (probe.path / name / "eval").is_dir() for name in probe.names
    )


def _read_prime(path: Path) -> list[LoggedRun]:
    notes: list[str] = []
    steps = []
    for step, folder in _matching(path, _PRIME_FOLDER):
        numbers: dict[str, float] = {}
        for part in ("effective", "all"):
            file = folder / "eval" / part / "traces.jsonl"
            if not file.is_file():
                continue
            sums: dict[str, Sums] = {}
            for row in iter_objects(file, notes):
                env = str(row.get("env") or row.get("env_name") or row.get("task") or "env")
                sums.setdefault(env, Sums()).add("reward", row.get("reward"))
            for env, own in sums.items():
                numbers |= own.numbers(f"eval/{env}/{part}/")
        steps.append((step, numbers))
    return _in_order(steps, notes)


FORMATS = (
    Format("validation samples of verl", _recognises_verl, _read_verl, rank=50),
    Format("evaluations of SkyRL", _recognises_skyrl, _read_skyrl, rank=50),
    Format("validation samples of NeMo-RL", _recognises_nemo, _read_nemo, rank=51),
    Format("rollouts of prime-rl", _recognises_prime, _read_prime, rank=51),
)
