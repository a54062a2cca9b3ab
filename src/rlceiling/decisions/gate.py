"""Whether a run should go on: the chance that more compute adds enough, and that it ends above the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlceiling.decisions.compared import Compared
from rlceiling.decisions.forecast import level_draws, predict
from rlceiling.errors import DataError, is_finite, unknown_name
from rlceiling.posterior.continuation import continued
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import in_words, number

GO, STOP, UNKNOWN = "go", "stop", "unknown"

OTHERS = "others"
"""Stands for the best of the other recipes."""

MAX_WRONG = 0.1
"""Default of both error rates: a stop or a go is said where it is wrong with at most this probability."""


class Outlook(NamedTuple):
    """What the next compute may bring to one run."""

    p_gain: float
    """Chance that its level rises by at least the gain asked for."""
    gain: tuple[float, float, float]
    """Rise of its level: lower limit, median and upper limit of the 90% interval, in the unit of the reward."""


def outlook(fit: Fit, run: str, add: float, gain: float) -> Outlook:
    """Chance that the level of a run rises by `gain` within `add` more compute.

    The level is the curve of the run and its autocorrelated noise: what an evaluation without its own error would show.
    Beyond the data it has the error of the form of the curve (see `SigmoidPriors.form_error`).
    """
    last = float(fit.runs[fit.place(run)].compute[-1])
    now = np.clip(predict(fit, np.array([last]), run).mean, *fit.units.bounds)
    rise = (level_draws(fit, predict(fit, np.array([last + add]), run), run) - now)[:, 0]
    low, middle, high = (float(q) for q in np.quantile(rise, [0.05, 0.5, 0.95]))
    return Outlook(float(np.mean(rise >= gain)), (low, middle, high))


def gate(
    fits: Mapping[str, Fit],
    add: float,
    gain: float,
    *,
    against: str | None = None,
    at: float | None = None,
    max_wrong_stop: float = MAX_WRONG,
    max_wrong_go: float = MAX_WRONG,
) -> pd.DataFrame:
    """Decide for each run whether `add` more compute is worth it.

    ``stop`` is said if the run rises by at least `gain` with a probability of at most `max_wrong_stop`, and ``go`` if
    it does so with a probability of at least ``1 - max_wrong_go``; between them the answer is ``unknown``. If `against`
    is given, ``stop`` is also said if the recipe ends above it with a probability of at most `max_wrong_stop`, whatever
    the data leave open (see `rlceiling.Chance`).

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    add : float
        Compute to be added to each run, positive, in the unit of the runs.
    gain : float
        Smallest rise of the reward that is worth it, positive, in the unit of the reward.
    against : str, optional
        Recipe that is to be surpassed, or ``"others"`` for the best of the others. Default: only the gain decides.
    at : float, optional
        Budget at which recipes are compared. Default: for good, by their ceilings.
    max_wrong_stop, max_wrong_go : float, default 0.1
        Accepted probabilities that a stop, or a go, is wrong.

    Returns
    -------
    DataFrame
        One row per run. Columns: ``recipe``, ``run``, the compute so far under its own name, ``p_gain``,
        ``gain_lower``, ``gain``, ``gain_upper`` (median and 90% interval of the rise), ``p_above`` (chance to end
        above `against`, or above the best of the others; NaN for a single recipe), ``width`` and ``width_then`` (width
        of the 90% interval of the ceiling now, and its mean after that compute), ``decision`` and ``why``.

    Raises
    ------
    DataError
        If `add` or `gain` is not positive, an error rate is not between 0 and 0.5, or there is no recipe `against`.
    """
    check_gate(add, gain, max_wrong_stop, max_wrong_go)
    if against not in (None, OTHERS) and against not in fits:
        raise unknown_name("this set of fits", "recipe", str(against), fits)
    above = _chances_above(fits, against if against in fits else None, at)
    rows = []
    for name, fit in fits.items():
        for run in fit.run_names:
            last, low, high = float(fit.runs[fit.place(run)].compute[-1]), *fit.interval("A", run=run)[::2]
            row = {"recipe": name, "run": run, fit.units.compute: last}
            if fit.verdict in (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID):
                rows.append(row | {"decision": UNKNOWN, "why": fit.reason})
                continue
            ahead = outlook(fit, run, add, gain)
            lower, middle, upper = ahead.gain
            row |= {"p_gain": ahead.p_gain, "gain_lower": lower, "gain": middle, "gain_upper": upper}
            _, p, high_p = above.get(name, (np.nan,) * 3)
            multiple = 1.0 + add / last
            then = fit.units.width * continued(fit, (multiple,))[multiple].width
            row |= {"p_above": p, "width": high - low, "width_then": min(then, high - low)}
            more = f"chance {in_words(ahead.p_gain)} that {number(add)} more {fit.units.compute} add {gain:g}"
            if against is not None and high_p <= max_wrong_stop:
                rival = against if against in fits else "the best of the others"
                where = "ends above {}" if at is None else f"is above {{}} at {number(at)} {fit.units.compute}"
                decision, why = STOP, f"it {where.format(rival)} with chance at most {high_p:.2g}"
            elif ahead.p_gain <= max_wrong_stop:
                decision, why = STOP, more
            elif ahead.p_gain >= 1.0 - max_wrong_go:
                decision, why = GO, more
            else:
                decision, why = UNKNOWN, more
            rows.append(row | {"decision": decision, "why": why})
    return pd.DataFrame(rows)


def _chances_above(fits: Mapping[str, Fit], against: str | None, at: float | None) -> dict[str, tuple[float, ...]]:
    """Lower limit, value and upper limit of the chance of each recipe to be above one, or above all others."""
    compared, found = Compared(at), {}
    ends = {name: compared.ends(fit) for name, fit in fits.items()}
    drawn = {name: compared.draws(fit) for name, fit in fits.items()}
    number_of = min(own.shape[1] for own in drawn.values())

    def best(of: list[np.ndarray]) -> np.ndarray:
        return np.max([own[:, :number_of] for own in of], axis=0)

    for name in fits:
        others = [other for other in fits if other != name and against in (None, other)]
        if not others:
            continue
        own = [one[:, :number_of] for one in (ends[name][0], drawn[name], ends[name][1])]
        rival = [best([ends[other][1] for other in others]), best([drawn[other] for other in others])]
        rival.append(best([ends[other][0] for other in others]))
        found[name] = tuple(float((a > b).mean()) for a, b in zip(own, rival, strict=True))
    return found


def check_gate(add: float, gain: float, max_wrong_stop: float, max_wrong_go: float) -> None:
    """Raise DataError unless the arguments of `gate` are valid."""
    for name, value in (("add", add), ("gain", gain)):
        if not (is_finite(value) and value > 0):
            raise DataError(f"gate: {name}={value!r} is not a positive number; give one.")
    for name, value in (("max_wrong_stop", max_wrong_stop), ("max_wrong_go", max_wrong_go)):
        if not (is_finite(value) and 0.0 < value < 0.5):
            raise DataError(f"gate: {name}={value!r} is not a probability below 0.5; give one, such as 0.1.")
