"""`rlceiling backtest`: cut finished runs, forecast the rest of each, and score the forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlceiling.cli.options import Reading, RunsArgument, Sampling, check_picture, default, expand_options
from rlceiling.cli.output import AsJson, files_written, print_json
from rlceiling.errors import DataError, listing
from rlceiling.report.terminal import show_backtest
from rlceiling.settings import BACKTEST_CUTS

if TYPE_CHECKING:
    from rlceiling.calibration.backtest import Backtest

# JAX, matplotlib and the fits are imported by the command, so that help is shown at once.


@expand_options
def backtest(
    runs: RunsArgument,
    reading: Reading,
    sampling: Sampling,
    cut: Annotated[
        list[float] | None,
        typer.Option(
            metavar="SHARE",
            help=f"Share of each run that is fitted. May be repeated. {default(' '.join(map(str, BACKTEST_CUTS)))}",
        ),
    ] = None,
    cut_compute: Annotated[
        list[float] | None,
        typer.Option(metavar="C", help="Compute at which runs are cut, instead of --cut. May be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory for tables.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw coverage and the worst forecasts (.png, .pdf, .svg).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cut finished runs, forecast the rest of each, and score the forecasts."""
    if cut and cut_compute:
        raise DataError("--cut and --cut-compute both say where runs are cut; give one of them.")
    table = reading.read(runs)
    if plot is not None:
        check_picture(plot)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    from rlceiling.calibration.backtest import BacktestInterrupted
    from rlceiling.calibration.backtest import backtest as test

    sampling.announce(table)
    cuts: dict[str, Any] = {name: value for name, value in (("cut", cut), ("cut_compute", cut_compute)) if value}
    try:
        tested, stopped = test(table, **cuts, **sampling.settings()), False
    except BacktestInterrupted as interrupted:
        if interrupted.backtest is None:
            raise
        tested, stopped = interrupted.backtest, True
    written = _write_backtest(tested, out, plot)
    if as_json:
        answers = {"notes": table.notes, "scores": tested.scores("cut"), "verdicts": tested.verdicts()}
        answers |= {"ceilings": tested.ceilings, "skipped": tested.skipped} | files_written(out, plot)
        print_json("backtest", cuts, answers)
    else:
        show_backtest(tested)
        if written:
            typer.echo(f"wrote {listing(written)}")
    if stopped:
        typer.echo("rlceiling: stopped before all cuts were forecast", err=True)
        raise typer.Exit(130)


def _write_backtest(tested: Backtest, out: Path | None, plot: Path | None) -> list[str]:
    """Write the files that were asked for, and return their names."""
    written = []
    if out is not None:
        tables = {"scores": tested.scores("cut").reset_index(), "points": tested.points}
        for name, table in {**tables, "ceilings": tested.ceilings, "skipped": tested.skipped}.items():
            table.to_csv(out / f"{name}.csv", index=False)
            written.append(str(out / f"{name}.csv"))
    if plot is not None:
        from rlceiling.report.backtest_plots import plot_backtest

        plot_backtest(tested).savefig(plot)
        written.append(str(plot))
    return written
