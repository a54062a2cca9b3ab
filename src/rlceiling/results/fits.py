"""`Fits`: the posteriors of many recipes, with comparisons and forecasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from rlceiling.decisions.lookup import check_of
from rlceiling.display.html import html_piece
from rlceiling.errors import DataError, count, unknown_name
from rlceiling.posterior.files import read_fit, read_index, save_posteriors
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob, interval_of
from rlceiling.posterior.verdicts import Verdict
from rlceiling.results.questions import Questions
from rlceiling.runs import Runs, Stage
from rlceiling.runs.table import find_name
from rlceiling.runs.units import Units
from rlceiling.text import joined

if TYPE_CHECKING:
    import xarray as xr


class Unread(NamedTuple):
    """A posterior on disk that is read on first access."""

    run_names: tuple[str, ...]
    read: Callable[[], Fit]


class Fits(Questions):
    """Posteriors of many recipes: a mapping from name to `Fit`, with comparisons and forecasts.

    Returned by `rlceiling.fit` and `rlceiling.load_fits`.

    Attributes
    ----------
    table_notes : tuple of str
        Changes made to the table of runs, one sentence each.
    """

    def __init__(self, fits: Sequence[Fit] | Mapping[str, Fit | Unread] = (), notes: Sequence[str] = ()) -> None:
        named = fits if isinstance(fits, Mapping) else {f.name: f for f in fits}
        self._fits: dict[str, Fit | Unread] = dict(named)
        self.table_notes = tuple(notes)

    def __getitem__(self, name: str) -> Fit:
        if name not in self._fits:
            raise unknown_name("this set of fits", "recipe", name, self._fits)
        fit = self._fits[name]
        if isinstance(fit, Unread):
            fit = self._fits[name] = fit.read()
        return fit

    def find(self, name: str) -> tuple[Fit, str | None]:
        """Find a recipe by its name, or one run of it as ``recipe/run``.

        Parameters
        ----------
        name : str
            The name.

        Returns
        -------
        Fit
            The recipe's posterior.
        str or None
            The run, or None if `name` is a recipe.

        Raises
        ------
        DataError
            If there is no such recipe or run.
        """
        known = {recipe: list(fit.run_names) for recipe, fit in self._fits.items()}
        recipe, run = find_name("this set of fits", known, name)
        return self[recipe], run

    def __iter__(self) -> Iterator[str]:
        return iter(self._fits)

    def __len__(self) -> int:
        return len(self._fits)

    def __contains__(self, name: object) -> bool:
        return name in self._fits

    def _repr_html_(self) -> str:
        cells = {name: fit.curve_cells() for name, fit in self.items()}
        rows = [[name, *map(joined, cells[name].values()), fit.verdict.name, fit.to_do] for name, fit in self.items()]
        headers = ["recipe", *next(iter(cells.values()), {}), "verdict", "what to do"]
        return html_piece(repr(self).split("\n  "), headers, rows)

    def __repr__(self) -> str:
        counts = pd.Series([v.name for v in self.verdicts.values()]).value_counts()
        said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
        runs = sum(len(f.runs) for f in self.values())
        of = f" of {count(runs, 'run')}" if runs > len(self) else ""
        return "\n  ".join([f"Fits: {count(len(self), 'recipe')}{of} ({said})", *self.notes, *self.odd_runs])

    @property
    def notes(self) -> tuple[str, ...]:
        """Changes made to the runs before fitting, one sentence each."""
        return (*self.table_notes, *(note for fit in self.values() for note in fit.notes))

    @property
    def odd_runs(self) -> list[str]:
        """Runs that differ from their siblings, one sentence each."""
        return [f"{f.name}: run {run} {how}" for f in self.values() for run, how in f.odd_runs.items()]

    @property
    def units(self) -> Units:
        """Column names and reward bounds of the user's data."""
        for fit in self.values():
            return fit.units
        raise DataError("there are no fits; fit at least one run.")

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdict of each fit."""
        return {name: f.verdict for name, f in self.items()}

    def summary(self, prob: float = 0.9, *, of: str = "recipe") -> pd.DataFrame:
        """Summarise the posteriors in a table with one row per recipe, or per run.

        Parameters
        ----------
        prob : float, default 0.9
            Probability of the equal-tailed credible intervals.
        of : {"recipe", "runs"}, default "recipe"
            Whether rows are recipes or runs.

        Returns
        -------
        DataFrame
            Index: recipe, and run for ``of="runs"``. Columns: median and credible limits of ``A`` (unit of the reward),
            ``B`` (no unit) and ``C_mid`` (unit of compute), and if the training of a run has stages, ``stage`` and
            ``stage_begins``: its last stage, to which the parameters and the verdict belong, and the compute from which
            ``C_mid`` counts. For recipes also ``runs``, the number of fitted runs;
            ``failed_runs``, the number of runs that collapsed or never rose and were left out; ``A_spread`` and
            ``C_mid_spread`` with credible limits, the between-run spreads of the ceiling (unit of the reward) and of
            ln C_mid (for a recipe with one run they follow the prior); ``verdict``; ``reasons``, the names of its
            `rlceiling.posterior.verdicts.Reason`; ``advice``; largest
            ``r_hat``, smallest ``ess_bulk`` and ``ess_tail`` over all parameters; ``divergences``. ``A`` is the ceiling
            of the recipe, around which the ceilings of its runs are distributed. Quote it only where the verdict is
            IDENTIFIED. Under priors that were learned from other recipes also ``own_share`` and ``unlike``: the share
            of the information on the ceiling that the recipe's own evaluations give, and the probability that its curve
            is unlike those of the others (see `Fit.own_share` and `Fit.unlike`). For runs also ``evaluations``, and
            ``odd``: how the run differs from its siblings, empty if it does not.

        Raises
        ------
        DataError
            If `prob` is not between 0 and 1, or `of` is none of these values.
        """
        check_prob("summary", prob)
        check_of("summary", of, ("recipe", "runs"))
        rows: dict[Any, dict[str, Any]] = {}
        for name, f in self.items():
            if of == "runs":
                for run in f.runs:
                    row = _intervals(f.draws_of(run.run), ("A", "B", "C_mid"), prob)
                    odd = f.odd_runs.get(run.run, "")
                    rows[name, run.run] = row | {"evaluations": len(run.compute), "odd": odd}
                continue
            c = f.convergence
            row = _intervals(f.draws, ("A", "B", "C_mid"), prob) | {
                "runs": len(f.runs),
                "failed_runs": len(f.failed_runs),
            }
            row |= _intervals({**f.draws, "A_spread": f.A_spread}, ("A_spread", "C_mid_spread"), prob)
            row |= {"verdict": f.verdict.name, "reasons": f.reason_names, "advice": f.advice()}
            row |= {"r_hat": c.r_hat, "ess_bulk": c.ess_bulk, "ess_tail": c.ess_tail}
            rows[name] = row | {"divergences": c.divergences}
        table = pd.DataFrame.from_dict(rows, orient="index")
        names = [key if of == "recipe" else key[0] for key in rows]
        if any(f.stages for f in self.values()):
            last = [one.stages[-1] if one.stages else Stage("", 0.0) for one in (self[name].runs[0] for name in names)]
            table.insert(0, "stage", [stage.name for stage in last])
            table.insert(1, "stage_begins", [stage.begins for stage in last])
        if of == "recipe" and any(f.unlike for f in self.values()):
            table["own_share"] = [self[name].own_share for name in names]
            table["unlike"] = [self[name].unlike.get("curve", np.nan) for name in names]
        if of == "runs":
            table.index = pd.MultiIndex.from_tuples(rows, names=["recipe", "run"])
            return table
        return table.rename_axis("recipe")

    def select(self, *names: str) -> Fits:
        """Keep these recipes, in their present order.

        Parameters
        ----------
        *names : str
            Recipes.

        Returns
        -------
        Fits
            The same posteriors; those that have not been read from disk stay unread.

        Raises
        ------
        DataError
            If a name is unknown; the nearest one is suggested.
        """
        chosen = self._known(names)
        return self._only(name for name in self if name in chosen)

    def drop(self, *names: str) -> Fits:
        """Leave these recipes out, the reverse of `select`.

        Parameters
        ----------
        *names : str
            Recipes.

        Returns
        -------
        Fits
            The other posteriors.

        Raises
        ------
        DataError
            If a name is unknown; the nearest one is suggested.
        """
        dropped = self._known(names)
        return self._only(name for name in self if name not in dropped)

    def _known(self, names: Sequence[str]) -> set[str]:
        """Names as a set; raises DataError if one is unknown."""
        for name in names:
            if name not in self._fits:
                raise unknown_name("this set of fits", "recipe", name, self._fits)
        return set(names)

    def _only(self, names: Iterable[str]) -> Fits:
        return Fits({name: self._fits[name] for name in names}, self.table_notes)

    def to_datatree(self, name: str) -> xr.DataTree:
        """Export one fit to a DataTree that ArviZ works on.

        Parameters
        ----------
        name : str
            The recipe.

        Returns
        -------
        xarray.DataTree
            Groups ``posterior``, ``prior``, ``posterior_predictive``, ``log_likelihood``, ``log_prior``,
            ``observed_data`` and ``sample_stats``; see `rlceiling.posterior.posterior.Posterior.to_datatree`.

        Raises
        ------
        DataError
            If there is no such recipe.
        """
        return self[name].to_datatree()

    def to_runs(self) -> Runs:
        """The fitted evaluations as a table.

        Returns
        -------
        Runs
            Evaluations of all runs that were fitted, in the user's units, with those at compute 0 where there are any;
            failed runs, which were left out of the fit, are not among them.

        Raises
        ------
        DataError
            If there are no fits.
        """
        rows = []
        for fit in self.values():
            for run in fit.runs:
                start = [] if run.start is None else [(0.0, *run.start)]
                rows += [
                    (fit.name, run.run, *row, run.stage_of(row[0]))
                    for row in (*start, *zip(run.compute, run.reward, run.n_eval, strict=True))
                ]
        table = pd.DataFrame(rows, columns=["recipe", "run", "compute", "reward", "n_eval", "stage"])
        if not table["stage"].any():
            table = table.drop(columns="stage")
        units = self.units
        table["reward"] = units.unscale(table["reward"])
        return Runs(table, units.compute, units.reward, units.bounds, "fits", self.table_notes)

    def save(self, directory: str | Path) -> None:
        """Save to a directory for `rlceiling.load_fits`: one NetCDF file per recipe, and an index.

        Parameters
        ----------
        directory : path
            It is created if it does not exist. Fits that were saved in it before are replaced as a whole, those of
            other recipes too.

        Raises
        ------
        OSError
            If a file cannot be written; the fits that were saved before are then still there.
        """
        save_posteriors(self, self.table_notes, directory)


def load_fits(directory: str | Path) -> Fits:
    """Read fits written by `Fits.save` or ``rlceiling fit --out``.

    Parameters
    ----------
    directory : path
        Directory in which they were saved.

    Returns
    -------
    Fits
        Fits with bit-identical draws, and with the priors, settings and thresholds of the original fits. The file of a
        recipe is read when the recipe is first accessed.

    Raises
    ------
    DataError
        If there is no index, it is damaged, a file is missing, or it was written under another schema; and, on access
        to a recipe, if its file is damaged. Files are compared with their SHA-256, which those of earlier versions do
        not have.
    """
    entries, notes = read_index(directory)

    def entry(name: str, file: Path, runs: Sequence[str] | None) -> Fit | Unread:
        if runs is None:  # an index written before run names were stored in it
            return read_fit(file, name)
        return Unread(tuple(runs), partial(read_fit, file, name))

    return Fits({name: entry(name, file, runs) for name, (file, runs) in entries.items()}, notes)


def _intervals(draws: Mapping[str, np.ndarray], names: Sequence[str], prob: float) -> dict[str, Any]:
    """Columns of a table: each median, then its credible limits."""
    row: dict[str, Any] = {}
    for name in names:
        lower, median, upper = interval_of(draws[name], prob)
        row |= {name: median, f"{name}_lower": lower, f"{name}_upper": upper}
    return row
