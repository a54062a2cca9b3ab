"""Backtests: truncate finished runs, forecast the held-out evaluations, and score the forecasts against baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pandas as pd

from rlceiling.calibration.baselines import BASELINES
from rlceiling.calibration.scores import Mixture, score_forecast
from rlceiling.decisions.forecast import predict
from rlceiling.errors import DataError, count, is_finite, listing, unknown_name
from rlceiling.fitting.fit_recipes import FitInterrupted, fit
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.recipe_priors import LearnedPriors, SigmoidPriors
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict, VerdictRules
from rlceiling.results.fits import Fits
from rlceiling.runs import Run, Runs
from rlceiling.runs.table import FEWEST
from rlceiling.settings import BACKTEST_CUTS, RECIPE_SAMPLER

MODEL = "rlceiling"
INDEPENDENT = "independent noise"
METHODS = (MODEL, INDEPENDENT, *BASELINES)
"""Forecasting methods that are compared: the model, the model without autocorrelated noise, and `BASELINES`."""

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities of the central (equal-tailed) prediction intervals whose coverage is reported."""

HORIZONS = (1.0, 1.5, 2.0, 4.0, np.inf)
"""Edges of the bins of the forecast horizon, in multiples of the compute at which the fitted data end."""

GROUPS = ("cut", "recipe", "horizon")


class BacktestInterrupted(KeyboardInterrupt):
    """A backtest was interrupted; `backtest` contains the completed part, or is None."""

    def __init__(self, backtest: Backtest | None) -> None:
        super().__init__("backtest interrupted")
        self.backtest = backtest


@dataclass(frozen=True, eq=False, repr=False)
class Backtest:
    """Forecasts of truncated runs, compared with their held-out evaluations.

    Returned by `rlceiling.backtest`.

    Attributes
    ----------
    runs : Runs
        The finished runs.
    points : DataFrame
        One row per forecast: ``cut``, ``recipe``, ``run``, ``method``, ``compute``, ``horizon`` (compute divided by the
        compute of the last fitted evaluation), ``reward`` (of the held-out evaluation), ``mean``, ``lower``, ``upper``
        (90% equal-tailed interval of a new evaluation, posterior predictive), ``pit``, ``crps`` and ``log_score`` (see
        `rlceiling.calibration.scores.score_forecast`).
    ceilings : DataFrame
        One row per truncated run: ``cut``, ``recipe``, ``run``, ``verdict`` and ceiling ``A``, ``A_lower``, ``A_upper``
        (90% credible interval) of the run at the cut; ``final_verdict`` and ``A_final`` (median) with all evaluations,
        fitted where the truncated recipe was `IDENTIFIED`; ``held``, whether the credible interval contains that
        median, if both are `IDENTIFIED`.
    skipped : DataFrame
        One row per run that could not be used at a cut: ``cut``, ``recipe``, ``run``, ``reason``.
    fits : dict of str to Fits
        Fits of the model to the truncated runs, by cut.
    """

    runs: Runs
    points: pd.DataFrame
    ceilings: pd.DataFrame
    skipped: pd.DataFrame
    fits: dict[str, Fits] = field(repr=False)

    def scores(self, *by: str) -> pd.DataFrame:
        """Scores of each method.

        Parameters
        ----------
        *by : {"cut", "recipe", "horizon"}
            Columns by which forecasts are grouped. Default: no groups.

        Returns
        -------
        DataFrame
            Index: the groups and ``method``. Columns: ``in 50%`` ... ``in 95%`` (coverage: share of held-out
            evaluations in the central interval of that probability), ``crps`` and ``log_score`` (means, lower is
            better), ``bias`` (mean of forecast minus reward), ``width`` (mean width of the 90% interval),
            ``evaluations`` and ``runs`` (number of truncated runs; the evaluations of one run share its autocorrelated
            noise, so their effective number is smaller than ``evaluations``).

        Raises
        ------
        DataError
            If a group is none of these values.
        """
        for name in by:
            if name not in GROUPS:
                raise unknown_name("a backtest", "group", name, GROUPS)
        points = self.points.assign(
            bias=self.points["mean"] - self.points["reward"],
            width=self.points["upper"] - self.points["lower"],
            horizon=pd.cut(self.points["horizon"], HORIZONS, labels=_horizon_names()),
            one=1,
            of=self.points[["cut", "recipe", "run"]].agg("/".join, axis=1),
        )
        for level in LEVELS:
            points[f"in {level:.0%}"] = (points["pit"] - 0.5).abs() <= level / 2.0
        groups = points.groupby([*by, "method"], sort=False, observed=True)
        means = [*(f"in {level:.0%}" for level in LEVELS), "crps", "log_score", "bias", "width"]
        table = groups[means].mean()
        table["evaluations"], table["runs"] = groups["one"].sum(), groups["of"].nunique()
        if "horizon" in by:
            table = table.sort_index(level="horizon", sort_remaining=False, kind="stable")
        return table

    def coverage(self, levels: Sequence[float] = tuple(np.arange(0.05, 1.0, 0.05).round(2))) -> pd.DataFrame:
        """Coverage of the central intervals: one row per probability and one column per method."""
        distance = (self.points["pit"] - 0.5).abs()
        shares = {p: (distance <= p / 2.0).groupby(self.points["method"], sort=False).mean() for p in levels}
        return pd.DataFrame(shares).T.rename_axis("level")

    def verdicts(self) -> pd.DataFrame:
        """Frequency of each verdict, and of credible intervals of the ceiling that contained the final estimate.

        Returns
        -------
        DataFrame
            Index: cut. Columns: one count per verdict; ``judged`` (number of runs `IDENTIFIED` both at the cut and with
            all evaluations) and ``held`` (number of these whose credible interval at the cut contains the median with
            all evaluations).
        """
        table = pd.crosstab(self.ceilings["cut"], self.ceilings["verdict"])
        table = table.reindex(index=list(self.fits), columns=[v.name for v in Verdict], fill_value=0)
        held = self.ceilings.dropna(subset="held").groupby("cut")["held"]
        table["judged"], table["held"] = held.size(), held.sum()
        table.columns.name = None
        return table.fillna(0).astype(int)

    def worst(self, number: int = 3) -> pd.DataFrame:
        """Truncated runs with the worst forecasts of the model, by mean log score.

        Returns
        -------
        DataFrame
            Columns: ``cut``, ``recipe``, ``run``, ``log_score``, ``in 90%``.
        """
        own = self.points[self.points["method"] == MODEL]
        own = own.assign(inside=(own["pit"] - 0.5).abs() <= 0.45)
        groups = own.groupby(["cut", "recipe", "run"], sort=False)[["log_score", "inside"]].mean()
        table = groups.sort_values("log_score", ascending=False, kind="stable").head(number).reset_index()
        return table.rename(columns={"inside": "in 90%"})

    def fit_of(self, cut: str, recipe: str) -> Fit:
        """Return the model's fit of a truncated recipe.

        Raises
        ------
        DataError
            If there is no such fit.
        """
        if recipe not in self.fits.get(cut, {}):
            known = (self.ceilings["cut"] + "/" + self.ceilings["recipe"]).unique()
            raise unknown_name("this backtest", "cut recipe", f"{cut}/{recipe}", known)
        return self.fits[cut][recipe]

    def __repr__(self) -> str:
        forecasts = self.points[self.points["method"] == MODEL]
        head = (
            f"Backtest: {count(len(forecasts), 'later evaluation')} of {count(len(self.ceilings), 'cut run')} "
            f"({self.runs.source})"
        )
        left = [f"skipped {count(len(self.skipped), 'cut run')}; see skipped"] if len(self.skipped) else []
        table = self.scores().drop(columns=["evaluations", "runs"]).round(4).to_string()
        return "\n".join([head, *left, table])


def backtest(
    runs: Runs,
    cut: float | Sequence[float] = BACKTEST_CUTS,
    *,
    cut_compute: float | Sequence[float] | Mapping[str, float] | None = None,
    methods: Sequence[str] = METHODS,
    priors: SigmoidPriors | Mapping[str, SigmoidPriors] | None = None,
    chains: int = RECIPE_SAMPLER.chains,
    tune: int = RECIPE_SAMPLER.tune,
    draws: int = RECIPE_SAMPLER.draws,
    seed: int = RECIPE_SAMPLER.seed,
    rules: VerdictRules | None = None,
    cores: int | None = None,
    backend: str | None = None,
    progress: bool | None = None,
) -> Backtest:
    """Truncate finished runs, fit the evaluations before the cut, and score forecasts of the held-out evaluations.

    Parameters
    ----------
    runs : Runs
        Finished runs. Each run is truncated and forecast; the runs of one recipe are fitted by one hierarchical model.
    cut : float or sequence of float, default (0.25, 0.5)
        Shares of each run's largest compute at which it is truncated, between 0 and 1.
    cut_compute : float, sequence of float, or mapping from recipe to float, optional
        Compute at which runs are truncated, in the unit of the runs, instead of `cut`; a mapping sets it per recipe.
    methods : sequence of str
        Forecasting methods; `rlceiling` is always included. Default all: ``"rlceiling"``; ``"independent noise"``, the
        same model without autocorrelated noise; ``"least squares"`` on the grid of ScaleRL, with intervals from its
        covariance; ``"bootstrap"`` of its residuals; ``"last value"`` carried forward (see
        `rlceiling.calibration.baselines`).
    priors, chains, tune, draws, seed, rules, cores, backend, progress
        As in `rlceiling.fit`.

    Returns
    -------
    Backtest
        Forecasts, scores and fits.

    Raises
    ------
    DataError
        If a cut is out of range, a method or recipe is unknown, or no run has both enough evaluations before a cut and
        any after it.
    BacktestInterrupted
        On Ctrl-C; its ``backtest`` contains the completed part.

    Examples
    --------
    >>> import rlceiling as rl
    >>> runs = rl.load_dataset("scalerl", split="all")
    >>> tested = rl.backtest(runs, cut=0.5)  # doctest: +SKIP
    >>> tested.scores("horizon")  # doctest: +SKIP
    """
    for method in methods:
        if method not in METHODS:
            raise unknown_name("backtest", "method", str(method), METHODS)
    cuts = dict(_limits(runs, cut, cut_compute))
    usable, skipped = {}, []
    for label, limits in cuts.items():
        usable[label], left_out = _usable(runs, limits)
        skipped += [(label, *row) for row in left_out]
    lost = pd.DataFrame(skipped, columns=["cut", "recipe", "run", "reason"])
    if not any(len(limits) for limits in usable.values()):
        example = lost.iloc[0]
        raise DataError(
            f"backtest: no run of {runs.source} can be used at {listing(cuts)}; recipe {example['recipe']!r}, run "
            f"{example['run']!r} has {example['reason']}; choose another cut."
        )

    priors = SigmoidPriors() if priors is None else priors
    models: dict[str, SigmoidPriors | Mapping[str, SigmoidPriors]] = {MODEL: priors}
    if INDEPENDENT in methods:
        models[INDEPENDENT] = _independent(priors)
    fitted = partial(
        fit,
        chains=chains,
        tune=tune,
        draws=draws,
        seed=seed,
        rules=rules,
        cores=cores,
        backend=backend,
        progress=progress,
    )
    fits: dict[str, dict[str, Fits]] = {}
    finals, interrupted = None, False
    try:
        for label, limits in usable.items():
            if not limits.empty:
                before, fits[label] = _until(runs, limits), {}
                for method, model in models.items():
                    fits[label][method] = fitted(before, model)
        finals = _finals(runs, [made[MODEL] for made in fits.values()], partial(fitted, priors=priors))
    except FitInterrupted as stop:
        interrupted = True
        if fits and finals is None:
            label = list(fits)[-1]
            unfinished = next((m for m in models if m not in fits[label]), None)
            if unfinished is not None:
                fits[label][unfinished] = stop.fits

    finished = {(run.recipe, run.run): run for run in runs.iter_runs()}
    asked = [method for method in METHODS if method in methods or method == MODEL]
    points, ceilings = [], []
    for label, made in fits.items():
        for at_cut in made.get(MODEL, {}).values():
            failed = at_cut.failed_runs.items()
            skipped += [(label, at_cut.name, run, f"failed before the cut: {how}") for run, how in failed]
            for cut_run in at_cut.runs:
                run = finished[cut_run.recipe, cut_run.run]
                points += [table.assign(cut=label) for table in _forecasts(run, cut_run, made, asked, seed)]
                ceilings.append({"cut": label, **_ceiling(at_cut, cut_run.run, finals)})
    result = None
    if points:
        first = ["cut", "recipe", "run", "method", "compute", "horizon", "reward"]
        table = pd.concat(points, ignore_index=True)
        table = table[first + [column for column in table if column not in first]]
        own = {label: made[MODEL] for label, made in fits.items() if MODEL in made}
        lost = pd.DataFrame(skipped, columns=lost.columns)
        result = Backtest(runs, table, pd.DataFrame(ceilings), lost, own)
    if interrupted or result is None:
        raise BacktestInterrupted(result)
    return result


def _independent(priors: SigmoidPriors | Mapping[str, SigmoidPriors]) -> SigmoidPriors | dict[str, SigmoidPriors]:
    """The same priors with almost no autocorrelated noise."""

    def of(own: SigmoidPriors) -> SigmoidPriors:
        white = replace(own, share=dist.Beta(1.0, 1000.0))
        if isinstance(white, LearnedPriors):
            return replace(white, learned={name: one for name, one in white.learned.items() if name != "share"})
        return white

    return {name: of(own) for name, own in priors.items()} if isinstance(priors, Mapping) else of(priors)


def _limits(
    runs: Runs, cut: float | Sequence[float], cut_compute: float | Sequence[float] | Mapping[str, float] | None
) -> Iterator[tuple[str, pd.Series]]:
    """For each cut, its label and the compute up to which each run is fitted."""
    last = runs.table.groupby(["recipe", "run"], sort=False)["compute"].max()
    recipe = last.index.get_level_values("recipe")
    if isinstance(cut_compute, Mapping):
        for name, compute in cut_compute.items():
            if name not in runs.recipes:
                raise unknown_name(runs.source, "recipe", str(name), runs.recipes)
            _check_compute(compute)
        missing = [name for name in runs.recipes if name not in cut_compute]
        if missing:
            raise DataError(f"backtest: cut_compute names no compute for {listing(missing)}; name one, or drop them.")
        yield "its own compute", pd.Series([float(cut_compute[r]) for r in recipe], last.index)
    elif cut_compute is not None:
        for compute in _several(cut_compute):
            _check_compute(compute)
            yield f"{compute:,.6g} {runs.compute_label}", pd.Series(float(compute), last.index)
    else:
        for share in _several(cut):
            if not (is_finite(share) and 0.0 < share < 1.0):
                raise DataError(
                    f"backtest: cut={share!r} is not a share of a run; give a number between 0 and 1, or a compute "
                    "as cut_compute (command line: --cut-compute)."
                )
            yield f"{100.0 * share:.4g}%", share * last


def _several(values: float | Sequence[float]) -> Sequence[Any]:
    listed = [values] if isinstance(values, (int, float, str)) else list(values)
    if not listed:
        raise DataError("backtest: there is no cut; give at least one.")
    return listed


def _check_compute(compute: float) -> None:
    if not (is_finite(compute) and compute > 0):
        raise DataError(
            f"backtest: cut_compute={compute!r} is not a positive compute; give one in the unit of the runs."
        )


def _usable(runs: Runs, limits: pd.Series) -> tuple[pd.Series, list[tuple[str, str, str]]]:
    """Limits of the usable runs, and the other runs with the reason."""
    kept, left_out = [], []
    for run in runs.iter_runs():
        name = run.recipe, run.run
        known = run.compute[run.compute <= limits[name]]
        begins, ends = run.stage_around(known[-1]) if len(known) else (0.0, np.inf)
        before = len(np.unique(known[known > begins]))
        if before < FEWEST:
            left_out.append((*name, f"{count(before, 'evaluation')} before the cut, where a fit needs {FEWEST}"))
        elif not ((run.compute > limits[name]) & (run.compute <= ends)).any():
            of_stage = " in the same stage" if run.stages else ""
            left_out.append((*name, f"no evaluation after the cut{of_stage}"))
        else:
            kept.append(name)
    return limits.loc[kept], left_out


def _names(table: pd.DataFrame) -> pd.Series:
    return pd.Series(list(zip(table["recipe"], table["run"], strict=True)), table.index)


def _until(runs: Runs, limits: pd.Series) -> Runs:
    table = runs.table
    limit = _names(table).map(dict(limits))  # NaN where the run is left out
    return runs.keep(table["compute"] <= limit)


def _forecasts(
    run: Run, cut: Run, made: Mapping[str, Fits], methods: Sequence[str], seed: int
) -> Iterator[pd.DataFrame]:
    """Scored forecasts of one run after its cut, one table per method."""
    units = made[MODEL].units
    _, ends = run.stage_around(cut.compute[-1])
    later = (run.compute > cut.compute[-1]) & (run.compute <= ends)  # a curve says nothing about the stages to come
    compute, reward = run.compute[later], units.unscale(run.reward[later])
    for method in methods:
        rng = np.random.default_rng(stream_key(seed, run.recipe, run.run, method))
        if method in BASELINES:
            scaled = BASELINES[method](cut.last_stage(), compute - cut.begins[-1], rng)
            forecast = Mixture(units.unscale(scaled.mean), units.width * scaled.sd)
        else:
            if run.recipe not in made.get(method, {}):  # not fitted before an interruption
                continue
            predictive = predict(made[method][run.recipe], compute, run.run)
            forecast = Mixture(predictive.mean, predictive.sd)
        scored = score_forecast(forecast, reward, units.bounds, rng)
        yield scored.assign(
            recipe=run.recipe,
            run=run.run,
            method=method,
            compute=compute,
            horizon=compute / cut.compute[-1],
            reward=reward,
        )


def _finals(runs: Runs, at_cuts: Sequence[Fits], fitted: Callable[[Runs], Fits]) -> Fits | None:
    """Fit all evaluations of the recipes that were identified at a cut."""
    identified = {one.name for fits in at_cuts for one in fits.values() if one.verdict is Verdict.IDENTIFIED}
    return fitted(runs.keep(runs.table["recipe"].isin(identified))) if identified else None


def _ceiling(one: Fit, run: str, finals: Fits | None) -> dict[str, object]:
    lower, median, upper = one.interval("A", run=run)
    row: dict[str, object] = {"recipe": one.name, "run": run}
    row |= {"verdict": one.verdict.name, "A": median, "A_lower": lower, "A_upper": upper}
    if finals is None or one.name not in finals or run not in finals[one.name].run_names:  # or failed after the cut
        return row | {"final_verdict": None, "A_final": np.nan, "held": None}
    final = finals[one.name]
    if len(final.begins) > len(one.begins):  # its ceiling is that of a later stage
        return row | {"final_verdict": None, "A_final": np.nan, "held": None}
    after = final.interval("A", run=run)[1]
    judged = one.verdict is Verdict.IDENTIFIED and final.verdict is Verdict.IDENTIFIED
    return row | {
        "final_verdict": final.verdict.name,
        "A_final": after,
        "held": lower <= after <= upper if judged else None,
    }


def _horizon_names() -> list[str]:
    inner = [f"{low:g} to {high:g} x" for low, high in pairwise(HORIZONS[:-1])]
    return [*inner, f"beyond {HORIZONS[-2]:g} x"]
