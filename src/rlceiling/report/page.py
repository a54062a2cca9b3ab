"""The report: one HTML file without other files, which begins with the answer in words."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from tqdm import tqdm

from rlceiling.calibration.growth import Growth
from rlceiling.decisions.chances import check_margin
from rlceiling.decisions.forecast import check_target
from rlceiling.display.html import templates
from rlceiling.errors import DataError, count
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.size_fit import SizePosterior
from rlceiling.posterior.size_verdicts import SizeVerdict
from rlceiling.posterior.verdicts import Verdict
from rlceiling.report.chance_plots import by_rank, plot_best, plot_chances, plot_ranks
from rlceiling.report.check_plots import plot_pit, plot_residuals
from rlceiling.report.compute_plots import plot_compute_to_reach, plot_growth
from rlceiling.report.curve_plots import MOST_IN_ONE, plot_curves
from rlceiling.report.forest_plots import PARAMETERS, plot_forest
from rlceiling.report.page_parts import Drawing, Rows, SortableCell, convergence_table, drawn, settings_rows
from rlceiling.report.size_section import size_section
from rlceiling.report.size_tables import headline
from rlceiling.report.style import new_picture
from rlceiling.results.fits import Fits
from rlceiling.text import NOT_READ_OFF, interval, joined, number, probability
from rlceiling.writing import check_target as check_file
from rlceiling.writing import replace_file

MOST_IN_MATRIX = 12
"""Largest number of recipes in the matrix of chances, so that its numbers are readable on a page."""

MOST_IN_FOREST = 30
"""Largest number of recipes in a forest plot; the table has all of them."""

FURTHER = 2.0
"""Multiple of the largest compute at which the table has the curve of a recipe."""


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
    sizes: Sequence[SizePosterior] = (),
) -> None:
    """Write one HTML file with the ceilings of recipes, their comparison, and laws across model sizes.

    The file needs no network and no other file. It begins with the answer in words. Then come a sortable table, plots
    and a section for each recipe, a section for each law across sizes, assumptions, priors, convergence diagnostics,
    and how the report was made.

    Parameters
    ----------
    fits : Fits
        Posteriors of recipes. It may be empty if there are `sizes`.
    path : path
        The file. A file of this name is replaced when the new one is complete.
    title : str, optional
        Heading. Default: the number of recipes, or of model sizes.
    margin : float, default 0
        Difference of ceilings that counts, in the unit of the reward.
    target : float, optional
        Reward for which the compute to reach it is drawn, in the unit of the reward.
    growth : Growth, optional
        From `rlceiling.growth`; it is drawn for each recipe.
    command : str, optional
        The command that made the report, which is shown in it.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.
    sizes : sequence of Sizes, optional
        Posteriors of laws across model sizes, from `rlceiling.fit_sizes` or `rlceiling.load_sizes`.

    Raises
    ------
    DataError
        If there are neither fits nor sizes, `margin` is not finite, `target` is outside the bounds of the reward or
        given without fits, or `path` lies in no folder.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl"))  # doctest: +SKIP
    >>> rl.write_report(fits, "report.html")  # doctest: +SKIP
    """
    path = Path(path)
    check_report(path, margin)
    if not fits and not sizes:
        raise DataError("write_report: there are no fits to report on; give at least one.")
    if target is not None:
        if not fits:
            raise DataError(f"write_report: target={target!r} is about recipes and there are none; leave it out.")
        check_target(target, fits.units.bounds)
    if fits:
        check_margin(margin, fits.units.bounds)
    folder = templates("rlceiling.report")
    source = folder.loader
    assert source is not None
    script = source.get_source(folder, "report.js")[0]
    style = source.get_source(folder, "report.css")[0]
    bar = tqdm(fits.values(), desc="drawing", unit="recipe", disable=None if progress is None else not progress)
    page = folder.get_template("report.html.jinja").render(
        title=title or _title(fits, sizes),
        answer=[*(fits.answer(margin) if fits else ()), *map(headline, sizes)],
        fits=fits,
        units=fits.units if fits else None,
        summary=_summary(fits) if fits else None,
        drawings=list(_drawings(fits, margin, target)) if fits else [],
        recipes=[_recipe(place, fit, growth) for place, fit in enumerate(bar, start=1)],
        laws=[size_section(place, one) for place, one in enumerate(sizes, start=1)],
        convergence=convergence_table("recipe", fits),
        priors=_priors(fits) if fits else [],
        settings=settings_rows(fits.values()),
        command=command,
        today=date.today().isoformat(),
        version=version("rlceiling"),
        Verdict=Verdict,
        SizeVerdict=SizeVerdict,
        style=Markup(style),
        script=Markup(script),
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    replace_file(path, page.encode())


def _title(fits: Fits, sizes: Sequence[SizePosterior]) -> str:
    """Heading of a report that was given none."""
    if fits:
        return f"Ceilings of {count(len(fits), 'recipe')}"
    if len(sizes) > 1:
        return f"{len(sizes)} laws across model sizes"
    (only,) = sizes
    return f"{only.law_in_words.removeprefix('the ').capitalize()} across {count(len(only.sizes), 'model size')}"


def check_report(path: Path, margin: float = 0.0) -> None:
    """Raise DataError unless a report can be written there; called before sampling."""
    check_margin(margin)
    if path.exists() and not path.is_dir():
        check_file(path)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"would lie in {path.parent}, which is no folder"
        raise DataError(f"{path.name} {what}; name a file such as report.html.")


def _summary(fits: Fits) -> Rows:
    """Headers and rows of the table of recipes."""
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
        curve = [
            SortableCell(text, value, of) for (text, of), value in zip(fit.curve_cells().values(), order, strict=True)
        ]
        best = float(ranks["p_best"][name])
        row = [SortableCell(name, name), *([SortableCell(f"{len(fit.runs):,}", len(fit.runs))] if several else [])]
        row += [
            SortableCell(probability(best), best),
            *curve,
            SortableCell(number(fit.largest_compute), fit.largest_compute),
        ]
        for factor in (1.0, FURTHER):
            lower, median, upper = (float(v[0]) for v in fit.curve_at(np.array([factor * fit.largest_compute])))
            text, of = (NOT_READ_OFF, "") if void else interval(lower, median, upper, units.show)
            row.append(SortableCell(text, math.nan if void else median, of))
        advice = fit.to_do
        rows.append([*row, SortableCell(fit.verdict.name, fit.verdict.name), SortableCell(advice, advice)])
    return headers, rows


def _drawings(fits: Fits, margin: float, target: float | None) -> Iterator[Drawing]:
    """Figures of all recipes together."""
    order = by_rank(fits)
    first = {name: fits[name] for name in _first(fits, order, MOST_IN_ONE)}
    which = (
        f"{len(first)} of {count(len(fits), 'recipe')}, judged and not yet judged. " if len(first) < len(fits) else ""
    )
    yield drawn(
        lambda: plot_curves(first),
        "curves",
        f"{which}Evaluations, fitted curves and forecasts. Bars at the right edge are ceilings that are"
        " known; hatched: where the ceiling of a run that stopped before its curve bent may lie.",
    )
    shown = {name: fits[name] for name in order[:MOST_IN_FOREST]}
    of = f" The first {len(shown)} by rank." if len(shown) < len(fits) else ""
    for parameter, caption in zip(
        PARAMETERS,
        (
            "Ceiling, where it is known, beside its prior, which shows what the data added.",
            "Efficiency beside its prior; open and grey where the ceiling is not known.",
            "Midpoint beside its prior; a run should go well beyond its midpoint.",
        ),
        strict=True,
    ):
        yield drawn(partial(plot_forest, shown, parameter), f"forest-{parameter}", caption + of)
    if len(fits) > 1:
        more = f" by more than {margin:g}" if margin else ""
        yield drawn(
            lambda: plot_chances(fits, margin, most=MOST_IN_MATRIX),
            "chances",
            f"Chance that the recipe of the row ends higher than that of the column{more}.",
        )
        yield drawn(lambda: plot_best(fits), "best", "Chance of each recipe to have the highest ceiling.")
        yield drawn(
            lambda: plot_ranks(fits, most=MOST_IN_MATRIX), "ranks", "Chance of each rank among those that are known."
        )
    if target is not None:
        yield drawn(
            lambda: plot_compute_to_reach(first, target),
            "reach",
            f"Chance that the curve has reached {fits.units.show(target)} by a compute.",
        )


def _first(fits: Fits, order: Sequence[str], most: int) -> list[str]:
    """Names of the best identified recipes, and of two others whose ceilings may be higher."""
    judged = [name for name in order if fits[name].verdict is Verdict.IDENTIFIED]
    open_ = [name for name in order if fits[name].verdict is not Verdict.IDENTIFIED]
    open_.sort(key=lambda name: (fits[name].verdict is not Verdict.PRE_INFLECTION, -fits[name].interval("A")[2]))
    least = most - min(2, len(open_))
    return [*judged[:least], *open_][:most]


def _recipe(place: int, fit: Fit, growth: Growth | None) -> dict[str, Any]:
    """Contents of the section of one recipe."""
    of = f"recipe {place}"
    drawings = [
        drawn(lambda: _single(fit), f"r{place}-curve", f"Evaluations, fitted curve, and {_leads(fit)}.", of),
        drawn(
            lambda: plot_residuals(fit, ax=new_picture(4.8, 3.2).add_subplot()),
            f"r{place}-residuals",
            "Evaluations minus curve. The band holds 90% of them if the model is right; line: autocorrelated noise.",
            of,
        ),
        drawn(
            lambda: plot_pit(fit),
            f"r{place}-pit",
            "Probability integral transform of each evaluation given those before it; steps should stay in the band.",
            of,
        ),
    ]
    if growth is not None and fit.name in growth.recipes:
        caption = "Ceiling that was fitted as the run got longer, beside least squares."
        drawings.append(drawn(lambda: plot_growth(growth, fit.name), f"r{place}-growth", caption, of))
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
    """Caption of what is drawn beyond the evaluations of a recipe."""
    if fit.verdict is Verdict.IDENTIFIED:
        return "its forecast; the bar at the right edge is the ceiling"
    if fit.verdict is Verdict.PRE_INFLECTION:
        return "hatched, where its ceiling may lie, which is not known yet"
    return "no forecast, since there is no ceiling to draw"


def _single(fit: Fit) -> Axes:
    """Curve of one recipe, without the title, which the heading of its section has already."""
    ax = plot_curves(fit, ax=new_picture(6.0, 3.2).add_subplot())
    ax.set_title("", loc="left")
    legend = ax.get_legend()
    assert legend is not None
    legend.remove()
    return ax


def _priors(fits: Fits) -> list[tuple[str, str]]:
    """Priors of most recipes, and the number of recipes that had others."""
    shown = [tuple(fit.priors.shown().items()) for fit in fits.values()]
    most = max(dict.fromkeys(shown), key=shown.count)
    others = len(shown) - shown.count(most)
    return [*most, *([("others", f"{count(others, 'recipe')} had other priors")] if others else [])]
