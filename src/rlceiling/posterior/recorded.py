"""Diagnostics and verdict checks as they are stored with draws, so that a file need not be judged again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from rlceiling.inference.convergence import Convergence


class Recorded(NamedTuple):
    """What was computed from the draws before they were stored."""

    convergence: Convergence
    checks: Mapping[str, Any]
    """Verdict checks by run, as dataclasses."""
    thresholds: Mapping[str, float]
    """Thresholds that the checks depend on; with others they are computed again."""


def plain(record: Any) -> dict[str, Any]:
    """A dataclass of numbers for JSON, in which numbers that are not finite are written as text."""
    return {k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in asdict(record).items()}


def from_plain(kind: type, written: Mapping[str, Any]) -> Any:
    """Inverse of `plain`."""
    return kind(**{k: float(v) if isinstance(v, str) else v for k, v in written.items()})
