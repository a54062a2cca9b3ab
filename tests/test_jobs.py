"""Batches: what a manifest means, what a store keeps, and that nothing is lost or done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rlceiling as rl
from rlceiling.cli import app
from rlceiling.jobs import batch as module
from rlceiling.jobs.batch import run_batch
from rlceiling.jobs.job import Job
from rlceiling.jobs.manifest import plan
from rlceiling.jobs.workers import local_processes

QUICK = "[sampler]\nchains = 2\ntune = 100\ndraws = 100\nseed = 3\n"
MANIFEST = f"""
[[source]]
files = ["logs/*.csv"]
compute = "gpu_hours"
reward = "pass_rate"
recipe = "recipe"
shares = [0.5]

{QUICK}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two logs and a manifest beside them."""
    (tmp_path / "logs").mkdir()
    table = rl.load_dataset("scalerl").table
    columns = {"compute": "gpu_hours", "reward": "pass_rate"}
    for name, recipes in (("a", ["ScaleRL", "GSPO"]), ("b", ["Magistral"])):
        rows = table[table["recipe"].isin(recipes)].rename(columns=columns)
        rows[["recipe", "gpu_hours", "pass_rate"]].to_csv(tmp_path / "logs" / f"{name}.csv", index=False)
    (tmp_path / "jobs.toml").write_text(MANIFEST)
    return tmp_path


def run(*arguments: object) -> object:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Job], rl.Store]:
    """Jobs of the manifest and a store that holds them all; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "jobs.toml").write_text(
        f'[[source]]\ndataset = "scalerl"\nselect = ["ScaleRL", "GSPO"]\nshares = [0.5, 0.75]\n{QUICK}'
    )
    jobs, unreadable = plan(folder / "jobs.toml")
    assert unreadable == []
    store = rl.open_store(folder / "store", create=True)
    with store.lock():
        progress = run_batch(jobs, store)
        store.write_index()
    assert (progress.done, progress.failed) == (6, 0)
    return jobs, store


# Manifest -------------------------------------------------------------------------------------------------------------


def test_jobs_of_a_manifest(folder: Path) -> None:
    jobs, unreadable = plan(folder / "jobs.toml")
    assert unreadable == []
    assert [(job.source, job.recipe, job.share) for job in jobs] == [
        *[("logs/a.csv", recipe, 0.5) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/a.csv", recipe, 1.0) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/b.csv", "Magistral", share) for share in (0.5, 1.0)],
    ]
    cut, whole = jobs[0].runs[0], jobs[2].runs[0]
    np.testing.assert_array_equal(cut.compute, whole.compute[whole.compute <= 0.5 * whole.compute[-1]])
    assert {(job.chains, job.tune, job.draws, job.seed) for job in jobs} == {(2, 100, 100, 3)}


def test_an_address_is_the_content(folder: Path) -> None:
    keys = [job.key for job in plan(folder / "jobs.toml")[0]]
    assert len(set(keys)) == len(keys)
    assert keys == [job.key for job in plan(folder / "jobs.toml")[0]]
    os.rename(folder / "logs" / "b.csv", folder / "logs" / "c.csv")  # the same evaluations elsewhere
    assert keys == [job.key for job in plan(folder / "jobs.toml")[0]]
    text = (folder / "logs" / "c.csv").read_text().splitlines()
    (folder / "logs" / "c.csv").write_text("\n".join([*text, "Magistral,90000,0.53"]))
    grown = [job.key for job in plan(folder / "jobs.toml")[0]]
    assert [old == new for old, new in zip(keys, grown, strict=True)] == [True, True, True, True, False, False]
    for last in ("Magistral,90000,0.54", "Magistral,90001,0.53"):  # one number corrected
        (folder / "logs" / "c.csv").write_text("\n".join([*text, last]))
        assert plan(folder / "jobs.toml")[0][-1].key not in {*keys, *grown}
    (folder / "logs" / "c.csv").write_text("\n".join([*text, "Magistral,90000,0.53"]))
    for old, new in (("seed = 3", "seed = 4"), ("draws = 100", "draws = 101"), ("[sampler]", "[priors]\n[sampler]")):
        (folder / "jobs.toml").write_text(MANIFEST.replace(old, new))
        changed = [job.key for job in plan(folder / "jobs.toml")[0]]
        assert (changed == grown) == (old == "[sampler]")
    priors = '[priors]\nB = {distribution = "LogNormal", loc = 0.5, scale = 0.3}\n'
    (folder / "jobs.toml").write_text(MANIFEST + priors)
    assert not set(grown) & {job.key for job in plan(folder / "jobs.toml")[0]}


def test_what_cannot_be_fitted_is_told_and_stops_nothing(folder: Path) -> None:
    (folder / "logs" / "broken.csv").write_text("recipe,gpu_hours,pass_rate\na,1,zero\n")
    (folder / "logs" / "short.csv").write_text("recipe,gpu_hours,pass_rate\na,1,0.1\na,2,0.2\n")
    (folder / "jobs.toml").write_text(MANIFEST.replace('"logs/*.csv"', '"logs/*.csv", "nothing/*.csv"'))
    jobs, unreadable = plan(folder / "jobs.toml")
    assert len(jobs) == 6
    reasons = {one.source: one.reason for one in unreadable}
    assert set(reasons) == {"logs/broken.csv", "logs/short.csv", "nothing/*.csv"}
    assert "'zero'" in reasons["logs/broken.csv"]
    assert "a fit needs 4" in reasons["logs/short.csv"]
    assert reasons["nothing/*.csv"] == "no file is called 'nothing/*.csv'; correct it."


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seed = 3", "sead = 3", "jobs.toml, line 13: sampler.sead (3) is not known; correct it."),
        ("chains = 2", "chains = 1", "line 10: sampler.chains (1) input should be greater than or equal to 2"),
        ("shares = [0.5]", "shares = 0.5", "line 7: source.shares (0.5) input should be a valid list"),
        ("[[source]]", "[[sources]]", "source is missing; correct it."),
        ('files = ["logs/*.csv"]', "", "line 2: a source names either files or a dataset; give one of them."),
        ("[sampler]", "[sampler", "jobs.toml is no TOML: "),
        ("[sampler]", "[priors]\nD = 3\n[sampler]", "line 10: priors: D is no prior; there are R0, headroom, B,"),
        ("[sampler]", "[priors]\nB = 3\n[sampler]", "jobs.toml, line 10: priors: prior of B is 3"),
    ],
)
def test_mistakes_name_their_line(folder: Path, old: str, new: str, sentence: str) -> None:
    (folder / "jobs.toml").write_text(MANIFEST.replace(old, new))
    with pytest.raises(rl.DataError) as error:
        plan(folder / "jobs.toml")
    assert sentence in str(error.value)


# Store ----------------------------------------------------------------------------------------------------------------


def test_a_posterior_is_that_of_fit(done: tuple[list[Job], rl.Store]) -> None:
    _, store = done
    runs = rl.load_dataset("scalerl").select("ScaleRL", "GSPO")
    fits = rl.fit(runs, chains=2, tune=100, draws=100, seed=3, progress=False)
    for name, fit in store.fits().items():
        for parameter, values in fits[name].draws.items():
            np.testing.assert_array_equal(fit.draws[parameter], values)


def test_the_index_is_a_table_that_can_be_made_again(done: tuple[list[Job], rl.Store]) -> None:
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


def test_growth_comes_out_of_the_store(done: tuple[list[Job], rl.Store]) -> None:
    _, store = done
    grown = store.growth("scalerl")
    assert list(grown.fits) == [0.5, 0.75, 1.0]
    table = store.index().set_index(["recipe", "share"]).sort_index()
    ours = grown.table().set_index(["recipe", "share"]).sort_index()
    np.testing.assert_array_equal(ours["A"], table["A"])
    only = store.fits(lambda rows: rows["recipe"] == "GSPO")
    assert list(only) == ["GSPO"]


def test_what_is_there_is_not_done_again(done: tuple[list[Job], rl.Store], monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, store = done
    monkeypatch.setattr(module, "fit_job", lambda job: pytest.fail("done again"))
    progress = run_batch(jobs, store)
    assert (progress.there, progress.done, progress.failed) == (6, 0, 0)


@pytest.fixture
def copy(done: tuple[list[Job], rl.Store], tmp_path: Path) -> tuple[list[Job], rl.Store]:
    """The same store, to be damaged."""
    import shutil

    jobs, store = done
    shutil.copytree(store.folder, tmp_path / "store")
    return jobs, rl.open_store(tmp_path / "store")


@pytest.mark.parametrize("damage", ["truncated", "gone", "half a mark", "no mark"])
def test_a_damaged_posterior_is_noticed_and_made_again(copy: tuple[list[Job], rl.Store], damage: str) -> None:
    jobs, store = copy
    job = jobs[0]
    path = store._path(job.key)
    before = store.fit(job.key)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "gone":
        path.unlink()
    elif damage == "half a mark":
        mark = path.with_suffix(".json")
        mark.write_text(mark.read_text()[:20])
    else:
        path.with_suffix(".json").unlink()
    assert not store.has(job.key)
    with pytest.raises(rl.DataError, match="no whole posterior"):
        store.fit(job.key)
    progress = run_batch(jobs, store)
    assert (progress.there, progress.done) == (5, 1)
    for name, values in before.draws.items():
        np.testing.assert_array_equal(store.fit(job.key).draws[name], values)


def test_changed_bytes_are_found_by_checking(copy: tuple[list[Job], rl.Store]) -> None:
    jobs, store = copy
    assert store.damaged() == []
    path = store._path(jobs[2].key)
    content = bytearray(path.read_bytes())
    content[-200] ^= 0xFF
    path.write_bytes(content)
    assert store.has(jobs[2].key)  # as long as it was
    assert store.damaged() == [jobs[2].key]


def test_two_writers_do_not_meet(done: tuple[list[Job], rl.Store]) -> None:
    _, store = done
    other = [
        sys.executable,
        "-c",
        "import sys, rlceiling as rl\nwith rl.open_store(sys.argv[1]).lock(): pass",
        str(store.folder),
    ]
    with store.lock():
        out = subprocess.run(other, capture_output=True, text=True, check=False)
    assert "is being written by another batch; wait for it to end, or stop it." in out.stderr
    assert subprocess.run(other, capture_output=True, check=False).returncode == 0


def test_a_write_that_fails_names_its_file_and_leaves_none(
    done: tuple[list[Job], rl.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, full = done
    store = rl.open_store(tmp_path / "store", create=True)

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match=rf"No space left on device: .*{jobs[0].key}\.nc"):
        store.put(jobs[0].key, full.fit(jobs[0].key), {})
    assert [path for path in store.folder.rglob("*") if path.is_file()] == [store.folder / "store.json"]
    assert not store.has(jobs[0].key)


def test_a_log_that_grew_has_its_latest_posterior(copy: tuple[list[Job], rl.Store]) -> None:
    jobs, store = copy
    key = next(job.key for job in jobs if job.recipe == "GSPO" and job.share == 1.0)
    row = store.index().loc[key].to_dict()
    # Fitted later by the clock, from fewer evaluations: a clock that jumped back, or an old log fitted again.
    store.put("ff" * 16, store.fit(jobs[0].key), row | {"evaluations": 5, "fitted_at": "2999-01-01"})
    latest = store.fits(lambda table: table["recipe"] == "GSPO")["GSPO"]
    np.testing.assert_array_equal(latest.draws["A"], store.fit(key).draws["A"])


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(rl.DataError, match="is no store"):
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
    """Loses its worker at the first jobs of a kind, and takes all others with it."""

    def __init__(self, loses: set[str]) -> None:
        self.loses, self.broken = loses, False

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        future: Future[object] = Future()
        (job,) = args
        self.broken = self.broken or job.key in self.loses
        if self.broken:
            future.set_exception(BrokenExecutor("a worker was killed"))
        else:
            future.set_result(fn(job))
        return future


def test_a_lost_worker_costs_nothing_but_its_time(
    done: tuple[list[Job], rl.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, full = done
    monkeypatch.setattr(module, "fit_job", lambda job: (full.fit(job.key), 0.1))
    store = rl.open_store(tmp_path / "store", create=True)
    lost = [{jobs[1].key}, set()]  # once
    progress = run_batch(jobs, store, make_executor=lambda: Losing(lost.pop(0)), workers=2)
    assert (progress.done, progress.failed, lost) == (6, 0, [])
    assert len(store.index()) == 6


def test_a_job_that_kills_its_worker_is_told_and_stops_nothing(
    done: tuple[list[Job], rl.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, full = done
    monkeypatch.setattr(module, "fit_job", lambda job: (full.fit(job.key), 0.1))
    store = rl.open_store(tmp_path / "store", create=True)
    progress = run_batch(jobs, store, make_executor=lambda: Losing({jobs[1].key}), workers=2)
    assert (progress.done, progress.failed) == (5, 1)
    assert list(store.failures()["reason"]) == ["its worker was lost twice"]
    assert list(store.failures().index) == [jobs[1].key]


def test_a_job_that_fails_is_told_and_forgotten_when_it_succeeds(
    done: tuple[list[Job], rl.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, full = done
    store = rl.open_store(tmp_path / "store", create=True)

    def one_fails(job: Job) -> tuple[rl.Fit, float]:
        if job is jobs[0]:
            raise ValueError("no such luck")
        return full.fit(job.key), 0.1

    monkeypatch.setattr(module, "fit_job", one_fails)
    progress = run_batch(jobs, store)
    assert (progress.done, progress.failed) == (5, 1)
    assert list(store.failures()["reason"]) == ["ValueError: no such luck"]
    monkeypatch.setattr(module, "fit_job", lambda job: (full.fit(job.key), 0.1))
    run_batch(jobs, store)
    assert len(store.failures()) == 0


def test_processes_give_the_same_bits(done: tuple[list[Job], rl.Store], tmp_path: Path) -> None:
    jobs, full = done
    store = rl.open_store(tmp_path / "store", create=True)
    progress = run_batch(jobs[:2], store, make_executor=lambda: local_processes(1), workers=1)
    assert (progress.done, progress.failed) == (2, 0)
    for job in jobs[:2]:
        for name, values in full.fit(job.key).draws.items():
            np.testing.assert_array_equal(store.fit(job.key).draws[name], values)


# The command ----------------------------------------------------------------------------------------------------------


def test_command(folder: Path) -> None:
    store, manifest = folder / "store", folder / "jobs.toml"
    (folder / "logs" / "short.csv").write_text("recipe,gpu_hours,pass_rate\na,1,0.1\na,2,0.2\n")
    dry = run("batch", manifest, "--store", store, "--dry-run")
    assert dry.stdout.splitlines()[0] == "6 jobs: 0 there, 6 to be fitted"
    assert "a fit needs 4" in dry.stdout
    assert not store.exists()
    result = run("batch", manifest, "--store", store)
    assert result.exit_code == 1
    assert result.stdout.startswith("6 of 7 jobs done, 1 failed, ")
    assert result.stdout.splitlines()[-1].startswith("failed: a: short.csv: run '0' of recipe 'a' has 2 distinct")
    assert run("batch", manifest, "--store", store, "--dry-run").stdout.startswith("6 jobs: 6 there, 0 to be fitted")
    (folder / "logs" / "short.csv").unlink()
    assert len(rl.open_store(store).failures()) == 1
    again = run("batch", manifest, "--store", store, "--check")
    assert (again.exit_code, again.stdout) == (0, "6 of 6 jobs done\n")
    assert repr(rl.open_store(store)).startswith("Store: 6 posteriors (")
    assert len(rl.open_store(store).failures()) == 1  # of a log that is gone, so nobody asked again
    (folder / "logs" / "short.csv").write_text((folder / "logs" / "b.csv").read_text().replace("Magistral", "other"))
    assert run("batch", manifest, "--store", store).exit_code == 0
    assert len(rl.open_store(store).failures()) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_a_killed_driver_loses_nothing(folder: Path) -> None:
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
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # nothing done twice
    assert rl.open_store(store).damaged() == []
