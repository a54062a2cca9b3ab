"""Backtests across sizes: both laws forecast held-out sizes and the held-out rest of truncated runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from rlceiling.calibration.scores import Mixture, score_forecast
from rlceiling.decisions.size_questions import predict
from rlceiling.errors import DataError, is_finite
from rlceiling.fitting.fit_sizes import check_law, fit_grouped
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.size_laws import LAWS
from rlceiling.results.sizes import Sizes
from rlceiling.runs import Run, Runs
from rlceiling.runs.grouping import FEWEST, GroupedRuns, group_by_size

SIZE_LEVELS = (0.5, 0.9)
"""Probabilities of the central (equal-tailed) prediction intervals whose coverage is reported."""

COMPONENTS = 500
"""Number of posterior draws in the scored mixture."""


@dataclass(frozen=True, eq=False, repr=False)
class SizesBacktest:
    """Forecasts of held-out sizes and truncated runs, compared with their held-out evaluations.

    Returned by `rlceiling.backtest_sizes`.

    Attributes
    ----------
    points : DataFrame
        One row per forecast: ``task`` ("without 72" or "first 30%"), ``size``, ``law``, ``resource``, ``reward`` (of
        the held-out evaluation, on [0, 1]), ``mean``, ``lower``, ``upper`` (90% equal-tailed interval of a new
        evaluation, posterior predictive), ``pit``, ``crps``, ``log_score`` (see
        `rlceiling.calibration.scores.score_forecast`) and ``ln_error`` (ln L of the mean curve minus ln L of the
        held-out evaluation).
    fits : dict of (task, law) to Sizes
        Fits of each law to each task.
    """

    points: pd.DataFrame
    fits: dict[tuple[str, str], Sizes] = field(repr=False)

    def scores(self, *by: str) -> pd.DataFrame:
        """Scores of each law.

        Parameters
        ----------
        *by : {"task", "size"}
            Columns by which forecasts are grouped. Default: no groups, with equal weight of every task and size.

        Returns
        -------
        DataFrame
            Index: the groups and ``law``. Columns: ``rmse`` of ln L, ``in 50%`` and ``in 90%`` (coverage: share of
            held-out evaluations in the central interval of that probability), ``crps`` (mean, on [0, 1], lower is
            better), ``bias`` (mean of forecast minus reward), ``evaluations``.
        """
        points = self.points.assign(
            square=self.points["ln_error"] ** 2, bias=self.points["mean"] - self.points["reward"], one=1
        )
        for level in SIZE_LEVELS:
            points[f"in {level:.0%}"] = (points["pit"] - 0.5).abs() <= level / 2.0
        of = [f"in {level:.0%}" for level in SIZE_LEVELS]
        each = points.groupby(["task", "size", "law"], sort=False)
        table = each[["square", *of, "crps", "bias"]].mean().join(each["one"].sum().rename("evaluations"))
        grouped = table.reset_index().groupby([*by, "law"], sort=False)
        out = grouped[["square", *of, "crps", "bias"]].mean().rename(columns={"square": "rmse"})
        out["rmse"] = np.sqrt(out["rmse"])
        return out.join(grouped["evaluations"].sum())

    def preferred(self) -> str:
        """Sentence on the law with the better forecasts, and by how much."""
        crps = self.points.groupby(["task", "size", "law"], sort=False)["crps"].mean().unstack("law")
        if crps.shape[1] < 2:
            return "only one law was tried"
        means = crps.mean().sort_values()
        best, other = means.index[0], means.index[1]
        wins = int((crps[best] < crps[other]).sum())
        difference = crps[other] - crps[best]
        error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("nan")
        gain = float(difference.mean())
        sure = "" if gain > 2.0 * error else "; that is within the error of the comparison, so neither is preferred"
        bad = [f"{law}, {task}" for (task, law), fit in self.fits.items() if not fit.rules.converged(fit.convergence)]
        sure += f"; chains that do not agree: {'; '.join(bad)}" if bad else ""
        return (
            f"{best}: mean CRPS {means[best]:.4f} against {means[other]:.4f} of the {other} (difference {gain:.4f},"
            f" standard error {error:.4f}), better in {wins} of {len(crps)} forecasts of a size{sure}"
        )

    def __repr__(self) -> str:
        return f"SizesBacktest: {self.preferred()}\n{self.scores('task').round(4).to_string()}"


def backtest_sizes(
    runs: Runs,
    size: str = "model_size",
    resource: str = "compute",
    *,
    cut: float | Sequence[float] = (0.3,),
    leave_out: Sequence[Any] | None = None,
    laws: Sequence[str] = tuple(LAWS),
    progress: bool | None = None,
    **settings: Any,
) -> SizesBacktest:
    """Compare the laws by forecasts of held-out sizes and of the held-out rest of truncated runs.

    Parameters
    ----------
    runs, size, resource
        As in `fit_sizes`.
    cut : float or sequence of float, default (0.3,)
        Shares of every run's evaluations that are fitted; the rest is forecast. Empty: no run is truncated.
    leave_out : sequence of sizes, optional
        Sizes that are forecast from all other sizes, one at a time. Default: the two largest. Empty: no size is held
        out.
    laws : sequence of str, default both
        Laws to compare.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.
    **settings
        As in `fit_sizes`.

    Returns
    -------
    SizesBacktest
        Forecasts, scores and fits.

    Raises
    ------
    DataError
        If a share is not between 0 and 1 or leaves a size too few evaluations, a size is unknown, or both `cut` and
        `leave_out` are empty.
    """
    for law in laws:
        check_law(law)
    grouped = group_by_size(runs, size, resource)
    tasks = [*_without(grouped, leave_out), *_cut(grouped, np.atleast_1d(np.asarray(cut, dtype=float)))]
    if not tasks:
        raise DataError("backtest_sizes: nothing to forecast; give a share in cut or a size in leave_out.")
    points, fits = [], {}
    todo = [(task, law) for task in tasks for law in laws]
    for (name, known, later), law in tqdm(
        todo, desc="backtest", unit="fit", disable=None if progress is None else not progress
    ):
        fit = fits[name, law] = fit_grouped(known, law=law, progress=False, **settings)
        for value, run in later:
            points.append(_score(fit, value, run).assign(task=name, size=grouped.units.show(value), law=law))
    table = pd.concat(points, ignore_index=True)
    first = ["task", "size", "law"]
    return SizesBacktest(table[[*first, *(c for c in table if c not in first)]], fits)


Task = tuple[str, GroupedRuns, list[tuple[float, Run]]]
"""Name of the task, fitted runs, and sizes and runs to forecast."""


def _without(grouped: GroupedRuns, leave_out: Sequence[Any] | None) -> Iterator[Task]:
    asked = grouped.sizes[-2:] if leave_out is None else [grouped.units.read("backtest_sizes", s) for s in leave_out]
    for value in asked:
        place = next((i for i, s in enumerate(grouped.sizes) if np.isclose(s, value, rtol=1e-9)), None)
        if place is None:
            raise DataError(
                f"backtest_sizes: size {grouped.units.show(value)} is not among those there are; leave out one of"
                f" {', '.join(map(grouped.units.show, grouped.sizes))}."
            )
        kept = [i for i in range(len(grouped.sizes)) if i != place]
        if len(kept) < 2:
            raise DataError("backtest_sizes: there are too few sizes to leave one out; give leave_out=().")
        known = replace(
            grouped, sizes=tuple(grouped.sizes[i] for i in kept), runs=tuple(grouped.runs[i] for i in kept), notes=()
        )
        yield f"without {grouped.units.show(value)}", known, [(value, run) for run in grouped.runs[place]]


def _cut(grouped: GroupedRuns, shares: np.ndarray) -> Iterator[Task]:
    for share in shares:
        if not (is_finite(share) and 0.0 < share < 1.0):
            raise DataError(f"backtest_sizes: cut={share:g} is not a share between 0 and 1; give one, such as 0.3.")
        known, later = [], []
        for value, own in zip(grouped.sizes, grouped.runs, strict=True):
            kept = [round(share * len(run.compute)) for run in own]
            if max(kept) < FEWEST:
                raise DataError(
                    f"backtest_sizes: cut={share:g} leaves size {grouped.units.show(value)} with {max(kept)}"
                    f" evaluations and a fit needs {FEWEST}; give a larger share."
                )
            parts = [(_part(run, slice(n)), _part(run, slice(n, None))) for run, n in zip(own, kept, strict=True)]
            known.append(tuple(first for first, _ in parts))
            later += [(value, rest) for _, rest in parts if len(rest.compute)]
        yield f"first {share:.0%}", replace(grouped, runs=tuple(known), notes=()), later


def _part(run: Run, rows: slice) -> Run:
    return replace(run, compute=run.compute[rows], reward=run.reward[rows], n_eval=run.n_eval[rows])


def _score(fit: Sizes, size: float, run: Run) -> pd.DataFrame:
    predictive = predict(fit, size, run.compute)
    step = max(1, len(predictive.mean) // COMPONENTS)
    mixture = Mixture(predictive.mean[::step], np.asarray(predictive.sd[::step]))
    rng = np.random.default_rng(stream_key(fit.settings.seed, "sizes", f"{size:.9g}", run.run, "score"))
    scores = score_forecast(mixture, run.reward, (0.0, 1.0), rng)
    ln_error = np.log1p(-predictive.curve.mean(axis=0)) - np.log(np.maximum(1.0 - run.reward, 1e-3))
    return scores.assign(resource=run.compute, reward=run.reward, ln_error=ln_error)
