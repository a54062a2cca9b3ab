"""Numbers as they are shown to people."""

from __future__ import annotations

import math
from collections.abc import Callable

from rlceiling.posterior.fit import Fit, Units
from rlceiling.posterior.verdicts import Verdict


def number(value: float) -> str:
    """Three significant digits, with thousands separators where they help: 12,800 or 0.0352 or 2.57e+22."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1000 <= rounded < 1e7 else f"{rounded:.3g}"


def reward(value: float, units: Units) -> str:
    """A reward to a thousandth of its range: 0.605 between 0 and 1, 60.5 between 0 and 100."""
    return f"{value:.{max(0, 3 - round(math.log10(units.width)))}f}"


def probability(value: float) -> str:
    """A chance with two decimals at most, ``?`` where it is not known."""
    if math.isnan(value):
        return "?"
    return ">0.99" if value > 0.995 else "<0.01" if value < 0.005 else f"{value:.2f}"


def interval(lower: float, middle: float, upper: float, show: Callable[[float], str]) -> tuple[str, str]:
    """A number and its interval: "0.605" and "[0.588, 0.630]"."""
    return show(middle), f"[{show(lower)}, {show(upper)}]"


def ceiling(fit: Fit, prob: float = 0.9, run: str | None = None) -> tuple[str, str]:
    """Median and interval of the ceiling of a recipe, or a run; no median and parentheses unless it is identified."""
    lower, median, upper = (reward(v, fit.units) for v in fit.interval("A", prob, run))
    if fit.verdict is Verdict.IDENTIFIED:
        return median, f"[{lower}, {upper}]"
    return "", f"({lower} to {upper})"
