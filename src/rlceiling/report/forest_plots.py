"""Forest plots: the posterior of a parameter in every recipe, beside its prior."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from rlceiling.errors import unknown_name
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.verdicts import Verdict
from rlceiling.report.style import COLOURS, GREY, axes_of, label_recipes, recipes_of, scale_compute, without_frame

PARAMETERS = ("A", "B", "C_mid")

APART = 0.17
"""Distance between posterior and prior, in rows, and the middle between them."""


def plot_forest(fits: Mapping[str, Fit] | Fit, parameter: str = "A", prob: float = 0.9, ax: Axes | None = None) -> Axes:
    """Draw median and interval of a parameter in every recipe, with its prior below in grey.

    A ceiling is drawn only where it is `IDENTIFIED`; elsewhere its prior stands alone, with the verdict. Efficiency and
    midpoint of such a recipe are drawn open and in grey, unless its chains do not agree. A posterior that looks like
    its prior was not told by the data.

    Parameters
    ----------
    fits : Fits or Fit
        Posteriors in the same units.
    parameter : {"A", "B", "C_mid"}, default "A"
        Ceiling, efficiency or midpoint.
    prob : float, default 0.9
        Probability of the equal-tailed intervals.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If there is no such parameter, `prob` not between 0 and 1, or there are no fits.
    """
    check_prob("plot_forest", prob)
    if parameter not in PARAMETERS:
        raise unknown_name("plot_forest", "parameter", str(parameter), PARAMETERS)
    fits = recipes_of("plot_forest", fits)
    ax = axes_of(ax, 6.0, 1.2 + 0.34 * len(fits))
    tails = [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0]
    for place, fit in enumerate(fits.values()):
        known = fit.verdict is Verdict.IDENTIFIED
        prior = np.quantile(fit.prior_draws()[parameter], tails)
        ax.plot(prior, [place + APART] * 2, color=GREY, alpha=0.5, linewidth=3.0, solid_capstyle="butt")
        if fit.verdict is Verdict.NOT_CONVERGED or (parameter == "A" and not known):
            ax.annotate(
                fit.verdict.name,
                (0.5, place - APART),
                xycoords=ax.get_yaxis_transform(),
                ha="center",
                va="center",
                fontsize="x-small",
                color=GREY,
            )
            continue
        lower, median, upper = fit.interval(parameter, prob)
        colour = COLOURS[0] if known else GREY
        ax.plot([lower, upper], [place - APART] * 2, color=colour, linewidth=2.0, solid_capstyle="butt")
        inside = colour if known else "none"
        ax.plot(median, place - APART, "o", color=colour, markersize=5.0, markerfacecolor=inside)
    units = next(iter(fits.values())).units
    if parameter == "A":
        ax.set_xlabel(f"ceiling A ({units.reward})")
    elif parameter == "B":
        ax.set_xlabel("efficiency B")
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        low, high = ax.get_xlim()
        ax.set_xlabel(f"midpoint C_mid ({units.compute})")
        scale_compute(ax, high / max(low, 1e-300), high)
    label_recipes(ax, list(fits.values()))
    without_frame(ax, "top", "right", "left")
    ax.set_title(f"median and {prob:.0%} interval; grey: prior", loc="left", fontsize="small")
    return ax
