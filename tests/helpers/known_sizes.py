"""Runs of models of several sizes whose law is known, and their posteriors, fitted once for all tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

import rlceiling as rl
from once import once

LENIENT = rl.SizeRules(max_r_hat=9, min_ess=0, max_divergences=10**6, min_e_bfmi=0)
QUICK = {"chains": 2, "tune": 300, "draws": 300, "progress": False, "rules": LENIENT}
SHORT = {**QUICK, "tune": 100, "draws": 100}
"""As few steps as `fit_sizes` takes, where the runs alone decide what is found or only its form is looked at."""

SIZES = (0.5, 1.5, 4.0, 12.0, 40.0)
E_MAX, N0, SIGMA = 0.12, 8.0, 0.004


def table(sizes: tuple[float, ...] = SIZES, n: int = 14, seed: int = 0) -> pd.DataFrame:
    """Runs of a known power law, independent noise."""
    rng = np.random.default_rng(seed)
    flops = np.geomspace(1e17, 1e20, n)
    parts = []
    for size in sizes:
        loss = (0.75 - 0.05 * np.log(size)) * (flops / 1e18) ** (-E_MAX / (1.0 + N0 / size))
        reward = 1.0 - loss + SIGMA * rng.standard_normal(n)
        parts.append(pd.DataFrame({"model_size": size, "flops": flops, "samples": flops / size, "pass_rate": reward}))
    return pd.concat(parts, ignore_index=True)


def bending(seed: int = 0) -> pd.DataFrame:
    """Runs of a known ceiling law that have bent."""
    rng = np.random.default_rng(seed)
    frame = table()
    A = 0.9 - 0.55 * frame["model_size"] ** -0.25
    share = 1.0 / (1.0 + (1e18 * frame["model_size"] ** 0.3 / frame["flops"]) ** 1.4)
    return frame.assign(pass_rate=0.1 + (A - 0.1) * share + SIGMA * rng.standard_normal(len(frame)))


def read(frame: pd.DataFrame, **given: object) -> rl.Runs:
    return rl.read_runs(frame, compute="flops", recipe="model_size", **given)


def power() -> rl.Sizes:
    """Posterior of the power law on its own runs."""
    return once("sizes_power", lambda: rl.fit_sizes(read(table()), **QUICK))


def ceiling() -> rl.Sizes:
    """Posterior of the ceiling law on its own runs."""
    return once("sizes_ceiling", lambda: rl.fit_sizes(read(bending()), law="ceiling", **SHORT))
