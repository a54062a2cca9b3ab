"""Results of evaluation harnesses, one file per evaluation of a checkpoint: lm-evaluation-harness and Inspect."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rlceiling.errors import DataError, count
from rlceiling.logs.probe import Format, Probe, files_in
from rlceiling.logs.rows import COUNT, LoggedRun, Rows, number_in
from rlceiling.runs.files import open_text

STEP = re.compile(r"(?:global_?step|checkpoint|ckpt|step|iter(?:ation)?)[-_=/]?(\d+)", re.IGNORECASE)
"""Step in the path of a checkpoint: ``global_step_300``, ``checkpoint-300``, ``iter_0000300``."""

STEP_KEYS = ("global_step", "step", "train_step", "training_step", "checkpoint_step", "checkpoint")


class Evaluation(NamedTuple):
    """One evaluation of a checkpoint.

    Attributes
    ----------
    run : str
        Name of the run: the path of the checkpoint without its step.
    step : float or None
        Step of the checkpoint.
    date : str
        When it was made.
    numbers : dict
        Rewards by key, and the number of answers behind each.
    """

    run: str
    step: float | None
    date: str
    numbers: dict[str, Any]


def _collect(path: Path, found: Iterable[Evaluation | None]) -> list[LoggedRun]:
    """Runs of evaluations; of several evaluations of a checkpoint, the last."""
    evaluations = [one for one in found if one is not None]
    placed = [one for one in evaluations if one.step is not None]
    if not placed:
        raise DataError(
            f"{path.name}: the step of the checkpoint is not known; name the folder or model of each checkpoint "
            f"with its "
            "step, such as checkpoint-300 or global_step_300."
        )
    runs: dict[str, LoggedRun] = {}
    by_run: dict[str, dict[float, dict[str, Any]]] = {}
    repeated = 0
    for one in sorted(placed, key=lambda one: one.date):
        own = by_run.setdefault(one.run, {})
        step = float(one.step or 0.0)
        repeated += bool(own.get(step, {}).keys() & one.numbers.keys())
        own.setdefault(step, {}).update(one.numbers)
    for name, steps in by_run.items():
        runs[name] = LoggedRun(name, Rows())
        for step in sorted(steps):
            runs[name].rows.add(step, steps[step])
        runs[name].metrics = tuple(runs[name].rows.keys)
    notes = next(iter(runs.values())).notes
    if repeated:
        notes.append(f"{count(repeated, 'evaluation')} of a checkpoint that was evaluated again later not used")
    if len(placed) < len(evaluations):
        notes.append(
            f"left out {count(len(evaluations) - len(placed), 'evaluation')} of models without a step in their name"
        )
    return list(runs.values())


def _run_and_step(*names: str) -> tuple[str, float | None]:
    """Run and step of a checkpoint, from the first name that has a step."""
    for name in names:
        found = list(STEP.finditer(name))
        if found:
            last = found[-1]
            rest = (name[: last.start()] + name[last.end() :]).strip("/-_ ")
            parts = [
                part for part in re.split(r"[/\\]+|__", rest) if part and part not in ("actor", "huggingface", "hf")
            ]
            return (parts[-1] if parts else ""), float(last[1])
    return (re.split(r"[/\\]+", names[0])[-1] if names else ""), None


# lm-evaluation-harness --------------------------------------------------------------------------------------


def _harness_file(path: Path) -> dict[str, Any] | None:
    try:
        with open_text(path) as file:
            found = json.load(file)
    except (ValueError, RecursionError):
        return None
    fits = isinstance(found, dict) and isinstance(found.get("results"), dict) and {"config", "configs"} & set(found)
    return found if fits else None


def _harness_files(folder: Path) -> Iterator[Path]:
    return (one for one in files_in(folder) if one.name.startswith("results_") and one.suffix == ".json")


def _recognises_harness(probe: Probe) -> bool:
    if probe.is_folder:
        return any(_harness_file(one) is not None for one in _harness_files(probe.path))
    return probe.text.lstrip().startswith("{") and '"results"' in probe.text and _harness_file(probe.path) is not None


def _harness(path: Path) -> Evaluation | None:
    found = _harness_file(path)
    if found is None:
        return None
    config = found.get("config")
    arguments = (config.get("model_args") if isinstance(config, dict) else None) or ""
    if isinstance(arguments, Mapping):
        arguments = ",".join(f"{key}={value}" for key, value in arguments.items())
    pretrained = re.search(r"(?:pretrained|model|path|peft)=([^,]+)", str(arguments))
    names = [pretrained[1] if pretrained else "", str(found.get("model_name") or ""), *path.parts[-3:-1][::-1]]
    run, step = _run_and_step(*[name for name in names if name])
    numbers: dict[str, Any] = {}
    for task, metrics in found["results"].items():
        size = (found.get("n-samples") or {}).get(task) or {}
        for key, value in metrics.items() if isinstance(metrics, dict) else ():
            name = key.split(",")[0]
            if name.endswith("_stderr") or name in ("alias", "sample_len", "name", "sample_count"):
                continue
            numbers[f"{task}/{key}"] = value
            if number_in(size.get("effective")) is not None:
                numbers[f"{COUNT}{task}/{key}"] = size["effective"]
    return Evaluation(run or path.parent.name, step, str(found.get("date") or path.name), numbers)


def _read_harness(path: Path) -> list[LoggedRun]:
    return _collect(path, map(_harness, [path] if path.is_file() else _harness_files(path)))


# Inspect ----------------------------------------------------------------------------------------------------


def _inspect_file(path: Path) -> dict[str, Any] | None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                name = next((one for one in ("header.json", "_journal/start.json") if one in names), None)
                found = json.loads(archive.read(name)) if name else None
        else:
            with open_text(path) as file:
                found = json.load(file)
    except NotImplementedError:
        raise DataError(
            f"{path.name} is compressed in a way that this Python cannot read; convert it with `inspect log convert`."
        ) from None
    except (ValueError, RecursionError, zipfile.BadZipFile, KeyError):
        return None
    fits = isinstance(found, dict) and isinstance(found.get("eval"), dict) and "task" in found["eval"]
    return found if fits else None


def _inspect_files(folder: Path) -> Iterator[Path]:
    return (one for one in files_in(folder) if one.suffix in (".eval", ".json"))


def _recognises_inspect(probe: Probe) -> bool:
    if probe.is_folder:
        return any(one.suffix == ".eval" or _inspect_text(one) for one in map(Path, _near(probe)))
    if probe.head[:4] == b"PK\x03\x04":
        return probe.path.suffix == ".eval" or _inspect_file(probe.path) is not None
    return _inspect_text(probe.path)


def _near(probe: Probe) -> list[Path]:
    """Files of a folder itself that may be logs of Inspect."""
    return [
        probe.path / name for name in probe.names if name.endswith((".eval", ".json")) and (probe.path / name).is_file()
    ]


def _inspect_text(path: Path) -> bool:
    text = Probe(path).text
    return text.lstrip().startswith("{") and '"eval"' in text and '"task"' in text and '"status"' in text


def _inspect(path: Path) -> Evaluation | None:
    found = _inspect_file(path)
    if found is None:
        return None
    about = found["eval"]
    results = found.get("results") or {}
    metadata = {**(about.get("metadata") or {}), **(about.get("task_args") or {})}
    step = next((number for key in STEP_KEYS if (number := number_in(metadata.get(key))) is not None), None)
    arguments = about.get("model_args") or {}
    paths = [str(arguments[key]) for key in ("model_path", "path", "pretrained") if key in arguments]
    model = str(about.get("model") or "")
    run, in_name = _run_and_step(*[*paths, model, *map(str, metadata.values()), path.parent.name])
    task = str(about["task"])
    size = number_in(results.get("completed_samples"))
    numbers: dict[str, Any] = {}
    for score in results.get("scores") or ():
        for name, metric in (score.get("metrics") or {}).items():
            if name in ("stderr", "std", "var", "bootstrap_stderr"):
                continue
            key = f"{task}/{score.get('name') or score.get('scorer')}/{name}"
            numbers[key] = metric.get("value") if isinstance(metric, dict) else metric
            if size:
                numbers[COUNT + key] = size
    name = str(metadata.get("run") or metadata.get("run_name") or run or "run")
    return Evaluation(name, in_name if step is None else step, str(about.get("created") or path.name), numbers)


def _read_inspect(path: Path) -> list[LoggedRun]:
    return _collect(path, map(_inspect, [path] if path.is_file() else _inspect_files(path)))


FORMATS = (
    Format("results of lm-evaluation-harness", _recognises_harness, _read_harness, rank=60),
    Format("logs of Inspect", _recognises_inspect, _read_inspect, rank=61),
)
