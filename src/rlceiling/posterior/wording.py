"""Sentences about one recipe: the finding, the reason why its ceiling must not be quoted, and advice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rlceiling.inference.convergence import Convergence
from rlceiling.posterior.predictive_checks import Checks
from rlceiling.posterior.verdicts import Verdict, VerdictRules
from rlceiling.runs.units import Units
from rlceiling.settings import Settings
from rlceiling.text import two_digits


class Judged(Protocol):
    """Interface of a fit that the sentences use."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def units(self) -> Units: ...  # noqa: D102
    @property
    def settings(self) -> Settings: ...  # noqa: D102
    @property
    def rules(self) -> VerdictRules: ...  # noqa: D102
    @property
    def convergence(self) -> Convergence: ...  # noqa: D102
    @property
    def checks(self) -> Mapping[str, Checks]: ...  # noqa: D102
    @property
    def verdict(self) -> Verdict: ...  # noqa: D102
    @property
    def odd_runs(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def largest_compute(self) -> float: ...  # noqa: D102
    @property
    def reached(self) -> float: ...  # noqa: D102
    def interval(self, parameter: str) -> tuple[float, float, float]: ...  # noqa: D102


def compute_in_words(units: Units, value: float) -> str:
    """Text of a compute with two significant digits and its unit."""
    return f"{two_digits(value)} {units.compute}"


def deciding_run(fit: Judged) -> tuple[str, Checks]:
    """Name and checks of the run that determined the verdict."""
    rules = fit.rules
    if fit.verdict is Verdict.NO_RISE:
        return next((name, c) for name, c in fit.checks.items() if not rules.rises(c))
    if fit.verdict is Verdict.NOT_A_SIGMOID:
        return next((name, c) for name, c in fit.checks.items() if not rules.is_sigmoid(c))
    return max(fit.checks.items(), key=lambda item: item[1].p_reach)


def finding(fit: Judged) -> str:
    """Verdict as a sentence with the numbers of the fit."""
    if fit.verdict is Verdict.NOT_CONVERGED:
        return fit.convergence.sentence()
    run, k = deciding_run(fit)
    rules, units, number = fit.rules, fit.units, len(fit.checks)
    several = number > 1
    if fit.verdict is Verdict.NO_RISE:
        failing = sum(not rules.rises(c) for c in fit.checks.values())
        who = f"{failing} of {number} runs do not rise" if several else "the reward does not rise"
        rise, noise = (f"{value * units.width:.3g}" for value in (k.rise, k.noise_sd))
        return f"{who} above {'their' if several else 'its'} start by more than its noise (rise {rise}, noise {noise})."
    if fit.verdict is Verdict.NOT_A_SIGMOID:
        failing = sum(not rules.is_sigmoid(c) for c in fit.checks.values())
        who = f"{failing} of {number} runs do not follow one sigmoid; run {run}" if several else "the run"
        return f"{who} {trouble(rules, units, k)}."
    lower, median, upper = (units.show(v) for v in fit.interval("A"))
    end = compute_in_words(units, fit.largest_compute)
    if fit.verdict is Verdict.PRE_INFLECTION:
        who = "the runs stop" if several else "the run stops"
        return (
            f"{who} at {end}, before the curve has bent enough to know its ceiling (chance to be past "
            f"{rules.min_reach:g} x C_mid {k.p_reach:.2f}; ceiling anywhere from {lower} to {upper})."
        )
    of = f", from {number} runs" if several else ""
    stops = "the longest run stops" if several else "the run stops"
    return (
        f"the ceiling is {median} (90% interval {lower} to {upper}{of}); where {stops}, at {end}, the curve is at "
        f"{units.show(fit.reached)}."
    )


def trouble(rules: VerdictRules, units: Units, k: Checks) -> str:
    """Reason why a run does not follow a sigmoid."""
    if rules.outlier(k):
        return (
            f"has an evaluation at {compute_in_words(units, k.outlier_compute)} that lies {abs(k.outlier_sd):.1f} "
            "standard deviations off the curve"
        )
    if k.p_decline >= rules.decided:
        return f"has lost {k.decline:.0%} of its gain since {compute_in_words(units, k.best_compute)}"
    return f"wanders around the best sigmoid by {k.wander:.0%} of its rise, as after a second rise or a collapse"


def to_do(fit: Judged) -> str:
    """Advice on what to do next, in the user's units; empty if nothing is needed."""
    if fit.verdict is Verdict.NOT_CONVERGED:
        return f"fit again with tune={2 * fit.settings.tune}, draws={2 * fit.settings.draws}"
    _, k = deciding_run(fit)
    if fit.verdict is Verdict.PRE_INFLECTION:
        # A poorly determined midpoint may be estimated too early, so advise at least twice the present compute.
        target = compute_in_words(fit.units, 2.0 * max(k.C_mid, fit.largest_compute))
        if k.C_mid > fit.largest_compute:
            return f"run to at least 2 x C_mid, about {target}"
        return f"run to at least about {target}, twice as far as now"
    if fit.verdict is Verdict.NOT_A_SIGMOID:
        if fit.rules.outlier(k):
            return f"check the evaluation at {compute_in_words(fit.units, k.outlier_compute)}"
        if k.p_decline >= fit.rules.decided:
            best = compute_in_words(fit.units, k.best_compute)
            return f"look at what happened after {best}, or cut the run there (until)"
        return "look at the run; fit each rise alone"
    if fit.verdict is Verdict.NO_RISE:
        return "run longer, evaluate on more answers, or check that it learns"
    if fit.odd_runs:
        name = f"{fit.name}/{next(iter(fit.odd_runs))}"
        return (
            f"look at run {', '.join(fit.odd_runs)}; if it was broken by accident, leave it out with "
            f"runs.drop({name!r}) (command line: --drop {name!r})"
        )
    return ""
