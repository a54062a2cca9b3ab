"""Summary in words: the recipe with the highest ceiling, its probability, and the recipes not yet identified."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rlceiling.decisions.chances import chance_higher, rank
from rlceiling.decisions.plan import LIKELY, NAMED, in_sentence, plan
from rlceiling.errors import count, listing
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.verdicts import Reason, Verdict
from rlceiling.text import as_typed, at_least, in_words

SAME_START = 0.025
"""Differences of starts up to this share of the range of the reward are those of evaluations of one model."""


def answer(
    fits: Mapping[str, Fit],
    margin: float = 0.0,
    *,
    at: float | None = None,
    budget: float | None = None,
    prob: float = 0.9,
) -> list[str]:
    """Summarise the fits in sentences, the most important first.

    Arguments, result and errors as of `rlceiling.Fits.answer`.
    """
    check_prob("answer", prob)
    ranks = rank(fits)
    judged = list(ranks.index[ranks["conclusive"]])
    said = [] if at is None or not fits else _at_budget(fits, margin, at)
    ceilings = _highest_ceiling(fits, ranks, judged, prob)
    if said and len(fits) > 1:
        for_good = _for_good(fits, ranks)
        if not for_good:  # the comparison of ceilings then stands in the first sentence and not again below
            for_good = f"for good, {ceilings[0][0].lower()}{ceilings[0][1:].rstrip('.')}"
            ceilings = ceilings[1:]
        said[0] = f"{said[0].rstrip('.')}; {for_good}."
    said += ceilings
    if len(judged) > 1:
        pairs = [chance_higher(fits, judged[0], other, margin) for other in judged[1:]]
        said.append(min(pairs, key=lambda chance: chance.probability).sentence())
    if budget is not None:
        said.append(str(plan(fits, budget, at=at).attrs["sentence"]))
    said += different_starts(fits)
    for verdict in reversed(Verdict):
        names = [name for name, fit in fits.items() if fit.verdict is verdict]
        if verdict is Verdict.IDENTIFIED or not names:
            continue
        if len(names) <= NAMED:
            said += [f"{name} {verdict.phrase} and cannot be judged yet: {fits[name].advice()}." for name in names]
        else:
            phrase = f"{verdict.name}: each {verdict.phrase}"
            said.append(
                f"{count(len(names), 'recipe')} cannot be judged yet ({phrase}): {listing(names, 2 * NAMED)}; what each"
                " needs stands in the table."
            )
    return said + [f"{fit.name}: run {run} {how}." for fit in fits.values() for run, how in fit.odd_runs.items()]


def _highest_ceiling(fits: Mapping[str, Fit], ranks: pd.DataFrame, judged: list[str], prob: float) -> list[str]:
    """The recipe with the highest ceiling of those that the data fix, with its chance, and that ceiling."""
    if not judged:
        return ["No ceiling can be told yet." if len(fits) > 1 else "The ceiling cannot be told yet."]
    best, p = judged[0], ranks["p_best"]
    ceiling = fits[best].sentence(prob)
    if len(judged) == 1:
        of = f" of {len(fits)} whose ceiling is known" if len(fits) > 1 else ""
        return [f"{f'{best} is the only one{of}. ' if of else ''}{ceiling}"]
    among = f"the {len(judged)} recipes that can be compared" if len(judged) < len(fits) else f"{len(judged)} recipes"
    if p[best] >= 0.5:
        return [f"With chance {in_words(p[best])}, {best} has the highest ceiling of {among}.", ceiling]
    shares = listing([f"{name} {in_words(p[name])}" for name in judged if p[name] >= LIKELY], NAMED)
    said = f"None of {among} stands out; chance of the highest ceiling: {shares or 'below 0.05 each'}."
    return [said, ceiling]


def _for_good(fits: Mapping[str, Fit], ranks: pd.DataFrame) -> str:
    """What is known for good, and what keeps it open; empty if the data fix the ceilings of all that may be highest."""
    may_lead = [name for name in fits if ranks["upper"][name] >= LIKELY]
    if len(may_lead) == 1:
        return f"for good, {may_lead[0]} leads with chance {at_least(ranks['lower'][may_lead[0]])}, whatever the prior"
    keep_open = [name for name in may_lead if not ranks["conclusive"][name]]
    not_bent = [name for name in keep_open if Reason.NOT_BENT in fits[name].reasons]
    unknown = [name for name in keep_open if name not in not_bent]
    why = []
    if not_bent:
        why.append(f"{in_sentence(not_bent)} {'has' if len(not_bent) == 1 else 'have'} not bent")
    if unknown:
        why.append(f"the {'ceiling' if len(unknown) == 1 else 'ceilings'} of {in_sentence(unknown)} cannot be told yet")
    return f"for good it is open, since {' and '.join(why)}" if why else ""


def _at_budget(fits: Mapping[str, Fit], margin: float, at: float) -> list[str]:
    """Who leads at a compute, the closest rival there, and who cannot be compared there yet."""
    ranks = rank(fits, at=at)
    judged, p = list(ranks.index[ranks["conclusive"]]), ranks["p_best"]
    left = [name for name in fits if name not in judged]
    where = f"At {as_typed(at)} {next(iter(fits.values())).units.compute}"
    if not judged:
        return [f"{where} no curve is known well enough to be compared."]
    if len(judged) == 1:
        said = [f"{where} only the curve of {judged[0]} is known well enough, so there is nothing to compare it with."]
    else:
        among = f"the {len(judged)} recipes that can be compared there" if left else f"{len(judged)} recipes"
        likely = [name for name in judged if p[name] >= LIKELY]
        if likely:
            first, *others = likely[:1] if p[judged[0]] >= 0.5 else likely
            then = [f"{name} with {in_words(p[name])}" for name in others]
            lead = in_sentence([f"{first} leads with chance {in_words(p[first])}", *then])
            said = [f"{where} {lead}{',' if others else ''} among {among}."]
        else:
            said = [f"{where} none of {among} leads with a chance of {LIKELY:g} or more."]
        pairs = [chance_higher(fits, judged[0], other, margin, at=at) for other in judged[1:]]
        said.append(min(pairs, key=lambda chance: chance.probability).sentence())
    if left:
        said.append(f"{where} these cannot be compared yet: {listing(left, 2 * NAMED)}.")
    return said


def different_starts(fits: Mapping[str, Fit]) -> list[str]:
    """Sentences about recipes that begin elsewhere than most others, which suggests another model or other prompts."""
    starts = {
        name: fit.interval("R0_1" if fit.stages else "R0")
        for name, fit in fits.items()
        if fit.verdict is not Verdict.NOT_CONVERGED
    }
    if len(starts) < 2:
        return []

    def apart(start: tuple[float, float, float], usual: float, close: float) -> bool:
        low, middle, high = start
        return abs(middle - usual) > close and not low - close <= usual <= high + close

    care = "compare them with care if they have different base models or prompts."
    if len(starts) == 2:
        (one, first), (other, second) = starts.items()
        if not apart(first, second[1], SAME_START * fits[one].units.width):
            return []
        begin = fits[one].units.show(first[1]), fits[other].units.show(second[1])
        return [f"{one} begins at {begin[0]} and {other} at {begin[1]}: {care}"]
    usual = float(np.median([middle for _, middle, _ in starts.values()]))
    odd = [name for name, start in starts.items() if apart(start, usual, SAME_START * fits[name].units.width)]
    show = {name: fits[name].units.show for name in odd}
    return [
        f"{name} begins at {show[name](starts[name][1])}, where most others begin at {show[name](usual)}: {care}"
        for name in odd
    ]
