"""Whether a run should go on: the chance that more compute adds enough, and that it ends above the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rlceiling.decisions.compared import Compared, paired
from rlceiling.decisions.lookup import check_comparable
from rlceiling.errors import DataError, is_finite, unknown_name
from rlceiling.inference.stream_keys import stream_key
from rlceiling.posterior.continuation import continued
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob, interval_of
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import as_typed, at_most, in_words

GO, STOP, UNKNOWN = "go", "stop", "unknown"

OTHERS = "others"
"""Stands for the best of the other recipes."""

MAX_WRONG = 0.1
"""Default error rate: ``stop`` (or ``go``) is returned only if the posterior probability that it is wrong is at most
this."""


class Outlook(NamedTuple):
    """What the next compute may bring to one run."""

    p_gain: float
    """Chance that its level rises by at least the gain asked for."""
    gain: tuple[float, float, float]
    """Rise of its level: lower credible limit, median and upper limit, in the unit of the reward."""


NO_OUTLOOK = Outlook(np.nan, (np.nan, np.nan, np.nan))
"""Outlook of a run of whose posterior nothing can be read off."""


def outlook(fit: Fit, run: str, add: float, gain: float, prob: float = 0.9) -> Outlook:
    r"""Chance that the level of a run rises by `gain` within `add` more compute.

    The level is the curve of the run and its autocorrelated noise: what an evaluation without its own error would show.
    Given the level now, whose noise has the variance ``v``, the noise then has decayed by
    ``d = exp(-ln((C + add) / C) / length)``, so that the variance of the rise in a draw is
    ``(1 - d**2) share sigma**2 + (1 - d)**2 v`` plus that of the error of the form (see `Fit.form_sd`).

    Parameters
    ----------
    fit : Fit
        Posterior of the recipe.
    run : str
        The run.
    add, gain, prob : float
        As in `gate`.
    """
    from rlceiling.models.paths import paths_at

    last = float(fit.runs[fit.place(run)].compute[-1])
    then = np.array([last + add])
    draws = {name: values.reshape(-1) for name, values in fit.scaled_draws_of(run).items()}
    paths = paths_at(fit.data, fit.place(run), draws, np.array([last, last + add]))
    now, later = (paths.curve + paths.wander).T
    decay = np.exp(-np.log((last + add) / last) / draws["length"])
    moved = (1.0 - decay**2) * draws["share"] * draws["sigma"] ** 2
    moved = moved + (1.0 - decay) ** 2 * np.maximum(paths.wander_var[:, 0], 0.0)
    sd = np.sqrt(moved + fit.form_sd(draws, then, run)[:, 0] ** 2)
    normal = np.random.default_rng(stream_key(fit.settings.seed, fit.name, run, "level")).standard_normal(len(sd))
    rise = fit.units.width * (np.clip(later + sd * normal, 0.0, 1.0) - np.clip(now, 0.0, 1.0))
    return Outlook(float(np.mean(rise >= gain)), interval_of(rise, prob))


def decide(
    fit: Fit,
    run: str,
    add: float,
    gain: float,
    *,
    max_wrong_stop: float = MAX_WRONG,
    max_wrong_go: float = MAX_WRONG,
    prob: float = 0.9,
) -> tuple[str, str, Outlook]:
    """Decide whether a run should go on, by the gain alone; arguments as in `gate`.

    Returns
    -------
    action : {"go", "stop", "unknown"}
        ``unknown`` also where nothing can be read off the posterior.
    why : str
        Reason, one sentence without a full stop.
    outlook : Outlook
        What the decision follows from; NaN where nothing can be read off the posterior.
    """
    if fit.verdict in (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID):
        return UNKNOWN, fit.reason, NO_OUTLOOK
    ahead = outlook(fit, run, add, gain, prob)
    action = STOP if ahead.p_gain <= max_wrong_stop else GO if ahead.p_gain >= 1.0 - max_wrong_go else UNKNOWN
    return action, f"chance {in_words(ahead.p_gain)} that {as_typed(add)} more {fit.units.compute} add {gain:g}", ahead


COLUMNS = ("p_gain", "gain_lower", "gain", "gain_upper", "p_above", "above_lower", "above_upper", "width", "width_then")
"""Columns of `gate` that hold numbers; NaN where nothing can be said."""


def gate(
    fits: Mapping[str, Fit],
    add: float,
    gain: float,
    *,
    against: str | None = None,
    at: float | None = None,
    max_wrong_stop: float = MAX_WRONG,
    max_wrong_go: float = MAX_WRONG,
    prob: float = 0.9,
) -> pd.DataFrame:
    """Decide for each run whether `add` more compute is worth it.

    Arguments, result and errors as of `rlceiling.Fits.gate`.
    """
    check_gate(add, gain, max_wrong_stop, max_wrong_go)
    check_prob("gate", prob)
    check_comparable("gate", fits, compute=True)
    check_against(against, "this set of fits", fits)
    compared = Compared(at)
    above = {} if against is None else _chances_above(fits, against if against in fits else None, compared)
    unit = next(iter(fits.values())).units.compute if fits else "compute"
    asked = {"max_wrong_stop": max_wrong_stop, "max_wrong_go": max_wrong_go, "prob": prob}
    rows: list[dict[str, Any]] = []
    for name, fit in fits.items():
        of_recipe: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
        if fit.verdict not in (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID):
            low, _, high = fit.interval("A")
            multiple = 1.0 + add / fit.largest_compute
            then = fit.units.width * continued(fit, (multiple,))[multiple].width
            of_recipe |= {"width": high - low, "width_then": then} | above.get(name, {})
        for run in fit.run_names:
            action, why, (p_gain, (lower, middle, upper)) = decide(fit, run, add, gain, **asked)
            row = {"recipe": name, "run": run, unit: float(fit.runs[fit.place(run)].compute[-1]), **of_recipe}
            row |= {"p_gain": p_gain, "gain_lower": lower, "gain": middle, "gain_upper": upper}
            row |= {"decision": action, "why": why}
            if row["above_upper"] <= max_wrong_stop:
                rival = against if against in fits else "the best of the others"
                where = "ends above {}" if at is None else f"is above {{}} at {as_typed(at)} {unit}"
                row |= {"decision": STOP, "why": f"it {where.format(rival)} with chance {at_most(row['above_upper'])}"}
            rows.append(row)
    return pd.DataFrame(rows, columns=["recipe", "run", unit, *COLUMNS, "decision", "why"])


def _chances_above(fits: Mapping[str, Fit], against: str | None, compared: Compared) -> dict[str, dict[str, float]]:
    """Chance of each recipe to be above one, or above all others, and its range."""
    names, found = list(fits), {}
    lower, drawn, upper = (
        paired([own[i] for own in (compared.all_of(fits[name]) for name in names)]) for i in range(3)
    )
    open_ = [bool(compared.reason_not_fixed(fits[name])) for name in names]
    for i, name in enumerate(names):
        others = [j for j, other in enumerate(names) if j != i and against in (None, other)]
        if not others:
            continue
        p = float((drawn[i] > drawn[others].max(axis=0)).mean())
        found[name] = {
            "p_above": np.nan if open_[i] or any(open_[j] for j in others) else p,
            "above_lower": float((lower[i] > upper[others].max(axis=0)).mean()),
            "above_upper": float((upper[i] > lower[others].max(axis=0)).mean()),
        }
    return found


def check_against(against: str | None, holder: str, recipes: Collection[str]) -> None:
    """Raise DataError unless a rival is None, `OTHERS`, or one of these recipes; `holder` says what has them."""
    if against not in (None, OTHERS) and against not in recipes:
        raise unknown_name(holder, "recipe", str(against), recipes)


def check_gate(add: float, gain: float, max_wrong_stop: float, max_wrong_go: float) -> None:
    """Raise DataError unless the arguments of `gate` are valid."""
    for name, value in (("add", add), ("gain", gain)):
        if not (is_finite(value) and value > 0):
            raise DataError(f"gate: {name}={value!r} is not a positive number; give one.")
    for name, value in (("max_wrong_stop", max_wrong_stop), ("max_wrong_go", max_wrong_go)):
        if not (is_finite(value) and 0.0 < value < 0.5):
            raise DataError(f"gate: {name}={value!r} is not a probability below 0.5; give one, such as 0.1.")
