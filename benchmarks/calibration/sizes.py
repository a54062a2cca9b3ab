"""Laws across model sizes on the Qwen2.5 runs: health, forecasts against what people do today, answers, and SBC.

python benchmarks/calibration/sizes.py health      time and convergence of both laws, against compute and against data
python benchmarks/calibration/sizes.py forecasts [flops|samples]
                                                   sizes left out and runs cut, scored beside least squares
python benchmarks/calibration/sizes.py answers     crossover, best size, saturation; the published law beside ours
python benchmarks/calibration/sizes.py sbc [number] [--law ceiling]
                                                   sets of five sizes drawn from the priors, fitted, their truth ranked

Each part writes results/sizes-<part>.json.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpyro.distributions as dist
import pandas as pd
from results import record
from scipy.optimize import curve_fit

import rlceiling as rl
from rlceiling.calibration.ranks import outside_band
from rlceiling.calibration.scores import Mixture, score_forecast
from rlceiling.calibration.size_backtest import SizesBacktest
from rlceiling.calibration.size_simulate import simulate_sizes
from rlceiling.decisions.forecast import predict
from rlceiling.fitting.fit_sizes import fit_grouped
from rlceiling.models.size_laws import LAWS
from rlceiling.results.sizes import Sizes
from rlceiling.runs.grouping import group_by_size

LEFT_OUT = (72, 32, 14, 3)
CUTS = (0.2, 0.3, 0.4)
SIZE = "model_size_b"
PUBLISHED = {
    ("flops", "all"): (0.1330, 13.78),
    ("flops", "first 25 steps"): (0.1349, 13.09),
    ("flops", "0.5B to 32B"): (0.1518, 17.37),
    ("samples", "all"): (0.1400, 13.00),
    ("samples", "first 25 steps"): (0.1348, 11.52),
    ("samples", "0.5B to 32B"): (0.1631, 16.95),
}
"""k_max and N0 in billions as the paper prints them (arXiv 2509.25300)."""

THINNED = 100
"""Draws a truth is ranked among."""


def saturating(N: np.ndarray, E_max: float, N0: float) -> np.ndarray:
    return E_max / (1.0 + N0 / N)


def lines(sizes: dict[float, tuple[np.ndarray, np.ndarray]]) -> dict[float, tuple[float, float]]:
    """Intercept at ln X = 0 and exponent of ln L of every size by least squares."""
    out = {}
    for size, (resource, reward) in sizes.items():
        slope, intercept = np.polyfit(np.log(resource), np.log1p(-reward), 1)
        out[size] = float(intercept), float(-slope)
    return out


def law_of(fitted: dict[float, tuple[float, float]]) -> tuple[float, float]:
    """E_max and N0 by least squares on the exponents."""
    N, E = np.array(list(fitted)), np.array([e for _, e in fitted.values()])
    best, _ = curve_fit(saturating, N, E, p0=(E.max(), np.median(N)), bounds=(1e-4, [2.0, 1e4]), max_nfev=20_000)
    return float(best[0]), float(best[1])


def scored(name: str, task: str, size: float, ln_loss: np.ndarray, sd: np.ndarray, reward: np.ndarray) -> pd.DataFrame:
    """Scores of a normal forecast of ln L, by the delta method one of the reward."""
    loss = np.exp(ln_loss)
    forecast = Mixture((1.0 - loss)[None], np.maximum(loss * sd, 1e-4)[None])
    table = score_forecast(forecast, reward, (0.0, 1.0), np.random.default_rng(0))
    return table.assign(task=task, size=f"{size:g}", law=name, reward=reward, ln_error=ln_loss - np.log1p(-reward))


def left_out_by_least_squares(data: dict[float, tuple[np.ndarray, np.ndarray]], target: float) -> list[pd.DataFrame]:
    fitted = lines({size: own for size, own in data.items() if size != target})
    exponent = saturating(np.array([target]), *law_of(fitted))[0]
    x, reward = np.log(data[target][0]), data[target][1]
    residual = np.std(
        np.concatenate([np.log1p(-data[s][1]) - (a - e * np.log(data[s][0])) for s, (a, e) in fitted.items()])
    )
    # Intercepts are compared where the data of the target lie, or errors of exponents would swamp them.
    at = x.mean()
    ln_N = np.log(list(fitted))
    level = np.array([a - e * at for a, e in fitted.values()])
    slope, middle = np.polyfit(ln_N, level, 1)
    spread = np.sqrt(np.sum((level - middle - slope * ln_N) ** 2) / (len(level) - 2))
    distance = np.log(target) - ln_N.mean()
    sd = spread * np.sqrt(1.0 + 1.0 / len(level) + distance**2 / np.sum((ln_N - ln_N.mean()) ** 2))
    task = f"without {target:g}"
    extrapolated = middle + slope * np.log(target) - exponent * (x - at)
    seen = np.log1p(-reward).mean() - exponent * (x - at)
    return [
        scored("log-linear intercepts", task, target, extrapolated, np.full(len(x), np.hypot(sd, residual)), reward),
        scored("published, intercept SEEN", task, target, seen, np.full(len(x), residual), reward),
    ]


def cut_by_least_squares(data: dict[float, tuple[np.ndarray, np.ndarray]], share: float) -> list[pd.DataFrame]:
    out = []
    for size, (resource, reward) in data.items():
        n = round(share * len(resource))
        x, y = np.log(resource), np.log1p(-reward)
        best, covariance = np.polyfit(x[:n], y[:n], 1, cov="unscaled")
        noise = np.sum((y[:n] - np.polyval(best, x[:n])) ** 2) / (n - 2)
        basis = np.stack([x[n:], np.ones(len(x) - n)])
        sd = np.sqrt(noise * (1.0 + np.einsum("in,ij,jn->n", basis, covariance, basis)))
        out.append(scored("least squares", f"first {share:.0%}", size, np.polyval(best, x[n:]), sd, reward[n:]))
    return out


def cut_by_sigmoids(runs: rl.Runs, resource: str, share: float) -> list[pd.DataFrame]:
    """The sigmoid of each size alone."""
    table = runs.table
    frame = pd.DataFrame({"recipe": table["recipe"], "x": table["compute"], "pass_rate": table["reward"]})
    if resource != "flops":
        frame["x"] = table[resource]
    first = frame[frame.groupby("recipe").cumcount() < (share * frame.groupby("recipe")["x"].transform("size")).round()]
    fits = rl.fit(rl.read_runs(first, compute="x", reward="pass_rate", recipe="recipe"), progress=False)
    out = []
    for name, fit in fits.items():
        later = frame.drop(first.index)
        later = later[later["recipe"] == name]
        found = predict(fit, later["x"].to_numpy(), fit.run_names[0])
        forecast = Mixture(found.mean[::8], np.asarray(found.sd[::8]))
        reward = later["pass_rate"].to_numpy()
        scores = score_forecast(forecast, reward, (0.0, 1.0), np.random.default_rng(0))
        ln_error = np.log1p(-found.curve.mean(axis=0)) - np.log1p(-reward)
        size = name.removeprefix("Qwen2.5-").removesuffix("B")
        out.append(
            scores.assign(task=f"first {share:.0%}", size=size, law="sigmoid alone", reward=reward, ln_error=ln_error)
        )
    return out


def arrays(runs: rl.Runs, resource: str) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    grouped = group_by_size(runs, SIZE, resource)
    return {size: (own[0].compute, own[0].reward) for size, own in zip(grouped.sizes, grouped.runs, strict=True)}


def health(runs: rl.Runs) -> None:
    rows = []
    for law in LAWS:
        for resource in ("flops", "samples"):
            started = time.perf_counter()
            fit = rl.fit_sizes(runs, SIZE, resource, law=law, progress=False)
            c = fit.convergence
            rows.append(
                {
                    "law": law,
                    "against": resource,
                    "seconds": time.perf_counter() - started,
                    "R-hat": c.r_hat,
                    "bulk ESS": c.ess_bulk,
                    "tail ESS": c.ess_tail,
                    "divergences": c.divergences,
                    "second try": fit.settings.retried,
                    "verdict": fit.verdict.name,
                }
            )
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    record("sizes-health", "sizes.py health", {"health": table}, seconds=table["seconds"].sum())


def forecasts(runs: rl.Runs, resource: str) -> None:
    began = time.perf_counter()
    tested = rl.backtest_sizes(runs, SIZE, resource, cut=CUTS, leave_out=LEFT_OUT)
    data = arrays(runs, resource)
    baselines = [table for size in LEFT_OUT for table in left_out_by_least_squares(data, float(size))]
    for share in CUTS:
        baselines += cut_by_least_squares(data, share) + cut_by_sigmoids(runs, resource, share)
    points = pd.concat([tested.points, *baselines], ignore_index=True)
    everything = SizesBacktest(points, tested.fits)
    print(f"against {resource}")
    print(everything.scores("task").round(4).to_string())
    print("\nby size, of the cuts")
    cuts = points[points["task"].str.startswith("first")]
    by_size = SizesBacktest(cuts, {}).scores("size")
    print(by_size[["rmse", "in 90%", "crps"]].round(4).unstack("law").to_string())
    print(f"\n{tested.preferred()}")
    retried = [f"{task}, {law}" for (task, law), fit in tested.fits.items() if fit.settings.retried]
    bad = [f"{task}, {law}" for (task, law), fit in tested.fits.items() if not fit.rules.converged(fit.convergence)]
    health_line = f"tried twice: {len(retried)} of {len(tested.fits)}; not converged: {', '.join(bad) or 'none'}"
    print(health_line)
    tables = {"by task": everything.scores("task"), "of the cuts, by size": by_size[["rmse", "in 90%", "crps"]]}
    name = "sizes-forecasts" if resource == "flops" else f"sizes-forecasts-{resource}"
    lines = [str(tested.preferred()), health_line]
    record(name, f"sizes.py forecasts {resource}", tables, lines, time.perf_counter() - began)


def answers(runs: rl.Runs) -> None:
    began, found, kept = time.perf_counter(), {}, []
    for law in LAWS:
        fit = rl.fit_sizes(runs, SIZE, "flops", law=law, progress=False)
        kept += [f"{law}: {fit.sentence()}", f"{law}: {fit.crossover(32, 72)}"]
        print("\n".join(kept[-2:]))
        budgets = [1e18, 1e19, 1e20, 1e21]
        best, saturation = fit.best_size(budgets).drop(columns="reason"), fit.saturation()
        print(best.round(2).to_string(index=False))
        print(saturation.to_string(), "\n")
        found[f"{law}, best size"] = best
        found[f"{law}, saturation"] = saturation.rename("value").rename_axis("quantity").to_frame()
    print("exponents by least squares, each size alone: E_max and N0")
    rows = []
    for resource in ("flops", "samples"):
        data = arrays(runs, resource)
        first = {size: (x[:25], y[:25]) for size, (x, y) in data.items()}
        rest = {size: own for size, own in data.items() if size < 72}
        for name, part in (("all", data), ("first 25 steps", first), ("0.5B to 32B", rest)):
            E_max, N0 = law_of(lines(part))
            print(f"  against {resource}, {name}: {E_max:.4f} {N0:.2f}B")
            published = PUBLISHED[resource, name]
            row = {"against": resource, "data": name, "E_max": E_max, "N0": N0}
            rows.append(row | {"published E_max": published[0], "published N0": published[1]})
    found["exponents by least squares, each size alone"] = pd.DataFrame(rows)
    record("sizes-answers", "sizes.py answers", found, kept, time.perf_counter() - began)


def quantities(fit: Sizes) -> dict[str, np.ndarray]:
    step = max(1, fit.flat("sigma").size // THINNED)
    of_law = {name: fit.flat(name)[::step] for name in fit.parameters}
    return of_law | {
        f"{name}[{i}]": values.reshape(-1, values.shape[-1])[::step, i]
        for name, values in fit.columns.items()
        for i in (0, values.shape[-1] - 1)
    }


def sbc(number: int, law: str) -> None:
    sizes = (0.5, 1.5, 5.0, 15.0, 50.0)
    sets = simulate_sizes(number, sizes, np.geomspace(1e17, 1e20, 20), law)
    independent = LAWS[law].priors(share=dist.Beta(1.0, 1000.0))
    rng = np.random.default_rng(0)
    started, rows = time.perf_counter(), []
    for title, priors, part in (("the model", None, sets), ("noise taken for independent", independent, sets[::4])):
        ranks, failed = [], 0
        for table, truth in part:
            grouped = group_by_size(rl.read_runs(table, compute="resource", recipe="size"), "size", "compute")
            fit = fit_grouped(grouped, law=law, priors=priors, tune=500, draws=250, progress=False, rules=LENIENT)
            known = quantities(fit)
            flat = {n: v for n, v in truth.items() if np.ndim(v) == 0}
            flat |= {f"{n}[{i}]": v[i] for n, v in truth.items() if np.ndim(v) for i in (0, len(v) - 1)}
            ranks.append({n: (np.sum(v < flat[n]) + rng.uniform()) / (len(v) + 1) for n, v in known.items()})
            failed += fit.convergence.divergences > 0
        outside = outside_band(pd.DataFrame(ranks))
        left = ", ".join(f"{n} {v:.3f}" for n, v in outside[outside > 0].sort_values(ascending=False).items())
        print(f"{title}: {len(part)} sets, {len(outside)} quantities; outside their 95% band: {left or 'none'}")
        print(f"  sets with a divergence: {failed}; {time.perf_counter() - started:.0f} s")
        row = {"model": title, "sets": len(part), "quantities": len(outside), "quantities outside": left or "none"}
        rows.append(row | {"sets with a divergence": failed})
    command, seconds = f"sizes.py sbc {number} --law '{law}'", time.perf_counter() - started
    record(f"sizes-sbc-{law.replace(' ', '-')}", command, {"ranks": pd.DataFrame(rows)}, seconds=seconds)


LENIENT = rl.SizeRules(max_r_hat=9, min_ess=0, max_divergences=10**6, min_e_bfmi=0)
"""Every fit counts, converged or not, and none is tried twice."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["health", "forecasts", "answers", "sbc"])
    parser.add_argument("what", nargs="?", default=None)
    parser.add_argument("--law", choices=list(LAWS), default="power law")
    given = parser.parse_args()
    if given.part == "sbc":
        sbc(int(given.what or 100), given.law)
    else:
        data_set = rl.load_dataset("qwen_math")
        if given.part == "health":
            health(data_set)
        elif given.part == "forecasts":
            forecasts(data_set, given.what or "flops")
        else:
            answers(data_set)
