"""Real futures: runs cut where their later evaluations are known, forecast, and scored beside the baselines.

python benchmarks/calibration/futures.py [scalerl] [grpo_group_size] [pods_multigpu]

Without a name, all of them, and totals over all of them. Results go to results/futures-*.json.

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
from results import record

import rlceiling as rl

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "data"
AIMS = {"in 90%": (0.86, 0.96), "in 50%": (0.42, 0.62)}
"""Range that the coverage of the model is to fall in, all futures together."""


SETS = ("scalerl", "grpo_group_size", "pods_multigpu")


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
    asked = sys.argv[1:] or list(SETS)
    unknown = [name for name in asked if name not in SETS]
    if unknown:
        sys.exit(f"futures.py has no data set {unknown[0]!r}; it has: {', '.join(SETS)}.")
    tests = {}
    for name, (runs, cuts) in futures().items():
        if name not in asked:
            continue
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
        lines = [f"{len(tested.ceilings)} cut runs"]
        if len(tested.skipped):
            lines.append(f"skipped {len(tested.skipped)} cut runs: {tested.skipped['reason'].value_counts().to_dict()}")
            print(f"\n{lines[-1]}")
        tables = {"all": tested.scores(), "by cut": tested.scores("cut"), "by horizon": tested.scores("horizon")}
        tables |= {"the model by recipe": own, "verdicts": tested.verdicts()}
        record(f"futures-{name}", f"futures.py {name}", tables, lines, took)
        rl.plot_backtest(tested).savefig(HERE / f"futures-{name}.png")
    if set(tests) != set(SETS):
        print(f"\ntotals need all data sets; measured here: {', '.join(tests) or 'none'}")
        return
    everything = pooled(tests)
    totals = {"every evaluation counted once": everything.scores(), "every cut run counted once": by_run(everything)}
    record("futures-all", "futures.py", totals)
    for title, table in totals.items():
        show(f"All futures, {title}", table)
    table = everything.scores()
    for column, (low, high) in AIMS.items():
        share = table.loc["rlceiling", column]
        print(f"\n{column}: {share:.3f}, aim {low:g} to {high:g}: {'met' if low <= share <= high else 'missed'}")
    best = table["crps"].idxmin()
    print(f"\nlowest CRPS: {best} ({table['crps'].min():.4f}; rlceiling {table.loc['rlceiling', 'crps']:.4f})")


if __name__ == "__main__":
    sys.exit(main())
