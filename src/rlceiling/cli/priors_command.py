"""`rlceiling priors`: priors that finished recipes teach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

priors = typer.Typer(no_args_is_help=True, help="Learn priors from finished recipes, and show them.")


@priors.command(epilog="Example: rlceiling priors learn finished -o history.toml")
def learn(
    fits: Annotated[Path, typer.Argument(metavar="FITS", help="Directory that `rlceiling fit --out` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File for the priors, in TOML.")],
) -> None:
    """Learn priors for new recipes from finished recipes of the same study; use them with `rlceiling fit --priors`."""
    from rlceiling.fitting.learn_priors import learn_priors
    from rlceiling.inference.xla_flags import set_flag
    from rlceiling.results.fits import load_fits

    set_flag()
    learned = learn_priors(load_fits(fits))
    learned.save(out)
    typer.echo(f"{learned!r}\nwrote {out}")


@priors.command(epilog="Example: rlceiling priors show history.toml")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Priors that `rlceiling priors learn` wrote.")],
) -> None:
    """Print what learned priors say about one more recipe."""
    from rlceiling.models.learned_priors import load_priors

    typer.echo(repr(load_priors(file)))
