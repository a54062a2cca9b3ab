"""The report: one HTML file that needs nothing else, with the answer in words at its head."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from tqdm import tqdm

from rlceiling.calibration.growth import Growth
from rlceiling.decisions.chances import check_margin
from rlceiling.decisions.forecast import check_target
from rlceiling.display.html import templates
from rlceiling.errors import DataError, count
from rlceiling.posterior.files import replace_file
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.report.chance_plots import by_rank, plot_best, plot_chances, plot_ranks
from rlceiling.report.check_plots import plot_pit, plot_residuals
from rlceiling.report.compute_plots import plot_compute_to_reach, plot_growth
from rlceiling.report.curve_plots import MOST_IN_ONE, plot_curves
from rlceiling.report.forest_plots import PARAMETERS, plot_forest
from rlceiling.report.style import figure_of, new_picture
from rlceiling.report.svg import inline_svg
from rlceiling.results.fits import Fits
from rlceiling.text import NOT_READ_OFF, interval, joined, number, probability

MOST_IN_MATRIX = 12
"""Recipes of the matrix of chances, whose numbers must be readable on a page."""

MOST_IN_FOREST = 30
"""Recipes of a forest; the table has them all."""

FURTHER = 2.0
"""Multiple of the compute so far for which the table says where the curve will be."""


class Drawing(NamedTuple):
    """A figure of the report."""

    svg: Markup
    caption: str
    width: int
    """In pixels of the page."""


class Cell(NamedTuple):
    """A cell of a sortable table."""

    text: str
    value: float | str
    """What it is sorted by; NaN comes last."""
    interval: str = ""
    """Stands below the text."""


def write_report(
    fits: Fits,
    path: str | Path,
    *,
    title: str | None = None,
    margin: float = 0.0,
    target: float | None = None,
    growth: Growth | None = None,
    command: str | None = None,
    progress: bool | None = None,
) -> None:
    """Write one HTML file that answers how high, how sure, which one, and whether the data can say it at all.

    The file needs no network and no other file. It opens with the answer in words; then come a table that can be
    sorted, plots, a page for each recipe, assumptions, priors, convergence, and how it was made.

    Parameters
    ----------
    fits : Fits
        Posteriors.
    path : path
        The file; it is written over whole, or not at all.
    title : str, optional
        Default: "Ceilings of" the recipes' number.
    margin : float, default 0
        Difference of ceilings that counts, in the unit of the reward.
    target : float, optional
        Reward for which the compute to reach it is drawn.
    growth : Growth, optional
        From `rlceiling.growth`; it is drawn for each recipe.
    command : str, optional
        The command that made the report, to be shown in it.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.

    Raises
    ------
    DataError
        If there are no fits, the margin is not finite, the target outside the bounds, or there is no such folder.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl"))  # doctest: +SKIP
    >>> rl.write_report(fits, "report.html")  # doctest: +SKIP
    """
    path = Path(path)
    check_report(path, margin)
    if not fits:
        raise DataError("write_report: there are no fits to report on; give at least one.")
    if target is not None:
        check_target(target, fits.units.bounds)
    folder = templates("rlceiling.report")
    source = folder.loader
    assert source is not None
    script = source.get_source(folder, "report.js")[0]
    style = source.get_source(folder, "report.css")[0]
    bar = tqdm(fits.values(), desc="drawing", unit="recipe", disable=None if progress is None else not progress)
    page = folder.get_template("report.html.jinja").render(
        title=title or f"Ceilings of {count(len(fits), 'recipe')}",
        answer=fits.answer(margin),
        fits=fits,
        units=fits.units,
        summary=_summary(fits),
        drawings=list(_drawings(fits, margin, target)),
        recipes=[_recipe(place, fit, growth) for place, fit in enumerate(bar, start=1)],
        convergence=_convergence(fits),
        priors=_priors(fits),
        settings=_settings(fits),
        command=command,
        today=date.today().isoformat(),
        version=version("rlceiling"),
        Verdict=Verdict,
        style=Markup(style),
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    replace_file(path, page.encode())


def check_report(path: Path, margin: float = 0.0) -> None:
    """Raise unless a report can be written there; asked before the long part."""
    check_margin(margin)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"would lie in {path.parent}, which is no folder"
        raise DataError(f"{path.name} {what}; name a file such as report.html.")


def _summary(fits: Fits) -> tuple[list[str], list[list[Cell]]]:
    """Headers and rows of the table at the head."""
    ranks, units = fits.rank(), fits.units
    several = any(len(fit.runs) > 1 for fit in fits.values())
    headers = ["recipe", *(["runs"] if several else []), *next(iter(fits.values())).curve_cells()]
    headers.insert(1 + several, "chance of the highest ceiling")
    headers += [f"compute so far ({units.compute})", "curve there", f"curve at {FURTHER:g} x that", "verdict"]
    headers.append("what to do")
    rows = []
    for name, fit in fits.items():
        known, void = fit.verdict is Verdict.IDENTIFIED, fit.verdict is Verdict.NOT_CONVERGED
        order = [fit.interval(p)[1] if known or (p != "A" and not void) else math.nan for p in PARAMETERS]
        curve = [Cell(text, value, of) for (text, of), value in zip(fit.curve_cells().values(), order, strict=True)]
        best = float(ranks["p_best"][name])
        row = [Cell(name, name), *([Cell(f"{len(fit.runs):,}", len(fit.runs))] if several else [])]
        row += [Cell(probability(best), best), *curve, Cell(number(fit.largest_compute), fit.largest_compute)]
        for factor in (1.0, FURTHER):
            lower, median, upper = (float(v[0]) for v in fit.curve_at(np.array([factor * fit.largest_compute])))
            text, of = (NOT_READ_OFF, "") if void else interval(lower, median, upper, units.show)
            row.append(Cell(text, math.nan if void else median, of))
        advice = fit.to_do
        rows.append([*row, Cell(fit.verdict.name, fit.verdict.name), Cell(advice, advice)])
    return headers, rows


def _drawings(fits: Fits, margin: float, target: float | None) -> Iterator[Drawing]:
    """Figures of all recipes together."""
    order = by_rank(fits)
    first = {name: fits[name] for name in _first(fits, order, MOST_IN_ONE)}
    which = (
        f"{len(first)} of {count(len(fits), 'recipe')}, judged and not yet judged. " if len(first) < len(fits) else ""
    )
    yield _drawing(
        plot_curves(first),
        "curves",
        f"{which}Evaluations, fitted curves and where they lead. Bars at the right edge are ceilings that are known;"
        " hatched: what a run that stopped before its curve bent leaves open.",
    )
    shown = {name: fits[name] for name in order[:MOST_IN_FOREST]}
    of = f" The first {len(shown)} by rank." if len(shown) < len(fits) else ""
    for parameter, says in zip(
        PARAMETERS,
        (
            "The ceiling, where it is known, beside its prior: what the data added.",
            "Efficiency beside its prior; open and grey where the ceiling is not known.",
            "Midpoint beside its prior: a run should go well beyond it.",
        ),
        strict=True,
    ):
        yield _drawing(plot_forest(shown, parameter), f"forest-{parameter}", says + of)
    if len(fits) > 1:
        more = f" by more than {margin:g}" if margin else ""
        yield _drawing(
            plot_chances(fits, margin, most=MOST_IN_MATRIX),
            "chances",
            f"Chance that the recipe of the row ends higher than that of the column{more}.",
        )
        yield _drawing(plot_best(fits), "best", "Chance of each recipe to have the highest ceiling.")
        yield _drawing(
            plot_ranks(fits, most=MOST_IN_MATRIX), "ranks", "Chance of each rank among those that are known."
        )
    if target is not None:
        yield _drawing(
            plot_compute_to_reach(first, target),
            "reach",
            f"Chance that the curve has reached {fits.units.show(target)} by a compute.",
        )


def _first(fits: Fits, order: Sequence[str], most: int) -> list[str]:
    """The best that are judged, and two of those that are not and might be better."""
    judged = [name for name in order if fits[name].verdict is Verdict.IDENTIFIED]
    open_ = [name for name in order if fits[name].verdict is not Verdict.IDENTIFIED]
    open_.sort(key=lambda name: (fits[name].verdict is not Verdict.PRE_INFLECTION, -fits[name].interval("A")[2]))
    least = most - min(2, len(open_))
    return [*judged[:least], *open_][:most]


def _recipe(place: int, fit: Fit, growth: Growth | None) -> dict[str, Any]:
    """Everything the page of one recipe shows."""
    of = f"recipe {place}"
    drawings = [
        _drawing(_single(fit), f"r{place}-curve", f"Evaluations, fitted curve, and {_leads(fit)}.", of),
        _drawing(
            plot_residuals(fit, ax=new_picture(4.8, 3.2).add_subplot()),
            f"r{place}-residuals",
            "Evaluations minus curve. The band holds 90% of them if the model is right; the line: noise that wanders.",
            of,
        ),
        _drawing(
            plot_pit(fit),
            f"r{place}-pit",
            "Where evaluations stand in what was predicted of each; the steps should stay in the band.",
            of,
        ),
    ]
    if growth is not None and fit.name in growth.recipes:
        said = "What the ceiling was known to be as the run got longer, beside least squares."
        drawings.append(_drawing(plot_growth(growth, fit.name), f"r{place}-growth", said, of))
    runs = [
        [
            run.run,
            f"{len(run.compute):,}",
            number(float(run.compute[-1])),
            *map(joined, fit.curve_cells(run.run).values()),
        ]
        for run in fit.runs
    ]
    headers = ["run", "evaluations", f"compute so far ({fit.units.compute})", *fit.curve_cells()]
    return {
        "place": place,
        "fit": fit,
        "drawings": drawings,
        "parameters": fit.parameter_rows(),
        "runs": (headers, runs) if len(runs) > 1 else None,
    }


def _leads(fit: Fit) -> str:
    """What the picture of a recipe shows beyond its evaluations."""
    if fit.verdict is Verdict.IDENTIFIED:
        return "where it leads; the bar at the right edge is the ceiling"
    if fit.verdict is Verdict.PRE_INFLECTION:
        return "hatched what it leaves open; no ceiling can be drawn yet"
    return "nothing beyond: there is no ceiling to draw"


def _single(fit: Fit) -> Axes:
    """Curve of one recipe, without the title that every page would repeat."""
    ax = plot_curves(fit, ax=new_picture(6.0, 3.2).add_subplot())
    ax.set_title("", loc="left")
    legend = ax.get_legend()
    assert legend is not None
    legend.remove()
    return ax


def _drawing(ax: Axes, name: str, caption: str, of: str = "") -> Drawing:
    figure = figure_of(ax)
    svg = inline_svg(figure, f"{caption} {f'({of})' if of else ''}".strip(), f"{name}-")
    return Drawing(svg, caption, round(96 * figure.get_figwidth()))


def _convergence(fits: Fits) -> tuple[list[str], list[list[Cell]]]:
    headers = ["recipe", "R-hat", "bulk ESS", "tail ESS", "divergences", "E-BFMI", "second try"]
    rows = []
    for fit in fits.values():
        c = fit.convergence
        numbers = [
            Cell(f"{c.r_hat:.4f}", c.r_hat),
            Cell(f"{c.ess_bulk:,.0f}", c.ess_bulk),
            Cell(f"{c.ess_tail:,.0f}", c.ess_tail),
            Cell(f"{c.divergences:,}", c.divergences),
            Cell(f"{c.e_bfmi:.2f}", c.e_bfmi),
        ]
        tried = "yes" if fit.settings.retried else "no"
        rows.append([Cell(fit.name, fit.name), *numbers, Cell(tried, tried)])
    return headers, rows


def _priors(fits: Fits) -> list[tuple[str, str]]:
    """Priors, each said once; recipes that were fitted under others are counted."""
    said = [tuple(fit.priors.shown().items()) for fit in fits.values()]
    most = max(dict.fromkeys(said), key=said.count)
    others = len(said) - said.count(most)
    return [*most, *([("others", f"{count(others, 'recipe')} had other priors")] if others else [])]


def _settings(fits: Fits) -> list[tuple[str, str]]:
    """How the fits were made; what differs between them is listed."""
    told: dict[str, dict[str, None]] = {}
    for fit in fits.values():
        s = fit.settings
        rows = {"seed": s.seed, "chains": s.chains, "warm-up steps": s.tune, "draws": s.draws, **s.versions}
        for name, value in rows.items():
            told.setdefault(name, {})[str(value)] = None
    return [(name, " or ".join(values)) for name, values in told.items()]
