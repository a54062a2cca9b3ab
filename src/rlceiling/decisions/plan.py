"""How to split compute over recipes, and the chance to name the best one then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rlceiling.decisions.chances import rank
from rlceiling.decisions.compared import Compared
from rlceiling.decisions.lookup import check_comparable
from rlceiling.decisions.prospects import foreseen
from rlceiling.errors import DataError, is_finite
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import as_typed, in_words, number

UNFIT = (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID)

OPEN = 0.01
"""Wider ranges of a probability are stated instead of the probability, which depends on the prior."""

HARDLY = 0.01
"""Smaller rises of the chance to name the best are not worth a sentence."""

COLUMNS = ("give", "p_best", "lower", "upper", "sd", "sd_then", "p_named", "p_named_plan", "p_named_equal")
"""Columns of `plan` that hold numbers, after the compute so far."""

LIKELY = 0.05
"""Smallest posterior probability of the highest ceiling with which a recipe is named."""

NAMED = 4
"""Largest number of recipes that are named one by one; larger groups are counted, and some of them listed."""


def plan(fits: Mapping[str, Fit], budget: float, *, at: float | None = None) -> pd.DataFrame:
    """Split compute over recipes so that the best one is named with a high chance.

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
        of = {name: fits[name] for name in judged}
        p_best = rank(of, at=at, include_inconclusive=True)["p_best"].loc[judged].to_numpy()
        for name, own in _shares(of, compared, budget, p_best).items():
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


def _shares(
    fits: Mapping[str, Fit], compared: Compared, budget: float, p_best: np.ndarray
) -> dict[str, dict[str, float]]:
    """Share of each recipe, with its chances and the chances to name the best.

    Simulated chances come from fewer draws than `p_best`. They are shifted by the difference that this makes today.
    """
    even, half = budget / len(fits), budget / 2.0
    naming, sd = foreseen(fits, compared, np.unique([even, half]))
    # Amounts are none, an equal share and half; with two recipes the last two are the same.
    nothing, equal, halves = [0] * len(fits), [1] * len(fits), [0] * len(fits)
    shift = p_best.max() - naming.chance(nothing)
    for leader in np.argsort(-p_best, kind="stable")[:2]:
        halves[leader] = sd.shape[1] - 1
    chances = {
        "p_named": float(p_best.max()),
        "p_named_plan": float(np.clip(naming.chance(halves) + shift, 0.0, 1.0)),
        "p_named_equal": float(np.clip(naming.chance(equal) + shift, 0.0, 1.0)),
    }
    return {
        name: chances
        | {
            "give": half * bool(level),
            "p_best": float(p_best[i]),
            "sd": float(sd[i, 0]),
            "sd_then": float(sd[i, level]),
        }
        for i, (name, level) in enumerate(zip(fits, halves, strict=True))
    }


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
        return f"{known}; two others are more probably the best"
    narrower = f"the standard deviation of its {what} is {number(row['sd'])}"
    return f"{known}; {narrower}, and expected to be {number(row['sd_then'])} then"


def _what(compared: Compared, unit: str) -> str:
    """Name of the compared quantity in a sentence."""
    return "ceiling" if compared.at is None else f"curve at {as_typed(compared.at)} {unit}"


def in_sentence(names: Sequence[str]) -> str:
    """Names in a sentence: "a", "a and b", "a, b and c", "a, b, c, d and 2 more"."""
    shown = [*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _sentence(table: pd.DataFrame, budget: float, open_: Sequence[str], compared: Compared) -> str:
    """The plan in words."""
    unit, p_best = str(table.columns[0]), table["p_best"].dropna()
    if p_best.empty:
        return "There is nothing to choose between: fewer than two recipes can be judged."
    what = _what(compared, unit)
    given = [f"{name} ({number(amount)})" for name, amount in table["give"].items() if amount]
    more = f"{as_typed(budget)} {unit}"
    chances = [float(table[name].max()) for name in COLUMNS[-3:]]
    now, then, even = map(in_words, chances)
    if chances[1] - chances[0] < HARDLY:
        said = (
            f"{more} would hardly change which recipe is named: {p_best.idxmax()} is the best with chance "
            f"{in_words(p_best.max())} now, and the best one would be named with chance {then} after them."
        )
    else:
        said = (
            f"Give the next {more} to {' and '.join(given)}: the chance to name the recipe with the highest {what} "
            f"rises from {now} to {then}; equal shares would make it {even}."
        )
    likely = [name for name in open_ if p_best[name] >= LIKELY]
    if likely:
        said += f" The data leave the {what} of {in_sentence(likely)} open, so these chances depend on the priors."
    return said
