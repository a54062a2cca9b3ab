"""Manifests that several test modules read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import rlceiling as rl

SIZES = (0.5, 1.5, 4.0, 12.0, 40.0)
QUICK = "[sampler]\nchains = 2\ntune = 100\ndraws = 100\nseed = 3\n"
MANIFEST = f"""
[[source]]
files = ["logs/*.csv"]
compute = "gpu_hours"
reward = "pass_rate"
recipe = "recipe"
shares = [0.5]

{QUICK}"""


def write_logs(folder: Path) -> Path:
    """Write two logs and a manifest beside them, and return the manifest."""
    (folder / "logs").mkdir()
    table = rl.load_dataset("scalerl").table
    columns = {"compute": "gpu_hours", "reward": "pass_rate"}
    for name, recipes in (("a", ["ScaleRL", "GSPO"]), ("b", ["Magistral"])):
        rows = table[table["recipe"].isin(recipes)].rename(columns=columns)
        rows[["recipe", "gpu_hours", "pass_rate"]].to_csv(folder / "logs" / f"{name}.csv", index=False)
    (folder / "jobs.toml").write_text(MANIFEST)
    return folder / "jobs.toml"


def write_sizes(folder: Path, name: str = "sizes.csv", sizes: Sequence[float] = SIZES) -> Path:
    """Write runs of models of several sizes that follow a power law with independent noise, without recipes.

    By default there are as many sizes as in `known_sizes`, so that one compiled program does for both.
    """
    rng = np.random.default_rng(0)
    flops = np.geomspace(1e17, 1e20, 8)
    parts = []
    for size in sizes:
        loss = (0.75 - 0.05 * np.log(size)) * (flops / 1e18) ** (-0.12 / (1.0 + 8.0 / size))
        reward = np.round(1.0 - loss + 0.004 * rng.standard_normal(len(flops)), 6)
        parts.append(pd.DataFrame({"params": size, "flops": flops, "samples": flops / size, "pass_rate": reward}))
    pd.concat(parts).to_csv(folder / name, index=False)
    return folder / name


LAW = f"""
[[source]]
files = ["sizes*.csv"]
law = "power-law"
size = "params"
resource = "flops"
reward = "pass_rate"

{QUICK}"""
