"""Failed runs of a recipe: seeds that collapsed or never rose while their siblings did.

A failed seed says how often a recipe fails, and nothing about the curve of its healthy seeds. It is found from the
evaluations alone, before fitting, so that a posterior of the others is what it would be without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlceiling.models.run_data import RESOLUTION
from rlceiling.runs import Run
from rlceiling.runs.table import FEWEST
from rlceiling.runs.units import Units
from rlceiling.text import number

CLEAR = 6.0
"""Falls and rises are clear from this many robust standard deviations of one evaluation on."""

BEHIND = 0.5
"""A run has collapsed if it has clearly fallen and its gain at its end is smaller than this share of the median gain of
its siblings at the same compute."""

SMALL = 0.25
"""A run never rose if its largest gain is smaller than this share of that of its siblings up to the same compute."""


class _Course(NamedTuple):
    """Course of one run, from the means of neighbouring evaluations."""

    start: float
    highest: float
    last: float
    sd: float
    """Robust standard deviation of one evaluation, from second differences, to which a smooth rise adds little."""
    compute: float
    """Compute at which the highest mean ends."""


def failed_runs(runs: Sequence[Run], units: Units) -> dict[str, str]:
    """Runs that failed while most of their siblings did not.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one recipe, rewards on [0, 1].
    units : Units
        For the unit of compute.

    Returns
    -------
    dict of str to str
        Name of each failed run -> what happened, such as ``"collapsed after 3,000 gpu_hours"``. Empty if half of the
        runs or more failed, for then they are the recipe, and for fewer than three runs.
    """
    if len(runs) < 3:
        return {}
    failed = {}
    for run in runs:
        one = _course(run, run.compute[-1])
        siblings = [_course(other, run.compute[-1]) for other in runs if other is not run]
        known = [sibling for sibling in siblings if sibling is not None]
        if one is None or not known:
            continue
        if _collapsed(one, known):
            failed[run.run] = f"collapsed after {number(one.compute)} {units.compute}"
        elif _never_rose(one, known):
            failed[run.run] = "never rose"
    return failed if 2 * len(failed) < len(runs) else {}


def _course(run: Run, until: float) -> _Course | None:
    """Course of a run up to a compute, or None if it has fewer than four evaluations until then."""
    seen = run.compute <= until
    reward, compute = run.reward[seen], run.compute[seen]
    if len(reward) < FEWEST:
        return None
    means = 0.5 * (reward[1:] + reward[:-1])
    highest = int(np.argmax(means))
    # For independent normal noise a second difference has a standard deviation of sqrt(6), and a median of 1.652.
    sd = max(float(np.median(np.abs(np.diff(reward, 2)))) / 1.652, RESOLUTION)
    start = float(reward[0]) if run.start is None else float(run.start[0])
    return _Course(start, float(means[highest]), float(means[-1]), sd, float(compute[highest + 1]))


def _collapsed(one: _Course, siblings: Sequence[_Course]) -> bool:
    """Whether a run has clearly fallen, and is far behind its siblings since."""
    usual = np.median([sibling.last - sibling.start for sibling in siblings])
    return bool(one.highest - one.last > CLEAR * one.sd and one.last - one.start < BEHIND * usual)


def _never_rose(one: _Course, siblings: Sequence[_Course]) -> bool:
    """Whether a run has gained little where its siblings have clearly risen."""
    gains = [sibling.highest - sibling.start for sibling in siblings]
    clear = np.median([gain / sibling.sd for gain, sibling in zip(gains, siblings, strict=True)]) > CLEAR
    return bool(clear and one.highest - one.start < SMALL * np.median(gains))
