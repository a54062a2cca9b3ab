"""Summary in words: the recipe with the highest ceiling, its probability, and the recipes not yet identified."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlceiling.decisions.chances import chance_higher, rank
from rlceiling.errors import count, listing
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import as_typed, in_words

LIKELY = 0.05
"""Smallest posterior probability of the highest ceiling with which a recipe is named."""

SAME_START = 0.025
"""Differences of starts up to this share of the range of the reward are those of evaluations of one model."""

NAMED = 4
"""Largest number of recipes that are named one by one; larger groups are counted, and some of them listed."""


def answer(fits: Mapping[str, Fit], margin: float = 0.0, *, at: float | None = None) -> list[str]:
    """Summarise the fits in sentences, the most important first.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    margin : float, default 0
        Smallest relevant difference between the best recipe and its closest rival, in the user's unit of reward.
    at : float, optional
        Budget: a compute, in the unit of the runs. The first sentences then say who leads there.

    Returns
    -------
    list of str
        One sentence each: with `at` who leads at that compute; the recipe with the highest ceiling and its posterior
        probability, its ceiling, the comparison with its closest rival; recipes that begin elsewhere than the others;
        advice for recipes whose ceiling is not identified; runs that differ from their siblings.

    Raises
    ------
    DataError
        If the compute is not positive, or the margin not finite.
    """
    ranks = rank(fits)
    judged = list(ranks.index[ranks["conclusive"]])
    said = [] if at is None else _at_budget(fits, margin, at)
    if not judged:
        said.append("No ceiling can be told yet." if len(fits) > 1 else "The ceiling cannot be told yet.")
    elif len(judged) == 1:
        of = f" of {len(fits)} whose ceiling is known" if len(fits) > 1 else ""
        said.append(f"{f'{judged[0]} is the only one{of}. ' if of else ''}{fits[judged[0]].sentence()}")
    else:
        best = judged[0]
        p = ranks["p_best"]
        likely = [name for name in judged if p[name] >= LIKELY]
        among = (
            f"the {len(judged)} recipes that can be compared" if len(judged) < len(fits) else f"{len(judged)} recipes"
        )
        if p[best] >= 0.5:
            said.append(f"With chance {in_words(p[best])}, {best} has the highest ceiling of {among}.")
        else:
            shares = listing([f"{name} {in_words(p[name])}" for name in likely], NAMED)
            said.append(f"None of {among} stands out; chance of the highest ceiling: {shares or 'below 0.05 each'}.")
        said.append(fits[best].sentence())
        pairs = [chance_higher(fits, best, other, margin) for other in judged[1:]]
        said.append(min(pairs, key=lambda chance: chance.probability).sentence())
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


def _at_budget(fits: Mapping[str, Fit], margin: float, at: float) -> list[str]:
    """Who leads at a compute, the closest rival there, and who cannot be compared there yet."""
    ranks = rank(fits, at=at)
    judged, p = list(ranks.index[ranks["conclusive"]]), ranks["p_best"]
    left = [name for name in fits if name not in judged]
    if not fits:
        return []
    where = f"At {as_typed(at)} {next(iter(fits.values())).units.compute}"
    if not judged:
        return [f"{where} no curve is known well enough to be compared."]
    if len(judged) == 1:
        said = [f"{where} only the curve of {judged[0]} is known well enough, so there is nothing to compare it with."]
    else:
        likely = [name for name in judged if p[name] >= LIKELY]
        among = f"the {len(judged)} recipes that can be compared there" if left else f"{len(judged)} recipes"
        if p[judged[0]] >= 0.5:
            said = [f"{where} {judged[0]} leads with chance {in_words(p[judged[0]])} among {among}."]
        else:
            shares = listing([f"{name} {in_words(p[name])}" for name in likely], NAMED)
            said = [f"{where} none of {among} stands out; chance to lead: {shares or 'below 0.05 each'}."]
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
