"""Plots of residuals and of the probability integral transform, which show whether the model fits."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from scipy.special import ndtri

from rlceiling.calibration.ranks import simultaneous_band
from rlceiling.models.paths import paths_at_evaluations
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.predictive_checks import evaluation_pits
from rlceiling.report.style import COLOURS, GREY, MARKERS, axes_of, scale_compute, without_frame

FEW_DRAWS = 500
"""Parameters of the noise."""

NORMALS = ndtri((np.arange(40) + 0.5) / 40)
"""Quantiles of a standard normal at equal probabilities."""


def plot_residuals(fit: Fit, prob: float = 0.9, ax: Axes | None = None) -> Axes:
    """Draw every evaluation minus the fitted curve of its run, against compute.

    The grey band, at the computes of the longest run, holds an evaluation with probability `prob` if the model is
    right; the line is the autocorrelated part of the noise. Points of several runs have colours and markers
    of their own. A run that was binned shows its bins.

    Parameters
    ----------
    fit : Fit
        Posterior of one recipe.
    prob : float, default 0.9
        Probability of the band.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If `prob` is not between 0 and 1.
    """
    check_prob("plot_residuals", prob)
    ax = axes_of(ax, 6.0, 3.2)
    units, recipe = fit.units, fit.data
    step = max(1, fit.draws["A"].size // FEW_DRAWS)
    last = 0.0
    for place, (run, colour, marker) in enumerate(zip(fit.run_names, cycle(COLOURS), cycle(MARKERS), strict=False)):
        few = {name: values.reshape(-1)[::step] for name, values in fit.scaled_draws_of(run).items()}
        data = recipe.run(place)
        paths = paths_at_evaluations(recipe, place, few)
        compute = np.exp(data.clock[data.observed] + recipe.log_origin)
        residual = units.unscale(data.reward[data.observed]) - fit.curve_at(compute, run=run)[1]
        if place == recipe.order[0]:  # the run with most evaluations
            sd = np.sqrt((few["share"] * few["sigma"] ** 2)[:, None] + paths.white_var)
            noise = (sd[:, None, :] * NORMALS[:, None]).reshape(-1, len(compute))
            lower, upper = np.quantile(noise, [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0], axis=0)
            ax.fill_between(compute, units.width * lower, units.width * upper, color=GREY, alpha=0.15, linewidth=0)
        ax.plot(compute, units.width * paths.wander.mean(axis=0), color=colour, linewidth=1.2, alpha=0.7)
        ax.plot(compute, residual, marker, color=colour, markersize=4.5, markeredgewidth=0)
        last = max(last, float(compute[-1]))
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    scale_compute(ax, last / fit.first_compute, last)
    ax.set(xlabel=units.compute, ylabel=f"{units.reward} minus curve")
    without_frame(ax, "top", "right")
    return ax


def plot_pit(fit: Fit, prob: float = 0.95, ax: Axes | None = None) -> Axes:
    """Draw the distribution of the probability integral transform (PIT) of the evaluations.

    If the model is right these are uniform, and the steps stay inside the band all along with probability `prob`. Steps
    that start below the diagonal and end above it mean that predictions are too wide, steps that start above it and end
    below it that they are too narrow, and steps on one side of it that the curve is off.

    Parameters
    ----------
    fit : Fit
        Posterior of one recipe; the evaluations of all its runs are taken together (see
        `rlceiling.posterior.predictive_checks.evaluation_pits`).
    prob : float, default 0.95
        Probability of the simultaneous band.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If `prob` is not between 0 and 1.

    References
    ----------
    Saeilynoja, Buerkner, Vehtari, "Graphical test for discrete uniformity and its applications in goodness-of-fit
    evaluation and multiple sample comparison", Statistics and Computing 2022, doi 10.1007/s11222-022-10090-6.
    """
    check_prob("plot_pit", prob)
    ax = axes_of(ax, 3.6, 3.2)
    runs = enumerate(fit.run_names)
    pits = np.concatenate([evaluation_pits(fit.data, i, fit.scaled_draws_of(run)) for i, run in runs])
    places, lower, upper = simultaneous_band(len(pits), prob)
    ax.fill_between(places, lower, upper, color=GREY, alpha=0.15, linewidth=0)
    ax.plot([0.0, 1.0], [0.0, 1.0], color=GREY, linewidth=0.8)
    ordered = np.concatenate([[0.0], np.sort(pits), [1.0]])
    share = np.concatenate([[0.0], np.arange(1, len(pits) + 1) / len(pits), [1.0]])
    ax.step(ordered, share, where="post", color=COLOURS[0], linewidth=1.6)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="place in the prediction (PIT)", ylabel="share of evaluations below")
    without_frame(ax, "top", "right")
    return ax
