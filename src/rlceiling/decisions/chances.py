"""Chances between recipes' ceilings, each with its Monte Carlo error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from scipy.special import expit, logit

from rlceiling.errors import DataError, is_finite
from rlceiling.inference.nuts import fit_key
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict


@dataclass(frozen=True)
class Chance:
    """A posterior probability that answers a question.

    Attributes
    ----------
    question : str
        What it is the chance of.
    probability : float
        The chance. Where `conclusive` is False it is there for the curious and must not be quoted.
    mcse : float
        Its Monte Carlo standard error.
    conclusive : bool
        Whether both ceilings are `IDENTIFIED`.
    reason : str
        Why not, empty where conclusive.
    """

    question: str
    probability: float
    mcse: float
    conclusive: bool
    reason: str

    def __str__(self) -> str:
        p = self.probability
        shown = ">0.99" if p > 0.995 else "<0.01" if p < 0.005 else f"{p:.2f}"
        if self.conclusive:
            return f"P({self.question}) = {shown} (Monte Carlo error {self.mcse:.1g})"
        return f"P({self.question}): inconclusive, {self.reason} [the number would be {shown}]"


def recipe_ceilings(fit: Fit) -> np.ndarray:
    r"""Draws of the ceiling of the recipe behind a run, in the user's units.

    One run is one draw from its recipe: ``logit(headroom of run) ~ Normal(logit(headroom of recipe), tau)``. With a
    single run nothing is known of ``tau`` but its prior `SigmoidPriors.run_spread`, and with a flat prior on the
    recipe's headroom its posterior is the run's, spread by that normal.

    Parameters
    ----------
    fit : Fit
        Posterior of the run.

    Returns
    -------
    ndarray, shape (chains, draws)
        Ceilings ``R0 + (1 - R0) * headroom`` of the recipe.
    """
    key = fit_key(fit.settings.seed, fit.evaluations.recipe, fit.evaluations.run, "run_spread")
    spread_key, normal_key = jax.random.split(jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32"))
    scaled = fit.scaled_draws
    with jax.enable_x64(True):
        prior = fit.priors.distributions()["run_spread"]
        tau = np.asarray(prior.sample(spread_key, scaled["headroom"].shape))
        step = np.asarray(jax.random.normal(normal_key, scaled["headroom"].shape))
    headroom = expit(logit(scaled["headroom"]) + tau * step)
    return np.asarray(fit.units.unscale(scaled["R0"] + (1.0 - scaled["R0"]) * headroom))


def chance_higher(first: Fit, second: Fit, margin: float = 0.0) -> Chance:
    """``P(A_first > A_second + margin)`` for the ceilings of two recipes.

    Every draw of one is compared with every draw of the other, for the posteriors are independent.

    Parameters
    ----------
    first, second : Fit
        Posteriors.
    margin : float, default 0
        Difference that counts, in the user's unit of reward.

    Returns
    -------
    Chance
        Inconclusive, with the reason, unless both fits are `IDENTIFIED`.

    Raises
    ------
    DataError
        If the margin is not a finite number, both are the same fit, or they are in different units.
    """
    _check_pair(first, second, margin)
    beats = f" + {margin:g}" if margin else ""
    p, mcse = chance_of_draws(recipe_ceilings(first), recipe_ceilings(second) + margin)
    return _answer(f"A of {first.name} > A of {second.name}{beats}", p, mcse, first, second)


def chance_equal(first: Fit, second: Fit, margin: float) -> Chance:
    """``P(|A_first - A_second| <= margin)``; see `chance_higher`."""
    _check_pair(first, second, margin)
    if margin <= 0:
        raise DataError(f"margin={margin!r} leaves no room to be equal; give a difference above 0 that does not count.")
    a, b = recipe_ceilings(first), recipe_ceilings(second)
    p, mcse = chance_of_draws(a + margin, b, also_below=a - margin)
    return _answer(f"|A of {first.name} - A of {second.name}| <= {margin:g}", p, mcse, first, second)


def chances(fits: Mapping[str, Fit], margin: float = 0.0, *, include_inconclusive: bool = False) -> pd.DataFrame:
    """Square table of ``P(A_row > A_column + margin)``.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    margin : float, default 0
        Difference that counts, in the user's unit of reward.
    include_inconclusive : bool, default False
        Fill in the numbers of pairs that cannot be judged; by default these are NaN, as is the diagonal.

    Returns
    -------
    DataFrame
        Index and columns: names.
    """
    names = list(fits)
    check_margin(margin)
    ceilings = {n: recipe_ceilings(fits[n]) for n in names}
    usable = {n: include_inconclusive or fits[n].verdict is Verdict.IDENTIFIED for n in names}
    table = pd.DataFrame(np.nan, index=pd.Index(names, name="recipe"), columns=names)
    for row in names:
        for column in names:
            if row != column and usable[row] and usable[column]:
                table.loc[row, column] = chance_of_draws(ceilings[row], ceilings[column] + margin)[0]
    return table


def rank(fits: Mapping[str, Fit], *, include_inconclusive: bool = False) -> pd.DataFrame:
    """Chance of each recipe to have the highest ceiling, and the distribution of its rank.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors.
    include_inconclusive : bool, default False
        Rank all of them. By default only `IDENTIFIED` recipes are ranked, among themselves; the others have NaN.

    Returns
    -------
    DataFrame
        Index: name. Columns: ``p_best`` and its Monte Carlo error ``mcse``, ``mean_rank`` (1 is highest),
        ``rank_1`` ... ``rank_k`` (probabilities), ``conclusive`` and ``reason``. Recipes by `p_best`.
    """
    ranked = [n for n, f in fits.items() if include_inconclusive or f.verdict is Verdict.IDENTIFIED]
    out = pd.DataFrame(index=pd.Index(list(fits), name="recipe"))
    out[["p_best", "mcse", "mean_rank"]] = np.nan
    out[[f"rank_{k + 1}" for k in range(len(ranked))]] = np.nan
    if ranked:
        ceilings = [recipe_ceilings(fits[n]) for n in ranked]
        # Retried fits have more draws than others; independent posteriors may be paired in any way.
        draws = min(c.shape[1] for c in ceilings)
        stacked = np.stack([c[:, :draws] for c in ceilings])
        places = (-stacked).argsort(axis=0).argsort(axis=0)
        for i, name in enumerate(ranked):
            best = places[i] == 0
            out.loc[name, ["p_best", "mcse"]] = best.mean(), _mcse(best.astype(float))
            out.loc[name, "mean_rank"] = 1.0 + places[i].mean()
            for k in range(len(ranked)):
                out.loc[name, f"rank_{k + 1}"] = (places[i] == k).mean()
    out["conclusive"] = [f.verdict is Verdict.IDENTIFIED for f in fits.values()]
    out["reason"] = [_reason(f) for f in fits.values()]
    return out.sort_values("p_best", ascending=False, kind="stable")


def chance_of_draws(a: np.ndarray, b: np.ndarray, also_below: np.ndarray | None = None) -> tuple[float, float]:
    """``P(a > b)``, or ``P(also_below <= b < a)``, over all pairs, and its Monte Carlo error.

    The error adds those of the two means that the double sum is made of, each over autocorrelated draws.
    """

    def share_below(of: np.ndarray, values: np.ndarray) -> np.ndarray:
        ordered = np.sort(of, axis=None)
        below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
        return below / (2.0 * ordered.size)

    over_b = share_below(b, a)
    over_a = 1.0 - share_below(a, b)
    if also_below is not None:
        over_b = over_b - share_below(b, also_below)
        over_a = over_a - (1.0 - share_below(also_below, b))
    return float(over_b.mean()), float(math.hypot(_mcse(over_b), _mcse(over_a)))


def _mcse(values: np.ndarray) -> float:
    """Monte Carlo error of the mean of draws of shape (chains, draws); at least one draw's worth."""
    resolution = 1.0 / values.size
    if np.ptp(values) < resolution:
        return resolution
    return max(float(array_stats.mcse(values, method="mean")), resolution)


def _answer(question: str, p: float, mcse: float, *fits: Fit) -> Chance:
    reason = "; ".join(r for r in map(_reason, fits) if r)
    return Chance(question, p, mcse, not reason, reason)


def _reason(fit: Fit) -> str:
    if fit.verdict is Verdict.IDENTIFIED:
        return ""
    return f"{fit.name} is {fit.verdict.name} ({fit.advice()})"


def _check_pair(first: Fit, second: Fit, margin: float) -> None:
    check_margin(margin)
    if first is second:
        raise DataError(f"{first.name!r} is compared with itself; name two recipes.")
    if (first.units.reward, first.units.bounds) != (second.units.reward, second.units.bounds):
        raise DataError(
            f"{first.name!r} is measured in {first.units.reward} and {second.name!r} in {second.units.reward}; "
            "compare recipes with the same reward and bounds."
        )


def check_margin(margin: float) -> None:
    """Raise unless a margin is a finite number."""
    if not is_finite(margin):
        raise DataError(f"margin={margin!r} is not a finite difference of rewards; give one, such as 0.02.")
