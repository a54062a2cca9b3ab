"""Advice on real runs: how often the ceiling was identified after a longer run, beside the chance stated beforehand.

python benchmarks/calibration/advice.py [seed]

Every recipe of the bundled data, and of grpo_group_size in shared/data beside the repository where that is present, is
cut at 1/5, 1/3, 1/2 and 1/1.5 of its compute. Where the verdict at the cut is PRE_INFLECTION, the stated chance that
the ceiling is identified at 5, 3, 2 or 1.5 times that compute is compared with the verdict on the whole run. Results go
to results/advice.json.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from results import record

import rlceiling as rl
from rlceiling.posterior.continuation import MULTIPLES

SHARED = Path(__file__).parents[3] / "shared" / "data"


def sets() -> dict[str, rl.Runs]:
    """Finished runs by data set."""
    found = {"scalerl": rl.load_dataset("scalerl", split="all")}
    if SHARED.is_dir():
        columns = {"reward": "accuracy", "recipe": "recipe", "run": "seed", "n_eval": "n_eval"}
        found["grpo_group_size"] = rl.read_runs(SHARED / "grpo_group_size.csv", compute="step", **columns)
    return found


def replay(runs: rl.Runs, seed: int) -> pd.DataFrame:
    """One row per cut recipe whose verdict at the cut is PRE_INFLECTION."""
    whole, rows = rl.fit(runs, seed=seed), []
    for name, final in whole.items():
        for multiple in MULTIPLES:
            try:
                fit = rl.fit(runs.select(name).until(final.largest_compute / multiple), seed=seed)[name]
            except rl.DataError:
                continue  # fewer than four evaluations before the cut
            if fit.verdict is rl.Verdict.PRE_INFLECTION:
                after = final.verdict
                rows.append((name, multiple, fit.chance_identified[multiple], after.name, after.name == "IDENTIFIED"))
    return pd.DataFrame(rows, columns=["recipe", "multiple", "chance", "verdict after", "identified"])


def main() -> None:
    began = time.perf_counter()
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    found = pd.concat([replay(runs, seed).assign(data=name) for name, runs in sets().items()])
    found["brier"] = (found["chance"] - found["identified"]) ** 2
    always = found["identified"].mean()
    columns = {"cuts": ("chance", "size"), "chance": ("chance", "mean"), "identified": ("identified", "mean")}
    stated = pd.cut(found["chance"], np.linspace(0, 1, 6), include_lowest=True).astype(str).rename("stated")
    tables = {
        "by multiple": found.groupby("multiple").agg(**columns, brier=("brier", "mean")).round(3),
        "by chance": found.groupby(stated).agg(**columns).round(3),
        "verdicts after": found["verdict after"].value_counts().rename_axis("after").to_frame("cuts"),
    }
    said = (
        f"{len(found)} cuts; Brier score {found['brier'].mean():.3f}, of their mean frequency alone "
        f"{always * (1 - always):.3f}"
    )
    print(said)
    for title, table in tables.items():
        print(f"\n## {title}\n\n{table.to_string()}")
    record("advice", f"advice.py {seed}", tables, [said], time.perf_counter() - began)


if __name__ == "__main__":
    main()
