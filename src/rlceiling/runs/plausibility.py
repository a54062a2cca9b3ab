"""Signs that evaluations are not what they seem: smoothed, only the best so far, copied, or better when lower."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit
from scipy.stats import rankdata

from rlceiling.curves.least_squares import grid_curves
from rlceiling.errors import listing

FEWEST_SMOOTH, MOST_SMOOTH = 20, 400  # evaluations of a run that are examined
MOST_EXAMINED = 20  # runs: smoothing is a property of an export, and so of all runs in it


def smooth_threshold(n: int) -> float:
    """Rank correlation of neighbouring increments, beside a sigmoid, above which `n` evaluations look smoothed.

    White noise gives -0.5, noise that is autocorrelated along the run more, an exponential moving average with weight w
    about -(1 - w) / 2, and shorter runs scatter more. None of 37 real runs of 20 to 1,074 evaluations lies above it
    (the bundled ones and those of two public studies), and none of 300 simulated runs of 50 evaluations with white
    noise. Of these, smoothed with weights 0.6, 0.8, 0.9 and 0.95, 1%, 22%, 85% and 100% do.
    """
    return -0.2 + 2.2 / n**0.5


FEWEST_RECORDS = 10
RECORD_TIES = 0.3  # share of evaluations that repeat the best so far exactly, as only a record does
FEWEST_FALLING = 6
FALLING = -0.8
"""Rank correlation of reward and compute below which a metric falls."""

BY_CHANCE = 0.01
"""Largest expected number of runs without a trend that are said to fall, unless most runs do."""

FEWEST_COPIED = 6
DECLINED = 0.3  # share of the range by which a run ends below its best; its trend is then no sigmoid
LOWER_IS_BETTER = re.compile(r"(?:^|[/_. -])(?:loss|error|err|perplexity|ppl|kl|wer|cer)(?:$|[/_. -])", re.IGNORECASE)


def plausibility_notes(table: pd.DataFrame, compute: str, reward: str) -> list[str]:
    """Return a note on each sign that is found in some runs.

    Parameters
    ----------
    table : DataFrame
        Evaluations in order, as of `Runs.table`.
    compute, reward : str
        The user's names of the columns.
    """
    found: dict[str, list[str]] = {"smooth": [], "records": [], "falls": [], "copied": []}
    falling: dict[str, float] = {}
    seen: dict[bytes, str] = {}
    examined = 0
    values = table["reward"].to_numpy()
    computes = table["compute"].to_numpy()
    several_runs = table["run"].nunique() > 1
    names = (table["recipe"] + "/" + table["run"] if several_runs else table["recipe"]).to_numpy()
    pairs = table.groupby(["recipe", "run"], sort=False)
    for places in map(np.asarray, pairs.indices.values()):
        name = str(names[places[0]])
        own, at = values[places], computes[places]
        if np.ptp(own) == 0.0:
            continue
        above = own[at > 0]
        examined += len(above) >= FEWEST_SMOOTH
        if (p := _chance_to_fall(own)) < 1.0:
            falling[name] = p
        elif examined <= MOST_EXAMINED and _looks_smoothed(above, at[at > 0]):
            found["smooth"].append(name)
        elif _only_records(own):
            found["records"].append(name)
        if len(above) >= FEWEST_COPIED and np.ptp(above) > 0.0:
            twin = seen.setdefault(above.tobytes(), name)
            if twin != name:
                found["copied"].append(f"{twin} and {name}")
    most = 2 * len(falling) > len(pairs)
    found["falls"] = [name for name, p in falling.items() if most or p < BY_CHANCE / len(pairs)]
    return list(_sentences(found, compute, reward))


def _sentences(found: dict[str, list[str]], compute: str, reward: str) -> Iterable[str]:
    if names := found["smooth"]:
        yield (
            f"{reward} of {listing(names, 4)} looks smoothed: neighbouring increments go together, which the noise of "
            "single evaluations does not do; export it without smoothing, for smoothed values make intervals too narrow"
        )
    if names := found["records"]:
        yield (
            f"{reward} of {listing(names, 4)} never falls: if only new bests were logged, or the best so far, log "
            "every evaluation, for otherwise its noise is not seen"
        )
    if names := found["falls"] or ([""] if LOWER_IS_BETTER.search(reward) else []):
        of = f" of {listing(names, 4)}" if names[0] else ""
        does = f"falls as {compute} grows" if names[0] else "is named like something that is to become small"
        yield f"{reward}{of} {does}: if lower is better, as of a loss, give 1 minus an error rate, or another metric"
    if names := found["copied"]:
        yield f"the same values of {reward} stand in two runs, {listing(names, 3)}: check that one is not a copy"


def _chance_to_fall(reward: NDArray[np.float64]) -> float:
    """Chance that a run without a trend falls as clearly, by its rank correlation; 1 for a run that does not fall."""
    n = len(reward)
    if n < FEWEST_FALLING or reward[-1] >= reward[0]:
        return 1.0
    r = max(float(np.corrcoef(rankdata(reward), np.arange(n))[0, 1]), -1.0 + 1e-9)
    if r >= FALLING:
        return 1.0
    p = float(stats.t.cdf(r * np.sqrt((n - 2) / (1.0 - r**2)), n - 2))
    return max(p, 1.0 / math.factorial(n))  # no order is less probable than one of all


def _only_records(reward: NDArray[np.float64]) -> bool:
    """Whether each value is above all before, or repeats the best so far more often than chance lets it."""
    if len(reward) < FEWEST_RECORDS:
        return False
    steps = np.diff(reward)
    ties = float(np.mean(steps == 0.0))
    saturated = reward[-1] == 1.0 or reward[-1] == 100.0
    return bool((steps >= 0.0).all() and (ties == 0.0 or (ties >= RECORD_TIES and not saturated)))


def _looks_smoothed(reward: NDArray[np.float64], compute: NDArray[np.float64]) -> bool:
    reward, x = reward[:MOST_SMOOTH], np.log(compute[:MOST_SMOOTH])
    if len(reward) < FEWEST_SMOOTH or np.mean(np.diff(reward) == 0.0) > 0.1:
        return False
    if reward.max() - reward[-1] > DECLINED * np.ptp(reward):
        return False
    scaled = 0.2 + 0.6 * (reward - reward.min()) / np.ptp(reward)
    grid = grid_curves(x, scaled, np.geomspace(0.4, 8.0, 14), np.linspace(x[0] - 1.0, x[-1] + 1.0, 24), R0=None)
    best = int(np.argmin(grid.squares))
    trend = grid.R0[best] + grid.gain[best] * expit(grid.B[best] * (x - grid.x_mid[best]))
    increments = rankdata(np.diff(scaled - trend))
    return bool(np.corrcoef(increments[1:], increments[:-1])[0, 1] > smooth_threshold(len(reward)))
