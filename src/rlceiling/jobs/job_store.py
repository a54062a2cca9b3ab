"""A store of posteriors: a directory that is its own truth, addressed by content, safe to be killed at any moment."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from rlceiling.calibration.growth import Growth
from rlceiling.errors import DataError, count, listing
from rlceiling.jobs.job import Label, now
from rlceiling.posterior.files import read_fit, replace_file
from rlceiling.posterior.fit import Fit
from rlceiling.results.fits import Fits

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

    def put(self, key: str, content: bytes, row: Mapping[str, Any], labels: Sequence[Label], batch: int) -> None:
        """Keep a posterior, as the bytes of its file; it is there once its mark is."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        named = read_json(path.with_suffix(".json")).get("labels", [])
        replace_file(path, content)
        marked = {"row": dict(row), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _write_json(path.with_suffix(".json"), marked | {"labels": _relabelled(named, labels, batch)})
        (self.folder / "failures" / f"{key}.json").unlink(missing_ok=True)

    def relabel(self, key: str, labels: Sequence[Label], batch: int) -> None:
        """Let a posterior that is there be what a batch means by some labels, as after a log was renamed."""
        mark = self._path(key).with_suffix(".json")
        marked = read_json(mark)
        _write_json(mark, marked | {"labels": _relabelled(marked["labels"], labels, batch)})

    def put_failure(self, key: str, label: Label, recipe: str, reason: str) -> None:
        """Keep the reason why a job could not be fitted."""
        folder = self.folder / "failures"
        folder.mkdir(exist_ok=True)
        _write_json(folder / f"{key}.json", {**label._asdict(), "recipe": recipe, "reason": reason, "failed_at": now()})

    def forget_failures(self, sources: Iterable[str]) -> None:
        """Forget why jobs of some sources failed, since these are tried again."""
        failed = self.failures()
        for key in failed.index[failed["source"].isin(set(sources))]:
            (self.folder / "failures" / f"{key}.json").unlink(missing_ok=True)

    def write_index(self) -> Path:
        """Write the index as one Parquet file."""
        path = self.folder / INDEX
        replace_file(path, self.index().reset_index().to_parquet())
        return path

    # Reading ----------------------------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Whether a posterior is there and as long as it was written."""
        path = self._path(key)
        try:
            return bool(path.stat().st_size == read_json(path.with_suffix(".json")).get("bytes"))
        except OSError:
            return False

    def damaged(self) -> list[str]:
        """Keys of posteriors that are not what was written: a file that is missing, cut short or changed."""
        found = []
        for mark in self._marks():
            path = mark.with_suffix(".nc")
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                digest = "gone"
            if digest != read_json(mark).get("sha256"):
                found.append(mark.stem)
        return found

    def discard(self, keys: Iterable[str]) -> None:
        """Forget posteriors, so that they are made again."""
        for key in keys:
            self._path(key).with_suffix(".json").unlink(missing_ok=True)
            self._path(key).unlink(missing_ok=True)

    def index(self) -> pd.DataFrame:
        """One row a posterior and label: what was known of each recipe, and when.

        Returns
        -------
        DataFrame
            Index: key. Columns: ``source``, ``share`` (1 unless cut at a share of the compute), ``cut_compute`` (NaN
            unless cut at a compute), ``batch`` (number of the last one that meant this posterior by that), ``recipe``,
            ``largest_compute``, ``runs``, ``evaluations``, names of the ``compute`` and ``reward``, ``A``, ``B`` and
            ``C_mid`` with 90% interval ends, ``r_hat``, ``ess_bulk``, ``ess_tail``, ``divergences``, ``verdict``,
            ``advice``, ``seconds`` and ``fitted_at`` (UTC; nothing depends on it). Sorted by source, recipe and
            evaluations, so that the rows of a recipe tell of its growth. Quote ``A`` only where the verdict is
            IDENTIFIED.
        """
        rows = [{"key": key, **label._asdict(), "batch": batch, **row} for key, label, batch, row in self._labelled()]
        columns = None if rows else ["key", *Label._fields, "batch", "recipe", "evaluations"]
        table = pd.DataFrame(rows, columns=columns).set_index("key").astype({"cut_compute": float, "batch": int})
        return table.sort_values(["source", "recipe", "evaluations", "share", "batch"], kind="stable")

    def meant(self) -> dict[tuple[Label, str], tuple[int, str]]:
        """Of every label and recipe, the number of the last batch that used it, and the key that it meant."""
        found: dict[tuple[Label, str], tuple[int, str]] = {}
        for key, label, batch, row in self._labelled():
            name = label, str(row["recipe"])
            found[name] = max(found.get(name, (0, "")), (batch, key))
        return found

    def failures(self) -> pd.DataFrame:
        """One row a job that could not be fitted.

        Returns
        -------
        DataFrame
            Index: key. Columns: ``source``, ``share``, ``cut_compute``, ``recipe``, ``reason``, ``failed_at``.
        """
        rows = {path.stem: read_json(path) for path in sorted(self.folder.glob("failures/*.json"))}
        columns = [*Label._fields, "recipe", "reason", "failed_at"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("key")

    def fit(self, key: str) -> Fit:
        """Posterior of one job; raises DataError if it is not there or not what was written."""
        if not self.has(key):
            raise DataError(f"{self.folder} has no whole posterior {key}; run the batch again.")
        return read_fit(self._path(key))

    def fits(
        self,
        where: Callable[[pd.DataFrame], Any] | None = None,
        share: float = 1.0,
        cut_compute: float | None = None,
    ) -> Fits:
        """Posteriors as `Fits`, with all the questions these answer.

        Of a recipe that was fitted several times, as its log grew or its priors were changed, it is the posterior that
        the last batch meant. Where several sources have a recipe of the same name, each goes by ``recipe (source)``.

        Parameters
        ----------
        where : callable, optional
            Takes rows of `index` and says which are wanted, such as ``lambda table: table["source"] == "a.csv"``.
            Default: all of them.
        share : float, default 1
            Share of their compute at which runs were cut; 1 if they were not.
        cut_compute : float, optional
            Compute at which runs were cut.

        Returns
        -------
        Fits

        Raises
        ------
        DataError
            If nothing is left, a posterior is damaged, or rewards or computes of different names would be compared.
        """
        table = self.index()
        cut = table["cut_compute"].isna() if cut_compute is None else table["cut_compute"] == cut_compute
        table = table[cut & (table["share"] == share)]
        rows = newest(table if where is None else table[where(table)])
        if not len(rows):
            raise DataError(f"{self.folder} has no such posterior; index() lists what there is.")
        for what in ("compute", "reward"):
            if len(names := rows[what].unique()) > 1:
                raise DataError(
                    f"{self.folder} has posteriors of several kinds of {what} ({listing(names)}), which cannot be "
                    "compared; choose among them with where."
                )
        twice = set(rows["recipe"][rows["recipe"].duplicated()])
        fits = []
        for key, source, recipe in zip(rows.index, rows["source"], rows["recipe"], strict=True):
            fits.append(self.fit(str(key)).renamed(f"{recipe} ({source})" if recipe in twice else recipe))
        return Fits(fits)

    def growth(self, source: str) -> Growth:
        """What was known of each ceiling as its runs got longer, from the shares of them that were fitted.

        Parameters
        ----------
        source : str
            As the index names it.

        Returns
        -------
        Growth

        Raises
        ------
        DataError
            If there is no posterior of the source as it stands.
        """
        table = self.index()
        own = table[(table["source"] == source) & table["cut_compute"].isna()]
        shares = sorted(own["share"].unique())
        if 1.0 not in shares:
            raise DataError(f"{self.folder} has no posterior of {source!r} as it stands; fit it without a cut too.")
        return Growth({float(share): self.fits(lambda t: t["source"] == source, float(share)) for share in shares})

    def __repr__(self) -> str:
        table, failed = self.index(), self.failures()
        table = table[~table.index.duplicated()]
        counts = Counter(table["verdict"]) if len(table) else Counter()
        said = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
        lost = f"; {count(len(failed), 'failure')}" if len(failed) else ""
        return f"Store: {count(len(table), 'posterior')}{f' ({said})' if said else ''}{lost} in {self.folder.name}"

    def _path(self, key: str) -> Path:
        return self.folder / "fits" / key[:2] / f"{key}.nc"

    def _labelled(self) -> Iterator[tuple[str, Label, int, dict[str, Any]]]:
        """Key, label, its last batch and row of every posterior; one whose mark was cut short is done again."""
        for mark in self._marks():
            marked = read_json(mark)
            for *label, batch in marked.get("labels", []):
                yield mark.stem, Label(*label), batch, marked["row"]

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


def newest(index: pd.DataFrame) -> pd.DataFrame:
    """Of every recipe and cut of a source, the row that the last batch meant; clocks, which may jump, have no say."""
    which = ["source", "recipe", "share", "cut_compute"]
    rows = index.sort_values("batch", kind="stable")
    return rows[~rows.duplicated(which, keep="last")].sort_values(which, kind="stable")


def _relabelled(named: Sequence[Sequence[Any]], labels: Sequence[Label], batch: int) -> list[Sequence[Any]]:
    """Labels and their batches, after a batch has used some."""
    return [one for one in named if Label(*one[:-1]) not in labels] + [[*label, batch] for label in labels]


def read_json(path: Path) -> dict[str, Any]:
    """What a small file holds; nothing if it is gone or was cut short."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(content).encode())
