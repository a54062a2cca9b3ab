"""Budgets spent on real and simulated runs by several rules: how often the best recipe is named in the end.

python benchmarks/calibration/plan.py [--work FOLDER] [--workers N]

Of a study (see studies.py) up to five recipes are taken at random, and their runs are cut at the same compute. A rule
spends a quarter of the compute that all of them would still need to reach the end of the shortest, in three rounds: the
evaluations that the compute buys are revealed, and the runs are fitted again with the quick settings of
`rlceiling.Gate`. Then the recipe that is most probably the best at that end is named. The truth is the mean of the
evaluations in the last tenth before it. Rules are `Fits.plan` (half for each of the two most probable recipes), equal
shares, the split with the highest expected chance to name the best (knowledge gradient), all to the most probable one,
and halving (equal shares of those that are left, the lower half of which drops out after each round by the last
rewards). All name by the same posterior.

Simulated recipes have known ceilings, which are compared: one set is drawn from the priors, the other has ceilings
close to each other.

What was fitted, and each case, is kept in the work folder. Results go to results/plan.json.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from futures import show
from results import record
from studies import Work, first_run, studies

import rlceiling as rl
from rlceiling.calibration.simulate import START, simulate_from_priors, simulate_rewards
from rlceiling.decisions.compared import Compared, paired
from rlceiling.decisions.plan import UNFIT
from rlceiling.decisions.prospects import foreseen
from rlceiling.live.refits import RULES
from rlceiling.runs.table import FEWEST
from rlceiling.settings import LIVE_SAMPLER

SAMPLER = {name: getattr(LIVE_SAMPLER, name) for name in ("chains", "tune", "draws")}

FIRST, ROUNDS, SPENT = 0.35, 3, 0.25
"""Share of the common length at which runs are cut, rounds, and the share of the rest that may be spent."""

MOST, CASES = 5, 30
"""Largest number of recipes in a case, and of cases of a study."""

SIMULATED, LENGTH = 12, 40
"""Number of recipes of each simulated set, and of evaluations of each."""

PARTS = 10
"""Number of parts of the budget of a round that the knowledge gradient gives one by one."""

LAST = 0.1
LEFT_OUT = ("qwen_math",)
"""Studies without a question: among models of seven sizes the largest leads at once."""


@dataclass(frozen=True)
class Case:
    """Recipes of a study that compete for a budget."""

    study: str
    number: int
    runs: dict[str, rl.Runs]
    end: float
    truth: dict[str, float]
    at: float | None


def cases_of(name: str, runs: dict[str, rl.Runs], ceilings: dict[str, float] | None) -> list[Case]:
    """Cases of a study, each drawn at random; fewer where there are not that many different ones."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    ends = {recipe: float(own.table["compute"].max()) for recipe, own in runs.items()}
    found: dict[tuple[str, ...], Case] = {}
    for _ in range(20 * CASES):
        end = ends[str(rng.choice(list(ends)))]
        able = [recipe for recipe, own in runs.items() if ends[recipe] >= end and seen(own, FIRST * end) >= FEWEST]
        if len(able) < 3:
            continue
        chosen = tuple(sorted(rng.choice(able, min(MOST, len(able)), replace=False).tolist()))
        end = min(ends[recipe] for recipe in chosen)
        if chosen in found or any(seen(runs[recipe], FIRST * end) < FEWEST for recipe in chosen):
            continue
        truth = {recipe: ceilings[recipe] if ceilings else level(runs[recipe], end) for recipe in chosen}
        own = {recipe: runs[recipe] for recipe in chosen}
        found[chosen] = Case(name, len(found), own, end, truth, None if ceilings else end)
        if len(found) == CASES:
            break
    return list(found.values())


def seen(runs: rl.Runs, limit: float) -> int:
    """Number of evaluations up to a compute."""
    return int(runs.table.loc[runs.table["compute"].between(0.0, limit, inclusive="right"), "compute"].nunique())


def level(runs: rl.Runs, end: float) -> float:
    """Mean of the evaluations in the last tenth before a compute, at least three."""
    table = runs.table[runs.table["compute"] <= end].sort_values("compute")
    last = table.loc[table["compute"] > (1.0 - LAST) * end, "reward"]
    return float(last.mean() if len(last) >= 3 else table["reward"].tail(3).mean())


def fitted(folder: Path, case: Case, limits: dict[str, float]) -> rl.Fits:
    """Fits of the evaluations so far, each made once."""
    found = []
    for recipe, runs in case.runs.items():
        name = f"fit--{case.study}--{recipe}--{seen(runs, limits[recipe])}.pickle".replace("/", "_")
        path = folder / name
        if not path.exists():
            (fit,) = rl.fit(
                runs.until(limits[recipe]), **SAMPLER, rules=RULES, cores=1, backend="cpu", progress=False
            ).values()
            assert fit.checks  # which are kept with it, as is the verdict
            assert fit.verdict
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps(fit))
            part.rename(path)
        found.append(pickle.loads(path.read_bytes()))
    return rl.Fits(found)


def chances(fits: rl.Fits, at: float | None) -> pd.Series:
    """Probability of each recipe that can be judged to be the best."""
    judged = [name for name, fit in fits.items() if fit.verdict not in UNFIT] or list(fits)
    drawn = paired([Compared(at).draws(fits[name]) for name in judged]).reshape(len(judged), -1)
    p = np.bincount(drawn.argmax(axis=0), minlength=len(judged)) / drawn.shape[1]
    return pd.Series(p, index=judged).reindex(list(fits)).fillna(0.0)


Rule = Callable[[rl.Fits, Case, float, int], "pd.Series[float]"]


def planned(fits: rl.Fits, case: Case, budget: float, _: int) -> pd.Series:
    given = fits.plan(budget, at=case.at)["give"].reindex(list(fits))
    return given if given.sum() > 0 else equal(fits, case, budget, 0)


def equal(fits: rl.Fits, case: Case, budget: float, _: int) -> pd.Series:
    return pd.Series(budget / len(fits), index=list(fits))


def leader(fits: rl.Fits, case: Case, budget: float, _: int) -> pd.Series:
    p = chances(fits, case.at)
    return budget * (p.index == p.idxmax()) * pd.Series(1.0, index=p.index)


def knowledge_gradient(fits: rl.Fits, case: Case, budget: float, _: int) -> pd.Series:
    """Parts of the budget are given one after another where they raise the expected chance to name the best most.

    In each round one recipe gets as many of the parts that are left as raise it most per part, since a first part may
    show nothing where three decide (Frazier and Powell, "Paradoxes in learning and the marginal value of information",
    Decision Analysis 2010). Once none helps, the rest goes to the two most probable in turn.
    """
    judged = [name for name, fit in fits.items() if fit.verdict not in UNFIT]
    given = dict.fromkeys(fits, 0)
    if len(judged) > 1:
        naming, _sd = foreseen(fits.select(*judged), Compared(case.at), budget * np.arange(1, PARTS + 1) / PARTS)
        two = chances(fits, case.at)[judged].sort_values(ascending=False, kind="stable").index[:2]
        while left := PARTS - sum(given.values()):
            now = naming.chance([given[name] for name in judged])
            rates = {}
            for name in judged:
                for more in range(1, left + 1):
                    levels = [given[other] + more * (other == name) for other in judged]
                    rates[name, more] = (naming.chance(levels) - now) / more
            name, more = max(rates, key=rates.__getitem__)
            if rates[name, more] <= 0.0:
                for i in range(left):
                    given[two[i % 2]] += 1
            else:
                given[name] += more
    return pd.Series(given) * budget / PARTS if any(given.values()) else equal(fits, case, budget, 0)


def halving(fits: rl.Fits, case: Case, budget: float, turn: int) -> pd.Series:
    left = max(2, -(-len(fits) // 2**turn))
    last = pd.Series({name: float(fit.runs[0].reward[-1]) for name, fit in fits.items()})
    top = last.sort_values(ascending=False, kind="stable").index[:left]
    return pd.Series(budget / left, index=top).reindex(list(fits)).fillna(0.0)


RULES_OF: dict[str, Rule] = {
    "plan": planned,
    "equal": equal,
    "knowledge gradient": knowledge_gradient,
    "leader": leader,
    "halving": halving,
}


STATED = {"nothing": "p_named", "plan": "p_named_plan", "equal": "p_named_equal"}
"""Columns of the plan before the first round with the chance to name the best after each rule."""


def play(folder: Path, case: Case, rule: str) -> dict[str, Any]:
    """What a rule names in a case, what it lacks of the best, and the chances that were stated before and after."""
    limits = dict.fromkeys(case.runs, FIRST * case.end)
    budget = SPENT * len(case.runs) * (1.0 - FIRST) * case.end
    stated = np.nan
    if rule in STATED:
        stated = float(fitted(folder, case, limits).plan(budget, at=case.at)[STATED[rule]].iloc[0])
    for turn in range(ROUNDS) if rule in RULES_OF else ():
        given = RULES_OF[rule](fitted(folder, case, limits), case, budget / ROUNDS, turn)
        limits = {recipe: limit + float(given[recipe]) for recipe, limit in limits.items()}
        limits = capped(limits, case.end)
    p = chances(fitted(folder, case, limits), case.at)
    lost = max(case.truth.values()) - case.truth[p.idxmax()]
    row = {"study": case.study, "case": case.number, "rule": rule, "right": lost == 0.0, "lost": lost}
    return row | {"chance": float(p.max()), "stated": stated}


def capped(limits: dict[str, float], end: float) -> dict[str, float]:
    """Nobody goes on beyond the end: what is left over goes to the others in equal shares."""
    over = sum(max(limit - end, 0.0) for limit in limits.values())
    capped = {recipe: min(limit, end) for recipe, limit in limits.items()}
    while over > 1e-9 * end and (open_ := [r for r, limit in capped.items() if limit < end]):
        more = min(over / len(open_), min(end - capped[r] for r in open_))
        capped = {r: limit + more * (r in open_) for r, limit in capped.items()}
        over -= more * len(open_)
    return capped


def simulated() -> dict[str, tuple[dict[str, rl.Runs], dict[str, float]]]:
    """Recipes drawn from the priors, and recipes whose ceilings are close; with their ceilings."""
    compute = np.linspace(100.0, 100.0 * LENGTH, LENGTH)
    runs, truths = simulate_from_priors(SIMULATED, compute, seed=20261126)
    ceilings = truths.reset_index().groupby("recipe")["A"].first()
    rng, rows, close = np.random.default_rng(20261126), [], {}
    for i in range(SIMULATED):
        name = f"c{i}"
        truth = {"A": 0.6 + 0.02 * rng.standard_normal(), "B": 1.7 * np.exp(0.3 * rng.standard_normal()), "R0": 0.4}
        truth |= {"C_mid": 1000.0 * np.exp(0.4 * rng.standard_normal()), "sigma": 0.006, "share": 0.5, "length": 0.5}
        reward = np.clip(simulate_rewards(compute, truth, rng), 0.0, 1.0)
        of_run = {"recipe": name, "compute": np.r_[0.0, compute], "reward": np.r_[START[0], reward]}
        rows.append(pd.DataFrame(of_run).assign(n_eval=np.r_[START[1], np.full(LENGTH, np.nan)]))
        close[name] = truth["A"]
    others = rl.read_runs(pd.concat(rows), compute="compute", reward="reward", recipe="recipe", n_eval="n_eval")
    return {
        "drawn from the priors": (
            {r: runs.select(r) for r in runs.recipes},
            {str(r): float(a) for r, a in ceilings.items()},
        ),
        "close ceilings": ({r: others.select(r) for r in others.recipes}, close),
    }


def all_cases() -> list[Case]:
    """Cases of all studies and of the simulated sets."""
    found = []
    for name, study in studies().items():
        if name in LEFT_OUT:
            continue
        runs = {recipe: first_run(study, recipe) for recipe in study.runs.recipes}
        found += cases_of(name, runs, None)
    for name, (runs, ceilings) in simulated().items():
        found += cases_of(name, runs, ceilings)
    return found


def scores(table: pd.DataFrame) -> pd.Series:
    """How often the best was named, what was lost, and the chances that were stated before and after."""
    return pd.Series(
        {
            "cases": len(table),
            "right": table["right"].mean(),
            "lost": table["lost"].mean(),
            "chance": table["chance"].mean(),
            "stated": table["stated"].mean(),
        }
    )


def beside_plan(table: pd.DataFrame) -> pd.DataFrame:
    """Each rule beside the plan, case by case: which of them was right alone, and the difference of what was lost."""
    right, lost = (table.pivot(index=["study", "case"], columns="rule", values=of) for of in ("right", "lost"))
    rows = {}
    for rule in RULES_OF:
        if rule == "plan":
            continue
        apart = lost[rule] - lost["plan"]
        rows[rule] = {
            "plan alone right": (right["plan"] & ~right[rule]).sum(),
            "rule alone right": (right[rule] & ~right["plan"]).sum(),
            "lost more": apart.mean(),
            "error": apart.std(ddof=1) / len(apart) ** 0.5,
        }
    return pd.DataFrame(rows).T.rename_axis("rule")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "rlceiling-plan")
    asked.add_argument("--workers", type=int, default=os.cpu_count())
    given = asked.parse_args()
    began = time.perf_counter()
    work, cases = Work(given.work, given.workers), all_cases()
    asked_of = [("case", case.study, case.number, rule) for case in cases for rule in ("nothing", *RULES_OF)]
    of = {(case.study, case.number): case for case in cases}
    work.make("cases", [(key, play, (given.work, of[key[1:3]], key[3])) for key in asked_of])
    table = pd.DataFrame(work.get(*key) for key in asked_of)
    table["kind"] = np.where(table["study"].isin(list(simulated())), "simulated", "real")
    tables = {
        f"{kind} runs": own.groupby("rule", sort=False)[list(own)].apply(scores) for kind, own in table.groupby("kind")
    }
    tables |= {f"{kind} runs, beside the plan": beside_plan(own) for kind, own in table.groupby("kind")}
    tables["by study"] = table.groupby(["study", "rule"], sort=False)[list(table)].apply(scores)
    for title, one in tables.items():
        show(title, one)
    lines = [f"{len(cases)} cases of up to {MOST} recipes", f"{len(list(given.work.glob('fit--*')))} fits"]
    record("plan", "plan.py", tables, lines, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
