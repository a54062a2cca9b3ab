"""Summary in words: the recipe with the highest ceiling, its probability, and the recipes not yet identified."""

from __future__ import annotations

from collections.abc import Mapping

from rlceiling.decisions.chances import chance_higher, rank
from rlceiling.errors import count, listing
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import in_words

LIKELY = 0.05
"""Smallest posterior probability of the highest ceiling with which a recipe is named."""

NAMED = 4
"""Largest number of recipes that are named one by one; larger groups are counted, and some of them listed."""


def answer(fits: Mapping[str, Fit], margin: float = 0.0) -> list[str]:
    """Summarise the fits in sentences, the most important first.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    margin : float, default 0
        Smallest relevant difference between the best recipe and its closest rival, in the user's unit of reward.

    Returns
    -------
    list of str
        One sentence each: the recipe with the highest ceiling and its posterior probability, its ceiling, the
        comparison with its closest rival; advice for recipes whose ceiling is not identified; runs that differ from
        their siblings.
    """
    ranks = rank(fits)
    judged = list(ranks.index[ranks["conclusive"]])
    said = []
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
