"""Do chances between recipes come true? Simulated pairs of recipes, one run each.

python benchmarks/calibration/chances.py [pairs] [--out ANSWERS.csv] [--read ANSWERS.csv]

A recipe's run has a headroom that differs from the recipe's, on the logit scale, by a normal of standard deviation
tau, and each recipe has its own tau from the prior of `headroom_spread`. The question is about the recipes' ceilings.

- `alike`: two variants of one recipe. Their logit headrooms differ by Normal(0, .25); the first headroom is uniform on
  (.15, .6). Three runs of four go to 2 to 8 C_mid, the others to 0.5 to 2; the noise is .002 to .02.
- `priors`: every recipe is drawn from the priors, its run around it, and recipes are paired by what the fits
  say (near ones, identified ones with each other): a choice by data alone, under which chances of the model that
  drew the truth must come true.

For comparison the same chances with the spread between runs left out, and with the knowledge that recipes are alike,
which the model does not have: to it, every headroom is as likely as the next.

Results go to results/chances.json, unless they are read from a file.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from results import record
from scipy.special import expit, logit
from scipy.stats import binom, binomtest
from scoringrules import brier_score

import rlceiling as rl
from rlceiling.calibration.simulate import START, simulate_from_priors, simulate_rewards
from rlceiling.decisions.chances import chance_of_draws
from rlceiling.models.run_data import evaluation_sd

PAIRS = 400
MARGINS = (0.0, 0.02)
COMPUTE = 1000.0 * np.arange(1, 31) / 30
RUN_SPREAD, ALIKE = 0.1, 0.25
BINS = np.linspace(0.0, 1.0, 11)
CLAIMS = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
FORECASTS = {"P": "with the spread of runs", "P_no_spread": "spread left out", "P_alike": "told they are alike"}
COMPARED = ("P", "P_no_spread")
COLOURS, MARKERS = ("#0072B2", "#D55E00"), ("o", "s")


def alike(pairs: int, rng: np.random.Generator) -> tuple[rl.Runs, pd.Series, list[tuple[str, str]]]:
    """Runs, the ceilings of their recipes, and which are compared."""
    tables, ceilings = [], {}
    for pair in range(pairs):
        recipe_logit = logit(rng.uniform(0.15, 0.6))
        for side in "ab":
            name = f"{pair}{side}"
            ceilings[name] = START[0] + (1 - START[0]) * expit(recipe_logit)
            run_logit = recipe_logit + abs(rng.normal(0, RUN_SPREAD)) * rng.standard_normal()
            reach = np.exp(rng.uniform(*np.log((2, 8) if rng.uniform() < 0.75 else (0.5, 2))))
            truth = {
                "A": START[0] + (1 - START[0]) * expit(run_logit),
                "B": rng.lognormal(np.log(1.7), 0.6),
                "C_mid": COMPUTE[-1] / reach,
                "R0": START[0],
                "sigma": np.exp(rng.uniform(*np.log((0.002, 0.02)))),
                "share": rng.beta(2.0, 1.0),
                "length": rng.lognormal(np.log(0.5), 1.0),
            }
            reward = np.clip(simulate_rewards(COMPUTE, truth, rng), 0, 1)
            step_0 = START[0] + evaluation_sd(*map(np.array, START), 0.5) * rng.standard_normal()
            table = pd.DataFrame({"compute": np.r_[0, COMPUTE], "reward": np.r_[step_0, reward], "n_eval": np.nan})
            table.loc[0, "n_eval"] = START[1]
            tables.append(table.assign(recipe=name))
            recipe_logit += ALIKE * rng.standard_normal()
    return rl.read_runs(pd.concat(tables)), pd.Series(ceilings), [(f"{p}a", f"{p}b") for p in range(pairs)]


def from_priors(pairs: int, rng: np.random.Generator) -> tuple[rl.Runs, pd.Series]:
    """Runs and the ceilings of their recipes."""
    runs, truths = simulate_from_priors(2 * pairs, COMPUTE, seed=int(rng.integers(2**31)))
    return runs, truths["A"].droplevel("run")


def near_pairs(fits: rl.Fits, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Pair recipes a twentieth of all recipes apart, in random order; each is in one pair."""
    ordered = fits.summary().sort_values("A")
    for _, group in ordered.groupby(ordered.verdict == "IDENTIFIED"):
        names = list(group.index)
        apart = max(1, len(names) // 20)
        for block in range(0, len(names) - 2 * apart + 1, 2 * apart):
            for i in range(block, block + apart):
                yield tuple(rng.permutation([names[i], names[i + apart]]))


def told_alike(first: rl.Fit, second: rl.Fit, margin: float) -> float:
    """`chance_higher` with every pair of draws weighted by the density of its distance among recipes that are alike."""
    ceilings, logits = [], []
    for fit in (first, second):
        ceiling, start = fit.draws["A"].ravel()[::4], fit.draws["R0"].ravel()[::4]
        ceilings.append(ceiling)
        logits.append(logit(np.clip((ceiling - start) / (1 - start), 1e-9, 1 - 1e-9)))
    squares = ((logits[0][:, None] - logits[1]) / ALIKE) ** 2
    weights = np.exp(0.5 * (squares.min() - squares))
    return float(weights[ceilings[0][:, None] > ceilings[1] + margin].sum() / weights.sum())


def answers(fits: rl.Fits, ceilings: pd.Series, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """Chances of every pair at every margin, and what is true."""
    rows = []
    for first, second in pairs:
        for margin in MARGINS:
            chance = fits.chance_higher(first, second, margin)
            a, b = (fits[name].run_draws["A"][..., 0] for name in (first, second))
            without, _ = chance_of_draws(a, b + margin)
            rows.append(
                {"margin": margin, "P": chance.probability, "P_no_spread": without, "conclusive": chance.conclusive}
                | {
                    "P_alike": told_alike(fits[first], fits[second], margin),
                    "true": ceilings[first] > ceilings[second] + margin,
                    "difference": ceilings[first] - ceilings[second],
                }
            )
    return pd.DataFrame(rows)


def reliability(p: pd.Series, true: pd.Series) -> pd.DataFrame:
    """Mean forecast and observed frequency in ten bins, with the 95% range of frequencies of true forecasts."""
    bins = pd.cut(p, BINS, include_lowest=True, labels=[f"{a:.1f}-{b:.1f}" for a, b in itertools.pairwise(BINS)])
    groups = pd.DataFrame({"forecast": p, "observed": true.astype(float)}).groupby(bins, observed=True)
    table = groups.mean().assign(n=groups.size())
    lower, upper = binom.interval(0.95, table["n"], table["forecast"])
    return table.assign(lower=lower / table["n"], upper=upper / table["n"])


def scores(asked: pd.DataFrame) -> pd.DataFrame:
    """Brier score, what it would be if the forecasts were true, and Spiegelhalter's z of the difference."""
    rows = []
    for which, some in (("conclusive", asked[asked.conclusive]), ("all", asked)):
        for name, title in FORECASTS.items():
            p = some[name].to_numpy()
            brier = brier_score(some["true"].astype(float).to_numpy(), p).mean()
            expected, sd = (p * (1 - p)).mean(), np.sqrt(((1 - 2 * p) ** 2 * p * (1 - p)).sum()) / len(p)
            row = {"pairs": f"{which}: {len(p)}", "forecast": title, "Brier": brier, "if true": expected}
            rows.append(row | {"z": (brier - expected) / sd, "always .5": 0.25})
    return pd.DataFrame(rows).round(3)


def wrong_claims(p: pd.Series, true: pd.Series) -> pd.DataFrame:
    """Share of answers that were wrong, by strength of the claim max(P, 1 - P), with its 95% interval."""
    claim, wrong = p.where(p > 0.5, 1 - p), (p > 0.5) != true
    rows = {}
    for low, high in itertools.pairwise(CLAIMS):
        inside = (claim >= low) & ((claim < high) | (high == 1.0))
        row = {"n": inside.sum()}
        if inside.any():
            interval = binomtest(int(wrong[inside].sum()), int(inside.sum())).proportion_ci()
            row |= {"claimed": 1 - claim[inside].mean(), "wrong": wrong[inside].mean()}
            row |= {"lower": interval.low, "upper": interval.high}
        rows[f"{low:g} to {high:g}"] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("claim")


def show(found: pd.DataFrame) -> None:
    for (design, margin), asked in found.groupby(["design", "margin"]):
        print(f"\n## {design}, A_i > A_j{f' + {margin:g}' if margin else ''}\n")
        print(scores(asked).to_string(index=False))
        rows = asked[asked.conclusive]
        for what, table in (("reliability", reliability), ("wrong answers", wrong_claims)):
            beside = {FORECASTS[name]: table(rows[name], rows["true"]) for name in COMPARED}
            print(f"\nconclusive: {what}\n{pd.concat(beside, axis=1).sort_index().round(3).to_string()}")


def tables(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    asked = {f"{design}, margin {margin:g}": some for (design, margin), some in found.groupby(["design", "margin"])}
    kept = {"scores": pd.concat({question: scores(some) for question, some in asked.items()}, names=["question"])}
    kept["scores"] = kept["scores"].droplevel(-1)
    for what, table in (("reliability", reliability), ("wrong answers", wrong_claims)):
        kept[what] = pd.concat(
            {
                (question, FORECASTS[name]): table(some[name][some.conclusive], some["true"][some.conclusive])
                for question, some in asked.items()
                for name in COMPARED
            },
            names=["question", "forecast of", "bin" if what == "reliability" else "claim"],
        )
    return kept


def picture(found: pd.DataFrame) -> Figure:
    """How often conclusive answers were right, by how sure they were; a column a way to draw the pairs, counts below.

    A pair has no order, so a chance of .2 is shown as one of .8 that the other is higher.
    """
    asked = found[found.conclusive & (found.margin == 0)]
    designs = {"alike": "recipes alike (sd .25)", "priors": "recipes from the priors"}
    figure = Figure(figsize=(8.4, 5.4), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(designs), sharex=True, sharey="row", height_ratios=(3, 1))
    for (top, bottom), (design, title) in zip(axes.T, designs.items(), strict=True):
        rows = asked[asked.design == design]
        top.plot([0.5, 1], [0.5, 1], color="#767676", linewidth=1)
        for place, name, colour, marker in zip((-1, 1), COMPARED, COLOURS, MARKERS, strict=True):
            claim, right = rows[name].where(rows[name] > 0.5, 1 - rows[name]), (rows[name] > 0.5) == rows["true"]
            table = reliability(claim, right)
            x = table.forecast + 0.004 * place
            top.vlines(x, table.lower, table.upper, color=colour, alpha=0.3, linewidth=5)
            top.plot(x, table.observed, marker, color=colour, markersize=5, label=FORECASTS[name])
            counts, _ = np.histogram(claim, BINS[5:])
            bottom.bar(BINS[5:-1] + 0.05 + 0.02 * place, counts, 0.04, color=colour)
        top.set_title(f"{title}: {len(rows)} conclusive pairs", fontsize="medium", loc="left")
        top.set(xlim=(0.5, 1), ylim=(0, 1.02))
        bottom.set(xlabel="stated chance that the one said to be higher is")
    axes[0, 0].set_ylabel("how often it was")
    axes[1, 0].set_ylabel("pairs")
    axes[0, 0].legend(loc="lower left", fontsize="small", title="bars: 95% range if true", title_fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=int, nargs="?", default=PAIRS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path)
    arguments = parser.parse_args()
    if arguments.read:
        found = pd.read_csv(arguments.read)
    else:
        began, rng = time.perf_counter(), np.random.default_rng(20261122)
        runs, ceilings, pairs = alike(arguments.pairs, rng)
        first = answers(rl.fit(runs), ceilings, pairs).assign(design="alike")
        runs, ceilings = from_priors(arguments.pairs, rng)
        fits = rl.fit(runs)
        second = answers(fits, ceilings, list(near_pairs(fits, rng))).assign(design="priors")
        found = pd.concat([first, second], ignore_index=True)
        record("chances", f"chances.py {arguments.pairs}", tables(found), seconds=time.perf_counter() - began)
    if arguments.out:
        found.to_csv(arguments.out, index=False)
    show(found)
    picture(found).savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
