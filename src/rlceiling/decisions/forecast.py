"""Forecasts of the curve and of a new evaluation (posterior predictive) at any compute, and compute to a reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from rlceiling.curves.stages import staged_compute, staged_curve
from rlceiling.decisions.lookup import check_of
from rlceiling.errors import DataError, is_finite
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.run_data import usual_eval_var
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.predictive_checks import thinned
from rlceiling.posterior.verdicts import Verdict

# JAX and the models are imported by the forecasts, which the chances beside them do not need.

OF = ("recipe", "new run", "runs")

PLOTTED_DRAWS = 1000
"""Number of draws behind the bands of plots."""

SURELY_REACHED = 0.95
"""Posterior probability, of having reached a target within the data, from which `compute_to_reach` is supported for a
recipe whose ceiling is not identified."""


class Predictive(NamedTuple):
    """Prediction of each posterior draw at m points; arrays of shape (chains * draws, m) in the user's units."""

    curve: np.ndarray
    """Mean reward ``R(C)`` of the run, or of the recipe, with the error of its form beyond the data, within the bounds
    of the reward."""
    mean: np.ndarray
    """Mean of a new evaluation (posterior predictive). For a run: its curve plus the conditional mean of the
    autocorrelated noise given the run's evaluations, which decays over `length` in ln C. For a recipe: the curve of a
    new run."""
    sd: np.ndarray
    """Standard deviation of a new evaluation around that mean: the remaining uncertainty of the autocorrelated noise,
    white noise, evaluation error, and beyond the data the error of the form."""
    level_sd: np.ndarray | float = 0.0
    """Standard deviation around that mean of the level of a run: its curve, the error of the form beyond the data, and
    the autocorrelated noise."""


def predict(fit: Fit, compute: np.ndarray, run: str | None = None, *, draws: int | None = None) -> Predictive:
    """Curve and new evaluation (posterior predictive) for every posterior draw.

    Parameters
    ----------
    fit : Fit
        Posterior of the recipe.
    compute : ndarray, shape (m,)
        Compute values, positive.
    run : str, optional
        Run of the recipe that is continued. Default: the curve of the recipe, and a new run.
    draws : int, optional
        Approximate number of draws to use for a run. Default: all.
    """
    units = fit.units
    if run is not None:
        from rlceiling.models.paths import paths_at

        flat = {name: values.reshape(-1) for name, values in fit.scaled_draws_of(run).items()}
        flat = flat if draws is None else thinned(flat, draws)
        paths = paths_at(fit.data, fit.place(run), flat, compute)
        form_sd = fit.form_sd(flat, compute, run)
        level_var = paths.wander_var + form_sd**2
        sd, level_sd = np.sqrt(level_var + paths.white_var), np.sqrt(level_var)
        curve = np.clip(units.unscale(paths.curve + fit.off_form(flat, compute, run)), *units.bounds)
        mean = units.unscale(paths.curve + paths.wander)
        return Predictive(curve, mean, units.width * sd, units.width * level_sd)
    of_recipe = {name: values.reshape(-1, 1) for name, values in fit.scaled_draws.items()}
    B, C_mid, R0, headroom = (of_recipe[name] for name in ("B", "C_mid", "R0", "headroom"))
    rng = np.random.default_rng(stream_key(fit.settings.seed, fit.name, "new run"))
    pooling = fit.family.pooling
    offset = {name: pooling.draw_new(name, of_recipe, rng) for name in pooling.parameters}
    own = {"A": R0 + (1.0 - R0) * expit(logit(headroom) + offset["headroom"])}
    own |= {"B": B * np.exp(offset["B"]), "C_mid": C_mid * np.exp(offset["C_mid"])}
    off_form = fit.off_form(of_recipe, compute)
    mean = staged_curve(compute, of_recipe | own, fit.begins) + off_form
    # A new run has the evaluation error of the longest run.
    eval_var = usual_eval_var(fit.data.run(int(fit.data.order[0])))
    own_sigma = of_recipe["sigma"] * np.exp(offset["sigma"])
    sd = np.sqrt(own_sigma**2 + eval_var)
    curve = staged_curve(compute, of_recipe, fit.begins) + off_form
    level_sd = np.sqrt(of_recipe["share"]) * own_sigma
    sds = (units.width * np.broadcast_to(one, mean.shape) for one in (sd, level_sd))
    return Predictive(np.clip(units.unscale(curve), *units.bounds), units.unscale(mean), *sds)


def predictive_draws(fit: Fit, compute: np.ndarray, run: str | None = None) -> tuple[Predictive, np.ndarray]:
    """Prediction and one draw of a new evaluation, clipped to the bounds of the reward, for every posterior draw.

    Parameters
    ----------
    fit, compute, run
        As in `predict`.

    Returns
    -------
    predictive : Predictive
        Curve, and mean and standard deviation of a new evaluation.
    new : ndarray, shape (chains * draws, m)
        Draws of a new evaluation, in the user's units.
    """
    predictive = predict(fit, compute, run)
    key = stream_key(fit.settings.seed, fit.name, *(() if run is None else (run,)), "forecast")
    normal = np.random.default_rng(key).standard_normal(predictive.mean.shape)
    return predictive, np.clip(predictive.mean + predictive.sd * normal, *fit.units.bounds)


def level_draws(fit: Fit, predictive: Predictive, run: str) -> np.ndarray:
    """Level of a run that goes on, for every posterior draw, clipped to the bounds of the reward."""
    key = stream_key(fit.settings.seed, fit.name, run, "level")
    normal = np.random.default_rng(key).standard_normal(predictive.mean.shape)
    return np.clip(predictive.mean + predictive.level_sd * normal, *fit.units.bounds)


def level_ahead(fit: Fit, compute: np.ndarray, prob: float) -> tuple[np.ndarray, ...]:
    """Level of the single run of a recipe as it goes on, for plots: lower limit, median and upper limit.

    Points share one standard normal number per draw, so that the limits are smooth in compute.

    Parameters
    ----------
    fit : Fit
        Posterior of a recipe with one run.
    compute : ndarray, shape (m,)
        Compute values, in ascending order, from the last evaluation on.
    prob : float
        Probability of the pointwise interval.
    """
    (run,) = fit.run_names
    predictive = predict(fit, compute, run, draws=PLOTTED_DRAWS)
    normal = np.random.default_rng(stream_key(fit.settings.seed, fit.name, run, "level")).standard_normal
    level = predictive.mean + predictive.level_sd * normal((len(predictive.mean), 1))
    tail = (1.0 - prob) / 2.0
    return tuple(np.quantile(np.clip(level, *fit.units.bounds), [tail, 0.5, 1.0 - tail], axis=0))


def forecast(
    fits: Mapping[str, Fit], compute: float | Sequence[float], prob: float = 0.9, *, of: str | None = None
) -> pd.DataFrame:
    """Reward of the run that goes on, of each recipe, of a new run of it, or of each of its runs at a compute.

    Arguments, result and errors as of `rlceiling.Fits.forecast`.
    """
    check_prob("forecast", prob)
    if of is not None:
        check_of("forecast", of, OF)
    where = check_compute(compute)
    tails = [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0]
    tables = []
    for name, fit in fits.items():
        goes_on = of is None and len(fit.runs) == 1
        for run in fit.run_names if of == "runs" or goes_on else [None]:
            predictive, new = predictive_draws(fit, where, run)
            curve = np.clip(predictive.mean, *fit.units.bounds) if of == "new run" else predictive.curve
            columns: dict[str, object] = {"recipe": name, **({"run": run} if of == "runs" else {})}
            if of is None:
                columns["of"] = "run" if goes_on else "recipe"
            if goes_on:
                curve = level_draws(fit, predictive, str(run))
            columns[fit.units.compute] = where
            for prefix, draws in (("", curve), ("new_", new)):
                lower, upper = np.quantile(draws, tails, axis=0)
                columns |= {f"{prefix}mean": draws.mean(axis=0), f"{prefix}lower": lower, f"{prefix}upper": upper}
            tables.append(pd.DataFrame({**columns, "verdict": fit.verdict.name}))
    return pd.concat(tables, ignore_index=True)


def compute_to_reach(fits: Mapping[str, Fit], target: float, prob: float = 0.9) -> pd.DataFrame:
    """Compute at which each recipe's curve reaches a reward, without the error of the form that forecasts include.

    Arguments, result and errors as of `rlceiling.Fits.compute_to_reach`.
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
            # A credible limit may be infinite, where NumPy cannot interpolate.
            lower, median, upper = np.quantile(compute, [tail, 0.5, 1.0 - tail], method="inverted_cdf")
            p_never = float(np.isinf(compute).mean())
        row = {fit.units.compute: median, "lower": lower, "upper": upper, "p_never": p_never}
        rows[name] = row | {"supported": not reason, "reason": reason}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("recipe")


def draws_to_reach(fit: Fit, target: float) -> np.ndarray:
    """Compute at which the recipe's curve reaches a reward, for every draw; raises DataError for an invalid target."""
    check_target(target, fit.units.bounds)
    flat = {name: values.reshape(-1) for name, values in fit.draws.items()}
    return np.asarray(staged_compute(target, flat, fit.begins))


def check_target(target: float, bounds: tuple[float, float]) -> None:
    """Raise DataError unless a reward lies strictly inside its bounds."""
    low, high = bounds
    if bounds == (0.0, 100.0) and is_finite(target) and 0.0 < target < 1.0:
        raise DataError(
            f"target={target!r} is less than 1 percent, and rewards lie between 0 and 100; give {100 * target:g} if it "
            "is a share."
        )
    if not (is_finite(target) and low < target < high):
        raise DataError(
            f"target={target!r} is not inside the bounds of the reward, {low:g} to {high:g}; give a reward that is."
        )


def check_compute(compute: float | Sequence[float]) -> np.ndarray:
    """Compute values as an array; raises DataError unless they are positive and finite."""
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
