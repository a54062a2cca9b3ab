"""Options that several commands share: which evaluations are read, and how posteriors are sampled."""

from __future__ import annotations

import functools
import glob
import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from rlceiling.errors import DataError, count, listing
from rlceiling.settings import LIVE_SAMPLER, RECIPE_SAMPLER, SIZE_SAMPLER, SamplerSettings

if TYPE_CHECKING:
    from rlceiling.results.fits import Fits
    from rlceiling.runs import Runs


def default(value: object) -> str:
    """Show a default in a help text, for options that hold None unless the user gives them."""
    return rf"\[default: {value}]"  # the backslash keeps Rich from reading a tag


OBVIOUS = default("a column with an obvious name")
"""`rlceiling.read_runs` recognises the usual names of columns."""


def _option(*names: str, panel: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


_column = functools.partial(_option, panel="Columns of a file", metavar="COLUMN")
_reading = functools.partial(_option, panel="Which evaluations are used")
_sampling = functools.partial(_option, panel="Sampling")
_log = functools.partial(_option, panel="Logs of trainers and trackers")


@dataclass(frozen=True)
class Reading:
    """Options that choose the evaluations, named like the arguments of `read_runs` and the methods of `Runs`."""

    compute: Annotated[
        str | None,
        _column(help=f"Compute; of a log gpu_hours, wall_hours, tokens, rollouts, step or a key. {OBVIOUS}"),
    ] = None
    reward: Annotated[str | None, _column(help=f"Reward, such as a pass rate. {OBVIOUS}")] = None
    recipe: Annotated[
        str | None,
        _column(help=f"Name of the recipe, or columns with commas; of a log the recipe of all its runs. {OBVIOUS}"),
    ] = None
    run: Annotated[
        str | None,
        _column(help=f"Run of the recipe, such as its seed; of logs the run whose attempts they are. {OBVIOUS}"),
    ] = None
    n_eval: Annotated[str | None, _column(help=f"Number of answers that each reward is the mean of. {OBVIOUS}")] = None
    stage: Annotated[str | None, _column(help=f"Stage of the training, each of which begins a new rise. {OBVIOUS}")] = (
        None
    )
    reward_bounds: Annotated[
        tuple[float, float] | None,
        _option(
            panel="Columns of a file", metavar="LOW HIGH", help=f"Lowest and highest possible reward. {default('0 1')}"
        ),
    ] = None
    duplicates: Annotated[
        str | None,
        _option(
            panel="Columns of a file",
            metavar="error|mean",
            help=f"What to do with rows of the same run and compute. {default('error')}",
        ),
    ] = None
    where: Annotated[
        list[str] | None,
        _option(
            panel="Columns of a file",
            metavar="COLUMN=VALUE",
            help="Use only the rows with this value, such as metric=mean@8. May be repeated.",
        ),
    ] = None
    wide: Annotated[
        str | None,
        _option(
            panel="Columns of a file",
            metavar="COLUMNS",
            help='Columns of which each is a recipe, or a run if --recipe is given: "*", "seed_*" or "GRPO,DAPO".',
        ),
    ] = None
    metric: Annotated[
        str | None,
        _log(metavar="KEY", help=f"Key of the reward, a pattern or a part of it. {default('the held-out metric')}"),
    ] = None
    resume: Annotated[
        str | None,
        _log(
            metavar="keep-last|append",
            help="Steps that go back: a later attempt replaces what it repeats, or is joined on. "
            f"{default('keep-last, unless the steps begin again')}",
        ),
    ] = None
    gpus: Annotated[int | None, _log(metavar="N", help="Number of GPUs, which makes GPU-hours of wall time.")] = None
    prompts: Annotated[
        int | None, _log(metavar="N", help="Number of prompts of an evaluation, from which n_eval follows.")
    ] = None
    split: Annotated[
        str | None,
        _reading(metavar="train|extended|all", help=f"Part of a bundled data set. {default('train, or all')}"),
    ] = None
    select: Annotated[
        list[str] | None, _reading(metavar="NAME", help="Keep this recipe, or run as recipe/run. May be repeated.")
    ] = None
    drop: Annotated[
        list[str] | None, _reading(metavar="NAME", help="Leave this recipe or run out. May be repeated.")
    ] = None
    burn_in: Annotated[
        float | None, _reading(metavar="C", help="Leave out evaluations before this compute.", parser=number_of)
    ] = None
    until: Annotated[
        float | None, _reading(metavar="C", help="Leave out evaluations after this compute.", parser=number_of)
    ] = None

    def read(self, source: str | list[str]) -> Runs:
        """Read files or folders, or a bundled data set if there is no such file and the name has no suffix."""
        from rlceiling.runs.sources import read_source

        place, given = self._place(source)
        return read_source(place, given, **explicit_options(self, "select", "drop", *CUTS))

    def _place(self, source: str | list[str]) -> tuple[list[str] | str, dict[str, Any]]:
        """Paths, or the name of a data set, and the options of reading them; raises DataError if they do not fit."""
        from rlceiling.runs.sources import COLUMNS

        table, part = explicit_options(self, *COLUMNS), explicit_options(self, "split")
        first, *more = [source] if isinstance(source, str) else source
        if self.is_data_set(first) and not more:
            reject_options(table, f"{first} is a bundled data set", "whose columns are known")
            return first, part
        reject_options(part, f"{Path(first).name} is a file", "which is read whole")
        return [first, *more], table

    @staticmethod
    def is_data_set(source: str) -> bool:
        """Whether a source is the name of a bundled data set and not a file, a folder, a pattern or standard input."""
        if source == "-" or any(mark in source for mark in "*?[/\\"):
            return False
        return not Path(source).suffix and not Path(source).exists()

    def check(self, source: str) -> None:
        """Raise DataError if a source can never be read with these options; a file need not exist yet."""
        from rlceiling.logs.gather import is_log
        from rlceiling.runs.readers import check_columns
        from rlceiling.runs.table import positive
        from rlceiling.runs.validation import bounds_of, check_duplicates

        for name, compute in explicit_options(self, *CUTS).items():
            positive(name, compute)
        if self.duplicates is not None:
            check_duplicates(self.duplicates)
        if self.reward_bounds not in (None, (-math.inf, math.inf)):
            bounds_of(self.reward_bounds)
        place, given = self._place(source)
        if isinstance(place, str):
            self.read(source)
        elif not is_log(Path(source)) and (Path(source).exists() or not glob.has_magic(source)):
            check_columns(Path(source), given)

    def whole(self) -> Reading:
        """The same options without cuts, which `cut` makes."""
        return replace(self, **dict.fromkeys(CUTS))

    def cut(self, runs: Runs) -> Runs:
        """Leave out the evaluations before ``burn_in`` and after ``until``."""
        from rlceiling.runs.sources import select_part

        return select_part(runs, **explicit_options(self, *CUTS))


CUTS = ("burn_in", "until")
"""Options that leave out evaluations."""


def _setting(defaults: SamplerSettings, name: str, help: str) -> Any:
    """Option of the sampler, with its default from `rlceiling.settings`."""
    return _sampling(metavar="N", help=f"{help} {default(getattr(defaults, name))}")


_learning = functools.partial(_option, panel="Learned priors")


@dataclass(frozen=True)
class Priors:
    """Option of the priors."""

    priors: Annotated[
        str | None,
        _learning(
            metavar="FILE|reference|weak",
            help="Priors: a file that `rlceiling priors learn` wrote, `reference` for those of five public studies, "
            f"which forecast no better than weak ones on studies left out, or `weak`. {default('weak')}",
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Arguments of `rlceiling.fit`."""
        if self.priors is None:
            return {}
        from rlceiling.inference.xla_flags import set_flag
        from rlceiling.models.recipe_priors import named_priors

        set_flag()  # before the distributions in the file compute anything
        return {"priors": named_priors(self.priors)}


@dataclass(frozen=True)
class Learning(Priors):
    """Options of learned priors."""

    pool: Annotated[
        bool, _learning("--pool", help="Let the recipes in RUNS learn from each other; at least three are needed.")
    ] = False

    def settings(self) -> dict[str, Any]:
        """Arguments of `rlceiling.fit`."""
        return super().settings() | ({"pool": True} if self.pool else {})


CHAINS, TUNE = "Number of MCMC chains.", "Warm-up steps of each chain."
DRAWS, SEED = "Draws kept of each chain.", "Seed; the same seed gives the same draws."


@dataclass(frozen=True)
class Sampling:
    """Options of `rlceiling.fit`."""

    chains: Annotated[int | None, _setting(RECIPE_SAMPLER, "chains", CHAINS)] = None
    tune: Annotated[int | None, _setting(RECIPE_SAMPLER, "tune", TUNE)] = None
    draws: Annotated[int | None, _setting(RECIPE_SAMPLER, "draws", DRAWS)] = None
    seed: Annotated[int | None, _setting(RECIPE_SAMPLER, "seed", SEED)] = None
    cores: Annotated[
        int | None, _sampling(metavar="N", help=f"Number of recipes fitted at once. {default('all cores')}")
    ] = None
    backend: Annotated[
        str | None,
        _sampling(
            metavar="cpu|gpu",
            help=f"Where to sample. {default('cpu, or gpu if JAX has one and there are enough chains to fill it')}",
        ),
    ] = None
    quiet: Annotated[
        bool, _sampling("--quiet", "--no-progress", help="Print neither a progress bar nor what was read.")
    ] = False

    compile_cache: Annotated[
        bool,
        _sampling(
            "--compile-cache/--no-compile-cache",
            help=f"Keep compiled programs in the user's cache directory. {default('on')}",
        ),
    ] = True

    def fit(self, runs: Runs, **learning: Any) -> Fits:
        """Announce runs and fit them."""
        from rlceiling.fitting.fit_recipes import fit

        self.announce(runs)
        return fit(runs, **learning, **self.settings())

    def announce(self, runs: Runs) -> None:
        """Print what was read to standard error, and configure the runtime."""
        if not self.quiet:
            typer.echo(repr(runs), err=True)
        self.configure_runtime()

    def configure_runtime(self) -> Path | None:
        """Configure XLA flags and the compilation cache. Returns the cache directory, or None."""
        from rlceiling.inference.xla_flags import set_flag

        set_flag()
        if self.compile_cache:
            from rlceiling.inference.compile_cache import use_compile_cache

            # Without a cache programs are compiled again, which costs time and nothing else.
            try:
                return use_compile_cache()
            except OSError:
                return None
            except DataError as error:
                import jax

                jax.config.update("jax_compilation_cache_dir", None)
                typer.echo(f"rlceiling: {error} Programs are compiled without it.", err=True)
        return None

    def settings(self) -> dict[str, Any]:
        """Arguments of `rlceiling.fit`."""
        return {
            **explicit_options(self, "chains", "tune", "draws", "seed", "cores", "backend"),
            "progress": False if self.quiet else None,
        }


@dataclass(frozen=True)
class SizeSampling(Sampling):
    """Options of `rlceiling.fit_sizes`."""

    chains: Annotated[int | None, _setting(SIZE_SAMPLER, "chains", CHAINS)] = None
    tune: Annotated[int | None, _setting(SIZE_SAMPLER, "tune", TUNE)] = None
    draws: Annotated[int | None, _setting(SIZE_SAMPLER, "draws", DRAWS)] = None
    seed: Annotated[int | None, _setting(SIZE_SAMPLER, "seed", SEED)] = None
    cores: Annotated[int | None, _sampling(metavar="N", help="Not used by this command.", hidden=True)] = None
    backend: Annotated[str | None, _sampling(metavar="cpu|gpu", help=f"Where to sample. {default('cpu')}")] = None


@dataclass(frozen=True)
class LiveSampling(Sampling):
    """Options of refits of runs that go on, one after the other."""

    chains: Annotated[int | None, _setting(LIVE_SAMPLER, "chains", CHAINS)] = None
    tune: Annotated[int | None, _setting(LIVE_SAMPLER, "tune", TUNE)] = None
    draws: Annotated[int | None, _setting(LIVE_SAMPLER, "draws", DRAWS)] = None
    seed: Annotated[int | None, _setting(LIVE_SAMPLER, "seed", SEED)] = None
    cores: Annotated[int | None, _sampling(metavar="N", help="Not used by this command.", hidden=True)] = None
    backend: Annotated[str | None, _sampling(metavar="cpu|gpu", help=f"Where to sample. {default('cpu')}")] = None
    quiet: Annotated[bool, _sampling("--quiet", help="Do not print what is watched.")] = False


def explicit_options(options: object, *names: str) -> dict[str, Any]:
    """Options that the user gave; for the others the library has the defaults."""
    return {n: getattr(options, n) for n in names if getattr(options, n) not in (None, [])}


def reject_options(options: Iterable[str], what: str, why: str) -> None:
    """Raise DataError if there are options that make no sense here."""
    names = [f"--{name.replace('_', '-')}" for name in options]
    if names:
        raise DataError(f"{what}, {why}; leave out {listing(names)}.")


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is a dataclass by one option per field, so that commands share their options."""
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
    def expanded(**values: Any) -> None:
        filled = {name: group(**{f.name: values.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**values, **filled)

    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    expanded.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    expanded.__annotations__ = {}
    return expanded


RunsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUNS",
        help="Tables, logs of trainers or trackers, folders of logs, - for stdin, or a bundled data set.",
    ),
]
FitsArgument = Annotated[
    str, typer.Argument(metavar="FITS", help="A directory written by `fit --out`, or RUNS to be fitted first.")
]


def number_of(text: str) -> float:
    """A number as people write it: 20k, 1.5M, 2e22 or 20,000."""
    factor = SUFFIXES.get(text[-1:], 1.0)
    plain = text[:-1] if factor != 1.0 else text
    try:
        return float(plain.replace(",", "") if THOUSANDS.fullmatch(plain) else plain) * factor
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number; write 20000, 20k or 2e4.") from None


THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")
SUFFIXES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


def compute_option(what: str, **more: Any) -> Any:
    """An option that takes a compute."""
    return typer.Option(metavar="C", help=what, parser=number_of, **more)


Margin = Annotated[
    float, typer.Option(metavar="M", help="Difference of ceilings that counts, in the unit of the reward.")
]
Prob = Annotated[float, typer.Option(metavar="P", help="Probability of the credible intervals.")]


def fits_of(
    source: str,
    reading: Reading,
    sampling: Sampling,
    recipes: Sequence[str] = (),
    *,
    fewest: int = 1,
    check: Callable[[Runs], object] | None = None,
) -> Fits:
    """Load fits from a directory, or fit the runs that are asked about.

    Parameters
    ----------
    source : str
        A directory, a file of runs or a bundled data set.
    reading, sampling
        Options, which must not be given with a directory.
    recipes : sequence of str
        Recipes that are fitted, or runs as ``recipe/run``. Default: all.
    fewest : int, default 1
        Number of recipes that the question needs.
    check : callable, optional
        Called with the runs before they are fitted; raises DataError for a question that their posteriors could not
        answer.
    """
    if holds_fits(source):
        from rlceiling.results.fits import load_fits

        reject_fitting_options(source, reading, sampling)
        fits = load_fits(source)
        _check_enough(source, fits, fewest)
        return fits
    runs = reading.read(source)
    if check is not None:
        check(runs)
    # The runs of a recipe are fitted together, so a run brings the others of its recipe.
    wanted = dict.fromkeys(runs.find(name)[0] for name in recipes)
    asked = runs.select(*wanted) if wanted else runs
    if not wanted:
        _check_enough(source, asked.recipes, fewest)
    return sampling.fit(asked)


def _check_enough(source: str, recipes: Sized, fewest: int) -> None:
    """Raise DataError if there are fewer recipes than are compared."""
    if len(recipes) < fewest:
        raise DataError(f"{source} has {count(len(recipes), 'recipe')}, and at least {fewest} are compared; give more.")


def holds_fits(source: str) -> bool:
    """Whether a source is a directory of finished fits, and not one of logs."""
    path = Path(source)
    if not path.is_dir():
        return False
    from rlceiling.posterior.files import INDEX, SIZES_FILE

    return (path / INDEX).exists() or (path / SIZES_FILE).exists() or not any(path.iterdir())


def reject_fitting_options(source: str, reading: Reading, sampling: Sampling, *more: str) -> None:
    """Raise DataError if options of reading or sampling, or `more`, are given with a directory of finished fits."""
    asked = [*more, *explicit_options(reading, *_names(reading)), *explicit_options(sampling, *_names(sampling))]
    reject_options(
        (n for n in asked if n not in ("quiet", "compile_cache")),
        f"{source} holds finished fits",
        "which stay as they were made",
    )


def _names(options: Any) -> list[str]:
    return [f.name for f in fields(options)]


def check_picture(file: Path) -> None:
    """Raise DataError unless a figure can be written to a file; checked before sampling."""
    from matplotlib.figure import Figure

    from rlceiling.writing import check_target

    if file.suffix.lower().removeprefix(".") not in Figure().canvas.get_supported_filetypes():
        raise DataError(f"{file.name} does not end like a picture; name it .png, .pdf or .svg.")
    check_target(file)
    if not file.parent.is_dir():
        raise DataError(f"there is no folder {file.parent} for {file.name}; make it, or name another one.")
