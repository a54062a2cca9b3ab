"""All forms of learning curve, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rlceiling.curves.burr import BURR
from rlceiling.curves.curve import Curve
from rlceiling.curves.log_linear import LOG_LINEAR
from rlceiling.curves.power_law import POWER_LAW
from rlceiling.curves.sigmoid import SIGMOID

_ALL = (
    SIGMOID,
    BURR,
    POWER_LAW,
    LOG_LINEAR,
)

CURVES: Mapping[str, Curve] = MappingProxyType({curve.name: curve for curve in _ALL})
"""Name -> curve. ``tests/test_curve_registry.py`` checks every curve that is listed here."""
