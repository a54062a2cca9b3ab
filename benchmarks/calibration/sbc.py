"""Simulation-based calibration of the sigmoid model: recipes drawn from its priors, fitted, their truth ranked.

python benchmarks/calibration/sbc.py [number] [--runs 5] [--out RANKS.csv] [--read RANKS.csv]

Runs, one of each recipe unless told, have step 0 and 24 evaluations, geometrically spaced; their noise is drawn as one
dense normal, not by the package's filter. Every fit counts, converged or not. The negative control fits a quarter of
the recipes (it fails at once): as if the noise of a single run were independent, or as if several runs were alike.
Several runs are fitted with a quarter of the usual draws. Prints the ranks of both and draws `sbc.png` or
`sbc-runs.png`. `--out` keeps the ranks, `--read` prints and draws ranks so kept. Results go to results/sbc.json or
results/sbc-runs.json, unless they are read from a file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pandas as pd
from matplotlib.figure import Figure
from results import record

import rlceiling as rl
from rlceiling.calibration.ranks import QUANTITIES, outside_band, rank_truths, simultaneous_band
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.report.style import COLOURS, GREY

NUMBER = 2000
COMPUTE = np.geomspace(100.0, 10_000.0, 24)
CHUNK = 100
"""Runs fitted at a time, so that no more than their draws are held in memory."""

MODEL = "the model"
INDEPENDENT = {"noise taken for independent": rl.SigmoidPriors(share=dist.Beta(1.0, 1000.0))}
ALIKE = {
    "runs taken for alike": rl.SigmoidPriors(
        **{f"{name}_spread": dist.HalfNormal(0.01) for name in ("headroom", "C_mid", "B", "sigma")}
    )
}
SEVERAL = {"chains": 2, "tune": 500, "draws": 500, "rules": rl.VerdictRules(min_ess=100, max_r_hat=1.05)}


def simulate_and_fit(number: int, runs: int, out: Path | None) -> pd.DataFrame:
    """Ranks of every recipe under every model, and whether the fit converged; kept in a file as they come."""
    table, truths = simulate_from_priors(number, COMPUTE, runs=runs, seed=20261121)
    names = table.recipes
    found = []
    control = {f"negative control: {name}": priors for name, priors in (ALIKE if runs > 1 else INDEPENDENT).items()}
    models = {MODEL: rl.SigmoidPriors(), **control}
    for (model, priors), some in zip(models.items(), (number, max(number // 4, min(number, CHUNK))), strict=True):
        for first in range(0, some, CHUNK):
            began = time.perf_counter()
            fits = rl.fit(table.select(*names[first : first + CHUNK]), priors, **(SEVERAL if runs > 1 else {}))
            ranks = rank_truths(fits, truths, seed=first)
            ranks["converged"] = [fit.rules.converged(fit.convergence) for fit in fits.values()]
            ranks["retried"] = [fit.settings.retried for fit in fits.values()]
            found.append(ranks.assign(model=model, seconds=(time.perf_counter() - began) / len(fits)))
            if out:
                pd.concat(found).to_csv(out)
    return pd.concat(found)


def draw(found: pd.DataFrame) -> Figure:
    """Distribution of the ranks minus the uniform one; nothing but the band would be seen without the difference."""
    number = int((found["model"] == MODEL).sum())
    models = list(found["model"].unique())
    figure = Figure(figsize=(13.0, 8.0), layout="constrained")
    places, lower, upper = simultaneous_band(number)
    reach = 4.0 * float(np.max(upper - places))
    for ax, quantity in zip(figure.subplots(3, 6, sharex=True, sharey=True).flat, QUANTITIES, strict=True):
        ax.fill_between(
            places,
            lower - places,
            upper - places,
            color=GREY,
            alpha=0.25,
            linewidth=0,
            label=f"95% band of {number:,} uniform ranks",
        )
        for model, colour in zip(reversed(models), (COLOURS[1], COLOURS[0]), strict=True):
            ranks = np.sort(found.loc[found["model"] == model, quantity])
            ecdf = np.searchsorted(ranks, places, side="right") / len(ranks)
            ax.plot(places, ecdf - places, color=colour, linewidth=1.4, label=f"{model} ({len(ranks):,} recipes)")
            if (low := np.min(ecdf - places)) < -reach:
                ax.text(0.6, 0.03, f"to {low:.2f}", color=colour, ha="center", va="bottom", transform=ax.transAxes)
        ax.axhline(0.0, color=GREY, linewidth=0.6)
        ax.set_title(quantity, loc="left", fontsize="small")
        ax.set_ylim(-reach, reach)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[12].set_xlabel("rank of the truth among the draws of its posterior")  # middle of the lowest row
    figure.supylabel("share of recipes with a lower rank, minus that of uniform ranks", fontsize="medium")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.suptitle(f"Simulation-based calibration: {number:,} recipes drawn from the priors")
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, nargs="?", default=NUMBER)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path)
    arguments = parser.parse_args()
    if arguments.read:
        found = pd.read_csv(arguments.read, index_col=0)
    else:
        found = simulate_and_fit(arguments.number, arguments.runs, arguments.out)

    tables, lines = {}, []
    for model, of_model in found.groupby("model", sort=False):
        ranks = of_model[list(QUANTITIES)]
        together = 1.0 - 0.05 / len(QUANTITIES)  # a right sampler leaves none of the bands in 95% of cases
        table = pd.DataFrame({"outside 95% band": outside_band(ranks), "all at once": outside_band(ranks, together)})
        table = table.assign(mean=ranks.mean(), sd=ranks.std())
        print(f"=== {model}: {len(ranks):,} fits, uniform ranks have mean .500 and sd .289\n")
        print(table.round(4).to_string())
        tables[f"{model}: {len(ranks):,} fits"] = table.rename_axis("quantity")
        lines.append(
            f"tried twice: {of_model['retried'].mean():.4f}; not converged: {1 - of_model['converged'].mean():.4f}; "
            f"{of_model['seconds'].mean():.2f} s a fit, {of_model['seconds'].sum():,.0f} s in all"
        )
        print(f"\n{lines[-1]}\n")
    several = arguments.runs > 1
    if not arguments.read:
        command = f"sbc.py {arguments.number}" + (f" --runs {arguments.runs}" if several else "")
        record("sbc-runs" if several else "sbc", command, tables, lines, found["seconds"].sum())
    draw(found).savefig(Path(__file__).with_name("sbc-runs.png" if several else "sbc.png"), dpi=110)


if __name__ == "__main__":
    main()
