"""What a batch writes beside its posteriors when it ends: tables, draws, pictures and a report."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rlceiling.calibration.growth import Growth
from rlceiling.errors import DataError, count
from rlceiling.jobs.job import Job
from rlceiling.jobs.job_store import Store, newest, read_json
from rlceiling.jobs.manifest import Outputs
from rlceiling.posterior.files import file_stem, replace_file
from rlceiling.results.fits import Fits

WRITTEN = "outputs.json"
"""Says of each file from what it was written, so that it is written again only when that changes."""


def write_outputs(outputs: Outputs, jobs: Sequence[Job], store: Store, command: str | None = None) -> Iterator[str]:
    """Write what a manifest asks for.

    Parameters
    ----------
    outputs : Outputs
        What is asked for.
    jobs : sequence of Job
        Jobs of the manifest; outputs are of these, whatever else the store holds.
    store : Store
        Their posteriors, and where outputs are written.
    command : str, optional
        The command, for the report.

    Yields
    ------
    str
        What was written, or why it was not, as soon as it is.
    """
    keys = {job.key for job in jobs}
    index = store.index()
    index = index[index.index.isin(keys)]
    if not len(index):
        return
    folder, table = store.folder, index.to_csv().encode()
    writers: dict[str, Callable[[Path], None]] = {}
    if outputs.summary:
        writers["summary.csv"] = lambda path: replace_file(path, table)
    if outputs.draws:
        writers["draws.parquet"] = lambda path: _write_draws(path, index, store)
    if outputs.report:
        writers["report.html"] = lambda path: _write_report(path, keys, store, command)
    content = hashlib.sha256(table).hexdigest()
    written = read_json(folder / WRITTEN)
    for name, write in writers.items():
        path = folder / name
        if written.get(name) == content and path.exists():
            yield f"{path} is as it was"
            continue
        try:
            write(path)
        except DataError as error:  # which is no reason to call the batch a failure
            yield f"no {name}: {error}"
            continue
        written[name] = content
        replace_file(folder / WRITTEN, json.dumps(written).encode())
        yield f"wrote {path}"
    if outputs.plots:
        yield from _draw(folder / "plots", index, store)


def _write_report(path: Path, keys: set[str], store: Store, command: str | None) -> None:
    from rlceiling.report.page import write_report

    write_report(store.fits(lambda rows: rows.index.isin(keys)), path, command=command)


def _write_draws(path: Path, index: pd.DataFrame, store: Store) -> None:
    """One row a draw; one posterior after the other, so that memory holds one."""
    partial = path.with_name(f".{path.name}.partial")
    writer = None
    try:
        for key in index.index.unique():
            fit = store.fit(str(key))
            chains, draws = fit.draws["A"].shape
            columns = {
                "key": np.full(chains * draws, str(key)),
                "recipe": np.full(chains * draws, fit.name),
                "chain": np.repeat(np.arange(chains), draws),
                "draw": np.tile(np.arange(draws), chains),
                **{name: values.ravel() for name, values in fit.draws.items()},
            }
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(partial, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _draw(folder: Path, index: pd.DataFrame, store: Store) -> Iterator[str]:
    """Pictures of every curve and of its growth, named after their posteriors so that only new ones are drawn."""
    from rlceiling.report.compute_plots import plot_growth
    from rlceiling.report.curve_plots import plot_curves
    from rlceiling.report.style import figure_of

    folder.mkdir(exist_ok=True)
    rows = newest(index[index["cut_compute"].isna()])
    wanted, drawn = set[str](), 0
    for (source, recipe), own in rows.groupby(["source", "recipe"], sort=False):
        keys = dict(zip(own["share"], own.index, strict=True))
        if 1.0 not in keys:  # its log is shorter than four evaluations by now
            continue
        for what in ("curve", "growth")[: min(len(keys), 2)]:
            used = keys if what == "growth" else {1.0: keys[1.0]}
            digest = hashlib.sha256("".join(used.values()).encode()).hexdigest()[:8]
            name = f"{file_stem(str(source))}.{file_stem(str(recipe))}.{what}.{digest}.png"
            wanted.add(name)
            if (folder / name).exists():
                continue
            fits = {share: Fits([store.fit(key)]) for share, key in used.items()}
            picture = io.BytesIO()
            ax = plot_growth(Growth(fits)) if what == "growth" else plot_curves(fits[1.0])
            figure_of(ax).savefig(picture, format="png")
            replace_file(folder / name, picture.getvalue())
            drawn += 1
    for stale in {path.name for path in folder.glob("*.png")} - wanted:
        (folder / stale).unlink()
    yield f"drew {count(drawn, 'new picture')} of {len(wanted)} in {folder}"
