"""Jobs of recipes and of a law across model sizes, fitted once for all tests, and one that reports on its process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import rlceiling as rl
from manifests import LAW, QUICK, write_sizes
from once import once
from rlceiling.jobs.batch import run_batch
from rlceiling.jobs.job import Job, RecipeJob, SizeJob
from rlceiling.jobs.manifest import plan


def law_job(folder: Path) -> SizeJob:
    """Write runs of several sizes and a manifest with a law of them, and return its only job."""
    write_sizes(folder)
    (folder / "jobs.toml").write_text(LAW)
    (job,) = plan(folder / "jobs.toml").jobs
    assert isinstance(job, SizeJob)
    return job


def recipe_jobs(folder: Path) -> list[Job]:
    """Write a manifest of two recipes, whole and cut twice, and return its six jobs."""
    (folder / "jobs.toml").write_text(
        f'[[source]]\ndataset = "scalerl"\nselect = ["ScaleRL", "GSPO"]\nshares = [0.5, 0.75]\n{QUICK}'
    )
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert unreadable == []
    return jobs


def _stored(name: str, folder: Path, make: Callable[[Path], Sequence[Job]]) -> rl.Store:
    """Write the store that a batch without other processes makes of these jobs, and open it."""

    def batch() -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as place:
            jobs = make(Path(place))
            store = rl.open_store(Path(place) / "store", create=True)
            with store.lock():
                progress = run_batch(jobs, store)
                store.write_index()
            assert (progress.done, progress.failed) == (len(jobs), 0)
            files = [path for path in store.folder.rglob("*") if path.is_file()]
            return {path.relative_to(store.folder).as_posix(): path.read_bytes() for path in files}

    for path, content in once(name, batch).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return rl.open_store(folder)


def stored_recipes(folder: Path) -> rl.Store:
    """Store of the jobs of recipes."""
    return _stored("stored_recipes", folder, recipe_jobs)


def stored_law(folder: Path) -> rl.Store:
    """Store of the job of the law."""
    return _stored("stored_law", folder, lambda place: [law_job(place)])


@dataclass(frozen=True, eq=False, kw_only=True)
class Reporting(RecipeJob):
    """A job that fails, with the devices and flags of its process as the reason."""

    key = "ff" * 16

    def fit(self) -> rl.Fit:
        import jax

        raise rl.DataError(f"{jax.default_backend()} {jax.config.jax_platforms} {os.environ['XLA_FLAGS']}")
