"""Executors: they return the same bytes, compute on the CPU and replace lost workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

import rlceiling as rl
from law_jobs import Reporting, law_job, stored_law, stored_recipes
from manifests import QUICK
from rlceiling.jobs.batch import run_batch
from rlceiling.jobs.executors import executor_of
from rlceiling.jobs.job import Job, RecipeJob
from rlceiling.jobs.manifest import plan
from rlceiling.jobs.workers import pack

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="begins and kills processes"),
    # Dask and Ray raise these warnings.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    manifest = tmp_path_factory.mktemp("jobs") / "jobs.toml"
    manifest.write_text(f'[[source]]\ndataset = "scalerl"\nselect = ["ScaleRL", "GSPO"]\n{QUICK}')
    return plan(manifest).jobs


def one_core_of_the_cpu(said: str) -> bool:
    """Whether a process computes on one core of the CPU, by its backend, its platforms and its flags."""
    backend, platforms, *flags = said.split()
    wanted = {"--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"}
    return (backend, platforms) == ("cpu", "cpu") and wanted <= set(flags)


def test_processes_return_the_bytes_of_a_batch_without_them(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do so of recipes and of a law, on one core of the CPU, also where JAX may use a GPU first.

    The test of the page on clusters checks the other executors.
    """
    recipe = jobs[0]
    assert isinstance(recipe, RecipeJob)
    law = law_job(tmp_path)
    laws_here, recipes_here = stored_law(tmp_path / "laws"), stored_recipes(tmp_path / "recipes")
    reporting = Reporting(**{name: getattr(recipe, name) for name in ("labels", "priors", "sampler", "runs", "units")})
    store = rl.open_store(tmp_path / "store", create=True)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    executor = executor_of("processes", 1)
    progress = run_batch([*jobs, law, reporting], store, make_executor=executor, workers=1, chunk=2)
    assert (progress.done, progress.failed) == (3, 1)
    for here, job in (*((recipes_here, job) for job in jobs), (laws_here, law)):
        assert store._path(job.key).read_bytes() == here._path(job.key).read_bytes()
    (said,) = store.failures()["reason"]
    assert one_core_of_the_cpu(said)


@pytest.mark.parametrize("kind", ["processes", "dask", "ray"])
def test_lost_worker_is_reported_and_replaced(kind: str) -> None:
    pytest.importorskip({"dask": "distributed", "processes": "sys"}.get(kind, kind))
    make = executor_of(kind, 1)
    assert make is not None
    with make() as pool:
        # Ray takes no built-in function, and processes take no function that they cannot import.
        ask, sleep = (os.getpid, time.sleep) if kind == "processes" else (lambda: os.getpid(), lambda s: time.sleep(s))
        process = pool.submit(ask).result(timeout=60)
        asleep = pool.submit(sleep, 60)
        time.sleep(1.0)
        os.kill(process, signal.SIGKILL)
        assert isinstance(asleep.exception(timeout=60), (BrokenExecutor, *getattr(pool, "lost", ())))
        if kind == "processes":  # the others replace the worker by themselves
            pool = make()
        assert pool.submit(ask).result(timeout=60) != process
        pool.shutdown()


def test_worker_that_has_jax_already_computes_on_one_core_of_the_cpu() -> None:
    """A cluster may begin a worker in a process in which other code has imported JAX."""
    program = (
        "import jax; import os, sys; from rlceiling.jobs.workers import fit_packed\n"
        "fit_packed(sys.stdin.buffer.read())\n"
        "print(jax.default_backend(), jax.config.jax_platforms, os.environ['XLA_FLAGS'])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        input=pack([]),
        env=os.environ | {"JAX_PLATFORMS": "cuda,cpu", "XLA_FLAGS": ""},
        capture_output=True,
        check=True,
    )
    assert one_core_of_the_cpu(out.stdout.decode())


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"kind": "spark"}, "executor 'spark' is not known; give one of threads, processes, dask, ray, slurm."),
        (
            {"kind": "threads", "address": "tcp://a:1"},
            "address 'tcp://a:1' is for the executors dask and ray; leave it",
        ),
        ({"kind": "ray", "sbatch": "--time=1"}, "sbatch '--time=1' is for the executor slurm; leave it out for ray."),
    ],
)
def test_options_that_do_not_apply_are_refused(asked: dict[str, str], sentence: str) -> None:
    with pytest.raises(rl.DataError) as error:
        executor_of(workers=1, **asked)
    assert sentence in str(error.value)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlceiling.jobs.executors.find_spec", lambda name: None)
    with pytest.raises(rl.DataError, match=r'needs another package; run pip install "rlceiling\[ray\]"'):
        executor_of("ray", 1)
    assert executor_of("threads", 1) is None


@pytest.mark.parametrize(("kind", "address"), [("dask", "tcp://127.0.0.1:9"), ("ray", "127.0.0.1:9")])
def test_cluster_that_does_not_answer(kind: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"dask": "distributed"}.get(kind, kind))
    monkeypatch.setattr("rlceiling.jobs.executors.WAIT", 1.0)
    make = executor_of(kind, 1, address)
    assert make is not None
    with pytest.raises(rl.DataError, match=f"no {kind.title()} cluster answers at '{address}': "):
        make()
