"""Posteriors in files: one NetCDF file per posterior and one index per directory; pickle is not used."""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import h5py
import numpy as np
from filelock import FileLock, Timeout

from rlceiling.errors import DataError
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import Posterior
from rlceiling.posterior.recorded import Stored

if TYPE_CHECKING:
    import xarray as xr

FILE_SCHEMA = 4
"""Version of the file format. Increase it when the meaning of the files changes; versions of the package with the same
schema read each other's files. Schema 4 has the tail of the curve of a recipe, which was 1 before."""

STAGES_SCHEMA = 5
"""Schema of a posterior whose run has stages, which versions that do not know stages must not read."""

OLDEST_SCHEMA = 3
"""Oldest schema that is still read."""

INDEX = "fits.json"

SIZES_FILE = "sizes.nc"
"""Name of the file in a directory that `Sizes.save` wrote."""
ATTRIBUTE = "rlceiling"

LOCK = ".lock"
"""File by which a folder is locked."""

GROUPS = ("posterior", "sample_stats", "observed_data")

AnyPosterior = TypeVar("AnyPosterior", bound=Posterior)


class Entry(NamedTuple):
    """Entry of the index of a directory for one posterior."""

    file: Path
    run_names: Sequence[str] | None
    """Names of the runs; None in an index written before run names were stored."""


def save_posteriors(fits: Mapping[str, Fit], notes: Sequence[str], directory: str | Path) -> None:
    """Write the posteriors of recipes to a directory.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    notes : sequence of str
        Notes on the changes made to the table of runs.
    directory : path
        It is created if it does not exist. Its index is replaced; a file of the same recipe is overwritten.

    Notes
    -----
    A file contains the groups ``posterior``, ``sample_stats`` and ``observed_data`` in the user's units, and can be
    opened with `xarray.open_datatree` without this package; its attribute contains settings, priors, thresholds,
    convergence diagnostics and verdict checks as JSON. Every file is renamed into place when it is complete, so a crash
    leaves no partial file.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: f"{file_stem(name)}.nc" for name in fits}
    runs = {}
    for name, file in files.items():
        fit = fits[name]
        runs[name] = fit.run_names
        replace_file(folder / file, netcdf_bytes(fit))
    index = {"schema": FILE_SCHEMA, "notes": list(notes), "fits": files, "runs": runs}
    replace_file(folder / INDEX, json.dumps(index, indent=1).encode())


def read_index(directory: str | Path) -> tuple[dict[str, Entry], Sequence[str]]:
    """Read the index written by `save_posteriors`: entries by name of the recipe, and the notes.

    Raises
    ------
    DataError
        If there is no index, it is damaged or was written under another schema, or a file that it names is missing.
    """
    folder = Path(directory)
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        schema, files, notes, runs = index["schema"], index["fits"], index["notes"], index.get("runs", {})
    except (FileNotFoundError, NotADirectoryError):
        law = "; it holds a law across model sizes, which rl.load_sizes and rlceiling sizes read"
        raise DataError(
            f"{folder} holds no {INDEX}{law if (folder / SIZES_FILE).exists() else ''}; name a directory written by "
            "fits.save or rlceiling fit --out."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{folder / INDEX} is damaged; write the fits again.") from None
    _check_schema(folder / INDEX, schema)
    entries = {name: Entry(folder / file, runs.get(name)) for name, file in files.items()}
    for entry in entries.values():
        if not entry.file.exists():
            raise DataError(f"{entry.file} is missing though the index names it; write the fits again.")
    return entries, notes


def netcdf_bytes(fit: Posterior) -> bytes:
    """Content of the file of one posterior; identical posteriors give identical bytes.

    The content equals the output of `xarray.DataTree.to_netcdf`, but is produced in an eighth of the time and without
    its locks, which a Dask worker cannot hold.
    """
    tree, content = _tree(fit), io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs[ATTRIBUTE] = tree.attrs[ATTRIBUTE]
        for name, node in tree.children.items():
            group = file.create_group(name, track_order=True)
            for dim, size in node.sizes.items():
                if dim in node.coords:
                    values = node.coords[dim].values
                    text = values.dtype.kind == "U"
                    scale = group.create_dataset(
                        dim, data=values.astype(object) if text else values, dtype=h5py.string_dtype() if text else None
                    )
                    scale.make_scale(dim)
                else:
                    group.create_dataset(dim, (size,), "f4").make_scale(f"{_NO_VARIABLE}{size:10}")
            for variable, array in node.data_vars.items():
                flag = array.dtype.kind == "b"
                stored = group.create_dataset(variable, data=array.values.astype("i1") if flag else array.values)
                if flag:
                    stored.attrs["dtype"] = "bool"
                for axis, dim in enumerate(array.dims):
                    stored.dims[axis].attach_scale(group[dim])
    return content.getvalue()


_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
"""Marker of NetCDF for a dimension without coordinates; it is followed by the size, in ten characters."""


def file_stem(name: str) -> str:
    """File name that is valid on all file systems; a checksum distinguishes names that differ in special characters."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:60] or "fit"
    return f"{slug}.{zlib.crc32(name.encode()):08x}"


def replace_file(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it into place; an OSError, for example of a full disk, names the file."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def locked(folder: Path, by: str) -> Iterator[None]:
    """Hold the lock of a folder, which only one writer can have; raises DataError if another one has it.

    The operating system releases it when the process ends, also when it is killed.

    Parameters
    ----------
    folder : Path
        The folder.
    by : str
        What writes such folders, for the error message.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{folder} is being written by another {by}; wait for it to end, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def _tree(fit: Posterior) -> xr.DataTree:
    # Imported here, because a file is read without xarray.
    import xarray as xr

    chains, draws = next(iter(fit.draws.values())).shape
    coords = {"chain": np.arange(chains), "draw": np.arange(draws)}
    runs, unit = fit.all_runs, fit.unit
    evaluations = {
        "run": np.repeat(np.arange(len(runs)), [len(run.compute) for run in runs]),
        "compute": np.concatenate([run.compute for run in runs]),
        "reward": fit.units.unscale(np.concatenate([run.reward for run in runs])),
        "n_eval": np.concatenate([run.n_eval for run in runs]),
    }
    posterior: dict[str, Any] = {k: (("chain", "draw"), v) for k, v in fit.draws.items()}
    posterior |= {f"{fit.unit_prefix}{k}": (("chain", "draw", unit), v) for k, v in fit.unit_draws.items()}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(posterior, {**coords, unit: [member.name for member in fit.members]}),
            "sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in fit.sample_stats.items()}, coords),
            "observed_data": xr.Dataset({k: ("evaluation", v) for k, v in evaluations.items()}),
        }
    )
    schema = STAGES_SCHEMA if any(run.stages for run in runs) else FILE_SCHEMA
    tree.attrs[ATTRIBUTE] = json.dumps({"schema": schema, **fit.describe()}, allow_nan=False)
    return tree


def read_fit(path: Path) -> Fit:
    """Read the posterior of a recipe from its file; raises DataError if the file cannot be read."""
    return read_posterior(path, Fit)


def read_posterior(path: Path, kind: type[AnyPosterior]) -> AnyPosterior:
    """Read a file with the content of `netcdf_bytes`.

    Parameters
    ----------
    path : Path
        The file.
    kind : type
        `Fit`, or the class of posteriors across sizes.

    Raises
    ------
    DataError
        If the file is missing, cannot be read, was written under another schema, or holds a posterior of another kind.
    """
    try:
        with h5py.File(path) as file:
            described = json.loads(file.attrs[ATTRIBUTE])
            _check_schema(path, described["schema"])
            if described.get("kind", "recipe") != kind.kind:
                raise DataError(
                    f"{path} holds the posterior of a {described.get('kind', 'recipe')} and not of a {kind.kind}; read "
                    f"it with {_READERS.get(described.get('kind', 'recipe'), 'another version of rlceiling')}."
                )
            groups = {group: _variables(file[group]) for group in GROUPS}
        posterior, data = groups["posterior"], groups["observed_data"]
        draws = {k: v for k, v in posterior.items() if v.ndim == 2}
        unit_draws = {k.removeprefix(kind.unit_prefix): v for k, v in posterior.items() if v.ndim == 3}
        return kind.restore(Stored(described, data, draws, unit_draws, groups["sample_stats"]))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; write the fits again.") from None
    except DataError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}); write the fits again.") from None


def _variables(group: h5py.Group) -> dict[str, np.ndarray]:
    """Variables of a group in the order in which they were written, without its dimensions and their coordinates."""
    found = {}
    for name, stored in group.items():
        if not stored.is_scale:
            values = stored[()]
            # NetCDF has no type for flags; this attribute is how xarray marks the integers in their place.
            found[name] = values.astype(bool) if stored.attrs.get("dtype") == "bool" else values
    return found


_READERS = {"recipe": "rl.load_fits", "law across sizes": "rl.load_sizes"}


def _check_schema(path: Path, schema: int) -> None:
    if schema < OLDEST_SCHEMA:
        raise DataError(
            f"{path} has schema {schema}, from before the runs of a recipe were fitted together, and this rlceiling "
            f"reads {OLDEST_SCHEMA} to {STAGES_SCHEMA}; fit again."
        )
    if schema > STAGES_SCHEMA:
        raise DataError(
            f"{path} has schema {schema} and this rlceiling reads up to {STAGES_SCHEMA}; update it with "
            "pip install --upgrade rlceiling."
        )
