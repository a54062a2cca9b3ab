"""Parts of the report that recipes and laws across sizes share: drawings, cells, convergence and settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from rlceiling.posterior.posterior import Posterior
from rlceiling.report.style import figure_of
from rlceiling.report.svg import inline_svg

PIXELS_PER_INCH = 96
"""Of a page."""


class Drawing(NamedTuple):
    """A figure of the report."""

    svg: Markup
    caption: str
    width: int
    """In pixels of the page."""


class SortableCell(NamedTuple):
    """A cell of a sortable table."""

    text: str
    value: float | str
    """Key by which the column is sorted; NaN comes last."""
    interval: str = ""
    """Shown below the text."""


Rows = tuple[list[str], list[list[SortableCell]]]
"""Headers and rows of a table."""


def drawing(ax: Axes, name: str, caption: str, of: str = "") -> Drawing:
    """Draw axes for the page; `name` is unique in the page, and `of` names the subject to screen readers."""
    figure = figure_of(ax)
    svg = inline_svg(figure, f"{caption} {f'({of})' if of else ''}".strip(), f"{name}-")
    return Drawing(svg, caption, round(PIXELS_PER_INCH * figure.get_figwidth()))


def drawn(make: Callable[[], Axes], name: str, caption: str, of: str = "") -> Drawing:
    """Draw as `drawing` does, or put a sentence in the place of a figure that cannot be drawn, and warn."""
    try:
        return drawing(make(), name, caption, of)
    except Exception as error:  # one figure must not cost the whole page
        said = f"This figure could not be drawn ({type(error).__name__}: {error})."
        warnings.warn(f"{name}: {said}", stacklevel=2)
        return Drawing(Markup("<p>{}</p>").format(said.encode("ascii", "backslashreplace").decode()), caption, 480)


def convergence_table(first: str, posteriors: Mapping[str, Posterior]) -> Rows:
    """Convergence diagnostics, one row per posterior; `first` is the header of their names."""
    headers = [first, "R-hat", "bulk ESS", "tail ESS", "divergences", "E-BFMI", "second try"]
    rows = []
    for name, posterior in posteriors.items():
        c = posterior.convergence
        numbers = [
            SortableCell(f"{c.r_hat:.4f}", c.r_hat),
            SortableCell(f"{c.ess_bulk:,.0f}", c.ess_bulk),
            SortableCell(f"{c.ess_tail:,.0f}", c.ess_tail),
            SortableCell(f"{c.divergences:,}", c.divergences),
            SortableCell(f"{c.e_bfmi:.2f}", c.e_bfmi),
        ]
        tried = "yes" if posterior.settings.retried else "no"
        rows.append([SortableCell(name, name), *numbers, SortableCell(tried, tried)])
    return headers, rows


def settings_rows(posteriors: Iterable[Posterior]) -> list[tuple[str, str]]:
    """Settings of the sampler and versions; where posteriors differ, all values are listed."""
    values: dict[str, dict[str, None]] = {}
    for posterior in posteriors:
        s = posterior.settings
        rows = {"seed": s.seed, "chains": s.chains, "warm-up steps": s.tune, "draws": s.draws, **s.versions}
        for name, value in rows.items():
            values.setdefault(name, {})[str(value)] = None
    return [(name, " or ".join(found)) for name, found in values.items()]
