"""The command ``rlceiling batch``: fit all that a manifest names, here or on a cluster, and keep it in a store."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlceiling.cli.options import Sampling
from rlceiling.errors import DataError, count

if TYPE_CHECKING:
    from rlceiling.jobs.batch import Progress
    from rlceiling.jobs.manifest import Plan

SPEAK_EVERY = 10.0
"""Seconds between two lines on how far a batch is, where they go to a log."""

# JAX and the fits are imported by the command: help must not wait for them.


def batch(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A TOML file that says what is to be fitted.")],
    store: Annotated[Path, typer.Option(metavar="DIR", help="Where posteriors are kept; made if it is not there.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what is there.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read every posterior first, and make again what is damaged.")
    ] = False,
    executor: Annotated[
        str, typer.Option(metavar="threads|processes|dask|ray|slurm", help="Who fits; threads of this process.")
    ] = "threads",
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Jobs at once; all cores unless told.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="A cluster of dask or ray that runs already.")
    ] = None,
    sbatch: Annotated[
        str | None, typer.Option(metavar="OPTIONS", help='For slurm, such as "--partition=cpu --time=04:00:00".')
    ] = None,
    chunk: Annotated[int, typer.Option(metavar="N", min=1, help="Jobs that go out together; 1 unless told.")] = 1,
) -> None:
    """Fit all that a manifest names and a store has not got yet. Exits with 1 if some jobs could not be fitted."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a trainer may be using the GPU

    from rlceiling.fitting.driver import available_cores
    from rlceiling.jobs.batch import run_batch
    from rlceiling.jobs.executors import executor_of
    from rlceiling.jobs.job_store import open_store
    from rlceiling.jobs.manifest import plan
    from rlceiling.jobs.outputs import write_outputs

    make_executor = executor_of(executor, workers or available_cores(), address, sbatch)
    if not manifest.is_file():
        raise DataError(f"there is no file {manifest}; name a manifest.")
    planned = plan(manifest)
    if dry_run:
        _tell(planned, store)
        return
    kept = open_store(store, create=True)
    cache = Sampling().configure_runtime()
    if cache is not None and address is None:  # for workers that begin here; those of a cluster may be other machines
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    terminal = sys.stderr.isatty()
    spoken = [0.0]

    def watch(progress: Progress) -> None:
        # A log gets a line now and then, a terminal one that changes.
        if terminal or time.monotonic() - spoken[0] > SPEAK_EVERY:
            spoken[0] = time.monotonic()
            typer.echo(f"\r\x1b[K{progress}" if terminal else str(progress), err=True, nl=not terminal)

    with kept.lock():
        if check and (damaged := kept.damaged()):
            typer.echo(f"{count(len(damaged), 'posterior')} damaged, to be made again", err=True)
            kept.discard(damaged)
        try:
            progress = run_batch(
                planned.jobs,
                kept,
                unreadable=planned.unreadable,
                make_executor=make_executor,
                workers=workers,
                chunk=chunk,
                watch=watch,
            )
        except KeyboardInterrupt:
            typer.echo(f"rlceiling: stopped; {store} has what is done, and the same command goes on", err=True)
            raise typer.Exit(130) from None
        finally:
            if terminal:
                typer.echo(err=True)
            kept.write_index()
        typer.echo(str(progress))
        failures = kept.failures()
        keys = {one.key for one in planned.unreadable} | {job.key for job in planned.jobs}
        for row in failures[failures.index.isin(keys)].to_dict("records"):
            typer.echo(f"failed: {row['recipe'] or row['source']}: {row['reason']}")
        command = shlex.join(["rlceiling", *sys.argv[1:]])
        for sentence in write_outputs(planned.outputs, planned.jobs, kept, command):
            typer.echo(sentence)
    if progress.failed:
        raise typer.Exit(1)


def _tell(planned: Plan, store: Path) -> None:
    """Say what would be done and what is there."""
    from rlceiling.jobs.job_store import open_store

    there = 0
    if store.exists():
        kept = open_store(store)
        there = sum(kept.has(job.key) for job in planned.jobs)
    typer.echo(f"{count(len(planned.jobs), 'job')}: {there} there, {len(planned.jobs) - there} to be fitted")
    for one in planned.unreadable:
        typer.echo(f"cannot be fitted: {one.reason}")
