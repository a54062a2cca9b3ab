"""`Fit`, the posterior of one run, and `Fits`, those of many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rlceiling.errors import DataError, is_finite, unknown_name
from rlceiling.inference.convergence import Convergence, diagnose
from rlceiling.models.run_data import RunData, prepare
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.checks import Checks, check
from rlceiling.posterior.verdicts import Verdict, VerdictRules
from rlceiling.runs import Run

if TYPE_CHECKING:
    import xarray as xr

    from rlceiling.decisions.chances import Chance


@dataclass(frozen=True)
class Units:
    """What the user's numbers mean.

    Attributes
    ----------
    compute, reward : str
        Names of the columns.
    bounds : tuple of float
        Lowest and highest possible reward; the model works on [0, 1].
    """

    compute: str
    reward: str
    bounds: tuple[float, float]

    @property
    def width(self) -> float:
        """Highest minus lowest possible reward."""
        return self.bounds[1] - self.bounds[0]

    def unscale(self, reward: Any) -> Any:
        """From [0, 1] to the user's units."""
        return self.bounds[0] + self.width * reward

    def scale(self, reward: Any) -> Any:
        """From the user's units to [0, 1]."""
        return (reward - self.bounds[0]) / self.width


@dataclass(frozen=True)
class Settings:
    """How a fit was made.

    Attributes
    ----------
    chains, tune, draws : int
        Chains, warm-up steps and draws of each.
    target_accept : float
        Acceptance that the step size was tuned to.
    seed : int
        Seed of the call to `fit`.
    retried : bool
        Whether this is the automatic longer second try.
    versions : dict
        Versions of rlceiling, JAX and NumPyro, and the backend.
    """

    chains: int
    tune: int
    draws: int
    target_accept: float
    seed: int
    retried: bool
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class Fit:
    """Posterior of one run.

    Attributes
    ----------
    name : str
        Name in its `Fits`: the recipe, or ``recipe/run`` where a recipe has several runs.
    evaluations : Run
        What was fitted, rewards on [0, 1].
    units : Units
        What the user's numbers mean.
    priors : SigmoidPriors
        Priors.
    settings : Settings
        How the fit was made.
    draws : dict of str to ndarray, shape (chains, draws)
        Posterior draws by parameter, in the user's units: A, R0 and sigma in those of the reward, C_mid in
        that of compute.
    sample_stats : dict of str to ndarray, shape (chains, draws)
        What the sampler says of each draw.
    rules : VerdictRules
        Thresholds of the verdict.
    """

    name: str
    evaluations: Run
    units: Units
    priors: SigmoidPriors
    settings: Settings
    draws: dict[str, np.ndarray] = field(repr=False)
    sample_stats: dict[str, np.ndarray] = field(repr=False)
    rules: VerdictRules = field(default_factory=VerdictRules, repr=False)

    @cached_property
    def run_data(self) -> RunData:
        """Arrays of the run as the model sees them."""
        e = self.evaluations
        return prepare(
            e.compute,
            e.reward,
            e.n_eval,
            e.start,
            evaluation_error=self.priors.evaluation_error,
            C_mid_origin=self.priors.C_mid_origin,
        )

    @cached_property
    def scaled_draws(self) -> dict[str, np.ndarray]:
        """Draws with rewards on [0, 1]."""
        scaled = {"A": self.units.scale, "R0": self.units.scale, "sigma": lambda v: v / self.units.width}
        return {k: scaled[k](v) if k in scaled else v for k, v in self.draws.items()}

    @cached_property
    def convergence(self) -> Convergence:
        """Convergence diagnostics."""
        return diagnose(self.draws, self.sample_stats["diverging"], self.sample_stats["energy"])

    @cached_property
    def checks(self) -> Checks:
        """Numbers on which the verdict rests."""
        return check(
            self.run_data,
            self.scaled_draws,
            self.priors.headroom_width(),
            max_decline=self.rules.max_decline,
            max_wander=self.rules.max_wander,
            min_reach=self.rules.min_reach,
        )

    @cached_property
    def verdict(self) -> Verdict:
        """What this fit may be used for."""
        return self.rules.judge(self.convergence, self.checks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the run before it was fitted."""
        n, kept = len(self.evaluations.compute), int(np.sum(self.run_data.observed))
        return (f"{self.name}: {n:,} evaluations were averaged into {kept} bins of ln C",) if kept < n else ()

    def interval(self, parameter: str, prob: float = 0.9) -> tuple[float, float, float]:
        """Median and equal-tailed interval: (lower, median, upper)."""
        tail = (1.0 - prob) / 2.0
        lower, median, upper = np.quantile(self.draws[parameter], [tail, 0.5, 1.0 - tail])
        return float(lower), float(median), float(upper)

    def sentence(self) -> str:
        """The verdict with this fit's numbers in it."""
        c, k = self.convergence, self.checks
        if self.verdict is Verdict.NOT_CONVERGED:
            return (
                f"{self.name}: the chains do not agree (R-hat {c.r_hat:.3f}, smallest effective sample "
                f"{min(c.ess_bulk, c.ess_tail):.0f}, {c.divergences} divergences), so nothing can be read off."
            )
        if self.verdict is Verdict.NO_RISE:
            return (
                f"{self.name}: the reward does not rise above its start by more than its noise (rise "
                f"{self._reward(k.rise)}, noise {self._reward(k.noise_sd)})."
            )
        if self.verdict is Verdict.NOT_A_SIGMOID:
            if self.rules.outlier(k):
                return (
                    f"{self.name}: the evaluation at {self._compute(k.outlier_compute)} lies "
                    f"{abs(k.outlier_sd):.1f} standard deviations off the curve."
                )
            if k.p_decline >= self.rules.decided:
                return (
                    f"{self.name}: the reward has lost {k.decline:.0%} of its gain since "
                    f"{self._compute(k.best_compute)}."
                )
            return (
                f"{self.name}: the run wanders around the best sigmoid by {k.wander:.0%} of its rise, as after "
                "a second rise or a collapse."
            )
        lower, median, upper = self.interval("A")
        if self.verdict is Verdict.PRE_INFLECTION:
            return (
                f"{self.name}: the run stops at {self._compute(k.largest_compute)}, before its curve has bent "
                f"enough to know its ceiling (chance that it is past {self.rules.min_reach:g} x C_mid {k.p_reach:.2f}; "
                f"ceiling anywhere from {lower:.3g} to {upper:.3g})."
            )
        return f"{self.name}: the ceiling is {median:.3f} (90% interval {lower:.3f} to {upper:.3f})."

    def advice(self) -> str:
        """What to do next, in the user's units."""
        k = self.checks
        if self.verdict is Verdict.NOT_CONVERGED:
            return f"fit again with tune={2 * self.settings.tune}, draws={2 * self.settings.draws}"
        if self.verdict is Verdict.PRE_INFLECTION:
            # A midpoint that is itself unknown may come out early; twice the present compute is the least.
            target = 2.0 * max(k.C_mid, k.largest_compute)
            if k.C_mid > k.largest_compute:
                return f"run to at least 2 x C_mid, about {self._compute(target)}"
            return f"run to at least about {self._compute(target)}, twice as far as now"
        if self.verdict is Verdict.NOT_A_SIGMOID:
            if self.rules.outlier(k):
                return f"check the evaluation at {self._compute(k.outlier_compute)}"
            if k.p_decline >= self.rules.decided:
                return f"look at what happened after {self._compute(k.best_compute)}, or cut the run there (until)"
            return "look at the run; fit each rise alone"
        if self.verdict is Verdict.NO_RISE:
            return "run longer, evaluate on more answers, or check that it learns"
        return "none needed"

    def to_datatree(self) -> xr.DataTree:
        """Everything ArviZ asks for (see `Fits.to_datatree`)."""
        from rlceiling.posterior.datatree import to_datatree

        return to_datatree(self)

    def _compute(self, value: float) -> str:
        return f"{_two_digits(value)} {self.units.compute}"

    def _reward(self, scaled_difference: float) -> str:
        return f"{scaled_difference * self.units.width:.3g}"

    def __repr__(self) -> str:
        return f"Fit: {self.sentence()}"


class Fits(Mapping[str, Fit]):
    """Posteriors of many runs: a mapping from name to `Fit`, with the questions asked of all of them.

    Names are recipes, or ``recipe/run`` where a recipe has several runs (each is then fitted alone).
    Made by `rlceiling.fit` or `rlceiling.load_fits`.
    """

    def __init__(self, fits: Sequence[Fit], notes: Sequence[str] = ()) -> None:
        self._fits = {f.name: f for f in fits}
        self.notes = (*notes, *(note for f in fits for note in f.notes))

    def __getitem__(self, name: str) -> Fit:
        if name in self._fits:
            return self._fits[name]
        runs = [n for n, f in self._fits.items() if f.evaluations.recipe == name]
        if runs:
            raise DataError(
                f"recipe {name!r} has {len(runs)} runs, each fitted alone; name one of them: {', '.join(runs)}."
            )
        raise unknown_name("this set of fits", "recipe", name, self._fits)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fits)

    def __len__(self) -> int:
        return len(self._fits)

    def __contains__(self, name: object) -> bool:
        return name in self._fits

    def __repr__(self) -> str:
        counts = pd.Series([v.name for v in self.verdicts.values()]).value_counts()
        said = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
        return "\n  ".join([f"Fits: {len(self)} runs ({said})", *self.notes])

    @property
    def units(self) -> Units:
        """What the user's numbers mean."""
        for fit in self._fits.values():
            return fit.units
        raise DataError("there are no fits; fit at least one run.")

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdict of each fit."""
        return {name: f.verdict for name, f in self._fits.items()}

    def summary(self, prob: float = 0.9) -> pd.DataFrame:
        """One row a fit.

        Parameters
        ----------
        prob : float, default 0.9
            Probability of the equal-tailed intervals.

        Returns
        -------
        DataFrame
            Index: name. Columns: median and interval ends of ``A`` (unit of the reward), ``B`` (no unit) and
            ``C_mid`` (unit of compute); ``verdict``; ``advice``; largest ``r_hat``, smallest ``ess_bulk`` and
            ``ess_tail`` over all parameters; ``divergences``. ``A`` is the ceiling of the run that was fitted;
            chances between recipes add the spread between runs. Quote it only where the verdict is IDENTIFIED.

        Raises
        ------
        DataError
            If `prob` is not between 0 and 1.
        """
        check_prob("summary", prob)
        rows = {}
        for name, f in self._fits.items():
            row: dict[str, Any] = {}
            for parameter in ("A", "B", "C_mid"):
                row[f"{parameter}_lower"], row[parameter], row[f"{parameter}_upper"] = f.interval(parameter, prob)
            c = f.convergence
            row |= {"verdict": f.verdict.name, "advice": f.advice()}
            row |= {"r_hat": c.r_hat, "ess_bulk": c.ess_bulk, "ess_tail": c.ess_tail}
            rows[name] = row | {"divergences": c.divergences}
        columns = [f"{p}{end}" for p in ("A", "B", "C_mid") for end in ("", "_lower", "_upper")]
        columns += ["verdict", "advice", "r_hat", "ess_bulk", "ess_tail", "divergences"]
        return pd.DataFrame.from_dict(rows, orient="index")[columns].rename_axis("recipe")

    def chance_higher(self, first: str, second: str, margin: float = 0.0) -> Chance:
        """Chance that the ceiling of one recipe is higher: ``P(A_first > A_second + margin)``.

        See `rlceiling.decisions.chances.chance_higher`.
        """
        from rlceiling.decisions.chances import chance_higher

        return chance_higher(self[first], self[second], margin)

    def chance_equal(self, first: str, second: str, margin: float) -> Chance:
        """Chance that two ceilings are equal within a margin: ``P(|A_first - A_second| <= margin)``.

        See `rlceiling.decisions.chances.chance_equal`.
        """
        from rlceiling.decisions.chances import chance_equal

        return chance_equal(self[first], self[second], margin)

    def chances(self, margin: float = 0.0, *, include_inconclusive: bool = False) -> pd.DataFrame:
        """Square table of ``P(A_row > A_column + margin)``.

        See `rlceiling.decisions.chances.chances`.
        """
        from rlceiling.decisions.chances import chances

        return chances(self, margin, include_inconclusive=include_inconclusive)

    def rank(self, *, include_inconclusive: bool = False) -> pd.DataFrame:
        """Chance that each recipe has the highest ceiling, and the distribution of its rank.

        See `rlceiling.decisions.chances.rank`.
        """
        from rlceiling.decisions.chances import rank

        return rank(self, include_inconclusive=include_inconclusive)

    def forecast(self, compute: float | Sequence[float], prob: float = 0.9) -> pd.DataFrame:
        """Reward of each recipe at a compute: the curve, and a new evaluation.

        See `rlceiling.decisions.forecast.forecast`.
        """
        from rlceiling.decisions.forecast import forecast

        return forecast(self, compute, prob)

    def to_datatree(self, name: str) -> xr.DataTree:
        """Everything ArviZ asks for about one fit.

        See `rlceiling.posterior.datatree.to_datatree`.
        """
        return self[name].to_datatree()

    def save(self, directory: str | Path) -> None:
        """Write a directory that `rlceiling.load_fits` reads: one NetCDF file a fit and an index.

        See `rlceiling.posterior.store.save_fits`.
        """
        from rlceiling.posterior.store import save_fits

        save_fits(self, directory)


def check_prob(where: str, prob: float) -> None:
    """Raise unless a probability lies strictly between 0 and 1."""
    if not (is_finite(prob) and 0.0 < prob < 1.0):
        raise DataError(f"{where}: prob={prob!r} is not between 0 and 1; give the probability of the interval.")


def _two_digits(value: float) -> str:
    """Two significant digits, as a person would say them: 9,400 or 0.35 or 2.1e+20."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if 10 <= rounded < 1e7 else f"{rounded:.3g}"
