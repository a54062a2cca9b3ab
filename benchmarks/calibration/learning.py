"""Priors learned from earlier runs: forecasts of recipes that were left out, beside those of each recipe alone.

python benchmarks/calibration/learning.py [scalerl] [grpo_group_size]

Without a name, both. Results go to results/learning-*.json.

Each recipe of `scalerl` is cut at the end and at half of its train part, and its later evaluations are forecast under
priors that were learned from the train parts of the other 22. `grpo_group_size` is another task, on which priors that
were learned from `scalerl` should do no harm; it may not be passed on, is read from the folder shared/data beside the
repository, and is left out where that is absent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from futures import SHARED, by_run, futures, show
from results import record

import rlceiling as rl
from rlceiling.fitting.learn_priors import Study, usable_fits

ALONE, LEARNED, MODEL = "alone", "learned from others", "rlceiling"
BASELINES = ("least squares", "last value")
CUTS = {"half of the train part": 0.5, "end of the train part": 1.0}
COLUMNS = ["in 50%", "in 90%", "crps", "bias"]

Priors = rl.SigmoidPriors | Mapping[str, rl.SigmoidPriors] | None


def both_ways(runs: rl.Runs, learned: Priors, **cuts: Any) -> tuple[rl.Backtest, rl.Backtest]:
    """Backtests of each recipe alone, with the baselines, and under learned priors."""
    alone = rl.backtest(runs, **cuts, methods=(MODEL, *BASELINES), progress=False)
    in_their_light = rl.backtest(runs, **cuts, methods=(MODEL,), priors=learned, progress=False)
    return alone, in_their_light


def identified(tested: rl.Backtest) -> float:
    """Share of cut runs whose ceiling is identified."""
    return float((tested.ceilings["verdict"] == "IDENTIFIED").mean())


def scores(alone: rl.Backtest, learned: rl.Backtest) -> pd.DataFrame:
    """Scores of all methods, every cut run counted once, with the share of runs whose ceiling is identified."""
    table = pd.concat([by_run(learned).rename(index={MODEL: LEARNED}), by_run(alone).rename(index={MODEL: ALONE})])
    table = table.loc[[LEARNED, ALONE, *BASELINES], COLUMNS].rename_axis("method")
    return table.assign(identified=pd.Series({LEARNED: identified(learned), ALONE: identified(alone)}))


def runs_and_left_out(tested: rl.Backtest) -> str:
    """Number of cut runs, and why others could not be used."""
    reasons = tested.skipped["reason"].str.replace(r"^\d+ evaluations?", "too few evaluations", regex=True)
    left = "".join(f"; left out {number}: {reason}" for reason, number in reasons.value_counts().items())
    return f"{len(tested.ceilings)} cut runs{left}"


def by_recipe(alone: rl.Backtest, learned: rl.Backtest) -> pd.DataFrame:
    """CRPS of each recipe alone and under learned priors, and what the fits say about what they leaned on."""
    found = {
        name: tested.scores("recipe").xs(MODEL, level="method")[["in 90%", "crps"]]
        for name, tested in ((ALONE, alone), (LEARNED, learned))
    }
    (fits,) = learned.fits.values()
    own = pd.DataFrame({name: {"own share": fit.own_share} | dict(fit.unlike) for name, fit in fits.items()}).T
    own = own.rename(columns={group: f"unlike in {group}" for group in own.columns[1:]})
    return pd.concat([pd.concat(found, axis=1), pd.concat({"": own}, axis=1)], axis=1).rename_axis("recipe")


def history() -> Study:
    """Population of the train parts of the bundled recipes."""
    return Study(usable_fits(rl.fit(rl.load_dataset("scalerl"), progress=False)))


def siblings(study: Study) -> None:
    """Each recipe of `scalerl` under priors from the others of its study."""
    began = time.perf_counter()
    train, whole = rl.load_dataset("scalerl"), rl.load_dataset("scalerl", split="all")
    learned = {name: study.priors(leave_out=name) for name in train.recipes}
    ends = {run.recipe: float(run.compute[-1]) for run in train.iter_runs()}
    tables, lines = {}, []
    for title, share in CUTS.items():
        alone, others = both_ways(whole, learned, cut_compute={name: share * end for name, end in ends.items()})
        tables[title], tables[f"{title}, by recipe"] = scores(alone, others), by_recipe(alone, others)
        lines.append(f"{title}: {runs_and_left_out(alone)}")
        show(lines[-1], tables[title])
        show(f"{title}, by recipe", tables[f"{title}, by recipe"])
    lines.append(f"fitted again before the population was sampled: {len(study.refitted)} of {len(study.fits)}")
    record("learning-scalerl", "learning.py scalerl", tables, lines, time.perf_counter() - began)


def another_task(study: Study) -> None:
    """Recipes of another task under priors from `scalerl`."""
    if not SHARED.is_dir():
        print(f"\ngrpo_group_size is left out: there is no folder {SHARED.name} beside the repository")
        return
    began = time.perf_counter()
    runs, cuts = futures()["grpo_group_size"]
    alone, others = both_ways(runs, study.priors(), **cuts)
    tables = {"all cuts": scores(alone, others)}
    for cut in alone.fits:
        tables[cut] = scores(of_cut(alone, cut), of_cut(others, cut))
    unlike = {
        (cut, name): {"own share": fit.own_share} | {f"unlike in {group}": p for group, p in fit.unlike.items()}
        for cut, fits in others.fits.items()
        for name, fit in fits.items()
    }
    tables["unlike"] = pd.DataFrame(unlike).T.rename_axis(["cut", "recipe"])
    lines = [runs_and_left_out(alone)]
    for title, table in tables.items():
        show(title, table)
    record("learning-grpo_group_size", "learning.py grpo_group_size", tables, lines, time.perf_counter() - began)


def of_cut(tested: rl.Backtest, cut: str) -> rl.Backtest:
    """The part of a backtest that belongs to one cut."""
    points, ceilings = (table[table["cut"] == cut] for table in (tested.points, tested.ceilings))
    return replace(tested, points=points, ceilings=ceilings)


SETS: dict[str, Callable[[Study], None]] = {"scalerl": siblings, "grpo_group_size": another_task}


def main() -> None:
    asked = sys.argv[1:] or list(SETS)
    unknown = [name for name in asked if name not in SETS]
    if unknown:
        sys.exit(f"learning.py has no data set {unknown[0]!r}; it has: {', '.join(SETS)}.")
    study = history()
    for name in asked:
        SETS[name](study)


if __name__ == "__main__":
    sys.exit(main())
