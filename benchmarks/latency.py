"""Time and memory of the main job from a fresh process, and of a second fit in the same process.

python benchmarks/latency.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time

import rlceiling as rl


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "rlceiling", "fit", "scalerl", "--out", folder, "--quiet"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        fresh = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    runs = rl.load_dataset("scalerl")
    began = time.perf_counter()
    rl.fit(runs, progress=False)
    first = time.perf_counter() - began
    began = time.perf_counter()
    rl.fit(runs, seed=1, progress=False)
    second = time.perf_counter() - began
    print(f"Python {sys.version.split()[0]}, 23 recipes, 4 chains x (1000 + 1000)")
    print(f"main job, fresh process: {fresh:.1f} s, peak memory {peak:.2f} GiB")
    print(
        f"first fit in a process: {first:.1f} s; second: {second:.1f} s ({second / len(runs.recipes):.2f} s a recipe)"
    )


if __name__ == "__main__":
    main()
