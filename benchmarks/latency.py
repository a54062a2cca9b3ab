"""What one waits for: the import, the main job with and without kept programs, and a refit with new data.

python benchmarks/latency.py

Results go to results/latency.json.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from calibration.results import record

import rlceiling as rl
from rlceiling.inference.xla_flags import set_flag

RECIPE = "ScaleRL"


def seconds(*command: str, **environment: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)
    return time.perf_counter() - began


def main() -> None:
    set_flag()
    lines = [f"Python {sys.version.split()[0]}, JAX {jax.__version__}, 23 recipes, 4 chains x (500 + 1000)"]
    print(lines[0])
    rows: list[dict[str, object]] = []

    def tell(what: str, value: float, unit: str) -> None:
        rows.append({"what": what, "value": value, "unit": unit})
        print(f"{what}: {value:.3g} {unit}")

    bare = min(seconds(sys.executable, "-c", "pass") for _ in range(5))
    ours = min(seconds(sys.executable, "-c", "import rlceiling") for _ in range(5))
    tell("import rlceiling", 1000 * (ours - bare), "ms")

    with tempfile.TemporaryDirectory() as folder:
        kept = {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
        job = [sys.executable, "-m", "rlceiling", "fit", "scalerl", "--out", str(Path(folder) / "fits"), "--quiet"]
        without = seconds(*job, "--no-compile-cache")
        seconds(*job, **kept)
        tell("rlceiling fit scalerl", without, "s")
        tell("rlceiling fit scalerl with a warm compile cache", seconds(*job, **kept), "s")
    tell("its peak memory", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, "GiB")

    runs = rl.load_dataset("scalerl")
    for what in ("first", "second"):
        began = time.perf_counter()
        rl.fit(runs, progress=False)
        took = time.perf_counter() - began
        tell(f"{what} fit of all in a process", took, "s")
        tell(f"{what} fit of all in a process, for each recipe", took / len(runs.recipes), "s")

    rows = runs.select(RECIPE).table
    took = []
    for left_out in range(6, 0, -1):
        grown = rl.read_runs(rows.iloc[:-left_out])
        began = time.perf_counter()
        rl.fit(grown, progress=False)[RECIPE].sentence()
        took.append(time.perf_counter() - began)
    tell(f"refit of {RECIPE} with one more evaluation, median of {len(took)}", float(np.median(took)), "s")
    record("latency", "latency.py", {"latency": pd.DataFrame(rows)}, lines, folder=Path(__file__).parent)


if __name__ == "__main__":
    main()
