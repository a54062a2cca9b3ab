"""Plots of the chances of all pairs, of ranks, and of the chance of the highest ceiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rlceiling.errors import DataError, count
from rlceiling.report.style import (
    COLOURS,
    GREY,
    HATCH,
    MARKERS,
    axes_of,
    below,
    label_recipes,
    plain,
    put_legend,
    scale_compute,
    without_frame,
)
from rlceiling.results.fits import Fits
from rlceiling.text import probability

MOST = 30
"""Largest number of recipes in a plot."""

BUDGETS = 40
"""Number of budgets at which the chance to lead is drawn."""

PAIRS, SHARES = "PuOr", "Blues"
"""Colour maps: one with two ends that are told apart by the colour-blind, light at a chance of one half; one that only
gets darker."""


def plot_chances(fits: Fits, margin: float = 0.0, ax: Axes | None = None, *, most: int = MOST) -> Axes:
    """Draw the chance that the ceiling of the row is higher than that of the column.

    Recipes are ordered by their mean rank; those that cannot be judged come last, and their cells are hatched and hold
    no number.

    Parameters
    ----------
    fits : Fits
        Posteriors of two recipes or more.
    margin : float, default 0
        Difference that counts, in the unit of the reward.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.
    most : int, default 30
        Recipes drawn, those that come first; a note says how many are not.

    Returns
    -------
    matplotlib Axes
    """
    order = by_rank(fits)[:most]
    drawn = Fits([fits[name] for name in order])
    table = drawn.chances(margin).to_numpy()
    n = len(order)
    ax = axes_of(ax, max(5.0, 2.2 + 0.46 * n), max(3.4, 1.6 + 0.4 * n))
    _cells(ax, table, PAIRS)
    for row in range(n):
        for column in range(n):
            if row != column and np.isnan(table[row, column]):
                _hatch(ax, row, column)
    label_recipes(ax, [fits[name] for name in order])
    ax.set_xticks(range(n), [plain(name, 28) for name in order], rotation=45, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", length=0)
    for tick, name in zip(ax.get_xticklabels(), order, strict=True):
        tick.set_color("black" if not fits[name].reason else GREY)
    more = f" by more than {margin:g}" if margin else ""
    notes = [f"chance that the row ends above the column{more}", "purple: above one half, orange: below"]
    if any(fit.reason for fit in drawn.values()):
        notes.append("hatched: cannot be judged yet")
    below(ax, "\n".join([*notes, *_left_out(fits, n)]), fontsize="small")
    return ax


def plot_ranks(fits: Fits, ax: Axes | None = None, *, most: int = MOST) -> Axes:
    """Draw the chance of each recipe to have each rank, 1 for the highest ceiling.

    Only recipes whose ceiling is `IDENTIFIED` are ranked, among themselves; the others are named below.

    Parameters
    ----------
    fits : Fits
        Posteriors.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.
    most : int, default 30
        Recipes drawn, those that come first; a note says how many are not.

    Returns
    -------
    matplotlib Axes
    """
    table = fits.rank()
    ranked = table[table["conclusive"]].sort_values("mean_rank", kind="stable")[:most]
    names, n = list(ranked.index), len(ranked)
    ax = axes_of(ax, max(5.0, 2.2 + 0.46 * n), max(2.6, 1.2 + 0.36 * n))
    if n:
        shares = ranked[[f"rank_{k + 1}" for k in range(n)]].to_numpy()
        _cells(ax, shares, SHARES)
        label_recipes(ax, [fits[name] for name in names])
        ax.set_xticks(range(n), [str(k + 1) for k in range(n)])
        ax.tick_params(axis="x", length=0)
        ax.set_xlabel("rank of the ceiling, 1 is the highest", loc="right")
    else:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "no ceiling is known yet", ha="center", color=GREY, transform=ax.transAxes)
    judged = int(table["conclusive"].sum())
    notes = [*_not_ranked(fits), *([f"the {n} of {judged} with the best mean rank"] if n < judged else [])]
    if notes:
        below(ax, "\n".join(notes), fontsize="small")
    return ax


def plot_best(fits: Fits, ax: Axes | None = None, *, most: int = MOST) -> Axes:
    """Draw the chance of each recipe to have the highest ceiling, with its Monte Carlo error.

    Recipes that cannot be judged have a hatched bar without a length.

    Parameters
    ----------
    fits : Fits
        Posteriors.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.
    most : int, default 30
        Recipes drawn, those that come first; a note says how many are not.

    Returns
    -------
    matplotlib Axes
    """
    table = fits.rank().head(most)
    names = list(table.index)
    ax = axes_of(ax, 6.0, max(2.0, 1.0 + 0.3 * len(names)))
    for place, (p, mcse, known) in enumerate(table[["p_best", "mcse", "conclusive"]].itertuples(index=False)):
        if known and np.isfinite(p):
            ax.barh(place, p, height=0.66, color=COLOURS[0])
            ax.errorbar(p, place, xerr=mcse, color="black", linewidth=1.0, capsize=2.0)
            ax.text(p + mcse + 0.015, place, probability(p), va="center", fontsize="small")
        else:
            ax.add_patch(
                Rectangle((0.0, place - 0.33), 1.0, 0.66, facecolor="none", edgecolor=GREY, alpha=0.35, hatch=HATCH)
            )
            verdict = fits[names[place]].verdict.name
            label = "no other ceiling is known" if known else f"cannot be judged yet ({verdict})"
            ax.text(0.5, place, label, va="center", ha="center", fontsize="small", color=GREY, bbox=_BACKED)
    label_recipes(ax, [fits[name] for name in names])
    ax.set(xlim=(0.0, 1.12), xlabel="chance of the highest ceiling")
    ax.set_xticks(np.linspace(0.0, 1.0, 6))
    if note := _left_out(fits, len(names)):
        below(ax, note[0], fontsize="small")
    without_frame(ax, "top", "right")
    return ax


def plot_best_at(fits: Fits, compute: Sequence[float] | None = None, ax: Axes | None = None, *, most: int = 6) -> Axes:
    """Draw the chance of each recipe to lead, against the budget.

    A line ends where its recipe cannot be compared any more (see `VerdictRules.max_ahead`); a point on it marks the
    recipe's last evaluation, and it is dashed beyond. Chances are among the recipes that can be compared at a budget.

    Parameters
    ----------
    fits : Fits
        Posteriors of two recipes or more.
    compute : sequence of float, optional
        Budgets, positive. Default: 40 from the smallest to twice the largest compute of a recipe.
    ax : matplotlib Axes, optional
        Where to draw. Default: a new figure.
    most : int, default 6
        Recipes drawn, those with the highest chance anywhere; a note counts the others.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DataError
        If there are fewer than two recipes, a budget is not positive, or recipes have different units.
    """
    if len(fits) < 2:
        raise DataError(
            f"plot_best_at compares recipes and there is {'only one' if fits else 'none'}; give at least two."
        )
    ends = {name: fit.largest_compute for name, fit in fits.items()}
    budgets = compute
    if budgets is None:
        least = min(fit.first_compute for fit in fits.values())
        budgets = list(np.geomspace(least, 2.0 * max(ends.values()), BUDGETS))
    if not len(budgets):
        raise DataError("plot_best_at: there is no budget to draw; give at least one compute.")
    table = fits.best_at(sorted(budgets))
    where = table.index.to_numpy(float)
    order = [name for name in table.max().sort_values(ascending=False).index if table[name].notna().any()]
    own, ax = ax is None, axes_of(ax, 6.8, 4.0)
    for place, name in enumerate(order[:most]):
        p, colour = table[name].to_numpy(), COLOURS[place % len(COLOURS)]
        within = where <= ends[name]
        ax.plot(where, np.where(within, p, np.nan), color=colour, linewidth=1.8, label=plain(name, 28))
        beyond = ~within
        beyond[max(int(within.sum()) - 1, 0)] = True  # so that the parts meet
        ax.plot(where, np.where(beyond, p, np.nan), color=colour, linewidth=1.8, linestyle="--")
        if where[0] <= ends[name] <= where[-1]:
            at_end = np.interp(np.log(ends[name]), np.log(where), p)
            ax.plot(ends[name], at_end, MARKERS[place % len(MARKERS)], color=colour, markersize=6)
    scale_compute(ax, where[-1] / where[0], where[-1])
    ax.set(ylim=(-0.02, 1.02), xlabel=f"budget ({fits.units.compute})", ylabel="chance to lead")
    put_legend(ax, own)
    notes = [
        "a marker stands at the last evaluation, dashed lines go beyond",
        "a line ends where its recipe cannot be extrapolated further; from there on chances are among the others",
    ]
    hidden = len(fits) - len(order[:most])
    notes += [f"not drawn: {count(hidden, 'recipe')} with lower chances"] if hidden else []
    below(ax, "\n".join(notes), fontsize="small")
    without_frame(ax, "top", "right")
    return ax


_BACKED = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


def by_rank(fits: Fits) -> list[str]:
    """Names by mean rank; those that cannot be judged last."""
    return list(fits.rank().sort_values(["conclusive", "mean_rank"], ascending=[False, True], kind="stable").index)


def _left_out(fits: Fits, drawn: int) -> list[str]:
    return [f"the {drawn} of {len(fits)} recipes that come first"] if drawn < len(fits) else []


def _not_ranked(fits: Fits) -> list[str]:
    left = [fit.name for fit in fits.values() if fit.reason]
    if len(left) > 3:
        return [f"not ranked: {count(len(left), 'recipe')} whose ceiling is not known"]
    return [f"not ranked: {', '.join(plain(name, 28) for name in left)}"] if left else []


def _cells(ax: Axes, table: np.ndarray, colours: str) -> None:
    """Colour the cells of a table of chances, and write them in."""
    rows, columns = table.shape
    ax.pcolormesh(
        np.arange(columns + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(table),
        cmap=colours,
        vmin=0.0,
        vmax=1.0,
        edgecolors="white",
        linewidth=0.8,
    )
    without_frame(ax, "top", "right", "bottom", "left")
    for (row, column), p in np.ndenumerate(table):
        if not np.isnan(p):
            red, green, blue, _ = colormaps[colours](float(p))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            ink = INKS[1 if dark else 0]
            ax.text(column, row, probability(p), ha="center", va="center", fontsize="small", color=ink)


INKS = ("#111111", "#FEFEFE")
"""Dark and light ink on cells that have a colour of their own."""


def _hatch(ax: Axes, row: int, column: int) -> None:
    ax.add_patch(
        Rectangle(
            (column - 0.5, row - 0.5), 1.0, 1.0, facecolor="none", edgecolor=GREY, alpha=0.45, hatch=HATCH, linewidth=0
        )
    )
