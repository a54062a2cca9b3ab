"""Slow checks, each of which also runs in miniature, by default, so that none can break unseen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pandas as pd

in_miniature_too = pytest.mark.parametrize(
    "full", [pytest.param(False, id="miniature"), pytest.param(True, id="full", marks=pytest.mark.slow)]
)
"""Runs a test twice: with `full` true, as a slow one, and false, when it has few and short fits to go through all its
lines and claims what can be claimed of those."""


def are_ranks(ranks: pd.DataFrame, number: int, quantities: Iterable[str]) -> bool:
    """Whether these are ranks on [0, 1] of so many truths."""
    within = ranks.notna().all(axis=None) and ranks.min(axis=None) >= 0.0 and ranks.max(axis=None) <= 1.0
    return bool(within) and ranks.shape == (number, len(set(quantities))) and set(ranks) == set(quantities)


def without_miniature(items: Iterable[pytest.Item]) -> list[str]:
    """Names of slow tests of which no miniature is among these items."""
    slow, quick = set(), set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        (slow if item.get_closest_marker("slow") else quick).add(name)
    return sorted(slow - quick)
