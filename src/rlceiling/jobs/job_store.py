"""A store of posteriors: a directory of files that are addressed by content and written atomically.

A process that writes it may be killed at any moment: every posterior in it is then complete or absent.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from rlceiling.calibration.growth import Growth
from rlceiling.errors import DataError, count, listing
from rlceiling.jobs.job import CURVE_COLUMNS, Label, now
from rlceiling.models.recipe_family import RECIPE
from rlceiling.models.size_laws import LAWS
from rlceiling.posterior.files import read_fit, read_posterior
from rlceiling.posterior.fit import Fit
from rlceiling.results.fits import Fits
from rlceiling.results.sizes import Sizes
from rlceiling.writing import LOCK, locked, remove_partials, replace_file

STORE_SCHEMA = 1
"""Version of the layout of the directory."""

VERSION_FILE, INDEX = "store.json", "index.parquet"

REPAIR = "run the batch again with --check, which makes it again"


class Store:
    """Posteriors of many jobs in a directory.

    A posterior is the file ``fits/ab/KEY.nc``. It counts as stored once its sidecar ``fits/ab/KEY.json`` is written,
    which holds its length, its digest, its labels and its row of the index. A job that could not be fitted has a file
    ``failures/KEY.json``. The index ``index.parquet`` is made from the sidecars whenever a batch ends, and can be made
    again from them at any time.

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
        """Hold the lock of the store, which only one writer can have; raises DataError if another one has it.

        The operating system releases it when the process ends, also when it is killed.
        """
        with locked(self.folder, "batch"):
            for folder in (self.folder / "failures", self.folder / "plots", *self.folder.glob("fits/*")):
                remove_partials(folder)
            for file in (VERSION_FILE, INDEX, "*.json"):
                remove_partials(self.folder, file)
            yield

    def put(self, key: str, content: bytes, row: Mapping[str, Any], labels: Sequence[Label], batch: int) -> None:
        """Write a posterior, given as the bytes of its file, and then its sidecar."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        old_labels = _read_sidecar(path.with_suffix(".json")).get("labels", [])
        replace_file(path, content)
        sidecar = {"row": dict(row), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _write_json(path.with_suffix(".json"), sidecar | {"labels": _merged_labels(old_labels, labels, batch)})
        (self.folder / "failures" / f"{key}.json").unlink(missing_ok=True)

    def relabel(self, key: str, labels: Sequence[Label], batch: int) -> None:
        """Attach labels to an existing posterior, for example after a log file was renamed."""
        path = self._path(key).with_suffix(".json")
        sidecar = read_json(path)
        _write_json(path, sidecar | {"labels": _merged_labels(sidecar["labels"], labels, batch)})

    def put_failure(self, key: str, label: Label, recipe: str, reason: str) -> None:
        """Write the reason why a job could not be fitted."""
        folder = self.folder / "failures"
        folder.mkdir(exist_ok=True)
        _write_json(folder / f"{key}.json", {**label._asdict(), "recipe": recipe, "reason": reason, "failed_at": now()})

    def forget_failures(self, sources: Iterable[str]) -> None:
        """Delete the failures of some sources, before their jobs are tried again."""
        failed = self.failures()
        for key in failed.index[failed["source"].isin(set(sources))]:
            (self.folder / "failures" / f"{key}.json").unlink(missing_ok=True)

    def write_index(self) -> Path:
        """Write the index as one Parquet file, and return its path."""
        path = self.folder / INDEX
        replace_file(path, self.index().reset_index().to_parquet())
        return path

    # Reading ----------------------------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Whether a posterior is stored and its file has the length that was written."""
        path = self._path(key)
        try:
            return bool(path.stat().st_size == _read_sidecar(path.with_suffix(".json")).get("bytes"))
        except OSError:
            return False

    def damaged(self) -> list[str]:
        """Keys of posteriors whose file is missing, truncated or changed, or whose sidecar is damaged."""
        found = []
        for sidecar in self._sidecars():
            path = sidecar.with_suffix(".nc")
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                digest = ""
            if digest != _read_sidecar(sidecar).get("sha256"):
                found.append(sidecar.stem)
        return found

    def discard(self, keys: Iterable[str]) -> None:
        """Delete posteriors, so that the next batch makes them again."""
        for key in keys:
            self._path(key).with_suffix(".json").unlink(missing_ok=True)
            self._path(key).unlink(missing_ok=True)

    def index(self) -> pd.DataFrame:
        """One row per posterior and label.

        Returns
        -------
        DataFrame
            Index: key. Columns:

            - ``source``, ``share`` (1 unless runs were cut at a share of their compute), ``cut_compute`` (NaN unless
              runs were cut at a compute) and ``batch``, the number of the last batch that used the posterior with this
              label;
            - ``family``: ``"sigmoid"`` for recipes, and the name of the law for laws across model sizes;
            - ``recipe``: name of the recipe; for a law such as ``"power law across model_size by flops"``;
            - ``largest_compute``, ``runs``, ``evaluations``, and the names of the ``compute`` (for a law the resource)
              and of the ``reward``;
            - ``A``, ``B`` and ``C_mid`` with the ends of their 90% credible intervals; NaN for laws, whose numbers
              `sizes` has. Quote ``A`` only where the verdict is IDENTIFIED;
            - ``r_hat``, ``ess_bulk``, ``ess_tail``, ``divergences``, ``verdict``, ``advice``;
            - ``seconds`` and ``fitted_at`` (UTC; nothing depends on it).

            Rows are sorted by source, recipe and evaluations, so those of a recipe show its growth.
        """
        rows = [
            {"key": key, **label._asdict(), "batch": batch, "family": RECIPE.name, **row}
            for key, label, batch, row in self._labelled()
        ]
        columns = None if rows else ["key", *Label._fields, "batch", "family", "recipe", "evaluations"]
        numbers = {"cut_compute": float, "batch": int} | (dict.fromkeys(CURVE_COLUMNS, float) if rows else {})
        table = pd.DataFrame(rows, columns=columns).set_index("key").astype(numbers)
        return table.sort_values(["source", "recipe", "evaluations", "share", "batch"], kind="stable")

    def current_keys(self) -> dict[tuple[Label, str], tuple[int, str]]:
        """Map each label and name of a recipe or law to the last batch that used it, and the key it had there."""
        found: dict[tuple[Label, str], tuple[int, str]] = {}
        for key, label, batch, row in self._labelled():
            name = label, str(row["recipe"])
            found[name] = max(found.get(name, (0, "")), (batch, key))
        return found

    def failures(self) -> pd.DataFrame:
        """One row per job that could not be fitted.

        Returns
        -------
        DataFrame
            Index: key. Columns: ``source``, ``share``, ``cut_compute``, ``recipe``, ``reason``, ``failed_at``.
        """
        rows = {path.stem: read_json(path) for path in sorted(self.folder.glob("failures/*.json"))}
        columns = [*Label._fields, "recipe", "reason", "failed_at"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("key")

    def fit(self, key: str) -> Fit:
        """Read the posterior of a recipe.

        Parameters
        ----------
        key : str
            As the index has it.

        Raises
        ------
        DataError
            If there is no such posterior, its file is damaged (its SHA-256 is compared), or it is that of a law across
            model sizes.
        """
        sidecar = self._sidecar_of(key)
        row = sidecar["row"]
        if row.get("family") in LAWS:
            raise DataError(f"{self.folder}: {key} is the posterior of a law ({row['recipe']}); read it with sizes().")
        return read_fit(self._path(key), sha256=sidecar["sha256"], remedy=REPAIR)

    def sizes(self, source: str | None = None, law: str | None = None) -> Sizes:
        """Read the posterior of a law across model sizes, with all the questions that `Sizes` answers.

        Where a law was fitted several times, for example as its file grew, the posterior of the last batch is read.

        Parameters
        ----------
        source : str, optional
            File or data set, as the index has it. Default: any.
        law : {"power law", "ceiling"}, optional
            Default: any.

        Returns
        -------
        Sizes

        Raises
        ------
        DataError
            If no posterior or more than one matches, or its file is damaged.
        """
        rows = newest(self.index())
        rows = rows[is_law(rows)]
        if not len(rows):
            raise DataError(f"{self.folder} has no law across model sizes; add a source with a law to the manifest.")
        asked = {"source": source, "law": None if law is None else law.replace("-", " ")}
        found = rows
        for what, value in asked.items():
            if value is not None:
                found = found[found["family" if what == "law" else what] == value]
        if len(found) != 1:
            known = listing(f"{row.recipe} ({row.source})" for row in (found if len(found) else rows).itertuples())
            wanted = "".join(f" with {name} {value!r}" for name, value in asked.items() if value is not None)
            if not len(found):
                raise DataError(f"{self.folder} has no law across model sizes{wanted}; it has: {known}.")
            raise DataError(
                f"{self.folder} has {len(found)} laws across model sizes{wanted}: {known}; choose one by source and "
                "law, or read it by its key with read_sizes()."
            )
        return self.read_sizes(str(found.index[0]))

    def read_sizes(self, key: str) -> Sizes:
        """Read the posterior of a law by its key in the index; raises DataError as `fit` does."""
        sha256 = self._sidecar_of(key)["sha256"]
        return read_posterior(self._path(key), Sizes, sha256=sha256, remedy=REPAIR)

    def _sidecar_of(self, key: str) -> dict[str, Any]:
        """Sidecar of a posterior; raises DataError if the posterior is not stored or not complete."""
        if not self.has(key):
            raise DataError(f"{self.folder} has no complete posterior {key}; run the batch again.")
        return _read_sidecar(self._path(key).with_suffix(".json"))

    def fits(
        self,
        where: Callable[[pd.DataFrame], Any] | None = None,
        share: float = 1.0,
        cut_compute: float | None = None,
    ) -> Fits:
        """Read the posteriors of recipes, with all the questions that `Fits` answers.

        Where a recipe was fitted several times, for example as its log grew or its priors changed, the posterior of the
        last batch is read. Where several sources have a recipe of the same name, each is called ``recipe (source)``.
        Laws across model sizes are left out (see `sizes`).

        Parameters
        ----------
        where : callable, optional
            (rows of `index`) -> boolean mask of the wanted ones, such as ``lambda table: table["source"] == "a.csv"``.
            Default: all rows.
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
            If no posterior is left, one is damaged, or rewards or computes of different names would be compared.
        """
        table = self.index()
        table = table[~is_law(table)]
        cut = table["cut_compute"].isna() if cut_compute is None else table["cut_compute"] == cut_compute
        table = table[cut & (table["share"] == share)]
        rows = newest(table if where is None else table[where(table)])
        if not len(rows):
            raise DataError(f"{self.folder} has no such posterior of a recipe; index() lists what there is.")
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
        return Fits(fits, self._notes())

    def _notes(self) -> list[str]:
        """A note if sidecars are damaged, so that it is not known whose posteriors they belong to."""
        damaged = [path for path in self._sidecars() if not _read_sidecar(path)]
        if not damaged:
            return []
        their = "its posterior is" if len(damaged) == 1 else "their posteriors are"
        return [f"damaged: {listing(damaged, 3)}; {their} left out; {REPAIR}"]

    def growth(self, source: str) -> Growth:
        """Estimates of each ceiling as its runs got longer, from the shares at which they were fitted.

        Parameters
        ----------
        source : str
            File or data set, as the index has it.

        Returns
        -------
        Growth

        Raises
        ------
        DataError
            If the source has no posterior of a recipe without a cut.
        """
        table = self.index()
        own = table[(table["source"] == source) & table["cut_compute"].isna() & ~is_law(table)]
        shares = sorted(own["share"].unique())
        if 1.0 not in shares:
            raise DataError(f"{self.folder} has no posterior of {source!r} without a cut; fit it without a cut too.")
        return Growth({float(share): self.fits(lambda t: t["source"] == source, float(share)) for share in shares})

    def __repr__(self) -> str:
        table, failed = self.index(), self.failures()
        table = table[~table.index.duplicated()]
        counts = Counter(table["verdict"]) if len(table) else Counter()
        said = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
        lost = f"; {count(len(failed), 'failure')}" if len(failed) else ""
        lost += "".join(f"; {note}" for note in self._notes())
        return f"Store: {count(len(table), 'posterior')}{f' ({said})' if said else ''}{lost} in {self.folder.name}"

    def _path(self, key: str) -> Path:
        return self.folder / "fits" / key[:2] / f"{key}.nc"

    def _labelled(self) -> Iterator[tuple[str, Label, int, dict[str, Any]]]:
        """Yield key, label, the label's last batch and the row of every posterior; a damaged sidecar is skipped."""
        for path in self._sidecars():
            sidecar = _read_sidecar(path)
            for *label, batch in sidecar.get("labels", []):
                yield path.stem, Label(*label), batch, sidecar["row"]

    def _sidecars(self) -> list[Path]:
        return sorted(self.folder.glob("fits/*/*.json"))


def open_store(directory: str | Path, *, create: bool = False) -> Store:
    """Open a store of posteriors that ``rlceiling batch`` fills.

    Parameters
    ----------
    directory : path
        The store.
    create : bool, default False
        Make it if it does not exist.

    Returns
    -------
    Store

    Raises
    ------
    DataError
        If there is no store, it has another schema, or `create` is given and the folder holds other files.
    """
    folder = Path(directory)
    version_file = folder / VERSION_FILE
    if create and not version_file.exists():
        if not is_unbegun(folder):
            raise DataError(f"{folder} holds other files; name a new directory for the store.")
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(version_file, {"schema": STORE_SCHEMA})
    try:
        schema = json.loads(version_file.read_text(encoding="utf-8"))["schema"]
    except FileNotFoundError:
        raise DataError(f"{folder} is not a store; name a directory that rlceiling batch filled.") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f'{version_file} is damaged; write {{"schema": {STORE_SCHEMA}}} into it.') from None
    if schema != STORE_SCHEMA:
        raise DataError(
            f"{folder} has schema {schema} and this rlceiling reads {STORE_SCHEMA}; use the version that made it."
        )
    return Store(folder)


def is_unbegun(folder: Path) -> bool:
    """Whether a folder is missing, empty, or holds only what a batch leaves that is killed while it begins a store."""
    if not folder.is_dir():
        return not folder.exists()
    names = [path.name for path in folder.iterdir()]
    return all(n == LOCK or (n.startswith(f".{VERSION_FILE}.") and n.endswith(".partial")) for n in names)


def newest(index: pd.DataFrame) -> pd.DataFrame:
    """Latest row per (source, family, recipe, cut), ordered by batch number, not by timestamp."""
    which = ["source", "family", "recipe", "share", "cut_compute"]
    rows = index.sort_values("batch", kind="stable")
    return rows[~rows.duplicated(which, keep="last")].sort_values(which, kind="stable")


def is_law(index: pd.DataFrame) -> pd.Series:
    """Which rows are of laws across model sizes."""
    return index["family"].isin(list(LAWS))


def _merged_labels(old: Sequence[Sequence[Any]], labels: Sequence[Label], batch: int) -> list[Sequence[Any]]:
    """Labels of a sidecar, each with the last batch that used it, after a batch has used some."""
    return [one for one in old if Label(*one[:-1]) not in labels] + [[*label, batch] for label in labels]


def _read_sidecar(path: Path) -> dict[str, Any]:
    """Content of a sidecar; empty if it is missing or damaged, which `Store.damaged` lists."""
    sidecar = read_json(path)
    row, labels = sidecar.get("row"), sidecar.get("labels")
    whole = (
        isinstance(row, dict)
        and isinstance(row.get("recipe"), str)
        and isinstance(sidecar.get("bytes"), int)
        and isinstance(sidecar.get("sha256"), str)
        and isinstance(labels, list)
        and all(isinstance(one, list) and len(one) == len(Label._fields) + 1 for one in labels)
    )
    return sidecar if whole else {}


def read_json(path: Path) -> dict[str, Any]:
    """Content of a small JSON file; empty if the file is missing or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(content).encode())
