"""Tables on a terminal, within its width, and in a pipe."""

from __future__ import annotations

import math
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlceiling.errors import count
from rlceiling.text import number, percent, probability

if TYPE_CHECKING:
    from rlceiling.calibration.backtest import Backtest
    from rlceiling.posterior.fit import Fit
    from rlceiling.results.fits import Fits

TextCell = str | tuple[str, str]

GAP = 2
PIPE_WIDTH = 10_000
LEAST_ADVICE = 40
"""Least width, in characters, of a column of advice; where there is less room, advice is listed below the table."""


def open_console() -> Console:
    """Console on standard output. A pipe has no width, so that nothing is cut off in it."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if piped else None, highlight=False)


def print_table(console: Console, table: Table) -> None:
    """Print a table without blanks at the ends of lines."""
    with console.capture() as text:
        console.print(table)
    for line in text.get().splitlines():
        typer.echo(line.rstrip())


def show_table(rows: Sequence[Mapping[str, TextCell]], advice: Sequence[str]) -> None:
    """Print rows that have a recipe and a verdict, within the width of the terminal.

    A cell of two parts, such as a median and its interval, takes two lines where one would be too long; so do recipe
    and verdict. Where that is still too wide, the last columns get a table of their own. Advice gets a column or is
    listed below.
    """
    console = open_console()
    dim = [row["verdict"] != "IDENTIFIED" for row in rows]
    joined = [{k: v if isinstance(v, str) else " ".join(filter(None, v)) for k, v in row.items()} for row in rows]
    lines, moved = joined, list[str]()
    width = Console(width=PIPE_WIDTH).measure(_table(lines, dim)).maximum
    if any(advice) and width + GAP + LEAST_ADVICE <= console.width:
        lines = [line | {"advice": said} for line, said in zip(lines, advice, strict=True)]
        advice = ()
    elif width > console.width:
        lines = [{k: v if isinstance(v, str) else "\n".join(filter(None, v)) for k, v in row.items()} for row in rows]
        lines = [line | {"recipe": f"{line['recipe']}\n{line.pop('verdict')}"} for line in lines]
        while len(lines[0]) > 2 and _least_width(lines) > console.width:
            moved = [list(lines[0])[-1], *moved]
            lines = [{name: line[name] for name in line if name not in moved} for line in lines]
    print_table(console, _table(lines, dim))
    if moved:
        of = takewhile(lambda name: all(isinstance(row[name], str) for row in rows), rows[0])
        names = [*of, *moved]
        typer.echo()
        print_table(console, _table([{name: line[name] for name in names} for line in joined], dim))
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


def _least_width(rows: Sequence[Mapping[str, str]]) -> int:
    """Width, in characters, that a table needs if no word is broken."""
    total = -GAP
    for header in rows[0]:
        split = str.split if header == "recipe" else str.splitlines
        total += GAP + max(cell_len(part) for text in (header, *(row[header] for row in rows)) for part in split(text))
    return total


def show_fits(fits: Fits, prob: float = 0.9) -> None:
    """Print the summary of fits, with what to do where a ceiling is not identified."""
    from rlceiling.posterior.posterior import interval_of
    from rlceiling.posterior.verdicts import Verdict

    several = any(len(fit.runs) > 1 for fit in fits.values())

    def row(fit: Fit) -> dict[str, TextCell]:
        cells = {"recipe": fit.name} | ({"runs": str(len(fit.runs))} if several else {}) | fit.curve_cells(prob=prob)
        if several:  # of one run it would be the prior's
            known = fit.verdict is not Verdict.NOT_CONVERGED and len(fit.runs) > 1
            lower, median, upper = map(fit.units.show, interval_of(fit.A_spread, prob))
            cells["sd of A between runs"] = (median, f"[{lower}, {upper}]") if known else "-"
        return cells | {"verdict": fit.verdict.name}

    advice = [fit.to_do for fit in fits.values()]
    show_table([row(f) for f in fits.values()], advice)
    verdicts = [v.name for v in fits.verdicts.values()]
    counts = ", ".join(f"{verdicts.count(v.name)} {v.name}" for v in reversed(Verdict) if v.name in verdicts)
    what = f"A is the ceiling in {fits.units.reward}"
    line = f"{count(len(fits), 'recipe')}: {counts}; medians and {percent(prob)} intervals, {what}"
    bracketed = any(v not in (Verdict.IDENTIFIED, Verdict.NOT_CONVERGED) for v in fits.verdicts.values())
    typer.echo(f"\n{line}{', in parentheses where the data do not fix it' if bracketed else ''}")
    for note in (*(note for fit in fits.values() for note in fit.notes), *fits.odd_runs):
        typer.echo(note)


def show_answer(fits: Fits, prob: float = 0.9) -> None:
    """Print the answer in sentences, within the width of the terminal."""
    width = open_console().width
    typer.echo()
    for sentence in fits.answer(prob=prob):
        typer.echo(textwrap.fill(sentence, width, subsequent_indent="  ", break_long_words=False))


def show_runs(fits: Fits, prob: float = 0.9) -> None:
    """Print the ceiling and curve of every run."""

    def row(fit: Fit, run: str) -> dict[str, TextCell]:
        return {"recipe": fit.name, "run": run} | fit.curve_cells(run, prob) | {"verdict": fit.verdict.name}

    rows = [row(fit, run) for fit in fits.values() for run in fit.run_names]
    show_table(rows, [""] * len(rows))


def show_chances(fits: Fits, margin: float, at: float | None = None) -> None:
    """Print the chances of all pairs and the ranks, of ceilings or of curves at a compute."""
    console = open_console()
    chances, ranks = fits.chances(margin, at=at).to_dict("index"), fits.rank(at=at)
    dim = [not known for known in ranks["conclusive"].loc[list(fits)]]
    numbered = {name: f"{place} {name}" for place, name in enumerate(fits, start=1)}
    # A column that would hold nothing but question marks is left out.
    told = {name for name in fits if any(not math.isnan(row[name]) for row in chances.values())}
    columns = {name: label.split()[0] for name, label in numbered.items() if name in told}
    block = max(1, (console.width - max(map(len, numbered.values()))) // (len(">0.99") + GAP))
    beyond = f" by more than {margin:g}" if margin else ""
    what = "ceiling" if at is None else f"curve at {number(at)} {fits.units.compute}"
    typer.echo(f"chance that the {what} of the row is higher than that of the column{beyond}")
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
    leading = "chance of the highest" if at is None else "chance to lead"
    best = [
        {"recipe": name, leading: probability(p), "mean rank": "?" if math.isnan(m) else f"{m:.1f}"}
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
    """Print scores by cut, verdicts, and the runs that could not be used."""
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
