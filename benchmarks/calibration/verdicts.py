"""Operating characteristics of the verdicts on simulated runs.

python benchmarks/verdicts.py [repetitions]

True runs: R0 = 0.4, headroom uniform on (.15, .6), B and the noise drawn from their priors but for the noise's
size, evaluations equally spaced in compute from C_max / n to C_max.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pandas as pd

import rlceiling as rl
from rlceiling.curves import sigmoid_curve

REACHES = (0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
NOISES = (0.002, 0.004, 0.01, 0.02)
LENGTHS = (8, 20, 60)
OTHER_RULES = [rl.VerdictRules(), rl.VerdictRules(min_p_past_midpoint=0.9), rl.VerdictRules(min_p_past_midpoint=0.99)]
OTHER_RULES += [rl.VerdictRules(max_width_ratio=ratio) for ratio in (0.2, 0.25, 0.5)]
C_MID, R0, N_EVAL = 1000.0, 0.4, 16_000


def simulate(repetition: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluations of one run of each kind, and the truth behind them."""
    evaluations, truths = [], []
    for reach, noise, n in itertools.product(REACHES, NOISES, LENGTHS):
        compute = np.linspace(reach * C_MID / n, reach * C_MID, n)
        A, B = R0 + (1 - R0) * rng.uniform(0.15, 0.6), rng.lognormal(np.log(1.7), 0.4)
        share, length = rng.beta(1.5, 1.5), rng.lognormal(np.log(0.5), 1.0)
        x = np.log(compute)
        covariance = noise**2 * (share * np.exp(-np.abs(x[:, None] - x) / length) + (1 - share) * np.eye(n))
        reward = sigmoid_curve(compute, A, B, C_MID, R0) + np.linalg.cholesky(covariance) @ rng.standard_normal(n)
        name = f"{repetition} {reach:g} {noise:g} {n}"
        start = R0 + 0.5 * np.sqrt(R0 * (1 - R0) / N_EVAL) * rng.standard_normal()
        evaluations.append(
            pd.DataFrame(
                {"recipe": name, "compute": np.r_[0, compute], "reward": np.r_[start, reward], "n_eval": N_EVAL}
            )
        )
        truths.append({"recipe": name, "reach": reach, "noise": noise, "n": n, "A_true": A})
    table = pd.concat(evaluations)
    table["reward"] = table["reward"].clip(0, 1)
    return table, pd.DataFrame(truths).set_index("recipe")


def other_rules(runs: pd.DataFrame) -> pd.DataFrame:
    """What other thresholds of PRE_INFLECTION would have said of the same fits; the first row is the default."""
    rows = []
    for i, rules in enumerate(OTHER_RULES):
        identified = runs[f"rules {i}"] == "IDENTIFIED"
        row = {"min_p_past_midpoint": rules.min_p_past_midpoint, "max_width_ratio": rules.max_width_ratio}
        for low, high in ((0.0, 0.7), (1.0, 1.5), (2.0, 8.0)):
            row[f"identified, {low:g} to {high:g} C_mid"] = identified[runs.reach.between(low, high)].mean()
        rows.append(row | {"covered if identified": runs.covered[identified].mean()})
    return pd.DataFrame(rows).round(3)


def main(repetitions: int = 8) -> None:
    rng = np.random.default_rng(20261121)
    results = []
    for repetition in range(repetitions):
        table, truth = simulate(repetition, rng)
        fits = rl.fit(rl.read_runs(table))
        summary = truth.join(fits.summary())
        summary["covered"] = summary["A_true"].between(summary["A_lower"], summary["A_upper"])
        for i, rules in enumerate(OTHER_RULES):
            verdicts = {name: rules.judge(fit.convergence, fit.checks).name for name, fit in fits.items()}
            summary[f"rules {i}"] = pd.Series(verdicts)
        results.append(summary)
    all_runs = pd.concat(results)

    def shares(by: str, rows: pd.DataFrame) -> pd.DataFrame:
        out = pd.crosstab(rows[by], rows["verdict"], normalize="index")
        identified = rows[rows.verdict == "IDENTIFIED"].groupby(by)["covered"]
        return out.assign(covered_if_identified=identified.mean(), identified=identified.size()).round(3)

    print(f"{len(all_runs)} simulated runs\n\n## Verdicts by C_max / C_mid\n")
    print(shares("reach", all_runs).to_string())
    print("\n## Verdicts by noise, C_max >= 2 C_mid\n")
    print(shares("noise", all_runs[all_runs.reach >= 2]).to_string())
    early = all_runs[all_runs.reach <= 0.7]
    good = all_runs[(all_runs.reach >= 4) & (all_runs.noise == 0.004) & (all_runs.n == 20)]
    identified = all_runs[all_runs.verdict == "IDENTIFIED"]
    print(f"\nnot IDENTIFIED at C_max <= 0.7 C_mid: {(early.verdict != 'IDENTIFIED').mean():.3f} of {len(early)}")
    print(
        "IDENTIFIED at C_max >= 4 C_mid, noise .004, 20 evaluations: "
        f"{(good.verdict == 'IDENTIFIED').mean():.3f} of {len(good)}"
    )
    print(f"A in the 90% interval if IDENTIFIED: {identified.covered.mean():.3f} of {len(identified)}")
    print(f"A in the 90% interval, all runs: {all_runs.covered.mean():.3f} of {len(all_runs)}")
    print("\n## Other thresholds\n")
    print(other_rules(all_runs).to_string(index=False))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
