"""Batches: the content of a store, lost workers, failing jobs and the command."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rlceiling as rl
from law_jobs import recipe_jobs, stored_recipes
from manifests import QUICK, write_logs
from rlceiling.cli import app
from rlceiling.jobs import batch as module
from rlceiling.jobs.batch import Progress, run_batch
from rlceiling.jobs.job import Job, Label, Made, Outcome, fit_jobs
from rlceiling.jobs.job_store import Store
from rlceiling.text import duration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two logs and a manifest beside them."""
    write_logs(tmp_path)
    return tmp_path


def outcome(store: Store, job: Job) -> Outcome:
    """The outcome of a job, read from a store that holds its posterior."""
    path = store.folder / "fits" / job.key[:2] / f"{job.key}.nc"
    made = Made(path.read_bytes(), json.loads(path.with_suffix(".json").read_text())["row"])
    return Outcome({job.key: made})


def run(*arguments: object) -> object:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Job], rl.Store]:
    """Jobs of the manifest and a store that holds them all; tests do not change it."""
    folder = tmp_path_factory.mktemp("jobs")
    jobs = recipe_jobs(folder)
    store = stored_recipes(folder / "store")
    assert len(jobs) == len(store.index()) == 6
    return jobs, store


# Store ----------------------------------------------------------------------------------------------------------------


def test_stored_posterior_equals_that_of_fit(done: tuple[list[Job], rl.Store]) -> None:
    _, store = done
    runs = rl.load_dataset("scalerl").select("ScaleRL", "GSPO")
    fits = rl.fit(runs, chains=2, tune=100, draws=100, seed=3, progress=False)
    for name, fit in store.fits().items():
        for parameter, values in fits[name].draws.items():
            np.testing.assert_array_equal(fit.draws[parameter], values)


def test_index_agrees_with_its_parquet_file_and_the_posteriors(done: tuple[list[Job], rl.Store]) -> None:
    jobs, store = done
    table = store.index()
    assert set(table.index) == {job.key for job in jobs}
    parquet = pd.read_parquet(store.folder / "index.parquet").set_index("key")
    pd.testing.assert_frame_equal(parquet, table, check_dtype=False)
    for key, row in table.iterrows():
        fit = store.fit(str(key))
        assert (row["A_lower"], row["A"], row["A_upper"]) == fit.interval("A")
        assert (row["verdict"], row["recipe"], row["largest_compute"]) == (
            fit.verdict.name,
            fit.name,
            fit.largest_compute,
        )


def test_growth_of_a_source(done: tuple[list[Job], rl.Store]) -> None:
    _, store = done
    grown = store.growth("scalerl")
    assert list(grown.fits) == [0.5, 0.75, 1.0]
    table = store.index().set_index(["recipe", "share"]).sort_index()
    ours = grown.table().set_index(["recipe", "share"]).sort_index()
    np.testing.assert_array_equal(ours["A"], table["A"])
    only = store.fits(lambda rows: rows["recipe"] == "GSPO")
    assert list(only) == ["GSPO"]


def test_stored_posteriors_are_not_fitted_again(
    done: tuple[list[Job], rl.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, store = done
    monkeypatch.setattr(module, "fit_jobs", lambda jobs: pytest.fail("a job was fitted again"))
    progress = run_batch(jobs, store)
    assert (progress.n_cached, progress.done, progress.failed) == (6, 0, 0)


@pytest.fixture
def copy(done: tuple[list[Job], rl.Store], tmp_path: Path) -> tuple[list[Job], rl.Store]:
    """A copy of the store that a test may damage."""
    import shutil

    jobs, store = done
    shutil.copytree(store.folder, tmp_path / "store")
    return jobs, rl.open_store(tmp_path / "store")


@pytest.mark.parametrize("damage", ["truncated", "missing", "truncated sidecar", "missing sidecar"])
def test_damaged_posterior_is_fitted_again(
    done: tuple[list[Job], rl.Store], copy: tuple[list[Job], rl.Store], damage: str
) -> None:
    jobs, store = copy
    job = jobs[0]
    path = store._path(job.key)
    before = store.fit(job.key)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "missing":
        path.unlink()
    elif damage == "truncated sidecar":
        sidecar = path.with_suffix(".json")
        sidecar.write_text(sidecar.read_text()[:20])
    else:
        path.with_suffix(".json").unlink()
    assert not store.has(job.key)
    with pytest.raises(rl.DataError, match="no complete posterior"):
        store.fit(job.key)
    progress = run_batch(jobs, store, make_executor=lambda: Losing(set(), done[1]))
    assert (progress.n_cached, progress.done) == (5, 1)
    for name, values in before.draws.items():
        np.testing.assert_array_equal(store.fit(job.key).draws[name], values)


def test_changed_bytes_are_found_by_damaged(copy: tuple[list[Job], rl.Store]) -> None:
    jobs, store = copy
    assert store.damaged() == []
    path = store._path(jobs[2].key)
    content = bytearray(path.read_bytes())
    content[-200] ^= 0xFF
    path.write_bytes(content)
    assert store.has(jobs[2].key)  # has looks at the length alone
    assert store.damaged() == [jobs[2].key]


def test_second_writer_is_refused(done: tuple[list[Job], rl.Store]) -> None:
    _, store = done
    program = """if True:
        import sys, rlceiling as rl
        for _ in range(2):
            try:
                with rl.open_store(sys.argv[1]).lock():
                    print("locked", flush=True)
            except rl.DataError as error:
                print(error, flush=True)
            sys.stdin.readline()
    """
    command = [sys.executable, "-c", program, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        with store.lock():
            refused = other.stdout.readline()
        after, _ = other.communicate("again\n")
    assert refused.endswith("is being written by another batch; wait for it to end, or stop it.\n")
    assert (after, other.returncode) == ("locked\n", 0)


def test_failed_write_names_its_file_and_leaves_no_file(
    done: tuple[list[Job], rl.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, _ = done
    store = rl.open_store(tmp_path / "store", create=True)

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match=rf"No space left on device: .*{jobs[0].key}\.nc"):
        store.put(jobs[0].key, b"content", {}, jobs[0].labels, 1)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == [store.folder / "store.json"]
    assert not store.has(jobs[0].key)


def test_fits_reads_the_posterior_of_the_last_batch(
    copy: tuple[list[Job], rl.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of batches decides, and neither the clock nor the number of evaluations."""
    jobs, store = copy
    whole = next(job for job in jobs if job.name == "GSPO" and job.labels[0].share == 1.0)
    ((content, row),) = outcome(store, jobs[0]).made.values()
    shorter = row | {"evaluations": 5, "recipe": "GSPO", "fitted_at": "1999-01-01"}
    store.put("ff" * 16, content, shorter, whole.labels, 2)

    def latest() -> np.ndarray:
        return store.fits(lambda table: table["recipe"] == "GSPO")["GSPO"].draws["A"]

    np.testing.assert_array_equal(latest(), store.fit(jobs[0].key).draws["A"])
    monkeypatch.setattr(module, "fit_jobs", lambda jobs: pytest.fail("a job was fitted again"))
    run_batch(jobs, store)  # the first posterior is used again
    np.testing.assert_array_equal(latest(), store.fit(whole.key).draws["A"])
    batches = store.index()["batch"]
    assert batches[whole.key] == 3
    assert set(batches.drop([whole.key, "ff" * 16])) == {1}  # other sidecars are not written


def test_posterior_with_several_labels(copy: tuple[list[Job], rl.Store], monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, store = copy
    monkeypatch.setattr(module, "fit_jobs", lambda jobs: pytest.fail("a job was fitted again"))
    renamed = [replace(job, labels=tuple(one._replace(source="renamed.csv") for one in job.labels)) for job in jobs]
    assert [job.key for job in renamed] == [job.key for job in jobs]
    run_batch(renamed, store)
    run_batch(renamed, store)  # the label is added once
    index = store.index()
    assert list(index.groupby("source").size()) == [6, 6]
    assert repr(store).startswith("Store: 6 posteriors (")
    assert len(store.growth("renamed.csv").table()) == 6
    # Recipes of one name in several sources are called by name and source.
    fits = store.fits()
    assert list(fits) == [f"{recipe} ({name})" for name in ("renamed.csv", "scalerl") for recipe in ("GSPO", "ScaleRL")]
    same = fits.chance_higher("GSPO (renamed.csv)", "GSPO (scalerl)")
    assert same.probability == pytest.approx(0.5, abs=0.01)


def test_posterior_that_is_fitted_again_keeps_its_labels(
    done: tuple[list[Job], rl.Store], copy: tuple[list[Job], rl.Store]
) -> None:
    jobs, store = copy
    store.relabel(jobs[0].key, [Label("renamed.csv")], 1)
    path = store._path(jobs[0].key)
    path.write_bytes(path.read_bytes()[:-100])
    assert run_batch(jobs, store, make_executor=lambda: Losing(set(), done[1])).done == 1
    assert set(store.index().loc[jobs[0].key, "source"]) == {"renamed.csv", "scalerl"}


def test_fits_refuses_several_kinds_of_compute(copy: tuple[list[Job], rl.Store]) -> None:
    jobs, store = copy
    ((content, row),) = outcome(store, jobs[0]).made.values()
    store.put("ff" * 16, content, row | {"compute": "steps"}, [Label("other.csv")], 1)
    with pytest.raises(rl.DataError, match=r"several kinds of compute \(steps, gpu_hours\), which cannot be compared"):
        store.fits()
    assert list(store.fits(lambda table: table["source"] == "other.csv")) == [row["recipe"]]


def test_folder_that_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(rl.DataError, match="is not a store"):
        rl.open_store(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(rl.DataError, match="holds other files"):
        rl.open_store(tmp_path, create=True)
    rl.open_store(tmp_path / "new", create=True)
    (tmp_path / "new" / "store.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(rl.DataError, match="has schema 99 and this rlceiling reads 1"):
        rl.open_store(tmp_path / "new")


# Executors ------------------------------------------------------------------------------------------------------------


class Losing(Executor):
    """Loses its worker at some jobs, and all submitted jobs with it; takes other outcomes from a full store."""

    workers = 2

    def __init__(self, loses: set[str], full: Store) -> None:
        self.loses, self.full, self.broken = loses, full, False
        self.given: list[list[str]] = []

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        (packed,) = args
        jobs = pickle.loads(pickle.loads(packed)[1])
        self.given.append([job.key for job in jobs])
        future: Future[list[Outcome]] = Future()
        self.broken = self.broken or bool(self.loses & {job.key for job in jobs})
        if self.broken:
            future.set_exception(BrokenExecutor("a worker was killed"))
        else:
            future.set_result([outcome(self.full, job) for job in jobs])
        return future


@pytest.mark.parametrize("chunk", [1, 4])
def test_jobs_of_a_lost_worker_are_submitted_again(
    done: tuple[list[Job], rl.Store], tmp_path: Path, chunk: int
) -> None:
    jobs, full = done
    store = rl.open_store(tmp_path / "store", create=True)
    made: list[Losing] = []

    def make() -> Losing:
        made.append(Losing(set() if made else {jobs[1].key}, full))
        return made[-1]

    progress = run_batch(jobs, store, make_executor=make, chunk=chunk)
    assert (progress.done, progress.failed, len(made)) == (6, 0, 2)
    assert len(store.index()) == 6
    lost = [key for part in made[0].given if jobs[1].key in part for key in part]
    assert all([key] in made[1].given for key in lost)  # jobs of the lost worker are submitted one by one


@pytest.mark.parametrize("chunk", [1, 4])
def test_job_that_always_kills_its_worker_is_recorded_as_failed(
    done: tuple[list[Job], rl.Store], tmp_path: Path, chunk: int
) -> None:
    jobs, full = done
    store = rl.open_store(tmp_path / "store", create=True)
    progress = run_batch(jobs, store, make_executor=lambda: Losing({jobs[1].key}, full), chunk=chunk)
    assert (progress.done, progress.failed) == (5, 1)
    assert list(store.failures()["reason"]) == ["its worker was lost 3 times (a worker was killed)"]
    assert list(store.failures().index) == [jobs[1].key]


def test_batch_stops_if_workers_have_other_versions(done: tuple[list[Job], rl.Store], tmp_path: Path) -> None:
    class Elsewhere(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            (packed,) = args
            wanted, content = pickle.loads(packed)
            return super().submit(fn, pickle.dumps((wanted | {"jax": "0.4.0"}, content)))

    jobs, _ = done
    store = rl.open_store(tmp_path / "store", create=True)
    with pytest.raises(rl.DataError, match=r"a worker has \{'jax': .*\} and not \{'jax': '0.4.0'\}\); install"):
        run_batch(jobs, store, make_executor=Elsewhere)
    assert len(store.index()) == len(store.failures()) == 0


def test_failure_is_recorded_and_deleted_when_the_job_succeeds(
    done: tuple[list[Job], rl.Store], tmp_path: Path
) -> None:
    jobs, full = done
    store = rl.open_store(tmp_path / "store", create=True)
    impossible = replace(jobs[0], runs=())  # a job without runs raises
    (failed,) = fit_jobs([impossible])
    assert failed.reason.startswith("IndexError: ")

    class Failing(Losing):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            future = super().submit(fn, *args, **kwargs)
            if jobs[0].key in self.given[-1]:
                given = zip(self.given[-1], future.result(), strict=True)
                future = Future()
                future.set_result([failed if key == jobs[0].key else one for key, one in given])
            return future

    progress = run_batch(jobs, store, make_executor=lambda: Failing(set(), full), chunk=4)
    assert (progress.done, progress.failed) == (5, 1)
    assert list(store.failures()["reason"]) == [failed.reason]
    run_batch(jobs, store, make_executor=lambda: Losing(set(), full))
    assert len(store.failures()) == 0


def test_batch_stops_on_a_full_disk(
    done: tuple[list[Job], rl.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, full = done
    store = rl.open_store(tmp_path / "store", create=True)
    written, fsync = [], os.fsync

    def full_disk(file: int) -> None:
        written.append(file)
        if len(written) > 5:
            raise OSError(28, "No space left on device")
        fsync(file)

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        run_batch(jobs, store, make_executor=lambda: Losing(set(), full))
    monkeypatch.undo()
    assert len(store.index()) == 2  # two files for each, and one file of the third posterior
    assert store.damaged() == []
    assert run_batch(jobs, store, make_executor=lambda: Losing(set(), full)).done == 4


# The command ----------------------------------------------------------------------------------------------------------


def test_command(folder: Path) -> None:
    store, manifest = folder / "store", folder / "jobs.toml"
    (folder / "logs" / "short.csv").write_text("recipe,gpu_hours,pass_rate\na,1,0.1\na,2,0.2\n")
    dry = run("batch", manifest, "--store", store, "--dry-run")
    assert dry.stdout.splitlines()[0] == "6 jobs: 0 in the store, 6 to be fitted"
    assert "a fit needs 4" in dry.stdout
    assert not store.exists()
    result = run("batch", manifest, "--store", store)
    assert result.exit_code == 1
    assert result.stdout.startswith("6 of 7 jobs done, 1 failed, ")
    assert result.stdout.splitlines()[-1].startswith("failed: a: short.csv: run '0' of recipe 'a' has 2 distinct")
    assert run("batch", manifest, "--store", store, "--dry-run").stdout.startswith(
        "6 jobs: 6 in the store, 0 to be fitted"
    )
    (folder / "logs" / "short.csv").unlink()
    assert len(rl.open_store(store).failures()) == 1
    again = run("batch", manifest, "--store", store, "--check")
    assert (again.exit_code, again.stdout) == (0, "6 of 6 jobs done\n")
    assert repr(rl.open_store(store)).startswith("Store: 6 posteriors (")
    assert len(rl.open_store(store).failures()) == 1  # its log is not in the manifest any more
    (folder / "logs" / "short.csv").write_text((folder / "logs" / "b.csv").read_text().replace("Magistral", "other"))
    assert run("batch", manifest, "--store", store).exit_code == 0
    assert len(rl.open_store(store).failures()) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_batch_continues_after_the_driver_is_killed(folder: Path) -> None:
    store, manifest = folder / "store", folder / "jobs.toml"
    (folder / "jobs.toml").write_text(
        f'[[source]]\ndataset = "scalerl"\nselect = ["ScaleRL", "GSPO", "CISPO", "MiniMax"]\nshares = [0.5]\n{QUICK}'
    )
    command = [sys.executable, "-m", "rlceiling", "batch", str(manifest), "--store", str(store), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(store.glob("fits/*/*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("fits/*/*.json")}
    assert 1 <= len(kept) < 8
    result = run("batch", manifest, "--store", store)
    assert result.exit_code == 0, result.output
    assert len(rl.open_store(store).index()) == 8
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # nothing was fitted twice
    assert rl.open_store(store).damaged() == []


def test_progress_in_words() -> None:
    progress = Progress(total=100, n_cached=20, done=30, failed=2, started=time.monotonic() - 64.0)
    progress.verdicts.update({"IDENTIFIED": 20, "NO_RISE": 10})
    assert str(progress) == "50 of 100 jobs done, 2 failed, 0.50 per second, 2 min left (20 IDENTIFIED, 10 NO_RISE)"
    assert str(Progress(total=100, n_cached=100)) == "100 of 100 jobs done"
    assert [duration(seconds) for seconds in (1.4, 89.0, 91.0, 5399.0, 9000.0)] == [
        "1 s",
        "89 s",
        "2 min",
        "90 min",
        "2.5 h",
    ]
