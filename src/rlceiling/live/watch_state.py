"""Files of a watch: `Status` in ``status.json``, and one row per refit in ``history.jsonl``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlceiling.decisions.gate import STOP, UNKNOWN
from rlceiling.errors import DataError
from rlceiling.runs.growing import complete_lines
from rlceiling.writing import replace_file

SCHEMA = 1
"""Version of the files."""

STATUS, HISTORY = "status.json", "history.jsonl"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ceiling(_Model):
    """Ceiling A with its 90% interval, in the unit of the reward."""

    lower: float
    median: float
    upper: float


class OnStop(_Model):
    """How the command of ``--on-stop`` went, which runs once per run."""

    started: str
    exit_code: int | None = None
    """Exit code of the command; None while it runs, or if it did not end by itself."""
    problem: str = ""
    """Why it has no exit code, if that is known."""


class RunStatus(_Model):
    """One run of a recipe."""

    run: str
    evaluations: int
    """Number of evaluations with positive compute."""
    compute: float | None
    """Largest compute; None if there is no evaluation above 0."""
    decision: str = UNKNOWN
    """``"go"``, ``"stop"`` or ``"unknown"``."""
    p_gain: float | None = None
    """Chance that the next compute adds the gain; None where nothing can be said."""
    why: str = ""
    left_out: bool = False
    """Whether the run failed while most of its siblings did not, so that it is not fitted."""
    on_stop: OnStop | None = None


class RecipeStatus(_Model):
    """One recipe of a log."""

    log: str
    recipe: str
    watched: bool = True
    """Whether the last watch had the log and found the recipe in it."""
    evaluations: int
    """Number of evaluations with positive compute, of all runs."""
    compute: float | None
    """Largest compute of any run."""
    compute_unit: str
    reward: str
    """Name of the reward."""
    key: str = ""
    """Digest of evaluations and settings of the last refit; empty before the first one."""
    refits: int = 0
    fitted: str = ""
    """Time of the last refit."""
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    """Names of the reasons for the verdict (`rlceiling.Reason`)."""
    ceiling: Ceiling | None = None
    """Ceiling of the last refit; None if its chains have not converged. Quote it only where the verdict is
    ``IDENTIFIED``."""
    shown: str = ""
    """The ceiling as a text, in parentheses where the data do not fix it."""
    compared_with: Ceiling | None = None
    """Ceiling of the last refit that converged, with which the next one is compared."""
    moved: bool = False
    """Whether the last refit moved the median of the ceiling out of the 90% interval of the refit before."""
    moved_at: str = ""
    """Time of the last refit that did so."""
    problem: str = ""
    """Why the recipe could not be fitted; it is tried again."""
    runs: tuple[RunStatus, ...] = ()

    def run(self, name: str) -> RunStatus | None:
        """The run of this name, if there is one."""
        return next((run for run in self.runs if run.run == name), None)


class LogStatus(_Model):
    """One log."""

    log: str
    problem: str = ""
    """Why it could not be read in the last round; empty if it was read."""
    notes: tuple[str, ...] = ()
    """Notes on how it was read."""


class GateStatus(_Model):
    """What is asked about each run, see `rlceiling.live.refits.GateRule`."""

    add: float
    gain: float
    first: int
    max_wrong_stop: float
    max_wrong_go: float


class Status(_Model):
    """Everything that a watch knows: the content of ``status.json``."""

    version: int = Field(default=SCHEMA, ge=SCHEMA, le=SCHEMA, alias="schema")
    """Version of the files, called ``schema`` in them."""
    rounds: int = 0
    """Number of rounds so far, with those before restarts."""
    updated: str = ""
    gate: GateStatus | None = None
    logs: tuple[LogStatus, ...] = ()
    recipes: tuple[RecipeStatus, ...] = ()
    all_stopped: bool = False
    """Whether every log was read in the last round and every run that is fitted was told to stop."""

    def recipe(self, log: str, name: str) -> RecipeStatus | None:
        """A recipe of a log, if it is known."""
        return next((one for one in self.recipes if (one.log, one.recipe) == (log, name)), None)

    def having(self, entry: RecipeStatus | LogStatus) -> Status:
        """The same status with another entry of a recipe or log, in the place of its old entry if there is one."""
        if isinstance(entry, LogStatus):
            return self.model_copy(update={"logs": _put(self.logs, entry, lambda one: one.log)}).judged()
        return self.model_copy(
            update={"recipes": _put(self.recipes, entry, lambda one: (one.log, one.recipe))}
        ).judged()

    def judged(self) -> Status:
        """The same status with `all_stopped` as it follows from the rest."""
        watched = [one for one in self.recipes if one.watched]
        decided = [run.decision == STOP for one in watched for run in one.runs if not run.left_out]
        read = bool(self.logs) and not any(log.problem for log in self.logs)
        fitted = not any(one.problem for one in watched)
        return self.model_copy(update={"all_stopped": read and fitted and bool(decided) and all(decided)})

    @property
    def troubled(self) -> bool:
        """Whether a log could not be read, or a recipe not fitted, in the last round."""
        return any(log.problem for log in self.logs) or any(one.watched and one.problem for one in self.recipes)


def _put(entries: tuple[Any, ...], entry: Any, name: Any) -> tuple[Any, ...]:
    places = [i for i, one in enumerate(entries) if name(one) == name(entry)]
    return (*entries[: places[0]], entry, *entries[places[0] + 1 :]) if places else (*entries, entry)


class Journal:
    """Files of a watch in its folder, which one process may write at a time.

    Attributes
    ----------
    folder : Path
        The folder, which exists.
    status : Status
        What was written last.

    Raises
    ------
    DataError
        If ``status.json`` is damaged or was written by another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = read_status(folder / STATUS)
        self._repair()
        self._keys = {(row.get("log"), row.get("recipe")): row.get("key") for row in read_history(folder / HISTORY)}
        self._pending: list[dict[str, Any]] = []

    def write(self, status: Status, row: dict[str, Any] | None = None) -> str:
        """Append a row to the history, unless it is there, and then replace the status.

        Returns
        -------
        str
            Empty, or why the files could not be written; what was not written is written with the next call.
        """
        self.status = status
        if row is not None and self._keys.get((row["log"], row["recipe"])) != row["key"]:
            self._keys[row["log"], row["recipe"]] = row["key"]
            self._pending.append(row)
        try:
            if self._pending:
                self._repair()
                with (self.folder / HISTORY).open("ab") as file:
                    file.write("".join(f"{json.dumps(one, allow_nan=False)}\n" for one in self._pending).encode())
                    file.flush()
                    os.fsync(file.fileno())
                self._pending.clear()
            replace_file(self.folder / STATUS, status.model_dump_json(indent=1, by_alias=True).encode())
        except OSError as error:
            return f"{error.filename or self.folder}: {error.strerror or error}"
        return ""

    def _repair(self) -> None:
        """Remove a last line of the history that was cut when a process was killed or the disk was full."""
        path = self.folder / HISTORY
        if not path.exists() or not path.stat().st_size:
            return
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.truncate(len(complete_lines(path.read_bytes())))


def read_status(path: Path) -> Status:
    """Read ``status.json``; an empty status if there is none. Raises DataError if it cannot be used."""
    try:
        return Status.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Status()
    except ValidationError:
        raise DataError(
            f"{path} is damaged or of another version of rlceiling; move it away, or name another directory with --out."
        ) from None


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of ``history.jsonl``; a line that is not JSON is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
