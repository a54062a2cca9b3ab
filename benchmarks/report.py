"""How long the HTML report takes to make and how large it is, for the bundled recipes and for simulated ones.

python benchmarks/report.py          the 23 recipes of ScaleRL, and 200 simulated ones

Results go to results/report.json.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from calibration.results import record

import rlceiling as rl
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.inference.xla_flags import set_flag

SIMULATED = 200
COMPUTE = np.geomspace(300.0, 16_000.0, 20)
"""Of the simulated runs, in GPU-hours."""


def main() -> None:
    set_flag()
    simulated, _ = simulate_from_priors(SIMULATED, COMPUTE)
    rows = []
    for runs in (rl.load_dataset("scalerl"), simulated):
        begin = time.perf_counter()
        fits = rl.fit(runs, progress=False)
        fitted = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            rl.write_report(fits, path, progress=False)
            seconds, size = time.perf_counter() - fitted, path.stat().st_size
        n = len(fits)
        rows.append(
            {"recipes": n, "fit (s)": fitted - begin, "report (s)": seconds, "seconds a recipe": seconds / n}
            | {"size (MB)": size / 1e6, "kB a recipe": size / 1e3 / n}
        )
    table = pd.DataFrame(rows)
    print(table.round(2).to_string(index=False))
    record("report", "report.py", {"report": table}, folder=Path(__file__).parent)


if __name__ == "__main__":
    main()
