"""Outputs of a batch, written when it ends: tables, draws, pictures and a report."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rlceiling.calibration.growth import Growth
from rlceiling.errors import DataError, count
from rlceiling.jobs.job import Job
from rlceiling.jobs.job_store import Store, is_law, newest, read_json
from rlceiling.jobs.manifest import Outputs
from rlceiling.results.fits import Fits
from rlceiling.writing import file_stem, replace_file, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRITTEN = "outputs.json"
"""File with the digest of the index that each output was written from; an output is rewritten if that changes."""


def write_outputs(outputs: Outputs, jobs: Sequence[Job], store: Store, command: str | None = None) -> Iterator[str]:
    """Write the outputs that a manifest names.

    Parameters
    ----------
    outputs : Outputs
        Outputs to be written.
    jobs : sequence of Job
        Jobs of the manifest; other posteriors of the store are left out.
    store : Store
        Holds the posteriors; outputs are written into its folder.
    command : str, optional
        Command that is shown in the report.

    Yields
    ------
    str
        One sentence per output, as soon as it is written: its path, or why it was not written.
    """
    keys = {key for job in jobs for key in job.keys.values()}
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
        writers["report.html"] = lambda path: _write_report(path, index, store, command)
    digest = hashlib.sha256(table).hexdigest()
    written = read_json(folder / WRITTEN)
    for name, write in writers.items():
        path = folder / name
        if written.get(name) == digest and path.exists():
            yield f"{path} is up to date"
            continue
        try:
            write(path)
        except DataError as error:  # the posteriors are stored, so the batch has not failed
            yield f"no {name}: {error}"
            continue
        written[name] = digest
        replace_file(folder / WRITTEN, json.dumps(written).encode())
        yield f"wrote {path}"
    if outputs.plots:
        yield from _draw(folder / "plots", index, store)


def _write_report(path: Path, index: pd.DataFrame, store: Store, command: str | None) -> None:
    """Write the report of recipes without cuts and of laws."""
    from rlceiling.report.page import write_report

    recipes = not is_law(index).all()
    fits = store.fits(lambda rows: rows.index.isin(index.index)) if recipes else Fits()
    laws = newest(index[is_law(index)])
    sizes = [store.read_sizes(str(key)) for key in laws.index.unique()]
    own: dict[str, Any] = {"sizes": sizes} if sizes else {}
    write_report(fits, path, command=command, **own)


def _write_draws(path: Path, index: pd.DataFrame, store: Store) -> None:
    """Write the draws of recipes, one row per draw, reading one posterior at a time to save memory."""
    keys = index.index[~is_law(index)].unique()
    if not len(keys):
        raise DataError("it holds draws of recipes, and the manifest names only laws; read those with store.sizes().")
    with replacing(path) as file:
        writer = None
        for key in keys:
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
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()


def _draw(folder: Path, index: pd.DataFrame, store: Store) -> Iterator[str]:
    """Draw every curve, its growth and every law.

    The name of a picture holds a digest of the keys that it was drawn from, so only new ones are drawn; pictures that
    no row of the index asks for are deleted.
    """
    folder.mkdir(exist_ok=True)
    wanted, drawn = set[str](), 0
    for stem, keys, draw in _pictures(newest(index[index["cut_compute"].isna()]), store):
        digest = hashlib.sha256("".join(keys).encode()).hexdigest()[:8]
        name = f"{stem}.{digest}.png"
        wanted.add(name)
        if (folder / name).exists():
            continue
        picture = io.BytesIO()
        draw().savefig(picture, format="png")
        replace_file(folder / name, picture.getvalue())
        drawn += 1
    for stale in {path.name for path in folder.glob("*.png")} - wanted:
        (folder / stale).unlink()
    yield f"drew {count(drawn, 'new picture')} of {len(wanted)} in {folder}"


def _pictures(rows: pd.DataFrame, store: Store) -> Iterator[tuple[str, list[str], Callable[[], Figure]]]:
    """Yield the beginning of the name of each picture, the keys it is drawn from, and a function that draws it."""
    from rlceiling.report.compute_plots import plot_growth
    from rlceiling.report.curve_plots import plot_curves
    from rlceiling.report.size_plots import plot_sizes
    from rlceiling.report.style import figure_of

    def law(key: str) -> Callable[[], Figure]:
        return lambda: plot_sizes(store.read_sizes(key))

    def curve(key: str) -> Callable[[], Figure]:
        return lambda: figure_of(plot_curves(Fits([store.fit(key)])))

    def growth(keys: dict[float, str]) -> Callable[[], Figure]:
        return lambda: figure_of(plot_growth(Growth({share: Fits([store.fit(key)]) for share, key in keys.items()})))

    for (source, _, recipe), own in rows.groupby(["source", "family", "recipe"], sort=False):
        stem = f"{file_stem(str(source))}.{file_stem(str(recipe))}"
        keys = dict(zip(own["share"], own.index.astype(str), strict=True))
        if 1.0 not in keys:  # the log has lost evaluations and is now too short for a fit
            continue
        if is_law(own).all():
            yield f"{stem}.law", [keys[1.0]], law(keys[1.0])
            continue
        yield f"{stem}.curve", [keys[1.0]], curve(keys[1.0])
        if len(keys) > 1:
            yield f"{stem}.growth", list(keys.values()), growth(keys)
