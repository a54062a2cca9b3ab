"""Command line: the words of the library, typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from rlceiling.cli.batch import batch
from rlceiling.cli.options import FitsArgument, Prob, Reading, RunsArgument, Sampling, fits_of, given, refuse, spread
from rlceiling.errors import DataError, count, listing
from rlceiling.report.terminal import (
    GAP,
    Cell,
    open_console,
    print_table,
    show_backtest,
    show_chances,
    show_fits,
    show_runs,
    show_table,
)

if TYPE_CHECKING:
    from rlceiling.calibration.backtest import Backtest
    from rlceiling.results.fits import Fits

# JAX, matplotlib and the fits are imported by the commands that need them: help must not wait for them.


class _Group(TyperGroup):
    """Says in one sentence what the user can put right, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DataError as error:
            _fail(str(error))
        except BrokenPipeError:
            raise  # `| head` is no mistake, typer leaves quietly
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
@spread
def fit(
    runs: RunsArgument,
    reading: Reading,
    sampling: Sampling,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep tables and posteriors here.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves (.png, .pdf, .svg).")] = None,
    plot_until: Annotated[
        float | None, typer.Option(metavar="C", help="Compute at which the plot ends; 4 x the largest unless told.")
    ] = None,
    each_run: Annotated[bool, typer.Option("--each-run", help="Also print the ceiling of each run.")] = False,
) -> None:
    """Fit every recipe and say what its ceiling is, if the data can tell."""
    if plot_until is not None and plot is None:
        raise DataError("--plot-until says where a plot ends; name its file with --plot.")
    table = reading.read(runs)
    # What cannot be written is found out before the long part.
    if plot is not None:
        _check_picture(plot)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    from rlceiling.fitting.fit_recipes import FitInterrupted

    try:
        fits, stopped = sampling.fit(table), False
    except FitInterrupted as interrupted:
        fits, stopped = interrupted.fits, True
    if fits:
        show_fits(fits)
        if each_run:
            typer.echo()
            show_runs(fits)
        written = _write(fits, out, plot, plot_until)
        typer.echo(f"wrote {listing(written)}" if written else "nothing was kept; give --out DIR to keep it")
    if stopped:
        total = len(table.recipes)
        kept = f"; what is done is in {out}" if fits and out is not None else ""
        typer.echo(f"rlceiling: stopped after {len(fits)} of {count(total, 'recipe')}{kept}", err=True)
        raise typer.Exit(130)


@app.command(epilog="Example: rlceiling chance fits ScaleRL MiniMax --margin 0.02")
@spread
def chance(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    first: Annotated[
        str | None,
        typer.Argument(metavar="A", help="A recipe, or a run of it as recipe/run; without A and B, all pairs."),
    ] = None,
    second: Annotated[str | None, typer.Argument(metavar="B", help="The recipe or run it is compared with.")] = None,
    margin: Annotated[float, typer.Option(metavar="M", help="Difference that counts; 0 unless told.")] = 0.0,
    equal: Annotated[bool, typer.Option("--equal", help="Chance that they differ by no more than the margin.")] = False,
) -> None:
    """Chance that the ceiling of recipe A is higher than that of recipe B."""
    from rlceiling.decisions.chances import check_margin

    check_margin(margin)
    if first is None:
        if equal:
            raise DataError("--equal compares two recipes; name them.")
        show_chances(fits_of(source, reading, sampling), margin)
        return
    if second is None:
        raise DataError(f"chance compares two recipes; name another one after {first!r}, or none for all pairs.")
    fits = fits_of(source, reading, sampling, (first, second))
    answer = (fits.chance_equal if equal else fits.chance_higher)(first, second, margin)
    typer.echo(str(answer))
    if answer.conclusive:
        typer.echo(answer.sentence())


@app.command(epilog="Example: rlceiling forecast fits --at 50000 --at 100000")
@spread
def forecast(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    at: Annotated[list[float], typer.Option(metavar="C", help="Compute, in the unit of the runs; may be repeated.")],
    prob: Prob = 0.9,
    new_run: Annotated[bool, typer.Option("--new-run", help="The curve of one more run of each recipe.")] = False,
    each_run: Annotated[bool, typer.Option("--each-run", help="The curves of the runs there are.")] = False,
) -> None:
    """Forecast the reward of each recipe at any compute: the curve, and a new evaluation."""
    from rlceiling.decisions.forecast import check_compute
    from rlceiling.posterior.posterior import check_prob
    from rlceiling.posterior.verdicts import Verdict
    from rlceiling.text import interval, number

    # A question that cannot be answered is refused before the long part.
    check_compute(at)
    check_prob("forecast", prob)
    if new_run and each_run:
        raise DataError("--new-run and --each-run are two questions; ask one of them.")
    of = "new run" if new_run else "runs" if each_run else "recipe"
    fits = fits_of(source, reading, sampling)
    table, units = fits.forecast(at, prob, of=of), fits.units

    def shown(row: Mapping[Any, Any], of: str = "") -> Cell:
        if row["verdict"] == Verdict.NOT_CONVERGED.name:
            return "-"
        return interval(row[f"{of}lower"], row[f"{of}mean"], row[f"{of}upper"], units.show)

    rows: list[dict[str, Cell]] = [
        {
            "recipe": row["recipe"],
            **({"run": row["run"]} if each_run else {}),
            units.compute: number(row[units.compute]),
            "curve": shown(row),
            "new evaluation": shown(row, "new_"),
            "verdict": row["verdict"],
        }
        for row in table.to_dict("records")
    ]
    show_table(rows, [""] * len(rows))
    typer.echo(f"\n{units.reward}{' of one more run' if new_run else ''}: mean and {prob:.0%} interval")


@app.command(epilog="Example: rlceiling report scalerl -o report.html --growth --target 0.6")
@spread
def report(
    source: FitsArgument,
    reading: Reading,
    sampling: Sampling,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file; report.html unless told.")] = Path(
        "report.html"
    ),
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Heading of the report.")] = None,
    margin: Annotated[
        float, typer.Option(metavar="M", help="Difference of ceilings that counts; 0 unless told.")
    ] = 0.0,
    target: Annotated[
        float | None, typer.Option(metavar="R", help="Also draw the compute that this reward needs.")
    ] = None,
    with_growth: Annotated[
        bool, typer.Option("--growth", help="Also fit runs as they stood earlier, and draw what was known then.")
    ] = False,
) -> None:
    """Write one HTML file with the answer in words, a table, plots and a page for each recipe."""
    from rlceiling.calibration.growth import GrowthInterrupted
    from rlceiling.calibration.growth import growth as refit
    from rlceiling.decisions.forecast import check_target
    from rlceiling.fitting.fit_recipes import FitInterrupted
    from rlceiling.report.page import check_report, write_report

    # What cannot be written or answered is found out before the long part.
    check_report(out, margin)
    if target is not None and not Path(source).is_dir():
        check_target(target, reading.read(source).reward_bounds)
    stopped, grown = "", None
    try:
        fits = fits_of(source, reading, sampling)
        if with_growth:
            sampling.make_ready()
            own = {name: value for name, value in sampling.settings().items() if name in ("cores", "progress")}
            grown = refit(fits, **own)
    except FitInterrupted as interrupted:
        fits, stopped = interrupted.fits, "before all recipes were fitted"
    except GrowthInterrupted as interrupted:
        grown, stopped = interrupted.growth, "before all refits were made"
    if fits:
        words = ["rlceiling", *sys.argv[1:]]
        progress = sampling.settings()["progress"]
        write_report(
            fits,
            out,
            title=title,
            margin=margin,
            target=target,
            growth=grown,
            command=shlex.join(words),
            progress=progress,
        )
        for sentence in fits.answer(margin):
            typer.echo(sentence)
        typer.echo(f"wrote {out}")
    if stopped:
        typer.echo(f"rlceiling: stopped {stopped}", err=True)
        raise typer.Exit(130)


@app.command(epilog="Example: rlceiling backtest scalerl --split all --cut 0.5 --plot backtest.png")
@spread
def backtest(
    runs: RunsArgument,
    reading: Reading,
    sampling: Sampling,
    cut: Annotated[
        list[float] | None,
        typer.Option(
            metavar="SHARE", help="Share of each run that is fitted; 0.25 and 0.5 unless told; may be repeated."
        ),
    ] = None,
    cut_compute: Annotated[
        list[float] | None, typer.Option(metavar="C", help="Compute at which runs are cut, instead; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep tables here.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw coverage and the worst cases.")] = None,
) -> None:
    """Cut finished runs, forecast their rest, and say how true the forecasts were."""
    if cut and cut_compute:
        raise DataError("--cut and --cut-compute both say where runs are cut; give one of them.")
    table = reading.read(runs)
    if plot is not None:
        _check_picture(plot)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    from rlceiling.calibration.backtest import BacktestInterrupted
    from rlceiling.calibration.backtest import backtest as test

    sampling.begin(table)
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


@app.command(
    epilog="Example: rlceiling sizes qwen_math --size model_size_b --resource flops --add 144 --at 1e21 --budget 1e20"
)
@spread
def sizes(
    runs: RunsArgument,
    reading: Reading,
    sampling: Sampling,
    size: Annotated[str, typer.Option(metavar="COLUMN", help="Model size: numbers, or texts such as 7B.")],
    resource: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What is spent, such as FLOPs or samples; compute unless told.")
    ] = None,
    law: Annotated[
        str, typer.Option(metavar="power-law|ceiling", help="Law across sizes; power-law unless told.")
    ] = "power-law",
    add: Annotated[
        list[str] | None, typer.Option(metavar="SIZE", help="A size nobody trained, asked about too; may be repeated.")
    ] = None,
    at: Annotated[
        list[float] | None, typer.Option(metavar="X", help="Forecast every size at this resource; may be repeated.")
    ] = None,
    budget: Annotated[
        list[float] | None, typer.Option(metavar="X", help="Which size for this budget? May be repeated.")
    ] = None,
    crossover: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Where does size B overtake size A?")
    ] = None,
    target: Annotated[
        float | None, typer.Option(metavar="R", help="What does every size need to reach this reward (or loss)?")
    ] = None,
    of: Annotated[
        str, typer.Option(metavar="reward|loss", help="What is forecast and what the target is; reward unless told.")
    ] = "reward",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also say which law forecasts better (fits both several times).")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep tables here.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw curves, law and best size.")] = None,
) -> None:
    """Fit a law across model sizes, and ask it about sizes and resources nobody tried."""
    if Path(runs).suffix or Path(runs).exists():
        # A file of sizes needs no recipes; sizes tell its runs apart.
        reading = replace(reading, compute=reading.compute or resource, recipe=reading.recipe or size)
    table = reading.read(runs)
    if plot is not None:
        _check_picture(plot)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    from rlceiling.decisions.forecast import check_compute
    from rlceiling.decisions.lookup import check_of
    from rlceiling.decisions.size_questions import OF
    from rlceiling.fitting.fit_sizes import check_law, fit_sizes
    from rlceiling.report.size_tables import show_sizes
    from rlceiling.runs.grouping import group_by_size

    # A question that cannot be answered is refused before the long part.
    law = law.replace("-", " ")
    check_law(law)
    check_of("sizes", of, OF)
    for asked in (at, budget):
        if asked:
            check_compute(asked)
    resource = "compute" if resource is None else resource
    units = group_by_size(table, size, resource).units
    added = [units.read("sizes", one) for one in add or ()]
    for one in crossover or ():
        units.read("sizes", one)
    refuse(given(sampling, "cores"), "sizes are one fit", "whose chains walk side by side")
    sampling.begin(table)
    settings = sampling.settings()
    fit = fit_sizes(table, size, resource, law=law, **settings)
    everyone = sorted({*fit.sizes, *added})
    tables: dict[str, Any] = {"sizes": fit.summary().reset_index()}
    if at:
        tables["forecast"] = fit.forecast(everyone, at, of=of)
    if target is not None:
        tables["compute_to_reach"] = fit.compute_to_reach(target, everyone, of=of).reset_index()
    if budget:
        tables["best_size"] = fit.best_size(budget, everyone)
    if len(fit.sizes) > 1:
        tables["saturation"] = fit.saturation().to_frame().T
    show_sizes(fit, tables, of)
    if crossover is not None:
        typer.echo(f"\n{fit.crossover(*crossover)}")
    if compare:
        from rlceiling.calibration.size_backtest import backtest_sizes

        tested = backtest_sizes(table, size, resource, **settings)
        typer.echo(f"\nwhich law? {tested.preferred()}")
        tables["backtest"] = tested.scores("task", "size").reset_index()
    written = []
    for name, one in tables.items():
        if out is not None:
            one.to_csv(out / f"{name}.csv", index=False)
            written.append(str(out / f"{name}.csv"))
    if plot is not None:
        fit.plot(add=added).savefig(plot)
        written.append(str(plot))
    if written:
        typer.echo(f"\nwrote {listing(written)}")


app.command(epilog="Example: rlceiling batch jobs.toml --store posteriors --workers 8 --executor processes")(batch)


@app.command(epilog="Example: rlceiling datasets")
def datasets() -> None:
    """List the bundled data sets, which can be named wherever RUNS are asked for."""
    from rlceiling.runs import datasets as listed

    console = open_console()
    for row in listed().to_dict("records"):
        about = f"{row['recipes']} recipes, {row['evaluations']} evaluations, {row['compute_unit']}, {row['licence']}"
        table = Table.grid(padding=(0, GAP, 0, 0))
        for name, text in ((row["name"], row["what"]), ("", about), ("", f"Cite: {row['citation']}")):
            table.add_row(escape(name), escape(text))
        print_table(console, table)


# What is written -----------------------------------------------------------------------------------------------------


def _write(fits: Fits, out: Path | None, plot: Path | None, plot_until: float | None) -> list[str]:
    """Write what was asked for and return the names of the files."""
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
    """Write what was asked for and return the names of the files."""
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


def _check_picture(file: Path) -> None:
    from matplotlib.figure import Figure

    if file.suffix.lower().removeprefix(".") not in Figure().canvas.get_supported_filetypes():
        raise DataError(f"{file.name} does not end like a picture; name it .png, .pdf or .svg.")
    if not file.parent.is_dir():
        raise DataError(f"there is no folder {file.parent} for {file.name}; make it, or name another one.")
