"""Recipes of every verdict, made by hand, for tests of what is shown of them."""

from __future__ import annotations

from dataclasses import replace

import rlceiling as rl
from handmade import made_recipe

CEILINGS = {"low": 0.58, "best": 0.65, "close": 0.645, "early": 0.7, "flat": 0.6, "apart": 0.6}
KNOWN = ("best", "close", "low")
"""Identified ones, from the highest ceiling down."""

RULES = {
    "early": rl.VerdictRules(min_p_reach=1.1),
    "flat": rl.VerdictRules(min_p_rise=1.1),
    "apart": rl.VerdictRules(min_ess=1e9),
}
VERDICTS = {"early": "PRE_INFLECTION", "flat": "NO_RISE", "apart": "NOT_CONVERGED"}


def made_fits() -> rl.Fits:
    """Three recipes that are identified, and one of each verdict that comes before it."""
    made = {name: made_recipe(name, [ceiling]) for name, ceiling in CEILINGS.items()}
    fits = rl.Fits([replace(fit, rules=RULES.get(name, fit.rules)) for name, fit in made.items()])
    assert {n: v.name for n, v in fits.verdicts.items()} == {n: VERDICTS.get(n, "IDENTIFIED") for n in CEILINGS}
    return fits
