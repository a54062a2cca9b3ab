"""Units of a hierarchical model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlceiling.runs import Run


class Unit(NamedTuple):
    """A unit of a hierarchical model, which has a curve of its own: one run of a recipe, or all runs of one size."""

    name: str
    runs: tuple[Run, ...]
    covariate: float = np.nan
    """Covariate on which its parameters depend, such as the model size; NaN if there is none."""
