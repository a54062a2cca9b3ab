"""Verdicts: the conclusions that a fit supports, and the thresholds that decide them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from rlceiling.inference.convergence import Convergence, ConvergenceRules
from rlceiling.posterior.predictive_checks import Checks


class Verdict(Enum):
    """Conclusions that a fit of a recipe supports.

    Members have a general `sentence` and `advice` (`Fit.sentence` and `Fit.advice` give them with the numbers of the
    fit), and a `phrase` that continues a sentence after the name of a recipe.
    """

    NOT_CONVERGED = (
        "The chains do not agree, so nothing can be read off this posterior.",
        "Fit again with more steps, and look at the run for mistakes.",
        "has chains that do not agree",
    )
    NO_RISE = (
        "No rise of the reward above its start is shown, so there is no curve to fit.",
        "Run longer, evaluate on more answers, or check that the recipe learns at all.",
        "shows no rise",
    )
    NOT_A_SIGMOID = (
        "The run does not follow one sigmoid, so its ceiling means nothing.",
        "Look at the run; cut it before the trouble begins, or correct the evaluation.",
        "does not follow one sigmoid",
    )
    PRE_INFLECTION = (
        "The data do not fix the ceiling.",
        "Run further: Fit.advice has the chance that the ceiling is identified by then.",
        "has a ceiling that the data do not fix",
    )
    IDENTIFIED = (
        "The data fix the ceiling.",
        "The ceiling may be quoted with its interval and compared.",
        "has a ceiling that the data fix",
    )

    def __init__(self, sentence: str, advice: str, phrase: str) -> None:
        self.sentence = sentence
        self.advice = advice
        self.phrase = phrase


class Reason(Enum):
    """Reasons for a verdict other than `IDENTIFIED`. Their names are stable, so that programs can act on them.

    Members have the `verdict` that they lead to, and a general `sentence`.
    """

    CHAINS_DISAGREE = (Verdict.NOT_CONVERGED, "The chains do not agree.")
    CONSTANT = (Verdict.NO_RISE, "All evaluations are equal.")
    FALLS_BELOW_START = (Verdict.NOT_A_SIGMOID, "The reward has fallen below its start.")
    DECLINES = (Verdict.NOT_A_SIGMOID, "The reward has lost a large part of its gain.")
    RISE_UNCLEAR = (Verdict.NO_RISE, "The rise is not clearly larger than its standard error.")
    OUTLIER = (Verdict.NOT_A_SIGMOID, "Too many evaluations lie far off the curve.")
    RISES_TWICE = (Verdict.NOT_A_SIGMOID, "Two rises explain the run better than one.")
    FORM_UNSURE = (Verdict.NOT_A_SIGMOID, "The run wanders around the best sigmoid.")
    NOT_BENT = (Verdict.PRE_INFLECTION, "The curve may not have reached enough of its final rise.")
    WIDE = (Verdict.PRE_INFLECTION, "The credible interval of the ceiling is wide compared with the rise so far.")
    LEANS_ON_OTHERS = (Verdict.PRE_INFLECTION, "Most of what is known about the ceiling comes from other recipes.")
    NO_CEILING_SHOWN = (Verdict.PRE_INFLECTION, "Growth without a ceiling explains the run as well.")

    def __init__(self, verdict: Verdict, sentence: str) -> None:
        self.verdict = verdict
        self.sentence = sentence


@dataclass(frozen=True)
class VerdictRules(ConvergenceRules):
    """Thresholds of the verdicts, checked in the order of the fields.

    Attributes
    ----------
    max_r_hat, min_ess, max_divergences, min_e_bfmi
        `NOT_CONVERGED` beyond any of these (see `ConvergenceRules`).
    max_decline, min_fall : float
        `NOT_A_SIGMOID` if the path has fallen from its maximum by more than the share `max_decline` of its gain and by
        more than `min_fall` of its own standard deviations, or has fallen below its start by as many.
    min_last_fall : float
        `NOT_A_SIGMOID` also if the last two evaluations lie below the highest two by more than this many robust
        standard deviations of one evaluation, and by more than the share `max_decline` of the gain.
    decided : float
        Posterior probability with which such a condition must hold.
    min_p_rise : float
        `NO_RISE` unless there is a rise with this probability, judged by the standard error of the rise.
    max_bad_share : float
        `NOT_A_SIGMOID` if more than this share of the evaluations of a run is bad, and more than one.
    max_wander, min_wander : float
        `NOT_A_SIGMOID` if the range of the autocorrelated noise is more than the share `max_wander` of the rise, and
        more than `min_wander` times the largest standard deviation of the path.
    max_second_rise : float
        `NOT_A_SIGMOID` if the evidence for two rises against one, half of the difference in AICc, is larger. At 1 it is
        larger in 1% of simulated sigmoids and in 60% of runs with two rises (``benchmarks/calibration``).
    min_reached, min_p_reach : float
        `PRE_INFLECTION` unless, with posterior probability `min_p_reach`, the curve has reached the share `min_reached`
        of its final rise. With B = 1.7 a share of 0.6 is reached at 1.27 x C_mid.
    max_width : float
        `PRE_INFLECTION` if the 90% credible interval of the ceiling is wider than this multiple of the rise so far.
        Intervals include the uncertainty of the tail, which widens those of runs that are sigmoids too.
    min_ceiling_log_ratio : float
        `PRE_INFLECTION` unless the log likelihood of the sigmoid is larger by this than that of the best growth without
        a ceiling, a straight line in ln C or a power law, with the same noise.
    min_own_share : float
        `PRE_INFLECTION` if the share of the information on the ceiling that the evaluations of the recipe itself give
        is smaller, under priors that were learned from other recipes (see `Fit.own_share`).
    max_ahead, max_ahead_learned : float
        Curves of recipes whose ceiling is not identified may be compared up to this multiple of their largest compute;
        the second holds under priors that were learned from other recipes of the study. Of the claims of probability
        .7 to .9 about pairs of real recipes, made so far ahead, at least .6 came true (``benchmarks/calibration``).
    min_sibling_p : float
        A run is unlike its siblings if the probability that another run of the recipe lies as far from them, in its
        ceiling or its midpoint, is smaller than this (see `rlceiling.posterior.predictive_checks.sibling_p`). Such runs
        are reported but do not change the verdict.

    Notes
    -----
    For a recipe with several runs, `NO_RISE` and `NOT_A_SIGMOID` require that at least half of the runs fail the check,
    or, for a decline, that the median over the runs fails it. `PRE_INFLECTION` is avoided as soon as one run has
    reached enough of its rise, and log likelihood ratios of the runs are added.

    ``benchmarks/calibration`` measures how often each verdict is given on simulated and on real runs.
    """

    max_decline: float = 0.2
    min_fall: float = 4.0
    min_last_fall: float = 6.0
    decided: float = 0.9
    min_p_rise: float = 0.95
    max_bad_share: float = 0.1
    max_wander: float = 0.3
    min_wander: float = 5.0
    max_second_rise: float = 1.0
    min_reached: float = 0.6
    min_p_reach: float = 0.8
    max_width: float = 1.0
    min_ceiling_log_ratio: float = 0.0
    min_own_share: float = 0.5
    max_ahead: float = 1.6
    max_ahead_learned: float = 2.0
    min_sibling_p: float = 0.001

    @property
    def check_thresholds(self) -> dict[str, float]:
        """Thresholds that the checks of a run depend on."""
        names = ("max_decline", "min_fall", "max_wander", "min_wander", "min_reached")
        return {name: getattr(self, name) for name in names}

    def judge(self, convergence: Convergence, checks: Sequence[Checks]) -> Verdict:
        """Return the verdict from the convergence diagnostics and the checks of each run."""
        reasons = self.reasons(convergence, checks)
        return reasons[0].verdict if reasons else Verdict.IDENTIFIED

    def reasons(self, convergence: Convergence, checks: Sequence[Checks]) -> tuple[Reason, ...]:
        """Reasons for the verdict, the first of which decides it; empty if the ceiling is identified."""

        def half(fails: Callable[[Checks], bool]) -> bool:
            return 2 * sum(map(fails, checks)) >= len(checks)

        if half(lambda c: c.constant):
            return (Reason.FALLS_BELOW_START if half(self.falls_below_start) else Reason.CONSTANT,)
        if not self.converged(convergence):
            return (Reason.CHAINS_DISAGREE,)
        falls = []
        if half(self.falls_below_start):
            falls.append(Reason.FALLS_BELOW_START)
        if half(self.declines) or checks[0].p_shared_decline >= self.decided:
            falls.append(Reason.DECLINES)
        if falls:
            return tuple(falls)
        if half(lambda c: not self.rises(c)):
            return (Reason.RISE_UNCLEAR,)
        if half(lambda c: not self.is_sigmoid(c)):
            return tuple(dict.fromkeys(reason for c in checks for reason in self.troubles(c)))
        furthest = max(checks, key=lambda c: c.p_reach)
        sound = [c for c in checks if self.rises(c) and self.is_sigmoid(c)]
        found = {
            Reason.NOT_BENT: furthest.p_reach < self.min_p_reach,
            Reason.WIDE: furthest.width > self.max_width,
            Reason.NO_CEILING_SHOWN: sum(c.ceiling_log_ratio for c in sound) < self.min_ceiling_log_ratio,
        }
        return tuple(reason for reason, holds in found.items() if holds)

    def rises(self, checks: Checks) -> bool:
        """Whether a run rises, judged by the standard error of its rise."""
        return checks.p_rise >= self.min_p_rise and not checks.constant

    def is_sigmoid(self, checks: Checks) -> bool:
        """Whether a run follows one sigmoid."""
        return not self.troubles(checks)

    def troubles(self, checks: Checks) -> tuple[Reason, ...]:
        """Reasons why a run does not follow one sigmoid."""
        found = {
            Reason.FALLS_BELOW_START: self.falls_below_start(checks),
            Reason.OUTLIER: self.has_outliers(checks),
            Reason.DECLINES: self.declines(checks),
            Reason.RISES_TWICE: checks.second_rise > self.max_second_rise,
            Reason.FORM_UNSURE: checks.p_wander >= self.decided,
        }
        return tuple(reason for reason, holds in found.items() if holds)

    def falls_below_start(self, checks: Checks) -> bool:
        """Whether a run has fallen below its start."""
        return checks.p_below >= self.decided

    def declines(self, checks: Checks) -> bool:
        """Whether a run has lost a large part of its gain."""
        sudden = checks.last_fall > self.min_last_fall and checks.last_share > self.max_decline
        return checks.p_decline >= self.decided or sudden

    def has_outliers(self, checks: Checks) -> bool:
        """Whether too many evaluations lie far off the curve to be set aside."""
        return len(checks.bad_computes) > max(1.0, self.max_bad_share * checks.evaluations)
