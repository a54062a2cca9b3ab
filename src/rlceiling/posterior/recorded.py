"""Diagnostics and verdict checks stored with the draws, so that they need not be recomputed when a file is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import numpy as np

from rlceiling.inference.convergence import Convergence
from rlceiling.settings import Settings


class Recorded(NamedTuple):
    """Diagnostics and verdict checks that were computed before the draws were stored."""

    convergence: Convergence
    checks: Mapping[str, Any]
    """Verdict checks by run, as dataclasses."""
    thresholds: Mapping[str, float]
    """Thresholds that the checks depend on; with other thresholds the checks are recomputed."""
    outlook: Mapping[float, float] | None = None
    """Chances that the ceiling is identified after longer runs, under the rules in the file; None if not stored."""
    own_share: float = 1.0
    """Share of the information on the ceiling that the recipe's own evaluations give."""
    unlike: Mapping[str, float] = {}
    """Probabilities that the recipe is unlike those from which its priors were learned."""


class Stored(NamedTuple):
    """Content of the file of one posterior."""

    described: Mapping[str, Any]
    """Everything except draws and evaluations, from `Posterior.describe`."""
    evaluations: Mapping[str, np.ndarray]
    """Evaluations of all runs, rewards in the user's units."""
    draws: dict[str, np.ndarray]
    unit_draws: dict[str, np.ndarray]
    sample_stats: dict[str, np.ndarray]

    def common_fields(self, kind_of_checks: type) -> dict[str, Any]:
        """Fields that all posteriors have; files of earlier versions hold no diagnostics, which are then recomputed."""
        described, recorded = self.described, None
        if "checks" in described:
            names = {field.name for field in fields(kind_of_checks)}
            checks, thresholds = described["checks"], described["thresholds"]
            if any(set(one) != names for one in checks.values()):  # of a version with other checks
                checks, thresholds = {}, {}
            recorded = Recorded(
                from_plain(Convergence, described["convergence"]),
                {run: from_plain(kind_of_checks, one) for run, one in checks.items()},
                thresholds,
                {float(k): v for k, v in described["outlook"].items()} if "outlook" in described else None,
                described.get("own_share", 1.0),
                described.get("unlike", {}),
            )
        return {
            "settings": Settings(**described["settings"]),
            "draws": self.draws,
            "unit_draws": self.unit_draws,
            "sample_stats": self.sample_stats,
            "recorded": recorded,
        }


def plain(record: Any) -> dict[str, Any]:
    """Convert a dataclass of numbers to a dict for JSON, in which non-finite numbers are written as text."""
    return {k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in asdict(record).items()}


def known_fields(kind: type, written: Mapping[str, Any]) -> Any:
    """Make a dataclass from what a file holds; fields that other versions have had are left out."""
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in written.items() if name in names})


def from_plain(kind: type, written: Mapping[str, Any]) -> Any:
    """Inverse of `plain`."""
    return kind(**{k: _value(v) for k, v in written.items()})


def _value(written: Any) -> Any:
    if isinstance(written, list):
        return tuple(written)
    return float(written) if isinstance(written, str) else written
