"""`Fit`: the posterior of one recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rlceiling.curves.sigmoid import sigmoid_curve
from rlceiling.errors import DataError, is_finite, unknown_name
from rlceiling.inference.convergence import Convergence, diagnose
from rlceiling.models.prior_draws import prior_draws
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.checks import Checks, check, sibling_p
from rlceiling.posterior.verdicts import Verdict, VerdictRules
from rlceiling.runs import Run
from rlceiling.text import two_digits

if TYPE_CHECKING:
    import xarray as xr


SIBLING_DRAWS = 200
"""Draws over which the comparison of a run with its siblings is averaged."""


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

    def show(self, reward: float) -> str:
        """A reward to a thousandth of its range: 0.605 between 0 and 1, 60.5 between 0 and 100."""
        return f"{reward:.{max(0, 3 - round(math.log10(self.width)))}f}"

    def unscale(self, reward: Any) -> Any:
        """From [0, 1] to the user's units."""
        return self.bounds[0] + self.width * reward

    def scale(self, reward: Any) -> Any:
        """From the user's units to [0, 1]."""
        return (reward - self.bounds[0]) / self.width

    def unscale_draws(self, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters from [0, 1] to the user's units: A and R0 are rewards, sigma a difference of them."""
        return {
            k: self.unscale(v) if k in _REWARDS else self.width * v if k == "sigma" else v for k, v in draws.items()
        }

    def scale_draws(self, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Undo `unscale_draws`."""
        return {k: self.scale(v) if k in _REWARDS else v / self.width if k == "sigma" else v for k, v in draws.items()}


_REWARDS = ("A", "R0")


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
    """Posterior of one recipe and its runs.

    Attributes
    ----------
    name : str
        The recipe.
    runs : tuple of Run
        What was fitted, rewards on [0, 1].
    units : Units
        What the user's numbers mean.
    priors : SigmoidPriors
        Priors.
    settings : Settings
        How the fit was made.
    draws : dict of str to ndarray, shape (chains, draws)
        Posterior draws of the recipe's parameters, in the user's units: A, R0 and sigma in those of the reward, C_mid
        in that of compute. `headroom_spread`, `C_mid_spread` and `B_spread` are the standard deviations between runs
        of the logit of headroom, of ln C_mid and of ln B.
    run_draws : dict of str to ndarray, shape (chains, draws, runs)
        Posterior draws of A, B and C_mid of each run.
    sample_stats : dict of str to ndarray, shape (chains, draws)
        What the sampler says of each draw.
    rules : VerdictRules
        Thresholds of the verdict.
    """

    name: str
    runs: tuple[Run, ...]
    units: Units
    priors: SigmoidPriors
    settings: Settings
    draws: dict[str, np.ndarray] = field(repr=False)
    run_draws: dict[str, np.ndarray] = field(repr=False)
    sample_stats: dict[str, np.ndarray] = field(repr=False)
    rules: VerdictRules = field(default_factory=VerdictRules, repr=False)

    @cached_property
    def recipe_data(self) -> RecipeData:
        """Arrays of the recipe as the model sees them."""
        priors = self.priors
        return prepare(self.runs, evaluation_error=priors.evaluation_error, C_mid_origin=priors.C_mid_origin)

    @property
    def run_names(self) -> list[str]:
        """Names of the runs."""
        return [run.run for run in self.runs]

    @property
    def first_compute(self) -> float:
        """Smallest positive compute of any run."""
        return min(float(run.compute[0]) for run in self.runs)

    @property
    def largest_compute(self) -> float:
        """Largest compute of any run."""
        return max(float(run.compute[-1]) for run in self.runs)

    def renamed(self, name: str) -> Fit:
        """The same posterior by another name."""
        if name == self.name:
            return self
        return replace(self, name=name, runs=tuple(replace(run, recipe=name) for run in self.runs))

    @property
    def evaluations(self) -> int:
        """Evaluations of all runs, step 0 not counted."""
        return sum(len(run.compute) for run in self.runs)

    def place(self, run: str) -> int:
        """Place of a run among `runs`; raises DataError if there is none of this name."""
        if run not in self.run_names:
            raise unknown_name(f"recipe {self.name!r}", "run", str(run), self.run_names)
        return self.run_names.index(run)

    def draws_of(self, run: str) -> dict[str, np.ndarray]:
        """Draws of one run, in the user's units: its own A, B and C_mid, the rest as its recipe."""
        place = self.place(run)
        return {**self.draws, **{name: values[..., place] for name, values in self.run_draws.items()}}

    def scaled_draws_of(self, run: str) -> dict[str, np.ndarray]:
        """Draws of one run with rewards on [0, 1]."""
        return self.units.scale_draws(self.draws_of(run))

    @cached_property
    def scaled_draws(self) -> dict[str, np.ndarray]:
        """Draws of the recipe with rewards on [0, 1]."""
        return self.units.scale_draws(self.draws)

    def curve_at(self, compute: Any, prob: float = 0.9, run: str | None = None) -> tuple[np.ndarray, ...]:
        """Median and equal-tailed interval of the curve that is shown beside evaluations: (lower, median, upper).

        It is that of a run, or else of the recipe; of a recipe with one run it is that run's, as its evaluations are.
        `compute` has shape (m,), as have the arrays that are returned.
        """
        if run is None and len(self.runs) == 1:
            run = self.run_names[0]
        draws = self.draws if run is None else self.draws_of(run)
        A, B, C_mid, R0 = (draws[name].reshape(-1, 1) for name in ("A", "B", "C_mid", "R0"))
        tail = (1.0 - prob) / 2.0
        return tuple(np.quantile(sigmoid_curve(compute, A, B, C_mid, R0), [tail, 0.5, 1.0 - tail], axis=0))

    @cached_property
    def reached(self) -> float:
        """Where that curve is at the largest compute, in the unit of the reward: its median."""
        return float(self.curve_at(np.array([self.largest_compute]))[1][0])

    @property
    def A_spread(self) -> np.ndarray:
        """Standard deviation between the ceilings of runs, in the unit of the reward, shape (chains, draws).

        ``(1 - R0) headroom (1 - headroom)`` times that of the logit of headroom, which is exact for small ones.
        """
        scaled = self.scaled_draws
        slope = (1.0 - scaled["R0"]) * scaled["headroom"] * (1.0 - scaled["headroom"])
        return np.asarray(self.units.width * slope * scaled["headroom_spread"])

    @cached_property
    def convergence(self) -> Convergence:
        """Convergence diagnostics, over the parameters of the recipe and of its runs."""
        of_runs = {f"{k}[{i}]": v[..., i] for k, v in self.run_draws.items() for i in range(len(self.runs))}
        return diagnose({**self.draws, **of_runs}, self.sample_stats["diverging"], self.sample_stats["energy"])

    @cached_property
    def checks(self) -> dict[str, Checks]:
        """Numbers on which the verdict rests, by run."""
        width = self.priors.headroom_width()
        rules = self.rules
        return {
            run: check(
                self.recipe_data,
                place,
                self.scaled_draws_of(run),
                width,
                max_decline=rules.max_decline,
                max_wander=rules.max_wander,
                min_reach=rules.min_reach,
            )
            for place, run in enumerate(self.run_names)
        }

    @cached_property
    def verdict(self) -> Verdict:
        """What this fit may be used for."""
        return self.rules.judge(self.convergence, list(self.checks.values()))

    @cached_property
    def odd_runs(self) -> dict[str, str]:
        """Runs that behave unlike their siblings, and how: a collapsed seed, or one that ends far from the others."""
        if len(self.runs) < 3 or self.verdict in (Verdict.NOT_CONVERGED, Verdict.NO_RISE, Verdict.NOT_A_SIGMOID):
            return {}
        rules, found = self.rules, {}
        p = {name: self._sibling_p(name) for name in ("A", "C_mid")}
        for place, (run, k) in enumerate(self.checks.items()):
            if not rules.rises(k):
                found[run] = "does not rise by more than its noise"
            elif not rules.is_sigmoid(k):
                found[run] = self._trouble(k)
            else:
                for name, word in (("A", "ceiling"), ("C_mid", "midpoint")):
                    if p[name][place] < rules.min_sibling_p:
                        own, others = self._own_and_siblings(name, place)
                        found[run] = f"has its {word} at {own}, where its siblings have {others}"
                        break
        return found

    def _sibling_p(self, parameter: str) -> np.ndarray:
        """Chance of each run, were it one of its siblings, in its ceiling or midpoint."""
        step = max(1, self.draws["A"].size // SIBLING_DRAWS)
        values = self.run_draws[parameter].reshape(-1, len(self.runs))[::step]
        if parameter == "C_mid":
            return sibling_p(np.log(values), self.priors.spread_log_density("C_mid"))
        A, R0 = self.units.scale(values), self.scaled_draws["R0"].reshape(-1, 1)[::step]
        return sibling_p(np.log(A - R0) - np.log1p(-A), self.priors.spread_log_density("headroom"))

    def _own_and_siblings(self, parameter: str, place: int) -> tuple[str, str]:
        medians = np.median(self.run_draws[parameter], axis=(0, 1))
        others = np.delete(medians, place)
        show = self.units.show if parameter == "A" else self._compute
        return show(float(medians[place])), f"{show(float(others.min()))} to {show(float(others.max()))}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the runs before they were fitted."""
        said = []
        for place, run in enumerate(self.runs):
            n, kept = len(run.compute), int(np.sum(self.recipe_data.run(place).observed))
            if kept < n:
                name = self.name if len(self.runs) == 1 else f"{self.name}, run {run.run}"
                said.append(f"{name}: {n:,} evaluations were averaged into {kept} bins of ln C")
        return tuple(said)

    def interval(self, parameter: str, prob: float = 0.9, run: str | None = None) -> tuple[float, float, float]:
        """Median and equal-tailed interval of a parameter of the recipe, or of a run: (lower, median, upper)."""
        return interval_of((self.draws if run is None else self.draws_of(run))[parameter], prob)

    def prior_draws(self) -> dict[str, np.ndarray]:
        """Draws of the recipe's parameters from their priors, shape (draws,), in the user's units."""
        return self.units.unscale_draws(prior_draws(self.recipe_data, self.priors))

    def quoted_ceiling(self, prob: float = 0.9, run: str | None = None) -> tuple[str, str]:
        """Ceiling as it may be quoted, and its interval; no number and parentheses unless it is `IDENTIFIED`."""
        lower, median, upper = map(self.units.show, self.interval("A", prob, run))
        if self.verdict is Verdict.IDENTIFIED:
            return median, f"[{lower}, {upper}]"
        return "", f"({lower} to {upper})"

    @property
    def reason(self) -> str:
        """Why the ceiling cannot be quoted, with what to do; empty if it can."""
        if self.verdict is Verdict.IDENTIFIED:
            return ""
        return f"{self.name} {self.verdict.phrase} ({self.verdict.name}: {self.advice()})"

    @property
    def _telling(self) -> Checks:
        """Checks of the run that decided the verdict."""
        checks, rules = list(self.checks.values()), self.rules
        if self.verdict is Verdict.NO_RISE:
            return next(c for c in checks if not rules.rises(c))
        if self.verdict is Verdict.NOT_A_SIGMOID:
            return next(c for c in checks if not rules.is_sigmoid(c))
        return max(checks, key=lambda c: c.p_reach)

    def sentence(self) -> str:
        """The verdict with this fit's numbers in it."""
        return f"{self.name}: {self._finding()}" + "".join(f" Run {run} {how}." for run, how in self.odd_runs.items())

    def _finding(self) -> str:
        if self.verdict is Verdict.NOT_CONVERGED:
            c = self.convergence
            return (
                f"the chains do not agree (R-hat {c.r_hat:.3f}, smallest effective sample "
                f"{min(c.ess_bulk, c.ess_tail):.0f}, {c.divergences} divergences), so nothing can be read off."
            )
        k, rules = self._telling, self.rules
        run = next(name for name, checks in self.checks.items() if checks is k)
        several = len(self.runs) > 1
        if self.verdict is Verdict.NO_RISE:
            failing = sum(not rules.rises(c) for c in self.checks.values())
            who = (
                f"{failing} of {len(self.runs)} runs do not rise above their start"
                if several
                else ("the reward does not rise above its start")
            )
            return f"{who} by more than its noise (rise {self._reward(k.rise)}, noise {self._reward(k.noise_sd)})."
        if self.verdict is Verdict.NOT_A_SIGMOID:
            failing = sum(not rules.is_sigmoid(c) for c in self.checks.values())
            who = f"{failing} of {len(self.runs)} runs do not follow one sigmoid; run {run} " if several else "the run "
            return f"{who}{self._trouble(k)}."
        lower, median, upper = (self.units.show(v) for v in self.interval("A"))
        if self.verdict is Verdict.PRE_INFLECTION:
            who = "the runs stop" if several else "the run stops"
            return (
                f"{who} at {self._compute(self.largest_compute)}, before the curve has bent enough to know its "
                f"ceiling (chance to be past {rules.min_reach:g} x C_mid {k.p_reach:.2f}; ceiling anywhere from "
                f"{lower} to {upper})."
            )
        of = f", from {len(self.runs)} runs" if several else ""
        stops = "the longest run stops" if several else "the run stops"
        return (
            f"the ceiling is {median} (90% interval {lower} to {upper}{of}); where {stops}, at "
            f"{self._compute(self.largest_compute)}, the curve is at {self.units.show(self.reached)}."
        )

    def _trouble(self, k: Checks) -> str:
        """What keeps a run from being a sigmoid."""
        if self.rules.outlier(k):
            return (
                f"has an evaluation at {self._compute(k.outlier_compute)} that lies {abs(k.outlier_sd):.1f} standard "
                "deviations off the curve"
            )
        if k.p_decline >= self.rules.decided:
            return f"has lost {k.decline:.0%} of its gain since {self._compute(k.best_compute)}"
        return f"wanders around the best sigmoid by {k.wander:.0%} of its rise, as after a second rise or a collapse"

    def advice(self) -> str:
        """What to do next, in the user's units."""
        if self.verdict is Verdict.NOT_CONVERGED:
            return f"fit again with tune={2 * self.settings.tune}, draws={2 * self.settings.draws}"
        k = self._telling
        if self.verdict is Verdict.PRE_INFLECTION:
            # A midpoint that is itself unknown may come out early; twice the present compute is the least.
            target = 2.0 * max(k.C_mid, self.largest_compute)
            if k.C_mid > self.largest_compute:
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
        if self.odd_runs:
            run = next(iter(self.odd_runs))
            return (
                f"look at run {', '.join(self.odd_runs)}; if it was broken by accident, leave it out with "
                f"runs.drop({f'{self.name}/{run}'!r}) (command line: --drop {f'{self.name}/{run}'!r})"
            )
        return "none needed"

    def to_datatree(self) -> xr.DataTree:
        """Everything ArviZ asks for (see `Fits.to_datatree`)."""
        from rlceiling.posterior.datatree import to_datatree

        return to_datatree(self)

    def _compute(self, value: float) -> str:
        return f"{two_digits(value)} {self.units.compute}"

    def _reward(self, scaled_difference: float) -> str:
        return f"{scaled_difference * self.units.width:.3g}"

    def _repr_html_(self) -> str:
        from rlceiling.report.html import fit_html

        return fit_html(self)

    def __repr__(self) -> str:
        return f"Fit: {self.sentence()}"


def check_prob(where: str, prob: float) -> None:
    """Raise unless a probability lies strictly between 0 and 1."""
    if not (is_finite(prob) and 0.0 < prob < 1.0):
        raise DataError(f"{where}: prob={prob!r} is not between 0 and 1; give the probability of the interval.")


def interval_of(draws: np.ndarray, prob: float) -> tuple[float, float, float]:
    """Equal-tailed interval and median: (lower, median, upper)."""
    tail = (1.0 - prob) / 2.0
    lower, median, upper = np.quantile(draws, [tail, 0.5, 1.0 - tail])
    return float(lower), float(median), float(upper)
