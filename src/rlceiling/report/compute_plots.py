"""Plots against compute: the ceiling as it was fitted while a run got longer, and the compute that a target needs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rlceiling.calibration.growth import Growth
from rlceiling.decisions.forecast import draws_to_reach
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.posterior.verdicts import Verdict
from rlceiling.report.style import (
    COLOURS,
    GREY,
    HATCH,
    axes_of,
    below,
    plain,
    put_legend,
    recipes_of,
    scale_compute,
    without_frame,
)
from rlceiling.text import in_words, number

BEYOND = 10.0
"""Multiples of the largest compute up to which the compute to reach a target is drawn."""


def plot_growth(
    growth: Growth, recipe: str | None = None, prob: float = 0.9, ax: Axes | None = None, *, least_squares: bool = True
) -> Axes:
    """Draw the ceiling as it was fitted while the run got longer.

    At every compute at which the run was fitted stand median and interval of the ceiling where it was `IDENTIFIED`, and
    a hatched box without a median where it was not; where the chains did not agree there is nothing. Small points are
    the evaluations; crosses beside are what least squares said.

    Parameters
    ----------
    growth : Growth
        From `rlceiling.growth`.
    recipe : str, optional
        Which one. Default: the only one there is, or the first.
    prob : float, default 0.9
        Probability of the intervals.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.
    least_squares : bool, default True
        Draw the ceilings of least squares too.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If there is no such recipe, or `prob` not between 0 and 1.
    """
    check_prob("plot_growth", prob)
    recipe = growth.recipes[0] if recipe is None else recipe
    fits = growth.of(recipe)
    own, ax = ax is None, axes_of(ax, 6.4, 4.0)
    whole = fits[1.0]
    units = whole.units
    for run in whole.runs:
        ax.plot(run.compute, units.unscale(run.reward), ".", color=GREY, markersize=3.0, zorder=1)
    places = {share: one.largest_compute for share, one in fits.items()}
    width = min((b / a for a, b in zip(places.values(), list(places.values())[1:], strict=False)), default=1.3) ** 0.15
    drawn: set[str] = set()
    for share, one in fits.items():
        compute = places[share]
        lower, median, upper = one.interval("A", prob)
        if one.verdict is Verdict.IDENTIFIED:
            label = f"ceiling and {prob:.0%} interval"
            ax.plot([compute] * 2, [lower, upper], color=COLOURS[0], linewidth=2.4, solid_capstyle="butt", zorder=3)
            ax.plot(compute, median, "o", color=COLOURS[0], markersize=6, label=_once(label, drawn), zorder=3)
        elif one.verdict is not Verdict.NOT_CONVERGED:
            label = f"cannot be known yet ({prob:.0%} interval)"
            ax.add_patch(
                Rectangle(
                    (compute / width, lower),
                    compute * (width - 1.0 / width),
                    upper - lower,
                    facecolor="none",
                    edgecolor=GREY,
                    hatch=HATCH,
                    linewidth=0.6,
                    label=_once(label, drawn),
                )
            )
    if least_squares:
        table = growth.table(prob)
        rows = table[table["recipe"] == recipe]
        beside = rows[units.compute] * width  # where they do not hide what they are compared with
        ax.plot(
            beside,
            rows["A_least_squares"],
            "x",
            color=COLOURS[1],
            markersize=6,
            markeredgewidth=1.8,
            label="least squares",
            zorder=4,
        )
    first, last = whole.first_compute, whole.largest_compute
    scale_compute(ax, last / first, last)
    ax.set_xlim(first / 1.1, last * 1.15)
    ax.set(xlabel=f"{units.compute} the run had by then", ylabel=units.reward)
    ax.set_title(plain(whole.name), loc="left", fontsize="medium")
    without_frame(ax, "top", "right")
    put_legend(ax, own)
    return ax


def _once(label: str, drawn: set[str]) -> str:
    """A label for the first of its kind."""
    if label in drawn:
        return "_nolegend_"
    drawn.add(label)
    return label


def plot_compute_to_reach(fits: Mapping[str, Fit] | Fit, target: float, ax: Axes | None = None) -> Axes:
    """Draw the chance that a recipe's curve has reached a reward, against compute.

    Lines end at ten times the largest compute. They are solid where the ceiling is `IDENTIFIED`: such a line levels off
    at one minus the chance that the ceiling lies below the target. A dotted line is that of a run that stops
    before its curve has bent: where its ceiling lies is not known, so it is drawn only to twice its largest compute.
    Recipes that do not rise, are no sigmoid or whose chains do not agree are left out and named below.

    Parameters
    ----------
    fits : Fits or Fit
        Posteriors in the same units.
    target : float
        Reward, in the user's unit.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If the target lies outside the bounds, or there are no fits.
    """
    fits = recipes_of("plot_compute_to_reach", fits)
    own, ax = ax is None, axes_of(ax, 6.4, 4.2)
    drawn = {n: f for n, f in fits.items() if f.verdict in (Verdict.IDENTIFIED, Verdict.PRE_INFLECTION)}
    colours = cycle(COLOURS)
    last = BEYOND * max(fit.largest_compute for fit in fits.values())
    first = min(fit.first_compute for fit in fits.values())
    for fit in drawn.values():
        compute = np.sort(draws_to_reach(fit, target))
        known = fit.verdict is Verdict.IDENTIFIED
        grid = np.geomspace(first, last if known else 2.0 * fit.largest_compute, 400)
        share = np.searchsorted(compute, grid, side="right") / len(compute)
        never = float(np.isinf(compute).mean())
        said = f"never: {in_words(never)}" if known else f"not identified ({fit.verdict.name})"
        ax.plot(
            grid,
            share,
            color=next(colours),
            linestyle="-" if known else (0, (1, 1.5)),
            linewidth=1.8,
            label=f"{plain(fit.name, 28)}, {said}",
        )
    units = next(iter(fits.values())).units
    scale_compute(ax, last / first, last)
    ax.set(ylim=(0.0, 1.02), xlim=(first, last), xlabel=units.compute)
    ax.set_ylabel(f"chance that {units.reward} {number(target)} is reached")
    left = [plain(name, 28) for name in fits if name not in drawn]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        below(ax, f"left out, without a sigmoid: {', '.join(left[:3])}{more}", fontsize="small")
    put_legend(ax, own)
    without_frame(ax, "top", "right")
    return ax
