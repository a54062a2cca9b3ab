"""Tables on a terminal: as broad as it allows, in words that can be piped."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlceiling.errors import DataError, count

if TYPE_CHECKING:
    from rlceiling.calibration.backtest import Backtest
    from rlceiling.posterior.fit import Fit, Fits

Cell = str | tuple[str, str]

GAP = 2
PIPE_WIDTH = 10_000
LEAST_ADVICE = 40
"""Columns of a terminal that advice needs to be worth a column of the table; else it is listed below."""


def open_console() -> Console:
    """Standard output; a pipe has no width, and nothing may be cut off in it."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if piped else None, highlight=False)


def print_table(console: Console, table: Table) -> None:
    """Print without blanks at the ends of lines."""
    with console.capture() as text:
        console.print(table)
    for line in text.get().splitlines():
        typer.echo(line.rstrip())


def show_table(rows: Sequence[Mapping[str, Cell]], advice: Sequence[str]) -> None:
    """Print rows that have a recipe and a verdict, as broad as the terminal allows.

    A cell of two parts, such as a median and its interval, takes two lines where one would be too long; so do recipe
    and verdict. Advice gets a column or is listed below.
    """
    console = open_console()
    dim = [row["verdict"] != "IDENTIFIED" for row in rows]
    lines = [{k: v if isinstance(v, str) else " ".join(filter(None, v)) for k, v in row.items()} for row in rows]
    width = Console(width=PIPE_WIDTH).measure(_table(lines, dim)).maximum
    if any(advice) and width + GAP + LEAST_ADVICE <= console.width:
        lines = [line | {"advice": said} for line, said in zip(lines, advice, strict=True)]
        advice = ()
    elif width > console.width:
        lines = [{k: v if isinstance(v, str) else "\n".join(v) for k, v in row.items()} for row in rows]
        lines = [line | {"recipe": f"{line['recipe']}\n{line.pop('verdict')}"} for line in lines]
    print_table(console, _table(lines, dim))
    if any(advice):
        below = [{"recipe": row["recipe"], "advice": said} for row, said in zip(rows, advice, strict=True) if said]
        typer.echo()
        print_table(console, _table(below, [False] * len(below)))


def _table(rows: Sequence[Mapping[str, Any]], dim: Sequence[bool]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for header in rows[0]:
        table.add_column(escape(header), no_wrap=header not in ("recipe", "advice"), overflow="fold")
    for row, faint in zip(rows, dim, strict=True):
        table.add_row(*map(escape, row.values()), style="dim" if faint else None)
    return table


def show_fits(fits: Fits) -> None:
    """Print the summary of fits, with what to do where a ceiling is not identified."""
    from rlceiling.posterior.verdicts import Verdict
    from rlceiling.report.text import ceiling, interval, number

    def row(fit: Fit) -> dict[str, Cell]:
        void = fit.verdict is Verdict.NOT_CONVERGED
        return {
            "recipe": fit.name,
            "A": "-" if void else ceiling(fit),
            "B": "-" if void else interval(*fit.interval("B"), "{:.2f}".format),
            f"C_mid ({fit.units.compute})": "-" if void else interval(*fit.interval("C_mid"), number),
            "verdict": fit.verdict.name,
        }

    advice = ["" if f.verdict is Verdict.IDENTIFIED else f.advice() for f in fits.values()]
    show_table([row(f) for f in fits.values()], advice)
    verdicts = [v.name for v in fits.verdicts.values()]
    counts = ", ".join(f"{verdicts.count(v.name)} {v.name}" for v in reversed(Verdict) if v.name in verdicts)
    said = f"{count(len(fits), 'run')}: {counts}; medians and 90% intervals, A is the ceiling in {fits.units.reward}"
    typer.echo(f"\n{said}{', in parentheses where the data do not fix it' if any(advice) else ''}")
    for fit in fits.values():
        for note in fit.notes:
            typer.echo(note)


def show_chances(fits: Fits, margin: float) -> None:
    """Print the chances of all pairs and the ranks."""
    from rlceiling.report.text import probability

    if len(fits) < 2:
        raise DataError("chances compare recipes and there is only one; fit at least two.")
    console = open_console()
    chances, ranks = fits.chances(margin).to_dict("index"), fits.rank()
    dim = [not known for known in ranks["conclusive"].loc[list(fits)]]
    numbered = {name: f"{place} {name}" for place, name in enumerate(fits, start=1)}
    # A column of an inconclusive recipe would hold nothing but question marks.
    columns = {name: label.split()[0] for name, label in numbered.items() if ranks["conclusive"].loc[name]}
    block = max(1, (console.width - max(map(len, numbered.values()))) // (len(">0.99") + GAP))
    beyond = f" by more than {margin:g}" if margin else ""
    typer.echo(f"chance that the ceiling of the row is higher than that of the column{beyond}")
    for start in range(0, len(columns), block):
        rows = [
            {"recipe": label}
            | {
                column: "-" if other == name else probability(chances[name][other])
                for other, column in islice(columns.items(), start, start + block)
            }
            for name, label in numbered.items()
        ]
        typer.echo()
        print_table(console, _table(rows, dim))
    best = [
        {"recipe": name, "chance of the highest": probability(p), "mean rank": "?" if math.isnan(m) else f"{m:.1f}"}
        for name, p, m in zip(ranks.index, ranks["p_best"], ranks["mean_rank"], strict=True)
    ]
    typer.echo()
    print_table(console, _table(best, [not known for known in ranks["conclusive"]]))
    reasons = [reason for reason in ranks["reason"] if reason]
    if reasons:
        typer.echo("\n? inconclusive, and not ranked:")
        for reason in reasons:
            typer.echo(f"  {reason}")


def show_backtest(tested: Backtest) -> None:
    """Print scores by cut, verdicts, and what could not be used."""
    from rlceiling.calibration.backtest import LEVELS

    console = open_console()
    for cut, part in tested.scores("cut").reset_index().groupby("cut", sort=False):
        runs, evaluations = int(part["runs"].max()), int(part["evaluations"].max())
        typer.echo(f"cut at {cut}: forecasts of {count(evaluations, 'later evaluation')} of {count(runs, 'run')}\n")
        rows = [
            {
                "forecast": row["method"],
                **{f"in {level:.0%}": f"{row[f'in {level:.0%}']:.2f}" for level in LEVELS},
                "CRPS": f"{row['crps']:.3g}",
                "log score": f"{row['log_score']:.2f}",
                "bias": f"{row['bias']:+.2g}",
                "width of 90%": f"{row['width']:.3g}",
            }
            for row in part.to_dict("records")
        ]
        print_table(console, _table(rows, [False] * len(rows)))
        typer.echo()
    for label, row in tested.verdicts().to_dict("index").items():
        given = ", ".join(f"{n} {name}" for name, n in row.items() if n and str(name).isupper())
        held = f"; ceilings that held: {row['held']} of {row['judged']}" if row["judged"] else ""
        typer.echo(f"verdicts at {label}: {given}{held}")
    if len(tested.skipped):
        typer.echo(f"skipped {count(len(tested.skipped), 'cut run')}:")
        for row in tested.skipped.to_dict("records"):
            typer.echo(f"  {row['recipe']}, run {row['run']}, cut at {row['cut']}: {row['reason']}")
