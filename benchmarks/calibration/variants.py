"""Other priors and other treatments of the data, judged by the futures of real runs.

python benchmarks/calibration/variants.py [name ...]

Results go to results/variants.json if all of them are asked for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from math import log

import numpyro.distributions as dist
import pandas as pd
from futures import by_run, futures, pooled
from results import record

import rlceiling as rl
from rlceiling.models import recipe_data, run_data

SAMPLER = {"chains": 2, "rules": rl.VerdictRules(min_ess=100, max_r_hat=1.05, max_divergences=20)}
"""Half the usual draws and no second try: scores do not move by it, and there are many fits."""


@contextmanager
def bins(most: int) -> Iterator[None]:
    """Average runs that have more evaluations than this into as many bins of ln C."""
    buckets, number = recipe_data.BUCKETS, run_data.MAX_BINS
    recipe_data.BUCKETS, run_data.MAX_BINS = (*(b for b in buckets if b < most), most), most  # type: ignore[assignment]
    try:
        yield
    finally:
        recipe_data.BUCKETS, run_data.MAX_BINS = buckets, number


PRIORS = {
    "default": {},
    "share Beta(1.5, 1.5)": {"share": dist.Beta(1.5, 1.5)},
    "share Beta(3, 1)": {"share": dist.Beta(3.0, 1.0)},
    "length LogNormal(ln 1, 1)": {"length": dist.LogNormal(0.0, 1.0)},
    "B LogNormal(ln 1.7, .8)": {"B": dist.LogNormal(log(1.7), 0.8)},
    "headroom Beta(1.5, 2.5)": {"headroom": dist.Beta(1.5, 2.5)},
    "sigma HalfNormal(.03)": {"sigma": dist.HalfNormal(0.03)},
    "evaluation_error .25": {"evaluation_error": 0.25},
    "no evaluation is bad": {"bad_share": 0.0},
}

TREATMENTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "bins from 32 evaluations on": lambda: bins(32),
}

BURN_IN = "first 1,500 GPU-hours left out"


def score(priors: rl.SigmoidPriors, burn_in: bool = False) -> pd.Series:
    """Scores of the model on each data set's futures and on all of them."""
    tests = {}
    for name, (runs, cuts) in futures().items():
        kept = runs.burn_in(1500) if burn_in and name == "scalerl" else runs
        tests[name] = rl.backtest(kept, **cuts, priors=priors, methods=("rlceiling",), **SAMPLER)
    columns = ["in 90%", "in 50%", "crps", "log_score"]
    parts = {name: tested.scores().loc["rlceiling", columns] for name, tested in tests.items()}
    parts["runs"] = by_run(pooled(tests)).loc["rlceiling", columns]
    return pd.concat(parts)


def main(*names: str) -> None:
    rows, began = {}, time.perf_counter()

    def add(name: str, scored: pd.Series) -> None:
        rows[name] = scored
        print(scored.to_frame(name).T.round(4).to_string(), file=sys.stderr, flush=True)

    for name, replaced in PRIORS.items():
        if not names or name in names:
            add(name, score(rl.SigmoidPriors(**replaced)))
    for name, treatment in TREATMENTS.items():
        if not names or name in names:
            with treatment():
                add(name, score(rl.SigmoidPriors()))
    if not names or BURN_IN in names:
        add(BURN_IN, score(rl.SigmoidPriors(), burn_in=True))
    table = pd.DataFrame(rows).T
    parts = {part: "every cut run counted once" if part == "runs" else part for part in table.columns.unique(0)}
    if not names:
        kept = {title: table[part].rename_axis("changed") for part, title in parts.items()}
        record("variants", "variants.py", kept, seconds=time.perf_counter() - began)
    for part, title in parts.items():
        print(f"\n## {title}\n\n{table[part].round(4).to_string()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
