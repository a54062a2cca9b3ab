"""Refits of runs that go on, and the decision after each: of `rlceiling.Gate` and of ``rlceiling watch``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlceiling.decisions.gate import MAX_WRONG, STOP, UNKNOWN, check_gate, decide
from rlceiling.errors import DataError
from rlceiling.fitting.fit_recipes import fit
from rlceiling.models.recipe_priors import SigmoidPriors
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict, VerdictRules
from rlceiling.runs import Runs
from rlceiling.runs.table import FEWEST
from rlceiling.settings import LIVE_FIRST, LIVE_SAMPLER, SamplerSettings

RULES = VerdictRules(max_r_hat=1.05, min_ess=50.0)
"""Convergence that a decision needs; stricter rules would refit twice as long after many evaluations."""

Interval = tuple[float, float, float]
"""Lower limit, median and upper limit of a 90% interval."""

UNKNOWN_INTERVAL: Interval = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class GateRule:
    """What is asked after each evaluation, and how sure an answer must be.

    Attributes
    ----------
    add : float
        Compute that is asked about, positive.
    gain : float
        Smallest rise of the reward that is worth it, positive.
    first : int, default 8
        Number of evaluations with positive compute from which a decision is made; at least 4.
    max_wrong_stop, max_wrong_go : float, default 0.1
        Accepted probabilities that a stop, or a go, is wrong.
    """

    add: float
    gain: float
    first: int = LIVE_FIRST
    max_wrong_stop: float = MAX_WRONG
    max_wrong_go: float = MAX_WRONG

    def check(self, where: str) -> None:
        """Raise DataError unless the rule can be used; `where` is the name of the caller."""
        check_gate(self.add, self.gain, self.max_wrong_stop, self.max_wrong_go)
        if not (isinstance(self.first, int | np.integer) and self.first >= FEWEST):
            raise DataError(f"{where}: first={self.first!r} is not a number of evaluations from {FEWEST} up; give one.")

    def too_few(self, evaluations: int) -> str:
        """Why nothing is decided yet about a run with so many evaluations; empty if it has enough."""
        if evaluations >= self.first:
            return ""
        return f"{evaluations} of the {self.first} evaluations that a decision needs"


class Decision(NamedTuple):
    """What a `Gate` says after an evaluation."""

    action: str
    """``"go"``, ``"stop"`` or ``"unknown"``."""
    why: str
    """Reason, one sentence without a full stop."""
    p_gain: float = math.nan
    """Chance that the next compute adds the gain that was asked for; NaN if nothing was fitted."""
    ceiling: Interval = UNKNOWN_INTERVAL
    """Lower limit, median and upper limit of the 90% interval of the ceiling."""
    verdict: str = ""
    """Verdict of the fit, see `rlceiling.Verdict`; empty if nothing was fitted."""
    ceiling_moved: bool = False
    """Whether the median of the ceiling lies outside the 90% interval that the last fit gave."""

    @property
    def stop(self) -> bool:
        """Whether the run should stop."""
        return self.action == STOP


def refit(
    runs: Runs,
    priors: SigmoidPriors | None = None,
    settings: SamplerSettings = LIVE_SAMPLER,
    *,
    backend: str | None = "cpu",
) -> Fit:
    """Fit the runs of one recipe quickly; arguments as in `rlceiling.fit`.

    Raises
    ------
    DataError
        As in `rlceiling.fit`.
    """
    (found,) = fit(
        runs,
        priors,
        chains=settings.chains,
        tune=settings.tune,
        draws=settings.draws,
        seed=settings.seed,
        rules=RULES,
        cores=1,
        backend=backend,
        progress=False,
    ).values()
    return found


def decision_of(found: Fit, run: str, rule: GateRule) -> Decision:
    """Decide about one run of a fitted recipe."""
    if few := rule.too_few(len(found.runs[found.place(run)].compute)):
        return Decision(UNKNOWN, few, math.nan, found.interval("A"), found.verdict.name)
    wrong = {"max_wrong_stop": rule.max_wrong_stop, "max_wrong_go": rule.max_wrong_go}
    action, why, ahead = decide(found, run, rule.add, rule.gain, **wrong)
    return Decision(action, why, ahead.p_gain, found.interval("A"), found.verdict.name)


def known_ceiling(found: Fit) -> Interval | None:
    """Ceiling with its 90% interval, or None if the chains have not converged."""
    return None if found.verdict is Verdict.NOT_CONVERGED else found.interval("A")


def has_moved(before: Interval | None, now: Interval | None) -> bool:
    """Whether the median of a ceiling lies outside the 90% interval of the last refit that converged."""
    return before is not None and now is not None and not before[0] <= now[1] <= before[2]
