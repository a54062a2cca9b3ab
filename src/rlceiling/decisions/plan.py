"""How to split compute over recipes so that the best one is named with the highest chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rlceiling.decisions.answer import LIKELY, NAMED
from rlceiling.decisions.chances import rank
from rlceiling.decisions.compared import Compared, paired
from rlceiling.decisions.lookup import check_comparable
from rlceiling.decisions.prospects import Naming, allocate, prospect
from rlceiling.errors import DataError, is_finite, listing
from rlceiling.inference.stream_keys import stream_key
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import as_typed, in_words, number

PARTS = 10
"""Number of equal parts of the budget that are given one by one."""

GRID = 72
"""Number of rewards at which distributions are compared."""

PAIRINGS = 5
"""Number of times that each simulated continuation occurs, with others of the other recipes, in a chance that is
stated."""

NO_CHANCE = 0.002
"""Recipes that are the best with a smaller probability get nothing and are not simulated."""

UNFIT = (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID)

SIMPLER = 0.02
"""Half for each of the two most probable recipes is the split unless another one raises the chance by at least this,
about twice its Monte Carlo error: on real runs that rule named the best as often (``benchmarks/calibration``)."""

OPEN = 0.01
"""Wider ranges of a probability are stated instead of the probability, which depends on the prior."""

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

    Arguments, result and errors as of `rlceiling.Fits.plan`.
    """
    check_plan(budget)
    compared = Compared(at)
    check_comparable("plan", fits, compute=True)
    judged = [name for name, fit in fits.items() if fit.verdict not in UNFIT]
    ranks = rank(fits, at=at)
    unit = next(iter(fits.values())).units.compute if fits else "compute"
    rows: dict[str, dict[str, Any]] = {name: dict.fromkeys(COLUMNS, np.nan) | {"give": 0.0} for name in fits}
    if len(judged) > 1:
        for name, own in _shares({name: fits[name] for name in judged}, compared, budget).items():
            rows[name] |= own
    for name, row in rows.items():
        row |= {end: ranks.loc[name, end] for end in ("lower", "upper")}
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
    in_parts = budget * np.arange(1, PARTS + 1) / PARTS
    amounts = np.sort(np.append(in_parts[~np.isclose(in_parts, even)], even))
    prospects = [prospect(fits[name], compared, amounts, places) for name in names]
    amounts = np.r_[0.0, amounts]
    of_parts = [0, *(int(np.abs(amounts - amount).argmin()) for amount in in_parts)]
    cdf = np.stack([own.cdf for own in prospects])
    # The split is chosen with other pairings of simulated continuations than its chances are stated with.
    keys = [stream_key(fits[names[0]].settings.seed, *names, use) for use in ("plan", "stated")]
    search, stated = (
        Naming(cdf, np.random.default_rng(key), pairings) for key, pairings in zip(keys, (1, PAIRINGS), strict=True)
    )
    nothing = [0] * len(names)
    two = nothing.copy()
    for place, leader in enumerate(np.argsort(-search.best(nothing).mean(axis=1), kind="stable")[:2]):
        two[leader] = of_parts[(PARTS + 1 - place) // 2]
    equal = [int(np.abs(amounts - even).argmin())] * len(names)
    chosen = max(allocate(search, of_parts), equal, key=search.chance)
    if search.chance(chosen) - search.chance(two) < SIMPLER:
        chosen = two
    common = {"p_named": stated.chance(nothing), "p_named_plan": stated.chance(chosen)}
    common |= {"p_named_equal": stated.chance(equal), "p_named_two": stated.chance(two)}
    p_now = stated.best(nothing).mean(axis=1)
    found = {}
    for i, name in enumerate(fits):
        # One that is hardly ever the best gets something only if all get the same.
        own = {"give": even * (chosen == equal), "p_best": p_best[i], "sd": drawn[i].std(), "sd_then": drawn[i].std()}
        if name in names:
            place = names.index(name)
            sd, level = prospects[place].sd, chosen[place]
            own = {"give": amounts[level], "p_best": p_now[place], "sd": sd[0], "sd_then": sd[level]}
        found[name] = common | {key: float(value) for key, value in own.items()}
    return found


def _why(fit: Fit, row: Mapping[str, Any], compared: Compared, unit: str) -> str:
    """Reason for the share of a recipe, a sentence without a full stop."""
    if fit.verdict in UNFIT:
        return f"it gets nothing, since its curve cannot be judged: {fit.reason}"
    if np.isnan(row["p_best"]):
        return "there is no other recipe to compare it with"
    what = _what(compared, unit)
    between = f"{row['lower']:.2f} to {row['upper']:.2f}"
    if compared.reason_not_fixed(fit):
        known = f"the data leave its {what} open (chance to be the best {between})"
    elif row["upper"] - row["lower"] > OPEN:
        known = f"its {what} is known; since others are open, its chance to be the best is {between}"
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
    unit, p_best = str(table.columns[0]), table["p_best"].dropna()
    if p_best.empty:
        return "There is nothing to choose between: fewer than two recipes can be judged."
    what = _what(compared, unit)
    given = [f"{name} ({number(amount)})" for name, amount in table["give"].items() if amount]
    more = f"{as_typed(budget)} {unit}"
    chances = [float(table[name].max()) for name in COLUMNS[-4:]]
    now, then, even, two = map(in_words, chances)
    if chances[1] - chances[0] < HARDLY:
        said = (
            f"{more} would hardly change which recipe is named: {p_best.idxmax()} is the best with chance "
            f"{in_words(p_best.max())} now, and the best one would be named with chance {then} after them."
        )
    else:
        order = f"to {given[0]} first, then to {listing(given[1:], NAMED)}" if given[1:] else f"to {given[0]}"
        said = (
            f"Give the next {more} {order}: the chance to name the recipe with the highest {what} rises from {now} to "
            f"{then}; equal shares would make it {even}, and half for each of the two most probable {two}."
        )
    likely = [name for name in open_ if p_best[name] >= LIKELY]
    if likely:
        said += f" The data leave the {what} of {listing(likely, NAMED)} open, so these chances depend on the priors."
    return said
