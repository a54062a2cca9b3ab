"""Peak memory of many fits that are given away as they are done.

python benchmarks/memory.py --fits 10000 --draws 100
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

import rlceiling as rl
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.inference.xla_flags import set_flag

COMPUTE = np.geomspace(300.0, 16_000.0, 20)
LENIENT = rl.VerdictRules(max_r_hat=9, min_ess=0, max_divergences=10**6, min_e_bfmi=0)
"""No second tries: this is about memory."""


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=100, help="warm-up steps and draws of each of 2 chains")
    given = parser.parse_args()
    set_flag()
    runs, _ = simulate_from_priors(given.fits, COMPUTE)
    print(f"{given.fits:,} runs read: {peak():.2f} GiB", flush=True)
    began = time.perf_counter()
    ceilings = []
    fits = rl.iter_fits(runs, chains=2, tune=given.draws, draws=given.draws, rules=LENIENT, progress=False)
    for number, fit in enumerate(fits, 1):
        ceilings.append(float(np.median(fit.draws["A"])))
        if number in (10, 100, 1000, given.fits):
            took = time.perf_counter() - began
            print(f"after {number:,} fits: peak {peak():.2f} GiB, {number / took:.1f} fits/s", flush=True)


if __name__ == "__main__":
    main()
