"""Command line: the words of the library, typed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_type_hints

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

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
    from rlceiling.posterior.fits import Fits
    from rlceiling.runs import Runs

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


# Options --------------------------------------------------------------------------------------------------------------


def _option(*names: str, panel: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


_column = functools.partial(_option, panel="Columns of a file", metavar="COLUMN")
_reading = functools.partial(_option, panel="What is read")
_sampling = functools.partial(_option, panel="Sampling")


@dataclass(frozen=True)
class Reading:
    """Options that say which evaluations are used, as `read_runs` and the methods of `Runs` name them."""

    compute: Annotated[str | None, _column(help="Compute; guessed if its name is obvious.")] = None
    reward: Annotated[str | None, _column(help="Reward, such as a pass rate.")] = None
    recipe: Annotated[str | None, _column(help="Name of the recipe.")] = None
    run: Annotated[str | None, _column(help="Run of the recipe, such as its seed.")] = None
    n_eval: Annotated[str | None, _column(help="Answers behind each reward.")] = None
    reward_bounds: Annotated[
        tuple[float, float] | None,
        _option(panel="Columns of a file", metavar="LOW HIGH", help="Possible rewards; 0 1 unless told."),
    ] = None
    duplicates: Annotated[
        str | None,
        _option(
            panel="Columns of a file", metavar="error|mean", help="Rows of the same run and compute; error unless told."
        ),
    ] = None
    split: Annotated[
        str | None,
        _reading(metavar="train|extended|all", help="Part of a bundled data set; train or all unless told."),
    ] = None
    select: Annotated[
        list[str] | None, _reading(metavar="NAME", help="Keep this recipe, or run as recipe/run; may be repeated.")
    ] = None
    drop: Annotated[
        list[str] | None, _reading(metavar="NAME", help="Leave this recipe or run out; may be repeated.")
    ] = None
    burn_in: Annotated[float | None, _reading(metavar="C", help="Leave out evaluations before this compute.")] = None
    until: Annotated[float | None, _reading(metavar="C", help="Leave out evaluations after this compute.")] = None

    def read(self, source: str) -> Runs:
        """Read a file, or a bundled data set where there is no such file and the name has no ending."""
        from rlceiling.runs import load_dataset, read_runs

        path = Path(source)
        table = _given(self, "compute", "reward", "recipe", "run", "n_eval", "reward_bounds", "duplicates")
        part = _given(self, "split")
        if path.suffix or path.exists():
            _refuse(part, f"{path.name} is a file", "which is read whole")
            runs = read_runs(path, **table)
        else:
            runs = load_dataset(source, **part)
            _refuse(table, f"{source} is a bundled data set", "whose columns are known")
        for verb in ("select", "drop"):
            if names := getattr(self, verb):
                runs = getattr(runs, verb)(*names)
        for verb, compute in _given(self, "burn_in", "until").items():
            runs = getattr(runs, verb)(compute)
        return runs


@dataclass(frozen=True)
class Sampling:
    """Options of `rlceiling.fit`."""

    chains: Annotated[int | None, _sampling(metavar="N", help="Chains; 4 unless told.")] = None
    tune: Annotated[int | None, _sampling(metavar="N", help="Warm-up steps of a chain; 1000 unless told.")] = None
    draws: Annotated[int | None, _sampling(metavar="N", help="Kept draws of a chain; 1000 unless told.")] = None
    seed: Annotated[int | None, _sampling(metavar="N", help="Same seed, same draws; 0 unless told.")] = None
    cores: Annotated[int | None, _sampling(metavar="N", help="Recipes fitted at once; all cores unless told.")] = None
    quiet: Annotated[bool, _sampling("--quiet", "--no-progress", help="No progress bar, and not what was read.")] = (
        False
    )

    def fit(self, runs: Runs) -> Fits:
        """Fit runs, saying what they are."""
        from rlceiling.inference.fit import fit

        self.announce(runs)
        return fit(runs, **self.given())

    def announce(self, runs: Runs) -> None:
        """Say what was read."""
        if not self.quiet:
            typer.echo(repr(runs), err=True)

    def given(self) -> dict[str, Any]:
        """Arguments of `rlceiling.fit`."""
        return {
            **_given(self, "chains", "tune", "draws", "seed", "cores"),
            "progress": False if self.quiet else None,
        }


def _given(options: object, *names: str) -> dict[str, Any]:
    """Options that the user gave, so that defaults have one home, the library."""
    return {n: getattr(options, n) for n in names if getattr(options, n) not in (None, [])}


def _refuse(given: Iterable[str], what: str, why: str) -> None:
    names = [f"--{name.replace('_', '-')}" for name in given]
    if names:
        raise DataError(f"{what}, {why}; leave out {listing(names)}.")


def _spread(command: Callable[..., None]) -> Callable[..., None]:
    """Turn parameters that are dataclasses into an option a field, so that commands share their options."""
    hints, own = get_type_hints(command, include_extras=True), inspect.signature(command).parameters
    groups = {name: hints[name] for name in own if is_dataclass(hints[name])}
    parameters = [p.replace(annotation=hints[name]) for name, p in own.items() if name not in groups]
    for group in groups.values():
        field_hints = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=field_hints[f.name])
            for f in fields(group)
        ]

    @functools.wraps(command)
    def spread(**given: Any) -> None:
        filled = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**given, **filled)

    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    spread.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    spread.__annotations__ = {}
    return spread


RunsArgument = Annotated[
    str, typer.Argument(metavar="RUNS", help="A .csv, .tsv, .jsonl or .parquet file, or a bundled data set.")
]
FitsArgument = Annotated[
    str, typer.Argument(metavar="FITS", help="A directory written by `fit --out`, or RUNS to be fitted first.")
]
Prob = Annotated[float, typer.Option(metavar="P", help="Probability of the intervals; 0.9 unless told.")]


def _fits(source: str, reading: Reading, sampling: Sampling, recipes: Sequence[str] = ()) -> Fits:
    """Load fits from a directory, or make those that are asked about."""
    if Path(source).is_dir():
        from rlceiling.posterior.store import load_fits

        given = [*_given(reading, *_names(reading)), *_given(sampling, *_names(sampling))]
        _refuse((n for n in given if n != "quiet"), f"{source} holds finished fits", "which stay as they were made")
        return load_fits(source)
    runs = reading.read(source)
    # A run is fitted together with the others of its recipe.
    wanted = dict.fromkeys(runs.find(name)[0] for name in recipes)
    return sampling.fit(runs.select(*wanted) if wanted else runs)


def _names(options: Any) -> list[str]:
    return [f.name for f in fields(options)]


# Commands -------------------------------------------------------------------------------------------------------------


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
@_spread
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

    from rlceiling.inference.fit import FitInterrupted

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
@_spread
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
        show_chances(_fits(source, reading, sampling), margin)
        return
    if second is None:
        raise DataError(f"chance compares two recipes; name another one after {first!r}, or none for all pairs.")
    fits = _fits(source, reading, sampling, (first, second))
    typer.echo(str((fits.chance_equal if equal else fits.chance_higher)(first, second, margin)))


@app.command(epilog="Example: rlceiling forecast fits --at 50000 --at 100000")
@_spread
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
    from rlceiling.posterior.fit import check_prob
    from rlceiling.posterior.verdicts import Verdict
    from rlceiling.report.text import interval, number, reward

    # A question that cannot be answered is refused before the long part.
    check_compute(at)
    check_prob("forecast", prob)
    if new_run and each_run:
        raise DataError("--new-run and --each-run are two questions; ask one of them.")
    of = "new run" if new_run else "runs" if each_run else "recipe"
    fits = _fits(source, reading, sampling)
    table, units = fits.forecast(at, prob, of=of), fits.units

    def shown(row: Mapping[Any, Any], of: str = "") -> Cell:
        if row["verdict"] == Verdict.NOT_CONVERGED.name:
            return "-"
        return interval(row[f"{of}lower"], row[f"{of}mean"], row[f"{of}upper"], lambda v: reward(v, units))

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


@app.command(epilog="Example: rlceiling backtest scalerl --split all --cut 0.5 --plot backtest.png")
@_spread
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

    sampling.announce(table)
    given: dict[str, Any] = {name: value for name, value in (("cut", cut), ("cut_compute", cut_compute)) if value}
    try:
        tested, stopped = test(table, **given, **sampling.given()), False
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
@_spread
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
    from rlceiling.decisions.sizes import OF
    from rlceiling.inference.fit_sizes import check_law, fit_sizes
    from rlceiling.posterior.fits import check_of
    from rlceiling.report.size_tables import show_sizes
    from rlceiling.runs.sizes import group_by_size

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
    if not sampling.quiet:
        typer.echo(repr(table), err=True)
    _refuse(_given(sampling, "cores"), "sizes are one fit", "whose chains run one after the other")
    settings = sampling.given()
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
        from rlceiling.calibration.sizes import backtest_sizes

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
        from rlceiling.report.plots import plot_curves

        plot_curves(fits, until=plot_until).savefig(plot)
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
        from rlceiling.report.calibration import plot_backtest

        plot_backtest(tested).savefig(plot)
        written.append(str(plot))
    return written


def _check_picture(file: Path) -> None:
    from matplotlib.figure import Figure

    if file.suffix.lower().removeprefix(".") not in Figure().canvas.get_supported_filetypes():
        raise DataError(f"{file.name} does not end like a picture; name it .png, .pdf or .svg.")
    if not file.parent.is_dir():
        raise DataError(f"there is no folder {file.parent} for {file.name}; make it, or name another one.")
