"""Operating characteristics of the verdicts on simulated runs.

python benchmarks/calibration/verdicts.py [repetitions] [--truths given|priors] [--out RUNS.csv] [--read RUNS.csv]
python benchmarks/calibration/verdicts.py [repetitions] --forms

True runs: R0 = 0.4, evaluations equally spaced in compute from C_max / n to C_max, whose only known error is that of
step 0. By default headroom is uniform on (.15, .6), B narrower than its prior, and the share and length of the
correlated noise from theirs. With `--truths priors` headroom, B and R0 are drawn from the priors as well. `--out`
keeps what was measured of every run, `--read` prints the tables of runs so kept. Results go to results/verdicts.json,
with other truths to results/verdicts-priors.json, unless they are read from a file.

With `--forms` the runs are those of ``shared/sim_forms.py`` beside the repository, 20 kinds of curve and noise with
`repetitions` runs each (seed 1): which verdict each kind gets, and how often the 90% interval of the ceiling of a run
called IDENTIFIED holds the noiseless curve at 10 times the last compute. Results go to results/verdicts-forms.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from results import record
from scipy.stats import binomtest

import rlceiling as rl
from rlceiling.calibration.simulate import simulate_rewards

REACHES = (0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
NOISES = (0.002, 0.004, 0.01, 0.02)
LENGTHS = (8, 20, 60)
C_MID, R0, N_EVAL = 1000.0, 0.4, 16_000

COLOURS = {
    "IDENTIFIED": "#009E73",
    "PRE_INFLECTION": "#E69F00",
    "NO_RISE": "#56B4E9",
    "NOT_A_SIGMOID": "#D55E00",
    "NOT_CONVERGED": "#000000",
}
"""Okabe and Ito's palette."""


def draw_truth(truths: str, rng: np.random.Generator) -> dict[str, float]:
    """Truth of one run but for the size of its noise."""
    if truths == "priors":
        start = R0 + 0.5 * np.sqrt(R0 * (1 - R0) / N_EVAL) * rng.standard_normal()
        headroom, B = rng.beta(1.5, 1.5), rng.lognormal(np.log(1.7), 0.6)
    else:
        start, headroom, B = R0, rng.uniform(0.15, 0.6), rng.lognormal(np.log(1.7), 0.4)
    noise = {"share": rng.beta(2.0, 1.0), "length": rng.lognormal(np.log(0.5), 1.0)}
    return {"A": start + (1 - start) * headroom, "B": B, "C_mid": C_MID, "R0": start} | noise


def simulate_run(
    truths: str, reach: float, noise: float, n: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict]:
    """Evaluations of one run, and the truth behind them; runs that leave [0, 1] are drawn again."""
    compute = np.linspace(reach * C_MID / n, reach * C_MID, n)
    while True:
        truth = draw_truth(truths, rng) | {"sigma": noise}
        reward = simulate_rewards(compute, truth, rng)
        if reward.min() >= 0 and reward.max() <= 1:
            break
    start = R0
    if truths != "priors":  # there the truth is scattered around the evaluation
        start += 0.5 * np.sqrt(R0 * (1 - R0) / N_EVAL) * rng.standard_normal()
    table = pd.DataFrame({"compute": np.r_[0, compute], "reward": np.r_[start, reward], "n_eval": np.nan})
    table.loc[0, "n_eval"] = N_EVAL
    return table, {f"{k}_true": v for k, v in truth.items()}


def measure(fit: rl.Fit) -> dict[str, float]:
    """What rules could be made of."""
    (run,) = fit.run_names
    lower, median, upper = fit.interval("headroom")
    out = dataclasses.asdict(fit.checks[run]) | {"converged": fit.rules.converged(fit.convergence)}
    out.pop("C_mid")  # also in the summary
    out |= {"headroom_lower": lower, "headroom": median, "headroom_upper": upper}
    return out


def simulate_and_fit(truths: str, repetition: int, rng: np.random.Generator) -> pd.DataFrame:
    """One run of each kind, fitted; a row each."""
    tables, rows = [], {}
    for reach, noise, n in itertools.product(REACHES, NOISES, LENGTHS):
        name = f"{repetition} {reach:g} {noise:g} {n}"
        table, truth = simulate_run(truths, reach, noise, n, rng)
        tables.append(table.assign(recipe=name))
        rows[name] = {"reach": reach, "noise": noise, "n": n} | truth
    fits = rl.fit(rl.read_runs(pd.concat(tables)))
    measured = pd.DataFrame.from_dict({name: measure(f) for name, f in fits.items()}, orient="index")
    runs = pd.DataFrame.from_dict(rows, orient="index").join(fits.summary()).join(measured)
    # The truth is the run's.
    of_run = fits.summary(of="runs").droplevel("run")[["A", "A_lower", "A_upper"]]
    runs[list(of_run)] = of_run
    runs["covered"] = runs["A_true"].between(runs["A_lower"], runs["A_upper"])
    runs["missed_above"] = runs["A_true"] > runs["A_upper"]
    return runs


def shares(runs: pd.DataFrame) -> pd.DataFrame:
    """Shares that the aims are about, with the 95% interval of Clopper and Pearson."""
    good = runs[(runs.reach >= 4) & (runs.noise == 0.004) & (runs.n == 20)]
    identified = runs[runs.verdict == "IDENTIFIED"]
    asked = {
        "not IDENTIFIED at C_max <= 0.7 C_mid": runs.verdict[runs.reach <= 0.7] != "IDENTIFIED",
        "IDENTIFIED at C_max >= 4 C_mid, noise .004, 20 evaluations": good.verdict == "IDENTIFIED",
        "A in the 90% interval if IDENTIFIED": identified.covered,
        "A in the 90% interval if IDENTIFIED, C_max >= 2 C_mid": identified.covered[identified.reach >= 2],
        "A in the 90% interval if IDENTIFIED, C_max < 2 C_mid": identified.covered[identified.reach < 2],
        "A in the 90% interval, all runs": runs.covered,
    }
    rows = {}
    for what, yes in asked.items():
        row = {"share": yes.mean(), "of": len(yes)}
        if len(yes):
            interval = binomtest(int(yes.sum()), len(yes)).proportion_ci()
            row |= {"lower": interval.low, "upper": interval.high}
        rows[what] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("what")


def verdicts_by(by: str, runs: pd.DataFrame) -> pd.DataFrame:
    out = pd.crosstab(runs[by], runs["verdict"], normalize="index")
    identified = runs[runs.verdict == "IDENTIFIED"].groupby(by)
    return out.assign(
        covered_if_identified=identified["covered"].mean(),
        truth_above=identified["missed_above"].mean(),
        identified=identified.size(),
    ).round(3)


def other_rules(runs: pd.DataFrame) -> pd.DataFrame:
    """What other rules of PRE_INFLECTION would have said of the same fits; the first row is the default."""
    could_be = runs[runs.verdict.isin(["IDENTIFIED", "PRE_INFLECTION"])]
    good = (runs.reach >= 4) & (runs.noise == 0.004) & (runs.n == 20)
    asked = [(0.8, 0.9, 0.0), (0.7, 0.9, 0.0), (0.9, 0.9, 0.0), (0.8, 0.5, 0.0), (0.8, 0.7, 0.0), (0.8, 1.2, 0.0)]
    asked += [(0.8, 0.9, -np.inf), (0.8, 0.9, 0.5), (0.8, 0.9, 1.0), (0.8, 0.9, 2.0)]
    rows = []
    for p, width, evidence in asked:
        shown = could_be.ceiling_log_ratio >= evidence
        passed = (could_be.p_reach >= p) & (could_be.width <= width) & shown
        identified = pd.Series(False, index=runs.index)
        identified[could_be.index[passed]] = True
        row = {"with p": p, "width": width, "log likelihood ratio": evidence}
        for low, high in ((0.0, 0.7), (1.0, 1.0), (1.5, 1.5), (2.0, 8.0)):
            row[f"{low:g} to {high:g}" if low < high else f"{low:g}"] = identified[runs.reach.between(low, high)].mean()
        row |= {"4 up, .004, 20": identified[good].mean(), "covered": runs.covered[identified].mean()}
        near = identified & (runs.reach < 2)
        rows.append(
            row
            | {
                "of": identified.sum(),
                "covered below 2 C_mid": runs.covered[near].mean(),
                "of below 2 C_mid": near.sum(),
            }
        )
    return pd.DataFrame(rows).round(3)


def picture(runs: pd.DataFrame) -> Figure:
    """Shares of the verdicts against C_max / C_mid, a panel a size of noise."""
    figure = Figure(figsize=(10.0, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(NOISES), sharey=True)
    for ax, noise in zip(axes, NOISES, strict=True):
        shares = pd.crosstab((rows := runs[runs.noise == noise])["reach"], rows["verdict"], normalize="index").reindex(
            columns=list(COLOURS), fill_value=0.0
        )
        reach, foot = shares.index.to_numpy(), np.zeros(len(shares))
        for verdict, colour in COLOURS.items():
            height = shares[verdict].to_numpy()
            ax.bar(reach, height, 0.24 * reach, bottom=foot, color=colour, label=verdict)
            foot += height
        ax.set_xscale("log")
        ax.set_xticks([0.25, 0.5, 1, 2, 4, 8])
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set(xlim=(0.8 * min(REACHES), 1.25 * max(REACHES)), ylim=(0, 1))
        ax.set_title(f"noise {noise:g}", fontsize="medium")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[0].set_ylabel("simulated runs")
    figure.supxlabel("true C_max / C_mid", fontsize="medium")
    handles, labels = axes[0].get_legend_handles_labels()
    given = [(h, v) for h, v in zip(handles, labels, strict=True) if (runs.verdict == v).any()]
    figure.legend(*zip(*given, strict=True), loc="outside upper left", ncols=len(given), frameon=False)
    return figure


def forms(repetitions: int) -> dict[str, pd.DataFrame]:
    """Verdicts on the kinds of ``shared/sim_forms.py``."""
    path = Path(__file__).parents[3] / "shared" / "sim_forms.py"
    if not path.exists():
        raise SystemExit(f"{path} is missing; it holds the simulated kinds")
    spec = importlib.util.spec_from_file_location("sim_forms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table, truth = module.build(seed=1, N=repetitions)
    fits = rl.fit(rl.read_runs(table))
    of_run = fits.summary(of="runs").droplevel("run")
    runs = truth.set_index("recipe").join(of_run[["A_lower", "A_upper"]])
    runs["verdict"] = pd.Series({name: verdict.name for name, verdict in fits.verdicts.items()})
    runs["holds"] = runs["at10"].between(runs["A_lower"], runs["A_upper"])
    counts = pd.crosstab(runs["kind"], runs["verdict"]).reindex(columns=list(COLOURS), fill_value=0)
    identified = runs[runs["verdict"] == "IDENTIFIED"].groupby("kind")
    return {"by kind": counts.assign(holds=identified["holds"].mean()).round(2)}


def tables(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    late = runs[runs.reach >= 2]
    return {
        "by C_max / C_mid": verdicts_by("reach", runs),
        "by noise, C_max >= 2 C_mid": verdicts_by("noise", late),
        "by number of evaluations, C_max >= 2 C_mid": verdicts_by("n", late),
        "shares": shares(runs),
        "other rules": other_rules(runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repetitions", type=int, nargs="?", default=8)
    parser.add_argument("--truths", choices=("given", "priors"), default="given")
    parser.add_argument("--forms", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", type=Path)
    arguments = parser.parse_args()
    if arguments.forms:
        began = time.perf_counter()
        found = forms(arguments.repetitions)
        print(found["by kind"].to_string())
        command = f"verdicts.py {arguments.repetitions} --forms"
        record("verdicts-forms", command, found, (), time.perf_counter() - began)
        return
    if arguments.read:
        runs = pd.read_csv(arguments.read, index_col=0)
    else:
        began, rng = time.perf_counter(), np.random.default_rng(20261121)
        runs = pd.concat([simulate_and_fit(arguments.truths, r, rng) for r in range(arguments.repetitions)])
    if arguments.out:
        runs.to_csv(arguments.out)
    found = tables(runs)
    print(f"{len(runs)} simulated runs")
    for title, table in found.items():
        print(f"\n## {title}\n\n{table.round(3).to_string()}")
    if not arguments.read:
        given = arguments.truths == "given"
        command = f"verdicts.py {arguments.repetitions}" + ("" if given else f" --truths {arguments.truths}")
        seconds = time.perf_counter() - began
        name = "verdicts" if given else f"verdicts-{arguments.truths}"
        record(name, command, found, [f"{len(runs)} simulated runs"], seconds)
    if arguments.truths == "given":
        picture(runs).savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
