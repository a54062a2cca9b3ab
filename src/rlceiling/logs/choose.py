"""Which metric of a log is the reward, and which resource is the compute."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rlceiling.errors import DataError, count, listing, unknown_name
from rlceiling.logs.conventions import held_out_keys, training_keys
from rlceiling.logs.history import Curve, History
from rlceiling.text import shortened

LONGEST = 100
"""Characters of a key in messages."""

FEWEST = 4
"""Evaluations that a fit needs; with fewer, a note names the training rewards."""

COMPUTES = ("gpu_hours", "wall_hours", "tokens", "rollouts", "step")
"""Names of resources, in the order in which they are looked for."""

ALIASES = {
    "gpu-hours": "gpu_hours",
    "hours": "wall_hours",
    "wall_time": "wall_hours",
    "time": "wall_hours",
    "samples": "rollouts",
    "steps": "step",
    "global_step": "step",
}


class Chosen(NamedTuple):
    """The metric of a log.

    Attributes
    ----------
    key : str
        Its key.
    notes : list of str
        What else could have been chosen.
    """

    key: str
    notes: list[str]


def evaluations(key: str, histories: Sequence[History]) -> int:
    """Number of evaluations under a key in all runs, without those of abandoned attempts."""
    return sum(len(history.values(key)[0]) for history in histories)


def _all_keys(histories: Sequence[History]) -> list[str]:
    keys = dict.fromkeys(key for history in histories for key in history.rows.keys)
    return list(keys)


def _counted(keys: Sequence[str], histories: Sequence[History]) -> str:
    return listing(f"{shortened(key, LONGEST)} ({count(evaluations(key, histories), 'row')})" for key in keys)


def option(name: str, value: str) -> str:
    """How to give an argument, in Python and on the command line."""
    quoted = f"'{value}'" if any(mark in value for mark in " *?[]$&|;<>()!#") else value
    return f'{name}="{value}" (command line: --{name} {quoted})'


def choose_metric(source: str, histories: Sequence[History], metric: str | None) -> Chosen:
    """Choose the key that holds the evaluations.

    Parameters
    ----------
    source : str
        Name of the log in messages.
    histories : sequence of History
        Its runs.
    metric : str, optional
        A key, a pattern such as ``"*gsm8k*mean@8"``, or a part of one held-out key, such as ``"gsm8k"``.

    Raises
    ------
    DataError
        If there is no such key; if none is named and there are several held-out metrics, or only training rewards.
    """
    keys = _all_keys(histories)
    if metric is not None:
        return Chosen(_named(source, histories, keys, metric), [])
    stated = dict.fromkeys(key for history in histories for key in history.run.metrics)
    held_out = list(stated) or held_out_keys(keys)
    training = training_keys(keys)
    if len(held_out) > 1:
        raise DataError(
            f"{source} has {len(held_out)} metrics of held-out evaluations: {_counted(held_out, histories)}; choose "
            f"one with {option('metric', held_out[0])}."
        )
    if held_out:
        key, notes = held_out[0], list[str]()
        few = evaluations(key, histories)
        if few < FEWEST and training:
            notes.append(
                f"{key} has only {count(few, 'evaluation')}; training rewards are {_counted(training, histories)}, "
                f"to be used with {option('metric', training[0])}"
            )
        return Chosen(key, notes)
    empty = held_out_keys([key for history in histories for key in history.rows.empty])
    if empty:
        raise DataError(f"{source}: no row has a number under {listing(empty, 3)} (all are null, NaN or N/A).")
    if training:
        raise DataError(
            f"{source} has no evaluation of held-out prompts; its training rewards are "
            f"{_counted(training, histories)}; to use one, choose it with {option('metric', training[0])}."
        )
    if not keys:
        raise DataError(f"{source} has no number under any key; give a log with evaluations.")
    raise DataError(
        f"{source} has no key that is known for evaluations; choose one with metric=... (command line: --metric "
        f"...); it "
        f"has: {_counted(keys, histories)}."
    )


def _named(source: str, histories: Sequence[History], keys: Sequence[str], metric: str) -> str:
    if metric in keys:
        return metric
    matches = [key for key in keys if fnmatch.fnmatchcase(key, metric)]
    if not matches:
        matches = [key for key in held_out_keys(keys) if metric.lower() in key.lower()]
    if not matches:
        matches = [key for key in keys if metric.lower() in key.lower()]
    if len(matches) > 1:
        raise DataError(
            f"{source} has {len(matches)} metrics that match {metric!r}: {_counted(matches, histories)}; choose one "
            f"with {option('metric', matches[0])}."
        )
    if not matches:
        raise unknown_name(source, "metric", metric, (shortened(key, LONGEST) for key in keys))
    return matches[0]


class Axis(NamedTuple):
    """The compute of a log.

    Attributes
    ----------
    label : str
        Its name.
    curves : list of Curve or None
        For each run, the resource counted from the beginning; None for steps.
    notes : list of str
        Where it comes from.
    """

    label: str
    curves: list[Curve | None]
    notes: list[str]


def choose_compute(source: str, histories: Sequence[History], compute: str | None, gpus: int | None) -> Axis:
    """Choose the resource that is the compute, and note what the number of GPUs is for.

    As `compute_of`.
    """
    axis = compute_of(source, histories, compute, gpus)
    multiplied = any(curve is not None and curve.multiplied for curve in axis.curves)
    if gpus is not None and not multiplied:
        return axis._replace(notes=[*axis.notes, f"the number of GPUs is not used, since compute is {axis.label}"])
    if axis.label == "wall_hours":
        hint = "wall time becomes GPU-hours with gpus=... (command line: --gpus N)"
        return axis._replace(notes=[*axis.notes, hint])
    return axis


def compute_of(source: str, histories: Sequence[History], compute: str | None, gpus: int | None) -> Axis:
    """Choose the resource that is the compute; it is one and the same for all runs.

    Parameters
    ----------
    source : str
        Name of the log in messages.
    histories : sequence of History
        Its runs.
    compute : str, optional
        "gpu_hours", "wall_hours", "tokens", "rollouts" or "step", or a key that counts from the beginning. Default: the
        first of these that all runs have.
    gpus : int, optional
        Number of GPUs, by which wall time becomes GPU-hours.

    Raises
    ------
    DataError
        If a run does not have the resource that is named.
    """
    names = [history.run.name for history in histories]
    if compute is not None:
        name = ALIASES.get(compute, compute)
        if name == "step":
            return _steps(histories, [])
        curves = [_resource(history, name, gpus) for history in histories]
        lacking = [run or source for run, curve in zip(names, curves, strict=True) if curve is None]
        if lacking:
            raise DataError(_why_not(source, histories, name, lacking))
        return _axis(name, curves)
    found = {name: [history.resource(name, gpus) for history in histories] for name in COMPUTES[:-1]}
    partly: list[str] = []
    for name, curves in found.items():
        if all(curve is not None for curve in curves):
            axis = _axis(name, curves)
            return axis._replace(notes=[*axis.notes, *_partly(partly, names, found, source)])
        if any(curve is not None for curve in curves):
            partly.append(name)
    return _steps(histories, _partly(partly, names, found, source))


def _resource(history: History, name: str, gpus: int | None) -> Curve | None:
    if name in COMPUTES and (found := history.resource(name, gpus)) is not None:
        return found
    return history.counter(name)


def _axis(name: str, curves: list[Curve | None]) -> Axis:
    sources = dict.fromkeys(curve.source for curve in curves if curve is not None)
    return Axis(
        name, curves, [f"compute: {name} from {listing(sources)}" if [name] != list(sources) else f"compute: {name}"]
    )


def _steps(histories: Sequence[History], notes: list[str]) -> Axis:
    label = histories[0].run.step_label
    said = notes or [f"compute: {label}, since the log has neither GPU-hours nor time, tokens or rollouts"]
    if len(histories) > 1:
        said.append(f"runs are compared at equal {label}s, which may cost different amounts of compute")
    return Axis(label, [None] * len(histories), said)


def _partly(
    partly: Sequence[str], names: Sequence[str], found: Mapping[str, list[Curve | None]], source: str
) -> list[str]:
    """Notes on resources that only some runs have."""
    notes = []
    for name in partly:
        lacking = [run or source for run, curve in zip(names, found[name], strict=True) if curve is None]
        notes.append(f"compute: {name} is not used, since it cannot be counted in {listing(lacking, 4)}")
    return notes


def _why_not(source: str, histories: Sequence[History], name: str, lacking: Sequence[str]) -> str:
    where = f"{source}, run {lacking[0]}" if len(histories) > 1 else source
    late = [float(np.nanmin(history.rows.steps)) for history in histories if len(history.rows)]
    others = [one for one in COMPUTES[:-1] if one != name and all(h.resource(one, None) is not None for h in histories)]
    if name == "gpu_hours" and "wall_hours" in others:
        return (
            f"{where}: GPU-hours are not logged, but wall time is; give the number of GPUs with gpus=... (command "
            "line: --gpus N)."
        )
    reason = "is not logged"
    if any(name in history.rows for history in histories):
        reason = "does not count from the beginning, since it falls"
    if name in COMPUTES and late and min(late) > 2.0:
        begins = f"the log begins at step {min(late):g}"
        reason = f"cannot be counted from the beginning, since {begins}; read the earlier log too"
    can = listing([*others, "step"])
    return f"{where}: {name} {reason}; compute can be {can}, or a key of the log that counts from the beginning."
