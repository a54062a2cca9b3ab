"""Plots of backtests: coverage against nominal coverage, and the worst forecasts."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlceiling.calibration.backtest import MODEL, Backtest
from rlceiling.calibration.baselines import least_squares
from rlceiling.calibration.scores import Mixture, ensemble
from rlceiling.decisions.forecast import predict
from rlceiling.posterior.fit import Fit
from rlceiling.report.style import COLOURS, GREY, MARKERS, new_picture, scale_compute
from rlceiling.runs import Run

GRID_POINTS = 60
FAN_PROBS = (0.9, 0.5)


def plot_backtest(backtest: Backtest, worst: int = 3) -> Figure:
    """Draw coverage against nominal coverage, and fans of the worst forecasts.

    On the left, for every method, the share of later evaluations inside the central interval of each probability; the
    diagonal is what a calibrated forecast gives, below it intervals are too narrow. On the right the runs with the
    worst mean log score: filled points were fitted, open ones came later, bands hold a new evaluation with
    probability .5 and .9, the dotted line is the least-squares curve.

    Parameters
    ----------
    backtest : Backtest
        From `rlceiling.backtest`.
    worst : int, default 3
        Number of fans.

    Returns
    -------
    matplotlib Figure
        Shown by notebooks and written by ``savefig``.

    Examples
    --------
    >>> import rlceiling as rl
    >>> tested = rl.backtest(rl.load_dataset("scalerl", split="all"))  # doctest: +SKIP
    >>> rl.plot_backtest(tested).savefig("backtest.png")  # doctest: +SKIP
    """
    cases = backtest.worst(worst)
    figure = new_picture(4.2 + 3.4 * len(cases), 4.4)
    axes = figure.subplots(1, 1 + len(cases), squeeze=False, width_ratios=[1.15] + [1.0] * len(cases))[0]
    _coverage(axes[0], backtest)
    finished = {(run.recipe, run.run): run for run in backtest.runs.iter_runs()}
    for ax, case in zip(axes[1:], cases.to_dict("records"), strict=True):
        run = finished[case["recipe"], case["run"]]
        fit = backtest.fit_of(case["cut"], case["recipe"])
        _fan(ax, fit, run)
        name = fit.name if len(fit.runs) == 1 else f"{fit.name}/{run.run}"
        title = f"{name}, cut at {case['cut']}\n{fit.verdict.name}, {case['in 90%']:.0%} inside 90%"
        ax.set_title(title.replace("$", r"\$"), loc="left", fontsize="small")
    if len(cases):
        handles, labels = axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), fontsize="small", frameon=False)
    return figure


def _coverage(ax: Axes, backtest: Backtest) -> None:
    table = backtest.coverage()
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
    for (method, shares), colour, marker in zip(table.items(), COLOURS, MARKERS, strict=False):
        own = method == MODEL
        ax.plot(
            table.index,
            shares,
            marker=marker,
            markersize=4.0 if own else 3.0,
            linewidth=2.0 if own else 1.0,
            color=colour,
            label=str(method),
            zorder=3 if own else 2,
        )
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the interval", ylabel="later evaluations inside")
    ax.set_aspect("equal")
    ax.legend(loc="upper left", fontsize="small", frameon=False)
    evaluations = int(backtest.scores()["evaluations"].iloc[0])
    ax.set_title(
        f"Coverage of {evaluations:,} later evaluations\nof {len(backtest.ceilings)} cut runs",
        loc="left",
        fontsize="small",
    )


def _fan(ax: Axes, fit: Fit, run: Run) -> None:
    units, cut = fit.units, fit.runs[fit.place(run.run)]
    compute = np.geomspace(run.compute[0], run.compute[-1], GRID_POINTS)
    predictive = predict(fit, compute, run.run)
    members = ensemble(Mixture(predictive.mean, predictive.sd), units.bounds, np.random.default_rng(0))
    for prob, alpha in zip(FAN_PROBS, (0.2, 0.3), strict=True):
        lower, upper = np.quantile(members, [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0], axis=0)
        ax.fill_between(
            compute, lower, upper, color=COLOURS[0], alpha=alpha, linewidth=0, label=f"a new evaluation, {prob:.0%}"
        )
    ax.plot(compute, np.median(members, axis=0), color=COLOURS[0], linewidth=1.6)
    stage, begins = cut.last_stage(), float(cut.begins[-1])
    within = compute[compute > begins]
    best = least_squares(stage, stage.reward[:, None]).curve(np.log(within - begins))[0]
    ax.plot(within, units.unscale(best), color=COLOURS[2], linewidth=1.2, linestyle=":", label="least squares")
    later = run.compute > cut.compute[-1]
    size = 4.0 if len(run.compute) <= 100 else 2.0
    ax.plot(
        cut.compute, units.unscale(cut.reward), "o", color="black", markersize=size, markeredgewidth=0, label="fitted"
    )
    ax.plot(
        run.compute[later],
        units.unscale(run.reward[later]),
        "o",
        markersize=size,
        markerfacecolor="none",
        markeredgecolor=COLOURS[1],
        markeredgewidth=0.8,
        zorder=3,
        label="came later",
    )
    scale_compute(ax, float(compute[-1]) / float(compute[0]), float(compute[-1]))
    ax.set(xlabel=units.compute, ylabel=units.reward)
