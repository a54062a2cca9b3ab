"""The bundled ScaleRL runs: sampler health, published ceilings, forecasts beyond 8,100 GPU-hours, pairs of interest.

python benchmarks/scalerl.py

Results go to results/scalerl.json.
"""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
from calibration.results import record

import rlceiling as rl

PAIRS = [("ScaleRL", other) for other in ("Magistral", "MiniMax", "Qwen2.5-DAPO", "DeepSeek-GRPO")]
PAIRS += [("CISPO", "DAPO-baseline"), ("FP32-head", "DAPO-baseline")]

CUT = 8100.0
"""About where most training parts end."""


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n## {title}\n")
    print(table.to_string())


def published_ceilings(fits: rl.Fits) -> pd.DataFrame:
    table = fits.summary()[["A", "A_lower", "A_upper", "verdict"]]
    table.insert(0, "published", rl.published_fits("scalerl")["A"])
    table["inside"] = table["published"].between(table["A_lower"], table["A_upper"])
    return table


def main() -> None:
    began = time.perf_counter()
    train, later = rl.load_dataset("scalerl"), rl.load_dataset("scalerl", split="extended")
    fits = rl.fit(train)
    summary = fits.summary()
    health = summary[["r_hat", "ess_bulk", "ess_tail", "divergences"]]
    show("Sampler health", health.round(4))
    worst = (
        f"worst: R-hat {summary.r_hat.max():.4f}, bulk ESS {summary.ess_bulk.min():.0f}, "
        f"tail ESS {summary.ess_tail.min():.0f}, divergences {summary.divergences.sum()}, "
        f"second tries {sum(f.settings.retried for f in fits.values())}"
    )
    print(worst)

    ceilings = published_ceilings(fits)
    show("Published ceilings and 90% intervals", ceilings.round(4))
    print(f"inside: {ceilings.inside.sum()} of {len(ceilings)}")
    print(f"inside, IDENTIFIED only: {ceilings[ceilings.verdict == 'IDENTIFIED'].inside.mean():.2f}")

    everything = rl.load_dataset("scalerl", split="all").select(*later.recipes)
    tested = rl.backtest(everything, cut_compute=CUT)
    show(f"Evaluations after {CUT:g} GPU-hours, fitted to those before", tested.scores().round(4))
    show("The model by recipe", tested.scores("recipe").xs("rlceiling", level="method").round(3))

    print("\n## Pairs\n")
    pairs = [str(fits.chance_higher(first, second)) for first, second in PAIRS]
    print("\n".join(pairs))
    tables = {"sampler health": health, "published ceilings and 90% intervals": ceilings}
    tables["forecasts"] = tested.scores()
    tables["forecasts by recipe"] = tested.scores("recipe").xs("rlceiling", level="method")
    seconds = time.perf_counter() - began
    record("scalerl", "scalerl.py", tables, [worst, *pairs], seconds, folder=Path(__file__).parent)


if __name__ == "__main__":
    main()
