"""Tables of a law across model sizes: those that files and the terminal share, and how the terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import typer
from rich.markup import escape
from rich.table import Table

from rlceiling.posterior.size_fit import SizePosterior
from rlceiling.posterior.size_verdicts import SizeVerdict
from rlceiling.report.terminal import GAP, open_console, print_table
from rlceiling.results.sizes import Sizes
from rlceiling.text import number, percent, probability


def tables_of_sizes(
    fit: Sizes,
    added: Sequence[float] = (),
    *,
    at: Sequence[float] = (),
    budget: Sequence[float] = (),
    target: float | None = None,
    of: str = "reward",
    prob: float = 0.9,
) -> dict[str, pd.DataFrame]:
    """Answers of a law across sizes by name of the question; ``sizes``, the table of sizes, is always there.

    Parameters
    ----------
    fit : Sizes
        Posterior.
    added : sequence of float
        Sizes that are asked about beside those in the data.
    at, budget : sequence of float
        Resources of ``forecast`` and of ``best_size``.
    target : float, optional
        Reward, or test loss, of ``compute_to_reach``.
    of : {"reward", "loss"}, default "reward"
        Whether forecasts and `target` are rewards or test losses.
    prob : float, default 0.9
        Probability of the equal-tailed credible intervals.
    """
    everyone = sorted({*fit.sizes, *added})
    tables: dict[str, pd.DataFrame] = {"sizes": fit.summary(prob).reset_index()}
    if at:
        tables["forecast"] = fit.forecast(everyone, at, prob, of=of)
    if target is not None:
        tables["compute_to_reach"] = fit.compute_to_reach(target, everyone, prob, of=of).reset_index()
    if budget:
        tables["best_size"] = fit.best_size(budget, everyone)
    if len(fit.sizes) > 1:
        tables["saturation"] = fit.saturation(prob=prob).to_frame().T
    return tables


def headline(fit: SizePosterior) -> str:
    """What was fitted, and the verdict with its numbers."""
    return f"{fit.units.resource} and {fit.units.reward} of {len(fit.sizes)} sizes: {fit.sentence()}"


def show_sizes(fit: SizePosterior, tables: Mapping[str, pd.DataFrame], of: str, prob: float = 0.9) -> None:
    """Print a law across sizes: the verdict, the table of sizes, and the answers that were asked for."""
    typer.echo(headline(fit))
    for note in fit.notes:
        typer.echo(f"  {note}")
    if fit.verdict is SizeVerdict.NOT_CONVERGED:
        return
    names = list(fit.size_law.table(fit.columns))
    rows = []
    for row in tables["sizes"].to_dict("records"):
        cells = {fit.units.size: str(row[fit.units.size])}
        cells |= {n: _interval(row[n], row[f"{n}_lower"], row[f"{n}_upper"]) for n in (*names, "sigma")}
        rows.append(cells | {"runs": str(row["runs"]), "evaluations": str(row["evaluations"])})
    _show(f"medians and {percent(prob)} intervals", rows)
    if "saturation" in tables:
        told = tables["saturation"].iloc[0]
        gain = _interval(told["gain"], told["gain_lower"], told["gain_upper"])
        what = fit.saturating_label
        typer.echo(
            f"\ntwice the largest size: {what} higher by a share of {gain}; chance that it is less than a tenth"
            f" {probability(told['p_small_gain'])}"
        )
    if "forecast" in tables:
        what = fit.units.reward if of == "reward" else "test loss"
        _show(
            f"{what}: mean and {percent(prob)} interval",
            [
                {
                    fit.units.size: _size(fit, row[fit.units.size]),
                    fit.units.resource: number(row[fit.units.resource]),
                    "curve": _interval(row["mean"], row["lower"], row["upper"]),
                    "new evaluation": _interval(row["new_mean"], row["new_lower"], row["new_upper"]),
                    "": row["reason"],
                }
                for row in tables["forecast"].to_dict("records")
            ],
        )
    if "compute_to_reach" in tables:
        _show(
            f"{fit.units.resource} to get there: median and {percent(prob)} interval",
            [
                {
                    fit.units.size: str(row[fit.units.size]),
                    fit.units.resource: _interval(row["resource"], row["lower"], row["upper"]),
                    "chance of never": probability(row["p_never"]),
                    "": row["reason"],
                }
                for row in tables["compute_to_reach"].to_dict("records")
            ],
        )
    if "best_size" in tables:
        table = tables["best_size"]
        sizes = [c for c in table if c not in (fit.units.resource, "best", "supported", "reason")]
        _show(
            "chance of each size to be the best one for a budget",
            [
                {fit.units.resource: number(row[fit.units.resource])}
                | {str(s): probability(row[s]) for s in sizes}
                | {"": row["reason"]}
                for row in table.to_dict("records")
            ],
        )


def _size(fit: SizePosterior, size: Any) -> str:
    return size if isinstance(size, str) else fit.units.show(size)


def _interval(middle: float, lower: float, upper: float) -> str:
    low, mid, high = ("never" if math.isinf(v) else number(v) for v in (lower, middle, upper))
    return f"{mid} [{low}, {high}]"


def _show(title: str, rows: list[dict[str, str]]) -> None:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for header in rows[0]:
        if header or any(row[header] for row in rows):
            table.add_column(escape(header), no_wrap=bool(header), overflow="fold")
    for row in rows:
        cells = [escape(row[h]) for h in rows[0] if h or any(r[h] for r in rows)]
        table.add_row(*cells, style="dim" if row.get("") else None)
    typer.echo(f"\n{title}\n")
    print_table(open_console(), table)
