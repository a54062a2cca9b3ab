"""Scores of probabilistic forecasts: probability integral transform, and proper scores computed by scoringrules."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import scoringrules
from scipy.special import ndtr, ndtri

ENSEMBLE = 2000
"""Number of ensemble members that represent a mixture in CRPS and interval: 100 beyond each end of a 90% interval."""

FARTHEST = 30.0
"""Distance, in standard deviations, at which the log score is capped: beyond it a normal density underflows to zero,
and one such point would make every average infinite."""


class Mixture(NamedTuple):
    """Forecasts of m rewards, each an equal mixture of k normals; arrays of shape (k, m)."""

    mean: np.ndarray
    sd: np.ndarray


def ensemble(forecast: Mixture, bounds: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Represent a mixture by equally likely members, clipped to the bounds of the reward; shape (`ENSEMBLE`, m).

    The components are assigned to the members in order, and the normal quantiles in random order.
    """
    component = np.arange(ENSEMBLE) * len(forecast.mean) // ENSEMBLE
    normal = rng.permutation(ndtri((np.arange(ENSEMBLE) + 0.5) / ENSEMBLE))
    return np.clip(forecast.mean[component] + forecast.sd[component] * normal[:, None], *bounds)


def score_forecast(
    forecast: Mixture, reward: np.ndarray, bounds: tuple[float, float], rng: np.random.Generator
) -> pd.DataFrame:
    r"""Score the forecast of each reward.

    Parameters
    ----------
    forecast : Mixture
        Forecasts, with arrays of shape (k, m).
    reward : ndarray, shape (m,)
        Observed rewards.
    bounds : tuple of float
        Lowest and highest possible reward.
    rng : numpy Generator
        Source of the random order of the ensemble.

    Returns
    -------
    DataFrame
        One row per reward: ``mean``, ``lower`` and ``upper`` (90% equal-tailed interval) of the forecast; ``pit``, the
        probability integral transform, that is, the distribution function of the forecast at the observed reward
        (uniform if forecasts are calibrated; the central interval of probability p contains the reward if and only if
        ``|pit - 1/2| <= p/2``); ``crps`` and ``log_score`` (lower is better for both; the latter is minus the log
        density).

    References
    ----------
    Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 2007,
    doi 10.1198/016214506000001437.
    """
    members = ensemble(forecast, bounds, rng)
    lower, upper = np.quantile(members, [0.05, 0.95], axis=0)
    distance = np.abs(reward - forecast.mean) / forecast.sd
    seen = forecast.sd * np.maximum(1.0, distance.min(axis=0) / FARTHEST)
    return pd.DataFrame(
        {
            "mean": members.mean(axis=0),
            "lower": lower,
            "upper": upper,
            "pit": ndtr((reward - forecast.mean) / forecast.sd).mean(axis=0),
            "crps": scoringrules.crps_ensemble(reward, members.T, backend="numpy"),
            "log_score": scoringrules.logs_mixnorm(reward, forecast.mean.T, seen.T, backend="numpy"),
        }
    )
