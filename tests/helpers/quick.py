"""Three real recipes fitted with few steps, once for all tests that read them."""

from __future__ import annotations

import rlceiling as rl
import several
from once import once

QUICK = {"chains": 2, "tune": 200, "draws": 300, "rules": several.LENIENT}
"""Few steps; whatever the chains say, the first try counts."""


def fits() -> rl.Fits:
    """Posteriors of the three recipes, all fitted in one call."""
    names = ("ScaleRL", "Magistral", "no-norm")
    return once("quick_fits", lambda: rl.fit(rl.load_dataset("scalerl").select(*names), **QUICK, progress=False))
