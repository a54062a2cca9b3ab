"""`read_log`: from the log of a trainer or tracker to `Runs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from rlceiling.errors import DataError, count, listing
from rlceiling.logs.choose import Axis, choose_compute, choose_metric
from rlceiling.logs.conventions import (
    BEFORE_UPDATE,
    STEP_KEYS,
    answers_per_prompt,
    evaluated_before,
    training_keys,
)
from rlceiling.logs.gather import Log, Source, opened
from rlceiling.logs.history import History
from rlceiling.logs.rows import COUNT
from rlceiling.runs.attempts import check_resume
from rlceiling.runs.columns import recipe_and_seed
from rlceiling.runs.files import RawTable
from rlceiling.runs.readers import read_runs, runs_of
from rlceiling.runs.table import Runs

ONLY_LOGS = ("gpus", "prompts")
"""Arguments that tables do not have."""

ONLY_TABLES = ("n_eval", "stage", "duplicates", "where", "wide")
"""Arguments that logs do not have."""


def read_log(
    path: Source,
    metric: str | None = None,
    compute: str | None = None,
    recipe: str | None = None,
    run: str | None = None,
    *,
    resume: str | None = None,
    gpus: int | None = None,
    prompts: int | None = None,
    reward_bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Runs:
    """Read what a trainer or tracker wrote.

    Known are the logs of TRL, verl, OpenRLHF, prime-rl, slime, ROLL, SkyRL, NeMo-RL and tinker-cookbook, of
    TensorBoard, W&B, MLflow and Trackio, and the results of lm-evaluation-harness and Inspect. They are recognised by
    their content. `rlceiling.log_contents` lists what is in a log.

    Parameters
    ----------
    path : path, pattern or sequence of them
        A file, a folder, which is searched, a pattern such as ``"logs/*.jsonl"``, or ``"-"`` for standard input. A
        table is read as by `read_runs`.
    metric : str, optional
        Key of the reward, a pattern, or a part of one held-out key. Default: the held-out metric, if there is one;
        training rewards are used on request only.
    compute : str, optional
        "gpu_hours", "wall_hours", "tokens", "rollouts", "step", or a key that counts from the beginning. Default: the
        first of these that all runs log, as the notes say.
    recipe : str, optional
        Name of the recipe, if all runs in the log are runs of one recipe. Default: each run is a recipe, named after
        its run, file or folder; runs whose names differ in their seed only are runs of one recipe.
    run : str, optional
        Name of the run, if all logs that are read are attempts of one run, in their order.
    resume : {"keep-last", "append"}, optional
        Treatment of a run that was resumed. "keep-last": a later attempt replaces the earlier rows from its first step
        on. "append": its steps count from the last one before. Default: "keep-last", with a note, unless the step goes
        back to the beginning, which is refused.
    gpus : int, optional
        Number of GPUs, by which wall time becomes GPU-hours.
    prompts : int, optional
        Number of prompts of the evaluation. With the number of answers to each, if the key has it (``mean@8``), it
        gives the number of answers of which each reward is the mean.
    reward_bounds : tuple of float or None
        As in `read_runs`.

    Returns
    -------
    Runs
        The evaluations, with notes on what was chosen, joined and left out.

    Raises
    ------
    DataError
        If nothing is recognised, or if the metric or the compute is not clear; the message has the option to choose.

    Examples
    --------
    >>> rl.read_log("checkpoint-900/trainer_state.json")  # doctest: +SKIP
    >>> rl.read_log("outputs", metric="val-core/math/acc/mean@8", prompts=500)  # doctest: +SKIP
    """
    given = {"metric": metric, "compute": compute, "recipe": recipe, "run": run, "resume": resume, "gpus": gpus}
    return read_any(path, {**given, "prompts": prompts, "reward_bounds": reward_bounds})


def read_any(path: Source, given: Mapping[str, Any]) -> Runs:
    """Read a table or a log with arguments of `read_runs` and of `read_log`; `metric` and `reward` are one."""
    asked = {name: value for name, value in given.items() if value is not None and value != [] and value != ()}
    if "reward_bounds" in given and given["reward_bounds"] is None:
        asked["reward_bounds"] = None
    check_resume(asked.get("resume"))
    for name in ONLY_LOGS:
        if name in asked and not (isinstance(asked[name], (int, float)) and asked[name] > 0):
            raise DataError(f"{name} must be a positive number, not {asked[name]!r}.")
    # Some logs are also tables, and columns may be named as in one.
    as_tables = "reward" in asked or any(name in asked for name in ONLY_TABLES)
    with opened(path, asked.get("run"), as_tables=as_tables) as log:
        if log.tables:
            return _read_tables(log, asked)
        reject(asked, ONLY_TABLES, f"{log.source} is a log", "these belong to tables")
        asked.setdefault("metric", asked.pop("reward", None))
        asked.pop("reward", None)
        return _read_runs_of(log, **asked)


def reject(asked: Mapping[str, Any], names: Sequence[str], what: str, why: str) -> None:
    """Raise DataError if arguments are given that make no sense here."""
    if wrong := [name for name in names if name in asked]:
        raise DataError(f"{what}, and {why}: leave out {listing(wrong)}.")


def _read_tables(log: Log, asked: dict[str, Any]) -> Runs:
    """Read tables, of which each has a recipe of its own if there are several."""
    reject(asked, ONLY_LOGS, f"{log.source} is a table", "these belong to logs")
    metric = asked.pop("metric", None)
    arguments = {**asked, "reward": asked.get("reward", metric)}
    runs = [read_runs(path, **arguments) for path in log.tables]
    first = runs[0]
    if len(runs) == 1:
        return replace(first, source=log.source) if log.source == "standard input" else first
    for other in runs[1:]:
        mine, its = (first.compute_label, first.reward_label), (other.compute_label, other.reward_label)
        if mine != its:
            raise DataError(
                f"{first.source} has {mine[1]} against {mine[0]} and {other.source} has {its[1]} against {its[0]}; "
                "name the columns that all have with compute=... and reward=... (command line: --compute ... "
                "--reward ...)."
            )
    tables = [own.table for own in runs]
    bounds = {own.reward_bounds for own in runs}
    labels = {"compute": "compute", "reward": "reward", "recipe": "recipe", "run": "run", "n_eval": "n_eval"}
    whole = pd.concat(tables, ignore_index=True)
    stage = "stage" if "stage" in whole else None
    joined = runs_of(
        RawTable(whole.set_axis(pd.RangeIndex(1, len(whole) + 1), axis=0), log.source, "recipe"),
        {**{role: labels[role] for role in ("compute", "reward", "n_eval")}, "stage": stage},
        recipe="recipe",
        run="run",
        reward_bounds=bounds.pop() if len(bounds) == 1 else asked.get("reward_bounds"),
        duplicates=asked.get("duplicates", "error"),
        resume=None,
    )
    notes = [f"{own.source}: {note}" for own in runs for note in own.notes]
    return replace(
        joined,
        notes=(*notes, *joined.notes),
        compute_label=first.compute_label,
        reward_label=first.reward_label,
    )


def _read_runs_of(
    log: Log,
    *,
    metric: str | None = None,
    compute: str | None = None,
    recipe: str | None = None,
    run: str | None = None,
    resume: str | None = None,
    gpus: int | None = None,
    prompts: int | None = None,
    reward_bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Runs:
    try:
        histories = [History(one, resume) for one in log.runs]
    except DataError as error:
        raise DataError(f"{log.source}: {error}") from None
    chosen = choose_metric(log.source, histories, metric)
    key = chosen.key
    notes = [*log.notes, *chosen.notes]
    lacking = [history.run.name for history in histories if not len(history.values(key)[0])]
    if lacking and len(histories) > 1:
        notes.append(f"left out, since they have no {key}: {listing(lacking, 4)}")
    histories = [history for history in histories if len(history.values(key)[0])]
    if not histories:
        raise DataError(
            f"{log.source}: no row with {key} has a step; known keys of the step are {listing(STEP_KEYS)}; "
            "JSON lines are also read as a table, by the names of its columns: compute=... and reward=... (command "
            "line: --compute ... --reward ...)."
        )
    axis = choose_compute(log.source, histories, compute, gpus)
    notes += axis.notes
    pieces, noted = [], dict[str, list[str]]()
    for place, history in enumerate(histories):
        own, said = _evaluations(history, key, axis, place, prompts)
        pieces.append(own)
        for note in (*history.notes, *said):
            noted.setdefault(note, []).append(history.run.name)
    for note, of in noted.items():
        notes.append(note if len(of) == len(histories) else f"{listing(of, 4)}: {note}")
    names = _recipes([history.run.name for history in histories], recipe, run)
    cells = pd.concat([p.assign(recipe=r, run=s) for p, (r, s) in zip(pieces, names, strict=True)])
    if any(pair is not None for pair in map(recipe_and_seed, (h.run.name for h in histories))) and recipe is None:
        notes.append("runs whose names differ in their seed are runs of one recipe")
    if prompts is None and answers_per_prompt(key) and cells["n_eval"].isna().all():
        notes.append(
            "number of answers behind each reward unknown: give the number of prompts with prompts=... (--prompts N)"
        )
    taken = {"recipe", "run", "n_eval", "step", axis.label}
    label = f"metric {key}" if key in taken else key
    steps = [] if axis.label == "step" else ["step"]
    table = pd.DataFrame(
        {
            "recipe": cells["recipe"],
            "run": cells["run"],
            axis.label: cells["compute"],
            label: cells["reward"],
            **({"n_eval": cells["n_eval"]} if cells["n_eval"].notna().any() else {}),
            **dict.fromkeys(steps, cells["step"]),
        }
    )
    runs = runs_of(
        RawTable(table, log.source, "recipe"),
        {"compute": axis.label, "reward": label, "n_eval": "n_eval" if "n_eval" in table else None, "stage": None},
        recipe="recipe",
        run="run",
        reward_bounds=reward_bounds,
        duplicates="mean",  # steps at which the resource stood at one value
        resume=None,
    )
    return replace(runs, notes=(*notes, *runs.notes))


def _evaluations(
    history: History, key: str, axis: Axis, place: int, prompts: int | None
) -> tuple[pd.DataFrame, list[str]]:
    """Evaluations of a run: compute, reward, n_eval and step, indexed by the number of the row in the log."""
    notes = []
    steps, values, rows = history.values(key)
    if BEFORE_UPDATE.fullmatch(key):
        steps = np.maximum(steps - 1.0, 0.0)
        notes.append(f"{key} at a step comes from the weights before its update, so steps are counted one less")
    elif training_keys([key]):
        notes.append(
            f"{key} is a training reward: its prompts change and are trained on, so it is no held-out evaluation"
        )
    counts = np.full(len(steps), np.nan)
    if COUNT + key in history.rows:
        of_row = dict(zip(*(one.tolist() for one in history.rows.series(COUNT + key)), strict=True))
        counts = np.array([of_row.get(int(row), np.nan) for row in rows])
        if prompts is not None:
            notes.append("the number of prompts is not used, since the log has the number of answers")
    elif prompts is not None:
        each = answers_per_prompt(key)
        counts[:] = prompts * (each or 1)
        if each is None:
            notes.append(f"n_eval: one answer to each of {prompts:,} prompts, since {key} does not say how many")
        else:
            notes.append(f"n_eval: {each} x {prompts:,} prompts")
    empty = history.rows.empty[key]
    if empty:
        notes.append(f"left out {count(empty, 'row')} without a number under {key} (null, NaN, infinite or N/A)")
    frame = pd.DataFrame({"step": steps, "reward": values, "n_eval": counts}, index=rows + 1)
    frame, said = _once_per_step(frame)
    at = frame["step"].to_numpy()
    curve = axis.curves[place]
    frame["compute"] = at if curve is None else curve.at(at, before=evaluated_before(key))
    return frame, [*notes, *said]


def _once_per_step(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Average evaluations of the same weights, as where a resumed run evaluates its checkpoint again."""
    again = frame["step"].duplicated(keep=False)
    if not again.any():
        return frame, []
    own = frame[again].drop_duplicates(["step", "reward"])  # a row that was written twice is one evaluation
    weight = own["n_eval"].fillna(1.0)
    sums = pd.DataFrame({"reward": own["reward"] * weight, "weight": weight, "n_eval": own["n_eval"]})
    total = sums.groupby(own["step"]).sum(min_count=1)
    first = frame.drop_duplicates("step").copy()
    merged = first["step"].isin(total.index)
    at = first.loc[merged, "step"]
    first.loc[merged, "reward"] = (total["reward"] / total["weight"]).loc[at].to_numpy()
    first.loc[merged, "n_eval"] = total["n_eval"].loc[at].to_numpy()
    shown = listing((f"{step:g}" for step in total.index), 4)
    return first, [f"evaluated more than once at step {shown}: averaged, since the weights are the same"]


def _recipes(names: Sequence[str], recipe: str | None, run: str | None) -> list[tuple[str, str]]:
    """Recipe and run of each run of a log."""
    if recipe is not None:
        return [(recipe, (run or "0") if len(names) == 1 else name) for name in names]
    seeds = [recipe_and_seed(name) for name in names]
    return [seed or (name, "0") for name, seed in zip(names, seeds, strict=True)]
