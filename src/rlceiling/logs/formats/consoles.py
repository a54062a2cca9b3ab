"""Consoles: what verl, OpenRLHF, SkyRL, ROLL, slime and NeMo-RL print."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rlceiling.logs.probe import Format, Probe
from rlceiling.logs.rows import COUNT, LoggedRun, Rows
from rlceiling.runs.files import open_text

MOST_BEFORE = 1 << 26
"""Characters of a console that are searched for its first metrics."""

CONSOLES = frozenset({".log", ".txt", ".out", ".err", ".gz", ""})
"""Suffixes of consoles."""

LONGEST = 2000
"""Lines of one printed dictionary."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NUMPY = re.compile(r"(?:np\.|numpy\.)?(?:float|int)(?:16|32|64)\(([^()]*)\)")
_NAN = re.compile(r"(?<![\w'\"])(nan|inf|-inf)(?![\w'\"])")

VERL = re.compile(r"\bstep:(\d+) - (\S+:.*)")
DICTS = {
    "OpenRLHF": re.compile(r"Global step (\d+): (\{.*)"),
    "SkyRL": re.compile(r"(?<!Global )(?<!global )\bStep (\d+): ?(\{.*)"),
    "slime": re.compile(r"\b(eval|rollout|perf|passrate) (\d+): (\{.*)"),
    "ROLL": re.compile(r"\bmetrics_tag: (\{.*)"),
}
ROLL_VALIDATION = re.compile(r"(\{\"val_(?:correct|score)/.*\})\s*$")
NEMO_STEP = re.compile(r"=+ Step (\d+)/\d+ =+")
NEMO_VALIDATION = re.compile(r"Validation Results:")
NEMO_LINE = re.compile(r"•\s*(Accuracy|Average response length|Samples processed|Total time):\s*([-\d.]+)")


class Printed(NamedTuple):
    """What a console prints of one step."""

    step: float | None
    numbers: dict[str, Any]


def _trainer_of(probe: Probe) -> str | None:
    """Trainer of a console, whose metrics may follow many lines of its start; None if there are none."""
    if probe.is_folder or not probe.text or probe.objects:
        return None
    first = {"verl": VERL, "NeMo-RL": NEMO_VALIDATION, **DICTS}

    def trainer(text: str) -> str | None:
        return next((name for name, pattern in first.items() if pattern.search(text)), None)

    if (found := trainer(_ANSI.sub("", probe.text))) is not None:
        return found
    suffix = probe.path.suffix.lower()
    if (suffix not in CONSOLES and not suffix[1:].isdigit()) or len(probe.text) < 1 << 15:
        return None
    seen = 0
    for line in _lines(probe.path):
        seen += len(line)
        if seen > MOST_BEFORE:
            break
        if (found := trainer(line)) is not None:
            return found
    return None


def _recogniser(trainer: str) -> Callable[[Probe], bool]:
    return lambda probe: probe.once("console", _trainer_of) == trainer


def _lines(path: Path) -> Iterator[str]:
    """Lines without colours; bytes that are no text are replaced."""
    with open_text(path) as file:
        file.reconfigure(errors="replace")
        try:
            for line in file:
                yield _ANSI.sub("", line) if "\x1b" in line else line
        except EOFError:  # a compressed file that is cut
            return


def _dictionary(text: str, more: Iterator[str]) -> dict[str, Any] | None:
    """A dictionary that is printed on one line or several; None if it is cut."""
    for _ in range(LONGEST):
        whole = text.rstrip()
        end = whole.rfind("}")
        if end >= 0 and whole.count("{") <= whole.count("}"):
            plain = _NAN.sub("None", _NUMPY.sub(r"\1", whole[: end + 1]))
            try:
                found = ast.literal_eval(plain)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                return None
            return found if isinstance(found, dict) else None
        following = next(more, None)
        if following is None:
            return None
        text = whole + " " + re.sub(r"^\([^)]*pid=\d+[^)]*\)\s*", "", following)
    return None


CUT = "the last line has no line end, so that its last number may be cut and was left out"


def _verl(path: Path, notes: list[str]) -> Iterator[Printed]:
    for line in _lines(path):
        if found := VERL.search(line):
            words = found[2].rstrip().split(" - ")
            if not line.endswith("\n"):
                words.pop()
                notes.append(f"{path.name}: {CUT}")
            pairs = (one.rpartition(":") for one in words)
            numbers = {key.strip(): _NUMPY.sub(r"\1", value.strip()) for key, _, value in pairs if key}
            yield Printed(float(found[1]), numbers)


def _dicts(trainer: str, path: Path) -> Iterator[Printed]:
    lines = _lines(path)
    for line in lines:
        if not (found := DICTS[trainer].search(line)):
            continue
        step, text = found.groups()[-2:]
        numbers = _dictionary(text, lines)
        if numbers is not None:
            yield Printed(float(step), {str(key): value for key, value in numbers.items()})


def _roll(path: Path, notes: list[str]) -> Iterator[Printed]:
    """ROLL prints the validation of a step before the metrics of the step."""
    waiting: dict[str, Any] = {}
    for line in _lines(path):
        if found := DICTS["ROLL"].search(line):
            try:
                one = json.loads(found[1])
                step, numbers = float(one["step"]), dict(one["metrics"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            yield Printed(step, {**waiting, **numbers})
            waiting = {}
        elif found := ROLL_VALIDATION.search(line):
            try:
                waiting = json.loads(found[1])
            except (ValueError, RecursionError):
                continue


def _nemo(path: Path, notes: list[str]) -> Iterator[Printed]:
    """NeMo-RL prints a validation after the step that it belongs to; before the first step it is of step 0."""
    step, block = 0.0, dict[str, Any]()
    names = {"Accuracy": "validation/accuracy", "Average response length": "validation/avg_length"}
    inside = 0
    for line in _lines(path):
        if found := NEMO_STEP.search(line):
            if block:
                yield Printed(step, block)
                block = {}
            step = float(found[1])
        if NEMO_VALIDATION.search(line):
            if block:
                yield Printed(step, block)
            block, inside = {}, 12
        elif inside and (found := NEMO_LINE.search(line)):
            if not line.endswith("\n"):
                notes.append(f"{path.name}: {CUT}")
            elif found[1] == "Samples processed":
                block[COUNT + "validation/accuracy"] = found[2]
            elif found[1] in names:
                block[names[found[1]]] = found[2]
        inside = max(inside - 1, 0)
    if block:
        yield Printed(step, block)


def _reader(trainer: str):  # type: ignore[no-untyped-def]
    special = {"verl": _verl, "ROLL": _roll, "NeMo-RL": _nemo}

    def read(path: Path) -> list[LoggedRun]:
        rows, notes = Rows(), list[str]()
        printed = special[trainer](path, notes) if trainer in special else _dicts(trainer, path)
        for one in printed:
            rows.add(math.nan if one.step is None else one.step, one.numbers)
        return [LoggedRun("", rows, notes)]

    return read


FORMATS = tuple(
    Format(f"console of {trainer}", _recogniser(trainer), _reader(trainer), rank=40)
    for trainer in ("verl", "OpenRLHF", "SkyRL", "slime", "ROLL", "NeMo-RL")
)
