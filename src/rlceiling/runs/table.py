"""`Runs`, the tidy table of evaluations that everything else starts from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rlceiling.errors import DataError, count, is_finite, listing, unknown_name


@dataclass(frozen=True, eq=False)
class Run:
    """One training run: one seed of one recipe, as the models see it.

    Attributes
    ----------
    recipe, run : str
        Names.
    compute : ndarray, shape (n,)
        Positive compute of each evaluation, ascending, in the user's unit.
    reward : ndarray, shape (n,)
        Reward scaled to [0, 1] by the bounds.
    n_eval : ndarray, shape (n,)
        Samples behind each reward, NaN where unknown.
    start : tuple of float or None
        Scaled reward at compute 0 and the samples behind it (or NaN); None if step 0 was not logged.

    Notes
    -----
    The arrays are read-only.
    """

    recipe: str
    run: str
    compute: NDArray[np.float64]
    reward: NDArray[np.float64]
    n_eval: NDArray[np.float64]
    start: tuple[float, float] | None


@dataclass(frozen=True, eq=False, repr=False)
class Runs:
    """Checked evaluations of one or more recipes; nothing in it can be changed.

    Made by `read_runs` or `load_dataset`, which do the checking; every method that keeps a part of it
    returns a new object.

    Attributes
    ----------
    table : DataFrame
        A copy of the evaluations: columns `recipe` (str), `run` (str), `compute` (float64), `reward`
        (float64, the user's units) and `n_eval` (float64, NaN where unknown), ordered by first appearance
        of the recipe, then of the run, then by compute.
    compute_label, reward_label : str
        The user's names, carried to every table and axis.
    reward_bounds : tuple of float
        Lowest and highest possible reward.
    source : str
        File name, name of the data set, or "DataFrame".
    notes : tuple of str
        What was done to the evaluations, one sentence each.
    """

    _table: pd.DataFrame
    compute_label: str
    reward_label: str
    reward_bounds: tuple[float, float]
    source: str
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """A copy of the evaluations, a row each."""
        return self._table.copy()

    @property
    def recipes(self) -> list[str]:
        """Names of the recipes, in order of first appearance."""
        return list(self._table["recipe"].unique())

    def runs_of(self, recipe: str) -> list[str]:
        """Names of the runs of a recipe, in order of first appearance.

        Raises
        ------
        DataError
            If there is no such recipe.
        """
        self._check_recipe(recipe)
        return list(self._table.loc[self._table["recipe"] == recipe, "run"].unique())

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        table, (low, high) = self._table, self.reward_bounds
        pairs = table[["recipe", "run"]].drop_duplicates()
        logged = int((table["compute"] == 0).sum())  # at most one a run
        positive = table.loc[table["compute"] > 0, "compute"]
        span = f"{positive.min():,.6g} to {positive.max():,.6g}" if len(positive) else "none above 0"
        rewards = f"{table['reward'].min():.3g} to {table['reward'].max():.3g}"
        sizes = {"recipe": len(self.recipes), "run": len(pairs), "evaluation": len(table)}
        counts = ", ".join(count(number, noun) for noun, number in sizes.items())
        lines = [
            f"Runs: {counts} ({self.source})",
            f"compute {self.compute_label} {span}; reward {self.reward_label} {rewards},"
            f" bounds {low:g} to {high:g}; step 0 logged by {logged:,} of {len(pairs):,} runs",
            *self.notes,
        ]
        return "\n  ".join(lines)

    def select(self, *names: str) -> "Runs":
        """Keep these recipes, in the order of the table.

        Parameters
        ----------
        *names : str
            Recipes, each named once.

        Raises
        ------
        DataError
            If a name is unknown (the nearest one is suggested), repeated or missing.
        """
        self._check_names("select", names)
        return self.keep(self._table["recipe"].isin(names))

    def drop(self, *names: str) -> "Runs":
        """Leave these recipes out; the other way round from `select`.

        Raises
        ------
        DataError
            If a name is unknown, repeated or missing, or if no recipe would remain.
        """
        self._check_names("drop", names)
        if len(names) == len(self.recipes):
            raise DataError(f"drop: these are all the recipes of {self.source}; keep at least one.")
        return self.keep(~self._table["recipe"].isin(names))

    def until(self, compute: float) -> "Runs":
        """Keep the evaluations up to and including this compute, as if the runs had stopped there.

        Parameters
        ----------
        compute : float
            Largest compute kept, in the unit of the table; positive.

        Raises
        ------
        DataError
            If `compute` is not finite and above 0, or if a recipe would lose all its evaluations above 0.
        """
        late = self._table["compute"] > _positive("until", compute)
        return self._cut("until", late, f"{self.compute_label} > {compute:.10g}")

    def burn_in(self, compute: float) -> "Runs":
        """Leave out early transients: evaluations with 0 < compute < the value given.

        Step 0 is always kept, since it is the start of the curve and no transient. The ScaleRL authors
        leave out what lies before about 1,500 GPU-hours.

        Parameters
        ----------
        compute : float
            Smallest positive compute kept, in the unit of the table; positive.

        Raises
        ------
        DataError
            If `compute` is not finite and above 0, or if a recipe would lose all its evaluations above 0.
        """
        own = self._table["compute"]
        early = (own > 0) & (own < _positive("burn_in", compute))
        return self._cut("burn_in", early, f"0 < {self.compute_label} < {compute:.10g}")

    def keep(self, rows: "pd.Series[bool]", *notes: str) -> "Runs":
        """Keep the evaluations for which a mask is true.

        Parameters
        ----------
        rows : Series of bool
            A row an evaluation, with the index of `table`.
        *notes : str
            What was done, one sentence each, to be shown with the table.
        """
        table = self._table[rows].reset_index(drop=True)
        return replace(self, _table=table, notes=(*self.notes, *notes))

    def check_enough(self, minimum: int = 4) -> None:
        """Raise if a run has too few distinct positive compute values to be fitted.

        Parameters
        ----------
        minimum : int
            Values needed. Default 4: one more than the sigmoid has parameters besides its start.

        Raises
        ------
        DataError
            Naming the first run that is too short and how many others are.
        """
        positive = self._table.assign(compute=self._table["compute"] > 0)  # none repeats within a run
        found = positive.groupby(["recipe", "run"], sort=False)["compute"].sum()
        short = found[found < minimum]
        if len(short):
            (recipe, run), others = short.index[0], len(short) - 1
            has = count(int(short.iloc[0]), "distinct value")
            more = f" (and {count(others, 'more run')} too short)" if others else ""
            raise DataError(
                f"{self.source}: run {run!r} of recipe {recipe!r} has {has} of"
                f" {self.compute_label} above 0 and a fit needs {minimum}{more}; log more evaluations, or"
                f" leave the recipe out with runs.drop({recipe!r}) (command line: --drop {recipe!r})."
            )

    def iter_runs(self) -> Iterator[Run]:
        """Yield every run in the order of the table, with rewards scaled to [0, 1]."""
        for key, rows in self._table.groupby(["recipe", "run"], sort=False):
            recipe, run = map(str, key)
            compute, n_eval = rows["compute"].to_numpy(copy=True), rows["n_eval"].to_numpy(copy=True)
            reward = self.scale(rows["reward"])
            first = int(compute[0] == 0)  # rows ascend and none repeats
            for array in (compute, reward, n_eval):
                array.setflags(write=False)
            start = (float(reward[0]), float(n_eval[0])) if first else None
            yield Run(recipe, run, compute[first:], reward[first:], n_eval[first:], start)

    def scale(self, values: ArrayLike) -> NDArray[np.float64]:
        """Map rewards from the user's units to [0, 1]: ``(values - low) / (high - low)``."""
        low, high = self.reward_bounds
        return (np.asarray(values, dtype=np.float64) - low) / (high - low)

    def unscale(self, values: ArrayLike) -> NDArray[np.float64]:
        """Map rewards from [0, 1] to the user's units: ``low + values * (high - low)``."""
        low, high = self.reward_bounds
        return low + np.asarray(values, dtype=np.float64) * (high - low)

    def _cut(self, verb: str, out: "pd.Series[bool]", said: str) -> "Runs":
        number = int(out.sum())
        if not number:
            return self
        positive = self._table[self._table["compute"] > 0]
        emptied = out[positive.index].groupby(positive["recipe"], sort=False).all()
        lost = list(emptied.index[emptied])
        if lost:
            own = positive.loc[positive["recipe"] == lost[0], "compute"]
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise DataError(
                f"{verb}: recipe {lost[0]!r}{more} would lose all its evaluations, which lie at"
                f" {self.compute_label} {own.min():.10g} to {own.max():.10g}; choose another value, or leave"
                f" the recipe out with runs.drop({lost[0]!r}) (command line: --drop {lost[0]!r})."
            )
        return self.keep(~out, f"{verb}: left out {count(number, 'evaluation')} with {said}")

    def _check_recipe(self, name: str) -> None:
        if name not in self.recipes:
            raise unknown_name(self.source, "recipe", str(name), self.recipes)

    def _check_names(self, verb: str, names: tuple[str, ...]) -> None:
        if not names:
            raise DataError(f"{verb} needs the name of a recipe; {self.source} has: {listing(self.recipes)}.")
        for position, name in enumerate(names):
            self._check_recipe(name)
            if name in names[:position]:
                raise DataError(f"{verb}: recipe {name!r} is named twice; name it once.")


def _positive(verb: str, compute: float) -> float:
    if not (is_finite(compute) and compute > 0):
        raise DataError(f"{verb} needs a finite compute above 0, not {compute!r}.")
    return float(compute)
