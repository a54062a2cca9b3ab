"""How to split compute over recipes so that the best one is named with the highest chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from rlceiling.curves.stages import staged_curve
from rlceiling.decisions.answer import LIKELY, NAMED
from rlceiling.decisions.chances import rank
from rlceiling.decisions.compared import Compared, paired
from rlceiling.decisions.lookup import check_comparable
from rlceiling.errors import DataError, is_finite, listing
from rlceiling.inference.stream_keys import stream_key
from rlceiling.posterior.continuation import CANDIDATES, furthest_run, simulated
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.predictive_checks import thinned
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import as_typed, in_words, number

PARTS = 10
"""Number of equal parts of the budget that are given one by one."""

SIMULATIONS = 160
"""Number of simulated continuations of each recipe."""

GRID = 100
"""Number of rewards at which distributions are compared."""

NO_CHANCE = 0.002
"""Recipes that are the best with a smaller probability get nothing and are not simulated."""

UNFIT = (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID)

HARDLY = 0.01
"""Smaller rises of the chance to name the best are not worth a sentence."""

COLUMNS = (
    "give",
    "p_best",
    "lower",
    "upper",
    "sd",
    "sd_then",
    "p_named",
    "p_named_plan",
    "p_named_equal",
    "p_named_two",
)
"""Columns of `plan` that hold numbers, after the compute so far."""


def plan(fits: Mapping[str, Fit], budget: float, *, at: float | None = None) -> pd.DataFrame:
    """Split compute over recipes so that the best one is named with the highest chance.

    Once the compute is spent, the recipe that is most probably the best is named. The chance that it is the best is
    computed for many splits from simulated continuations of the furthest run of each recipe (pre-posterior analysis,
    expected value of information), and the split with the highest chance is returned. It depends on the priors where
    the data leave the ceiling of a recipe open; `lower` and `upper` are what no prior can change.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors. Draws of different recipes are taken to be independent.
    budget : float
        Compute to be split, positive, in the unit of the runs.
    at : float, optional
        Compute at which recipes are compared. Default: for good, by their ceilings.

    Returns
    -------
    DataFrame
        Index: recipe, those that get most first. Columns: the compute so far under its own name; ``give``, the share of
        the budget; ``p_best`` (posterior probability to be the best, NaN if the recipe is not compared), ``lower`` and
        ``upper`` (the range of it that the data leave, see `rlceiling.decisions.chances.rank`); ``sd`` and ``sd_then``
        (standard deviation of the ceiling, or of the curve at the compute, now and expected after this share, in the
        unit of the reward); ``why``. The chance to name the best belongs to all recipes and stands in every row:
        ``p_named`` now, ``p_named_plan`` after this plan, ``p_named_equal`` after equal shares and ``p_named_two``
        after half of the budget for each of the two most probable recipes. Recipes that are NOT_CONVERGED or
        NOT_A_SIGMOID are not compared and get nothing. ``attrs["sentence"]`` is the plan in words.

    Raises
    ------
    DataError
        If the budget or the compute is not positive, or recipes have different units.

    References
    ----------
    Frazier and Powell, "Paradoxes in learning and the marginal value of information", Decision Analysis 2010, doi
    10.1287/deca.1100.0190 (several parts at a time, since the value of the first may be zero). Chick, Branke and
    Schmidt, "Sequential sampling to myopically maximize the expected value of information", INFORMS Journal on
    Computing 2010, doi 10.1287/ijoc.1090.0327.
    """
    check_plan(budget)
    compared = Compared(at)
    check_comparable("plan", fits, compute=True)
    judged = [name for name, fit in fits.items() if fit.verdict not in UNFIT]
    ranks = rank(fits, at=at)
    unit = next(iter(fits.values())).units.compute if fits else "compute"
    rows = {name: dict.fromkeys(COLUMNS, np.nan) | {"give": 0.0} for name in fits}
    if len(judged) > 1:
        for name, own in _shares({name: fits[name] for name in judged}, compared, budget).items():
            rows[name] |= own
    for name, row in rows.items():
        row |= ranks.loc[name, ["lower", "upper"]]
        row["why"] = _why(fits[name], row, compared, unit)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*COLUMNS, "why"]).rename_axis("recipe")
    table.insert(0, unit, [fit.largest_compute for fit in fits.values()])
    table = table.sort_values(["give", "p_best"], ascending=False, kind="stable")
    open_ = [name for name in judged if not ranks.loc[name, "conclusive"]]
    table.attrs["sentence"] = _sentence(table, budget, open_, compared)
    return table


def check_plan(budget: float) -> None:
    """Raise DataError unless the budget is a positive number."""
    if not (is_finite(budget) and budget > 0):
        raise DataError(f"plan: budget={budget!r} is not a positive compute; give one in the unit of the runs.")


def _shares(fits: Mapping[str, Fit], compared: Compared, budget: float) -> dict[str, dict[str, float]]:
    """Share of each recipe, with its chances and the chances to name the best."""
    drawn = paired([compared.draws(fit) for fit in fits.values()]).reshape(len(fits), -1)
    p_best = np.bincount(drawn.argmax(axis=0), minlength=len(fits)) / drawn.shape[1]
    likely = (p_best >= NO_CHANCE) | (np.argsort(np.argsort(-p_best, kind="stable")) < 2)
    places = np.quantile(drawn.max(axis=0), np.linspace(0.0, 1.0, GRID))
    names = [name for name, one in zip(fits, likely, strict=True) if one]
    even = budget / len(fits)
    amounts = budget * np.arange(1, PARTS + 1) / PARTS
    amounts = np.sort(np.append(amounts[~np.isclose(amounts, even)], even))
    prospects = [prospect(fits[name], compared, amounts, places) for name in names]
    cdf = np.stack([own.cdf for own in prospects])
    in_parts = np.r_[0, 1 + np.flatnonzero(np.isclose(amounts * PARTS / budget, np.round(amounts * PARTS / budget)))]
    in_even = np.array([0, 1 + int(np.argmin(np.abs(amounts - even)))])
    seeds = [stream_key(fits[names[0]].settings.seed, *names, use) for use in ("plan", "stated")]
    # The split is chosen with other pairings of simulated continuations than its chance is stated with.
    (search, stated), (search_even, stated_even) = (
        [Naming(cdf[:, levels], np.random.default_rng(seed)) for seed in seeds] for levels in (in_parts, in_even)
    )
    nothing, everyone = [0] * len(names), [1] * len(names)
    two = nothing.copy()
    for i, leader in enumerate(np.argsort(-search.best(nothing).mean(axis=1), kind="stable")[:2]):
        two[leader] = PARTS // 2 + (PARTS % 2) * (1 - i)
    best = max(allocate(search, PARTS), two, key=search.chance)
    shared_out = search_even.chance(everyone) > search.chance(best)
    p_even = stated_even.chance(everyone)
    common = {
        "p_named": stated.chance(nothing),
        "p_named_plan": p_even if shared_out else stated.chance(best),
        "p_named_equal": p_even,
        "p_named_two": stated.chance(two),
    }
    p_now = dict(zip(names, stated.best(nothing).mean(axis=1), strict=True))
    found = {}
    for i, name in enumerate(fits):
        found[name] = common | {"p_best": float(p_now.get(name, p_best[i])), "give": even if shared_out else 0.0}
        if name in p_now:
            own, place = prospects[names.index(name)], names.index(name)
            level = in_even[1] if shared_out else in_parts[best[place]]
            found[name] |= {"give": even if shared_out else budget * best[place] / PARTS}
            found[name] |= {"sd": float(own.sd[0]), "sd_then": float(own.sd[level])}
        else:
            found[name] |= dict.fromkeys(("sd", "sd_then"), float(drawn[i].std()))
    return found


def _why(fit: Fit, row: Mapping[str, Any], compared: Compared, unit: str) -> str:
    """Reason for the share of a recipe, a sentence without a full stop."""
    if fit.verdict in UNFIT:
        return f"it gets nothing, since its curve cannot be judged: {fit.reason}"
    if np.isnan(row["p_best"]):
        return "there is no other recipe to compare it with"
    what = _what(compared, unit)
    if compared.reason_not_fixed(fit):
        known = f"the data leave its {what} open (chance to be the best {row['lower']:.2f} to {row['upper']:.2f})"
    else:
        known = f"it is the best with chance {in_words(row['p_best'])}"
    if not row["give"]:
        return f"{known}; compute given to others decides more" if row["p_best"] >= NO_CHANCE else known
    narrower = f"the standard deviation of its {what} is {number(row['sd'])}"
    return f"{known}; {narrower}, and expected to be {number(row['sd_then'])} then"


def _what(compared: Compared, unit: str) -> str:
    """Name of the compared quantity in a sentence."""
    return "ceiling" if compared.at is None else f"curve at {as_typed(compared.at)} {unit}"


def _sentence(table: pd.DataFrame, budget: float, open_: Sequence[str], compared: Compared) -> str:
    """The plan in words."""
    unit = table.columns[0]
    judged = table[table["p_best"].notna()]
    if judged.empty:
        return "There is nothing to choose between: fewer than two recipes can be judged."
    row = judged.iloc[0]
    what = _what(compared, unit)
    given = [f"{name} ({number(amount)})" for name, amount in table["give"].items() if amount]
    more = f"{as_typed(budget)} {unit}"
    now, then, even, two = (in_words(row[name]) for name in COLUMNS[-4:])
    if row["p_named_plan"] - row["p_named"] < HARDLY:
        said = (
            f"{more} would hardly change which recipe is named: {judged["p_best"].idxmax()} is the best with "
            f"chance {in_words(judged['p_best'].max())} now, and the best one would be named with chance {then}."
        )
    else:
        order = f"to {given[0]} first, then to {listing(given[1:], NAMED)}" if given[1:] else f"all to {given[0]}"
        said = (
            f"Give the next {more} {order}: the chance to name the recipe with the highest {what} rises from {now} to "
            f"{then}; equal shares would make it {even}, and half for each of the two most probable {two}."
        )
    likely = [name for name in open_ if table.loc[name, "p_best"] >= LIKELY]
    if likely:
        said += f" The data leave the {what} of {listing(likely, NAMED)} open, so these chances depend on the priors."
    return said


class Prospect(NamedTuple):
    """What is known of the compared quantity of a recipe now and after more compute."""

    cdf: np.ndarray
    """Distribution functions, shape (1 + amounts, simulations, places): now, and after each amount of compute."""
    sd: np.ndarray
    """Square root of the mean of its variance, in the unit of the reward, shape (1 + amounts,)."""


def prospect(fit: Fit, compared: Compared, amounts: Sequence[float], places: np.ndarray) -> Prospect:
    """Simulate what will be known of a recipe when its furthest run has gone on by amounts of compute.

    Posterior draws are taken as truths in turn, the run goes on from each with its noise, and all other draws are
    weighted by their likelihood of what is then seen (see `rlceiling.posterior.continuation.simulated`). The error of
    the form of a curve beyond the data, a random walk in ln C, is seen as far as the run goes, and stays open from
    there to the budget.

    Parameters
    ----------
    fit : Fit
        Posterior of a recipe.
    compared : Compared
        The ceiling, or the curve at a compute.
    amounts : sequence of float
        Amounts of compute, ascending, positive.
    places : ndarray, shape (places,)
        Rewards, ascending, at which distribution functions are computed.
    """
    value, form_sd = _curve_and_form(fit, compared)
    last = float(fit.runs[fit.place(furthest_run(fit))].compute[-1])
    # Truths at evenly spaced quantiles represent the posterior better than random ones.
    even = (np.arange(SIMULATIONS) + 0.5) / SIMULATIONS
    truth = np.argsort(value, kind="stable")[(even * len(value)).astype(int)]
    normal = np.random.default_rng(stream_key(fit.settings.seed, fit.name, "plan")).permutation(ndtri(even))
    open_ = form_sd(last)
    cdf = [np.broadcast_to(_below(value, open_, places).mean(axis=0), (SIMULATIONS, len(places)))]
    variance = [float(value.var() + np.mean(open_**2))]
    multiples = tuple(1.0 + amount / last for amount in amounts)
    for multiple, weight in simulated(fit, multiples, truth):
        left = form_sd(multiple * last)
        below = weight @ _below(value, left, places)
        seen = np.sqrt(np.maximum(open_**2 - left**2, 0.0))[truth] * normal
        if seen.any():
            below = np.stack([np.interp(places - by, places, own) for by, own in zip(seen, below, strict=True)])
        cdf.append(below)
        variance.append(float(np.mean(weight @ (value**2 + left**2) - (weight @ value) ** 2)))
    return Prospect(np.stack(cdf), np.sqrt(variance))


def _curve_and_form(fit: Fit, compared: Compared) -> tuple[np.ndarray, Callable[[float], np.ndarray]]:
    """Draws of the compared quantity without the error of its form, and that error's standard deviation.

    The latter is a function of the compute to which a run has gone; both are in the unit of the reward.
    """
    flat = thinned({name: values.reshape(-1) for name, values in fit.scaled_draws.items()}, CANDIDATES)
    at = compared.at
    if at is None:
        value = fit.units.unscale(flat["A"])
        return value, lambda _: np.zeros(len(value))
    columns = {name: values[:, None] for name, values in flat.items()}
    value = fit.units.unscale(staged_curve(np.array([at]), columns, fit.begins)[:, 0])

    def form_sd(reached: float) -> np.ndarray:
        beyond = np.array([at / reached * fit.largest_compute])  # as far beyond the data as it is then
        return np.asarray(fit.units.width * fit.form_sd(flat, beyond)[:, 0])

    return value, form_sd


def _below(value: np.ndarray, sd: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Probability that a normal around each value is at most each place, shape (values, places)."""
    if not sd.any():
        return np.asarray(value[:, None] <= places, dtype=float)
    return np.asarray(ndtr((places - value[:, None]) / np.maximum(sd, 1e-12)[:, None]))


class Naming:
    """Chance to name the best of several recipes after amounts of compute.

    With the distribution functions ``F_i`` after an outcome, recipe i is the best with the probability
    ``sum_g dF_i(g) prod_{j != i} F_j(g)``; the recipe with the highest is named, and is the best with that probability.
    The chance is its mean over outcomes, in each of which the recipes have simulated continuations of their own. Draws
    of different recipes are taken to be independent.

    Parameters
    ----------
    cdf : ndarray, shape (recipes, 1 + amounts, simulations, places)
        See `Prospect`.
    rng : numpy.random.Generator
        Decides which simulated continuations occur together.
    """

    def __init__(self, cdf: np.ndarray, rng: np.random.Generator) -> None:
        together = np.stack([own[:, rng.permutation(own.shape[1])] for own in cdf])
        ends = np.pad(together, [(0, 0)] * 3 + [(1, 1)], constant_values=((0, 0), (0, 0), (0, 0), (0.0, 1.0)))
        self.step = np.diff(ends)
        self.below = 0.5 * (ends[..., 1:] + ends[..., :-1])

    def best(self, levels: Sequence[int]) -> np.ndarray:
        """Probability of each recipe to be the best in each outcome, shape (recipes, simulations)."""
        here = np.arange(len(levels)), np.asarray(levels)
        p = (self.step[here] * _product_of_others(self.below[here])).sum(axis=-1)
        return np.asarray(p / p.sum(axis=0))

    def chance(self, levels: Sequence[int]) -> float:
        """Chance to name the best if recipe i has the amount ``levels[i]``; 0 is none."""
        return float(self.best(levels).max(axis=0).mean())

    def chances_of_one(self, levels: Sequence[int], one: int) -> np.ndarray:
        """Chance to name the best for each amount of one recipe, the others as they are, shape (1 + amounts,)."""
        here = np.arange(len(levels)), np.asarray(levels)
        below = self.below[here].copy()
        below[one] = 1.0
        others = _product_of_others(below)
        steps = np.moveaxis(self.step[here] * others, 1, 0)  # (simulations, recipes, places)
        p = steps @ np.moveaxis(self.below[one], 0, -1)
        own = self.step[one] * others[one]
        p[:, one] = own.sum(axis=-1).T
        p /= p.sum(axis=1, keepdims=True)
        return np.asarray(p.max(axis=1).mean(axis=0))


def _product_of_others(below: np.ndarray) -> np.ndarray:
    """Product over all other recipes, along the first axis."""
    ones = np.ones_like(below[:1])
    before = np.cumprod(np.concatenate([ones, below[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([ones, below[:0:-1]]), axis=0)[::-1]
    return np.asarray(before * after)


def allocate(naming: Naming, parts: int) -> list[int]:
    """Number of parts of the budget for each recipe, given one after another where they help most.

    In each round one recipe gets as many of the parts that are left as raise the chance most per part: a first part may
    show nothing where three decide. Once none helps, the rest goes to the two most probable in turn.
    """
    given = [0] * len(naming.step)
    leaders = np.argsort(-naming.best(given).mean(axis=1), kind="stable")[:2]
    while (left := parts - sum(given)) > 0:
        now = naming.chance(given)
        rates = np.full((len(given), left), -np.inf)
        for one, own in enumerate(given):
            more = naming.chances_of_one(given, one)[own + 1 : own + 1 + left]
            rates[one] = (more - now) / np.arange(1, left + 1)
        one, more = np.unravel_index(np.argmax(rates), rates.shape)
        if rates[one, more] <= 0.0:
            for i in range(left):
                given[leaders[i % len(leaders)]] += 1
            break
        given[one] += int(more) + 1
    return given
