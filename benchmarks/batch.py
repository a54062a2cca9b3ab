"""Batches: the same bytes from every executor, what kills and troubles cost, and the memory of the one that hands out.

python benchmarks/batch.py executors       500 jobs by threads, processes, Dask and Ray, two workers each
python benchmarks/batch.py kills           kill -9 of the driver ten times, and of a worker ten times
python benchmarks/batch.py troubles        full disk, read-only store, two drivers, damaged files, a clock that jumps
python benchmarks/batch.py memory          10,000 jobs whose fits are given (about 2 minutes)

`troubles` mounts small file systems, so it wants root on Linux. Each writes results/batch-<name>.json.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pandas as pd
from calibration.results import record

import rlceiling as rl
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.jobs.batch import run_batch
from rlceiling.jobs.job import Outcome, fit_jobs
from rlceiling.jobs.manifest import plan

COMPUTE = np.geomspace(300.0, 16_000.0, 20)
"""Of the simulated runs, in GPU-hours."""

JOBS = 500
QUICK = "[sampler]\nchains = 2\ntune = 100\ndraws = 100\n"
REAL = '[[source]]\ndataset = "scalerl"\nshares = [0.25, 0.5, 0.75]\n'
SIMULATED = '[[source]]\nfiles = ["simulated.csv"]\ncompute = "compute"\nreward = "reward"\nrecipe = "recipe"\n'


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    tasks = {"executors": executors, "kills": kills, "troubles": troubles, "memory": memory}
    if what not in tasks:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        tasks[what](Path(folder))


def keep(part: str, lines: list[str], rows: list[dict[str, object]] | None = None) -> None:
    tables = {part: pd.DataFrame(rows)} if rows else {}
    record(f"batch-{part}", f"batch.py {part}", tables, lines, folder=Path(__file__).parent)


def simulate(folder: Path, recipes: int) -> None:
    runs, _ = simulate_from_priors(recipes, COMPUTE)
    runs.table.to_csv(folder / "simulated.csv", index=False)


def command(folder: Path, store: str, *options: str) -> list[str]:
    manifest, where = str(folder / "jobs.toml"), str(folder / store)
    return [sys.executable, "-m", "rlceiling", "batch", manifest, "--store", where, *options]


def run(folder: Path, store: str, *options: str) -> tuple[int, str, float]:
    begin = time.perf_counter()
    out = subprocess.run(command(folder, store, *options), capture_output=True, text=True, check=False)
    return out.returncode, out.stdout + out.stderr, time.perf_counter() - begin


def contents(store: Path) -> dict[str, str]:
    """What every posterior holds, by its address."""
    return {path.stem: json.loads(path.read_text())["sha256"] for path in store.glob("fits/*/*.json")}


def executors(folder: Path) -> None:
    (folder / "jobs.toml").write_text(REAL)
    real = len(plan(folder / "jobs.toml").jobs)
    code, out, _ = run(folder, "warm", "--workers", "2")  # fills the compile cache
    assert code == 0, out
    simulate(folder, JOBS - real)
    (folder / "jobs.toml").write_text(REAL + SIMULATED)
    line = f"{JOBS} jobs: {real} of ScaleRL at four cuts, {JOBS - real} simulated runs of 20 evaluations"
    print(line)
    rows: list[dict[str, object]] = []
    print("executor (2 workers)  seconds  jobs a second  posteriors  with the same bytes as by threads")
    expected: dict[str, str] = {}
    for kind in ("threads", "processes", "dask", "ray"):
        code, out, seconds = run(folder, kind, "--executor", kind, "--workers", "2")
        assert code == 0, out
        found = contents(folder / kind)
        expected = expected or found
        same = sum(found.get(key) == content for key, content in expected.items())
        print(f"{kind:20}  {seconds:7.1f}  {JOBS / seconds:13.2f}  {len(found):10}  {same}", flush=True)
        rows.append(
            {"executor": kind, "seconds": seconds, "jobs a second": JOBS / seconds, "posteriors": len(found)}
            | {"same bytes as by threads": same}
        )
    keep("executors", [line], rows)


def kills(folder: Path) -> None:
    (folder / "jobs.toml").write_text(REAL + QUICK)
    code, out, seconds = run(folder, "whole")
    assert code in (0, 1), out
    expected = contents(folder / "whole")
    line = f"{len(expected)} quick jobs by two processes, {seconds:.0f} s by threads when nobody is killed"
    print(line)
    rows: list[dict[str, object]] = []
    chance = random.Random(0)
    print("killed         after (s)  done by then  of these kept  then done  in all  same bytes  exit code")
    for nth in range(20):
        store, who = f"store{nth}", "driver" if nth < 10 else "worker"
        batch = subprocess.Popen(
            command(folder, store, "--executor", "processes", "--workers", "2"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        after = chance.uniform(10.0, 30.0)
        time.sleep(after)
        marks = {path: path.stat().st_mtime_ns for path in (folder / store).glob("fits/*/*.json")}
        if batch.poll() is None:
            os.kill(batch.pid if who == "driver" else chance.choice(workers_of(batch.pid)), signal.SIGKILL)
        else:
            who = "nobody (done)"
        code = batch.wait()
        if code != 0:
            code, out, _ = run(folder, store, "--executor", "processes", "--workers", "2")
        kept = sum(path.exists() and path.stat().st_mtime_ns == before for path, before in marks.items())
        found = contents(folder / store)
        same = sum(found.get(key) == content for key, content in expected.items())
        row = f"{who:13}  {after:9.1f}  {len(marks):12}  {kept:13}  {len(found) - len(marks):9}  {len(found):6}"
        print(f"{row}  {same:10}  {code:9}", flush=True)
        rows.append(
            {"killed": who, "after (s)": after, "done by then": len(marks), "of these kept": kept}
            | {"then done": len(found) - len(marks), "in all": len(found), "same bytes": same, "exit code": code}
        )
    keep("kills", [line], rows)


def workers_of(pid: int) -> list[int]:
    """Processes that fit for a driver."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and "spawn_main" in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:
            continue
    return found or [pid]


def troubles(folder: Path) -> None:
    (folder / "jobs.toml").write_text('[[source]]\ndataset = "scalerl"\nselect = ["ScaleRL", "GSPO", "CISPO"]\n')

    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line)

    def tell(what: str, code: int, out: str) -> None:
        say(f"{what}: exit code {code}")
        for line in out.replace(str(folder), "...").strip().splitlines():
            say(f"    {line}")

    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        code, out, _ = run(folder, "disk/store")
        tell("full disk, 1 MB", code, out)
        say(
            f"    whole posteriors: {len(contents(disk / 'store'))}, damaged: {rl.open_store(disk / 'store').damaged()}"
        )
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        tell("the same with more room", *run(folder, "disk/store")[:2])
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        tell("read-only store, all done", *run(folder, "disk/store")[:2])
        tell("read-only, a store to be made", *run(folder, "disk/other")[:2])
    finally:
        subprocess.run(["umount", disk], check=True)
    first = subprocess.Popen(command(folder, "store"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (folder / "store" / ".lock").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    tell("a second driver on one store", *run(folder, "store")[:2])
    out = first.communicate()[0]
    tell("the first of them", first.returncode, out)
    path = next((folder / "store").glob("fits/*/*.nc"))
    path.write_bytes(path.read_bytes()[:-100])
    tell("a truncated posterior", *run(folder, "store")[:2])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    tell("a changed byte", *run(folder, "store", "--check")[:2])
    (folder / "store" / "index.parquet").write_bytes(b"PAR1 half")
    tell("a damaged index", *run(folder, "store")[:2])
    say(f"    rows of the index: {len(rl.open_store(folder / 'store').index())}")
    back = (
        "import itertools, datetime, sys; import rlceiling.jobs.job as job; from rlceiling.cli import app\n"
        "hours = itertools.count()\n"
        "job.now = lambda: (datetime.datetime(2030, 1, 1) - datetime.timedelta(hours=next(hours))).isoformat()\n"
        "app()"
    )
    (folder / "jobs.toml").write_text('[[source]]\ndataset = "scalerl"\nselect = ["ScaleRL", "GSPO"]\nshares = [0.5]\n')
    out = subprocess.run(
        [sys.executable, "-c", back, *command(folder, "clock")[3:]], capture_output=True, text=True, check=False
    )
    tell("a clock that jumps back an hour at every fit", out.returncode, out.stdout + out.stderr)
    fits = rl.open_store(folder / "clock").fits()
    say(f"    latest posteriors have all evaluations: {[fit.evaluations for fit in fits.values()]}")
    keep("troubles", lines)


class Given(Executor):
    """Gives every job the same small posterior, and all else is as with other executors."""

    workers = 2

    def __init__(self, given: Outcome) -> None:
        self.given = given

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        (packed,) = args
        future: Future[list[Outcome]] = Future()
        jobs = pickle.loads(pickle.loads(packed)[1])
        (made,) = self.given.made.values()
        row = made.row
        future.set_result([Outcome({job.key: made._replace(row=row | {"recipe": job.name})}) for job in jobs])
        return future


def memory(folder: Path) -> None:
    many = 10_000
    rows: list[dict[str, object]] = []
    print("  jobs  plan (s)  run (s)  ms a job  peak of the driver (GiB)")
    for number in (100, many):
        where = folder / str(number)
        where.mkdir()
        simulate(where, number)
        (where / "jobs.toml").write_text(SIMULATED + QUICK)
        begin = time.perf_counter()
        jobs = plan(where / "jobs.toml").jobs
        planned = time.perf_counter()
        (given,) = fit_jobs(jobs[:1])
        store = rl.open_store(where / "store", create=True)
        begin_jobs = time.perf_counter()
        with store.lock():
            progress = run_batch(jobs, store, make_executor=lambda given=given: Given(given))
            store.write_index()
        seconds = time.perf_counter() - begin_jobs
        assert progress.done == number
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        row = f"{number:6}  {planned - begin:8.1f}  {seconds:7.1f}"
        print(f"{row}  {1e3 * seconds / number:8.2f}  {peak:.2f}", flush=True)
        rows.append(
            {"jobs": number, "plan (s)": planned - begin, "run (s)": seconds, "ms a job": 1e3 * seconds / number}
            | {"peak of the driver (GiB)": peak}
        )
    begin = time.perf_counter()
    with store.lock():
        run_batch(jobs, store, make_executor=lambda: Given(given))
    lines = [f"again, with nothing to do: {time.perf_counter() - begin:.1f} s"]
    begin = time.perf_counter()
    indexed = len(store.index())
    lines.append(f"the index of {indexed} rows: {time.perf_counter() - begin:.1f} s")
    print("\n".join(lines))
    keep("memory", lines, rows)


if __name__ == "__main__":
    main()
