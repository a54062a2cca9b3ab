"""Simulation-based calibration of the sigmoid model: runs drawn from its priors, fitted, their truth ranked.

python benchmarks/calibration/sbc.py [number] [--out RANKS.csv] [--read RANKS.csv]

Runs have step 0 and 24 evaluations, geometrically spaced; their noise is drawn as one dense normal, not by the
package's filter. Every fit counts, converged or not. The negative control fits a quarter of the runs (it fails at once)
as if their noise were independent. Prints the ranks of both and draws `sbc.png`. `--out` keeps the ranks, `--read`
prints and draws ranks so kept.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pandas as pd
from matplotlib.figure import Figure

import rlceiling as rl
from rlceiling.calibration.ranks import QUANTITIES, outside_band, rank_truths, simultaneous_band
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.report.plots import COLOURS, GREY

NUMBER = 2000
COMPUTE = np.geomspace(100.0, 10_000.0, 24)
CHUNK = 100
"""Runs fitted at a time, so that no more than their draws are held in memory."""

MODELS = {
    "the model": rl.SigmoidPriors(),
    "negative control: noise taken for independent": rl.SigmoidPriors(share=dist.Beta(1.0, 1000.0)),
}
TITLES = {
    "A": "A, the ceiling",
    "B": "B",
    "C_mid": "C_mid",
    "R0": "R0",
    "sigma": "sigma",
    "share": "share",
    "length": "length",
    "mu": "mu, the curve at 10 times the largest compute",
    "log_likelihood": "log likelihood",
}


def simulate_and_fit(number: int, out: Path | None) -> pd.DataFrame:
    """Ranks of every run under every model, and whether the fit converged; kept in a file as they come."""
    runs, truths = simulate_from_priors(number, COMPUTE, seed=20261121)
    names = runs.recipes
    found = []
    for (model, priors), some in zip(MODELS.items(), (number, max(number // 4, CHUNK)), strict=True):
        for first in range(0, some, CHUNK):
            began = time.perf_counter()
            fits = rl.fit(runs.select(*names[first : first + CHUNK]), priors)
            ranks = rank_truths(fits, truths, seed=first)
            ranks["converged"] = [fit.rules.converged(fit.convergence) for fit in fits.values()]
            ranks["retried"] = [fit.settings.retried for fit in fits.values()]
            found.append(ranks.assign(model=model, seconds=(time.perf_counter() - began) / len(fits)))
            if out:
                pd.concat(found).to_csv(out)
    return pd.concat(found)


def draw(found: pd.DataFrame) -> Figure:
    """Distribution of the ranks minus the uniform one; nothing but the band would be seen without the difference."""
    number = int((found["model"] == next(iter(MODELS))).sum())
    figure = Figure(figsize=(10.0, 8.0), layout="constrained")
    places, lower, upper = simultaneous_band(number)
    reach = 4.0 * float(np.max(upper - places))
    for ax, quantity in zip(figure.subplots(3, 3, sharex=True, sharey=True).flat, QUANTITIES, strict=True):
        ax.fill_between(
            places,
            lower - places,
            upper - places,
            color=GREY,
            alpha=0.25,
            linewidth=0,
            label=f"95% band of {number:,} uniform ranks",
        )
        for model, colour in zip(reversed(MODELS), (COLOURS[1], COLOURS[0]), strict=True):
            ranks = np.sort(found.loc[found["model"] == model, quantity])
            ecdf = np.searchsorted(ranks, places, side="right") / len(ranks)
            ax.plot(places, ecdf - places, color=colour, linewidth=1.4, label=f"{model} ({len(ranks):,} runs)")
            if (low := np.min(ecdf - places)) < -reach:
                ax.text(0.6, 0.03, f"to {low:.2f}", color=colour, ha="center", va="bottom", transform=ax.transAxes)
        ax.axhline(0.0, color=GREY, linewidth=0.6)
        ax.set_title(TITLES[quantity], loc="left", fontsize="small")
        ax.set_ylim(-reach, reach)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[7].set_xlabel("rank of the truth among the draws of its posterior")
    figure.supylabel("share of runs with a lower rank, minus that of uniform ranks", fontsize="medium")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.suptitle(f"Simulation-based calibration: {number:,} runs drawn from the priors")
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, nargs="?", default=NUMBER)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path)
    arguments = parser.parse_args()
    if arguments.read:
        found = pd.read_csv(arguments.read, index_col=0)
    else:
        found = simulate_and_fit(arguments.number, arguments.out)

    for model, of_model in found.groupby("model", sort=False):
        ranks = of_model[list(QUANTITIES)]
        together = 1.0 - 0.05 / len(QUANTITIES)  # a right sampler leaves none of the bands in 95% of cases
        table = pd.DataFrame({"outside 95% band": outside_band(ranks), "nine at once": outside_band(ranks, together)})
        table = table.assign(mean=ranks.mean(), sd=ranks.std())
        print(f"=== {model}: {len(ranks):,} fits, uniform ranks have mean .500 and sd .289\n")
        print(table.round(4).to_string())
        print(
            f"\ntried twice: {of_model['retried'].mean():.4f}; not converged: {1 - of_model['converged'].mean():.4f}; "
            f"{of_model['seconds'].mean():.2f} s a fit, {of_model['seconds'].sum():,.0f} s in all\n"
        )
    draw(found).savefig(Path(__file__).with_name("sbc.png"), dpi=110)


if __name__ == "__main__":
    main()
