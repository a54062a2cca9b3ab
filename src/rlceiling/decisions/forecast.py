"""Forecasts of the reward at any compute, for the curve and for a new evaluation, and the compute a reward needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from rlceiling.curves.sigmoid import sigmoid_compute, sigmoid_curve
from rlceiling.decisions.lookup import check_of
from rlceiling.errors import DataError, is_finite
from rlceiling.inference.stream_keys import stream_key
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.verdicts import Verdict

# JAX and the models are imported by the forecasts, which the chances beside them do not need.

OF = ("recipe", "new run", "runs")

SURELY_REACHED = 0.95
"""Chance of having reached a target within the data from which a recipe without a known ceiling is answered."""


class Predictive(NamedTuple):
    """What each posterior draw says of m places; arrays of shape (chains * draws, m) in the user's units."""

    curve: np.ndarray
    """Mean reward ``R(C)``: of the run, or of the recipe."""
    mean: np.ndarray
    """Mean of a new evaluation. Of a run: its curve, plus the correlated noise carried on from the evaluations around,
    which fades over `length` in ln C. Of a recipe: the curve of a new run of it."""
    sd: np.ndarray
    """Standard deviation of a new evaluation around that: what is not known of the correlated noise, white noise and
    evaluation error."""


def predict(fit: Fit, compute: np.ndarray, run: str | None = None) -> Predictive:
    """Curve and new evaluation by posterior draw.

    Parameters
    ----------
    fit : Fit
        Posterior of the recipe.
    compute : ndarray, shape (m,)
        Positive.
    run : str, optional
        Run of the recipe that goes on. Default: the recipe, and a new run of it.
    """
    from rlceiling.models.paths import paths_at, usual_eval_var

    units = fit.units
    if run is not None:
        flat = {name: values.reshape(-1) for name, values in fit.scaled_draws_of(run).items()}
        paths = paths_at(fit.data, fit.place(run), flat, compute)
        sd = np.sqrt(paths.wander_var + paths.white_var)
        return Predictive(units.unscale(paths.curve), units.unscale(paths.curve + paths.wander), units.width * sd)
    draws = {name: values.reshape(-1, 1) for name, values in fit.scaled_draws.items()}
    A, B, C_mid, R0, headroom = (draws[name] for name in ("A", "B", "C_mid", "R0", "headroom"))
    rng = np.random.default_rng(stream_key(fit.settings.seed, fit.name, "new run"))
    pooling = fit.family.pooling
    offset = {name: pooling.draw_new(name, draws, rng.standard_normal(A.shape)) for name in pooling.parameters}
    own_A = R0 + (1.0 - R0) * expit(logit(headroom) + offset["headroom"])
    mean = sigmoid_curve(compute, own_A, B * np.exp(offset["B"]), C_mid * np.exp(offset["C_mid"]), R0)
    # The new run is evaluated like the longest of those there are.
    eval_var = usual_eval_var(fit.data.run(int(fit.data.order[0])))
    sd = np.sqrt(draws["sigma"] ** 2 + eval_var)
    curve = sigmoid_curve(compute, A, B, C_mid, R0)
    return Predictive(units.unscale(curve), units.unscale(mean), units.width * np.broadcast_to(sd, mean.shape))


def predictive_draws(fit: Fit, compute: np.ndarray, run: str | None = None) -> tuple[Predictive, np.ndarray]:
    """Forecast by draw, and a new evaluation kept inside the bounds.

    Parameters
    ----------
    fit, compute, run
        As in `predict`.

    Returns
    -------
    predictive : Predictive
    new : ndarray, shape (chains * draws, m)
    """
    predictive = predict(fit, compute, run)
    key = stream_key(fit.settings.seed, fit.name, *(() if run is None else (run,)), "forecast")
    normal = np.random.default_rng(key).standard_normal(predictive.mean.shape)
    return predictive, np.clip(predictive.mean + predictive.sd * normal, *fit.units.bounds)


def forecast(
    fits: Mapping[str, Fit], compute: float | Sequence[float], prob: float = 0.9, *, of: str = "recipe"
) -> pd.DataFrame:
    """Reward of each recipe, of a new run of it, or of each of its runs at a compute.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    compute : float or sequence of float
        Where, positive, in the unit of the runs. Beyond the data it is an extrapolation along the sigmoid.
    prob : float, default 0.9
        Probability of the equal-tailed intervals.
    of : {"recipe", "new run", "runs"}, default "recipe"
        Whose curve: that of the recipe, around which its runs lie; that of one more run of it; or those of the runs
        there are, a row each. The new evaluation is one of a new run for the first two, and of the run that goes on
        for the last.

    Returns
    -------
    DataFrame
        A row a recipe (and run) and compute. Columns: ``recipe``, ``run`` for ``of="runs"``, the compute under its own
        name, ``mean``, ``lower``, ``upper`` of the curve, ``new_mean``, ``new_lower``, ``new_upper`` of a new
        evaluation (the unit of the reward), and the ``verdict``: the forecast of a recipe whose ceiling is not known
        is wide and leans on the prior, and one from chains that do not agree is void.

    Raises
    ------
    DataError
        If a compute is not positive and finite, `prob` not between 0 and 1, or `of` none of those.
    """
    check_prob("forecast", prob)
    check_of("forecast", of, OF)
    where = check_compute(compute)
    tails = [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0]
    tables = []
    for name, fit in fits.items():
        for run in fit.run_names if of == "runs" else [None]:
            predictive, new = predictive_draws(fit, where, run)
            curve = predictive.mean if of == "new run" else predictive.curve
            columns: dict[str, object] = {"recipe": name, **({} if run is None else {"run": run})}
            columns[fit.units.compute] = where
            for prefix, draws in (("", curve), ("new_", new)):
                lower, upper = np.quantile(draws, tails, axis=0)
                columns |= {f"{prefix}mean": draws.mean(axis=0), f"{prefix}lower": lower, f"{prefix}upper": upper}
            tables.append(pd.DataFrame({**columns, "verdict": fit.verdict.name}))
    return pd.concat(tables, ignore_index=True)


def compute_to_reach(fits: Mapping[str, Fit], target: float, prob: float = 0.9) -> pd.DataFrame:
    """Compute at which each recipe's curve reaches a reward.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    target : float
        Reward of the mean curve, strictly inside the bounds, in the user's unit.
    prob : float, default 0.9
        Probability of the equal-tailed interval.

    Returns
    -------
    DataFrame
        Index: recipe. Columns: the compute under its own name, ``lower`` and ``upper``: median and interval, infinite
        where the target is out of reach and 0 where the start is above it; ``p_never``, the chance that the ceiling
        lies below it; ``supported``, whether the data carry that far, and the ``reason`` if they do not. Without a
        known ceiling they do so only for a target that was reached within the data. Where the chains do not agree, or
        there is no sigmoid, the numbers are NaN.

    Raises
    ------
    DataError
        If the target lies outside the bounds of a recipe, or `prob` not between 0 and 1.
    """
    check_prob("compute_to_reach", prob)
    tail = (1.0 - prob) / 2.0
    rows = {}
    for name, fit in fits.items():
        compute = draws_to_reach(fit, target)
        within = fit.verdict is Verdict.PRE_INFLECTION and np.mean(compute <= fit.largest_compute) >= SURELY_REACHED
        reason = "" if within else fit.reason
        if fit.verdict in (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID):
            lower = median = upper = p_never = np.nan
        else:
            # An interval may end at infinity, between which numpy cannot interpolate.
            lower, median, upper = np.quantile(compute, [tail, 0.5, 1.0 - tail], method="inverted_cdf")
            p_never = float(np.isinf(compute).mean())
        row = {fit.units.compute: median, "lower": lower, "upper": upper, "p_never": p_never}
        rows[name] = row | {"supported": not reason, "reason": reason}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("recipe")


def draws_to_reach(fit: Fit, target: float) -> np.ndarray:
    """Compute at which the recipe's curve reaches a reward, by posterior draw; raises unless it can be asked."""
    check_target(target, fit.units.bounds)
    A, B, C_mid, R0 = (fit.draws[name].reshape(-1) for name in ("A", "B", "C_mid", "R0"))
    return np.asarray(sigmoid_compute(target, A, B, C_mid, R0))


def check_target(target: float, bounds: tuple[float, float]) -> None:
    """Raise unless a reward lies strictly inside its bounds."""
    low, high = bounds
    if not (is_finite(target) and low < target < high):
        raise DataError(
            f"target={target!r} is not inside the bounds of the reward, {low:g} to {high:g}; give a reward that is."
        )


def check_compute(compute: float | Sequence[float]) -> np.ndarray:
    """Compute values as an array; raises unless they are positive and finite."""
    try:
        where = np.atleast_1d(np.asarray(compute, dtype=float))
    except (TypeError, ValueError):
        raise DataError(f"forecast: compute {compute!r} is not a number; give a positive one.") from None
    bad = where[~(np.isfinite(where) & (where > 0))]
    if where.ndim != 1 or not len(where):
        raise DataError(f"forecast: compute {compute!r} is not a number or a list of them; give positive numbers.")
    if len(bad):
        raise DataError(
            f"forecast: compute {bad[0]:g} is not positive and finite; give a compute above 0 in the unit of the runs."
        )
    return where
