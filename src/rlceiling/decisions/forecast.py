"""Forecasts of the reward at any compute, for the curve and for a new evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlceiling.errors import DataError
from rlceiling.inference.nuts import fit_key
from rlceiling.models.paths import paths_at
from rlceiling.posterior.fit import Fit, check_prob


class Predictive(NamedTuple):
    """What each posterior draw says of m places; arrays of shape (chains * draws, m) in the user's units."""

    curve: np.ndarray
    """Mean reward ``R(C)``."""
    mean: np.ndarray
    """Mean of a new evaluation of this run: the curve, plus the correlated noise carried on from the evaluations
    around, which fades over `length` in ln C."""
    sd: np.ndarray
    """Standard deviation of a new evaluation around that: what is not known of the correlated noise, white noise and
    evaluation error."""


def predict(fit: Fit, compute: np.ndarray) -> Predictive:
    """Curve and new evaluation by posterior draw.

    Parameters
    ----------
    fit : Fit
        Posterior of the run.
    compute : ndarray, shape (m,)
        Positive.
    """
    flat = {name: values.reshape(-1) for name, values in fit.scaled_draws.items()}
    paths = paths_at(fit.run_data, flat, compute)
    sd = np.sqrt(paths.wander_var + paths.white_var)
    return Predictive(
        fit.units.unscale(paths.curve), fit.units.unscale(paths.curve + paths.wander), fit.units.width * sd
    )


def predictive_draws(fit: Fit, compute: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the curve and of a new evaluation, in the user's units.

    Parameters
    ----------
    fit : Fit
        Posterior of the run.
    compute : ndarray, shape (m,)
        Positive.

    Returns
    -------
    curve, new : ndarray, shape (chains * draws, m)
        The curve, and a new evaluation kept inside the bounds; see `Predictive`.
    """
    predictive = predict(fit, compute)
    key = fit_key(fit.settings.seed, fit.evaluations.recipe, fit.evaluations.run, "forecast")
    normal = np.random.default_rng(key).standard_normal(predictive.mean.shape)
    return predictive.curve, np.clip(predictive.mean + predictive.sd * normal, *fit.units.bounds)


def forecast(fits: Mapping[str, Fit], compute: float | Sequence[float], prob: float = 0.9) -> pd.DataFrame:
    """Reward of each recipe at a compute.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    compute : float or sequence of float
        Where, positive, in the unit of the runs. Beyond the data it is an extrapolation along the sigmoid.
    prob : float, default 0.9
        Probability of the equal-tailed intervals.

    Returns
    -------
    DataFrame
        A row a recipe and compute. Columns: ``recipe``, the compute under its own name, ``mean``, ``lower``,
        ``upper`` of the curve, ``new_mean``, ``new_lower``, ``new_upper`` of a new evaluation of this run (the unit
        of the reward), and the ``verdict``: the forecast of a run whose ceiling is not known is wide, not wrong, but
        one from chains that do not agree is void.

    Raises
    ------
    DataError
        If a compute is not positive and finite, or `prob` not between 0 and 1.
    """
    check_prob("forecast", prob)
    where = check_compute(compute)
    tails = [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0]
    tables = []
    for name, fit in fits.items():
        curve, new = predictive_draws(fit, where)
        columns: dict[str, object] = {"recipe": name, fit.units.compute: where}
        for prefix, draws in (("", curve), ("new_", new)):
            lower, upper = np.quantile(draws, tails, axis=0)
            columns |= {f"{prefix}mean": draws.mean(axis=0), f"{prefix}lower": lower, f"{prefix}upper": upper}
        tables.append(pd.DataFrame({**columns, "verdict": fit.verdict.name}))
    return pd.concat(tables, ignore_index=True)


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
