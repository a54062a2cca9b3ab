"""Posteriors in files: one NetCDF file per posterior and one index per directory; pickle is not used."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import h5py
import numpy as np

from rlceiling.errors import DataError
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import Posterior
from rlceiling.posterior.recorded import Stored
from rlceiling.writing import file_stem, remove_partials, replace_file, save_lock

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

WRITE_AGAIN = "write the fits again"

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
    convergence diagnostics and verdict checks as JSON, and it ends with the SHA-256 of what stands before. The name of
    a file contains that digest, so new files stand beside the old ones until the index, which is replaced last, names
    them; files that it no longer names are then deleted. A process that is killed leaves the old set whole. Processes
    that save into one directory at the same time wait for each other, and the set of the last one stays.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with save_lock(folder) as alone:
        files, runs = {}, {}
        for name, fit in fits.items():
            content = netcdf_bytes(fit)
            files[name] = f"{file_stem(name)}.{hashlib.sha256(content).hexdigest()[:16]}.nc"
            runs[name] = list(fit.run_names)
            replace_file(folder / files[name], content)
        stale = (_files_of_saves(folder) if alone else set()) - set(files.values())
        index = {"schema": FILE_SCHEMA, "notes": list(notes), "fits": files, "runs": runs}
        replace_file(folder / INDEX, json.dumps(index | {"sha256": _index_digest(index)}, indent=1).encode())
        for file in stale:
            (folder / file).unlink(missing_ok=True)
        if alone:
            for pattern in ("*.nc", INDEX):
                remove_partials(folder, pattern)


_SAVED = re.compile(r"[A-Za-z0-9._-]+\.[0-9a-f]{8}\.[0-9a-f]{16}\.nc")
"""Names of the files of `save_posteriors`; earlier versions wrote them without the second part, the digest."""


def _files_of_saves(folder: Path) -> set[str]:
    """Names of files that earlier saves wrote into a folder, including those of saves that were killed."""
    try:
        indexed = {entry.file.name for entry in read_index(folder)[0].values()}
    except DataError:
        indexed = set()
    return indexed | {path.name for path in folder.glob("*.nc") if _SAVED.fullmatch(path.name)}


def _index_digest(index: Mapping[str, Any]) -> str:
    """SHA-256 of the entries of an index, whose order counts."""
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


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
        digest = index.pop("sha256", None)  # earlier versions wrote none
        _check_schema(folder / INDEX, index["schema"])
        files, notes, runs = index["fits"], index["notes"], index.get("runs", {})
    except (FileNotFoundError, NotADirectoryError):
        law = "; it holds a law across model sizes, which rl.load_sizes and rlceiling sizes read"
        raise DataError(
            f"{folder} holds no {INDEX}{law if (folder / SIZES_FILE).exists() else ''}; name a directory written by "
            "fits.save or rlceiling fit --out."
        ) from None
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{folder / INDEX} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{folder / INDEX} is damaged; write the fits again.") from None
    whole = (
        digest in (None, _index_digest(index))
        and _texts(notes)
        and isinstance(files, dict)
        and all(isinstance(file, str) and _PLAIN.fullmatch(file) for file in files.values())
        and isinstance(runs, dict)
        and all(_texts(own) and own for own in runs.values())
    )
    if not whole:
        raise DataError(f"{folder / INDEX} is damaged; write the fits again.")
    entries = {name: Entry(folder / file, runs.get(name)) for name, file in files.items()}
    for entry in entries.values():
        if not entry.file.exists():
            raise DataError(f"{entry.file} is missing though the index names it; write the fits again.")
    return entries, notes


_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.nc")
"""Names of files in an index, which lie in its own directory."""


def _texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def netcdf_bytes(fit: Posterior) -> bytes:
    """Content of the file of one posterior; identical posteriors give identical bytes.

    The content equals the output of `xarray.DataTree.to_netcdf`, but is produced in an eighth of the time and without
    its locks, which a Dask worker cannot hold. It is followed by its SHA-256, which HDF5 does not read.
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
    written = content.getvalue()
    return written + _SEAL + hashlib.sha256(written).hexdigest().encode() + b"\n"


_SEAL = b"\nrlceiling sha256 "
"""Marker of the digest at the end of a file, which is followed by 64 characters and the end of the line."""

_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
"""Marker of NetCDF for a dimension without coordinates; it is followed by the size, in ten characters."""


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


def read_fit(path: Path, name: str | None = None, *, sha256: str | None = None, remedy: str = WRITE_AGAIN) -> Fit:
    """Read the posterior of a recipe from its file.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        Name of the recipe by an index. Default: not compared.
    sha256, remedy
        As in `read_posterior`.

    Raises
    ------
    DataError
        If the file cannot be read, or is that of another recipe.
    """
    fit = read_posterior(path, Fit, sha256=sha256, remedy=remedy)
    if name is not None and fit.name != name:
        raise DataError(f"{path} holds the posterior of {fit.name!r}, and its index says {name!r}; {remedy}.")
    return fit


def read_posterior(
    path: Path, kind: type[AnyPosterior], *, sha256: str | None = None, remedy: str = WRITE_AGAIN
) -> AnyPosterior:
    """Read a file with the content of `netcdf_bytes`.

    Parameters
    ----------
    path : Path
        The file.
    kind : type
        `Fit`, or the class of posteriors across sizes.
    sha256 : str, optional
        Digest of the file that is stored elsewhere. Default: only the digest at the end of the file is checked, which
        files of earlier versions do not have.
    remedy : str
        What to do about a damaged file, for the message.

    Raises
    ------
    DataError
        If the file is missing, damaged, cannot be read, was written under another schema, or holds a posterior of
        another kind.
    """
    try:
        content = path.read_bytes()
        if not _is_whole(content, sha256):
            raise DataError(f"{path} is damaged: its content does not match its digest; {remedy}.")
        with h5py.File(io.BytesIO(content)) as file:
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
        raise DataError(f"{path} is missing; {remedy}.") from None
    except DataError:
        raise
    except Exception as error:  # a file without a digest may hold anything
        raise DataError(f"{path} cannot be read ({type(error).__name__}); {remedy}.") from None


def _is_whole(content: bytes, sha256: str | None) -> bool:
    """Whether a file matches the digest at its end, and `sha256` if there is one.

    A file without a digest is from an earlier version, unless it is longer or shorter than its HDF5 superblock says:
    then its digest is damaged, or its end is missing.
    """
    if not content.startswith(b"\x89HDF\r\n\x1a\n"):
        return False
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        return False
    sealed = re.fullmatch(re.escape(_SEAL) + rb"([0-9a-f]{64})\n", content[-(len(_SEAL) + 65) :])
    if sealed:
        return hashlib.sha256(memoryview(content)[: -len(sealed[0])]).hexdigest().encode() == sealed[1]
    # Superblocks of version 0, which h5py writes, with addresses of 8 bytes; the end of the file stands at byte 40.
    return content[8:9] + content[13:14] != b"\0\x08" or int.from_bytes(content[40:48], "little") == len(content)


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
    if type(schema) is not int:
        raise DataError(f"{path} is damaged: its schema is {str(schema)[:40]!r} and no whole number; {WRITE_AGAIN}.")
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
