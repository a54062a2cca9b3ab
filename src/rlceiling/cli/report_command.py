"""`rlceiling report`: one HTML file with the answer, tables, plots and a section for each recipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlceiling.cli.options import (
    Margin,
    Reading,
    Sampling,
    expand_options,
    fits_of,
    reject_fitting_options,
    reject_options,
)
from rlceiling.cli.output import AsJson, about, files_written, print_json

if TYPE_CHECKING:
    from rlceiling.calibration.growth import Growth
    from rlceiling.results.fits import Fits
    from rlceiling.results.sizes import Sizes
    from rlceiling.runs import Runs

# JAX, matplotlib and the fits are imported by the command, so that help is shown at once.


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
    as_json: AsJson = False,
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
        fits, grown, stopped = _fits_to_report(source, reading, sampling, target, margin, with_growth)
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
        answer = [*(fits.answer(margin) if fits else ()), *map(headline, saved)]
        if as_json:
            head = about(fits) if fits else {}
            print_json("report", {"margin": margin, "target": target}, head | {"answer": answer} | files_written(out))
        else:
            for sentence in (*answer, f"wrote {out}"):
                typer.echo(sentence)
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
    source: str, reading: Reading, sampling: Sampling, target: float | None, margin: float, with_growth: bool
) -> tuple[Fits, Growth | None, str]:
    """Fits and growth of a report, and at which point they were interrupted, empty if they were not."""
    from rlceiling.calibration.growth import GrowthInterrupted
    from rlceiling.calibration.growth import growth as refit
    from rlceiling.decisions.chances import check_margin
    from rlceiling.decisions.forecast import check_target
    from rlceiling.fitting.fit_recipes import FitInterrupted

    def check(runs: Runs) -> None:
        check_margin(margin, runs.reward_bounds)
        if target is not None:
            check_target(target, runs.reward_bounds)

    try:
        fits = fits_of(source, reading, sampling, check=check)
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
