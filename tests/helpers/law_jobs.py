"""The job of a law across model sizes, fitted once for all tests, and a job that reports on its process."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import rlceiling as rl
from manifests import LAW, write_sizes
from once import once
from rlceiling.jobs.batch import run_batch
from rlceiling.jobs.job import RecipeJob, SizeJob
from rlceiling.jobs.manifest import plan


def law_job(folder: Path) -> SizeJob:
    """Write runs of several sizes and a manifest with a law of them, and return its only job."""
    write_sizes(folder)
    (folder / "jobs.toml").write_text(LAW)
    (job,) = plan(folder / "jobs.toml").jobs
    assert isinstance(job, SizeJob)
    return job


def _batch() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        store = rl.open_store(Path(name) / "store", create=True)
        with store.lock():
            progress = run_batch([law_job(Path(name))], store)
            store.write_index()
        assert (progress.done, progress.failed) == (1, 0)
        files = [path for path in store.folder.rglob("*") if path.is_file()]
        return {path.relative_to(store.folder).as_posix(): path.read_bytes() for path in files}


def stored_law(folder: Path) -> rl.Store:
    """Write the store that a batch in this process makes of the law, and open it."""
    for name, content in once("stored_law", _batch).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return rl.open_store(folder)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reporting(RecipeJob):
    """A job that fails, with the devices and flags of its process as the reason."""

    key = "ff" * 16

    def fit(self) -> rl.Fit:
        import jax

        raise rl.DataError(f"{jax.default_backend()} {jax.config.jax_platforms} {os.environ['XLA_FLAGS']}")
