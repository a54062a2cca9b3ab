"""How long the HTML report takes to make and how large it is, for the bundled recipes and for simulated ones.

python benchmarks/report.py          the 23 recipes of ScaleRL, and 200 simulated ones
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

import rlceiling as rl
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.inference.xla_flags import set_flag

SIMULATED = 200
COMPUTE = np.geomspace(300.0, 16_000.0, 20)
"""Of the simulated runs, in GPU-hours."""


def main() -> None:
    set_flag()
    simulated, _ = simulate_from_priors(SIMULATED, COMPUTE)
    print("recipes  fit (s)  report (s)  seconds a recipe  size (MB)  kB a recipe")
    for runs in (rl.load_dataset("scalerl"), simulated):
        begin = time.perf_counter()
        fits = rl.fit(runs, progress=False)
        fitted = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            rl.write_report(fits, path, progress=False)
            seconds, size = time.perf_counter() - fitted, path.stat().st_size
        n = len(fits)
        row = f"{n:7}  {fitted - begin:7.1f}  {seconds:10.1f}  {seconds / n:16.2f}"
        print(f"{row}  {size / 1e6:9.2f}  {size / 1e3 / n:11.1f}")


if __name__ == "__main__":
    main()
