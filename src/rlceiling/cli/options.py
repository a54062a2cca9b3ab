"""Options that commands share: what is read, and how it is sampled."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from rlceiling.errors import DataError, listing

if TYPE_CHECKING:
    from rlceiling.results.fits import Fits
    from rlceiling.runs import Runs


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
        from rlceiling.runs.sources import COLUMNS, read_source

        path = Path(source)
        is_file = bool(path.suffix) or path.exists()
        table, part = given(self, *COLUMNS), given(self, "split")
        if is_file:
            refuse(part, f"{path.name} is a file", "which is read whole")
        else:
            refuse(table, f"{source} is a bundled data set", "whose columns are known")
        left_out = given(self, "select", "drop", "burn_in", "until")
        return read_source(path if is_file else source, table if is_file else part, **left_out)


@dataclass(frozen=True)
class Sampling:
    """Options of `rlceiling.fit`."""

    chains: Annotated[int | None, _sampling(metavar="N", help="Chains; 4 unless told.")] = None
    tune: Annotated[int | None, _sampling(metavar="N", help="Warm-up steps of a chain; 500 unless told.")] = None
    draws: Annotated[int | None, _sampling(metavar="N", help="Kept draws of a chain; 1000 unless told.")] = None
    seed: Annotated[int | None, _sampling(metavar="N", help="Same seed, same draws; 0 unless told.")] = None
    cores: Annotated[int | None, _sampling(metavar="N", help="Recipes fitted at once; all cores unless told.")] = None
    quiet: Annotated[bool, _sampling("--quiet", "--no-progress", help="No progress bar, and not what was read.")] = (
        False
    )

    compile_cache: Annotated[
        bool,
        _sampling(
            "--compile-cache/--no-compile-cache",
            help="Keep compiled programs in the user's cache directory; kept unless told.",
        ),
    ] = True

    def fit(self, runs: Runs) -> Fits:
        """Fit runs, saying what they are."""
        from rlceiling.fitting.fit_recipes import fit

        self.begin(runs)
        return fit(runs, **self.settings())

    def begin(self, runs: Runs) -> None:
        """Say what was read, and make ready for sampling."""
        if not self.quiet:
            typer.echo(repr(runs), err=True)
        self.make_ready()

    def make_ready(self) -> Path | None:
        """Set what sampling wants set before it starts; where compiled programs are kept, if they are."""
        from rlceiling.inference.xla_flags import set_flag

        set_flag()
        if self.compile_cache:
            from rlceiling.inference.compile_cache import use_compile_cache

            # A place that cannot be written to costs time and nothing else.
            with contextlib.suppress(OSError):
                return use_compile_cache()
        return None

    def settings(self) -> dict[str, Any]:
        """Arguments of `rlceiling.fit`."""
        return {
            **given(self, "chains", "tune", "draws", "seed", "cores"),
            "progress": False if self.quiet else None,
        }


def given(options: object, *names: str) -> dict[str, Any]:
    """Options that the user gave, so that defaults have one home, the library."""
    return {n: getattr(options, n) for n in names if getattr(options, n) not in (None, [])}


def refuse(options: Iterable[str], what: str, why: str) -> None:
    """Raise if there are options that make no sense here."""
    names = [f"--{name.replace('_', '-')}" for name in options]
    if names:
        raise DataError(f"{what}, {why}; leave out {listing(names)}.")


def spread(command: Callable[..., None]) -> Callable[..., None]:
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
    def filled_in(**values: Any) -> None:
        filled = {name: group(**{f.name: values.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**values, **filled)

    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    filled_in.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    filled_in.__annotations__ = {}
    return filled_in


RunsArgument = Annotated[
    str, typer.Argument(metavar="RUNS", help="A .csv, .tsv, .jsonl or .parquet file, or a bundled data set.")
]
FitsArgument = Annotated[
    str, typer.Argument(metavar="FITS", help="A directory written by `fit --out`, or RUNS to be fitted first.")
]
Prob = Annotated[float, typer.Option(metavar="P", help="Probability of the intervals; 0.9 unless told.")]


def fits_of(source: str, reading: Reading, sampling: Sampling, recipes: Sequence[str] = ()) -> Fits:
    """Load fits from a directory, or make those that are asked about."""
    if Path(source).is_dir():
        from rlceiling.results.fits import load_fits

        asked = [*given(reading, *_names(reading)), *given(sampling, *_names(sampling))]
        refuse(
            (n for n in asked if n not in ("quiet", "compile_cache")),
            f"{source} holds finished fits",
            "which stay as they were made",
        )
        return load_fits(source)
    runs = reading.read(source)
    # A run is fitted together with the others of its recipe.
    wanted = dict.fromkeys(runs.find(name)[0] for name in recipes)
    return sampling.fit(runs.select(*wanted) if wanted else runs)


def _names(options: Any) -> list[str]:
    return [f.name for f in fields(options)]
