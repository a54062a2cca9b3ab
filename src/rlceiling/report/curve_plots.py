"""Fan charts: evaluations, fitted curves, forecasts, and the ceilings that are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlceiling.decisions.forecast import level_ahead
from rlceiling.errors import DataError
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.verdicts import Verdict
from rlceiling.report.style import (
    COLOURS,
    GREY,
    HATCH,
    MARKERS,
    axes_of,
    new_picture,
    plain,
    put_legend,
    recipes_of,
    scale_compute,
)
from rlceiling.runs.units import Units
from rlceiling.text import number

MOST_IN_ONE = 6
"""Largest number of recipes in one pair of axes; more are better drawn in panels."""

GRID_POINTS = 80

INNER_PROB = 0.5
"""Probability of the darker band inside the fan of a single recipe."""


def plot_curves(
    fits: Mapping[str, Fit] | Fit, until: float | None = None, prob: float = 0.9, ax: Axes | None = None
) -> Axes:
    """Draw evaluations, fitted curves, forecasts and the ceilings.

    Points are evaluations, a short dashed mark at the left edge is step 0, and the compute at which all recipes have
    evaluations is shaded. Solid lines are the posterior median of the curve where there are data; dashed lines beyond
    are the forecast, as `Fits.forecast` gives it: of a recipe with one run the level of this run as it goes on from
    where it stands, of a recipe with several its curve. Bands hold them with probability `prob`, and of a single recipe
    a darker one with probability .5. Bars outside the right edge are intervals of the ceiling, drawn only where it is
    `IDENTIFIED`. Of a recipe with several runs line and band are the recipe's, and thin lines are its runs; with one
    run they are that run's, and the interval of the ceiling, which is the recipe's, is wider by the spread between
    runs. A run that stops before its
    curve has bent (`PRE_INFLECTION`) has only a hatched grey band beyond its data, one that does not rise or is no
    sigmoid has nothing there, and one whose chains do not agree shows its data alone.

    Parameters
    ----------
    fits : Fits or Fit
        From `fit` or `load_fits`, or any mapping from name to `Fit` in the same units. More than six are better told
        apart in the panels of `plot_panels`.
    until : float, optional
        Compute at which the plot ends. Default: four times the largest compute of all fits.
    prob : float, default 0.9
        Probability of bands and ceiling intervals.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib Axes
        New ones are shown by notebooks and written by ``.figure.savefig``; their figure is not known to pyplot, so for
        ``plt.show()`` pass ``ax=plt.gca()``.

    Raises
    ------
    DataError
        If `until` does not lie beyond the first evaluation of every recipe, `prob` not between 0 and 1, or there are
        no fits.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl").select("ScaleRL", "ScaleRL-34k"))  # doctest: +SKIP
    >>> rl.plot_curves(fits, until=100_000).figure.savefig("curves.png")  # doctest: +SKIP
    """
    check_prob("plot_curves", prob)
    fits = recipes_of("plot_curves", fits)
    until = _end(fits, until)
    own, ax = ax is None, axes_of(ax, 8.0, 5.2)
    _shade(ax, fits, until)
    inner = INNER_PROB if len(fits) == 1 else None
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    bars = 0
    for fit, (colour, marker) in zip(fits.values(), styles, strict=False):
        _draw(ax, fit, until, prob, colour, marker, inner=inner)
        if fit.verdict is Verdict.IDENTIFIED:
            _draw_ceiling(ax, fit, prob, colour, marker, place=bars)
            bars += 1
    _dress(ax, fits, until)
    if bars:
        ax.text(1.01, 1.01, "ceiling", transform=ax.transAxes, color=GREY, fontsize="small", va="bottom")
    starts = [f.units.unscale(run.start[0]) for f in fits.values() for run in f.runs if run.start is not None]
    if starts:
        ax.annotate(
            "step 0",
            (0.005, min(starts)),
            xycoords=ax.get_yaxis_transform(),
            xytext=(0, -2),
            textcoords="offset points",
            va="top",
            color=GREY,
            fontsize="small",
        )
    ax.set_title(_title(fits, until, prob), loc="left", fontsize="medium")
    put_legend(ax, own)
    return ax


def plot_panels(fits: Mapping[str, Fit], until: float | None = None, prob: float = 0.9) -> Figure:
    """Draw every recipe as `plot_curves` does, in a small panel of its own; all have the same axes.

    Parameters
    ----------
    fits, until, prob
        As of `plot_curves`.

    Returns
    -------
    matplotlib Figure
        Shown by notebooks and written by ``savefig``; not known to pyplot.
    """
    check_prob("plot_panels", prob)
    fits = recipes_of("plot_panels", fits)
    until = _end(fits, until)
    columns = math.ceil(math.sqrt(len(fits)))
    rows = math.ceil(len(fits) / columns)
    figure = new_picture(2.6 * columns, 1.9 * rows + 0.8)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for ax, fit in zip(axes, fits.values(), strict=False):
        _shade(ax, {fit.name: fit}, until)
        _draw(ax, fit, until, prob, COLOURS[0], MARKERS[0], size=0.7)
        known = fit.verdict is Verdict.IDENTIFIED
        if known:
            _draw_ceiling(ax, fit, prob, COLOURS[0], MARKERS[0], size=0.7)
        title = f"{plain(fit.name)}\n{_status(fit, prob)}"
        ax.set_title(title, loc="left", fontsize="small", color="black" if known else GREY)
    _dress(axes[0], fits, until)
    for ax in axes[len(fits) :]:
        ax.set_axis_off()
    for ax in axes[max(0, len(fits) - columns) : len(fits)]:
        ax.tick_params(labelbottom=True)  # also above the empty places of the last row
    axes[0].set(xlabel="", ylabel="")
    units = _units(fits)
    figure.supxlabel(units.compute, fontsize="medium")
    figure.supylabel(units.reward, fontsize="medium")
    marks = "Short marks: step 0 at the left edge, interval of the ceiling at the right edge."
    figure.suptitle(f"{_title(fits, until, prob)}\n{marks}", x=0.01, ha="left", fontsize="medium")
    return figure


def _shade(ax: Axes, fits: Mapping[str, Fit], until: float) -> None:
    """Shade the compute at which all recipes were fitted."""
    first = max(fit.first_compute for fit in fits.values())
    last = min(until, *(fit.largest_compute for fit in fits.values()))
    if first < last:
        ax.axvspan(first, last, color=GREY, alpha=0.08, linewidth=0, zorder=0)


def _draw(
    ax: Axes,
    fit: Fit,
    until: float,
    prob: float,
    colour: str,
    marker: str,
    *,
    size: float = 1.0,
    inner: float | None = None,
) -> None:
    """Draw one recipe: its evaluations, its curve where there are data, and its forecast where there is one."""
    label = f"{plain(fit.name)}: {_status(fit, prob)}"
    several, many = len(fit.runs) > 1, fit.evaluations > 100
    for run in fit.runs:
        ax.plot(
            run.compute,
            fit.units.unscale(run.reward),
            marker,
            color=colour,
            markersize=(2.0 if many else 3.0 if several else 4.5) * size,
            alpha=0.4 if many else 0.6 if several else 1.0,
            markeredgewidth=0,
            label=label,
            zorder=3,
        )
        label = "_nolegend_"
    for start in {run.start[0] for run in fit.runs if run.start is not None}:
        at_zero = [fit.units.unscale(start)] * 2
        ax.plot([0.0, 0.04], at_zero, linestyle=(0, (2, 1)), color=colour, transform=ax.get_yaxis_transform())
    if fit.verdict is Verdict.NOT_CONVERGED:
        return
    known, last = fit.verdict is Verdict.IDENTIFIED, min(fit.largest_compute, until)
    probs = [p for p in (prob, inner) if p is not None]
    inside = np.geomspace(fit.first_compute, last, GRID_POINTS)
    for p in probs:
        lower, median, upper = fit.curve_at(inside, p)
        ax.fill_between(inside, lower, upper, color=colour, alpha=0.2, linewidth=0)
    ax.plot(inside, median, color=colour, linewidth=1.6 * size)
    if several:
        for run in (run for run in fit.runs if run.compute[0] < until):
            own = np.geomspace(float(run.compute[0]), min(float(run.compute[-1]), until), GRID_POINTS)
            middle = fit.curve_at(own, run=run.run)[1]
            ax.plot(own, middle, color=colour, linewidth=0.6 * size, alpha=0.6)
    if last == until or not (known or fit.verdict is Verdict.PRE_INFLECTION):
        return
    beyond = np.geomspace(last, until, GRID_POINTS)

    def ahead(p: float) -> tuple[np.ndarray, ...]:
        return fit.curve_at(beyond, p) if several else level_ahead(fit, beyond, p)

    if known:
        for p in probs:
            lower, median, upper = ahead(p)
            ax.fill_between(beyond, lower, upper, color=colour, alpha=0.12, linewidth=0)
        ax.plot(beyond, median, color=colour, linewidth=1.6 * size, linestyle=(0, (4, 2)))
    else:  # no line: its right end would be read as a ceiling
        lower, _, upper = ahead(prob)
        ax.fill_between(beyond, lower, upper, color=GREY, alpha=0.08, linewidth=0)
        ax.fill_between(beyond, lower, upper, facecolor="none", edgecolor=colour, alpha=0.3, hatch=HATCH, linewidth=0)


def _draw_ceiling(ax: Axes, fit: Fit, prob: float, colour: str, marker: str, place: int = 0, size: float = 1.0) -> None:
    """Draw the credible interval of a ceiling outside the right edge, beside those drawn before."""
    lower, median, upper = fit.interval("A", prob)
    x = [1.02 + 0.022 * place]
    outside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "color": colour, "clip_on": False}
    ax.plot(x * 2, [lower, upper], linewidth=1.6 * size, solid_capstyle="butt", **outside)
    ax.plot(x, [median], marker, markersize=5.0 * size, markeredgewidth=0, **outside)


def _dress(ax: Axes, fits: Mapping[str, Fit], until: float) -> None:
    """Scale, ticks and labels."""
    units = _units(fits)
    first = min(f.first_compute for f in fits.values())
    scale_compute(ax, until / first, until)
    ax.set_xlim(first / (until / first) ** 0.06, until)  # room for step 0
    ax.set(xlabel=units.compute, ylabel=units.reward)


def _units(fits: Mapping[str, Fit]) -> Units:
    return next(iter(fits.values())).units


def _status(fit: Fit, prob: float) -> str:
    if fit.verdict is Verdict.IDENTIFIED:
        return " ".join(("ceiling", *fit.quoted_ceiling(prob)))
    return f"not identified ({fit.verdict.name})"


def _title(fits: Mapping[str, Fit], until: float, prob: float) -> str:
    """Write a title that describes what is drawn."""
    beyond = {f.verdict for f in fits.values() if f.largest_compute < until}
    where = f" to {number(until)} {_units(fits).compute}"
    if {f.verdict for f in fits.values()} == {Verdict.NOT_CONVERGED}:
        return "Evaluations only: the chains do not agree"
    lines = [f"Fitted curves (solid) with {prob:.0%} bands"]
    if Verdict.IDENTIFIED in beyond:
        lines[0] += f", forecast{where} (dashed)"
    if Verdict.PRE_INFLECTION in beyond:
        lines.append(f"Hatched: the {prob:.0%} band{where} of runs whose ceiling cannot be known yet")
    return "\n".join(lines)


def _end(fits: Mapping[str, Fit], until: float | None) -> float:
    if until is None:
        return 4.0 * max(f.largest_compute for f in fits.values())
    for name, fit in fits.items():
        check_until(until, name, fit.first_compute, fit.units.compute)
    return float(until)


def check_until(until: float, name: str, first: float, unit: str) -> None:
    """Raise DataError unless the end of a plot lies beyond the first evaluation of a recipe."""
    if not (math.isfinite(until) and until > first):
        raise DataError(
            f"plot_curves: until={until:g} is not beyond the first evaluation of {name!r}, at {number(first)} "
            f"{unit}; give a larger compute."
        )
    if until > FURTHEST * first:
        raise DataError(
            f"plot_curves: until={until:g} is more than {FURTHEST:g} times the first evaluation of {name!r}, at "
            f"{number(first)} {unit}; give a smaller compute."
        )


FURTHEST = 1e12
"""End of a plot, in multiples of the first evaluation, up to which its axis can be read."""
