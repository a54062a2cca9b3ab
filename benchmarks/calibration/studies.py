"""Recipes that learn from each other, on five studies of real runs: forecasts, chances of pairs, and the reference.

python benchmarks/calibration/studies.py [--work FOLDER] [--workers N] [--part forecasts|reference] [--without STUDY]

Each recipe is cut early and its later evaluations are forecast under the weak priors (alone), under the population of
the other studies (reference), under priors from the finished siblings of its study (history), under priors from its
siblings cut at the same place (pooled), and under those of another study as if it were its own (another). Every cut
recipe is counted once.

What was fitted is kept in the work folder, by default among the temporary files, so that an interrupted run goes on
where it stopped. Results go to results/studies.json; with ``--part reference`` the population of all studies goes to
the package, as `SigmoidPriors.reference()`.

Of each recipe the first run is cut, and of finished recipes with ten runs three are used, or one of `pods_multigpu`,
whose curves are so steep that a fit of several runs takes minutes. Three of the studies may not be passed on; they are
read from the folder shared/data beside the repository, and left out where it is absent.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from futures import SHARED, show
from results import record
from scipy import stats

import rlceiling as rl
from rlceiling.calibration.baselines import BASELINES
from rlceiling.calibration.scores import Mixture, score_forecast
from rlceiling.decisions.forecast import level_draws, predict
from rlceiling.fitting.learn_priors import OF_ITS_STUDY, between_studies, usable_fits
from rlceiling.fitting.study import JOINT_SAMPLER, MAX_R_HAT, learned_names
from rlceiling.fitting.study import Study as Learned
from rlceiling.runs.table import FEWEST

ALONE, REFERENCE, HISTORY, POOLED, POOLED_WEAKLY = "alone", "reference", "history", "pooled", "pooled, weak hyperpriors"
FROM, LINE = "from ", "line in ln C"
LONGER = replace(JOINT_SAMPLER, draws=800)
"""Settings of the sampling of finished recipes: each of them is left out by weights of these draws."""

AHEAD = (1.3, 1.6, 2.0)
"""Multiples of the cut at which pairs are compared."""

REFERENCE_FILE = Path(rl.__file__).parent / "models" / "reference_priors.toml"
SCORES = ["in 50%", "in 90%", "crps", "log score", "bias", "identified", "own share", "unlike in curve"]

MOST = 60
"""Number of later evaluations of a run that are scored, evenly spaced."""

KEPT = 2000
"""Number of draws kept of each level and curve."""


@dataclass(frozen=True)
class Study:
    """Finished runs of one study, and the shares of its train part at which they are cut."""

    runs: rl.Runs
    ends: dict[str, float]
    cuts: tuple[float, ...]


def studies() -> dict[str, Study]:
    """All studies that there are."""
    train, whole = rl.load_dataset("scalerl"), rl.load_dataset("scalerl", split="all")
    ends = {run.recipe: float(run.compute[-1]) for run in train.iter_runs()}
    found = {"scalerl": Study(whole, ends, (1.0, 0.5, 0.25))}
    qwen = rl.load_dataset("qwen_math").table[["recipe", "samples", "reward"]]
    found["qwen_math"] = of_all(rl.read_runs(qwen, compute="samples"), (0.5, 0.25))
    if SHARED.is_dir():
        columns = {"reward": "accuracy", "recipe": "recipe", "run": "seed", "n_eval": "n_eval"}

        def of(file: str, compute: str, *cuts: float, seeds: int = 1) -> Study:
            table = pd.read_csv(SHARED / f"{file}.csv")
            place = table.groupby("recipe")["seed"].transform(lambda one: pd.factorize(one)[0])
            return of_all(rl.read_runs(table[place < seeds], compute=compute, **columns), cuts)

        found["grpo_group_size"] = of("grpo_group_size", "step", 0.4, 0.15, 0.05)
        found["pods_l40s_gsm8k"] = of("pods_l40s_gsm8k", "gpu_hours", 0.5, 0.34, seeds=3)
        found["pods_multigpu"] = of("pods_multigpu", "wall_hours", 0.5, 0.25)
    return found


def of_all(runs: rl.Runs, cuts: tuple[float, ...]) -> Study:
    last = runs.table.groupby("recipe", sort=False)["compute"].max()
    return Study(runs, {name: float(end) for name, end in last.items()}, cuts)


def first_run(study: Study, recipe: str) -> rl.Runs:
    """The first run of a recipe: an early recipe usually has one."""
    own = study.runs.select(recipe)
    return own.keep(own.table["run"] == own.table["run"].iloc[0])


def cut_runs(study: Study, cut: float, recipe: str) -> rl.Runs | None:
    """Evaluations of the first run of a recipe up to a cut, or None if they are too few, or none comes later."""
    own = first_run(study, recipe)
    limit = cut * study.ends[recipe]
    before = own.table[own.table["compute"].between(0.0, limit, inclusive="right")]
    enough = before.groupby("run")["compute"].nunique().ge(FEWEST)
    later = own.table[own.table["compute"] > limit]
    return own.until(limit) if len(enough) and enough.all() and len(later) else None


class Work:
    """Results in a folder, each made once, by several processes."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: tuple[object, ...]) -> Path:
        return self.folder / ("--".join(str(part).replace("/", "_") for part in key) + ".pickle")

    def get(self, *key: object) -> Any:
        return pickle.loads(self.path(key).read_bytes())

    def make(self, title: str, tasks: Iterable[tuple[tuple[object, ...], Callable[..., Any], tuple[Any, ...]]]) -> None:
        """Make what is missing: for each key what its function returns for its arguments."""
        missing = [task for task in tasks if not self.path(task[0]).exists()]
        print(f"{title}: {len(missing)} to do", flush=True)
        if not missing:
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(self.folder / "programs")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
        began = time.perf_counter()
        failed: list[BaseException] = []
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(made, call, given): key for key, call, given in missing}
            for number, done in enumerate(as_completed(waiting), 1):
                path = self.path(waiting[done])
                if error := done.exception():  # the others are still written
                    print(f"  {path.stem} failed: {error!r}", flush=True)
                    failed.append(error)
                    continue
                partial = path.with_suffix(".partial")
                partial.write_bytes(done.result())
                partial.rename(path)
                if number % 20 == 0 or number == len(missing):
                    print(f"  {number} of {len(missing)}, {time.perf_counter() - began:.0f} s", flush=True)
        if failed:
            raise failed[0]


def made(call: Callable[..., Any], given: tuple[Any, ...]) -> bytes:
    """In a worker: the result, pickled here so that the driver only writes it."""
    return pickle.dumps(call(*given))


def finished(runs: rl.Runs) -> rl.Fit:
    """Fit of all evaluations of one recipe."""
    (fit,) = rl.fit(runs, cores=1, progress=False).values()
    return fit


def forecast_of(
    study: Study, cut: float, recipe: str, priors: rl.SigmoidPriors | None, baselines: bool
) -> tuple[dict[str, Any], rl.Fit]:
    """What `forecast_with` finds for one recipe cut early and fitted under these priors; and its fit."""
    before = cut_runs(study, cut, recipe)
    assert before is not None
    (fit,) = rl.fit(before, priors, cores=1, progress=False).values()
    return forecast_with(study, cut, recipe, fit, baselines), fit


def forecasts_together(
    study: Study, cut: float, fits: dict[str, rl.Fit], reference: rl.LearnedPriors | None
) -> dict[str, dict[str, Any]]:
    """What `forecast_with` finds for recipes cut at the same place and pooled, as `rlceiling.fit(pool=True)` does.

    Fewer draws than by default are made, and chains may differ by more, which moves scores little.
    """
    made = Learned(usable_fits(fits), reference=reference, cores=1)
    pooled = {name: one for name, one in made.pooled().items() if one.convergence.r_hat < MAX_R_HAT}
    return {
        name: forecast_with(study, cut, name, pooled[name], False)
        if name in pooled
        else forecast_only(study, cut, name, made.priors(name), False)
        for name in fits
    }


def forecast_with(study: Study, cut: float, recipe: str, fit: rl.Fit, baselines: bool) -> dict[str, Any]:
    """Scores, levels and curves ahead, and verdict of one recipe cut early."""
    whole = {run.run: run for run in first_run(study, recipe).iter_runs()}
    limit = cut * study.ends[recipe]
    points = []
    for run in fit.runs:
        of_run = whole[run.run]
        (later,) = np.nonzero(of_run.compute > limit)
        if not len(later):
            continue
        later = later[:: -(-len(later) // MOST)]
        compute, reward = of_run.compute[later], of_run.reward[later]
        rng = np.random.default_rng(0)
        predictive = predict(fit, compute, run.run)
        forecasts = {"model": Mixture(predictive.mean, predictive.sd)}
        if baselines:
            forecasts |= {name: one(run, compute, rng) for name, one in BASELINES.items() if name != "bootstrap"}
            forecasts[LINE] = line(run.compute, run.reward, compute)
        for method, forecast in forecasts.items():
            scored = score_forecast(forecast, reward, (0.0, 1.0), rng)
            points.append(scored.assign(method=method, run=run.run, compute=compute, reward=reward))
    at = np.array(AHEAD) * limit
    of_recipe = predict(fit, at).curve
    levels = [level_draws(fit, predict(fit, at, name), name) for name in fit.run_names]
    some = np.linspace(0, len(of_recipe) - 1, KEPT).astype(int)
    return {
        "points": pd.concat(points, ignore_index=True),
        "recipe": of_recipe[some].astype(np.float32),
        "level": np.mean(levels, axis=0)[some].astype(np.float32),
        "now": float(np.mean([run.reward[-1] for run in fit.runs])),
        "verdict": fit.verdict.name,
        "own share": fit.own_share,
        "unlike": dict(fit.unlike),
        "A": fit.interval("A"),
        "together": fit.settings.sampled_together,
    }


def line(compute: np.ndarray, reward: np.ndarray, later: np.ndarray) -> Mixture:
    """Forecast of a straight line in ln C, with the error of its parameters and of an evaluation."""
    x, at = np.log(compute), np.log(later)
    design, ahead = (np.stack([np.ones_like(v), v - x.mean()], axis=-1) for v in (x, at))
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ reward
    freedom = len(x) - 2
    variance = np.sum((reward - design @ beta) ** 2) / freedom * (1.0 + np.sum(ahead @ inverse * ahead, axis=1))
    # A Student t distribution is a mixture of normals whose precisions are distributed as chi square.
    precision = stats.chi2(freedom).ppf((np.arange(200) + 0.5) / 200.0)[:, None] / freedom
    return Mixture(np.tile(ahead @ beta, (200, 1)), np.sqrt(variance / precision))


def forecast_only(*given: Any) -> dict[str, Any]:
    return forecast_of(*given)[0]


def population(fits: dict[str, rl.Fit]) -> dict[str | None, rl.LearnedPriors]:
    """Priors of one more recipe of a study, and of each of its recipes from the others."""
    learned = Learned(usable_fits(fits), settings=LONGER, cores=1)
    return {name: learned.priors(name) for name in [None, *fits]}


def studied(fits: dict[str, rl.Fit]) -> Learned:
    """Population of a study as others learn from it, with spreads between runs."""
    made = Learned(usable_fits(fits), names=learned_names(several=True, left_out=OF_ITS_STUDY), cores=1)
    made.population  # noqa: B018 (sampled here, in a worker)
    return made


def usable(fits: dict[str, rl.Fit]) -> bool:
    """Whether anything can be learned from these fits."""
    try:
        usable_fits(fits)
    except rl.DataError:
        return False
    return True


def learn(work: Work, found: dict[str, Study]) -> list[str]:
    """Make what finished runs teach; returns the studies that teach anything."""
    if not work.path(("reference", "all")).exists():
        recipes = {name: study.runs.recipes for name, study in found.items()}
        every = [(name, recipe) for name, own in recipes.items() for recipe in own]
        tasks = [(("whole", *key), finished, (found[key[0]].runs.select(key[1]),)) for key in every]
        work.make("fits of whole runs", tasks)
        fits = {name: {recipe: work.get("whole", name, recipe) for recipe in own} for name, own in recipes.items()}
        fits = {name: own for name, own in fits.items() if usable(own)}
        tasks = [(("study", name), studied, (own,)) for name, own in fits.items()]
        tasks += [(("history", name), population, (own,)) for name, own in fits.items()]
        work.make("populations of finished runs", tasks)
        made = {name: work.get("study", name) for name in fits}
        others = {name: {other: own for other, own in made.items() if other != name} for name in found}
        tasks = [(("reference", name), between_studies, (own,)) for name, own in others.items() if len(own) > 1]
        work.make("references", [*tasks, (("reference", "all"), between_studies, (made,))])
    return [name for name in found if work.path(("history", name)).exists()]


def do_all(work: Work, found: dict[str, Study], without: list[str]) -> dict[str, list[tuple[float, str]]]:
    """Make all fits; returns the recipes that can be cut, by study.

    Recipes of the studies `without` are not cut; the others still learn from them.
    """
    fits, recipes = learn(work, found), {name: study.runs.recipes for name, study in found.items()}
    cut = {
        name: [(c, recipe) for c in study.cuts for recipe in recipes[name] if cut_runs(study, c, recipe) is not None]
        for name, study in found.items()
        if name not in without
    }
    every_cut = [(name, c, recipe) for name, own in cut.items() for c, recipe in own]
    tasks = [(("cut", ALONE, *key), forecast_of, (found[key[0]], *key[1:], None, True)) for key in every_cut]
    work.make("cut runs alone", tasks)
    alone = {key: work.get("cut", ALONE, *key)[1] for key in every_cut}
    tasks = []
    for name in cut:
        study = found[name]
        for c in study.cuts:
            own = {recipe: alone[name, c, recipe] for at, recipe in cut[name] if at == c}
            if own and usable(own):
                for variant, reference in ((POOLED, work.get("reference", name)), (POOLED_WEAKLY, None)):
                    tasks.append(((variant, name, c), forecasts_together, (study, c, own, reference)))
    work.make("cut runs together", tasks)
    tasks = []
    for name, c, recipe in every_cut:
        variants = {REFERENCE: work.get("reference", name)}
        if name in fits:
            variants[HISTORY] = work.get("history", name)[recipe]
        if c == found[name].cuts[-1]:
            variants |= {f"{FROM}{other}": work.get("history", other)[None] for other in fits if other != name}
        for variant, priors in variants.items():
            key = ("cut", variant, name, c, recipe)
            tasks.append((key, forecast_only, (found[name], c, recipe, priors, False)))
    work.make("cut runs in the light of others", tasks)
    return cut


def variants_of(work: Work, name: str, c: float, recipe: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was found for one cut recipe under every variant."""
    for path in sorted(work.folder.glob(f"cut--*--{name}--{c}--{recipe.replace('/', '_')}.pickle")):
        got = pickle.loads(path.read_bytes())
        yield path.name.split("--")[1], got[0] if isinstance(got, tuple) else got
    for variant in (POOLED, POOLED_WEAKLY):
        if work.path((variant, name, c)).exists():
            yield variant, work.get(variant, name, c)[recipe]


def rows(work: Work, name: str, c: float, recipe: str) -> Iterator[dict[str, Any]]:
    """Scores of one cut recipe under every variant and baseline."""
    for variant, got in variants_of(work, name, c, recipe):
        for method, own in got["points"].groupby("method", sort=False):
            off = (own["pit"] - 0.5).abs()
            row = {"study": name, "cut": c, "recipe": recipe, "method": variant if method == "model" else method}
            row |= {"in 50%": (off <= 0.25).mean(), "in 90%": (off <= 0.45).mean(), "crps": own["crps"].mean()}
            row |= {"log score": own["log_score"].mean(), "bias": (own["mean"] - own["reward"]).mean()}
            if method == "model":
                row |= {"identified": got["verdict"] == "IDENTIFIED", "own share": got["own share"]}
                row |= {f"unlike in {group}": chance for group, chance in got["unlike"].items()}
            yield row


def of_pairs(work: Work, name: str, cut: list[tuple[float, str]], study: Study) -> Iterator[dict[str, Any]]:
    """Chances of all pairs of recipes that are cut at the same compute, beside what came."""
    for c in study.cuts:
        recipes = [recipe for at, recipe in cut if at == c]
        made = {recipe: dict(variants_of(work, name, c, recipe)) for recipe in recipes}
        limits = {recipe: c * study.ends[recipe] for recipe in recipes}
        for i, multiple in enumerate(AHEAD):
            later = {recipe: reward_at(study, recipe, multiple * limits[recipe]) for recipe in recipes}
            for first, second in combinations(recipes, 2):
                if abs(np.log(limits[first] / limits[second])) > 0.1:
                    continue
                truth = later[first] > later[second]
                if not np.isfinite(later[first] + later[second]):
                    continue
                for variant in (ALONE, REFERENCE, HISTORY, POOLED, POOLED_WEAKLY):
                    if not all(variant in made[one] for one in (first, second)):
                        continue
                    a, b = (made[one][variant] for one in (first, second))
                    row = {"study": name, "cut": c, "ahead": multiple, "first": first, "second": second}
                    row |= {"method": variant, "truth": bool(truth), "now": bool(a["now"] > b["now"])}
                    for of in ("recipe", "level"):
                        row[of] = chance_above(a, b, of, i)
                    yield row


def chance_above(a: dict[str, Any], b: dict[str, Any], of: str, ahead: int) -> float:
    """Chance that one is above the other, draw by draw where their draws belong together, else over all pairs."""
    one, other = a[of][:, ahead], b[of][:, ahead]
    together = bool(a["together"]) and a["together"] == b["together"]
    return float((one > other).mean() if together else (one[:, None] > other).mean())


def reward_at(study: Study, recipe: str, compute: float) -> float:
    """Evaluations of a recipe at a compute, on straight lines in ln C between them; NaN beyond the last."""
    found = []
    for run in first_run(study, recipe).iter_runs():
        if run.compute[0] <= compute <= run.compute[-1]:
            found.append(np.interp(np.log(compute), np.log(run.compute), run.reward))
    return float(np.mean(found)) if found else np.nan


def chances(table: pd.DataFrame, of: str) -> pd.Series:
    """Brier score of the chances of pairs, beside one half and the order of the last values, and claims that hold."""
    p, truth = table[of], table["truth"]
    sure = p.where(p >= 0.5, 1.0 - p)
    right = (p >= 0.5) == truth
    found = {"pairs": len(table), "Brier": ((p - truth) ** 2).mean(), "one half": 0.25}
    found["order of last values"] = (table["now"] != truth).mean()
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        claim = sure.between(low, high, inclusive="left")
        found |= {f"claims {low:g} to {min(high, 1.0):g}": claim.sum(), f"right of {low:g}": right[claim].mean()}
    return pd.Series(found)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "rlceiling-studies")
    asked.add_argument("--workers", type=int, default=os.cpu_count())
    asked.add_argument("--part", choices=("forecasts", "reference"), default="forecasts")
    asked.add_argument("--without", action="append", default=[], help="studies whose recipes are not cut")
    given = asked.parse_args()
    began = time.perf_counter()
    work, found = Work(given.work, given.workers), studies()
    if given.part == "reference":
        learn(work, found)
        reference = work.get("reference", "all")
        print(reference)
        reference.save(REFERENCE_FILE)
        return
    cut = do_all(work, found, given.without)
    table = pd.DataFrame(row for name, own in cut.items() for c, recipe in own for row in rows(work, name, c, recipe))
    cut_recipe = ["study", "cut", "recipe"]
    alone = table[table["method"] == ALONE].set_index(cut_recipe)["crps"].rename("crps alone")
    table = table.join(alone, on=cut_recipe)

    def means(*by: str) -> pd.DataFrame:
        found = table.groupby(list(by), sort=False)[[*SCORES, "crps alone"]].mean()
        found["recipes"] = table.groupby(list(by), sort=False).size()
        found["of alone"] = found["crps"] / found.pop("crps alone")
        return found

    scores = means("study", "cut", "method")
    pooled = table.loc[table["method"] == POOLED, cut_recipe]
    left_out = len(alone) - len(pooled)
    table = table.merge(pooled, on=cut_recipe)  # so that all methods have the same recipes
    every = means("method").drop(index=[name for name in table["method"].unique() if name.startswith(FROM)])
    pairs = pd.DataFrame(row for name, own in cut.items() for row in of_pairs(work, name, own, found[name]))
    tables = {"every cut recipe counted once": every, "by study and cut": scores}
    for of in ("recipe", "level"):
        for by in (["method"], ["method", "study"], ["method", "study", "cut", "ahead"]):
            title = f"chances of pairs, {of}, by {' and '.join(by)}"
            tables[title] = pairs.groupby(by, sort=False)[list(pairs)].apply(chances, of)
    for title, one in tables.items():
        show(title, one)
    record(
        "studies",
        "studies.py" + "".join(f" --without {name}" for name in given.without),
        tables,
        [f"{len(pooled)} cut recipes; left out {left_out}", " ".join(f"{multiple:g}" for multiple in AHEAD)],
        time.perf_counter() - began,
    )


if __name__ == "__main__":
    sys.exit(main())
