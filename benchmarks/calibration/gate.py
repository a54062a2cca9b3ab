"""Runs of real studies replayed: how often a rule that stops them is wrong, and how much compute it saves.

python benchmarks/calibration/gate.py [--work FOLDER] [--workers N]

Each first run of five studies (see studies.py) is cut at four shares of its length. `Fits.gate` is asked whether the
next 15% of that length add at least a hundredth of the range of the reward, and beside it a rule that stops after five
evaluations without such a gain. The truth is the mean of the three last evaluations then, minus that at the cut.

Then all runs of a study that are long enough are cut at the same compute, and asked which of them may still lead at 1.6
times that compute; beside are the median rule (stop below the median of the others' best rewards) and halving (stop the
lower half by the last rewards). The truth is the run with the highest reward there.

Last, whole runs: each rule is asked at each of these places in turn, a run that it stops ends there, and what is left
of the run is saved. Alone, a run ends with its log. Together, runs that were stopped are out of the comparison, and the
others end at 1.6 times the last place; beside are the rule of patience and one that stops the lowest quarter.

What was fitted is kept in the work folder. Results go to results/gate.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from futures import show
from results import record
from studies import Study, Work, first_run, studies

import rlceiling as rl
from rlceiling.runs.table import FEWEST

SHARES, NEXT, GAIN = (0.25, 0.4, 0.55, 0.7), 0.15, 0.01
"""Shares of a run at which it is asked about, the share that is added, and the gain that is asked for."""

RUNGS, AHEAD = (0.25, 0.4, 0.6), 1.6
"""Shares of the median length of a study at which its runs are compared, and how far ahead."""

PATIENCE, LAST = 5, 3
RATES = (0.05, 0.1, 0.2)
TOGETHER = (*(f"gate {rate:g}" for rate in RATES), "halving", "median rule", "lowest quarter", "patience")


def cut(study: Study, recipe: str, limit: float) -> rl.Runs | None:
    """Evaluations of the first run of a recipe up to a compute; None if they are too few."""
    own = first_run(study, recipe)
    number = own.table.loc[own.table["compute"].between(0.0, limit, inclusive="right"), "compute"].nunique()
    return own.until(limit) if number >= FEWEST else None


def fitted(runs: rl.Runs) -> rl.Fit:
    (fit,) = rl.fit(runs, cores=1, progress=False).values()
    return fit


def level(table: pd.DataFrame, limit: float) -> float:
    """Mean of the last evaluations up to a compute."""
    return float(table.loc[table["compute"] <= limit, "reward"].tail(LAST).mean())


def asked_alone(work: Work, found: dict[str, Study]) -> Iterator[dict[str, Any]]:
    """What the gate and the rule of patience say of each run at each share, and what came."""
    for name, study in found.items():
        for recipe in study.runs.recipes:
            for share in SHARES:
                if not work.path(("gate", name, recipe, share)).exists():
                    continue
                fit: rl.Fit = work.get("gate", name, recipe, share)
                table = first_run(study, recipe).table.sort_values("compute")
                end = float(table["compute"].max())
                now = share * end
                came = level(table, now + NEXT * end) - level(table, now)
                row = {"study": name, "recipe": recipe, "share": share, "came": came, "worth it": came >= GAIN}
                row["left"] = level(table, end) - level(table, now)
                row["patience"] = "stop" if stalled_at(table, now) else "go"
                for rate in RATES:
                    rates = {"max_wrong_stop": rate, "max_wrong_go": rate}
                    row[f"gate {rate:g}"] = rl.Fits([fit]).gate(NEXT * end, GAIN, **rates)["decision"].iloc[0]
                row["p_gain"] = rl.Fits([fit]).gate(NEXT * end, GAIN).get("p_gain", pd.Series([np.nan])).iloc[0]
                yield row


def asked_together(work: Work, found: dict[str, Study]) -> Iterator[dict[str, Any]]:
    """Which runs each rule stops at each rung of a study, and which of them leads later."""
    for name, study in found.items():
        for rung in RUNGS:
            if not work.path(("rung", name, rung)).exists():
                continue
            fits: rl.Fits = work.get("rung", name, rung)
            if len(fits) < 3:
                continue
            limit = rung * middle(study)
            tables = {recipe: first_run(study, recipe).table.sort_values("compute") for recipe in fits}
            later = {recipe: level(table, AHEAD * limit) for recipe, table in tables.items()}
            leader = max(later, key=lambda recipe: later[recipe])
            stops = {rule: stopped(rule, fits, tables, limit) for rule in TOGETHER[:-2]}
            for rule, own in stops.items():
                row = {"study": name, "rung": rung, "rule": rule, "runs": len(fits), "stopped": len(own)}
                yield row | {"leader stopped": leader in own, "lost": later[leader] - max(kept(later, own))}


def asked_in_turn(work: Work, found: dict[str, Study]) -> Iterator[dict[str, Any]]:
    """What each rule saves of the runs of a study that it may stop at each rung, and what it loses."""
    for name, study in found.items():
        limits = {rung: rung * middle(study) for rung in RUNGS}
        end = AHEAD * limits[RUNGS[-1]]
        at: dict[float, rl.Fits] = {}
        for rung in RUNGS:
            if work.path(("rung", name, rung)).exists():
                at[limits[rung]] = work.get("rung", name, rung)
        runs = list(at.get(limits[RUNGS[-1]], ()))
        if len(runs) < 3:
            continue
        tables = {recipe: first_run(study, recipe).table.sort_values("compute") for recipe in runs}
        last = {recipe: level(table, end) for recipe, table in tables.items()}
        for rule in TOGETHER:
            ends = dict.fromkeys(runs, end)
            for limit, fits in at.items():
                going = [recipe for recipe in fits if ends.get(recipe) == end]
                if len(going) > 1:
                    ends |= dict.fromkeys(stopped(rule, fits.select(*going), tables, limit), limit)
            own = {recipe for recipe in runs if ends[recipe] < end}
            row = {"study": name, "rule": rule, "runs": len(runs), "stopped": len(own)}
            row |= {"saved": 1.0 - sum(ends.values()) / (end * len(runs)), "leader": max(last, key=last.__getitem__)}
            yield row | {"leader stopped": row["leader"] in own, "lost": max(last.values()) - max(kept(last, own))}


def stopped(rule: str, fits: rl.Fits, tables: dict[str, pd.DataFrame], limit: float) -> set[str]:
    """Runs that a rule stops at a compute; the gate where another one leads at the later compute."""
    if rule.startswith("gate"):
        rate = float(rule.removeprefix("gate "))
        table = fits.gate(limit, 1e-9, against="others", at=AHEAD * limit, max_wrong_stop=rate)
        return set(table.loc[table["decision"] == "stop", "recipe"])
    if rule == "patience":
        return {recipe for recipe in fits if stalled_at(tables[recipe], limit)}
    now = {recipe: level(tables[recipe], limit) for recipe in fits}
    if rule in ("halving", "lowest quarter"):
        share = 0.5 if rule == "halving" else 0.25
        return {recipe for recipe in fits if now[recipe] < np.quantile(list(now.values()), share)}
    best = {r: float(t.loc[t["compute"] <= limit, "reward"].max()) for r, t in tables.items() if r in now}
    others = {r: [best[other] for other in fits if other != r] for r in fits}
    return {r for r in fits if others[r] and best[r] < np.median(others[r])}


def stalled_at(table: pd.DataFrame, limit: float) -> bool:
    """Whether the last evaluations up to a compute brought no such gain."""
    before = table.loc[table["compute"] <= limit, "reward"].to_numpy()
    return bool(len(before) > PATIENCE and before[-PATIENCE:].max() < before[:-PATIENCE].max() + GAIN)


def kept(later: dict[str, float], own: set[str]) -> list[float]:
    """Later rewards of the runs that go on; of all if none does."""
    return [value for recipe, value in later.items() if recipe not in own] or list(later.values())


def whole_runs(alone: pd.DataFrame, rule: str) -> dict[str, float]:
    """What is saved and lost if each run ends where a rule first stops it."""
    stops = alone[alone[rule] == "stop"].sort_values("share").groupby(["study", "recipe"]).first()
    runs = alone.groupby(["study", "recipe"]).ngroups
    return {
        "runs": runs,
        "stopped": len(stops),
        "saved": (1.0 - stops["share"]).sum() / runs,
        "wrong": (stops["left"] >= GAIN).mean(),
        "lost": stops["left"].sum() / runs,
    }


def middle(study: Study) -> float:
    """Median length of the runs of a study."""
    return float(np.median(list(study.ends.values())))


def together(study: Study, limit: float) -> rl.Fits:
    """Fits of all runs that go on to the later compute, cut at a compute."""
    long = [r for r in study.runs.recipes if first_run(study, r).table["compute"].max() >= 0.98 * AHEAD * limit]
    early = {recipe: cut(study, recipe, limit) for recipe in long}
    return rl.Fits([fitted(runs) for runs in early.values() if runs is not None])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "rlceiling-gate")
    asked.add_argument("--workers", type=int, default=os.cpu_count())
    given = asked.parse_args()
    began = time.perf_counter()
    work, found = Work(given.work, given.workers), studies()
    tasks = []
    for name, study in found.items():
        for recipe in study.runs.recipes:
            end = float(first_run(study, recipe).table["compute"].max())
            for share in SHARES:
                runs = cut(study, recipe, share * end)
                if runs is not None:
                    tasks.append((("gate", name, recipe, share), fitted, (runs,)))
    work.make("runs cut at shares", tasks)
    every = [(name, study, rung) for name, study in found.items() for rung in RUNGS]
    tasks = [(("rung", name, rung), together, (study, rung * middle(study))) for name, study, rung in every]
    work.make("studies cut at rungs", tasks)
    alone, of_study = pd.DataFrame(asked_alone(work, found)), pd.DataFrame(asked_together(work, found))
    rows = {}
    for rule in ("patience", *(f"gate {rate:g}" for rate in RATES)):
        stop, go = alone[rule] == "stop", alone[rule] == "go"
        rows[rule] = {
            "asked": len(alone),
            "stop": stop.sum(),
            "stop wrong": alone.loc[stop, "worth it"].mean(),
            "go": go.sum(),
            "go wrong": 1.0 - alone.loc[go, "worth it"].mean(),
            "unknown": (alone[rule] == "unknown").sum(),
        }
    gain = pd.DataFrame(rows).T.rename_axis("rule")
    edges = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    bins = pd.cut(alone["p_gain"], edges, include_lowest=True, labels=labels).astype(str)
    columns = {"asked": ("p_gain", "size"), "stated": ("p_gain", "mean"), "came": ("worth it", "mean")}
    reliability = alone.groupby(bins).agg(**columns)
    best = of_study.groupby("rule", sort=False).agg(
        rungs=("rung", "size"),
        runs=("runs", "sum"),
        stopped=("stopped", "sum"),
        lost_leader=("leader stopped", "sum"),
        lost=("lost", "mean"),
    )
    whole = pd.DataFrame({rule: whole_runs(alone, rule) for rule in rows}).T.rename_axis("rule")
    of_turns = pd.DataFrame(asked_in_turn(work, found))
    in_turn = of_turns.groupby("rule", sort=False).agg(
        studies=("study", "size"),
        runs=("runs", "sum"),
        stopped=("stopped", "sum"),
        saved=("saved", "mean"),
        lost_leader=("leader stopped", "sum"),
        lost=("lost", "mean"),
    )
    tables = {"the next compute": gain, "chances stated": reliability.rename_axis("p_gain"), "the leader": best}
    tables |= {"whole runs, alone": whole, "whole runs, together": in_turn}
    for title, table in tables.items():
        show(title, table)
    worth = alone["worth it"].mean()
    lines = [f"{len(alone)} questions about {alone['recipe'].nunique()} recipes, of which {worth:.0%} were worth it"]
    record("gate", "gate.py", tables, lines, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
