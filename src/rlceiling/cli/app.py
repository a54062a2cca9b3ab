"""The command line, with the names of the library."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from rlceiling.cli.backtest_command import backtest
from rlceiling.cli.batch_command import batch
from rlceiling.cli.logs_command import logs
from rlceiling.cli.options import (
    Learning,
    Prob,
    Reading,
    RunsArgument,
    Sampling,
    check_picture,
    compute_option,
    default,
    expand_options,
)
from rlceiling.cli.output import AsJson, about, files_written, print_json
from rlceiling.cli.priors_command import priors
from rlceiling.cli.question_commands import best, chance, forecast, gate, plan, reach
from rlceiling.cli.report_command import report
from rlceiling.cli.size_command import sizes
from rlceiling.cli.watch_command import watch
from rlceiling.errors import DataError, count, listing
from rlceiling.report.terminal import (
    GAP,
    open_console,
    print_table,
    show_answer,
    show_fits,
    show_runs,
)

if TYPE_CHECKING:
    from rlceiling.results.fits import Fits
    from rlceiling.runs import Runs

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
    prob: Prob = 0.9,
    as_json: AsJson = False,
) -> None:
    """Fit every recipe and print its ceiling, where the data fix it."""
    from rlceiling.posterior.posterior import check_prob

    check_prob("fit", prob)
    if plot_until is not None and plot is None:
        raise DataError("--plot-until says where a plot ends; name its file with --plot.")
    learned = learning.settings()
    table = reading.read(runs)
    # Files that cannot be written are refused before sampling.
    if plot is not None:
        check_picture(plot)
        _check_end(table, plot_until)
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
        written = _write(fits, out, plot, plot_until)
        if as_json:
            answers = about(fits) | {"summary": fits.summary(prob)}
            answers |= {"runs": fits.summary(prob, of="runs")} if each_run else {}
            print_json("fit", {"prob": prob}, answers | {"answer": fits.answer(prob=prob)} | files_written(out, plot))
        else:
            show_fits(fits, prob)
            if each_run:
                typer.echo()
                show_runs(fits, prob)
            show_answer(fits, prob)
            typer.echo(f"wrote {listing(written)}" if written else "nothing was kept; give --out DIR to keep it")
    if stopped:
        total = len(table.recipes)
        kept = f"; what is done is in {out}" if fits and out is not None else ""
        typer.echo(f"rlceiling: stopped after {len(fits)} of {count(total, 'recipe')}{kept}", err=True)
        raise typer.Exit(130)


app.command(epilog="Example: rlceiling chance fits ScaleRL MiniMax --margin 0.02")(chance)
app.command(epilog="Example: rlceiling best fits --at 10000 --at 20000 --at 50000")(best)
app.command(epilog="Example: rlceiling gate fits --add 2000 --gain 0.01 --against others")(gate)
app.command(epilog="Example: rlceiling plan fits --budget 8000 --at 50000")(plan)
app.command(epilog="Example: rlceiling forecast fits --at 50000 --at 100000")(forecast)
app.command(epilog="Example: rlceiling reach fits --target 0.6")(reach)


app.command(epilog="Example: rlceiling report scalerl -o report.html --growth --target 0.6")(report)
app.command(epilog="Example: rlceiling backtest scalerl --split all --cut 0.5 --plot backtest.png")(backtest)


app.command(
    epilog="Example: rlceiling sizes qwen_math --size model_size_b --resource flops --out laws, and then"
    " rlceiling sizes laws --add 144 --at 1e21 --budget 1e20"
)(sizes)


app.command(epilog="Example: rlceiling batch jobs.toml --store posteriors --workers 8 --executor processes")(batch)


app.command(epilog="Example: rlceiling logs outputs/grpo-7b")(logs)


app.command(epilog='Example: rlceiling watch runs.csv --every 10m --gate "gain=0.01 in 2000"')(watch)


app.add_typer(priors, name="priors")


@app.command(epilog="Example: rlceiling datasets")
def datasets(as_json: AsJson = False) -> None:
    """List the bundled data sets, whose names may stand for RUNS."""
    from rlceiling.runs import datasets as listed

    if as_json:
        print_json("datasets", {}, {"datasets": listed()})
        return
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


def _check_end(runs: Runs, until: float | None) -> None:
    """Raise DataError if a plot ended before the first evaluation of a recipe."""
    from rlceiling.report.curve_plots import check_until

    if until is None:
        return
    table = runs.table[runs.table["compute"] > 0]
    for name, compute in table.groupby("recipe", sort=False)["compute"].min().items():
        check_until(until, str(name), compute, runs.compute_label)


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
