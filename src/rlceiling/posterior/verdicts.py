"""Verdicts: the conclusions that a fit supports, and the thresholds that decide them."""

from __future__ import annotations

from collections.abc import Sequence
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
        "The reward does not rise above its start by more than its noise, so there is no curve to fit.",
        "Run longer, evaluate on more answers, or check that the recipe learns at all.",
        "does not rise by more than its noise",
    )
    NOT_A_SIGMOID = (
        "The run does not follow one sigmoid, so its ceiling means nothing.",
        "Look at the run; cut it before the trouble begins, or correct the evaluation.",
        "does not follow one sigmoid",
    )
    PRE_INFLECTION = (
        "The run stops before its curve has bent, so its ceiling cannot be known.",
        "Run to at least 2 x C_mid.",
        "stops before its curve has bent",
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


@dataclass(frozen=True)
class VerdictRules(ConvergenceRules):
    """Thresholds of the verdicts, checked in the order of the fields.

    Attributes
    ----------
    max_r_hat, min_ess, max_divergences, min_e_bfmi
        `NOT_CONVERGED` beyond any of these (see `ConvergenceRules`).
    min_p_rise : float
        `NO_RISE` unless the rise is larger than the noise of one evaluation with this probability.
    min_outlier_p : float
        `NOT_A_SIGMOID` if the largest one-step-ahead error has a smaller posterior predictive p-value.
    max_decline, max_wander : float
        `NOT_A_SIGMOID` if the path has fallen from its maximum by more than the share `max_decline` of its gain, or
        if the range of the autocorrelated noise is more than the share `max_wander` of the rise.
    decided : float
        Posterior probability with which either condition must hold.
    min_reach, min_p_reach : float
        `PRE_INFLECTION` unless, with posterior probability `min_p_reach`, the run has passed `min_reach` times its
        midpoint. A threshold of 1 x C_mid accepts runs that end at about 1.5 x C_mid and whose noise mimics an
        inflection; their credible intervals are too narrow. A threshold of 1.5 x C_mid corrects that, and rejects
        almost no run that has gone beyond 2 x C_mid.
    max_width_ratio : float
        `PRE_INFLECTION` if the 90% credible interval of the headroom is wider than this share of its 90% prior
        interval.
    min_sibling_p : float
        A run is unlike its siblings if the probability that another run of the recipe lies as far from them, in its
        ceiling or its midpoint, is smaller than this (see `rlceiling.posterior.predictive_checks.sibling_p`). Such runs
        are reported but do not change the verdict.

    Notes
    -----
    For a recipe with several runs, `NO_RISE` and `NOT_A_SIGMOID` require that at least half of the runs fail the check.
    `PRE_INFLECTION` is avoided as soon as one run has passed its midpoint far enough.

    ``benchmarks/calibration`` measures how often each verdict is given on simulated and on real runs.
    """

    min_p_rise: float = 0.9
    min_outlier_p: float = 0.001
    max_decline: float = 0.2
    max_wander: float = 0.4
    decided: float = 0.9
    min_reach: float = 1.5
    min_p_reach: float = 0.9
    max_width_ratio: float = 0.35
    min_sibling_p: float = 0.001

    @property
    def check_thresholds(self) -> dict[str, float]:
        """Thresholds that the checks of a run depend on."""
        return {name: getattr(self, name) for name in ("max_decline", "max_wander", "min_reach")}

    def judge(self, convergence: Convergence, checks: Sequence[Checks]) -> Verdict:
        """Return the verdict from the convergence diagnostics and the checks of each run."""
        if not self.converged(convergence):
            return Verdict.NOT_CONVERGED
        if 2 * sum(not self.rises(c) for c in checks) >= len(checks):
            return Verdict.NO_RISE
        if 2 * sum(not self.is_sigmoid(c) for c in checks) >= len(checks):
            return Verdict.NOT_A_SIGMOID
        furthest = max(checks, key=lambda c: c.p_reach)
        if furthest.p_reach < self.min_p_reach or furthest.width_ratio > self.max_width_ratio:
            return Verdict.PRE_INFLECTION
        return Verdict.IDENTIFIED

    def rises(self, checks: Checks) -> bool:
        """Whether a run rises by more than its noise."""
        return checks.p_rise >= self.min_p_rise

    def is_sigmoid(self, checks: Checks) -> bool:
        """Whether a run follows one sigmoid."""
        return not (self.outlier(checks) or checks.p_decline >= self.decided or checks.p_wander >= self.decided)

    def outlier(self, checks: Checks) -> bool:
        """Whether one evaluation lies too far off the curve."""
        return checks.outlier_p < self.min_outlier_p
