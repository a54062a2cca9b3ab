"""The bundled ScaleRL runs: sampler health, published ceilings, forecasts of later points, pairs of interest.

python benchmarks/scalerl.py
"""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import scoringrules

import rlceiling as rl
from rlceiling.decisions.forecast import predictive_draws

PAIRS = [("ScaleRL", other) for other in ("Magistral", "MiniMax", "Qwen2.5-DAPO", "DeepSeek-GRPO")]
PAIRS += [("CISPO", "DAPO-baseline"), ("FP32-head", "DAPO-baseline")]

SCORES = ["in 90%", "in 50%", "CRPS"]

CUT = 8100.0
"""About where most training parts end."""

INDEPENDENT = rl.SigmoidPriors(share=dist.Beta(1, 1000))
"""The same model with next to no correlated noise."""


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n## {title}\n")
    print(table.to_string())


def published_ceilings(fits: rl.Fits) -> pd.DataFrame:
    table = fits.summary()[["A", "A_lower", "A_upper", "verdict"]]
    table.insert(0, "published", rl.published_fits("scalerl")["A"])
    table["inside"] = table["published"].between(table["A_lower"], table["A_upper"])
    return table


def forecast_scores(fits: rl.Fits, later: rl.Runs, after: float = 0.0) -> pd.DataFrame:
    """Scores of the evaluations beyond a compute, one row each."""
    rows = []
    for run in later.iter_runs():
        beyond = run.compute > after
        if not beyond.any():
            continue
        _, new = predictive_draws(fits[run.recipe], run.compute[beyond])
        crps = scoringrules.crps_ensemble(run.reward[beyond], new.T, m_axis=-1)
        for i, reward in enumerate(run.reward[beyond]):
            inside = {
                p: np.quantile(new[:, i], (1 - p) / 2) <= reward <= np.quantile(new[:, i], (1 + p) / 2)
                for p in (0.9, 0.5)
            }
            rows.append({"recipe": run.recipe, "in 90%": inside[0.9], "in 50%": inside[0.5], "CRPS": crps[i]})
    return pd.DataFrame(rows)


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
    futures = {
        "Later evaluations, fitted to the training points": (train.select(*later.recipes), later, 0.0),
        f"Evaluations after {CUT:g} GPU-hours, fitted to those before": (everything.until(CUT), everything, CUT),
    }
    for title, (before, future, after) in futures.items():
        scores = {
            name: forecast_scores(rl.fit(before, priors), future, after)
            for name, priors in (("OU + white", None), ("independent", INDEPENDENT))
        }
        pooled = pd.DataFrame({name: s[SCORES].mean() for name, s in scores.items()}).T
        show(f"{title}: {len(scores['independent'])} points of {len(later.recipes)} recipes", pooled.round(4))
        print(scores["OU + white"].groupby("recipe", sort=False)[SCORES].mean().round(3).to_string())

    print("\n## Pairs\n")
    for first, second in PAIRS:
        print(fits.chance_higher(first, second))


if __name__ == "__main__":
    main()
