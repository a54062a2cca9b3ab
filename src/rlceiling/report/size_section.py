"""Section of the report about a law across model sizes."""

from __future__ import annotations

from functools import partial
from typing import Any

from rlceiling.decisions.size_questions import saturation
from rlceiling.posterior.size_fit import SizePosterior
from rlceiling.posterior.size_verdicts import SizeVerdict
from rlceiling.report.page_parts import Rows, SortableCell, convergence_table, drawing, settings_rows
from rlceiling.report.size_plots import size_panels
from rlceiling.report.size_tables import headline
from rlceiling.text import interval, joined, number, probability

SMALL_GAIN = 0.1
"""Relative gain below which a model twice the largest size is said to add next to nothing."""

LIMITS = {
    "E_max": "exponent that models without limit approach",
    "N0": "size at which half of it is reached",
    "L_inf": "test loss that models without limit approach",
    "N1": "size at which ceilings would lie 1 below their limit",
    "alpha": "exponent with which ceilings approach their limit in size",
}
"""Parameters by which laws are quoted."""


def size_section(place: int, fit: SizePosterior) -> dict[str, Any]:
    """Contents of the section of one law; `place` counts the laws from 1."""
    verdict, of = fit.verdict, f"law {place}"
    void = verdict is SizeVerdict.NOT_CONVERGED
    captions = {
        "curves": "Evaluations, fitted curves and their 90% bands, as test loss. Dashed: extrapolated.",
        "law": f"{fit.saturating_label.capitalize()} of every size with its 90% credible interval, and the value at"
        " which the law saturates, hatched where the data do not reach that far. Grey: sizes that are not in the data.",
        "best": "Chance of each size to be the best one for a budget; hatched where the data do not support an answer.",
    }
    panels = {} if void else size_panels(fit)
    return {
        "place": place,
        "fit": fit,
        "title": f"{fit.law_in_words.removeprefix('the ').capitalize()} across {fit.units.size}",
        "headline": headline(fit),
        "known": verdict is SizeVerdict.SATURATION_SEEN,
        "drawings": [drawing(ax, f"s{place}-{name}", captions[name], of) for name, ax in panels.items()],
        "table": None if void else _sizes(fit),
        "caption": _caption(fit),
        "saturation": [] if void or len(fit.sizes) < 2 else _saturation(fit),
        "convergence": convergence_table("law", {fit.law: fit}),
        "priors": list(fit.priors.shown().items()),
        "settings": settings_rows([fit]),
    }


def _sizes(fit: SizePosterior) -> Rows:
    """Headers and rows of the table of sizes."""
    table = fit.summary()
    names = [str(name) for name in table if f"{name}_lower" in table]
    rows = []
    for size, (shown, row) in zip(fit.sizes, table.iterrows(), strict=True):
        cells = [interval(row[f"{name}_lower"], row[name], row[f"{name}_upper"], number) for name in names]
        counts = [SortableCell(f"{row[name]:,.0f}", float(row[name])) for name in ("runs", "evaluations")]
        numbers = [SortableCell(text, float(row[name]), of) for name, (text, of) in zip(names, cells, strict=True)]
        rows.append([SortableCell(str(shown), size), *numbers, *counts])
    return [fit.units.size, *names, "runs", "evaluations"], rows


def _caption(fit: SizePosterior) -> str:
    """Meaning of the columns of the table of sizes."""
    units = {"reward": f", in {fit.units.reward}", "resource": f", in {fit.units.resource}", "none": ""}
    own = fit.size_law.curve.parameters
    shown = fit.size_law.table(fit.columns)
    labels = [f"{p.symbol} is the {p.label}{units[shown[p.symbol][0]]}" for p in own if p.symbol in shown]
    return f"Medians and 90% credible intervals. {'; '.join(labels)}; sigma is the noise of one evaluation."


def _rounded(fit: SizePosterior, size: float) -> str:
    """A size with three significant digits."""
    return fit.units.show(float(f"{size:.3g}"))


def _saturation(fit: SizePosterior) -> list[tuple[str, str]]:
    """Rows of the table of what the law saturates at."""
    row = saturation(fit, SMALL_GAIN)
    rows = []
    for name in fit.limits:
        show = partial(_rounded, fit) if name.startswith("N") else number
        lower, median, upper = (show(row[f"{name}{end}"]) for end in ("_lower", "", "_upper"))
        seen = fit.verdict is SizeVerdict.SATURATION_SEEN
        text = f"{median} [{lower}, {upper}]" if seen else f"({lower} to {upper})"
        rows.append((f"{name}: {LIMITS[name]}" if name in LIMITS else name, text))
    gain = interval(row["gain_lower"], row["gain"], row["gain_upper"], "{:.1%}".format)
    twice = f"relative gain of the {fit.saturating_label} from twice the largest size"
    chance = probability(row["p_small_gain"])
    return [*rows, (twice, joined(gain)), (f"chance that this gain is below {SMALL_GAIN:.0%}", chance)]
