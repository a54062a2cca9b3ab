"""Sentences about one recipe: the finding, the reason why its ceiling must not be quoted, and advice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rlceiling.errors import count, listing
from rlceiling.inference.convergence import Convergence
from rlceiling.posterior.predictive_checks import Checks
from rlceiling.posterior.verdicts import Reason, Verdict, VerdictRules
from rlceiling.runs import Stage
from rlceiling.runs.units import Units
from rlceiling.settings import Settings
from rlceiling.text import number, percent, two_digits

LONG = 4000
"""Number of warm-up steps from which more of them are no advice."""


class Judged(Protocol):
    """Interface of a fit that the sentences use."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def stages(self) -> Sequence[Stage]: ...  # noqa: D102
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
    def reasons(self) -> tuple[Reason, ...]: ...  # noqa: D102
    @property
    def chance_identified(self) -> Mapping[float, float]: ...  # noqa: D102
    @property
    def failed_runs(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def odd_runs(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def largest_compute(self) -> float: ...  # noqa: D102
    @property
    def reached(self) -> float: ...  # noqa: D102
    @property
    def own_share(self) -> float: ...  # noqa: D102
    def interval(self, parameter: str, prob: float = ...) -> tuple[float, float, float]: ...  # noqa: D102


def compute_in_words(units: Units, value: float) -> str:
    """Text of a compute with two significant digits and its unit."""
    return f"{two_digits(value)} {units.compute}"


def deciding_run(fit: Judged) -> tuple[str, Checks]:
    """Name and checks of the run that determined the verdict."""
    rules, checks = fit.rules, fit.checks.items()
    fails: dict[Reason, Callable[[Checks], bool]] = {
        Reason.CONSTANT: lambda c: c.constant,
        Reason.FALLS_BELOW_START: rules.falls_below_start,
        Reason.RISE_UNCLEAR: lambda c: not rules.rises(c),
    }
    first = fit.reasons[0] if fit.reasons else None
    if first is Reason.DECLINES:  # which the runs may do together, and none clearly on its own
        return max(checks, key=lambda item: item[1].decline)
    if first in fails:
        return next((name, c) for name, c in checks if fails[first](c))
    if fit.verdict is Verdict.NOT_A_SIGMOID:
        return next((name, c) for name, c in checks if not rules.is_sigmoid(c))
    return max(checks, key=lambda item: item[1].p_reach)


def last_stage(fit: Judged) -> str:
    """The last stage and its beginning, as a part of a sentence; empty if the run has only one stage."""
    if not fit.stages:
        return ""
    name, begins = fit.stages[-1]
    return f", in its last stage, {name}, since {number(begins)} {fit.units.compute}"


def finding(fit: Judged, prob: float = 0.9) -> str:
    """Verdict as a sentence with the numbers of the fit; `prob` is that of the interval of a quoted ceiling."""
    if fit.verdict is Verdict.NOT_CONVERGED:
        return fit.rules.sentence(fit.convergence)
    run, k = deciding_run(fit)
    rules, units, runs = fit.rules, fit.units, len(fit.checks)
    several = runs > 1
    if fit.verdict is Verdict.NO_RISE:
        return _no_rise(fit, k)
    if fit.verdict is Verdict.NOT_A_SIGMOID:
        failing = sum(not rules.is_sigmoid(c) for c in fit.checks.values())
        if failing == 0:
            return f"the {runs} runs decline together; run {run} {_declines(units, k)}."
        who = f"{failing} of {runs} runs do not follow one sigmoid; run {run}" if several else "the run"
        return f"{who} {trouble(rules, units, k)}."
    known = fit.verdict is Verdict.IDENTIFIED or fit.reasons == (Reason.LEANS_ON_OTHERS,)
    lower, median, upper = (units.show(v) for v in fit.interval("A", prob if known else 0.9))
    end = compute_in_words(units, fit.largest_compute)
    if fit.reasons == (Reason.LEANS_ON_OTHERS,):
        return (
            f"with what other recipes teach, the ceiling is {median} ({percent(prob)} interval {lower} to {upper}); "
            f"{1.0 - fit.own_share:.0%} of the information on it comes from them, and {fit.own_share:.0%} from the "
            f"evaluations of the recipe itself ({fit.rules.min_own_share:.0%} needed for a ceiling of its own)."
        )
    if fit.verdict is Verdict.PRE_INFLECTION:
        why = "; ".join(_open(fit, reason, k) for reason in fit.reasons)
        return f"the data do not fix the ceiling (90% interval {lower} to {upper}): at {end}, {why}."
    of = f", from {runs} runs" if several else ""
    stops = "the longest run stops" if several else "the run stops"
    return (
        f"the ceiling is {median} ({percent(prob)} interval {lower} to {upper}{of}); where {stops}, at {end}, the "
        f"curve is at {units.show(fit.reached)}."
    )


def failures(fit: Judged) -> str:
    """Sentence that counts and names the failed runs; empty if there are none."""
    if not fit.failed_runs:
        return ""
    named = ", ".join(f"run {name} {how}" for name, how in fit.failed_runs.items())
    number = len(fit.failed_runs)
    left_out = f"{'was' if number == 1 else 'were'} left out"
    return f" {number} of {number + len(fit.checks)} runs failed and {left_out}: {named}."


def set_aside(fit: Judged) -> str:
    """Sentences about the evaluations that were set aside as bad; empty if none was, or if they decide the verdict."""
    if fit.verdict is Verdict.NOT_CONVERGED or Reason.OUTLIER in fit.reasons:
        return ""
    return "".join(
        f" Set aside as bad: {count(len(k.bad_computes), 'evaluation')}"
        f"{f' of run {run}' if len(fit.checks) > 1 else ''}, {bad_evaluations(fit.units, k)}."
        for run, k in fit.checks.items()
        if k.bad_computes
    )


def _no_rise(fit: Judged, k: Checks) -> str:
    """Finding on a recipe that shows no rise."""
    units, number = fit.units, len(fit.checks)
    level = units.show(units.unscale(k.level))
    if fit.reasons[0] is Reason.CONSTANT:
        if number == 1:
            return f"all evaluations of the run are equal ({level}), so there is no curve to fit."
        constant = sum(c.constant for c in fit.checks.values())
        return f"all evaluations of {constant} of {number} runs are equal ({level}), so there is no curve to fit."
    failing = sum(not fit.rules.rises(c) for c in fit.checks.values())
    rise, error = (f"{value * units.width:.3g}" for value in (k.rise, k.rise_se))
    who = f"{failing} of {number} runs show no rise" if number > 1 else "no rise is shown"
    return (
        f"{who} (rise {rise} with a standard error of {error}; chance of a rise {k.p_rise:.2f}, "
        f"{fit.rules.min_p_rise:g} needed)."
    )


def _open(fit: Judged, reason: Reason, k: Checks) -> str:
    """Reason why the data do not fix the ceiling, with its number, as a part of a sentence."""
    rules = fit.rules
    if reason is Reason.NOT_BENT:
        return (
            f"the curve has reached {k.reached:.0%} of its final rise (chance to have reached {rules.min_reached:.0%}: "
            f"{k.p_reach:.2f}, {rules.min_p_reach:g} needed)"
        )
    if reason is Reason.WIDE:
        return f"that interval is {k.width:.2g} times as wide as the rise so far ({rules.max_width:g} accepted)"
    evidence = sum(c.ceiling_log_ratio for c in fit.checks.values() if rules.rises(c) and rules.is_sigmoid(c))
    return (
        "no ceiling is shown: growth without one, such as a straight line in the logarithm of compute, explains the "
        f"data as well (log likelihood ratio {evidence:.1f}, {rules.min_ceiling_log_ratio:g} needed)"
    )


def trouble(rules: VerdictRules, units: Units, k: Checks) -> str:
    """Reason why a run does not follow a sigmoid."""
    reason = rules.troubles(k)[0]
    if reason is Reason.FALLS_BELOW_START:
        start, level = (units.show(units.unscale(v)) for v in (k.start, k.level))
        return f"has fallen below its start, from {start} to {level} at {compute_in_words(units, k.largest_compute)}"
    if reason is Reason.OUTLIER:
        return (
            f"has {len(k.bad_computes)} of {k.evaluations} evaluations far off the curve (up to {abs(k.bad_sd):.1f} "
            f"standard deviations), {bad_evaluations(units, k)}"
        )
    if reason is Reason.DECLINES:
        return _declines(units, k)
    if reason is Reason.RISES_TWICE:
        return f"rises twice: a second rise begins after about {compute_in_words(units, k.second_rise_compute)}"
    return f"wanders around the best sigmoid by {k.wander:.0%} of its rise, as after a change of the training"


def bad_evaluations(units: Units, k: Checks) -> str:
    """Places of the bad evaluations of a run."""
    return f"at {listing(map(number, k.bad_computes), most=6)} {units.compute}"


def _declines(units: Units, k: Checks) -> str:
    share = max(k.decline, k.last_share)
    lost = "all" if share >= 1.0 else f"{share:.0%}"
    return f"has lost {lost} of its gain since {compute_in_words(units, k.best_compute)}"


def to_do(fit: Judged) -> str:
    """Advice on what to do next, in the user's units; empty if nothing is needed."""
    if fit.verdict is Verdict.NOT_CONVERGED:
        return _longer(fit)
    _, k = deciding_run(fit)
    if fit.verdict is Verdict.PRE_INFLECTION:
        return _run_on(fit)
    if fit.verdict is Verdict.NOT_A_SIGMOID:
        best = compute_in_words(fit.units, k.best_compute)
        first = fit.reasons[0]
        if first is Reason.OUTLIER:
            return "check these evaluations, and leave out those that are wrong"
        if first is Reason.FALLS_BELOW_START and (
            Reason.DECLINES not in fit.reasons or k.best_compute <= k.first_compute
        ):
            return "look at the recipe: it makes the model worse; if lower is better, give 1 minus the metric"
        if first in (Reason.FALLS_BELOW_START, Reason.DECLINES):
            return f"look at what happened after {best}, or use the run until there (until={k.best_compute:.6g})"
        if first is Reason.RISES_TWICE:
            after = compute_in_words(fit.units, k.second_rise_compute)
            until = f"until={k.second_rise_compute:.6g}"
            siblings = ", and give each run a recipe name of its own" if len(fit.checks) > 1 else ""
            return (
                f"look at what changed after {after}; if a new stage of the training begins there, such as a longer "
                f"context, name the stage of each evaluation in a column named stage{siblings}; otherwise use the run "
                f"until there, where it has one rise ({until})"
            )
        return "look at the run, and cut it where the training changed"
    if fit.verdict is Verdict.NO_RISE:
        return "run longer, evaluate on more answers, or check that it learns"
    if fit.odd_runs:
        name = f"{fit.name}/{next(iter(fit.odd_runs))}"
        return (
            f"look at run {', '.join(fit.odd_runs)}; if it was broken by accident, leave it out with "
            f"runs.drop({name!r}) (command line: --drop {name!r})"
        )
    return ""


def _longer(fit: Judged) -> str:
    """Advice for chains that have not converged."""
    settings = fit.settings
    if settings.tune >= LONG:
        return (
            f"look at the run for mistakes; {settings.tune:,} warm-up steps and {settings.draws:,} draws did not help"
        )
    return f"fit again with tune={2 * settings.tune}, draws={2 * settings.draws}"


def _run_on(fit: Judged) -> str:
    """Advice for a run whose ceiling the data do not fix: how far it would have to go on."""
    if fit.reasons == (Reason.LEANS_ON_OTHERS,):
        return "run on until the recipe's own evaluations give at least half of the information on its ceiling"
    chances = fit.chance_identified
    (first, chance), *others = chances.items()
    listed = ", ".join(
        [f"{chance:.2f} at {first:g} x the present compute", *(f"{c:.2f} at {m:g} x" for m, c in others)]
    )
    multiple = next((m for m, chance in chances.items() if chance >= 0.5), None)
    if multiple is None and Reason.NO_CEILING_SHOWN in fit.reasons:
        _, k = deciding_run(fit)
        begins = fit.stages[-1].begins if fit.stages else 0.0
        decades = math.log10((k.largest_compute - begins) / (k.first_compute - begins))
        return (
            f"no plateau shows in {decades:.1f} decades of compute, and there may be none; chance that the ceiling is "
            f"fixed: {listed}"
        )
    if multiple is None:
        return f"the ceiling is out of reach; chance that it is fixed: {listed}"
    target = compute_in_words(fit.units, multiple * fit.largest_compute)
    return f"run to about {target}; chance that the ceiling is fixed: {listed}"
