"""Priors learned from earlier runs: forecasts of recipes that were left out, beside those of each recipe alone.

python benchmarks/calibration/learning.py [scalerl] [grpo_group_size]
python benchmarks/calibration/learning.py picture

Without a name, both data sets. Results go to results/learning-*.json, the picture of one recipe, cut at half of its
train part, to learning.png.

Each recipe of `scalerl` is cut at the end and at half of its train part, and its later evaluations are forecast under
priors that were learned from the train parts of the other 22. The recipes of `grpo_group_size`, which is another task,
are forecast under priors that were learned from all of `scalerl`; these data may not be passed on, are read from the
folder shared/data beside the repository, and are left out where that is absent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from futures import HERE, SHARED, by_run, futures, show
from results import record

import rlceiling as rl
from rlceiling.fitting.learn_priors import Study, usable_fits
from rlceiling.report.style import GREY, new_picture

ALONE, LEARNED, MODEL = "alone", "learned from others", "rlceiling"
BASELINES = ("least squares", "last value")
CUTS = {"half of the train part": 0.5, "end of the train part": 1.0}
DRAWN, PICTURE = "MiniMax", HERE / "learning.png"
COLUMNS = ["in 50%", "in 90%", "crps", "bias"]

Priors = rl.SigmoidPriors | Mapping[str, rl.SigmoidPriors] | None


def both_ways(runs: rl.Runs, learned: Priors, **cuts: Any) -> tuple[rl.Backtest, rl.Backtest]:
    """Backtests of each recipe alone, with the baselines, and under learned priors."""
    alone = rl.backtest(runs, **cuts, methods=(MODEL, *BASELINES), progress=False)
    in_their_light = rl.backtest(runs, **cuts, methods=(MODEL,), priors=learned, progress=False)
    return alone, in_their_light


def identified(tested: rl.Backtest) -> float:
    """Share of cut runs whose ceiling is identified."""
    return float((tested.ceilings["verdict"] == "IDENTIFIED").mean())


def scores(alone: rl.Backtest, learned: rl.Backtest) -> pd.DataFrame:
    """Scores of all methods, every cut run counted once, with the share of runs whose ceiling is identified."""
    table = pd.concat([by_run(learned).rename(index={MODEL: LEARNED}), by_run(alone).rename(index={MODEL: ALONE})])
    table = table.loc[[LEARNED, ALONE, *BASELINES], COLUMNS].rename_axis("method")
    return table.assign(identified=pd.Series({LEARNED: identified(learned), ALONE: identified(alone)}))


def runs_and_left_out(tested: rl.Backtest) -> str:
    """Number of cut runs, and why others could not be used."""
    reasons = tested.skipped["reason"].str.replace(r"^\d+ evaluations?", "too few evaluations", regex=True)
    left = "".join(f"; left out {number}: {reason}" for reason, number in reasons.value_counts().items())
    return f"{len(tested.ceilings)} cut runs{left}"


def by_recipe(alone: rl.Backtest, learned: rl.Backtest) -> pd.DataFrame:
    """CRPS of each recipe alone and under learned priors, and what the fits say about what they leaned on."""
    found = {
        name: tested.scores("recipe").xs(MODEL, level="method")[["in 90%", "crps"]]
        for name, tested in ((ALONE, alone), (LEARNED, learned))
    }
    (fits,) = learned.fits.values()
    own = pd.DataFrame({name: {"own share": fit.own_share} | dict(fit.unlike) for name, fit in fits.items()}).T
    own = own.rename(columns={group: f"unlike in {group}" for group in own.columns[1:]})
    return pd.concat([pd.concat(found, axis=1), pd.concat({"": own}, axis=1)], axis=1).rename_axis("recipe")


def history() -> Study:
    """Population of the train parts of the bundled recipes."""
    return Study(usable_fits(rl.fit(rl.load_dataset("scalerl"), progress=False)))


def siblings(study: Study) -> None:
    """Each recipe of `scalerl` under priors from the others of its study."""
    began = time.perf_counter()
    train, whole = rl.load_dataset("scalerl"), rl.load_dataset("scalerl", split="all")
    learned = {name: study.priors(leave_out=name) for name in train.recipes}
    ends = {run.recipe: float(run.compute[-1]) for run in train.iter_runs()}
    tables, lines = {}, []
    for title, share in CUTS.items():
        alone, others = both_ways(whole, learned, cut_compute={name: share * end for name, end in ends.items()})
        tables[title], tables[f"{title}, by recipe"] = scores(alone, others), by_recipe(alone, others)
        verdicts = {ALONE: alone.verdicts(), LEARNED: others.verdicts()}
        tables[f"{title}, verdicts"] = pd.concat(verdicts, names=["method"]).droplevel("cut")
        lines.append(f"{title}: {runs_and_left_out(alone)}")
        show(lines[-1], tables[title])
        for part in ("by recipe", "verdicts"):
            show(f"{title}, {part}", tables[f"{title}, {part}"])
    lines.append(f"fitted again before the population was sampled: {len(study.refitted)} of {len(study.fits)}")
    record("learning-scalerl", "learning.py scalerl", tables, lines, time.perf_counter() - began)


def another_task(study: Study) -> None:
    """Recipes of another task under priors from `scalerl`."""
    if not SHARED.is_dir():
        print(f"\ngrpo_group_size is left out: there is no folder {SHARED.name} beside the repository")
        return
    began = time.perf_counter()
    runs, cuts = futures()["grpo_group_size"]
    alone, others = both_ways(runs, study.priors(), **cuts)
    tables = {"all cuts": scores(alone, others)}
    for cut in alone.fits:
        tables[cut] = scores(of_cut(alone, cut), of_cut(others, cut))
    unlike = {
        (cut, name): {"own share": fit.own_share} | {f"unlike in {group}": p for group, p in fit.unlike.items()}
        for cut, fits in others.fits.items()
        for name, fit in fits.items()
    }
    tables["unlike"] = pd.DataFrame(unlike).T.rename_axis(["cut", "recipe"])
    lines = [runs_and_left_out(alone)]
    for title, table in tables.items():
        show(title, table)
    record("learning-grpo_group_size", "learning.py grpo_group_size", tables, lines, time.perf_counter() - began)


def of_cut(tested: rl.Backtest, cut: str) -> rl.Backtest:
    """The part of a backtest that belongs to one cut."""
    points, ceilings = (table[table["cut"] == cut] for table in (tested.points, tested.ceilings))
    return replace(tested, points=points, ceilings=ceilings)


def picture(study: Study) -> None:
    """Draw one early run alone and under priors from the other recipes, with its later evaluations."""
    whole = rl.load_dataset("scalerl", split="all").select(DRAWN)
    end = float(rl.load_dataset("scalerl").select(DRAWN).table["compute"].max())
    early, last = whole.until(0.5 * end), float(whole.table["compute"].max())
    later = whole.table[whole.table["compute"] > 0.5 * end]
    priors = {"alone": None, f"under priors from {len(study.fits) - 1} others": study.priors(leave_out=DRAWN)}
    drawing = new_picture(10.0, 4.6)
    axes = drawing.subplots(1, len(priors), sharey=True)
    for ax, (title, learned) in zip(axes, priors.items(), strict=True):
        (fit,) = rl.fit(early, learned, progress=False).values()
        print(fit.sentence())
        rl.plot_curves(fit, until=1.15 * last, ax=ax)
        ax.plot(later["compute"], later["reward"], "o", color="black", fillstyle="none", markersize=4.5)
        ax.set_title(f"{DRAWN} {title}: {fit.verdict.name}", loc="left", fontsize="medium")
        ax.get_legend().remove()
    axes[1].set_ylabel("")
    note = "filled: fitted; open: came later; hatched: 90% band of the run as it goes on"
    drawing.suptitle(note, x=0.01, ha="left", fontsize="small", color=GREY)
    drawing.savefig(PICTURE)


SETS: dict[str, Callable[[Study], None]] = {"scalerl": siblings, "grpo_group_size": another_task}
PARTS = SETS | {"picture": picture}


def main() -> None:
    asked = sys.argv[1:] or list(SETS)
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        sys.exit(f"learning.py has no part {unknown[0]!r}; it has: {', '.join(PARTS)}.")
    study = history()
    for name in asked:
        PARTS[name](study)


if __name__ == "__main__":
    sys.exit(main())
