"""`rlceiling sizes`: fit a law across model sizes, or ask a saved one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlceiling.cli.options import (
    Prob,
    Reading,
    SizeSampling,
    check_picture,
    default,
    expand_options,
    explicit_options,
    holds_fits,
    reject_fitting_options,
    reject_options,
)
from rlceiling.cli.output import AsJson, files_written, print_json
from rlceiling.errors import DataError, listing
from rlceiling.settings import DEFAULT_LAW

if TYPE_CHECKING:
    from rlceiling.cli.options import Sampling
    from rlceiling.results.sizes import Sizes
    from rlceiling.runs import Runs
    from rlceiling.runs.grouping import SizeUnits


@expand_options
def sizes(
    source: Annotated[
        str,
        typer.Argument(metavar="RUNS", help="RUNS as of `fit`, or a directory written by `sizes --out` to be asked."),
    ],
    reading: Reading,
    sampling: SizeSampling,
    size: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Model size: numbers, or texts such as 7B. Required for RUNS.")
    ] = None,
    resource: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help=f"The resource, such as FLOPs or samples. {default('compute')}"),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(metavar="power-law|ceiling", help=f"Law across sizes. {default(DEFAULT_LAW.replace(' ', '-'))}"),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="SIZE", help="Ask about a size that is not in the data. May be repeated."),
    ] = None,
    at: Annotated[
        list[float] | None, typer.Option(metavar="X", help="Forecast every size at this resource. May be repeated.")
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="Chance of each size to be the best one for this resource. May be repeated."),
    ] = None,
    crossover: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Resource at which size B overtakes size A.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            metavar="R", help="Resource at which every size reaches this reward, or test loss with --of loss."
        ),
    ] = None,
    of: Annotated[str, typer.Option(metavar="reward|loss", help="What is forecast, and what --target is.")] = "reward",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also compare the forecasts of both laws, which fits each several times.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory for tables and the posterior.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw curves, law and best size (.png, .pdf, .svg).")
    ] = None,
    prob: Prob = 0.9,
    as_json: AsJson = False,
) -> None:
    """Fit a law across model sizes, and ask it, or a saved one, about sizes and resources that were not tried."""
    from rlceiling.decisions.forecast import check_compute
    from rlceiling.decisions.lookup import check_of
    from rlceiling.decisions.size_questions import OF
    from rlceiling.posterior.posterior import check_prob
    from rlceiling.report.size_tables import headline, show_sizes, tables_of_sizes
    from rlceiling.runs.grouping import group_by_size

    saved = holds_fits(source)
    if saved:
        own = {"size": size, "resource": resource, "law": law, "compare": compare or None}
        reject_fitting_options(source, reading, sampling, *explicit_options(SimpleNamespace(**own), *own))
    elif size is None:
        if not Path(source).exists():
            reading.read(source)  # raises if there is no such data set either
        raise DataError("sizes needs the model size of every run; name the column that has it with --size.")
    # Files that cannot be written and questions that cannot be answered are refused before sampling.
    check_of("sizes", of, OF)
    check_prob("sizes", prob)
    for asked in (at, budget):
        if asked:
            check_compute(asked)
    if plot is not None:
        check_picture(plot)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    if saved or size is None:
        from rlceiling.results.sizes import load_sizes

        fit = load_sizes(source)
        sampling.configure_runtime()
    else:
        table = _read_sizes(source, reading, size, resource)
        resource = "compute" if resource is None else resource
        law = DEFAULT_LAW if law is None else law.replace("-", " ")
        units = group_by_size(table, size, resource).units
        _check_questions(units, add or (), crossover, target, of)
        fit = _fit_sizes(table, sampling, size, resource, law)
        if out is not None:
            fit.save(out)
    _check_questions(fit.units, add or (), crossover, target, of)
    added = [fit.units.read("sizes", one) for one in add or ()]
    tables = tables_of_sizes(fit, added, at=at or (), budget=budget or (), target=target, of=of, prob=prob)
    answers: dict[str, Any] = dict(tables)
    said = []
    if crossover is not None:
        answers["crossover"] = fit.crossover(*crossover, prob=prob)
        said.append(str(answers["crossover"]))
    if compare and size is not None and resource is not None:
        from rlceiling.calibration.size_backtest import backtest_sizes

        tested = backtest_sizes(table, size, resource, **sampling.settings())
        said.append(f"which law? {tested.preferred()}")
        tables["backtest"] = answers["backtest"] = tested.scores("task", "size").reset_index()
    written = []
    if out is not None:
        for name, table_ in tables.items():
            table_.to_csv(out / f"{name}.csv", index=False)
            written.append(str(out / f"{name}.csv"))
        if not saved:
            written.append(f"the posterior in {out}")
    if plot is not None:
        fit.plot(add=added).savefig(plot)
        written.append(str(plot))
    if as_json:
        questions: dict[str, Any] = {"add": add, "at": at, "budget": budget, "crossover": crossover, "target": target}
        fitted = {"law": fit.law, "verdict": fit.verdict, "versions": fit.settings.versions}
        known: dict[str, Any] = {"notes": fit.notes, "units": fit.units, "fit": fitted, **answers}
        known |= {"answer": [headline(fit), *said]} | files_written(out, plot)
        print_json("sizes", {**questions, "of": of, "prob": prob}, known)
        return
    show_sizes(fit, tables, of, prob)
    for sentence in said:
        typer.echo(f"\n{sentence}")
    if written:
        typer.echo(f"\nwrote {listing(written)}")
    elif not saved:
        typer.echo("\nnothing was kept; give --out DIR to keep it and ask it again without sampling")


def _read_sizes(source: str, reading: Reading, size: str, resource: str | None) -> Runs:
    """Read runs of models of several sizes."""
    if not reading.is_data_set(source):
        # A file of sizes needs no column of recipes, because its runs are distinguished by their sizes.
        reading = replace(reading, compute=reading.compute or resource, recipe=reading.recipe or size)
    return reading.read(source)


def _check_questions(
    units: SizeUnits, add: Sequence[str], crossover: tuple[str, str] | None, target: float | None, of: str
) -> None:
    """Raise DataError if a question about sizes or a target cannot be answered by any posterior."""
    from rlceiling.decisions.size_questions import check_different, check_size_target

    for one in add:
        units.read("sizes", one)
    if crossover is not None:
        check_different(crossover[0], *(units.read("sizes", one) for one in crossover))
    if target is not None:
        check_size_target(target, units.bounds, of)


def _fit_sizes(runs: Runs, sampling: Sampling, size: str, resource: str, law: str) -> Sizes:
    """Fit a law."""
    from rlceiling.fitting.fit_sizes import check_law, fit_sizes

    check_law(law)
    what = "laws across sizes are fitted one at a time"
    reject_options(explicit_options(sampling, "cores"), what, "each with all its chains in one program")
    sampling.announce(runs)
    return fit_sizes(runs, size, resource, law=law, **sampling.settings())
