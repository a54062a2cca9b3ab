"""Save fits to a directory and load them back: one NetCDF file a fit and an index, never pickle."""

from __future__ import annotations

import json
import os
import re
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from rlceiling.errors import DataError
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.fit import Fit, Fits, Settings, Units
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.runs import Run

SCHEMA = 2
"""Version of the files. Raise it when their meaning changes and teach `_read_fit` the old one; new versions of the
package that leave the meaning alone read old files as they are."""

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
    files = {name: _file_name(name) for name in fits}
    for name, file in files.items():
        _replace(folder / file, lambda path, fit=fits[name]: _tree(fit).to_netcdf(path, engine="h5netcdf"))
    index = {"schema": SCHEMA, "notes": list(fits.notes), "fits": files}
    _replace(folder / INDEX, lambda path: path.write_text(json.dumps(index, indent=1), encoding="utf-8"))


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
        If there is no index, a file is missing or unreadable, or it was written by a newer schema.
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
    return Fits([_read_fit(folder / file) for file in files.values()], notes)


def _file_name(name: str) -> str:
    """A file name anybody's disk takes; the checksum keeps names apart that look alike without their signs."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:60] or "fit"
    return f"{slug}.{zlib.crc32(name.encode()):08x}.nc"


def _replace(path: Path, write: Any) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _tree(fit: Fit) -> xr.DataTree:
    sizes = next(iter(fit.draws.values())).shape
    coords = {"chain": np.arange(sizes[0]), "draw": np.arange(sizes[1])}
    e = fit.evaluations
    evaluations = {"compute": e.compute, "reward": fit.units.unscale(e.reward), "n_eval": e.n_eval}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({k: (("chain", "draw"), v) for k, v in fit.draws.items()}, coords),
            "sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in fit.sample_stats.items()}, coords),
            "observed_data": xr.Dataset({k: ("evaluation", v) for k, v in evaluations.items()}),
        }
    )
    described = {
        "schema": SCHEMA,
        "name": fit.name,
        "recipe": e.recipe,
        "run": e.run,
        "start": e.start and [_or_none(v) for v in e.start],
        "units": asdict(fit.units),
        "settings": asdict(fit.settings),
        "priors": fit.priors.to_dict(),
        "rules": asdict(fit.rules),
    }
    tree.attrs[ATTRIBUTE] = json.dumps(described, allow_nan=False)
    return tree


def _read_fit(path: Path) -> Fit:
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
    data = groups["observed_data"]
    start, rules = described["start"], described["rules"]
    if described["schema"] < 2:  # a run had to be past its midpoint itself
        rules = {**rules, "min_reach": 1.0, "min_p_reach": rules["min_p_past_midpoint"]}
        del rules["min_p_past_midpoint"]
    run = Run(
        recipe=described["recipe"],
        run=described["run"],
        compute=data["compute"],
        reward=units.scale(data["reward"]),
        n_eval=data["n_eval"],
        start=start and (start[0], np.nan if start[1] is None else start[1]),
    )
    return Fit(
        name=described["name"],
        evaluations=run,
        units=units,
        priors=SigmoidPriors.from_dict(described["priors"]),
        settings=Settings(**described["settings"]),
        draws=groups["posterior"],
        sample_stats=groups["sample_stats"],
        rules=VerdictRules(**rules),
    )


def _check_schema(path: Path, schema: int) -> None:
    if schema > SCHEMA:
        raise DataError(
            f"{path} has schema {schema} and this rlceiling reads up to {SCHEMA}; update it with "
            "pip install --upgrade rlceiling."
        )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
