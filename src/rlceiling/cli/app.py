"""The command line, with the names of the library."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from rlceiling.cli.batch_command import batch
from rlceiling.cli.options import (
    Learning,
    Margin,
    Reading,
    RunsArgument,
    Sampling,
    check_picture,
    compute_option,
    default,
    expand_options,
    fits_of,
    reject_fitting_options,
    reject_options,
)
from rlceiling.cli.priors_command import priors
from rlceiling.cli.question_commands import best, chance, forecast, gate, reach
from rlceiling.cli.size_command import sizes
from rlceiling.errors import DataError, count, listing
from rlceiling.report.terminal import (
    GAP,
    open_console,
    print_table,
    show_answer,
    show_backtest,
    show_fits,
    show_runs,
)
from rlceiling.settings import BACKTEST_CUTS

if TYPE_CHECKING:
    from rlceiling.calibration.backtest import Backtest
    from rlceiling.calibration.growth import Growth
    from rlceiling.results.fits import Fits
    from rlceiling.results.sizes import Sizes

# JAX, matplotlib and the fits are imported by the commands that need them, so that help is shown at once.


class _Group(TyperGroup):
    """Commands whose errors are printed as one sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DataError as error:
            _fail(str(error))
        except BrokenPipeError:
            raise  # typer exits without a message, as after `| head`
        except OSError as error:
            _fail(f"{error.filename or 'a file'}: {error.strerror or error}.")
        except KeyboardInterrupt:
            typer.echo("rlceiling: stopped", err=True)
            raise typer.Exit(130) from None


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"rlceiling: {sentence}", err=True)
    raise typer.Exit(2)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Bayesian ceilings for RL post-training: how high a recipe will go, and how sure that is.",
    epilog="Example: rlceiling fit scalerl --select ScaleRL --select MiniMax --out fits",
)


def main() -> None:
    """Run the command line."""
    app()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rlceiling {version('rlceiling')}")
        raise typer.Exit


@app.callback()
def _callback(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Example: rlceiling fit runs.csv --compute gpu_hours --reward pass_rate --out fits --plot curves.png"
)
@expand_options
def fit(
    runs: RunsArgument,
    reading: Reading,
    sampling: Sampling,
    learning: Learning,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory for tables and posteriors.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other fits that the directory holds.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves (.png, .pdf, .svg).")] = None,
    plot_until: Annotated[
        float | None, compute_option(f"Compute at which the plot ends. {default('4 x the largest')}")
    ] = None,
    each_run: Annotated[bool, typer.Option("--each-run", help="Also print the ceiling of each run.")] = False,
) -> None:
    """Fit every recipe and print its ceiling, where the data fix it."""
    if plot_until is not None and plot is None:
        raise DataError("--plot-until says where a plot ends; name its file with --plot.")
    learned = learning.settings()
    table = reading.read(runs)
    # Files that cannot be written are refused before sampling.
    if plot is not None:
        check_picture(plot)
    if out is not None:
        if not overwrite:
            _keep_others(out, table.recipes)
        out.mkdir(parents=True, exist_ok=True)

    from rlceiling.fitting.fit_recipes import FitInterrupted

    try:
        fits, stopped = sampling.fit(table, **learned), False
    except FitInterrupted as interrupted:
        fits, stopped = interrupted.fits, True
    if fits:
        show_fits(fits)
        if each_run:
            typer.echo()
            show_runs(fits)
        show_answer(fits)
        written = _write(fits, out, plot, plot_until)
        typer.echo(f"wrote {listing(written)}" if written else "nothing was kept; give --out DIR to keep it")
    if stopped:
        total = len(table.recipes)
        kept = f"; what is done is in {out}" if fits and out is not None else ""
        typer.echo(f"rlceiling: stopped after {len(fits)} of {count(total, 'recipe')}{kept}", err=True)
        raise typer.Exit(130)


app.command(epilog="Example: rlceiling chance fits ScaleRL MiniMax --margin 0.02")(chance)
app.command(epilog="Example: rlceiling best fits --at 10000 --at 20000 --at 50000")(best)
app.command(epilog="Example: rlceiling gate fits --add 2000 --gain 0.01 --against others")(gate)
app.command(epilog="Example: rlceiling forecast fits --at 50000 --at 100000")(forecast)
app.command(epilog="Example: rlceiling reach fits --target 0.6")(reach)


@app.command(epilog="Example: rlceiling report scalerl -o report.html --growth --target 0.6")
@expand_options
def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FITS", help="A directory written by `fit --out` or `sizes --out`, or RUNS to be fitted first."
        ),
    ],
    reading: Reading,
    sampling: Sampling,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file.")] = Path("report.html"),
    across_sizes: Annotated[
        list[Path] | None,
        typer.Option(
            "--sizes", metavar="DIR", help="Add the law across sizes that `sizes --out` wrote here. May be repeated."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Heading of the report.")] = None,
    margin: Margin = 0.0,
    target: Annotated[
        float | None, typer.Option(metavar="R", help="Also draw the compute at which curves reach this reward.")
    ] = None,
    with_growth: Annotated[
        bool, typer.Option("--growth", help="Also fit each run cut at earlier computes, and draw how the ceiling grew.")
    ] = False,
) -> None:
    """Write one HTML file with the answer in words, tables, plots, and a section for each recipe."""
    from rlceiling.report.page import check_report, write_report
    from rlceiling.report.size_tables import headline

    # Files that cannot be written and questions that cannot be answered are refused before sampling.
    check_report(out, margin)
    saved, only_sizes = _saved_sizes(source, across_sizes or [])
    stopped, grown = "", None
    if only_sizes:
        from rlceiling.results.fits import Fits

        reject_fitting_options(source, reading, sampling)
        asked = {"margin": margin or None, "target": target, "growth": with_growth or None}
        what = f"{source} holds a law across sizes and no recipes"
        reject_options((name for name, value in asked.items() if value is not None), what, "which these are about")
        fits = Fits()
    else:
        fits, grown, stopped = _fits_to_report(source, reading, sampling, target, with_growth)
    if fits or (saved and not stopped):
        write_report(
            fits,
            out,
            sizes=saved,
            title=title,
            margin=margin,
            target=target,
            growth=grown,
            command=shlex.join(["rlceiling", *sys.argv[1:]]),
            progress=sampling.settings()["progress"],
        )
        for sentence in (*(fits.answer(margin) if fits else ()), *map(headline, saved)):
            typer.echo(sentence)
        typer.echo(f"wrote {out}")
    if stopped:
        typer.echo(f"rlceiling: stopped {stopped}", err=True)
        raise typer.Exit(130)


def _saved_sizes(source: str, directories: Sequence[Path]) -> tuple[list[Sizes], bool]:
    """Saved laws across sizes of a report, and whether its source holds one and no recipes."""
    from rlceiling.posterior.files import INDEX, SIZES_FILE
    from rlceiling.results.sizes import load_sizes

    first = Path(source)
    own = [first] if first.is_dir() and (first / SIZES_FILE).is_file() else []
    found = {directory.resolve(): directory for directory in (*own, *directories)}
    return [load_sizes(directory) for directory in found.values()], bool(own) and not (first / INDEX).exists()


def _fits_to_report(
    source: str, reading: Reading, sampling: Sampling, target: float | None, with_growth: bool
) -> tuple[Fits, Growth | None, str]:
    """Fits and growth of a report, and at which point they were interrupted, empty if they were not."""
    from rlceiling.calibration.growth import GrowthInterrupted
    from rlceiling.calibration.growth import growth as refit
    from rlceiling.decisions.forecast import check_target
    from rlceiling.fitting.fit_recipes import FitInterrupted

    if target is not None and not Path(source).is_dir():
        check_target(target, reading.read(source).reward_bounds)
    try:
        fits = fits_of(source, reading, sampling)
    except FitInterrupted as interrupted:
        return interrupted.fits, None, "before all recipes were fitted"
    if not with_growth:
        return fits, None, ""
    sampling.configure_runtime()
    own = {name: value for name, value in sampling.settings().items() if name in ("cores", "backend", "progress")}
    try:
        return fits, refit(fits, **own), ""
    except GrowthInterrupted as interrupted:
        return fits, interrupted.growth, "before all refits were made"


@app.command(epilog="Example: rlceiling backtest scalerl --split all --cut 0.5 --plot backtest.png")
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
    show_backtest(tested)
    written = _write_backtest(tested, out, plot)
    if written:
        typer.echo(f"wrote {listing(written)}")
    if stopped:
        typer.echo("rlceiling: stopped before all cuts were forecast", err=True)
        raise typer.Exit(130)


app.command(
    epilog="Example: rlceiling sizes qwen_math --size model_size_b --resource flops --out laws, and then"
    " rlceiling sizes laws --add 144 --at 1e21 --budget 1e20"
)(sizes)


app.command(epilog="Example: rlceiling batch jobs.toml --store posteriors --workers 8 --executor processes")(batch)


app.add_typer(priors, name="priors")


@app.command(epilog="Example: rlceiling datasets")
def datasets() -> None:
    """List the bundled data sets, whose names may stand for RUNS."""
    from rlceiling.runs import datasets as listed

    console = open_console()
    for row in listed().to_dict("records"):
        about = f"{row['recipes']} recipes, {row['evaluations']} evaluations, {row['compute_unit']}, {row['licence']}"
        table = Table.grid(padding=(0, GAP, 0, 0))
        for name, text in ((row["name"], row["what"]), ("", about), ("", f"Cite: {row['citation']}")):
            table.add_row(escape(name), escape(text))
        print_table(console, table)


# Files -----------------------------------------------------------------------------------------------------


def _keep_others(out: Path, recipes: Sequence[str]) -> None:
    """Raise DataError if a directory holds fits of recipes that would not be fitted again."""
    from rlceiling.posterior.files import INDEX

    if not (out / INDEX).is_file():
        return
    from rlceiling.results.fits import load_fits

    others = [name for name in load_fits(out) if name not in recipes]
    if others:
        raise DataError(
            f"{out} holds fits of {listing(others, 4)}, which would be lost; name another directory, or give "
            "--overwrite."
        )


def _write(fits: Fits, out: Path | None, plot: Path | None, plot_until: float | None) -> list[str]:
    """Write the files that were asked for, and return their names."""
    written = []
    if out is not None:
        fits.save(out)
        for name, table in (("summary.csv", fits.summary()), ("chances.csv", fits.chances())):
            table.to_csv(out / name)
            written.append(str(out / name))
        written.append(f"{count(len(fits), 'posterior')} in {out}")
    if plot is not None:
        from rlceiling.report.curve_plots import MOST_IN_ONE, plot_curves, plot_panels
        from rlceiling.report.style import figure_of

        few = len(fits) <= MOST_IN_ONE
        picture = figure_of(plot_curves(fits, plot_until)) if few else plot_panels(fits, plot_until)
        picture.savefig(plot)
        written.append(str(plot))
    return written


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
