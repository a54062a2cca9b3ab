"""Recipes with several runs, in percent, simulated and fitted once for all tests that read them.

They are padded to the same shape, so one compiled program does for all.
"""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

import rlceiling as rl
from once import once
from rlceiling.curves import sigmoid_curve

LENIENT = rl.VerdictRules(max_r_hat=9, min_ess=0, max_divergences=10**6, min_e_bfmi=0)
"""Whatever the chains say, the first try counts and the runs alone decide the verdict."""

SHORT = {"chains": 2, "tune": 100, "draws": 100, "rules": LENIENT}
"""As few steps as `fit` takes: a step of several runs costs much more than one of a single run."""

START = {"uneven": 40.0, "collapsed": 20.0, "low": 20.0}
"""Step-0 score of each recipe, that of its base model: all its runs log the same."""

UNEVEN = {"short": (62.0, 8), "one": (60.0, 1), "middle": (57.0, 10), "long": (60.0, 14)}
"""Ceiling and number of evaluations of each run of a sound recipe; the longest comes last."""

SEEDS = ("7", "3", "1", "2", "5")
"""Runs of the recipes of which one run, "1", is not like its siblings."""


def scores(recipe: str, ceiling: float, compute: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scores of a run around its curve, step 0 included."""
    curve = sigmoid_curve(compute, ceiling, 1.8, 2000.0, START[recipe])
    return np.r_[START[recipe], curve + 0.25 * rng.standard_normal(len(compute))]


def rows(recipe: str, run: str, compute: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    columns = {"recipe": recipe, "seed": run, "gpu_hours": np.r_[0.0, compute], "score": score, "n_eval": 16_000}
    return pd.DataFrame(columns)


def simulated() -> rl.Runs:
    """All recipes, the sound one last."""
    rng = np.random.default_rng(6)
    tables = []
    compute = np.geomspace(300.0, 16_000.0, 12)
    for recipe in ("collapsed", "low"):
        for run, ceiling in zip(SEEDS, (60.5, 59.5, 60.0, 60.0, 60.8), strict=True):
            score = scores(recipe, 40.0 if (recipe, run) == ("low", "1") else ceiling, compute, rng)
            if (recipe, run) == ("collapsed", "1"):
                score[7:] = 30.0 + 0.25 * rng.standard_normal(6)
            tables.append(rows(recipe, run, compute, score))
    for run, (ceiling, n) in UNEVEN.items():
        compute = np.geomspace(300.0, 16_000.0, n) if n > 1 else np.array([4000.0])
        tables.append(rows("uneven", run, compute, scores("uneven", ceiling, compute, rng)))
    return rl.read_runs(pd.concat(tables), run="seed", reward="score", reward_bounds=(0, 100))


@functools.cache
def fits() -> rl.Fits:
    """Their posteriors, all fitted in one call."""
    return once("several", lambda: rl.fit(simulated(), **SHORT))
