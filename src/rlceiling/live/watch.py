"""`watch`: rounds until every run was told to stop, and a command that is run for each run which should stop."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from rlceiling.decisions.gate import STOP
from rlceiling.live.watch_round import Watched, watch_round
from rlceiling.live.watch_state import Journal, OnStop, RecipeStatus, RunStatus, Status

STANDARD_ERROR = 2
"""File descriptor to which the command of ``--on-stop`` writes, so that standard output is what the watch prints."""

ON_STOP_SECONDS = 600.0
"""Time for which the watch waits for the command of ``--on-stop``."""


def time_of_day() -> str:
    """Local time with its distance from UTC, to a second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def watch(
    watched: Watched,
    journal: Journal,
    *,
    every: float,
    rounds: int | None = None,
    on_stop: str | None = None,
    environment: Mapping[str, str] | None = None,
    show: Callable[[str], None] = print,
    now: Callable[[], str] = time_of_day,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Status:
    """Make rounds until every run was told to stop.

    Parameters
    ----------
    watched : Watched
        What is watched.
    journal : Journal
        Where the status and the history are written, after every refit.
    every : float
        Seconds from the beginning of a round to that of the next one; a round that takes longer is followed at once.
    rounds : int, optional
        Number of rounds after which the watch ends. Default: no limit.
    on_stop : str, optional
        Shell command that is run once per run for which the decision is ``stop``, also if the watch is begun again (see
        `stop_variables`). It is noted before it runs, so that it does not run twice after a crash.
    environment : mapping, optional
        Environment variables of that command. Default: those of this process.
    show : callable
        Gets every line that is to be printed.
    now, clock, sleep : callable
        Time of day as a text, seconds on a monotonic clock, and waiting.

    Returns
    -------
    Status
        After the last round; its ``all_stopped`` says whether the watch ended because every run was told to stop.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C; all refits that were complete are in the journal.
    """

    def write(status: Status, row: dict[str, Any] | None = None) -> None:
        if problem := journal.write(status, row):
            show(f"{now()}  the status is not written: {problem}; it is tried again")

    def note(entry: RecipeStatus, run: RunStatus, on_stop: OnStop) -> None:
        write(_with_on_stop(journal.status, entry, run, on_stop))
        if on_stop.exit_code is not None or on_stop.problem:
            how = on_stop.problem or f"the command ended with exit code {on_stop.exit_code}"
            again = "" if on_stop.exit_code == 0 else "; it is not run again"
            show(f"{now()}  {_name(entry, run)}  --on-stop: {how}{again}")

    for entry in journal.status.recipes:
        for run in entry.runs:
            if run.on_stop is not None and run.on_stop.exit_code is None and not run.on_stop.problem:
                note(entry, run, run.on_stop.model_copy(update={"problem": "the watch ended before the command did"}))
    made = 0
    while True:
        began, decided = clock(), list[RecipeStatus]()
        for step in watch_round(journal.status, watched, now):
            write(step.status, step.row)
            for text in step.lines:
                show(text)
            if step.decided is not None:
                decided.append(step.decided)
        for entry in decided if on_stop is not None else ():
            for run in entry.runs:
                if run.decision == STOP and run.on_stop is None:
                    started = OnStop(started=now())
                    note(entry, run, started)
                    note(entry, run, _run_command(str(on_stop), started, stop_variables(entry, run), environment))
        made += 1
        if journal.status.all_stopped or made == rounds:
            return journal.status
        sleep(max(0.0, every - (clock() - began)))


def stop_variables(entry: RecipeStatus, run: RunStatus) -> dict[str, str]:
    """Environment variables of the command that is run when a run is told to stop."""
    values: dict[str, object] = {
        "LOG": entry.log,
        "RECIPE": entry.recipe,
        "RUN": run.run,
        "REASON": run.why,
        "P_GAIN": run.p_gain,
    }
    values |= {"COMPUTE": run.compute, "EVALUATIONS": run.evaluations, "VERDICT": entry.verdict}
    ends = {"CEILING": "median", "CEILING_LOWER": "lower", "CEILING_UPPER": "upper"}
    values |= {name: entry.ceiling and getattr(entry.ceiling, end) for name, end in ends.items()}
    return {f"RLCEILING_{name}": "" if value is None else str(value) for name, value in values.items()}


def _run_command(
    command: str, begun: OnStop, variables: Mapping[str, str], environment: Mapping[str, str] | None
) -> OnStop:
    env = {**(os.environ if environment is None else environment), **variables}
    try:
        running = subprocess.Popen(command, shell=True, env=env, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR)
        return begun.model_copy(update={"exit_code": running.wait(ON_STOP_SECONDS)})
    except subprocess.TimeoutExpired:
        return begun.model_copy(update={"problem": f"the command still runs after {ON_STOP_SECONDS:g} s"})
    except (OSError, ValueError) as error:  # a name with a null byte is no environment variable
        return begun.model_copy(update={"problem": f"the command could not be run ({error})"})


def _with_on_stop(status: Status, entry: RecipeStatus, run: RunStatus, on_stop: OnStop) -> Status:
    """The status with what became of the command for one run."""
    (current,) = (one for one in status.recipes if (one.log, one.recipe) == (entry.log, entry.recipe))
    runs = [one.model_copy(update={"on_stop": on_stop}) if one.run == run.run else one for one in current.runs]
    return status.having(current.model_copy(update={"runs": tuple(runs)}))


def _name(entry: RecipeStatus, run: RunStatus) -> str:
    return entry.recipe if len(entry.runs) == 1 else f"{entry.recipe}/{run.run}"
