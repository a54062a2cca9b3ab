"""Posterior probabilities of differences between recipes, each with its Monte Carlo standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlceiling.decisions.compared import Compared, paired
from rlceiling.decisions.lookup import check_comparable, find_fit
from rlceiling.display.html import render
from rlceiling.errors import DataError, is_finite
from rlceiling.posterior.fit import Fit
from rlceiling.text import as_typed, at_least, at_most, in_words, probability

DECIDES = 0.95
"""Probability from which a statement is decided by the range that the data leave, whatever the prior."""


@dataclass(frozen=True, repr=False)
class Chance:
    """Chance (posterior probability) of a statement about two recipes.

    Attributes
    ----------
    first, second : str
        The compared recipes, or runs as ``recipe/run``.
    margin : float
        Smallest relevant difference, in the unit of the reward.
    equal : bool
        True for the probability that the two differ by at most the margin (the region of practical equivalence, ROPE),
        False for the probability that the first is higher by more than the margin.
    probability : float
        The posterior probability. Where `conclusive` is False it depends on the prior and must not be quoted.
    mcse : float
        Monte Carlo standard error of `probability`.
    conclusive : bool
        Whether the data fix both recipes, or decide the statement although they do not.
    reason : str
        Why the data do not fix both recipes; empty if they do.
    lower, upper : float
        Range of the probability that the data leave: an unfinished recipe has at least the level that it has reached,
        and may rise to the bound of the reward. Both equal `probability` where the data fix both recipes.
    at : float or None
        Compute at which curves are compared; None for ceilings.
    unit : str
        Unit of compute.

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
    lower: float = 0.0
    upper: float = 1.0
    at: float | None = None
    unit: str = ""

    @property
    def question(self) -> str:
        """The statement as a formula, for example ``A of a > A of b + 0.01``."""
        one, other = (Compared(self.at).formula(name) for name in (self.first, self.second))
        if self.equal:
            return f"|{one} - {other}| <= {self.margin:g}"
        return f"{one} > {other}{f' {self.margin:+g}'.replace('+', '+ ').replace('-', '- ') if self.margin else ''}"

    @property
    def quoted(self) -> str:
        """The probability as it may be quoted: a number, or an end of its range, or a question mark."""
        if not self.reason:
            return probability(self.probability)
        if not self.conclusive:
            return "?"
        return at_least(self.lower) if self.lower >= DECIDES else at_most(self.upper)

    def sentence(self) -> str:
        """The answer as an English sentence, with its uncertainty."""
        does, above = ("ends", "end") if self.at is None else ("is", "are")
        where = "" if self.at is None else f" at {as_typed(self.at)} {self.unit}"
        if self.equal:
            claim = f"{self.first} and {self.second} {above} within {self.margin:g} of each other{where}"
        elif self.margin < 0:
            claim = f"{self.first} {does} above {self.second}, or at most {-self.margin:g} below it,{where}"
        else:
            by = f"more than {self.margin:g} " if self.margin else ""
            claim = f"{self.first} {does} {by}above {self.second}{where}"
        if not self.conclusive:
            return f"Whether {claim} cannot be said yet: {self.reason}."
        if not self.reason:
            return f"{claim} with chance {in_words(self.probability)} (Monte Carlo error {self.mcse:.1g})."
        pair = (self.first, self.second) if self.lower >= DECIDES else (self.second, self.first)
        what = "ceiling" if self.at is None else "curve there"
        why = f"{pair[0]} has already reached more than the {what} of {pair[1]} may be"
        if self.margin:
            why = "what has been reached and the bound of the reward leave no more"
        return f"{claim} with chance {self.quoted}, whatever the prior: {why}, although {self.reason}."

    def _repr_html_(self) -> str:
        return render("chance.html.jinja", chance=self)

    def __repr__(self) -> str:
        return f"Chance: {self}"

    def __str__(self) -> str:
        if not self.reason:
            return f"P({self.question}) = {self.quoted} (Monte Carlo error {self.mcse:.1g})"
        if self.conclusive:
            return f"P({self.question}) is {self.quoted}, whatever the prior"
        shown = probability(self.probability)
        return f"P({self.question}): inconclusive, {self.reason} [the number would be {shown}]"


def chance_higher(
    fits: Mapping[str, Fit], first: str, second: str, margin: float = 0.0, *, at: float | None = None
) -> Chance:
    """Posterior probability ``P(A_first > A_second + margin)``, or ``P(R_first(at) > R_second(at) + margin)``.

    Arguments, result and errors as of `rlceiling.Fits.chance_higher`.
    """
    check_pair(first, second, margin)
    compared, pair = Compared(at), _pair(fits, first, second, at)
    check_margin(margin, pair[0][0].units.bounds)
    return _chance(compared, pair, (first, second), margin)


def chance_equal(fits: Mapping[str, Fit], first: str, second: str, margin: float, *, at: float | None = None) -> Chance:
    """Posterior probability ``P(|A_first - A_second| <= margin)`` of practical equivalence.

    Arguments, result and errors as of `rlceiling.Fits.chance_equal`.
    """
    check_pair(first, second, margin, equal=True)
    compared, pair = Compared(at), _pair(fits, first, second, at)
    (fit, run), (other, other_run) = pair
    check_margin(margin, fit.units.bounds)
    a, b = compared.draws(fit, run), compared.draws(other, other_run)
    if fit.sampled_with(other):
        p, mcse = _chance_of_pairs(1.0 - _higher(a, b + margin) - _higher(b, a + margin))
    else:
        p, mcse = chance_of_draws(a + margin, b, also_below=a - margin)
    reason = _reasons(compared, *pair)
    lower, upper = (p, p) if not reason else (0.0, 1.0)
    return Chance(first, second, margin, True, p, mcse, not reason, reason, lower, upper, at, fit.units.compute)


def _chance(
    compared: Compared, pair: tuple[tuple[Fit, str | None], ...], names: tuple[str, str], margin: float
) -> Chance:
    (fit, run), (other, other_run) = pair
    p, mcse = _chance_higher(fit, other, compared.draws(fit, run), compared.draws(other, other_run) + margin)
    reason, lower, upper = _reasons(compared, *pair), p, p
    if reason:
        ends = compared.range_of_draws(fit, run), compared.range_of_draws(other, other_run)
        lower, upper = _range(fit, other, *ends, margin)
    conclusive = not reason or _decided(lower, upper)
    unit = fit.units.compute
    return Chance(*names, margin, False, p, mcse, conclusive, reason, lower, upper, compared.at, unit)


def _pair(
    fits: Mapping[str, Fit], first: str, second: str, at: float | None
) -> tuple[tuple[Fit, str | None], tuple[Fit, str | None]]:
    """Two recipes or runs that can be compared."""
    one, other = (find_fit(fits, name) for name in (first, second))
    own, its = one[0].units, other[0].units
    if (own.reward, own.bounds) != (its.reward, its.bounds):
        raise DataError(
            f"{first!r} is measured in {own.reward} and {second!r} in {its.reward}; compare recipes with the same "
            "reward and bounds."
        )
    if at is not None and own.compute != its.compute:
        raise DataError(
            f"{first!r} counts its compute in {own.compute} and {second!r} in {its.compute}; at a compute, compare "
            "recipes with the same unit."
        )
    return one, other


def _chance_higher(fit: Fit, other: Fit, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """``P(a > b)`` for draws of two fits, and its Monte Carlo standard error."""
    return _chance_of_pairs(_higher(a, b)) if fit.sampled_with(other) else chance_of_draws(a, b)


def _range(
    fit: Fit,
    other: Fit,
    ends: tuple[np.ndarray, np.ndarray],
    other_ends: tuple[np.ndarray, np.ndarray],
    margin: float,
) -> tuple[float, float]:
    """Smallest and largest chance that one is higher by a margin, from draws of the least and the most of both."""
    (least, most), (other_least, other_most) = ends, other_ends
    lower = _chance_higher(fit, other, least, other_most + margin)[0]
    return lower, _chance_higher(fit, other, most, other_least + margin)[0]


def _decided(lower: float, upper: float) -> bool:
    """Whether this range of a chance decides the statement, whatever the prior."""
    return lower >= DECIDES or upper <= 1.0 - DECIDES


def _higher(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Indicator of ``a > b``, draw by draw: 1 or 0, and one half for a tie."""
    return np.asarray(0.5 + 0.5 * np.sign(a - b))


def _chance_of_pairs(true: np.ndarray) -> tuple[float, float]:
    """Share of draws for which an indicator is true, and its Monte Carlo standard error."""
    return float(true.mean()), _mcse(true)


def chances(
    fits: Mapping[str, Fit], margin: float = 0.0, *, at: float | None = None, include_inconclusive: bool = False
) -> pd.DataFrame:
    """Square table of the posterior probabilities ``P(A_row > A_column + margin)``, or of curves at a compute.

    Arguments, result and errors as of `rlceiling.Fits.chances`.
    """
    names = list(fits)
    check_margin(margin, fits[names[0]].units.bounds if names else None)
    check_comparable("chances", fits, compute=at is not None)
    compared = Compared(at)
    table = pd.DataFrame(np.nan, index=pd.Index(names, name="recipe"), columns=names)
    drawn = {name: compared.draws(fits[name]) for name in names}
    ends = {name: compared.range_of_draws(fits[name]) for name in names}
    open_ = {name: bool(compared.reason_not_fixed(fits[name])) for name in names}
    for row in names:
        for column in names:
            if row == column:
                continue
            pair = fits[row], fits[column]
            if include_inconclusive or not (open_[row] or open_[column]):
                table.loc[row, column] = _chance_higher(*pair, drawn[row], drawn[column] + margin)[0]
                continue
            lower, upper = _range(*pair, ends[row], ends[column], margin)
            if _decided(lower, upper):
                table.loc[row, column] = lower if lower >= DECIDES else upper
    return table


def rank(fits: Mapping[str, Fit], *, at: float | None = None, include_inconclusive: bool = False) -> pd.DataFrame:
    """Posterior probability that each recipe is the best one, and the distribution of its rank.

    Arguments, result and errors as of `rlceiling.Fits.rank`.
    """
    compared = Compared(at)
    check_comparable("rank", fits, compute=at is not None)
    reasons = {name: compared.reason_not_fixed(fit) for name, fit in fits.items()}
    ranked = [name for name in fits if include_inconclusive or not reasons[name]]
    k = len(ranked)
    columns = ["p_best", "mcse", "mean_rank", *(f"rank_{place}" for place in range(1, k + 1))]
    rows = np.full((k, len(columns)), np.nan)
    if k > 1:
        places = (-paired([compared.draws(fits[name]) for name in ranked])).argsort(axis=0).argsort(axis=0)
        for row, own in zip(rows, places, strict=True):
            best = own == 0
            row[:3] = best.mean(), _mcse(best.astype(float)), 1.0 + own.mean()
            row[3:] = np.bincount(own.ravel(), minlength=k) / own.size
    out = pd.DataFrame(rows, index=ranked, columns=columns).reindex(pd.Index(list(fits), name="recipe"))
    out["lower"], out["upper"] = _range_of_best([compared.range_of_draws(fit) for fit in fits.values()])
    out["conclusive"] = [not reason for reason in reasons.values()]
    out["reason"] = list(reasons.values())
    return out.sort_values("p_best", ascending=False, kind="stable")


def _range_of_best(ends: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest probability of each recipe to be the best, from the least and the most that each may be."""
    if len(ends) < 2:
        return np.full(len(ends), np.nan), np.full(len(ends), np.nan)
    least, most = (paired(own) for own in zip(*ends, strict=True))
    lower, upper = np.empty(len(ends)), np.empty(len(ends))
    for i in range(len(ends)):
        others = np.arange(len(ends)) != i
        lower[i] = (least[i] > most[others].max(axis=0)).mean()
        upper[i] = (most[i] > least[others].max(axis=0)).mean()
    return lower, upper


def best_at(
    fits: Mapping[str, Fit], compute: float | Sequence[float], *, include_inconclusive: bool = False
) -> pd.DataFrame:
    """Posterior probability of each recipe to lead at each of several budgets.

    Arguments, result and errors as of `rlceiling.Fits.best_at`.
    """
    names = list(fits)
    check_comparable("best_at", fits, compute=True)
    budgets = [float(at) for at in np.atleast_1d(np.asarray(compute, dtype=float))]
    found = [rank(fits, at=at, include_inconclusive=include_inconclusive)["p_best"].loc[names] for at in budgets]
    label = next(iter(fits.values())).units.compute if fits else "compute"
    return pd.DataFrame([one.to_numpy() for one in found], index=pd.Index(budgets, name=label), columns=names)


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


def _reasons(compared: Compared, *pair: tuple[Fit, str | None]) -> str:
    """Reasons why the data do not fix what is compared; empty if they do."""
    reasons = (compared.reason_not_fixed(fit, run) for fit, run in pair)
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))  # without repeats


def check_pair(first: str, second: str, margin: float, *, equal: bool = False) -> None:
    """Raise DataError if no posterior can answer `chance_higher`, or with `equal` `chance_equal`, of these names."""
    check_margin(margin)
    if equal and margin <= 0:
        raise DataError(f"margin={margin!r} leaves no room to be equal; give a difference above 0 that does not count.")
    if first == second:
        raise DataError(f"{first!r} is compared with itself; name two recipes, or runs of one as recipe/run.")


def check_margin(margin: float, bounds: tuple[float, float] | None = None) -> None:
    """Raise DataError unless a margin is a finite number, and smaller than the range of the reward if that is known."""
    if not is_finite(margin):
        raise DataError(f"margin={margin!r} is not a finite difference of rewards; give one, such as 0.02.")
    if bounds is not None and not abs(margin) < bounds[1] - bounds[0]:
        raise DataError(
            f"margin={margin!r} is no difference of rewards between {bounds[0]:g} and {bounds[1]:g}; give a smaller "
            "one."
        )
