"""Plots of a law across model sizes: fans, the exponent or ceiling against size, the best size for a budget."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from rlceiling.decisions.forecast import check_compute
from rlceiling.decisions.size_questions import best_size, read_sizes
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.size_fit import SizePosterior
from rlceiling.posterior.size_verdicts import SizeVerdict
from rlceiling.report.curve_plots import GRID_POINTS
from rlceiling.report.style import COLOURS, GREY, MARKERS, new_picture, scale_compute
from rlceiling.text import number

NEW_SIZES = 24
"""Number of sizes beside those in the data at which the exponent, or ceiling, is drawn."""

BUDGETS = 60
"""Number of budgets at which the chances of sizes are drawn."""


class _View(NamedTuple):
    """What is drawn of a law: other sizes, the range of the resource, and the probability of bands."""

    added: list[float]
    first: float
    end: float
    prob: float


def plot_sizes(fit: SizePosterior, add: Sequence[Any] = (), until: float | None = None, prob: float = 0.9) -> Figure:
    """Draw the runs and the law on three pairs of axes.

    Left: test loss against the resource, both logarithmic. Points are evaluations (averages of neighbours where there
    are many), lines are posterior medians of the curves, dashed beyond the data and for sizes not in the data, and
    bands hold the curve with probability `prob`. Middle: exponent (or ceiling) of every size with its credible
    interval, that of sizes not in the data in grey, and the value at which the law saturates, hatched where the data do
    not reach that far. Right: the chance of each size to be the best one for a budget.

    Parameters
    ----------
    fit : SizePosterior
        From `fit_sizes`.
    add : sequence of sizes, optional
        Sizes that are drawn beside those in the data.
    until : float, optional
        Resource at which the plot ends, in the unit of the runs. Default: four times the largest.
    prob : float, default 0.9
        Probability of bands and intervals.

    Returns
    -------
    matplotlib Figure
        Notebooks show it and ``savefig`` writes it; pyplot does not hold it.

    Raises
    ------
    DataError
        If a size or `until` is not positive, or `prob` not between 0 and 1.

    Examples
    --------
    >>> import rlceiling as rl
    >>> sizes = rl.fit_sizes(rl.load_dataset("qwen_math"), size="model_size_b")  # doctest: +SKIP
    >>> rl.plot_sizes(sizes, add=[144]).savefig("sizes.png")  # doctest: +SKIP
    """
    view = _view(fit, add, until, prob)
    figure = new_picture(13.0, 4.8)
    for ax, draw in zip(figure.subplots(1, 3, width_ratios=[1.25, 1.0, 1.0]), (_fans, _law, _best), strict=True):
        draw(ax, fit, view)
    known = "" if fit.verdict is SizeVerdict.SATURATION_SEEN else f" ({fit.verdict.name})"
    title = f"{fit.law_in_words.removeprefix('the ').capitalize()} across sizes{known}: {fit.sentence()}"
    figure.suptitle(
        textwrap.fill(title, 140),
        x=0.01,
        ha="left",
        fontsize="medium",
    )
    return figure


def size_panels(fit: SizePosterior) -> dict[str, Axes]:
    """The axes of `plot_sizes` one by one, each in a figure of its own: ``curves``, ``law`` and ``best``.

    A law of one size has no ``best``. They have no titles, since a page has captions.
    """
    view, made = _view(fit, (), None, 0.9), {}
    panels = {"curves": _fans, "law": _law} | ({"best": _best} if len(fit.sizes) > 1 else {})
    for name, draw in panels.items():
        ax = made[name] = new_picture(4.8, 3.9).add_subplot()
        draw(ax, fit, view)
        ax.set_title("", loc="left")
    return made


def _view(fit: SizePosterior, add: Sequence[Any], until: float | None, prob: float) -> _View:
    check_prob("plot_sizes", prob)
    end = 4.0 * fit.largest_compute if until is None else float(check_compute(until)[0])
    added = [s for s in read_sizes(fit, "plot_sizes", list(add)) if s not in fit.sizes] if len(add) else []
    return _View(added, fit.first_compute, end, prob)


def _style(fit: SizePosterior, size: float) -> tuple[str, str]:
    """Colour and marker of a size; one that was not trained is grey."""
    if size not in fit.sizes:
        return GREY, ""
    place = fit.sizes.index(size)
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def _fans(ax: Axes, fit: SizePosterior, view: _View) -> None:
    added, first, end, prob = view
    low, high = fit.units.bounds
    tail = (1.0 - prob) / 2.0
    everyone = sorted([*fit.sizes, *added])
    for size in everyone:
        colour, marker = _style(fit, size)
        seen = size in fit.sizes
        own = fit.runs[fit.sizes.index(size)] if seen else ()
        start = min((float(r.compute[0]) for r in own), default=first)
        stop = max((float(r.compute[-1]) for r in own), default=start)
        for run in own:
            x, y = _averaged(run.compute, (high - low) * (1.0 - run.reward))
            ax.plot(x, y, marker, color=colour, markersize=3.0, markeredgewidth=0, alpha=0.8)
        x = np.geomspace(start, end, GRID_POINTS)
        lower, median, upper = np.quantile(
            (high - low) * (1.0 - fit.curves([size], x)[:, 0]), [tail, 0.5, 1.0 - tail], axis=0
        )
        ax.fill_between(x, lower, upper, color=colour, alpha=0.15, linewidth=0)
        inside = x <= stop
        ax.plot(x[inside], median[inside], color=colour, linewidth=1.5)
        ax.plot(x[~inside], median[~inside], color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        label = f"{fit.units.show(size)}{'' if seen else ', not trained'}"
        ax.plot([], [], color=colour, marker=marker if seen else "", label=label, linestyle="-" if seen else "--")
    scale_compute(ax, end / first, end)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.tick_params(axis="y", which="minor", labelsize="small")
    ax.set(xlabel=fit.units.resource, ylabel=f"test loss, {high:g} - {fit.units.reward}", xlim=(first, end))
    ax.legend(fontsize="small", loc="lower left", title=fit.units.size, title_fontsize="small", frameon=False)
    ax.set_title(f"Evaluations, fitted curves and {prob:.0%} bands; dashed: extrapolated", loc="left", fontsize="small")


def _averaged(x: np.ndarray, y: np.ndarray, most: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Averages of neighbours, of which there are at most `most`."""
    group = max(1, math.ceil(len(x) / most))
    edges = np.arange(0, len(x), group)
    size = np.diff(np.append(edges, len(x)))
    return np.exp(np.add.reduceat(np.log(x), edges) / size), np.add.reduceat(y, edges) / size


def _law(ax: Axes, fit: SizePosterior, view: _View) -> None:
    added, prob = view.added, view.prob
    tail = (1.0 - prob) / 2.0
    levels = [tail, 0.5, 1.0 - tail]
    ends = [*fit.sizes, *added]
    sizes = np.geomspace(min(ends) / 2.0, max(ends) * 3.0, NEW_SIZES)
    unit = f", {fit.units.reward}" if fit.saturating_unit == "reward" else ""
    ax.set_ylabel(f"{fit.saturating_label} {fit.saturating_symbol}(N){unit}")
    limit = fit.saturating_limit()
    lower, median, upper = np.quantile(fit.saturating_of_sizes(list(sizes)), levels, axis=0)
    ax.fill_between(sizes, lower, upper, color=GREY, alpha=0.2, linewidth=0)
    ax.plot(sizes, median, color=GREY, linewidth=1.2)
    of_sizes = fit.saturating_of_sizes(fit.sizes)
    known = fit.verdict is SizeVerdict.SATURATION_SEEN
    least, middle, most = np.quantile(limit, levels)
    shade = COLOURS[0] if known else GREY
    ax.axhspan(
        least, most, facecolor=shade, alpha=0.07, edgecolor=None if known else GREY, hatch=None if known else "///"
    )
    if known:
        ax.axhline(middle, color=shade, linestyle=(0, (1, 2)), linewidth=1.2)
    said = f"saturates at {middle:.3f} [{least:.3f}, {most:.3f}]"
    if not known:
        said = f"saturation not seen ({least:.2f} to {most:.2f})"
    ax.text(0.02, 0.98, said, transform=ax.transAxes, va="top", fontsize="small", color="black" if known else GREY)
    ranges = np.quantile(of_sizes, levels, axis=0)
    for i, size in enumerate(fit.sizes):
        colour, marker = _style(fit, size)
        ax.plot([size] * 2, ranges[[0, 2], i], color=colour, linewidth=1.6)
        ax.plot([size], ranges[1, i], marker, color=colour, markersize=5.0, markeredgewidth=0)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fit.units.show(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    top = max(float(ranges[2].max()), float(median.max()), float(most) if known else 0.0)
    ax.set_ylim(0.0, 1.25 * top)
    ax.set_xlabel(fit.units.size)
    what = f"{fit.saturating_label.capitalize()}s"
    ax.set_title(f"{what} with {prob:.0%} intervals; grey: sizes not trained", loc="left", fontsize="small")


def _best(ax: Axes, fit: SizePosterior, view: _View) -> None:
    added, first, end, _ = view
    budgets = np.geomspace(first, end, BUDGETS)
    everyone = sorted([*fit.sizes, *added])
    if len(everyone) < 2:
        ax.set_axis_off()
        return
    table = best_size(fit, list(budgets), everyone)
    total = np.zeros(len(budgets))
    for size in everyone:
        chance = table[fit.units.show(size)].to_numpy()
        colour, _ = _style(fit, size)
        hatch = None if size in fit.sizes else "///"
        ax.fill_between(budgets, total, total + chance, facecolor=colour, alpha=0.55, linewidth=0, hatch=hatch)
        inner = slice(len(budgets) // 10, -(len(budgets) // 10))  # a label at the edge would be cut off
        widest = inner.start + int(np.argmax(chance[inner]))
        if chance[widest] > 0.2:
            at = budgets[widest], total[widest] + chance[widest] / 2.0
            ax.annotate(fit.units.show(size), at, ha="center", va="center", fontsize="small", clip_on=True)
        total += chance
    supported = table["supported"].to_numpy()
    if not supported.all():
        ax.fill_between(
            budgets,
            0.0,
            1.0,
            where=list(~supported),
            facecolor="white",
            alpha=0.55,
            edgecolor=GREY,
            hatch="...",
            linewidth=0,
        )
        ax.plot([], [], color=GREY, linestyle="", marker=".", label="beyond the supported range")
        ax.legend(loc="lower right", fontsize="small")
    scale_compute(ax, end / first, end)
    ax.set(xlabel=f"budget, {fit.units.resource}", ylabel="chance to be the best size", xlim=(first, end), ylim=(0, 1))
    ax.set_title("Which size for this budget?", loc="left", fontsize="small")
