"""A store of posteriors: a directory that is its own truth, addressed by content, safe to be killed at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from rlceiling.calibration.growth import Growth
from rlceiling.errors import DataError, count, listing
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.fits import Fits
from rlceiling.posterior.store import read_fit, replace_file, write_fit

SCHEMA = 1
"""Version of the directory."""

MARK, INDEX, LOCK = "store.json", "index.parquet", ".lock"


class Store:
    """Posteriors of many jobs in a directory.

    A posterior is ``fits/ab/KEY.nc``, and done once ``fits/ab/KEY.json`` beside it says so, with its size, its
    digest and its row of the index; a job that could not be fitted has ``failures/KEY.json``. The index
    ``index.parquet`` is made from these whenever a batch ends, and can be made again from them at any time.

    Made by `rlceiling.open_store`.

    Attributes
    ----------
    folder : Path
        The directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # Writing ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for one writer; raises DataError if there is another one.

        The system lets go of it when a process ends, however it ends.
        """
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise DataError(
                f"{self.folder} is being written by another batch; wait for it to end, or stop it."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def put(self, key: str, fit: Fit, row: Mapping[str, Any]) -> None:
        """Keep a posterior; it is there once its row is."""
        path = self._path(key)
        with tempfile.TemporaryDirectory() as folder:  # a full disk must not be met by HDF5, which cannot tell of it
            write_fit(fit, Path(folder) / "fit.nc")
            content = (Path(folder) / "fit.nc").read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, content)
        marked = {"row": dict(row), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _write_json(path.with_suffix(".json"), marked)
        (self.folder / "failures" / f"{key}.json").unlink(missing_ok=True)

    def put_failure(self, key: str, row: Mapping[str, Any]) -> None:
        """Keep the reason why a job could not be fitted."""
        folder = self.folder / "failures"
        folder.mkdir(exist_ok=True)
        _write_json(folder / f"{key}.json", dict(row) | {"failed_at": now()})

    def forget_failures(self, sources: Iterable[str]) -> None:
        """Forget why jobs of some sources failed, since these are tried again."""
        failed = self.failures()
        for key in failed.index[failed["source"].isin(set(sources))]:
            (self.folder / "failures" / f"{key}.json").unlink(missing_ok=True)

    def write_index(self) -> Path:
        """Write the index as one Parquet file."""
        path = self.folder / INDEX
        replace_file(path, self.index().reset_index().to_parquet)
        return path

    # Reading ----------------------------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Whether a posterior is there and as long as it was written."""
        path = self._path(key)
        try:
            marked = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            return bool(path.stat().st_size == marked["bytes"])
        except (OSError, ValueError, KeyError):
            return False

    def damaged(self) -> list[str]:
        """Keys of posteriors that are not what was written: a file that is missing, cut short or changed."""
        found = []
        for mark in self._marks():
            path = mark.with_suffix(".nc")
            try:
                whole = _digest(path) == json.loads(mark.read_text(encoding="utf-8"))["sha256"]
            except (OSError, ValueError, KeyError):
                whole = False
            if not whole:
                found.append(mark.stem)
        return found

    def discard(self, keys: Iterable[str]) -> None:
        """Forget posteriors, so that they are made again."""
        for key in keys:
            self._path(key).with_suffix(".json").unlink(missing_ok=True)
            self._path(key).unlink(missing_ok=True)

    def index(self) -> pd.DataFrame:
        """One row a posterior.

        Returns
        -------
        DataFrame
            Index: key. Columns: ``source``, ``recipe``, ``share`` (1 as it stands), ``largest_compute``, ``runs``,
            ``evaluations``, ``A``, ``B`` and ``C_mid`` with 90% interval ends, ``verdict``, ``advice``, ``r_hat``,
            ``ess_bulk``, ``ess_tail``, ``divergences``, ``seconds`` and ``fitted_at`` (UTC). Quote ``A`` only where the
            verdict is IDENTIFIED.
        """
        rows = {}
        for mark in self._marks():
            try:
                rows[mark.stem] = json.loads(mark.read_text(encoding="utf-8"))["row"]
            except (OSError, ValueError, KeyError):  # cut short; its job is done again
                continue
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("key")
        return table.sort_values(["source", "recipe", "share"], kind="stable") if len(table) else table

    def failures(self) -> pd.DataFrame:
        """One row a job that could not be fitted: ``source``, ``recipe``, ``share``, ``reason``, ``failed_at``."""
        rows = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(self.folder.glob("failures/*.json"))}
        columns = ["source", "recipe", "share", "reason", "failed_at"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("key")

    def fit(self, key: str) -> Fit:
        """Posterior of one job; raises DataError if it is not there or not what was written."""
        if not self.has(key):
            raise DataError(f"{self.folder} has no whole posterior {key}; run the batch again.")
        return read_fit(self._path(key))

    def fits(self, where: Callable[[pd.DataFrame], pd.Series] | None = None, share: float = 1.0) -> Fits:
        """Posteriors as `Fits`, with all the questions these answer.

        Parameters
        ----------
        where : callable, optional
            Takes `index` and says which rows are wanted, such as ``lambda table: table["source"] == "a.csv"``. Default:
            all of them.
        share : float, default 1
            Share of their compute at which runs were cut; 1 as they stand.

        Raises
        ------
        DataError
            If nothing is left, or a recipe is in several sources. Of a source that grew, the posterior with the most
            evaluations is meant; of several of these, that fitted last.
        """
        table = self.index()
        if len(table):
            table = table[(table["share"] == share) & (True if where is None else where(table))]
        if not len(table):
            raise DataError(f"{self.folder} has no such posterior; index() lists what there is.")
        order = ["evaluations", "largest_compute", "fitted_at"]  # the clock, which may jump, comes last
        latest = table.sort_values(order).groupby(["source", "recipe"], sort=False).tail(1)
        several = latest["recipe"][latest["recipe"].duplicated()].unique()
        if len(several):
            raise DataError(
                f"{self.folder} has posteriors of {listing(map(repr, several))} from several sources; choose among "
                "them with where."
            )
        return Fits([self.fit(str(key)) for key in table.index if key in latest.index])

    def growth(self, source: str) -> Growth:
        """What was known of each ceiling as its runs got longer, from the cuts that were fitted."""
        table = self.index()
        own = table[table["source"] == source] if len(table) else table
        shares = sorted(own["share"].unique()) if len(own) else []
        if 1.0 not in shares:
            raise DataError(f"{self.folder} has no posterior of {source!r} as it stands; fit it without a cut too.")
        return Growth({float(share): self.fits(lambda t: t["source"] == source, float(share)) for share in shares})

    def __repr__(self) -> str:
        table, failed = self.index(), self.failures()
        counts = Counter(table["verdict"]) if len(table) else Counter()
        said = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
        lost = f"; {count(len(failed), 'failure')}" if len(failed) else ""
        return f"Store: {count(len(table), 'posterior')}{f' ({said})' if said else ''}{lost} in {self.folder.name}"

    def _path(self, key: str) -> Path:
        return self.folder / "fits" / key[:2] / f"{key}.nc"

    def _marks(self) -> list[Path]:
        return sorted(self.folder.glob("fits/*/*.json"))


def open_store(directory: str | Path, *, create: bool = False) -> Store:
    """Open a store of posteriors that ``rlceiling batch`` fills.

    Parameters
    ----------
    directory : path
        Where it is.
    create : bool, default False
        Make it if it is not there.

    Returns
    -------
    Store

    Raises
    ------
    DataError
        If there is no store, it was made by another version, or the folder holds something else.
    """
    folder = Path(directory)
    mark = folder / MARK
    if create and not mark.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder} holds other files; name a new directory for the store.")
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(mark, {"schema": SCHEMA})
    try:
        schema = json.loads(mark.read_text(encoding="utf-8"))["schema"]
    except FileNotFoundError:
        raise DataError(f"{folder} is no store; name a directory that rlceiling batch filled.") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f'{mark} is damaged; write {{"schema": {SCHEMA}}} into it.') from None
    if schema != SCHEMA:
        raise DataError(
            f"{folder} has schema {schema} and this rlceiling reads {SCHEMA}; use the version that made it."
        )
    return Store(folder)


def now() -> str:
    """Time of day, UTC, for people; nothing depends on it but which of two posteriors of a recipe is the later one."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def row_of(source: str, share: float, fit: Fit, seconds: float) -> dict[str, Any]:
    """Row of the index."""
    summary = Fits([fit]).summary().iloc[0]
    columns = [f"{name}{end}" for name in ("A", "B", "C_mid") for end in ("", "_lower", "_upper")]
    row: dict[str, Any] = {"source": source, "recipe": fit.name, "share": share}
    row |= {"largest_compute": fit.largest_compute, "runs": len(fit.runs)}
    row |= {"evaluations": fit.evaluations}
    row |= {name: float(summary[name]) for name in (*columns, "r_hat", "ess_bulk", "ess_tail")}
    row |= {"divergences": int(summary["divergences"]), "verdict": summary["verdict"], "advice": summary["advice"]}
    row |= {"seconds": round(seconds, 3), "fitted_at": now()}
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_whole(path, json.dumps(content).encode())


def _write_whole(path: Path, content: bytes) -> None:
    def write(partial: Path) -> None:
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # one of a full disk does not name its file
            raise OSError(error.errno, error.strerror, str(path)) from None

    replace_file(path, write)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
