"""The command ``rlceiling batch``: fit what a manifest names, on this machine or a cluster, into a store."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlceiling.cli.options import Sampling
from rlceiling.cli.output import AsJson, print_json
from rlceiling.errors import DataError, count

if TYPE_CHECKING:
    from rlceiling.jobs.batch import Progress
    from rlceiling.jobs.manifest import Plan

SECONDS_BETWEEN_LINES = 10.0
"""Time between two lines of progress where they are written to a log."""

# JAX and the fits are imported inside the command, so that --help does not wait for them.


def batch(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A TOML file that names what is fitted.")],
    store: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the posteriors; it is made if it does not exist.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print how many jobs there are and how many are in the store, and stop.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read every stored posterior first, and fit damaged ones again.")
    ] = False,
    executor: Annotated[
        str, typer.Option(metavar="threads|processes|dask|ray|slurm", help="What runs the jobs.")
    ] = "threads",
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Number of jobs at once.", show_default="all cores")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of a running cluster, for dask and ray.")
    ] = None,
    sbatch: Annotated[
        str | None,
        typer.Option(metavar="OPTIONS", help='Options for slurm, such as "--partition=cpu --time=04:00:00".'),
    ] = None,
    chunk: Annotated[int, typer.Option(metavar="N", min=1, help="Number of jobs submitted together.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Fit what a manifest names and a store does not hold yet. The exit code is 1 if some jobs could not be fitted."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a trainer may be using the GPU

    from rlceiling.fitting.driver import available_cores
    from rlceiling.jobs.batch import run_batch
    from rlceiling.jobs.executors import executor_of
    from rlceiling.jobs.job_store import open_store
    from rlceiling.jobs.manifest import plan
    from rlceiling.jobs.outputs import write_outputs

    make_executor = executor_of(executor, workers or available_cores(), address, sbatch)
    if not manifest.is_file():
        raise DataError(f"{manifest} does not exist; name a manifest.")
    planned = plan(manifest)
    if dry_run:
        _print_plan(planned, store, as_json)
        return
    opened = open_store(store, create=True)
    cache = Sampling().configure_runtime()
    if cache is not None and address is None:  # workers of a running cluster may be on other machines
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    terminal = sys.stderr.isatty()
    last_line = [0.0]

    def watch(progress: Progress) -> None:
        # A terminal gets one line that changes, a log a new line now and then.
        if terminal or time.monotonic() - last_line[0] > SECONDS_BETWEEN_LINES:
            last_line[0] = time.monotonic()
            typer.echo(f"\r\x1b[K{progress}" if terminal else str(progress), err=True, nl=not terminal)

    with opened.lock():
        if check and (damaged := opened.damaged()):
            typer.echo(f"{count(len(damaged), 'damaged posterior')} to be fitted again", err=True)
            opened.discard(damaged)
        try:
            progress = run_batch(
                planned.jobs,
                opened,
                unreadable=planned.unreadable,
                make_executor=make_executor,
                workers=workers,
                chunk=chunk,
                watch=watch,
            )
        except KeyboardInterrupt:
            typer.echo(
                f"rlceiling: stopped; {store} holds what is done, and the same command continues from there", err=True
            )
            raise typer.Exit(130) from None
        finally:
            if terminal:
                typer.echo(err=True)
            opened.write_index()
        failures = opened.failures()
        keys = {one.key for one in planned.unreadable} | {job.key for job in planned.jobs}
        failed = failures[failures.index.isin(keys)]
        outputs = write_outputs(planned.outputs, planned.jobs, opened, shlex.join(["rlceiling", *sys.argv[1:]]))
        if as_json:
            names = ("total", "n_cached", "done", "failed", "verdicts")
            counts = {name: getattr(progress, name) for name in names}
            asked = {"manifest": manifest, "store": store}
            print_json("batch", asked, {"progress": counts, "failures": failed, "notes": outputs})
        else:
            typer.echo(str(progress))
            for row in failed.to_dict("records"):
                typer.echo(f"failed: {row['recipe'] or row['source']}: {row['reason']}")
            for sentence in outputs:
                typer.echo(sentence)
    if progress.failed:
        raise typer.Exit(1)


def _print_plan(planned: Plan, store: Path, as_json: bool) -> None:
    """Print how many jobs there are, how many of them are in the store, and what cannot be fitted."""
    from rlceiling.jobs.job_store import is_unbegun, open_store

    n_cached = 0
    if not is_unbegun(store):
        opened = open_store(store)
        n_cached = sum(all(map(opened.has, job.keys.values())) for job in planned.jobs)
    total = len(planned.jobs)
    if as_json:
        counts = {"total": total + len(planned.unreadable), "n_cached": n_cached}
        failures = [
            {"source": one.label.source, "recipe": one.recipe, "reason": one.reason} for one in planned.unreadable
        ]
        print_json("batch", {"dry_run": True, "store": store}, {"progress": counts, "failures": failures})
        return
    typer.echo(f"{count(total, 'job')}: {n_cached} in the store, {total - n_cached} to be fitted")
    for one in planned.unreadable:
        typer.echo(f"cannot be fitted: {one.reason}")
