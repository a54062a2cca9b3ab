"""The command ``rlceiling watch``: read growing logs again and again, refit what changed, and say when to stop."""

from __future__ import annotations

import glob
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NamedTuple

import typer

from rlceiling.cli.options import (
    LiveSampling,
    Priors,
    Reading,
    expand_options,
    explicit_options,
    number_of,
    reject_options,
)
from rlceiling.cli.output import AsJson, print_json
from rlceiling.errors import DataError, count, listing
from rlceiling.settings import LIVE_FIRST, LIVE_SAMPLER

# JAX and the fits are imported inside the command, so that --help does not wait for them.

ALL_STOPPED = 3
"""Exit code of a watch that ended because every run was told to stop."""

TROUBLED = 1
"""Exit code if a log could not be read, or a recipe not fitted, in the last round."""

PATIENCE = 3.0
"""Seconds after Ctrl-C at which a watch ends even if it is compiling; its files are complete at any time."""

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds_of(text: str) -> float:
    """A time such as 30s, 10m or 2h, in seconds."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", text)
    if not found or not (seconds := float(found[1]) * SECONDS[found[2]]):
        raise typer.BadParameter(f"{text!r} is not a time between rounds; write 30s, 10m or 2h.")
    return seconds


class Question(NamedTuple):
    """What is asked about each run."""

    gain: float
    add: float


def question_of(text: str) -> Question:
    """Read ``gain=0.01 in 2k``."""
    found = re.fullmatch(r"\s*gain\s*=\s*(\S+)\s+in\s+(\S+)\s*", text)
    if not found:
        raise typer.BadParameter(
            f'{text!r} is not a gain and the compute it may take; write "gain=0.01 in 2000", in the units of the runs.'
        )
    question = Question(number_of(found[1]), number_of(found[2]))
    for what, value in (("gain", question.gain), ("compute", question.add)):
        if not 0.0 < value < float("inf"):
            raise typer.BadParameter(f"{text!r}: the {what} {value:g} is not a positive number; give one.")
    return question


@contextmanager
def ending_soon(sentence: str) -> Iterator[None]:
    """End the process with exit code 130 within `PATIENCE` after Ctrl-C, with a sentence on standard error."""

    def leave() -> None:
        sys.stdout.flush()
        typer.echo(sentence, err=True)
        os._exit(130)

    timer = threading.Timer(PATIENCE, leave)
    timer.daemon = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        if timer.ident is None:  # which has not been started
            timer.start()
        signal.default_int_handler(number, frame)

    # A process in the background of a shell ignores Ctrl-C, and only the main thread may handle it.
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    handled = handled and threading.current_thread() is threading.main_thread()
    if handled:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(sentence, err=True)
        raise typer.Exit(130) from None
    finally:
        timer.cancel()
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@expand_options
def watch(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG...", help="RUNS that grow: files, folders or quoted patterns; they need not exist yet."
        ),
    ],
    reading: Reading,
    sampling: LiveSampling,
    learning: Priors,
    gate: Annotated[
        Question,
        typer.Option(
            metavar="TEXT",
            parser=question_of,
            help='Gain that is worth it, and the compute it may take: "gain=0.01 in 2000" or "gain=0.01 in 2k".',
        ),
    ],
    every: Annotated[
        float, typer.Option(metavar="TIME", parser=seconds_of, help="Time between rounds: 30s, 10m, 2h.")
    ] = "10m",  # type: ignore[assignment]
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of status.json and history.jsonl; it is made if need be.")
    ] = Path("watch"),
    on_stop: Annotated[
        str | None,
        typer.Option(
            metavar="CMD",
            help="Shell command, run once for each run that is told to stop, with RLCEILING_RECIPE, RLCEILING_RUN, "
            "RLCEILING_REASON, RLCEILING_LOG, RLCEILING_P_GAIN, RLCEILING_COMPUTE, RLCEILING_EVALUATIONS, "
            "RLCEILING_VERDICT, RLCEILING_CEILING, RLCEILING_CEILING_LOWER and RLCEILING_CEILING_UPPER.",
        ),
    ] = None,
    first: Annotated[
        int, typer.Option(metavar="N", help="Number of evaluations of a run from which it is fitted and decided about.")
    ] = LIVE_FIRST,
    wrong_stop: Annotated[float, typer.Option(metavar="P", help="Accepted probability that a stop is wrong.")] = 0.1,
    wrong_go: Annotated[float, typer.Option(metavar="P", help="Accepted probability that a go is wrong.")] = 0.1,
    rounds: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many rounds.")] = None,
    once: Annotated[bool, typer.Option("--once", help="The same as --rounds 1.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read growing logs again and again, refit the recipes that changed, and decide whether each run should go on.

    Ended by --rounds or --once, the exit code is 0, or 1 if a log could not be read or a recipe not fitted in the last
    round; it is 2 if an option cannot be used, 3 as soon as every run was told to stop, and 130 after Ctrl-C. The same
    command continues where it ended.
    """
    environment = dict(os.environ)  # of the command of --on-stop, which may start a training
    if sampling.backend != "gpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a trainer may be using the GPU
    if once and rounds is not None:
        raise DataError("--once is the same as --rounds 1; give one of them.")
    if "-" in logs:
        raise DataError("watch reads its logs again and again, which standard input does not allow; name a file.")
    places = [log if reading.is_data_set(log) else os.path.abspath(log) for log in logs]
    twice = [log for log, place in zip(logs, places, strict=True) if places.count(place) > 1]
    if twice:
        raise DataError(f"{twice[0]} is given twice; give each log once.")
    what = "watch refits one recipe after the other"
    reject_options(explicit_options(sampling, "cores"), what, "each with all its chains in one program")
    for log in logs:
        reading.check(log)
    priors = learning.settings().get("priors")

    from dataclasses import replace

    from rlceiling.inference.devices import check_backend, device_of
    from rlceiling.live.refits import GateRule, refit
    from rlceiling.live.watch import Watched
    from rlceiling.live.watch import watch as make_rounds
    from rlceiling.live.watch_state import Journal
    from rlceiling.logs.gather import as_written
    from rlceiling.posterior.fit import Fit
    from rlceiling.runs import Runs
    from rlceiling.text import as_typed, duration
    from rlceiling.writing import locked

    rule = GateRule(gate.add, gate.gain, first, wrong_stop, wrong_go)
    rule.check("watch")
    settings = replace(LIVE_SAMPLER, **explicit_options(sampling, "chains", "tune", "draws", "seed"))
    settings.check("watch")
    sampling.configure_runtime()
    backend = sampling.backend or "cpu"
    check_backend("watch", backend)
    device_of("watch", backend, settings.chains)
    whole = reading.whole()

    def read(log: str) -> tuple[Runs, str]:
        if reading.is_data_set(log):
            return whole.read(log), ""
        if not Path(log).exists():
            if not glob.has_magic(log):
                raise DataError("the file does not exist yet.")
            if not glob.glob(log, recursive=True):
                raise DataError("no file matches it yet.")
        with as_written(log) as (paths, note):
            return whole.read(paths), note

    depends: dict[str, Any] = settings.as_dict() | {"backend": backend}
    depends |= {"priors": None if priors is None else priors.to_dict()}

    def quick(runs: Runs) -> Fit:
        return refit(runs, priors, settings, backend=backend)

    watched = Watched(places, read, reading.cut, quick, rule, depends)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "watch"):
        journal = Journal(out)
        if not sampling.quiet:
            before = f", after {count(journal.status.rounds, 'earlier round')}" if journal.status.rounds else ""
            typer.echo(
                f"watching {listing(logs)} every {duration(every)}{before}: does a run gain {rule.gain:g} in "
                f"{as_typed(rule.add)} more compute? {out} holds status.json and history.jsonl",
                err=True,
            )
        with ending_soon(f"rlceiling: stopped; the same command continues from {out}"):
            status = make_rounds(
                watched,
                journal,
                every=every,
                rounds=1 if once else rounds,
                on_stop=on_stop,
                environment=environment,
                show=partial(typer.echo, err=as_json),
            )
    if as_json:
        asked = {"logs": logs, "gate": rule, "every": every, "out": out, "rounds": 1 if once else rounds}
        print_json("watch", asked, {"status": status.model_dump(by_alias=True)})
    elif status.all_stopped:
        typer.echo("every run was told to stop")
    if status.all_stopped:
        raise typer.Exit(ALL_STOPPED)
    if status.troubled:
        raise typer.Exit(TROUBLED)
