"""Colours, markers, figures for notebooks and the axis of compute, which all plots share."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from rlceiling.errors import DataError
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.runs.names import hidden_character
from rlceiling.text import number, shortened

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Palette of Okabe and Ito without yellow, which is faint in print."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""Markers, by which recipes differ in print without colours; 6 markers and 7 colours make 42 pairs."""

GREY = "#767676"

HATCH = "///"
"""Hatching of everything that the data do not support."""

DPI = 150
"""Resolution of files that are written, in dots per inch."""

NOTEBOOK_DPI = 90
"""Resolution of figures in notebooks, which should stay small, in dots per inch."""


class Picture(Figure):
    """A figure that notebooks display, without pyplot and its global list of figures."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write a file, in a higher resolution than in notebooks."""
        super().savefig(fname, **({"dpi": DPI} | options))

    def _repr_png_(self) -> bytes:
        return _png(self)


class PictureAxes(Axes):
    """Axes of a `Picture`; notebooks display the whole figure."""

    def _repr_png_(self) -> bytes:
        return _png(figure_of(self))


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=NOTEBOOK_DPI)
    return stream.getvalue()


def figure_of(ax: Axes) -> Figure:
    """Figure that axes are part of."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes that were given, or new ones of a figure of this size in inches."""
    if ax is not None:
        return ax
    return new_picture(width, height).add_subplot(axes_class=PictureAxes)


def new_picture(width: float, height: float) -> Picture:
    """Make a figure of this size in inches."""
    return Picture(figsize=(width, height), dpi=NOTEBOOK_DPI, layout="constrained")


def put_legend(ax: Axes, own: bool) -> None:
    """Put the legend below axes of our own, where it hides nothing, or inside those that were given."""
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        return
    if own:
        wide = max(map(len, map(str, labels))) > 50
        figure_of(ax).legend(loc="outside lower left", ncols=1 if wide else 2, fontsize="small", frameon=False)
    else:
        ax.legend(loc="best", fontsize="small")


def scale_compute(ax: Axes, span: float, last: float) -> None:
    """Make the axis of compute logarithmic, with ticks in plain numbers where these are short."""
    ax.set_xscale("log")
    if span < 50:
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 15 else (1.0, 3.0)))
        ax.xaxis.set_minor_locator(NullLocator())
    if last < 1e7:  # larger ones are FLOPs, which want powers of ten
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def plain(name: str, most: int = 40) -> str:
    """A name as it is drawn: shortened, in one line, and not read as a formula.

    Characters that an SVG file cannot hold are replaced. Legends leave out labels that begin with an underscore, so it
    is written as a formula there.
    """
    shown = "".join("\N{REPLACEMENT CHARACTER}" if hidden_character(c) else c for c in " ".join(name.split()))
    shown = shortened(shown, most).replace("$", r"\$")
    return rf"$\_${shown[1:]}" if shown.startswith("_") else shown


def recipes_of(where: str, fits: Mapping[str, Fit] | Fit) -> Mapping[str, Fit]:
    """Fits by name, also of a single fit; raises DataError if there are none."""
    if isinstance(fits, Fit):
        return {fits.name: fits}
    if not fits:
        raise DataError(f"{where}: there are no fits to draw; give at least one.")
    return fits


def label_recipes(ax: Axes, fits: list[Fit], most: int = 28) -> None:
    """Put the names of recipes on the y axis, from top to bottom, grey where the ceiling is not known."""
    ax.set_yticks(range(len(fits)), [plain(fit.name, most) for fit in fits])
    for tick, fit in zip(ax.get_yticklabels(), fits, strict=True):
        tick.set_color("black" if fit.verdict is Verdict.IDENTIFIED else GREY)
    ax.set_ylim(len(fits) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def without_frame(ax: Axes, *sides: str) -> None:
    """Hide these sides of the frame."""
    for side in sides:
        ax.spines[side].set_visible(False)


def below(ax: Axes, text: str, **options: Any) -> None:
    """Write a note under the axes, as a second line of the label of the x axis; both end where the axes do."""
    label = ax.get_xlabel()
    ax.set_xlabel(f"{label}\n{text}" if label else text, loc="right", **options)
