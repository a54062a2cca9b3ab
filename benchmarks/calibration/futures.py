"""Real futures: runs cut where their later evaluations are known, forecast, and scored beside the baselines.

python benchmarks/calibration/futures.py

Two of the data sets may not be passed on; they are read from the folder shared/data beside the repository, and left out
where it is absent.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

import rlceiling as rl

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "data"
AIMS = {"in 90%": (0.86, 0.96), "in 50%": (0.42, 0.62)}
"""Range that the coverage of the model is to fall in, all futures together."""


def futures() -> dict[str, tuple[rl.Runs, dict[str, Any]]]:
    """Finished runs and where they are cut, by data set."""
    train, later = rl.load_dataset("scalerl"), rl.load_dataset("scalerl", split="extended")
    ends = {run.recipe: float(run.compute[-1]) for run in train.iter_runs() if run.recipe in later.recipes}
    whole = rl.load_dataset("scalerl", split="all").select(*later.recipes)
    sets: dict[str, tuple[rl.Runs, dict[str, Any]]] = {"scalerl": (whole, {"cut_compute": ends})}
    if SHARED.is_dir():
        columns = {"reward": "accuracy", "recipe": "recipe", "run": "seed", "n_eval": "n_eval"}
        groups = rl.read_runs(SHARED / "grpo_group_size.csv", compute="step", **columns)
        sets["grpo_group_size"] = groups, {"cut_compute": (200, 400, 800)}
        seeds = rl.read_runs(SHARED / "pods_multigpu.csv", compute="wall_hours", **columns)
        sets["pods_multigpu"] = seeds, {"cut": (0.25, 0.5)}
    return sets


def pooled(tests: dict[str, rl.Backtest]) -> rl.Backtest:
    """All forecasts of several backtests as if they were of one."""
    first = next(iter(tests.values()))
    points = pd.concat([tested.points.assign(cut=f"{name} " + tested.points["cut"]) for name, tested in tests.items()])
    return replace(first, points=points)


def by_run(tested: rl.Backtest) -> pd.DataFrame:
    """Scores with every cut run counted once, however many later evaluations it has."""
    points = tested.points
    runs = points.groupby(["cut", "recipe", "run"], sort=False)
    rows = [replace(tested, points=own).scores() for _, own in runs]
    return pd.concat(rows).groupby("method", sort=False).mean().drop(columns=["evaluations", "runs"])


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n## {title}\n\n{table.round(4).to_string()}")


def main() -> None:
    tests = {}
    for name, (runs, cuts) in futures().items():
        began = time.perf_counter()
        tested = tests[name] = rl.backtest(runs, **cuts)
        took = time.perf_counter() - began
        show(f"{name}: {len(tested.ceilings)} cut runs, {took:.0f} s", tested.scores())
        if len(tested.fits) > 1:
            show(f"{name}, by cut", tested.scores("cut"))
        show(f"{name}, by horizon", tested.scores("horizon"))
        own = tested.scores("recipe").xs("rlceiling", level="method")
        show(f"{name}, the model by recipe", own)
        show(f"{name}, verdicts", tested.verdicts())
        if len(tested.skipped):
            print(f"\nskipped {len(tested.skipped)} cut runs: {tested.skipped['reason'].value_counts().to_dict()}")
        rl.plot_backtest(tested).savefig(HERE / f"futures-{name}.png")
    if SHARED.is_dir():
        everything = pooled(tests)
        show("All futures, every evaluation counted once", everything.scores())
        show("All futures, every cut run counted once", by_run(everything))
    else:
        print(f"\nonly the bundled data: there is no {SHARED}")
        everything = tests["scalerl"]
    table = everything.scores()
    for column, (low, high) in AIMS.items():
        share = table.loc["rlceiling", column]
        print(f"\n{column}: {share:.3f}, aim {low:g} to {high:g}: {'met' if low <= share <= high else 'missed'}")
    best = table["crps"].idxmin()
    print(f"\nlowest CRPS: {best} ({table['crps'].min():.4f}; rlceiling {table.loc['rlceiling', 'crps']:.4f})")


if __name__ == "__main__":
    sys.exit(main())
