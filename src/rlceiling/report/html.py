"""What notebooks show: runs, fits and chances as small pieces of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import jinja2

from rlceiling.errors import count
from rlceiling.text import interval, number

if TYPE_CHECKING:
    from rlceiling.decisions.chances import Chance
    from rlceiling.posterior.fit import Fit
    from rlceiling.posterior.fits import Fits
    from rlceiling.runs import Runs

MOST_ROWS = 40
"""Rows of a table in a notebook; more are counted."""


@cache
def templates() -> jinja2.Environment:
    """Templates of this package; whatever they are given is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("rlceiling.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def runs_html(runs: Runs) -> str:
    """What `Runs` says of itself, and a row a recipe."""
    rows = []
    for name, members in runs.iter_recipes():
        positive = [run for run in members if len(run.compute)]
        ends = [(run.compute[0], run.compute[-1]) for run in positive]
        rewards = [float(runs.unscale(v)) for run in positive for v in (run.reward.min(), run.reward.max())]
        rows.append(
            [
                name,
                f"{len(members):,}",
                f"{sum(len(run.compute) for run in members):,}",
                f"{number(min(a for a, _ in ends))} to {number(max(b for _, b in ends))}" if ends else "none above 0",
                f"{min(rewards):.3g} to {max(rewards):.3g}" if rewards else "",
                f"{sum(run.start is not None for run in members):,}",
            ]
        )
    headers = ["recipe", "runs", "evaluations", runs.compute_label, runs.reward_label, "step 0 logged"]
    return _piece(repr(runs).split("\n  "), headers, rows)


def fits_html(fits: Fits) -> str:
    """What `Fits` says of itself, and a row a recipe."""
    from rlceiling.report.cells import advice_cell, curve_cells, joined

    cells = {name: curve_cells(fit) for name, fit in fits.items()}
    rows = [
        [fit.name, *map(joined, cells[fit.name].values()), fit.verdict.name, advice_cell(fit)] for fit in fits.values()
    ]
    headers = ["recipe", *next(iter(cells.values()), {}), "verdict", "what to do"]
    return _piece(repr(fits).split("\n  "), headers, rows)


def fit_html(fit: Fit) -> str:
    """The sentence of a `Fit`, and its parameters beside their priors."""
    return _piece([fit.sentence()], ["parameter", "posterior", "prior"], parameter_rows(fit))


def chance_html(chance: Chance) -> str:
    """The sentence of a `Chance`, and a bar as long as it."""
    return templates().get_template("chance.html.jinja").render(chance=chance)


PARAMETERS = {
    "A": "ceiling A",
    "B": "efficiency B",
    "C_mid": "midpoint C_mid",
    "R0": "start R0",
    "sigma": "noise sigma",
    "share": "share of it that wanders",
    "length": "length over which it wanders, in ln C",
}


def parameter_rows(fit: Fit) -> list[list[str]]:
    """Rows of a table: what a parameter is, its posterior and its prior (medians and 90% intervals)."""
    import numpy as np

    from rlceiling.report.cells import NOT_READ_OFF, joined

    units, priors = fit.units, fit.prior_draws()
    rows = []
    for name, meaning in PARAMETERS.items():
        show = units.show if name in ("A", "R0") else number
        unit = {"A": units.reward, "R0": units.reward, "sigma": units.reward, "C_mid": units.compute}.get(name)
        lower, middle, upper = (float(v) for v in np.quantile(priors[name], [0.05, 0.5, 0.95]))
        posterior = fit.quoted_ceiling() if name == "A" else interval(*fit.interval(name), show)
        said = NOT_READ_OFF if fit.verdict.name == "NOT_CONVERGED" else joined(posterior)
        label = f"{meaning} ({unit})" if unit else meaning
        rows.append([label, said, joined(interval(lower, middle, upper, show))])
    return rows


def _piece(lines: Sequence[str], headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    more = [f"and {count(len(rows) - MOST_ROWS, 'more row')}"] if len(rows) > MOST_ROWS else []
    template = templates().get_template("piece.html.jinja")
    return template.render(lines=lines, headers=headers, rows=rows[:MOST_ROWS], more=more)
