"""Watch a log that grows: CPU time of a round, and a log that grows to try `rlceiling watch` on.

python benchmarks/watch.py                          CPU time of rounds, to results/watch.json
python benchmarks/watch.py grow runs.csv --every 3  append an evaluation of a bundled run to a file every three seconds
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from calibration.results import record

import rlceiling as rl
from rlceiling.inference.xla_flags import set_flag
from rlceiling.live.refits import GateRule, refit
from rlceiling.live.watch import watch
from rlceiling.live.watch_round import Watched
from rlceiling.live.watch_state import Journal
from rlceiling.runs.growing import snapshot

RECIPE, ROUNDS = "ScaleRL", 24


def log_of() -> list[str]:
    """Lines of the log of a bundled run, the header first."""
    table = rl.load_dataset("scalerl", split="all").select(RECIPE).table
    table = table[["recipe", "compute", "reward"]].rename(columns={"compute": "gpu_hours", "reward": "pass_rate"})
    return table.to_csv(index=False).splitlines(keepends=True)


def grow(path: Path, every: float) -> None:
    """Write the lines one after the other, each in two halves."""
    with path.open("a") as file:
        for line in log_of():
            for half in (line[: len(line) // 2], line[len(line) // 2 :]):
                file.write(half)
                file.flush()
                time.sleep(every / 2.0)


def measure() -> None:
    """CPU time of rounds, every second of which finds a new evaluation."""
    set_flag()
    rl.use_compile_cache()
    lines, took = log_of(), list[float]()
    began = [0.0]

    def read(log: str) -> tuple[rl.Runs, str]:
        with snapshot(Path(log)) as (copy, note):
            return rl.read_runs(copy), note

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "runs.csv"

        def next_round(_: float) -> None:
            took.append(time.process_time() - began[0])
            log.write_text("".join(lines[: len(lines) - (ROUNDS - len(took)) // 2]))
            began[0] = time.process_time()

        def ignore(_: str) -> None:
            pass

        log.write_text("".join(lines[: len(lines) - ROUNDS // 2]))
        began[0] = time.process_time()
        watched = Watched([str(log)], read, lambda runs: runs, refit, GateRule(20_000.0, 0.001), {})
        watch(watched, Journal(Path(folder)), every=0.0, rounds=ROUNDS + 1, sleep=next_round, show=ignore)
    fitted, idle = took[1::2], took[2::2]
    rows = [
        ("the first round of a process", took[0]),
        (f"a round with a refit, median of {len(fitted)}", np.median(fitted)),
        (f"a round without new evaluations, median of {len(idle)}", np.median(idle)),
    ]
    for what, seconds in rows:
        print(f"{what}: {seconds:.2f} s of CPU time")
    table = pd.DataFrame(rows, columns=["what", "seconds"])
    record("watch", "watch.py", {"CPU time": table}, folder=Path(__file__).parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=("measure", "grow"), default="measure")
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--every", type=float, default=3.0)
    args = parser.parse_args()
    if args.action == "measure":
        measure()
    elif args.path is None:
        parser.error("grow needs a file")
    else:
        grow(args.path, args.every)


if __name__ == "__main__":
    main()
