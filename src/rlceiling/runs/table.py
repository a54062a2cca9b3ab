"""`Runs`, the tidy table of evaluations, and `Run`, one training run of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rlceiling.display.html import html_piece
from rlceiling.errors import DataError, count, is_finite, listing, unknown_name
from rlceiling.runs.validation import odd_notes
from rlceiling.text import number

FEWEST = 4
"""Number of distinct positive compute values that a fit needs: one more than the parameters of the sigmoid without its
start."""


class Stage(NamedTuple):
    """A stage of the training of a run, in which its reward begins a new rise."""

    name: str
    begins: float
    """Compute at which it begins: 0 for the first stage, then that of the last evaluation of the stage before."""


@dataclass(frozen=True, eq=False)
class Run:
    """One training run: one seed of one recipe, as input of the models.

    Attributes
    ----------
    recipe, run : str
        Names of the recipe and of the run.
    compute : ndarray, shape (n,)
        Positive compute of each evaluation, ascending, in the user's unit.
    reward : ndarray, shape (n,)
        Reward scaled to [0, 1] by the bounds.
    n_eval : ndarray, shape (n,)
        Number of samples behind each reward, NaN where unknown.
    start : tuple of float or None
        Scaled reward at compute 0 and the number of samples behind it (or NaN); None if step 0 was not logged.
    stages : tuple of Stage
        Stages of the training, in order; empty if the run has only one.

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
    stages: tuple[Stage, ...] = ()

    @property
    def begins(self) -> NDArray[np.float64]:
        """Compute at which each stage begins; 0 for a run with one stage."""
        return np.array([stage.begins for stage in self.stages] or [0.0])

    def stage_around(self, compute: float) -> tuple[float, float]:
        """Compute at which the stage of a compute begins and ends; the last stage has no end."""
        bounds = np.append(self.begins, np.inf)
        place = int(np.searchsorted(bounds, compute)) - 1
        return float(bounds[place]), float(bounds[place + 1])

    def stage_of(self, compute: float) -> str:
        """Name of the stage of a compute; empty for a run with one stage."""
        return self.stages[max(int(np.searchsorted(self.begins, compute)) - 1, 0)].name if self.stages else ""

    def last_stage(self) -> "Run":
        """The last stage as a run of its own.

        Compute is counted from the beginning of the stage, and the last evaluation before it is the step-0 evaluation.
        """
        if not self.stages:
            return self
        begins = self.stages[-1].begins
        own = self.compute > begins
        before = int(np.flatnonzero(~own)[-1])
        start = float(self.reward[before]), float(self.n_eval[before])
        return replace(
            self,
            compute=self.compute[own] - begins,
            reward=self.reward[own],
            n_eval=self.n_eval[own],
            start=start,
            stages=(),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Runs:
    """Validated evaluations of one or more recipes; immutable.

    Returned by `read_runs` and `load_dataset`, which validate the data; every method that keeps a part of it
    returns a new object.

    Attributes
    ----------
    table : DataFrame
        A copy of the evaluations: columns `recipe` (str), `run` (str), `compute` (float64), `reward`
        (float64, the user's units) and `n_eval` (float64, NaN where unknown), ordered by first appearance
        of the recipe, then of the run, then by compute; after these `stage` (str), if the file has such a column, and
        the other columns of the file as they are.
    compute_label, reward_label, recipe_label, run_label : str
        The user's names of the columns, used in all tables and on axes.
    reward_bounds : tuple of float
        Lowest and highest possible reward.
    source : str
        File name, name of the data set, or "DataFrame".
    notes : tuple of str
        Changes made to the evaluations and inconsistencies found in them, one sentence each.
    """

    _table: pd.DataFrame
    compute_label: str
    reward_label: str
    reward_bounds: tuple[float, float]
    source: str
    notes: tuple[str, ...] = ()
    recipe_label: str = "recipe"
    run_label: str = "run"

    @property
    def table(self) -> pd.DataFrame:
        """A copy of the evaluations, one row per evaluation."""
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

    def _repr_html_(self) -> str:
        rows = []
        for name, members in self.iter_recipes():
            positive = [run for run in members if len(run.compute)]
            ends = [(run.compute[0], run.compute[-1]) for run in positive]
            spanned = f"{number(min(a for a, _ in ends))} to {number(max(b for _, b in ends))}" if ends else ""
            rewards = [float(self.unscale(v)) for run in positive for v in (run.reward.min(), run.reward.max())]
            rows.append(
                [
                    name,
                    f"{len(members):,}",
                    f"{sum(len(run.compute) for run in members):,}",
                    spanned or "none above 0",
                    f"{min(rewards):.3g} to {max(rewards):.3g}" if rewards else "",
                    f"{sum(run.start is not None for run in members):,}",
                ]
            )
        headers = ["recipe", "runs", "evaluations", self.compute_label, self.reward_label, "step 0 logged"]
        return html_piece(repr(self).split("\n  "), headers, rows)

    def __repr__(self) -> str:
        table, (low, high) = self._table, self.reward_bounds
        pairs = table[["recipe", "run"]].drop_duplicates()
        logged = int((table["compute"] == 0).sum())  # at most one per run
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

    def find(self, name: str) -> tuple[str, str | None]:
        """Find a recipe by its name, or one run of it as ``recipe/run``.

        Returns
        -------
        str
            The recipe.
        str or None
            The run, or None if `name` is a recipe.

        Raises
        ------
        DataError
            If there is no such recipe or run (the nearest one is suggested).
        """
        return find_name(self.source, self._runs_by_recipe(), name)

    def select(self, *names: str) -> "Runs":
        """Keep these recipes and runs, in the order of the table.

        A note names the runs that are left out of a recipe.

        Parameters
        ----------
        *names : str
            Recipes, or single runs as ``recipe/run``, each named once. If a name matches a recipe, it means the recipe.

        Raises
        ------
        DataError
            If a name is unknown (the nearest one is suggested), repeated or missing.
        """
        named = self._named("select", names)
        return self.keep(named, *self._in_part("select", named))

    def drop(self, *names: str) -> "Runs":
        """Leave these recipes and runs out; the complement of `select`.

        Raises
        ------
        DataError
            If a name is unknown, repeated or missing, or if nothing would remain.
        """
        named = self._named("drop", names)
        if named.all():
            what = "recipes" if set(names) == set(self.recipes) else "runs"
            raise DataError(f"drop: these are all the {what} of {self.source}; keep at least one.")
        return self.keep(~named, *self._in_part("drop", ~named))

    def until(self, compute: float) -> "Runs":
        """Keep the evaluations up to and including this compute, as if the runs had stopped there.

        A run without an evaluation left above 0 is left out, including its step 0, if its recipe has another run; a
        note names it.

        Parameters
        ----------
        compute : float
            Largest compute kept, in the unit of the table; positive.

        Raises
        ------
        DataError
            If `compute` is not finite and above 0, or if a recipe would lose all its evaluations above 0.
        """
        late = self._table["compute"] > positive("until", compute)
        return self._cut("until", late, f"{self.compute_label} > {compute:.10g}")

    def burn_in(self, compute: float) -> "Runs":
        """Leave out early transients: evaluations with 0 < compute < `compute`.

        Step 0 is always kept, since it is the start of the curve and not a transient. The ScaleRL authors
        leave out evaluations before about 1,500 GPU-hours. A run without an evaluation left above 0 is left out,
        including its step 0, if its recipe has another run; a note names it.

        Parameters
        ----------
        compute : float
            Smallest positive compute kept, in the unit of the table; positive.

        Raises
        ------
        DataError
            If `compute` is not finite and above 0, or if a recipe would lose all its evaluations above 0, or a run all
            those of a stage, after which the next stage begins.
        """
        own = self._table["compute"]
        early = (own > 0) & (own < positive("burn_in", compute))
        if "stage" in self._table:
            self._check_whole_stages(early)
        return self._cut("burn_in", early, f"0 < {self.compute_label} < {compute:.10g}")

    def keep(self, rows: "pd.Series[bool]", *notes: str) -> "Runs":
        """Keep the evaluations for which a mask is true.

        Parameters
        ----------
        rows : Series of bool
            One entry per evaluation, with the index of `table`.
        *notes : str
            Descriptions of the change, one sentence each, shown with the table.
        """
        kept = replace(self, _table=self._table[rows].reset_index(drop=True))
        odd = self._odd_notes()
        said = [note for note in self.notes if note not in odd]
        if len(said) < len(self.notes):  # inconsistencies may have been left out, so recompute these notes
            said += kept._odd_notes()
        return replace(kept, notes=(*said, *notes))

    def check_enough(self, minimum: int = FEWEST) -> None:
        """Raise DataError if a recipe has too few evaluations to be fitted.

        At least one run of a recipe needs `minimum` distinct positive compute values; its other runs, which are
        partially pooled with it, need one.

        Parameters
        ----------
        minimum : int
            Number of values needed. Default 4: one more than the parameters of the sigmoid without its start.

        Raises
        ------
        DataError
            If a recipe has too few values (the message names its longest run and the number of other such recipes),
            or a run has none (the message names the first and the number of others); if a run has several stages and
            siblings, or too few values in its last stage.
        """
        above = self._table.assign(compute=self._table["compute"] > 0)  # compute values are unique within a run
        found = above.groupby(["recipe", "run"], sort=False)["compute"].sum()
        best = found.groupby("recipe", sort=False).max()
        short = best.index[best < minimum]
        if len(short):
            own = found.xs(short[0], level="recipe")
            several = f", the longest of {len(own)}," if len(own) > 1 else ""
            others = f" (and {count(len(short) - 1, 'more recipe')} too short)" if len(short) > 1 else ""
            raise DataError(
                f"{self.source}: run {own.idxmax()!r} of recipe {short[0]!r}{several} has"
                f" {count(int(own.max()), 'distinct value')} of {self.compute_label} above 0 and a fit needs"
                f" {minimum}{others}; log more evaluations, or leave the recipe out with runs.drop({short[0]!r})"
                f" (command line: --drop {short[0]!r})."
            )
        empty = found.index[found == 0]
        if len(empty):
            recipe, run = empty[0]
            name = f"{recipe}/{run}"
            others = f" (and {count(len(empty) - 1, 'more run')} like it)" if len(empty) > 1 else ""
            raise DataError(
                f"{self.source}: run {run!r} of recipe {recipe!r} has no evaluation with {self.compute_label}"
                f" above 0{others}; log more evaluations, or leave the run out with runs.drop({name!r}) (command"
                f" line: --drop {name!r})."
            )
        if "stage" in self._table:
            self._check_stages(minimum)

    def _check_stages(self, minimum: int) -> None:
        """Raise DataError if a run has several stages and siblings, or too few evaluations in its last stage."""
        for recipe, runs in self.iter_recipes():
            for run in runs:
                if not run.stages:
                    continue
                name, begins = run.stages[-1]
                if len(runs) > 1:
                    raise DataError(
                        f"{self.source}: recipe {recipe!r} has {len(runs)} runs, and run {run.run!r} has"
                        f" {len(run.stages)} stages; stages are fitted for recipes with one run, so give each run a"
                        " recipe name of its own."
                    )
                own = run.compute[run.compute > begins]
                if len(own) < minimum:
                    until = f"{0.5 * (begins + own[0]):.6g}"
                    raise DataError(
                        f"{self.source}: stage {name!r} of recipe {recipe!r}, its last, has"
                        f" {count(len(own), 'distinct value')} of {self.compute_label} and a fit needs {minimum}; log"
                        f" more evaluations, or leave the stage out with runs.until({until}) (command line: --until"
                        f" {until})."
                    )

    def iter_recipes(self) -> Iterator[tuple[str, list[Run]]]:
        """Yield every recipe with its runs in the order of the table, with rewards scaled to [0, 1]."""
        pairs = self._table.groupby(["recipe", "run"], sort=False)
        runs = (self._run(map(str, pair), rows) for pair, rows in pairs)
        for recipe, own in groupby(runs, key=attrgetter("recipe")):
            yield recipe, list(own)

    def iter_runs(self) -> Iterator[Run]:
        """Yield every run in the order of the table, with rewards scaled to [0, 1]."""
        for _, runs in self.iter_recipes():
            yield from runs

    def scale(self, values: ArrayLike) -> NDArray[np.float64]:
        """Map rewards from the user's units to [0, 1]: ``(values - low) / (high - low)``."""
        low, high = self.reward_bounds
        return (np.asarray(values, dtype=np.float64) - low) / (high - low)

    def unscale(self, values: ArrayLike) -> NDArray[np.float64]:
        """Map rewards from [0, 1] to the user's units: ``low + values * (high - low)``."""
        low, high = self.reward_bounds
        return low + np.asarray(values, dtype=np.float64) * (high - low)

    def _run(self, pair: Iterable[str], rows: pd.DataFrame) -> Run:
        recipe, run = pair
        compute, n_eval = rows["compute"].to_numpy(copy=True), rows["n_eval"].to_numpy(copy=True)
        reward = self.scale(rows["reward"])
        first = int(compute[0] == 0)  # compute is strictly ascending
        for array in (compute, reward, n_eval):
            array.setflags(write=False)
        start = (float(reward[0]), float(n_eval[0])) if first else None
        stages = _stages(compute[first:], rows["stage"].to_numpy()[first:]) if "stage" in rows else ()
        return Run(recipe, run, compute[first:], reward[first:], n_eval[first:], start, stages)

    def _cut(self, verb: str, out: "pd.Series[bool]", said: str) -> "Runs":
        number = int(out.sum())
        if not number:
            return self
        above = self._table["compute"] > 0

        def emptied(*by: str) -> pd.DataFrame:
            """Rows of the recipes or runs that would lose all their evaluations above 0."""
            keys = [self._table[key] for key in by]
            had, has = (rows.groupby(keys, sort=False).transform("any") for rows in (above, above & ~out))
            return self._table[had & ~has]

        recipes, runs = emptied("recipe"), emptied("recipe", "run")
        if len(recipes):
            lost = recipes["recipe"].unique()
            own = recipes.loc[(recipes["recipe"] == lost[0]) & (recipes["compute"] > 0), "compute"]
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise DataError(
                f"{verb}: recipe {lost[0]!r}{more} would lose all its evaluations, which lie at"
                f" {self.compute_label} {own.min():.10g} to {own.max():.10g}; choose another value, or leave"
                f" the recipe out with runs.drop({lost[0]!r}) (command line: --drop {lost[0]!r})."
            )
        notes = [f"{verb}: left out {count(number, 'evaluation')} with {said}"]
        if len(runs):  # a run with step 0 only is not a run
            names = _run_names(runs)
            whole = count(len(names), "run")
            notes.append(f"{verb}: left out {whole} whose evaluations above 0 all have {said}: {listing(names)}")
        return self.keep(~out & ~self._table.index.isin(runs.index), *notes)

    def _check_whole_stages(self, out: "pd.Series[bool]") -> None:
        """Raise DataError if a run with several stages would lose all evaluations of one of them."""
        above = self._table[self._table["compute"] > 0]
        of_run = above.groupby(["recipe", "run"], sort=False)["stage"].transform("nunique")
        lost = (~out)[above.index].groupby([above["recipe"], above["run"], above["stage"]], sort=False).transform("sum")
        torn = above[(of_run > 1) & (lost == 0)]
        if len(torn):
            recipe, stage = torn.iloc[0][["recipe", "stage"]]
            raise DataError(
                f"burn_in: stage {stage!r} of recipe {recipe!r} would lose all its evaluations, and the next stage"
                " begins where it ends; choose a smaller value, or leave out the column of the stages."
            )

    def _check_recipe(self, name: str) -> None:
        if name not in self.recipes:
            raise unknown_name(self.source, "recipe", str(name), self.recipes)

    def _runs_by_recipe(self) -> Mapping[str, Sequence[str]]:
        pairs = self._table[["recipe", "run"]].drop_duplicates()
        return dict(pairs.groupby("recipe", sort=False)["run"].agg(list))

    def _named(self, verb: str, names: tuple[str, ...]) -> "pd.Series[bool]":
        """Mask of the evaluations of the named recipes and runs."""
        if not names:
            raise DataError(f"{verb} needs the name of a recipe; {self.source} has: {listing(self.recipes)}.")
        known = self._runs_by_recipe()
        chosen: set[tuple[str, str]] = set()
        for position, name in enumerate(names):
            recipe, run = find_name(self.source, known, name)
            if name in names[:position]:
                what = "recipe" if run is None else "run"
                raise DataError(f"{verb}: {what} {name!r} is named twice; name it once.")
            own = {(recipe, one) for one in (known[recipe] if run is None else [run])}
            if own & chosen:
                raise DataError(f"{verb}: recipe {recipe!r} is named and a run of it too; name one of them.")
            chosen |= own
        pairs = pd.MultiIndex.from_frame(self._table[["recipe", "run"]])
        return pd.Series(pairs.isin(list(chosen)), self._table.index)

    def _in_part(self, verb: str, kept: "pd.Series[bool]") -> list[str]:
        """Return a note on the runs left out of recipes that are kept."""
        recipes = self._table["recipe"]
        lost = _run_names(self._table[~kept & recipes.isin(recipes[kept])])
        return [f"{verb}: left out {listing(lost)}"] if lost else []

    def _odd_notes(self) -> list[str]:
        return odd_notes(self._table, self.compute_label, self.reward_label, self.reward_bounds)


def find_name(holder: str, known: Mapping[str, Sequence[str]], name: str) -> tuple[str, str | None]:
    """Find a recipe by its name, or one run of it as ``recipe/run``.

    Parameters
    ----------
    holder : str
        Name of the searched object, for the error message.
    known : mapping of recipe to names of its runs
        Known names. Names may contain slashes: a recipe takes precedence, then the run of the recipe with the longest
        name.
    name : str
        Name, as given by the user.

    Returns
    -------
    recipe : str
        Name of the recipe.
    run : str or None
        Name of the run, or None if `name` is a recipe.

    Raises
    ------
    DataError
        If there is no such recipe or run (the nearest one is suggested).
    """
    if name in known:
        return name, None
    text = str(name)
    parts = [(text[:i], text[i + 1 :]) for i in range(len(text)) if text[i] == "/" and text[:i] in known]
    for recipe, run in reversed(parts):
        if run in known[recipe]:
            return recipe, run
    if parts:
        recipe, run = parts[-1]
        raise unknown_name(f"recipe {recipe!r}", "run", run, known[recipe])
    raise unknown_name(holder, "recipe", text, known)


def _stages(compute: NDArray[np.float64], names: NDArray[np.object_]) -> tuple[Stage, ...]:
    """Stages of a run, given the name of the stage of each evaluation above 0; empty if there is only one."""
    new = np.flatnonzero(names[1:] != names[:-1])
    if not len(new):
        return ()
    return (Stage(names[0], 0.0), *(Stage(names[i + 1], float(compute[i])) for i in new))


def in_last_stages(table: pd.DataFrame) -> "pd.Series[bool]":
    """Evaluations of a table that belong to the last stage of their run; all if there are no stages."""
    if "stage" not in table:
        return pd.Series(True, table.index)
    return table["stage"] == table.groupby(["recipe", "run"], sort=False)["stage"].transform("last")


def _run_names(rows: pd.DataFrame) -> list[str]:
    """Names of the runs of some evaluations, as written in messages."""
    pairs = rows[["recipe", "run"]].drop_duplicates().itertuples(index=False)
    return [f"run {run!r} of recipe {recipe!r}" for recipe, run in pairs]


def positive(verb: str, compute: float) -> float:
    """The compute at which `verb` cuts; raises DataError unless it is positive."""
    if not (is_finite(compute) and compute > 0):
        raise DataError(f"{verb} needs a finite compute above 0, not {compute!r}.")
    return float(compute)
