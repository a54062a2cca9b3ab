"""Decisions from a law across model sizes: forecasts, crossovers, best size for a budget, resource for a target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rlceiling.decisions.forecast import Predictive, check_compute
from rlceiling.decisions.lookup import check_of
from rlceiling.errors import DataError, is_finite
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.run_data import lane, usual_eval_var
from rlceiling.posterior.posterior import check_prob, interval_of
from rlceiling.posterior.size_fit import SizePosterior

OF = ("reward", "loss")

GRID = 400
"""Number of values of the resource, evenly spaced in ln X, at which curves are compared to find crossovers."""

REACH = 1e6
"""Multiple of the largest resource beyond which a target counts as never reached."""


def predict(fit: SizePosterior, size: float, resource: np.ndarray) -> Predictive:
    """Curve and new evaluation (posterior predictive) for every draw, rewards on [0, 1], shape (chains * draws, m).

    For a size with one run, the new evaluation belongs to that run, conditional on its autocorrelated noise; for a size
    with several runs, or none, it belongs to a new run.
    """
    columns = fit.columns_at([size])
    eta = [columns[name] for name in fit.curve_parameters]
    sigma = np.exp(columns["ln_sigma"][:, 0])

    def curve(inputs: np.ndarray) -> np.ndarray:
        return np.asarray(fit.size_law.curve.value(inputs, *eta))

    runs = fit.data.runs
    place = np.flatnonzero(np.isclose(fit.sizes, size, rtol=1e-9))
    lanes = np.flatnonzero(fit.data.size_of == place[0]) if len(place) else np.array([], dtype=int)
    x = fit.x(resource)
    if len(lanes) == 1:
        from rlceiling.models.paths import paths_beyond

        noise = {"sigma": sigma, "share": fit.flat("share"), "length": fit.flat("length")}
        paths = paths_beyond(lane(runs, lanes[0]), curve, noise, x[:, None], x)
        return Predictive(paths.curve, paths.curve + paths.wander, np.sqrt(paths.wander_var + paths.white_var))
    usual = lanes[0] if len(lanes) else len(runs.reward) - 1  # a new size has the evaluation error of the largest
    eval_var = usual_eval_var(lane(runs, usual))
    mean = curve(x[:, None])
    return Predictive(mean, mean, np.broadcast_to(np.sqrt(sigma**2 + eval_var)[:, None], mean.shape))


def forecast(
    fit: SizePosterior, size: Any, resource: float | Sequence[float], prob: float = 0.9, *, of: str = "reward"
) -> pd.DataFrame:
    """Reward or test loss of models of fitted or new sizes.

    Parameters
    ----------
    fit : SizePosterior
        Posterior.
    size : size or sequence of sizes
        Model sizes, fitted or new, in the unit of the fitted sizes, such as 72 or ``"72B"``.
    resource : float or sequence of float
        Values of the resource, positive, in the unit of the runs.
    prob : float, default 0.9
        Probability of the equal-tailed credible intervals.
    of : {"reward", "loss"}, default "reward"
        Quantity to forecast; the loss is the highest possible reward minus the reward.

    Returns
    -------
    DataFrame
        One row per size and resource. Columns: size and resource under their own names, ``mean``, ``lower``, ``upper``
        of the curve, ``new_mean``, ``new_lower``, ``new_upper`` of a new evaluation (posterior predictive, clipped to
        the bounds), ``supported``, whether the data support the forecast, and the ``reason`` if they do not.

    Raises
    ------
    DataError
        If a size or resource is not positive, `prob` is not between 0 and 1, or `of` is none of these values.
    """
    check_prob("forecast", prob)
    check_of("forecast", of, OF)
    where = check_compute(resource)
    low, high = fit.units.bounds
    tails = [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0]
    tables = []
    for value in read_sizes(fit, "forecast", size):
        predictive = predict(fit, value, where)
        key = stream_key(fit.settings.seed, "sizes", f"{value:.9g}", "forecast")
        normal = np.random.default_rng(key).standard_normal(predictive.mean.shape)
        new = np.clip(predictive.mean + predictive.sd * normal, 0.0, 1.0)
        shown: dict[str, Any] = {fit.units.size: fit.units.show(value) if fit.units.lettered else value}
        shown[fit.units.resource] = where
        for prefix, draws in (("", predictive.curve), ("new_", new)):
            scaled = (high - low) * (1.0 - draws) if of == "loss" else low + (high - low) * draws
            lower, upper = np.quantile(scaled, tails, axis=0)
            shown |= {f"{prefix}mean": scaled.mean(axis=0), f"{prefix}lower": lower, f"{prefix}upper": upper}
        reasons = [fit.support(value, float(r)) for r in where]
        tables.append(pd.DataFrame({**shown, "supported": [not r for r in reasons], "reason": reasons}))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class Crossover:
    """Resource at which one size overtakes another.

    Attributes
    ----------
    question : str
        The question in words.
    resource : float
        Median of the last resource in the range at which the two curves cross, over the draws in which they cross; NaN
        if they cross in no draw.
    lower, upper : float
        Equal-tailed credible limits of that resource, over the same draws.
    p_none : float
        Posterior probability that the curves do not cross in the range.
    p_ahead : float
        Posterior probability that the second size is ahead at the end of the range.
    between : tuple of float
        The range of the resource.
    conclusive : bool
        Whether the data support an answer in that range.
    reason : str
        Reason why they do not; empty if they do.
    """

    question: str
    resource: float
    lower: float
    upper: float
    p_none: float
    p_ahead: float
    between: tuple[float, float]
    conclusive: bool
    reason: str

    def __str__(self) -> str:
        low, high = (f"{v:.3g}" for v in self.between)
        said = f"{self.question} between {low} and {high}: "
        if not self.conclusive:
            said += f"inconclusive, {self.reason}; the numbers would be "
        if math.isfinite(self.resource):
            said += f"at {self.resource:.3g} ({self.lower:.2g} to {self.upper:.2g}), "
        return f"{said}chance of no crossing {self.p_none:.2f}, chance to be ahead at the end {self.p_ahead:.2f}"


def crossover(
    fit: SizePosterior, a: Any, b: Any, between: tuple[float, float] | None = None, prob: float = 0.9
) -> Crossover:
    """Resource beyond which a model of size `b` is better than one of size `a`.

    Parameters
    ----------
    fit : SizePosterior
        Posterior.
    a, b : size
        Model sizes, fitted or new.
    between : (float, float), optional
        Range of the resource to search. Default: from the smallest to the largest resource of any run.
    prob : float, default 0.9
        Probability of the equal-tailed credible interval.

    Returns
    -------
    Crossover
        Resource of the crossover, with the posterior probability that there is none.

    Raises
    ------
    DataError
        If both sizes are equal, or `between` is not a valid range.
    """
    check_prob("crossover", prob)
    first, second = (read_sizes(fit, "crossover", one)[0] for one in (a, b))
    check_different(a, first, second)
    everywhere = [run for own in fit.runs for run in own]
    if between is None:
        between = min(float(r.compute[0]) for r in everywhere), max(float(r.compute[-1]) for r in everywhere)
    low, high = (float(v) for v in check_compute(between))
    if not low < high:
        raise DataError(f"crossover: the range {between!r} does not rise; give the smaller resource first.")
    grid = np.geomspace(low, high, GRID)
    curves = fit.curves([first, second], grid)
    ahead = curves[:, 1] - curves[:, 0]
    change = (ahead[:, 1:] > 0) != (ahead[:, :-1] > 0)
    crosses = change.any(axis=1)
    last = GRID - 2 - np.argmax(change[:, ::-1], axis=1)
    rows = np.arange(len(ahead))
    left, right = ahead[rows, last], ahead[rows, last + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(crosses, left / (left - right), np.nan)
    x = np.log(grid)
    places = np.exp(x[last] + part * (x[1] - x[0]))[crosses]
    lower, median, upper = interval_of(places, prob) if len(places) else (np.nan,) * 3
    reason = next((r for r in (fit.support(s, v) for s in (first, second) for v in (low, high)) if r), "")
    show, resource = fit.units.show, fit.units.resource
    return Crossover(
        question=f"{resource} at which {show(second)} overtakes {show(first)}",
        resource=median,
        lower=lower,
        upper=upper,
        p_none=float(1.0 - crosses.mean()),
        p_ahead=float((ahead[:, -1] > 0).mean()),
        between=(low, high),
        conclusive=not reason,
        reason=reason,
    )


def best_size(fit: SizePosterior, budget: float | Sequence[float], sizes: Sequence[Any] | None = None) -> pd.DataFrame:
    """Posterior probability that each size has the highest reward for a budget.

    Parameters
    ----------
    fit : SizePosterior
        Posterior.
    budget : float or sequence of float
        Resource that is spent on one run, positive.
    sizes : sequence of sizes, optional
        Candidate sizes, fitted or new. Default: the fitted sizes.

    Returns
    -------
    DataFrame
        One row per budget. Columns: the resource under its own name, the posterior probability of each size under its
        name, ``best``, the size with the highest probability, ``supported``, whether the data support the comparison
        for every size with a probability above .05, and the ``reason`` if they do not. A size far beyond its last
        evaluation may win by extrapolation alone; ``reason`` then states it.

    Raises
    ------
    DataError
        If a size or budget is not positive, or there is only one candidate.
    """
    where = check_compute(budget)
    candidates = list(fit.sizes) if sizes is None else read_sizes(fit, "best_size", list(sizes))
    if len(set(candidates)) < 2:
        raise DataError("best_size: there is only one candidate; give two sizes or more.")
    curves = fit.curves(candidates, where)
    best = curves.argmax(axis=1)
    rows = []
    for j, value in enumerate(where):
        chances = {fit.units.show(s): float((best[:, j] == i).mean()) for i, s in enumerate(candidates)}
        likely = [s for s, p in zip(candidates, chances.values(), strict=True) if p > 0.05]
        reason = next((r for r in (fit.support(s, float(value)) for s in likely) if r), "")
        row: dict[str, Any] = {fit.units.resource: value, **chances}
        rows.append(row | {"best": max(chances, key=chances.__getitem__), "supported": not reason, "reason": reason})
    return pd.DataFrame(rows)


def compute_to_reach(
    fit: SizePosterior, target: float, size: Any = None, prob: float = 0.9, *, of: str = "reward"
) -> pd.DataFrame:
    """Resource at which models of fitted or new sizes reach a reward or a test loss.

    Parameters
    ----------
    fit : SizePosterior
        Posterior.
    target : float
        Reward, or loss, of the mean curve, strictly inside the bounds.
    size : size or sequence of sizes, optional
        Model sizes, fitted or new. Default: the fitted sizes.
    prob : float, default 0.9
        Probability of the equal-tailed credible interval.
    of : {"reward", "loss"}, default "reward"
        Meaning of `target`.

    Returns
    -------
    DataFrame
        One row per size. Columns: ``resource``, ``lower``, ``upper``: median and credible limits of the resource,
        infinite where the target is out of reach; ``p_never``: posterior probability that the target is out of reach
        (above the ceiling, or beyond a million times the largest resource in the data); ``supported``, whether the data
        support the answer up to the median, and the ``reason`` if they do not.

    Raises
    ------
    DataError
        If the target lies outside the bounds, or a size is not positive.
    """
    check_prob("compute_to_reach", prob)
    check_of("compute_to_reach", of, OF)
    check_size_target(target, fit.units.bounds, of)
    low, high = fit.units.bounds
    scaled = 1.0 - target / (high - low) if of == "loss" else (target - low) / (high - low)
    values = list(fit.sizes) if size is None else read_sizes(fit, "compute_to_reach", size)
    columns = fit.columns_at(values)
    x = fit.size_law.curve.inverse(scaled, *(columns[name] for name in fit.curve_parameters))
    last = max(float(run.compute[-1]) for own in fit.runs for run in own)
    x = np.where(x > fit.x(REACH * last), np.inf, x)
    tail = (1.0 - prob) / 2.0
    rows = {}
    for i, value in enumerate(values):
        # A credible limit may be infinite, where NumPy cannot interpolate.
        lower, median, upper = (
            float(np.exp(q + fit.data.log_origin))
            for q in np.quantile(x[:, i], [tail, 0.5, 1.0 - tail], method="inverted_cdf")
        )
        p_never = float(np.isinf(x[:, i]).mean())
        reason = fit.support(value, median) if math.isfinite(median) else "most likely it is out of reach"
        row = {"resource": median, "lower": lower, "upper": upper, "p_never": p_never}
        rows[fit.units.show(value)] = row | {"supported": not reason, "reason": reason}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(fit.units.size)


def saturation(fit: SizePosterior, share: float = 0.1, prob: float = 0.9) -> pd.Series:
    """Saturation of the law, and the posterior probability of a negligible gain from doubling the largest size.

    Parameters
    ----------
    fit : SizePosterior
        Posterior.
    share : float, default 0.1
        Relative gain below which a gain is negligible.
    prob : float, default 0.9
        Probability of the equal-tailed credible intervals.

    Returns
    -------
    Series
        For the power law: ``E_max`` and ``N0`` with credible limits; for the ceiling law: ``L_inf``, ``N1`` and
        ``alpha`` with credible limits. For both: ``gain``, the relative gain of the exponent, or of the ceiling, from
        doubling the largest size under the law, with credible limits; ``p_small_gain``, the posterior probability that
        it is below `share`; ``verdict``.

    Raises
    ------
    DataError
        If `share` is not positive, or there is only one size.
    """
    check_prob("saturation", prob)
    if not (is_finite(share) and share > 0):
        raise DataError(f"saturation: share={share!r} is not a positive share; give one, such as 0.1.")
    if len(fit.sizes) < 2:
        raise DataError("saturation: one size says nothing of others; fit two sizes or more.")
    span, values = fit.span, fit.parameters
    t = span[1] + np.array([0.0, math.log(2.0)])[:, None, None]
    at, twice = fit.size_law.saturating.of_size(values, t, span)
    gain = twice / at - 1.0
    row: dict[str, Any] = {}
    for name, draws in {**fit.limits, "gain": gain}.items():
        lower, median, upper = interval_of(draws, prob)
        row |= {name: median, f"{name}_lower": lower, f"{name}_upper": upper}
    return pd.Series({**row, "p_small_gain": float((gain < share).mean()), "verdict": fit.verdict.name})


def read_sizes(fit: SizePosterior, where: str, size: Any) -> list[float]:
    """Parse the requested sizes."""
    several = isinstance(size, Iterable) and not isinstance(size, str)
    asked = list(size) if several else [size]
    if not asked:
        raise DataError(f"{where}: no size is named; give at least one.")
    return [_as_fitted(fit, fit.units.read(where, one)) for one in asked]


def _as_fitted(fit: SizePosterior, size: float) -> float:
    """The fitted size that equals `size` up to rounding, or else `size`."""
    near = [s for s in fit.sizes if math.isclose(s, size, rel_tol=1e-9)]
    return near[0] if near else size


def check_size_target(target: float, bounds: tuple[float, float], of: str) -> None:
    """Raise DataError unless a reward, or a test loss, lies strictly inside its bounds."""
    low, high = (0.0, bounds[1] - bounds[0]) if of == "loss" else bounds
    if not (is_finite(target) and low < target < high):
        raise DataError(
            f"compute_to_reach: {of} {target!r} is not inside the bounds {low:g} to {high:g}; give one that is."
        )


def check_different(named: Any, first: float, second: float) -> None:
    """Raise DataError if two sizes are the same."""
    if np.isclose(first, second, rtol=1e-9):
        raise DataError(f"crossover: size {named!r} is compared with itself; name two sizes.")
