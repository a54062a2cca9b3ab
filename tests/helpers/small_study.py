"""A small study of simulated recipes, fitted alone and pooled once for all tests that read them."""

from __future__ import annotations

import numpy as np
import pandas as pd

import rlceiling as rl
import several
from once import once
from rlceiling.curves import sigmoid_curve

QUICK = {"chains": 4, "tune": 300, "draws": 300, "rules": several.LENIENT, "progress": False}
COMPUTE = np.geomspace(500.0, 9000.0, 14)
CEILINGS = {"a": 0.57, "b": 0.6, "c": 0.62, "d": 0.59}


def table(name: str, ceiling: float, seed: int, *, start: float = 0.4, evaluations: int = 14) -> pd.DataFrame:
    """Evaluations of a simulated recipe with a logged start."""
    rng = np.random.default_rng(seed)
    reward = sigmoid_curve(COMPUTE, ceiling, 1.9, 2500.0, start) + 0.005 * rng.standard_normal(14)
    made = pd.DataFrame({"recipe": name, "gpu_hours": np.append(0.0, COMPUTE), "reward": np.append(start, reward)})
    return made.head(1 + evaluations)


def evaluations() -> pd.DataFrame:
    """Evaluations of all recipes of the study."""
    return pd.concat([table(name, A, i) for i, (name, A) in enumerate(CEILINGS.items())])


def study() -> rl.Runs:
    """The recipes of the study."""
    return rl.read_runs(evaluations())


def alone() -> rl.Fits:
    """Each recipe fitted alone."""
    return once("learning_alone", lambda: rl.fit(study(), **QUICK))


def pooled() -> rl.Fits:
    """The recipes sampled together."""
    return once("learning_pooled", lambda: rl.fit(study(), pool=True, chains=4, tune=300, draws=800, progress=False))
