"""The bundled ScaleRL runs: sampler health, published ceilings, forecasts beyond 8,100 GPU-hours, pairs of interest.

python benchmarks/scalerl.py
"""

from __future__ import annotations

import pandas as pd

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
    train, later = rl.load_dataset("scalerl"), rl.load_dataset("scalerl", split="extended")
    fits = rl.fit(train)
    summary = fits.summary()
    show("Sampler health", summary[["r_hat", "ess_bulk", "ess_tail", "divergences"]].round(4))
    print(
        f"worst: R-hat {summary.r_hat.max():.4f}, bulk ESS {summary.ess_bulk.min():.0f}, "
        f"tail ESS {summary.ess_tail.min():.0f}, divergences {summary.divergences.sum()}, "
        f"second tries {sum(f.settings.retried for f in fits.values())}"
    )

    ceilings = published_ceilings(fits)
    show("Published ceilings and 90% intervals", ceilings.round(4))
    print(f"inside: {ceilings.inside.sum()} of {len(ceilings)}")
    print(f"inside, IDENTIFIED only: {ceilings[ceilings.verdict == 'IDENTIFIED'].inside.mean():.2f}")

    everything = rl.load_dataset("scalerl", split="all").select(*later.recipes)
    tested = rl.backtest(everything, cut_compute=CUT)
    show(f"Evaluations after {CUT:g} GPU-hours, fitted to those before", tested.scores().round(4))
    show("The model by recipe", tested.scores("recipe").xs("rlceiling", level="method").round(3))

    print("\n## Pairs\n")
    for first, second in PAIRS:
        print(fits.chance_higher(first, second))


if __name__ == "__main__":
    main()
