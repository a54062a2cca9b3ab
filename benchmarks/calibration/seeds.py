"""Several runs of a recipe: is what the model says of seeds true, and how many are needed?

python benchmarks/calibration/seeds.py [health] [left-out] [halves] [intervals] [needed]

- `health`: how the sampler fares on the real recipes with several runs, and how long it takes.
- `left-out`: every run is left out once and forecast by the fit of its siblings (partial pooling), beside siblings that
  are all one curve (complete pooling) and each sibling fitted alone and taken for the next one (no pooling, the mean of
  all siblings' scores), and beside runs that share one efficiency.
- `halves`: five runs give a chance for every pair of recipes, the other five the sign of the difference of their late
  averages: the chance of that sign itself, and that of the ceilings, which is another question (a recipe may be behind
  and still climb).
- `intervals`: the ceiling of one recipe from 1, 3 and 10 runs.
- `needed`: chance that a true difference of ceilings is called, by its size and the number of runs; simulated.

Without a name, all of them. Each writes results/seeds-<name>.json. All but the last read real runs from the folder
shared/data beside the repository, which may not be passed on.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pandas as pd
from results import record
from scipy.special import expit, logit

import rlceiling as rl
from rlceiling.calibration.scores import Mixture, score_forecast
from rlceiling.calibration.simulate import simulate_rewards
from rlceiling.curves import sigmoid_curve
from rlceiling.decisions.chances import chance_of_draws
from rlceiling.decisions.forecast import predict
from rlceiling.runs import Run

SHARED = Path(__file__).parents[3] / "shared" / "data"
SETS = {"pods_multigpu": "wall_hours", "pods_l40s_gsm8k": "gpu_hours"}
QUICK: dict[str, Any] = {
    "chains": 2,
    "tune": 500,
    "draws": 500,
    "rules": rl.VerdictRules(min_ess=100, max_r_hat=1.05, max_divergences=50),
}
"""A quarter of the usual draws and hardly a second try: scores do not move by it, and there are many fits."""

SAME = dist.HalfNormal(1e-3)
POOLING = {
    "partial pooling": rl.SigmoidPriors(),
    "the same, one B for all runs": rl.SigmoidPriors(B_spread=SAME),
    "the same, wider spreads of C_mid and B": rl.SigmoidPriors(
        C_mid_spread=dist.HalfNormal(0.4), B_spread=dist.HalfNormal(0.2)
    ),
    "complete pooling": rl.SigmoidPriors(headroom_spread=SAME, C_mid_spread=SAME, B_spread=SAME),
}
"""Priors under which siblings are fitted together."""

SPLITS = 4
CLAIMS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
LATE = 0.5
"""Share of the largest compute from which evaluations are averaged."""

RUNS = (1, 2, 3, 5, 10)
DIFFERENCES = (0.0, 0.01, 0.02, 0.04)
RECIPES = 24
"""Simulated recipes for each true ceiling."""

CALLED = 0.9
COMPUTE = 1000.0 * np.arange(1, 21) / 20
USUAL = {"B": 1.7, "C_mid": 200.0, "R0": 0.4, "sigma": 0.006, "share": 0.66, "length": 0.5}
"""Simulated runs are like those of ScaleRL, to five times their midpoint."""

SPREADS = {"headroom": 0.07, "C_mid": 0.1, "B": 0.1}
"""Spreads between simulated runs: 0.07 are ceilings within about .01 of the recipe's, as in ScaleRL."""


Found = tuple[dict[str, pd.DataFrame], list[str]]
"""Tables and sentences of one part."""


def read(name: str) -> rl.Runs:
    columns = {"reward": "accuracy", "recipe": "recipe", "run": "seed", "n_eval": "n_eval"}
    return rl.read_runs(SHARED / f"{name}.csv", compute=SETS[name], **columns)


def keep(runs: rl.Runs, wanted: dict[str, set[str]]) -> rl.Runs:
    """Keep these runs of each recipe."""
    table = runs.table
    pairs = {(recipe, run) for recipe, names in wanted.items() for run in names}
    return runs.keep(pd.Series([pair in pairs for pair in zip(table["recipe"], table["run"], strict=True)]))


def members(runs: rl.Runs) -> dict[str, list[str]]:
    return {recipe: [run.run for run in own] for recipe, own in runs.iter_recipes()}


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n## {title}\n\n{table.to_string()}", flush=True)


def say(line: str) -> str:
    print(line, flush=True)
    return line


def health() -> Found:
    tables, lines = {}, []
    for name in SETS:
        runs = read(name)
        first = next(iter(members(runs)))
        rl.fit(runs.select(first), chains=4, tune=1000, draws=1000)  # compile
        began = time.perf_counter()
        fits = rl.fit(runs)
        took = time.perf_counter() - began
        table = fits.summary()[["A", "A_lower", "A_upper", "A_spread", "C_mid_spread", "verdict"]].round(3)
        table[["r_hat", "ess_bulk", "ess_tail", "divergences"]] = fits.summary()[
            ["r_hat", "ess_bulk", "ess_tail", "divergences"]
        ].round(4)
        table["tries"] = [1 + fit.settings.retried for fit in fits.values()]
        show(f"{name}: {len(fits)} recipes, {sum(len(f.runs) for f in fits.values())} runs, {took:.0f} s", table)
        tables[name] = table
        lines += [say(f"{name}: {line}") for line in fits.odd_runs]
        lines.append(say(f"{name}: {common(fits)}"))
    return tables, lines


def common(fits: rl.Fits) -> str:
    """Part of the residuals that all runs have in common where they are evaluated at the same compute.

    Common errors of the prompts would make differences of recipes sharper than their posteriors say. What the sigmoid
    itself misses in all runs alike is in it too, so it is an upper limit.
    """
    found = []
    for fit in fits.values():
        for run in fit.runs:
            draws = {name: np.median(values) for name, values in fit.draws_of(run.run).items()}
            curve = sigmoid_curve(run.compute, draws["A"], draws["B"], draws["C_mid"], draws["R0"], draws["tail"])
            found.append(pd.Series(run.reward - curve, np.round(run.compute, 6), name=(fit.name, run.run)))
    residuals = pd.concat(found, axis=1).dropna()
    if len(residuals) < 4:
        return "runs are not evaluated at the same compute, so nothing can be said of errors they have in common"
    variance = float(residuals.to_numpy().var())
    own = float(residuals.var(axis=1).mean()) / residuals.shape[1]
    shared = max(0.0, float((residuals.mean(axis=1) ** 2).mean()) - own)
    return (
        f"residuals: sd {variance**0.5:.4f}; common to all runs at one compute: sd {shared**0.5:.4f}, "
        f"{shared / variance:.1%} of the variance"
    )


def scored(fit: rl.Fit, left_out: Run) -> pd.DataFrame:
    """Scores of the forecast of a run that was left out, as a new run of the recipe."""
    predictive = predict(fit, left_out.compute)
    rng = np.random.default_rng(0)
    return score_forecast(Mixture(predictive.mean, predictive.sd), left_out.reward, (0.0, 1.0), rng).assign(
        recipe=left_out.recipe, run=left_out.run
    )


def left_out() -> Found:
    found_of = {}
    for name in SETS:
        runs = read(name)
        held, names = {(r.recipe, r.run): r for r in runs.iter_runs()}, members(runs)
        most = max(map(len, names.values()))
        tables = {}
        for method, priors in POOLING.items():
            if name != "pods_multigpu" and method.startswith("the same"):
                continue  # its runs have risen before their first evaluation and say nothing of B and C_mid
            found = []
            for i in range(most):
                siblings = {recipe: set(own) - {own[i]} for recipe, own in names.items() if i < len(own)}
                fits = rl.fit(keep(runs, siblings), priors, **QUICK)
                found += [scored(fits[recipe], held[recipe, names[recipe][i]]) for recipe in siblings]
            tables[method] = pd.concat(found)
        found = []
        for i in range(most):  # the i-th run of every recipe alone, as a forecast of each of the others
            alone = {recipe: {own[i]} for recipe, own in names.items() if i < len(own)}
            fits = rl.fit(keep(runs, alone), POOLING["complete pooling"], **QUICK)
            found += [
                scored(fits[recipe], held[recipe, other])
                for recipe, own in alone.items()
                for other in names[recipe]
                if other not in own
            ]
        tables["no pooling"] = pd.concat(found)
        rows = {}
        for method, table in tables.items():
            distance = (table["pit"] - 0.5).abs()
            rows[method] = {f"in {level:.0%}": (distance <= level / 2).mean() for level in (0.5, 0.9)}
            rows[method] |= {"CRPS": table["crps"].mean(), "log score": table["log_score"].mean()}
            runwise = table.groupby(["recipe", "run"])["crps"].mean()
            base = tables["partial pooling"].groupby(["recipe", "run"])["crps"].mean()
            rows[method]["runs forecast worse than by partial pooling"] = f"{(runwise > base).sum()} of {len(base)}"
        found_of[name] = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
        show(f"{name}: {len(held)} runs, each left out once", found_of[name])
    return found_of, []


def halves() -> Found:
    runs = read("pods_l40s_gsm8k")
    names, table = members(runs), runs.table
    late = table[table["compute"] >= LATE * table.groupby(["recipe", "run"])["compute"].transform("max")]
    means, places = late.groupby(["recipe", "run"])["reward"].mean(), np.unique(late["compute"].round(6))
    rng, rows = np.random.default_rng(0), []
    for split in range(SPLITS):
        drawn = {recipe: list(rng.permutation(own)) for recipe, own in names.items()}
        for fitted, other in ((slice(0, 5), slice(5, 10)), (slice(5, 10), slice(0, 5))):
            fits = rl.fit(keep(runs, {recipe: set(own[fitted]) for recipe, own in drawn.items()}), **QUICK)
            averages = {recipe: late_averages(fit, places, 5, rng) for recipe, fit in fits.items()}
            for first, second in itertools.combinations(fits, 2):
                chance = fits.chance_higher(first, second)
                ahead = [means[recipe][drawn[recipe][other]].mean() for recipe in (first, second)]
                of_average, _ = chance_of_draws(averages[first], averages[second])
                rows.append(
                    {"ceilings": chance.probability, "late averages": of_average, "split": split}
                    | {"conclusive": chance.conclusive, "true": ahead[0] > ahead[1]}
                )
    asked = pd.DataFrame(rows)
    conclusive = asked[asked["conclusive"]]
    tables, scores = {}, {}
    for what, some, which in (
        ("late averages", asked, "all pairs"),
        ("ceilings", asked, "all pairs"),
        ("ceilings", conclusive, "conclusive pairs"),
    ):
        claim = some[what].where(some[what] > 0.5, 1.0 - some[what])
        right = (some[what] > 0.5) == some["true"]
        groups = pd.DataFrame({"claimed": claim, "right": right}).groupby(pd.cut(claim, CLAIMS), observed=True)
        title = f"Halves of pods_l40s_gsm8k, chances of {what}, {which}: {len(some)} answers of {2 * SPLITS} halves"
        question = f"chances of {what}, {which}"
        tables[question] = groups.mean().assign(answers=groups.size()).round(3).rename_axis("claim")
        show(title, tables[question])
        p = some[what].to_numpy()
        brier, true = ((some["true"] - p) ** 2).mean(), (p * (1 - p)).mean()
        scores[question] = {"Brier": brier, "if true": true, "always .5": 0.25, "answers": len(some)}
        print(f"\nBrier score {brier:.3f}, {true:.3f} if true, 0.25 for a coin")
    tables["scores"] = pd.DataFrame.from_dict(scores, orient="index").rename_axis("question")
    return tables, [f"{2 * SPLITS} halves"]


def late_averages(fit: rl.Fit, places: np.ndarray, runs: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the mean of the late evaluations of so many new runs, shape (chains, draws).

    The correlated noise is taken for constant over them.
    """
    predictive = predict(fit, places)
    share, sigma = (fit.draws[name].ravel() for name in ("share", "sigma"))
    curve, new = predictive.curve.mean(axis=1), predictive.mean.mean(axis=1)
    noise = sigma * np.sqrt(share + (1.0 - share) / len(places)) * rng.standard_normal(len(curve))
    return (curve + (new - curve + noise) / np.sqrt(runs)).reshape(fit.draws["A"].shape)


def intervals() -> Found:
    found = {}
    for name in SETS:
        runs = read(name)
        names, rows = members(runs), []
        for number in (1, 3, 5, 10):
            wanted = {recipe: set(own[:number]) for recipe, own in names.items() if len(own) >= number}
            if wanted:
                fits = rl.fit(keep(runs, wanted))
                rows += [
                    {
                        "recipe": f.name,
                        "runs": number,
                        "A": "{1:.3f} [{0:.3f}, {2:.3f}]".format(*f.interval("A")),
                        "width": f.interval("A")[2] - f.interval("A")[0],
                        "verdict": f.verdict.name,
                    }
                    for f in fits.values()
                ]
        table = pd.DataFrame(rows)
        show(f"{name}: interval of the recipe's ceiling", table.pivot(index="recipe", columns="runs", values="A"))
        widths = table[table["verdict"] == "IDENTIFIED"].groupby("runs")["width"].agg(["median", "size"])
        print(f"\nmedian width of identified ones\n{widths.round(4).to_string()}")
        found[name] = table.pivot(index="recipe", columns="runs", values=["A", "verdict"])
        found[f"{name}, median width of identified ones"] = widths
    return found, []


def needed() -> Found:
    by_runs = {}
    rng, rows = np.random.default_rng(0), []
    base = logit((0.6 - USUAL["R0"]) / (1 - USUAL["R0"]))
    for number in RUNS:
        tables = []
        for difference in DIFFERENCES:
            ceiling = expit(base) * (1 - USUAL["R0"]) + USUAL["R0"] + difference
            recipe_logit = logit((ceiling - USUAL["R0"]) / (1 - USUAL["R0"]))
            for i, run in itertools.product(range(RECIPES), range(number)):
                by_headroom, by_C_mid, by_B = (SPREADS[k] * rng.standard_normal() for k in ("headroom", "C_mid", "B"))
                truth = USUAL | {
                    "A": USUAL["R0"] + (1 - USUAL["R0"]) * expit(recipe_logit + by_headroom),
                    "C_mid": USUAL["C_mid"] * np.exp(by_C_mid),
                    "B": USUAL["B"] * np.exp(by_B),
                }
                reward = np.clip(simulate_rewards(COMPUTE, truth, rng), 0, 1)
                table = pd.DataFrame({"compute": np.r_[0, COMPUTE], "reward": np.r_[USUAL["R0"], reward]})
                tables.append(table.assign(recipe=f"{difference:g}/{i}", run=str(run), n_eval=np.nan))
                tables[-1].loc[0, "n_eval"] = 16_000.0
        fits = rl.fit(rl.read_runs(pd.concat(tables)), **QUICK)
        for difference in DIFFERENCES[1:]:
            called = []
            for i, j in itertools.product(range(RECIPES), range(RECIPES)):
                chance = fits.chance_higher(f"{difference:g}/{i}", f"0/{j}")
                called.append(
                    (
                        chance.conclusive and chance.probability >= CALLED,
                        chance.conclusive and chance.probability <= 1 - CALLED,
                    )
                )
            right, wrong = np.mean(called, axis=0)
            rows.append({"runs": number, "difference": difference, "called": right, "called the wrong way": wrong})
        widths = [f.interval("A")[2] - f.interval("A")[0] for f in fits.values()]
        identified = np.mean([f.verdict is rl.Verdict.IDENTIFIED for f in fits.values()])
        print(f"{number} runs: identified {identified:.2f}, median width of A {np.median(widths):.4f}", flush=True)
        by_runs[number] = {"identified": identified, "median width of A": np.median(widths)}
    table = pd.DataFrame(rows).pivot(index="runs", columns="difference", values=["called", "called the wrong way"])
    show(
        f"Share of pairs called with a chance of {CALLED:g} or more, by runs a recipe and true difference",
        table.round(2),
    )
    return {"identified": pd.DataFrame.from_dict(by_runs, orient="index").rename_axis("runs"), "called": table}, []


PARTS = {"health": health, "left-out": left_out, "halves": halves, "intervals": intervals, "needed": needed}


def main() -> None:
    asked = sys.argv[1:] or list(PARTS)
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        sys.exit(f"seeds.py has no part {unknown[0]!r}; it has: {', '.join(PARTS)}.")
    for name in asked:
        if name != "needed" and not SHARED.is_dir():
            print(f"{name} is left out: there is no {SHARED}")
            continue
        began = time.perf_counter()
        tables, lines = PARTS[name]()
        seconds = time.perf_counter() - began
        record(f"seeds-{name}", f"seeds.py {name}", tables, lines, seconds)
        print(f"\n{name} took {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
