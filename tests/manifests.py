"""Manifests that several test modules read."""

from __future__ import annotations

from pathlib import Path

import rlceiling as rl

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
