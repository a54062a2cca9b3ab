"""Formatting of numbers for tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable

NOT_READ_OFF = "-"
"""Shown instead of a number where the chains have not converged."""


def number(value: float) -> str:
    """Three significant digits, with thousands separators from 1,000 to 10 million: 12,800 or 0.0352 or 2.57e+22."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1000 <= rounded < 1e7 else f"{rounded:.3g}"


def two_digits(value: float) -> str:
    """Two significant digits: 9,400 or 0.35 or 2.1e+20."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if 10 <= rounded < 1e7 else f"{rounded:.3g}"


def probability(value: float) -> str:
    """Probability with two decimals, or ``>0.99`` or ``<0.01``; ``?`` for NaN."""
    if math.isnan(value):
        return "?"
    return ">0.99" if value > 0.995 else "<0.01" if value < 0.005 else f"{value:.2f}"


def percent(probability_: float) -> str:
    """Probability of an interval: "90%", "99.9%"."""
    return f"{100.0 * probability_:.4g}%"


def as_typed(value: float) -> str:
    """A number that somebody typed, with all its digits and thousands separators: 12,345."""
    return f"{value:,.10g}"


def at_least(value: float) -> str:
    """Lower limit of a probability, rounded down: "at least 0.97", "above 0.99"."""
    return "above 0.99" if value >= 0.99 else f"at least {math.floor(100.0 * value) / 100.0:.2f}"


def at_most(value: float) -> str:
    """Upper limit of a probability, rounded up: "at most 0.03", "below 0.01"."""
    return "below 0.01" if value <= 0.01 else f"at most {math.ceil(100.0 * value) / 100.0:.2f}"


def in_words(probability_: float) -> str:
    """Probability inside a sentence: "0.97", "above 0.99", "below 0.01"."""
    return probability(probability_).replace(">", "above ").replace("<", "below ")


def interval(lower: float, middle: float, upper: float, show: Callable[[float], str]) -> tuple[str, str]:
    """Number and its credible interval: "0.605" and "[0.588, 0.630]"."""
    return show(middle), f"[{show(lower)}, {show(upper)}]"


def joined(cell: tuple[str, str]) -> str:
    """Number and its credible interval in one text."""
    return " ".join(filter(None, cell))


def duration(seconds: float) -> str:
    """Approximate duration: "40 s", "12 min", "3.5 h"."""
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"


def shortened(name: str, most: int = 40) -> str:
    """Shorten a name to at most `most` characters: its beginning and its end."""
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - tail - 1]}…{name[-tail:]}"
