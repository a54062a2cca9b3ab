"""Posterior probabilities of differences between the ceilings of recipes, each with its Monte Carlo standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlceiling.decisions.lookup import find_fit
from rlceiling.display.html import render
from rlceiling.errors import DataError, is_finite
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import in_words, probability


@dataclass(frozen=True, repr=False)
class Chance:
    """Chance (posterior probability) of a statement about two ceilings.

    Attributes
    ----------
    first, second : str
        The compared recipes, or runs as ``recipe/run``.
    margin : float
        Smallest relevant difference of ceilings, in the unit of the reward.
    equal : bool
        True for the probability that the ceilings differ by at most the margin (the region of practical equivalence,
        ROPE), False for the probability that the first is higher by more than the margin.
    probability : float
        The posterior probability. Where `conclusive` is False it depends on the prior and must not be quoted.
    mcse : float
        Monte Carlo standard error of `probability`.
    conclusive : bool
        Whether both ceilings are `IDENTIFIED`.
    reason : str
        Reason why the comparison is not conclusive; empty if it is.

    References
    ----------
    Kruschke, "Rejecting or accepting parameter values in Bayesian estimation", Advances in Methods and Practices in
    Psychological Science 2018, doi 10.1177/2515245918771304 (ROPE).
    """

    first: str
    second: str
    margin: float
    equal: bool
    probability: float
    mcse: float
    conclusive: bool
    reason: str

    @property
    def question(self) -> str:
        """The statement as a formula, for example ``A of a > A of b + 0.01``."""
        if self.equal:
            return f"|A of {self.first} - A of {self.second}| <= {self.margin:g}"
        beats = f" + {self.margin:g}" if self.margin else ""
        return f"A of {self.first} > A of {self.second}{beats}"

    def sentence(self) -> str:
        """The answer as an English sentence, with its uncertainty."""
        if self.equal:
            claim = f"{self.first} and {self.second} end within {self.margin:g} of each other"
        elif self.margin < 0:
            claim = f"{self.first} ends above {self.second}, or at most {-self.margin:g} below it,"
        else:
            claim = f"{self.first} ends {f'more than {self.margin:g} ' if self.margin else ''}above {self.second}"
        if not self.conclusive:
            return f"Whether {claim} cannot be said yet: {self.reason}."
        return f"{claim} with chance {in_words(self.probability)} (Monte Carlo error {self.mcse:.1g})."

    def _repr_html_(self) -> str:
        return render("chance.html.jinja", chance=self)

    def __repr__(self) -> str:
        return f"Chance: {self}"

    def __str__(self) -> str:
        shown = probability(self.probability)
        if self.conclusive:
            return f"P({self.question}) = {shown} (Monte Carlo error {self.mcse:.1g})"
        return f"P({self.question}): inconclusive, {self.reason} [the number would be {shown}]"


def chance_higher(fits: Mapping[str, Fit], first: str, second: str, margin: float = 0.0) -> Chance:
    """Posterior probability ``P(A_first > A_second + margin)`` for the ceilings of two recipes or runs.

    Posteriors of two recipes are independent, so every draw of one is compared with every draw of the other. Runs
    of one recipe, a run and its recipe, and recipes that were pooled (``rlceiling.fit(pool=True)``) have a joint
    posterior and are compared draw by draw.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors, such as `Fits`.
    first, second : str
        Recipes, or runs as ``recipe/run``.
    margin : float, default 0
        Smallest relevant difference, in the user's unit of reward.

    Returns
    -------
    Chance
        Inconclusive, with the reason, unless both fits are `IDENTIFIED`.

    Raises
    ------
    DataError
        If the margin is not a finite number, a name is unknown, both names are the same, or the rewards of the two
        have different names or bounds.

    Notes
    -----
    Evaluation errors of two recipes are assumed independent. Where all evaluations use the same prompts at the same
    steps, the errors have a common part that cancels in the difference, and the probability is conservative (see
    ``benchmarks/calibration``).
    """
    check_margin(margin)
    (fit, a), (other, b) = _ceilings(fits, first, second)
    p, mcse = _chance_higher(fit, other, a, b + margin)
    reason = _reasons(fit, other)
    return Chance(first, second, margin, False, p, mcse, not reason, reason)


def chance_equal(fits: Mapping[str, Fit], first: str, second: str, margin: float) -> Chance:
    """Posterior probability ``P(|A_first - A_second| <= margin)`` of practical equivalence; see `chance_higher`."""
    check_margin(margin)
    (fit, a), (other, b) = _ceilings(fits, first, second)
    if margin <= 0:
        raise DataError(f"margin={margin!r} leaves no room to be equal; give a difference above 0 that does not count.")
    if fit.sampled_with(other):
        p, mcse = _chance_of_pairs(1.0 - _higher(a, b + margin) - _higher(b, a + margin))
    else:
        p, mcse = chance_of_draws(a + margin, b, also_below=a - margin)
    reason = _reasons(fit, other)
    return Chance(first, second, margin, True, p, mcse, not reason, reason)


def _ceilings(fits: Mapping[str, Fit], first: str, second: str) -> list[tuple[Fit, np.ndarray]]:
    """Fits and draws of the ceiling of two recipes or runs."""
    if first == second:
        raise DataError(f"{first!r} is compared with itself; name two recipes, or runs of one as recipe/run.")
    found = [find_fit(fits, name) for name in (first, second)]
    one, other = (fit.units for fit, _ in found)
    if (one.reward, one.bounds) != (other.reward, other.bounds):
        raise DataError(
            f"{first!r} is measured in {one.reward} and {second!r} in {other.reward}; compare recipes with the same "
            "reward and bounds."
        )
    return [(fit, (fit.draws if run is None else fit.draws_of(run))["A"]) for fit, run in found]


def _chance_higher(fit: Fit, other: Fit, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """``P(a > b)`` for draws of two fits, and its Monte Carlo standard error."""
    return _chance_of_pairs(_higher(a, b)) if fit.sampled_with(other) else chance_of_draws(a, b)


def _higher(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Indicator of ``a > b``, draw by draw: 1 or 0, and one half for a tie."""
    return np.asarray(0.5 + 0.5 * np.sign(a - b))


def _chance_of_pairs(true: np.ndarray) -> tuple[float, float]:
    """Share of draws for which an indicator is true, and its Monte Carlo standard error."""
    return float(true.mean()), _mcse(true)


def chances(fits: Mapping[str, Fit], margin: float = 0.0, *, include_inconclusive: bool = False) -> pd.DataFrame:
    """Square table of the posterior probabilities ``P(A_row > A_column + margin)``.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    margin : float, default 0
        Smallest relevant difference, in the user's unit of reward.
    include_inconclusive : bool, default False
        Include the probabilities of inconclusive pairs; by default these are NaN, as is the diagonal.

    Returns
    -------
    DataFrame
        Index and columns: names.
    """
    names = list(fits)
    check_margin(margin)
    ceilings = {n: fits[n].draws["A"] for n in names}
    usable = {n: include_inconclusive or fits[n].verdict is Verdict.IDENTIFIED for n in names}
    table = pd.DataFrame(np.nan, index=pd.Index(names, name="recipe"), columns=names)
    for row in names:
        for column in names:
            if row != column and usable[row] and usable[column]:
                pair = fits[row], fits[column]
                table.loc[row, column] = _chance_higher(*pair, ceilings[row], ceilings[column] + margin)[0]
    return table


def rank(fits: Mapping[str, Fit], *, include_inconclusive: bool = False) -> pd.DataFrame:
    """Posterior probability that each recipe has the highest ceiling, and the distribution of its rank.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    include_inconclusive : bool, default False
        Rank all recipes. By default only `IDENTIFIED` recipes are ranked, among themselves; the others have NaN.

    Returns
    -------
    DataFrame
        Index: name. Columns: ``p_best`` and its Monte Carlo standard error ``mcse``, ``mean_rank`` (1 is highest),
        ``rank_1`` ... ``rank_k`` (probabilities), ``conclusive`` and ``reason``. Recipes are sorted by `p_best`.
    """
    ranked = [n for n, f in fits.items() if include_inconclusive or f.verdict is Verdict.IDENTIFIED]
    k = len(ranked)
    columns = ["p_best", "mcse", "mean_rank", *(f"rank_{place}" for place in range(1, k + 1))]
    rows = np.empty((k, len(columns)))
    if ranked:
        ceilings = [fits[n].draws["A"] for n in ranked]
        # Retried fits have more draws than others; independent posteriors may be paired in any way.
        draws = min(c.shape[1] for c in ceilings)
        stacked = np.stack([c[:, :draws] for c in ceilings])
        places = (-stacked).argsort(axis=0).argsort(axis=0)
        for row, own in zip(rows, places, strict=True):
            best = own == 0
            row[:3] = best.mean(), _mcse(best.astype(float)), 1.0 + own.mean()
            row[3:] = np.bincount(own.ravel(), minlength=k) / own.size
    out = pd.DataFrame(rows, index=ranked, columns=columns).reindex(pd.Index(list(fits), name="recipe"))
    out["conclusive"] = [f.verdict is Verdict.IDENTIFIED for f in fits.values()]
    out["reason"] = [f.reason for f in fits.values()]
    return out.sort_values("p_best", ascending=False, kind="stable")


def chance_of_draws(a: np.ndarray, b: np.ndarray, also_below: np.ndarray | None = None) -> tuple[float, float]:
    """``P(a > b)``, or ``P(also_below <= b < a)``, over all pairs of draws, and its Monte Carlo standard error.

    The error combines the errors of the two marginal means of the double sum, each over autocorrelated draws.
    """

    def share_below(of: np.ndarray, values: np.ndarray) -> np.ndarray:
        ordered = np.sort(of, axis=None)
        below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
        return below / (2.0 * ordered.size)

    over_b = share_below(b, a)
    over_a = 1.0 - share_below(a, b)
    if also_below is not None:
        over_b = over_b - share_below(b, also_below)
        over_a = over_a - (1.0 - share_below(also_below, b))
    return float(over_b.mean()), float(math.hypot(_mcse(over_b), _mcse(over_a)))


def _mcse(values: np.ndarray) -> float:
    """Monte Carlo standard error of the mean of draws of shape (chains, draws); at least one over their number."""
    resolution = 1.0 / values.size
    if np.ptp(values) < resolution:
        return resolution
    from arviz_stats.base import array_stats

    return max(float(array_stats.mcse(values, method="mean")), resolution)


def _reasons(*fits: Fit) -> str:
    """Reasons why fits cannot be compared; empty if they can."""
    return "; ".join(dict.fromkeys(r for r in (fit.reason for fit in fits) if r))  # without repeats


def check_margin(margin: float) -> None:
    """Raise DataError unless a margin is a finite number."""
    if not is_finite(margin):
        raise DataError(f"margin={margin!r} is not a finite difference of rewards; give one, such as 0.02.")
