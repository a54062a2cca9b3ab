"""Save fits to a directory and load them back: one NetCDF file a fit and an index, never pickle."""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from rlceiling.errors import DataError
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.fit import Fit, Settings, Units
from rlceiling.posterior.fits import Fits
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.runs import Run

SCHEMA = 3
"""Version of the files. Raise it when their meaning changes; new versions of the package that leave the meaning alone
read old files as they are."""

INDEX = "fits.json"
ATTRIBUTE = "rlceiling"


def save_fits(fits: Fits, directory: str | Path) -> None:
    """Write fits to a directory.

    Parameters
    ----------
    fits : Fits
        Posteriors.
    directory : path
        Made if it is not there. Its index is replaced; a file of the same fit is written over.

    Notes
    -----
    A file holds the groups ``posterior``, ``sample_stats`` and ``observed_data`` in the user's units, and opens with
    `xarray.open_datatree` without this package. Files are put in place whole, so a crash leaves no half file.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: f"{file_stem(name)}.nc" for name in fits}
    for name, file in files.items():
        replace_file(folder / file, netcdf_bytes(fits[name]))
    index = {
        "schema": SCHEMA,
        "notes": list(fits.table_notes),
        "fits": files,
    }
    replace_file(folder / INDEX, json.dumps(index, indent=1).encode())


def netcdf_bytes(fit: Fit) -> bytes:
    """Content of the file that holds the posterior of one recipe; the same bytes for the same posterior.

    It is what `xarray.DataTree.to_netcdf` would write, in an eighth of the time and without its locks, which a Dask
    worker cannot hold.
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
"""How NetCDF marks a dimension without coordinates; its size follows, in ten places."""


def load_fits(directory: str | Path) -> Fits:
    """Read fits that `Fits.save` or ``rlceiling fit --out`` wrote.

    Parameters
    ----------
    directory : path
        Where they were written.

    Returns
    -------
    Fits
        The same draws to the last bit, with the priors, settings and thresholds they were made with.

    Raises
    ------
    DataError
        If there is no index, a file is missing or unreadable, or it was written under another schema.
    """
    folder = Path(directory)
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        schema, files, notes = index["schema"], index["fits"], index["notes"]
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no {INDEX}; name a directory written by fits.save or rlceiling fit --out."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / INDEX} is damaged; write the fits again.") from None
    _check_schema(folder / INDEX, schema)
    return Fits([read_fit(folder / file) for file in files.values()], notes)


def file_stem(name: str) -> str:
    """A file name anybody's disk takes; the checksum keeps names apart that look alike without their signs."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:60] or "fit"
    return f"{slug}.{zlib.crc32(name.encode()):08x}"


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside its place and put it there whole; an OSError, as of a full disk, names the file."""
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


def _tree(fit: Fit) -> xr.DataTree:
    sizes = next(iter(fit.draws.values())).shape
    coords = {"chain": np.arange(sizes[0]), "draw": np.arange(sizes[1])}
    evaluations = {
        "run": np.repeat(np.arange(len(fit.runs)), [len(run.compute) for run in fit.runs]),
        "compute": np.concatenate([run.compute for run in fit.runs]),
        "reward": fit.units.unscale(np.concatenate([run.reward for run in fit.runs])),
        "n_eval": np.concatenate([run.n_eval for run in fit.runs]),
    }
    posterior: dict[str, Any] = {k: (("chain", "draw"), v) for k, v in fit.draws.items()}
    posterior |= {f"run_{k}": (("chain", "draw", "run"), v) for k, v in fit.run_draws.items()}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(posterior, {**coords, "run": fit.run_names}),
            "sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in fit.sample_stats.items()}, coords),
            "observed_data": xr.Dataset({k: ("evaluation", v) for k, v in evaluations.items()}),
        }
    )
    described = {
        "schema": SCHEMA,
        "name": fit.name,
        "runs": [{"name": run.run, "start": run.start and [_or_none(v) for v in run.start]} for run in fit.runs],
        "units": asdict(fit.units),
        "settings": asdict(fit.settings),
        "priors": fit.priors.to_dict(),
        "rules": asdict(fit.rules),
    }
    tree.attrs[ATTRIBUTE] = json.dumps(described, allow_nan=False)
    return tree


def read_fit(path: Path) -> Fit:
    """Read what `netcdf_bytes` made; raises DataError where that cannot be done."""
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            described = json.loads(tree.attrs[ATTRIBUTE])
            _check_schema(path, described["schema"])
            groups = {
                group: {str(k): np.array(v.values) for k, v in tree[group].data_vars.items()}
                for group in ("posterior", "sample_stats", "observed_data")
            }
        return _fit_of(described, groups)
    except FileNotFoundError:
        raise DataError(f"{path} is missing though the index names it; write the fits again.") from None
    except DataError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}); write the fits again.") from None


def _fit_of(described: dict[str, Any], groups: dict[str, dict[str, np.ndarray]]) -> Fit:
    units = Units(described["units"]["compute"], described["units"]["reward"], tuple(described["units"]["bounds"]))
    data, posterior = groups["observed_data"], groups["posterior"]
    runs = []
    for i, one in enumerate(described["runs"]):
        own, start = data["run"] == i, one["start"]
        runs.append(
            Run(
                recipe=described["name"],
                run=one["name"],
                compute=data["compute"][own],
                reward=units.scale(data["reward"][own]),
                n_eval=data["n_eval"][own],
                start=start and (start[0], np.nan if start[1] is None else start[1]),
            )
        )
    return Fit(
        name=described["name"],
        runs=tuple(runs),
        units=units,
        priors=SigmoidPriors.from_dict(described["priors"]),
        settings=Settings(**described["settings"]),
        draws={k: v for k, v in posterior.items() if not k.startswith("run_")},
        run_draws={k.removeprefix("run_"): v for k, v in posterior.items() if k.startswith("run_")},
        sample_stats=groups["sample_stats"],
        rules=VerdictRules(**described["rules"]),
    )


def _check_schema(path: Path, schema: int) -> None:
    if schema < SCHEMA:
        raise DataError(
            f"{path} has schema {schema}, from before the runs of a recipe were fitted together, and this rlceiling "
            f"reads {SCHEMA}; fit again."
        )
    if schema > SCHEMA:
        raise DataError(
            f"{path} has schema {schema} and this rlceiling reads {SCHEMA}; update it with "
            "pip install --upgrade rlceiling."
        )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
