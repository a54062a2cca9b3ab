"""Plots of runs, their fitted curves and where these lead."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from rlceiling.curves.sigmoid import sigmoid_curve
from rlceiling.errors import DataError
from rlceiling.posterior.fit import Fit, Units, check_prob
from rlceiling.posterior.verdicts import Verdict
from rlceiling.report.text import ceiling, number

MOST_IN_ONE = 6
"""Recipes that share one pair of axes; more are drawn in panels of their own."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Okabe and Ito's palette without its yellow, which is faint in print."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""As many as recipes in one plot, so that it can be read without colours; 6 and 7 make 42 pairs."""

GREY = "#767676"
GRID_POINTS = 80


class CurveFigure(Figure):
    """A figure that notebooks show by themselves, without pyplot and its global list of figures."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


def plot_curves(
    fits: Mapping[str, Fit], until: float | None = None, prob: float = 0.9, ax: Axes | None = None
) -> Figure:
    """Draw evaluations, fitted curves, their extrapolation and the ceilings.

    Points are evaluations, a short dashed mark at the left edge is step 0. Lines are the posterior median of the
    curve, solid where there are data and dashed beyond; bands hold the curve with probability `prob`. Bars outside
    the right edge are intervals of the ceiling, drawn only where it is `IDENTIFIED`. Of a recipe with several runs line
    and band are the recipe's, and thin lines are its runs; with one run line and band are that run's and the interval
    of the ceiling, which is the recipe's, is wider by the spread between runs. A run that stops before its
    curve has bent (`PRE_INFLECTION`) has only a hatched grey band beyond its data, one that does not rise or is no
    sigmoid has nothing there, and one whose chains do not agree shows its data alone.

    Parameters
    ----------
    fits : Fits
        From `fit` or `load_fits`, or any mapping from name to `Fit` in the same units.
    until : float, optional
        Compute at which the plot ends. Default: four times the largest compute of all fits.
    prob : float, default 0.9
        Probability of bands and ceiling intervals.
    ax : matplotlib Axes, optional
        Draw all of them here. Default: a new figure, with one pair of axes for up to six fits and small panels
        with common axes for more.

    Returns
    -------
    matplotlib Figure
        The one drawn in. A new one is shown by notebooks and written by ``savefig``; it is not known to pyplot, so
        for ``plt.show()`` pass ``ax=plt.gca()``.

    Raises
    ------
    DataError
        If `until` does not lie beyond the first evaluation of every recipe, `prob` not between 0 and 1, or there are
        no fits.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl").select("ScaleRL", "ScaleRL-34k"))  # doctest: +SKIP
    >>> rl.plot_curves(fits, until=100_000).savefig("curves.png")  # doctest: +SKIP
    """
    check_prob("plot_curves", prob)
    if not fits:
        raise DataError("plot_curves: there are no fits to draw; give at least one.")
    until = _end(fits, until)
    own = ax is None
    if ax is None:
        if len(fits) > MOST_IN_ONE:
            return _panels(fits, until, prob)
        ax = CurveFigure(figsize=(8.0, 5.2), dpi=150, layout="constrained").add_subplot()
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    bars = 0
    for fit, (colour, marker) in zip(fits.values(), styles, strict=False):
        _draw(ax, fit, until, prob, colour, marker)
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
    figure = ax.get_figure(root=True)
    assert figure is not None
    if own:  # below the axes, where it hides nothing
        wide = max(len(str(label)) for label in ax.get_legend_handles_labels()[1]) > 50
        figure.legend(loc="outside lower left", ncols=1 if wide else 2, fontsize="small", frameon=False)
    else:
        ax.legend(loc="best", fontsize="small")
    return figure


def _panels(fits: Mapping[str, Fit], until: float, prob: float) -> Figure:
    """One small panel a fit, all with the same axes."""
    columns = math.ceil(math.sqrt(len(fits)))
    rows = math.ceil(len(fits) / columns)
    figure = CurveFigure(figsize=(2.6 * columns, 1.9 * rows + 0.8), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for ax, fit in zip(axes, fits.values(), strict=False):
        _draw(ax, fit, until, prob, COLOURS[0], MARKERS[0], size=0.7)
        known = fit.verdict is Verdict.IDENTIFIED
        if known:
            _draw_ceiling(ax, fit, prob, COLOURS[0], MARKERS[0], size=0.7)
        title = f"{_plain(fit.name)}\n{_status(fit, prob)}"
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


def _draw(ax: Axes, fit: Fit, until: float, prob: float, colour: str, marker: str, size: float = 1.0) -> None:
    """Draw one recipe: its evaluations, its curve where there are data, and what may be said of it beyond."""
    label = f"{_plain(fit.name)}: {_status(fit, prob)}"
    evaluations = sum(len(run.compute) for run in fit.runs)
    several, many = len(fit.runs) > 1, evaluations > 100
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
    inside, lower, median, upper = _fan(fit, fit.first_compute, last, prob)
    ax.plot(inside, median, color=colour, linewidth=1.6 * size)
    ax.fill_between(inside, lower, upper, color=colour, alpha=0.2, linewidth=0)
    if several:
        for run in (run for run in fit.runs if run.compute[0] < until):
            own, _, middle, _ = _fan(fit, float(run.compute[0]), min(float(run.compute[-1]), until), prob, run.run)
            ax.plot(own, middle, color=colour, linewidth=0.6 * size, alpha=0.6)
    if last == until or not (known or fit.verdict is Verdict.PRE_INFLECTION):
        return
    beyond, lower, median, upper = _fan(fit, last, until, prob)
    if known:
        ax.plot(beyond, median, color=colour, linewidth=1.6 * size, linestyle=(0, (4, 2)))
        ax.fill_between(beyond, lower, upper, color=colour, alpha=0.12, linewidth=0)
    else:  # no line: its right end would be read as a ceiling
        ax.fill_between(
            beyond,
            lower,
            upper,
            facecolor=to_rgba(GREY, 0.08),
            edgecolor=to_rgba(colour, 0.3),
            hatch="///",
            linewidth=0,
        )


def _draw_ceiling(ax: Axes, fit: Fit, prob: float, colour: str, marker: str, place: int = 0, size: float = 1.0) -> None:
    """Draw the interval of a ceiling outside the right edge, beside those already there."""
    lower, median, upper = fit.interval("A", prob)
    x = [1.02 + 0.022 * place]
    outside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "color": colour, "clip_on": False}
    ax.plot(x * 2, [lower, upper], linewidth=1.6 * size, solid_capstyle="butt", **outside)
    ax.plot(x, [median], marker, markersize=5.0 * size, markeredgewidth=0, **outside)


def _fan(fit: Fit, first: float, last: float, prob: float, run: str | None = None) -> tuple[np.ndarray, ...]:
    """Compute, and lower end, median and upper end of the curve there: of a run, or of the recipe.

    The curve of a recipe with one run is that run's, as its points are; its ceiling is the recipe's.
    """
    compute = np.geomspace(first, last, GRID_POINTS)
    if run is None and len(fit.runs) == 1:
        run = fit.run_names[0]
    draws = fit.draws if run is None else fit.draws_of(run)
    A, B, C_mid, R0 = (draws[name].reshape(-1, 1) for name in ("A", "B", "C_mid", "R0"))
    tail = (1.0 - prob) / 2.0
    return compute, *np.quantile(sigmoid_curve(compute, A, B, C_mid, R0), [tail, 0.5, 1.0 - tail], axis=0)


def _dress(ax: Axes, fits: Mapping[str, Fit], until: float) -> None:
    """Scale, ticks and labels."""
    units = _units(fits)
    first = min(f.first_compute for f in fits.values())
    scale_compute(ax, until / first, until)
    ax.set_xlim(first / (until / first) ** 0.06, until)  # room for step 0
    ax.set(xlabel=units.compute, ylabel=units.reward)


def scale_compute(ax: Axes, span: float, last: float) -> None:
    """Logarithmic axis of compute, with ticks that are read at once."""
    ax.set_xscale("log")
    if span < 50:
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 15 else (1.0, 3.0)))
        ax.xaxis.set_minor_locator(NullLocator())
    if last < 1e7:  # larger ones are FLOPs, which want powers of ten
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _units(fits: Mapping[str, Fit]) -> Units:
    return next(iter(fits.values())).units


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # a name is no formula


def _status(fit: Fit, prob: float) -> str:
    if fit.verdict is Verdict.IDENTIFIED:
        return " ".join(("ceiling", *ceiling(fit, prob)))
    return f"not identified ({fit.verdict.name})"


def _title(fits: Mapping[str, Fit], until: float, prob: float) -> str:
    """Say what is drawn, and only that."""
    beyond = {f.verdict for f in fits.values() if f.largest_compute < until}
    where = f" to {number(until)} {_units(fits).compute}"
    if {f.verdict for f in fits.values()} == {Verdict.NOT_CONVERGED}:
        return "Evaluations only: the chains do not agree"
    lines = [f"Fitted curves (solid) with {prob:.0%} bands"]
    if Verdict.IDENTIFIED in beyond:
        lines[0] += f", extrapolated{where} (dashed)"
    if Verdict.PRE_INFLECTION in beyond:
        lines.append(f"Hatched: the {prob:.0%} band{where} of runs whose ceiling cannot be known yet")
    return "\n".join(lines)


def _end(fits: Mapping[str, Fit], until: float | None) -> float:
    if until is None:
        return 4.0 * max(f.largest_compute for f in fits.values())
    for name, fit in fits.items():
        first = fit.first_compute
        if not (math.isfinite(until) and until > first):
            raise DataError(
                f"plot_curves: until={until:g} is not beyond the first evaluation of {name!r}, at {number(first)} "
                f"{fit.units.compute}; give a larger compute."
            )
    return float(until)
