"""Diagnostics and verdict checks stored with the draws, so that they need not be recomputed when a file is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from rlceiling.inference.convergence import Convergence


class Recorded(NamedTuple):
    """Diagnostics and verdict checks that were computed before the draws were stored."""

    convergence: Convergence
    checks: Mapping[str, Any]
    """Verdict checks by run, as dataclasses."""
    thresholds: Mapping[str, float]
    """Thresholds that the checks depend on; with other thresholds the checks are recomputed."""


def plain(record: Any) -> dict[str, Any]:
    """Convert a dataclass of numbers to a dict for JSON, in which non-finite numbers are written as text."""
    return {k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in asdict(record).items()}


def from_plain(kind: type, written: Mapping[str, Any]) -> Any:
    """Inverse of `plain`."""
    return kind(**{k: float(v) if isinstance(v, str) else v for k, v in written.items()})
