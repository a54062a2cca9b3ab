"""Logs: how many of those of known trainers and trackers are read as they are, and time and memory for a large one.

python benchmarks/logs.py --gigabytes 1

Results go to results/logs.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from calibration.results import record

import rlceiling as rl

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))

KEYS = 120
"""Keys of a row of a large log, as verl logs them."""

PROBE = """
import resource, sys, time
import rlceiling as rl
rl.read_runs, rl.read_log
before = resource.getrusage(resource.RUSAGE_SELF)
runs = rl.read_log(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF)
print(len(runs), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 2**20)
"""


def read_all(folder: Path) -> pd.DataFrame:
    """What is read of each log without any option."""
    from made_logs import LOGS

    rows = []
    for made in LOGS:
        place = folder / made.name.replace(" ", "-").replace("/", "-")
        place.mkdir()
        path = made.write(place)
        try:
            runs = rl.read_log(path)
            right = (runs.reward_label, runs.compute_label, len(runs)) == (made.metric, made.compute, len(made.steps))
            rows.append((made.name, "read" if right else "misread", runs.reward_label, runs.compute_label))
        except rl.DataError as error:
            rows.append((made.name, f"refused: {error}", "", ""))
    return pd.DataFrame(rows, columns=["log", "result", "reward", "compute"])


def write_large(path: Path, gigabytes: float) -> int:
    """Write JSON lines as of verl's file logger, with an evaluation at each 1,000th step."""
    draw = random.Random(0)
    names = [f"actor/some_metric_{i}/mean" for i in range(KEYS)]
    step = written = 0
    with path.open("w") as file:
        while written < gigabytes * 1e9:
            data = {name: draw.random() for name in names}
            data |= {"timing_s/step": 60.0 + draw.random(), "perf/total_num_tokens": 800_000, "perf/throughput": 1600.0}
            if step % 1000 == 0:
                data["val-core/math/acc/mean@8"] = 0.2 + 0.3 * step / (step + 50_000.0)
            written += file.write(json.dumps({"step": step, "data": data}) + "\n")
            step += 1
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        logs = read_all(Path(name))
        print(logs.to_string(index=False), flush=True)
        large = Path(name) / "large.jsonl"
        steps = write_large(large, given.gigabytes)
        size = large.stat().st_size
        done = subprocess.run([sys.executable, "-c", PROBE, str(large)], capture_output=True, text=True, check=True)
        evaluations, seconds, peak = (float(cell) for cell in done.stdout.split())
    row = {"GB": size / 1e9, "rows": steps, "evaluations": int(evaluations), "CPU s": seconds, "peak GiB": peak}
    print(row)
    right = int((logs["result"] == "read").sum())
    record(
        "logs",
        f"logs.py --gigabytes {given.gigabytes:g}",
        {"logs": logs, "large": pd.DataFrame([row])},
        [f"{right} of {len(logs)} logs are read as they are"],
        time.perf_counter() - began,
        HERE,
    )


if __name__ == "__main__":
    main()
