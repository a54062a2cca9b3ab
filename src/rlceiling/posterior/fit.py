"""`Fit`: the posterior of one recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import logit

from rlceiling.curves.stages import staged_curve
from rlceiling.display.html import html_piece
from rlceiling.errors import unknown_name
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.unit import Unit
from rlceiling.posterior.deferred import defer
from rlceiling.posterior.posterior import Posterior, described_run, interval_of, restored_run
from rlceiling.posterior.predictive_checks import Checks, check_runs, is_constant, sibling_p
from rlceiling.posterior.recorded import Stored, known_fields, plain
from rlceiling.posterior.verdicts import Reason, Verdict, VerdictRules
from rlceiling.posterior.wording import compute_in_words, failures, finding, last_stage, set_aside, to_do, trouble
from rlceiling.runs import Run, Stage
from rlceiling.runs.units import Units
from rlceiling.text import NOT_READ_OFF, interval, joined, number

if TYPE_CHECKING:
    from rlceiling.models.recipe_family import RecipeFamily
    from rlceiling.models.recipe_priors import SigmoidPriors

SIBLING_DRAWS = 200
"""Number of draws over which the comparison of a run with its siblings is averaged."""

ROUNDING = 1e-6
"""Distances in ln C that are rounding, so that the last evaluation itself is not beyond the data."""

PARAMETER_LABELS = {
    "A": "ceiling A",
    "B": "efficiency B",
    "C_mid": "midpoint C_mid",
    "R0": "start R0",
    "sigma": "noise sigma",
    "share": "autocorrelated share of its variance",
    "length": "correlation length, in ln C",
    "tail": "tail of the curve, 1 for a sigmoid",
}
"""Parameters in the table of one recipe -> their labels."""

OF_LAST_STAGE = {
    "A": "ceiling A of the last stage",
    "C_mid": "midpoint C_mid, from the beginning of the last stage",
    "R0": "level R0 at the beginning of the last stage",
}
"""Labels that differ if the run has stages."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit(Posterior):
    """Posterior of one recipe and its runs.

    Attributes
    ----------
    name : str
        Name of the recipe.
    runs : tuple of Run
        The fitted runs, rewards on [0, 1].
    units : Units
        Column names and reward bounds of the user's data.
    priors : SigmoidPriors
        Priors.
    settings : Settings
        Sampler settings and package versions of the fit.
    draws : dict of str to ndarray, shape (chains, draws)
        Posterior draws of the recipe's parameters, in the user's units: A, R0 and sigma in the unit of the reward,
        C_mid in the unit of compute; tail has no unit. `headroom_spread`, `C_mid_spread`, `B_spread` and `sigma_spread`
        are the between-run spreads of the logit of headroom, of ln C_mid, of ln B and of ln sigma. If the run has
        stages, A, headroom, C_mid and R0 are those of the last: R0 is the level at its beginning, from which C_mid is
        counted. Those of stage 1 are ``A_1``, ``headroom_1``, ``C_mid_1`` and ``R0_1``, and so on (see
        `rlceiling.curves.stages`).
    unit_draws : dict of str to ndarray, shape (chains, draws, runs)
        Posterior draws of A, B, C_mid and sigma of each run; also called `run_draws`.
    sample_stats : dict of str to ndarray, shape (chains, draws)
        Sampler statistics stored with each draw.
    rules : VerdictRules
        Thresholds of the verdict.
    failed_runs : mapping of str to str
        Runs that failed while most of their siblings did not -> what happened. They are not fitted: the posterior is
        that of the healthy runs (see `rlceiling.fitting.failed_runs`).
    """

    name: str
    runs: tuple[Run, ...]
    units: Units
    priors: SigmoidPriors
    rules: VerdictRules = field(default_factory=VerdictRules, repr=False)
    failed_runs: Mapping[str, str] = field(default_factory=dict)

    kind: ClassVar[str] = "recipe"
    unit_prefix: ClassVar[str] = "run_"

    @property
    def family(self) -> RecipeFamily:
        """Model of the fit."""
        from rlceiling.models.recipe_family import recipe_family

        return recipe_family(len(self.begins))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages of the run, the last of which the parameters and the verdict belong to; empty if there is only one."""
        return self.runs[0].stages

    @property
    def begins(self) -> np.ndarray:
        """Compute at which each stage begins; 0 for a recipe without stages."""
        return self.runs[0].begins

    @property
    def members(self) -> tuple[Unit, ...]:
        """Units of the hierarchical model: one per run."""
        return tuple(Unit(run.run, (run,)) for run in self.runs)

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """The runs."""
        return self.runs

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Names of the recipe and of its runs, from which the random streams are derived."""
        return (self.name, *self.run_names)

    @property
    def labels(self) -> dict[str, str]:
        """Name of the recipe and names of the columns."""
        return {"name": self.name, "compute": self.units.compute, "reward": self.units.reward}

    def run_label(self, place: int) -> str:
        """Name of a run."""
        return self.runs[place].run

    @property
    def log_origin(self) -> float:
        """Mean ln C of all evaluations."""
        return float(self.data.log_origin)

    def describe(self) -> dict[str, Any]:
        """Description, as plain types for JSON, of everything except draws and evaluations."""
        checks = {run: plain(check) for run, check in self.checks.items()}
        own = self.described(name=self.name, runs=[described_run(run) for run in self.runs])
        outlook = self.chance_identified if self.verdict is Verdict.PRE_INFLECTION else {}
        return own | {
            "checks": checks,
            "thresholds": self.rules.check_thresholds,
            "outlook": {str(multiple): chance for multiple, chance in outlook.items()},
            "failed_runs": dict(self.failed_runs),
            "own_share": self.own_share,
            "unlike": self.unlike,
        }

    @classmethod
    def restore(cls, stored: Stored) -> Fit:
        """Rebuild a posterior from the content of a file."""
        described = stored.described
        units = Units.from_dict(described["units"])
        scaled = {**stored.evaluations, "reward": units.scale(stored.evaluations["reward"])}
        return cls(
            name=described["name"],
            runs=tuple(restored_run(described["name"], one, scaled, i) for i, one in enumerate(described["runs"])),
            units=units,
            priors=defer(_priors, described["priors"]),
            rules=known_fields(VerdictRules, described["rules"]),
            failed_runs=described.get("failed_runs", {}),
            **completed(stored).common_fields(Checks),
        )

    @property
    def sampled_draws(self) -> dict[str, np.ndarray]:
        """Draws without parameters that were fixed, as in files of earlier versions."""
        fixed = {name for name in ADDED if np.ptp(self.draws[name]) == 0.0}
        return {name: values for name, values in self.draws.items() if name not in fixed}

    @property
    def worth_a_retry(self) -> bool:
        """Whether the chains have not converged, unless the runs are constant, where no chains would say more."""
        constant = sum(is_constant(run.reward) for run in self.runs)
        return 2 * constant < len(self.runs) and super().worth_a_retry

    @property
    def run_draws(self) -> dict[str, np.ndarray]:
        """Draws of A, B, C_mid and sigma of each run, shape (chains, draws, runs)."""
        return self.unit_draws

    def in_user_units(self, draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Convert draws with rewards on [0, 1] to the user's units."""
        return self.units.unscale_draws(draws)

    def model_draws(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Draws with rewards on [0, 1], chains concatenated."""
        runs = self.units.scale_draws(self.run_draws)
        return (
            {name: values.reshape(-1) for name, values in self.scaled_draws.items()},
            {name: values.reshape(-1, len(self.runs)) for name, values in runs.items()},
        )

    def run_curve(self, place: int) -> Callable[[np.ndarray], np.ndarray]:
        """Curve of a run for every draw."""
        draws = self.scaled_draws_of(self.runs[place].run)
        from rlceiling.models.paths import curve_of_inputs

        return curve_of_inputs({name: values.reshape(-1) for name, values in draws.items()}, self.data)

    def run_noise(self, place: int) -> dict[str, np.ndarray]:
        """Noise parameters of a run for every draw."""
        draws = self.scaled_draws_of(self.runs[place].run)
        return {name: draws[name].reshape(-1) for name in ("sigma", "share", "length")}

    @property
    def run_names(self) -> list[str]:
        """Names of the runs."""
        return [run.run for run in self.runs]

    def sampled_with(self, other: Fit) -> bool:
        """Whether draws of this fit and of the other belong together, one by one."""
        together = self.settings.sampled_together
        return self is other or (bool(together) and together == other.settings.sampled_together)

    def renamed(self, name: str) -> Fit:
        """The same posterior with another name."""
        if name == self.name:
            return self
        return replace(self, name=name, runs=tuple(replace(run, recipe=name) for run in self.runs))

    def place(self, run: str) -> int:
        """Index of a run in `runs`; raises DataError if no run has this name."""
        if run not in self.run_names:
            raise unknown_name(f"recipe {self.name!r}", "run", str(run), self.run_names)
        return self.run_names.index(run)

    def draws_of(self, run: str) -> dict[str, np.ndarray]:
        """Draws of one run in the user's units: its own A, B, C_mid and sigma, the others of its recipe."""
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
        """Median and equal-tailed credible interval of the curve plotted with the evaluations: (lower, median, upper).

        It is the curve of `run`, or by default the curve of the recipe; for a recipe with one run it is the curve of
        that run, to which the evaluations belong, and beyond them with the error of its form. `compute` and the
        returned arrays have shape (m,).
        """
        if run is None and len(self.runs) == 1:
            run = self.run_names[0]
        draws = self.draws if run is None else self.draws_of(run)
        outside = (1.0 - prob) / 2.0
        curves = staged_curve(compute, {name: values.reshape(-1, 1) for name, values in draws.items()}, self.begins)
        scaled = {name: self.units.scale(draws[name]) for name in ("A", "R0")}
        curves = np.clip(
            curves + self.units.width * self.off_form(scaled, np.asarray(compute), run), *self.units.bounds
        )
        return tuple(np.quantile(curves, [outside, 0.5, 1.0 - outside], axis=0))

    def form_sd(self, draws: Mapping[str, np.ndarray], compute: np.ndarray, run: str | None = None) -> np.ndarray:
        """Standard deviation of the error of the form of a curve beyond the data, on [0, 1], shape (draws, m).

        ``form_error * (A - R0) * sqrt(ln(C / C_last))``, and 0 within the data: a random walk in ln C that begins at
        the last evaluation, since evaluations correct the form until there.

        Parameters
        ----------
        draws : mapping of name to ndarray
            Draws of A and R0, rewards on [0, 1].
        compute : ndarray, shape (m,)
            Compute values.
        run : str, optional
            Run that the curve belongs to. Default: the recipe.
        """
        last = self.largest_compute if run is None else self.runs[self.place(run)].compute[-1]
        beyond = np.log(np.maximum(compute / last, 1.0))
        far = np.sqrt(np.where(beyond > ROUNDING, beyond, 0.0))
        gain = np.abs(draws["A"] - draws["R0"]).reshape(-1, 1)
        return np.asarray(self.priors.form_error * gain * far if far.any() else 0.0 * gain * far)

    def off_form(self, draws: Mapping[str, np.ndarray], compute: np.ndarray, run: str | None = None) -> np.ndarray:
        """Draws of that error, shape (draws, m): one standard normal number for each draw, so that curves are smooth.

        Parameters
        ----------
        draws, compute, run
            As in `form_sd`.
        """
        sd = self.form_sd(draws, compute, run)
        key = stream_key(self.settings.seed, self.name, *(() if run is None else (run,)), "form")
        return sd * np.random.default_rng(key).standard_normal((len(sd), 1)) if sd.any() else sd

    @cached_property
    def reached(self) -> float:
        """Posterior median of that curve at the largest compute, in the unit of the reward."""
        return float(self.curve_at(np.array([self.largest_compute]))[1][0])

    @property
    def A_spread(self) -> np.ndarray:
        """Between-run standard deviation of the ceiling, in the unit of the reward, shape (chains, draws).

        ``(1 - R0) headroom (1 - headroom)`` times the between-run standard deviation of the logit of headroom (the
        delta method), which is exact in the limit of small standard deviations.
        """
        scaled = self.scaled_draws
        slope = (1.0 - scaled["R0"]) * scaled["headroom"] * (1.0 - scaled["headroom"])
        return np.asarray(self.units.width * slope * scaled["headroom_spread"])

    @cached_property
    def checks(self) -> dict[str, Checks]:
        """Posterior checks that determine the verdict, by run."""
        rules, recorded = self.rules, self.recorded
        if recorded is not None and recorded.thresholds == rules.check_thresholds:
            return dict(recorded.checks)
        draws = [self.scaled_draws_of(run) for run in self.run_names]
        found = check_runs(self.data, draws, self.scaled_draws["A"], **rules.check_thresholds)
        return dict(zip(self.run_names, found, strict=True))

    @cached_property
    def verdict(self) -> Verdict:
        """Verdict: the conclusions that this fit supports."""
        return self.reasons[0].verdict if self.reasons else Verdict.IDENTIFIED

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Reasons for the verdict, the first of which decides it; empty if the ceiling is identified."""
        reasons = self.rules.reasons(self.convergence, list(self.checks.values()))
        leans = not reasons and self.own_share < self.rules.min_own_share
        return (Reason.LEANS_ON_OTHERS,) if leans else reasons

    @cached_property
    def own_share(self) -> float:
        """Share of the information on the ceiling that the evaluations of this recipe give; the rest is from others.

        It is ``1 - (w / w_0)**2`` with the widths of the 90% intervals of the logit of headroom, ``w`` under the
        posterior and ``w_0`` under the learned prior; for normal distributions this is the share of the precision. It
        is a bound from above, since what the learned priors of other parameters contribute counts as the recipe's own.
        It is 1 under priors that were not learned, and for a recipe that is rather unlike the others.
        """
        if self.recorded is not None:
            return self.recorded.own_share

        from rlceiling.models.recipe_priors import LearnedPriors

        priors = self.priors
        if not isinstance(priors, LearnedPriors) or "headroom" not in priors.learned or self.unlike["curve"] > 0.5:
            return 1.0
        low, _, high = priors.central("headroom")
        own_low, own_high = np.quantile(self.draws["headroom"], [0.05, 0.95])
        ratio = (logit(own_high) - logit(own_low)) / (logit(high) - logit(low))
        return float(np.clip(1.0 - ratio**2, 0.0, 1.0))

    @cached_property
    def unlike(self) -> dict[str, float]:
        """Posterior probability that this recipe is unlike those from which its priors were learned.

        Keys are the groups of parameters in which it may be: ``"curve"``, ``"noise"`` and ``"spread"`` (see
        `rlceiling.models.likeness`); empty under priors that were not learned.
        """
        if self.recorded is not None:
            return dict(self.recorded.unlike)

        from rlceiling.models.recipe_priors import LearnedPriors

        if not isinstance(self.priors, LearnedPriors):
            return {}
        origin = self.log_origin + float(self.data.x_prior)
        return self.priors.unlike(self.scaled_draws, origin, start_known=self.data.start is not None)

    @property
    def max_ahead(self) -> float:
        """Multiple of its compute up to which the curve may be compared although the ceiling is not identified.

        See `VerdictRules.max_ahead`.
        """
        learned = "curve" in self.unlike and not getattr(self.priors, "studies", ())
        return self.rules.max_ahead_learned if learned else self.rules.max_ahead

    @property
    def reason_names(self) -> str:
        """Names of the `reasons`, with spaces between them."""
        return " ".join(reason.name for reason in self.reasons)

    @cached_property
    def chance_identified(self) -> dict[float, float]:
        """Chance that the ceiling is identified when the furthest run has gone on to multiples of its compute.

        See `rlceiling.posterior.continuation.chance_identified`.
        """
        if self.recorded is not None and self.recorded.outlook:
            return dict(self.recorded.outlook)

        from rlceiling.posterior.continuation import chance_identified

        return chance_identified(self)

    @cached_property
    def odd_runs(self) -> dict[str, str]:
        """Runs that differ from their siblings -> description: a collapsed seed, or a ceiling far from the others."""
        if len(self.runs) < 3 or self.verdict in (Verdict.NOT_CONVERGED, Verdict.NO_RISE, Verdict.NOT_A_SIGMOID):
            return {}
        rules, found = self.rules, {}
        p = {name: self._sibling_p(name) for name in ("A", "C_mid")}
        for place, (run, k) in enumerate(self.checks.items()):
            if not rules.is_sigmoid(k):
                found[run] = trouble(rules, self.units, k)
            elif not rules.rises(k):
                found[run] = "shows no rise"
            else:
                for name, word in (("A", "ceiling"), ("C_mid", "midpoint")):
                    if p[name][place] < rules.min_sibling_p:
                        own, others = self._own_and_siblings(name, place)
                        found[run] = f"has its {word} at {own}, where its siblings have {others}"
                        break
        return found

    def _sibling_p(self, parameter: str) -> np.ndarray:
        """Tail probability of the ceiling or midpoint of each run given its siblings (see `sibling_p`)."""
        step = max(1, self.draws["A"].size // SIBLING_DRAWS)
        values = self.run_draws[parameter].reshape(-1, len(self.runs))[::step]
        if parameter == "C_mid":
            return sibling_p(np.log(values), self.priors.spread_log_density("C_mid"))
        A, R0 = self.units.scale(values), self.scaled_draws["R0"].reshape(-1, 1)[::step]
        return sibling_p(np.log(A - R0) - np.log1p(-A), self.priors.spread_log_density("headroom"))

    def _own_and_siblings(self, parameter: str, place: int) -> tuple[str, str]:
        medians = np.median(self.run_draws[parameter], axis=(0, 1))
        others = np.delete(medians, place)
        show = self.units.show if parameter == "A" else partial(compute_in_words, self.units)
        return show(float(medians[place])), f"{show(float(others.min()))} to {show(float(others.max()))}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Changes made to the runs before fitting, and the stage that the parameters belong to, one sentence each."""
        names = [self.name if len(self.runs) == 1 else f"{self.name}, run {run.run}" for run in self.runs]
        stages: tuple[str, ...] = ()
        if self.stages:
            since = f"{number(self.stages[-1].begins)} {self.units.compute}"
            stages = (
                f"{self.name}: ceiling, midpoint and verdict are those of stage {self.stages[-1].name!r}, the last of"
                f" {len(self.stages)}, and the midpoint counts from its beginning at {since}",
            )
        return stages + tuple(
            f"{names[place]}: {n:,} evaluations were averaged into {kept} bins of ln C"
            for place, (n, kept) in self.averaged_runs().items()
        )

    def interval(self, parameter: str, prob: float = 0.9, run: str | None = None) -> tuple[float, float, float]:
        """Median and equal-tailed credible interval of a parameter of the recipe or a run: (lower, median, upper)."""
        return interval_of((self.draws if run is None else self.draws_of(run))[parameter], prob)

    def prior_draws(self) -> dict[str, np.ndarray]:
        """Draws of the recipe's parameters from their priors, shape (draws,), in the user's units."""
        from rlceiling.models.prior_draws import prior_draws

        return self.units.unscale_draws(prior_draws(self.data, self.priors))

    def quoted_ceiling(self, prob: float = 0.9, run: str | None = None) -> tuple[str, str]:
        """Ceiling and its credible interval as text; unless `IDENTIFIED`, the interval alone, in parentheses."""
        lower, median, upper = map(self.units.show, self.interval("A", prob, run))
        if self.verdict is Verdict.IDENTIFIED:
            return median, f"[{lower}, {upper}]"
        return "", f"({lower} to {upper})"

    @property
    def reason(self) -> str:
        """Reason why the ceiling must not be quoted, with advice; empty if it may be."""
        if self.verdict is Verdict.IDENTIFIED:
            return ""
        return f"{self.name} {self.verdict.phrase} ({self.verdict.name}: {self.advice()})"

    def sentence(self, prob: float = 0.9) -> str:
        """Verdict as a sentence with the numbers of this fit.

        A ceiling that is quoted has the credible interval of probability `prob`; one that the data do not fix has the
        90% interval, which the rules compare with the rise so far.
        """
        odd = "".join(f" Run {run} {how}." for run, how in self.odd_runs.items())
        return f"{self.name}{last_stage(self)}: {finding(self, prob)}{failures(self)}{odd}{set_aside(self)}"

    @property
    def to_do(self) -> str:
        """Advice on what to do next, in the user's units; empty if nothing is needed."""
        return to_do(self)

    def advice(self) -> str:
        """Advice on what to do next, in the user's units; ``"none needed"`` if nothing is needed."""
        return self.to_do or "none needed"

    def curve_cells(self, run: str | None = None, prob: float = 0.9) -> dict[str, tuple[str, str]]:
        """Table cells: ceiling, efficiency and midpoint of the recipe or of a run, each with its credible interval."""
        headers = ("A", "B", f"C_mid ({self.units.compute})")
        if self.verdict is Verdict.NOT_CONVERGED:
            return dict.fromkeys(headers, (NOT_READ_OFF, ""))
        cells = (
            self.quoted_ceiling(prob, run),
            interval(*self.interval("B", prob, run), "{:.2f}".format),
            interval(*self.interval("C_mid", prob, run), number),
        )
        return dict(zip(headers, cells, strict=True))

    def parameter_rows(self) -> list[list[str]]:
        """Table rows: label of a parameter, its posterior and its prior (medians and 90% credible intervals)."""
        units, priors = self.units, self.prior_draws()
        rows = []
        for name, meaning in PARAMETER_LABELS.items():
            show = units.show if name in ("A", "R0") else number
            unit = {"A": units.reward, "R0": units.reward, "sigma": units.reward, "C_mid": units.compute}.get(name)
            posterior = self.quoted_ceiling() if name == "A" else interval(*self.interval(name), show)
            shown = NOT_READ_OFF if self.verdict is Verdict.NOT_CONVERGED else joined(posterior)
            meaning = OF_LAST_STAGE.get(name, meaning) if self.stages else meaning
            label = f"{meaning} ({unit})" if unit else meaning
            rows.append([label, shown, joined(interval(*interval_of(priors[name], 0.9), show))])
        return rows

    def _repr_html_(self) -> str:
        return html_piece([self.sentence()], ["parameter", "posterior", "prior"], self.parameter_rows())

    def __repr__(self) -> str:
        return f"Fit: {self.sentence()}"


def completed(stored: Stored) -> Stored:
    """Content of a file, with what earlier versions did not write: a tail of 1, and one noise for all runs."""
    draws, unit_draws = stored.draws, stored.unit_draws
    if "tail" not in draws:
        draws = draws | {"tail": np.ones_like(draws["A"])}
    if "sigma" not in unit_draws:
        same = np.broadcast_to(draws["sigma"][..., None], unit_draws["A"].shape).copy()
        draws, unit_draws = draws | {"sigma_spread": np.full_like(draws["A"], 1e-6)}, unit_draws | {"sigma": same}
    return stored._replace(draws=draws, unit_draws=unit_draws)


ADDED = ("tail", "sigma_spread")
"""Parameters that files of earlier versions do not hold."""

EARLIER = {"tail": {"distribution": "LogNormal", "loc": 0.0, "scale": 0.01}, "bad_share": 0.0, "form_error": 0.0}
"""Priors of files of earlier versions, in which the tail was 1, no evaluation was bad, and the form was trusted."""


def _priors(described: Mapping[str, Any]) -> SigmoidPriors:
    """Make priors again from what a file holds."""
    from rlceiling.models.recipe_priors import restored_priors

    return restored_priors({**EARLIER, **described})
