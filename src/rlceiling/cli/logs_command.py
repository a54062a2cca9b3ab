"""`rlceiling logs`: what is in a log."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from rlceiling.cli.output import AsJson, print_json
from rlceiling.report.terminal import GAP, open_console, print_table
from rlceiling.text import as_typed

MOST_OTHER = 12
"""Keys of no known kind that are listed, unless all are asked for."""


def logs(
    path: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders or patterns, or - for standard input.")
    ],
    every: Annotated[bool, typer.Option("--all", help="List every key, and not only rewards and some others.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the runs, metrics and resources in logs of trainers and trackers."""
    from rlceiling.logs.contents import log_contents

    contents = log_contents(path)
    if as_json:
        answers = {"notes": contents.attrs["notes"], "resources": contents.attrs["compute"], "log_contents": contents}
        print_json("logs", {"path": path}, answers)
        return
    console = open_console()
    for note in contents.attrs["notes"]:
        console.print(escape(note), soft_wrap=True)
    for run, rows in contents.groupby("run", sort=False):
        resources = contents.attrs["compute"].get(run, [])
        console.print(
            f"\n[bold]{escape(str(run))}[/bold]" + (f": compute can be {', '.join(resources)}" if resources else "")
        )
        order = rows["kind"].map({"held-out": 0, "training": 1}).fillna(2)
        known = rows.assign(order=order).sort_values("order", kind="stable")
        others = known[known["order"] == 2]
        shown = known if every else known.drop(others.index[MOST_OTHER:])
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
        for name in ("key", "kind", "rows", "steps", "values"):
            table.add_column(name, overflow="fold")
        for row in shown.to_dict("records"):
            spanned = not math.isnan(row["first_step"])  # tables have no steps
            steps = f"{as_typed(row['first_step'])} to {as_typed(row['last_step'])}" if spanned else ""
            values = f"{row['lowest']:.4g} to {row['highest']:.4g}" if spanned else ""
            table.add_row(escape(row["key"]), row["kind"], f"{row['rows']:,}", steps, values)
        print_table(console, table)
        if len(shown) < len(known):
            console.print(f"and {len(known) - len(shown):,} other keys; --all lists them")
