"""Cells of tables that terminals, notebooks and the report share."""

from __future__ import annotations

from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import interval, number

NOT_READ_OFF = "-"
"""Stands where the chains do not agree."""


def curve_cells(fit: Fit, run: str | None = None) -> dict[str, tuple[str, str]]:
    """Ceiling, efficiency and midpoint of a recipe or a run, each with its interval, by header."""
    headers = ("A", "B", f"C_mid ({fit.units.compute})")
    if fit.verdict is Verdict.NOT_CONVERGED:
        return dict.fromkeys(headers, (NOT_READ_OFF, ""))
    cells = (
        fit.quoted_ceiling(run=run),
        interval(*fit.interval("B", run=run), "{:.2f}".format),
        interval(*fit.interval("C_mid", run=run), number),
    )
    return dict(zip(headers, cells, strict=True))


def joined(cell: tuple[str, str]) -> str:
    """A cell in one line."""
    return " ".join(filter(None, cell))


def advice_cell(fit: Fit) -> str:
    """What to do, empty if there is nothing."""
    return "" if fit.advice() == "none needed" else fit.advice()
