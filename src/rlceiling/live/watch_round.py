"""One round of a watch: read every log, refit the recipes whose evaluations have changed, and decide about each run."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from rlceiling.errors import DataError, count
from rlceiling.live.refits import GateRule, decision_of, has_moved, known_ceiling
from rlceiling.live.watch_state import Ceiling, GateStatus, LogStatus, RecipeStatus, RunStatus, Status
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.runs import Runs
from rlceiling.runs.digest import add_run
from rlceiling.text import in_words, joined, number


@dataclass(frozen=True)
class Watched:
    """What is watched, and how.

    Attributes
    ----------
    logs : sequence of str
        Paths of files, which need not exist yet, or names of data sets. A restart recognises a log by this text.
    read : callable
        log -> its evaluations and a note on a cut last line; raises DataError or OSError if it cannot be read.
    cut : callable
        Runs of one recipe -> those of their evaluations that are used; raises DataError if none are left.
    refit : callable
        Runs of one recipe -> posterior.
    rule : GateRule
        What is asked about each run.
    settings : mapping
        What `refit` depends on beside the runs, as JSON: after a change the same evaluations are fitted again.
    """

    logs: Sequence[str]
    read: Callable[[str], tuple[Runs, str]]
    cut: Callable[[Runs], Runs]
    refit: Callable[[Runs], Fit]
    rule: GateRule
    settings: Mapping[str, Any]


class Step(NamedTuple):
    """A part of a round: a log that could not be read, or one recipe."""

    status: Status
    """The status after it."""
    lines: tuple[str, ...] = ()
    """What is printed."""
    row: dict[str, Any] | None = None
    """Row of the history, if there was a refit."""
    decided: RecipeStatus | None = None
    """The recipe, if what is decided about its runs is that of the evaluations that were just read."""


def watch_round(status: Status, watched: Watched, now: Callable[[], str]) -> Iterator[Step]:
    """One round: read every log, and refit the recipes whose evaluations have changed.

    Nothing but KeyboardInterrupt is raised: what cannot be read or fitted is a sentence, and is tried again in the next
    round.

    Parameters
    ----------
    status : Status
        Result of the last round.
    watched : Watched
        What is watched.
    now : callable
        Time as a text.

    Yields
    ------
    Step
        One per log that cannot be read or has new notes, and one per recipe. The status of the last one is the result.
    """
    known, names = {one.log: one for one in status.logs}, _names(watched.logs)
    unwatched = [one.model_copy(update={"watched": one.watched and one.log in watched.logs}) for one in status.recipes]
    update = {
        "rounds": status.rounds + 1,
        "updated": now(),
        "gate": GateStatus(**asdict(watched.rule)),
        "logs": tuple(known.get(log, LogStatus(log=log)) for log in watched.logs),
        "recipes": tuple(unwatched),
    }
    status = status.model_copy(update=update).judged()
    yield Step(status)
    for log in watched.logs:
        try:
            runs, cut = watched.read(log)
            seen = LogStatus(log=log, notes=(*runs.notes, *([cut] if cut else [])))
            found = [(name, runs.select(name)) for name in runs.recipes]
        except Exception as error:  # a log of somebody else's trainer may hold anything
            status = status.having(LogStatus(log=log, problem=_sentence(error)))
            yield Step(status, (f"{now()}  {names[log]} is not read: {_sentence(error)}; it is tried again",))
            continue
        before = known.get(log)
        new = [note for note in seen.notes if before is None or note not in before.notes]
        lost = [one for one in status.recipes if one.log == log and one.watched and one.recipe not in runs.recipes]
        status = status.having(seen)
        for one in lost:
            status = status.having(one.model_copy(update={"watched": False}))
        gone = [f"{now()}  {names[log]} no longer holds the recipe {one.recipe}" for one in lost]
        yield Step(status, (*(f"{now()}  {names[log]}: {note}" for note in new), *gone))
        for name, own in found:
            entry, texts, row = _look_at(status.recipe(log, name), log, own, watched, now)
            status = status.having(entry).model_copy(update={"updated": now()})
            alone = sum(other.recipe == name for other in status.recipes if other.watched) == 1
            label = name if alone else f"{names[log]}: {name}"
            lines = tuple(f"{now()}  {label}  {text}" for text in texts)
            yield Step(status, lines, row, None if entry.problem else entry)


class _Looked(NamedTuple):
    entry: RecipeStatus
    texts: tuple[str, ...]
    row: dict[str, Any] | None = None


def _look_at(before: RecipeStatus | None, log: str, runs: Runs, watched: Watched, now: Callable[[], str]) -> _Looked:
    """Look at one recipe, and refit it if its evaluations or the settings have changed."""
    (recipe,) = runs.recipes
    names: dict[str, Any] = {"compute_unit": runs.compute_label, "reward": runs.reward_label}
    old = before or RecipeStatus(log=log, recipe=recipe, evaluations=0, compute=None, **names)
    seen = names | {"watched": True, "problem": ""}
    try:
        own = _begun(watched.cut(runs))
        above = {run.run: run.compute for run in own.iter_runs() if len(run.compute)}
        largest = {name: float(compute[-1]) for name, compute in above.items()}
        seen |= {"evaluations": sum(map(len, above.values())), "compute": max(largest.values(), default=None)}
        undecided = {
            name: _undecided(old.run(name), name, len(above.get(name, ())), largest.get(name), watched.rule)
            for name in runs.runs_of(recipe)
        }
        if few := watched.rule.too_few(max(map(len, above.values()), default=0)):
            # A log that was begun anew has fewer evaluations than at its last refit, which it does not continue.
            blank = RecipeStatus(log=log, recipe=recipe, **seen, refits=old.refits, runs=tuple(undecided.values()))
            return _Looked(blank, (f"{_so_far(old, blank)}  {few}",))
        key = _key(own, watched)
        if key == old.key:
            entry = old.model_copy(update=seen | {"runs": tuple(old.run(n) or one for n, one in undecided.items())})
            return _Looked(entry, (_line(old, entry),))
        own.check_enough()
        fit = watched.refit(own)
        decided = tuple(_decided(one, fit, watched.rule) for one in undecided.values())
        entry = _refitted(old.model_copy(update=seen | {"runs": decided, "key": key}), fit, now())
    except Exception as error:  # the other recipes go on
        entry = old.model_copy(update=seen | {"problem": _sentence(error)})
        return _Looked(entry, (f"is not fitted: {entry.problem}; it is tried again",))
    texts = [_line(old, entry), *([_moved(old, fit)] if entry.moved else [])]
    return _Looked(
        entry,
        (*texts, *([fit.reason.removeprefix(f"{entry.recipe} ")] if entry.verdict in NOTHING_SAID else [])),
        _row(entry),
    )


def _begun(runs: Runs) -> Runs:
    """Leave out runs that have only step 0 so far, if another run of the recipe has more."""
    table = runs.table
    begun = (table["compute"] > 0).groupby([table["recipe"], table["run"]], sort=False).transform("any")
    return runs.keep(begun) if begun.any() and not begun.all() else runs


def _key(runs: Runs, watched: Watched) -> str:
    """Digest of everything that a refit and its decisions depend on."""
    own = {"settings": watched.settings, "gate": asdict(watched.rule), "bounds": runs.reward_bounds}
    own |= {"compute": runs.compute_label, "reward": runs.reward_label, "recipe": runs.recipes}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    for run in runs.iter_runs():
        add_run(digest, run.run, run)
    return digest.hexdigest()[:32]


def _undecided(old: RunStatus | None, run: str, evaluations: int, compute: float | None, rule: GateRule) -> RunStatus:
    """A run about which nothing is decided yet."""
    on_stop = None if old is None else old.on_stop
    return RunStatus(run=run, evaluations=evaluations, compute=compute, why=rule.too_few(evaluations), on_stop=on_stop)


def _decided(run: RunStatus, fit: Fit, rule: GateRule) -> RunStatus:
    """The same run after a refit."""
    if run.run in fit.failed_runs:
        return run.model_copy(update={"why": fit.failed_runs[run.run], "left_out": True})
    if run.run not in fit.run_names:
        return run
    said = decision_of(fit, run.run, rule)
    p = None if math.isnan(said.p_gain) else said.p_gain
    return run.model_copy(update={"decision": said.action, "p_gain": p, "why": said.why})


def _refitted(old: RecipeStatus, fit: Fit, now: str) -> RecipeStatus:
    """Entry of a recipe after a refit."""
    known, before = known_ceiling(fit), old.compared_with
    ceiling = None if known is None else Ceiling(lower=known[0], median=known[1], upper=known[2])
    moved = has_moved(None if before is None else (before.lower, before.median, before.upper), known)
    update = {
        "refits": old.refits + 1,
        "fitted": now,
        "verdict": fit.verdict.name,
        "reasons": tuple(reason.name for reason in fit.reasons),
        "ceiling": ceiling,
        "shown": "" if ceiling is None else joined(fit.quoted_ceiling()),
        "compared_with": ceiling or before,
        "moved": moved,
        "moved_at": now if moved else old.moved_at,
    }
    return old.model_copy(update=update)


def _row(entry: RecipeStatus) -> dict[str, Any]:
    """Row of the history."""
    row = {name: getattr(entry, name) for name in ("log", "recipe", "evaluations", "compute")}
    ends = {"A": "median", "A_lower": "lower", "A_upper": "upper"}
    row |= {name: entry.ceiling and getattr(entry.ceiling, end) for name, end in ends.items()}
    row |= {"verdict": entry.verdict, "moved": entry.moved}
    row |= {"decisions": {run.run: run.decision for run in entry.runs}}
    return {"time": entry.fitted} | row | {"p_gain": {run.run: run.p_gain for run in entry.runs}, "key": entry.key}


# Lines ----------------------------------------------------------------------------------------------------------------


def _names(logs: Sequence[str]) -> dict[str, str]:
    """What each log is called in lines: the name of the file, or its path where several files have that name."""
    ends = [os.path.basename(log) for log in logs]
    return {log: end if ends.count(end) == 1 else log for log, end in zip(logs, ends, strict=True)}


def _sentence(error: Exception) -> str:
    text = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return " ".join(text.split()).rstrip(".")


def _so_far(old: RecipeStatus, entry: RecipeStatus) -> str:
    new = entry.evaluations - old.evaluations
    change = f" ({new:+d})" if new and old.evaluations else ""
    until = "" if entry.compute is None else f" to {number(entry.compute)} {entry.compute_unit}"
    return f"{count(entry.evaluations, 'evaluation')}{change}{until}"


def _line(old: RecipeStatus, entry: RecipeStatus) -> str:
    """Line of a recipe that has been fitted: evaluations, compute, ceiling, verdict and decisions."""
    said = [_decision(run, entry.verdict) for run in entry.runs]
    if len(entry.runs) > 1:
        said = [f"run {run.run}: {text}" for run, text in zip(entry.runs, said, strict=True)]
    ceiling = f"A {entry.shown}" if entry.shown else "A -"
    return "  ".join([_so_far(old, entry), ceiling, entry.verdict, "; ".join(said)])


NOTHING_SAID = (Verdict.NOT_CONVERGED.name, Verdict.NOT_A_SIGMOID.name)
"""Verdicts after which nothing is decided; the reason is printed once, after the refit."""


def _decision(run: RunStatus, verdict: str) -> str:
    if run.left_out:
        return f"failed, {run.why}"
    if run.p_gain is None and verdict in NOTHING_SAID:
        return run.decision
    return f"{run.decision} ({run.why if run.p_gain is None else f'chance {in_words(run.p_gain)}'})"


def _moved(old: RecipeStatus, fit: Fit) -> str:
    """Sentence on a ceiling that has moved."""
    before, show = old.compared_with, fit.units.show
    assert before is not None
    return (
        f"the regime has changed: the median of the ceiling is {show(fit.interval('A')[1])}, outside the 90% interval "
        f"of the refit before, {show(before.lower)} to {show(before.upper)}"
    )
