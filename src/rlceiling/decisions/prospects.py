"""What more compute would teach of recipes, and the chance to name the best of them then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from rlceiling.curves.stages import staged_curve
from rlceiling.decisions.compared import Compared, paired
from rlceiling.inference.stream_keys import stream_key
from rlceiling.posterior.continuation import CANDIDATES, furthest_run, simulated
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.predictive_checks import thinned

SIMULATIONS = 120
"""Number of simulated continuations of each recipe."""

PAIRINGS = 5
"""Number of times that each simulated continuation occurs, with others of the other recipes."""

GRID = 72
"""Number of rewards at which distributions are compared."""


class Prospect(NamedTuple):
    """What is known of the compared quantity of a recipe now and after more compute."""

    cdf: np.ndarray
    """Distribution functions, shape (1 + amounts, simulations, places): now, and after each amount of compute."""
    sd: np.ndarray
    """Square root of the mean of its variance, in the unit of the reward, shape (1 + amounts,)."""


def prospect(fit: Fit, compared: Compared, amounts: np.ndarray, places: np.ndarray) -> Prospect:
    """Simulate what will be known of a recipe when its furthest run has gone on by amounts of compute.

    Posterior draws are taken as truths in turn, the run goes on from each with its noise, and all other draws are
    weighted by their likelihood of what is then seen (see `rlceiling.posterior.continuation.simulated`). The error of
    the form of a curve beyond the data, a random walk in ln C, is seen as far as the run goes, and stays open from
    there to the budget.

    Parameters
    ----------
    fit : Fit
        Posterior of a recipe.
    compared : Compared
        The ceiling, or the curve at a compute.
    amounts : ndarray, shape (amounts,)
        Amounts of compute, ascending, positive.
    places : ndarray, shape (places,)
        Rewards, ascending, at which distribution functions are computed.
    """
    value, form_sd = _curve_and_form(fit, compared)
    last = float(fit.runs[fit.place(furthest_run(fit))].compute[-1])
    # Truths at evenly spaced quantiles represent the posterior better than random ones.
    even = (np.arange(SIMULATIONS) + 0.5) / SIMULATIONS
    truth = np.argsort(value, kind="stable")[(even * len(value)).astype(int)]
    normal = np.random.default_rng(stream_key(fit.settings.seed, fit.name, "plan")).permutation(ndtri(even))
    open_ = form_sd(last)
    below = _below(value, open_, places)
    cdf = np.empty((1 + len(amounts), SIMULATIONS, len(places)))
    cdf[0] = below.mean(axis=0)
    variance = [float(value.var() + np.mean(open_**2))]
    multiples = tuple(1.0 + amount / last for amount in amounts)
    for level, (multiple, weight) in enumerate(simulated(fit, multiples, truth), start=1):
        left = form_sd(multiple * last)
        seen = np.sqrt(np.maximum(open_**2 - left**2, 0.0))[truth] * normal
        if seen.any():
            below = _below(value, left, places)
        cdf[level] = weight @ below
        if seen.any():
            cdf[level] = [np.interp(places - by, places, own) for by, own in zip(seen, cdf[level], strict=True)]
        variance.append(float(np.mean(weight @ (value**2 + left**2) - (weight @ value) ** 2)))
    return Prospect(cdf, np.sqrt(variance))


def _curve_and_form(fit: Fit, compared: Compared) -> tuple[np.ndarray, Callable[[float], np.ndarray]]:
    """Draws of the compared quantity without the error of its form, and that error's standard deviation.

    The latter is a function of the compute to which a run has gone; both are in the unit of the reward.
    """
    flat = thinned({name: values.reshape(-1) for name, values in fit.scaled_draws.items()}, CANDIDATES)
    at = compared.at
    if at is None:
        value = fit.units.unscale(flat["A"])
        return value, lambda _: np.zeros(len(value))
    columns = {name: values[:, None] for name, values in flat.items()}
    value = fit.units.unscale(staged_curve(np.array([at]), columns, fit.begins)[:, 0])

    def form_sd(reached: float) -> np.ndarray:
        beyond = np.array([at / reached * fit.largest_compute])  # as far beyond the data as it is then
        return np.asarray(fit.units.width * fit.form_sd(flat, beyond)[:, 0])

    return value, form_sd


def _below(value: np.ndarray, sd: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Probability that a normal around each value is at most each place, shape (values, places)."""
    if not sd.any():
        return np.asarray(value[:, None] <= places, dtype=float)
    return np.asarray(ndtr((places - value[:, None]) / np.maximum(sd, 1e-12)[:, None]))


def foreseen(fits: Mapping[str, Fit], compared: Compared, amounts: np.ndarray) -> tuple[Naming, np.ndarray]:
    """Chances to name the best of recipes after amounts of compute, and how well each is known then.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    compared : Compared
        The ceiling, or the curve at a compute.
    amounts : ndarray, shape (amounts,)
        Amounts of compute, ascending, positive.

    Returns
    -------
    naming : Naming
    sd : ndarray, shape (recipes, 1 + amounts)
        See `Prospect`.
    """
    highest = paired([compared.draws(fit) for fit in fits.values()]).max(axis=0)
    places = np.quantile(highest, np.linspace(0.0, 1.0, GRID))
    prospects = [prospect(fit, compared, amounts, places) for fit in fits.values()]
    seed = next(iter(fits.values())).settings.seed
    rng = np.random.default_rng(stream_key(seed, *fits, "plan"))
    return Naming(np.stack([own.cdf for own in prospects]), rng, PAIRINGS), np.stack([own.sd for own in prospects])


class Naming:
    """Chance to name the best of several recipes after amounts of compute.

    With the distribution functions ``F_i`` after an outcome, recipe i is the best with the probability
    ``sum_g dF_i(g) prod_{j != i} F_j(g)``; the recipe with the highest is named, and is the best with that probability.
    The chance is its mean over outcomes, in each of which the recipes have simulated continuations of their own. Draws
    of different recipes are taken to be independent.

    Parameters
    ----------
    cdf : ndarray, shape (recipes, 1 + amounts, simulations, places)
        See `Prospect`.
    rng : numpy.random.Generator
        Decides which simulated continuations occur together.
    pairings : int, default 1
        Number of times that each occurs, with others each time.
    """

    def __init__(self, cdf: np.ndarray, rng: np.random.Generator, pairings: int = 1) -> None:
        self.cdf = cdf
        self.outcomes = [np.concatenate([rng.permutation(cdf.shape[2]) for _ in range(pairings)]) for _ in cdf]

    def best(self, levels: Sequence[int]) -> np.ndarray:
        """Probability of each recipe to be the best in each outcome, shape (recipes, outcomes)."""
        step, below = self._paired(levels)
        p = (step * _product_of_others(below)).sum(axis=-1)
        return np.asarray(p / p.sum(axis=0))

    def chance(self, levels: Sequence[int]) -> float:
        """Chance to name the best if recipe i has the amount ``levels[i]``; 0 is none."""
        return float(self.best(levels).max(axis=0).mean())

    def _paired(self, levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return _steps(
            np.stack([own[level, of] for own, level, of in zip(self.cdf, levels, self.outcomes, strict=True)])
        )


def _steps(cdf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability between two places, and the mean of the distribution function there, with both ends."""
    ends = np.concatenate([np.zeros_like(cdf[..., :1]), cdf, np.ones_like(cdf[..., :1])], axis=-1)
    return np.diff(ends), 0.5 * (ends[..., 1:] + ends[..., :-1])


def _product_of_others(below: np.ndarray) -> np.ndarray:
    """Product over all other recipes, along the first axis."""
    ones = np.ones_like(below[:1])
    before = np.cumprod(np.concatenate([ones, below[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([ones, below[:0:-1]]), axis=0)[::-1]
    return np.asarray(before * after)
