"""`rlceiling priors`: priors that finished recipes teach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlceiling.cli.options import Sampling
from rlceiling.cli.output import AsJson, files_written, print_json
from rlceiling.errors import DataError

priors = typer.Typer(no_args_is_help=True, help="Learn priors from finished recipes, and show them.")


@priors.command(epilog="Example: rlceiling priors learn finished -o history.toml")
def learn(
    fits: Annotated[
        list[Path],
        typer.Argument(metavar="FITS...", help="Directories that `rlceiling fit --out` wrote, one for each study."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File for the priors, in TOML.")],
    as_json: AsJson = False,
) -> None:
    """Learn priors for new recipes from finished recipes; use them with `rlceiling fit --priors`.

    From one directory they are the priors of one more recipe of that study (one task and model), and from several
    directories those of a recipe of yet another study.
    """
    from rlceiling.fitting.learn_priors import learn_priors
    from rlceiling.results.fits import load_fits

    Sampling().configure_runtime()
    places = [path.resolve() for path in fits]
    twice = [str(path) for path, place in zip(fits, places, strict=True) if places.count(place) > 1]
    if twice:
        raise DataError(f"{twice[0]} is given twice; give the directory of each study once.")
    studies = {str(path): load_fits(path) for path in fits}
    learned = learn_priors(studies[str(fits[0])] if len(fits) == 1 else studies)
    learned.save(out)
    if as_json:
        print_json("priors learn", {"fits": fits}, {"priors": learned.to_dict()} | files_written(out))
        return
    typer.echo(f"{learned!r}\nwrote {out}")


@priors.command(epilog="Example: rlceiling priors show history.toml")
def show(
    priors: Annotated[
        str,
        typer.Argument(metavar="FILE|reference|weak", help="Priors that `rlceiling priors learn` wrote, or bundled."),
    ],
    as_json: AsJson = False,
) -> None:
    """Print priors; of learned ones, what they say about one more recipe."""
    from rlceiling.models.recipe_priors import named_priors

    named = named_priors(priors)
    if as_json:
        print_json("priors show", {"priors": priors}, {"priors": named.to_dict()})
        return
    typer.echo(repr(named))
