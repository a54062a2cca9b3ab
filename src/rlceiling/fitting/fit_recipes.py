"""`fit` and `iter_fits`: posteriors of recipes from their runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from rlceiling.errors import count
from rlceiling.fitting.driver import Driver, Sampled, Task
from rlceiling.fitting.failed_runs import failed_runs
from rlceiling.models.recipe_family import RECIPE
from rlceiling.models.recipe_model import SigmoidPriors
from rlceiling.models.unit import Unit
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.results.fits import Fits
from rlceiling.runs import Run, Runs
from rlceiling.runs.units import Units, are_natural, span_of_data
from rlceiling.settings import RECIPE_SAMPLER, SamplerSettings


class FitInterrupted(KeyboardInterrupt):
    """Fitting was interrupted; `fits` contains the posteriors that were complete."""

    def __init__(self, fits: Fits, total: int) -> None:
        super().__init__(f"interrupted after {len(fits)} of {count(total, 'recipe')}")
        self.fits = fits


def fit(
    runs: Runs,
    priors: SigmoidPriors | None = None,
    *,
    chains: int = RECIPE_SAMPLER.chains,
    tune: int = RECIPE_SAMPLER.tune,
    draws: int = RECIPE_SAMPLER.draws,
    seed: int = RECIPE_SAMPLER.seed,
    rules: VerdictRules | None = None,
    cores: int | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Fits:
    """Sample the posterior of every recipe by NUTS.

    The runs of a recipe are fitted by a hierarchical model (partial pooling): each run has its own ceiling, midpoint
    and efficiency, distributed around those of the recipe, and its own autocorrelated noise. Recipes are fitted
    independently. A run that collapsed or never rose while most of its siblings did is not fitted but counted and named
    (`Fit.failed_runs`). There is one compiled program per bucket of lengths and numbers of runs. A fit that has not
    converged is retried once, twice as long and with smaller steps.

    Parameters
    ----------
    runs : Runs
        From `read_runs` or `load_dataset`.
    priors : SigmoidPriors, optional
        Default `SigmoidPriors()`.
    chains, tune, draws : int, default 4, 500, 1000
        Number of MCMC chains, and of warm-up steps and draws of each chain. The defaults give more than 400 effective
        draws of every parameter on the bundled runs.
    seed : int, default 0
        Seed of the random numbers; the same seed gives the same draws.
    rules : VerdictRules, optional
        Thresholds of the verdicts.
    cores : int, optional
        Number of programs run at once. Default: all cores available to this process; on a GPU one.
    backend : {"cpu", "gpu"}, optional
        Device for sampling. Default: CPU, or a GPU if JAX has one and there are enough chains to fill it. The draws of
        a GPU differ from those of a CPU as those of another seed do. It is recorded in ``settings.versions``.
    batch_size : int, optional
        Number of recipes sampled in one program. Default: 1 on CPU, where a fit is then bit-identical whatever recipes
        are fitted with it, and 256 on a GPU, which needs many lanes to be used fully.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.

    Returns
    -------
    Fits
        Posteriors by name of the recipe.

    Raises
    ------
    DataError
        If a recipe has no run with four distinct positive compute values, a setting is not a positive integer, or
        there is no such backend.
    FitInterrupted
        On Ctrl-C; its ``fits`` contains the posteriors that were complete.

    See Also
    --------
    iter_fits : Yields one fit at a time, for more fits than memory can hold.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl"))  # doctest: +SKIP
    """
    done: dict[str, Fit] = {}

    def fits() -> Fits:
        return Fits([done[name] for name in runs.recipes if name in done], runs.notes)

    try:
        for one in iter_fits(
            runs,
            priors,
            chains=chains,
            tune=tune,
            draws=draws,
            seed=seed,
            rules=rules,
            cores=cores,
            backend=backend,
            batch_size=batch_size,
            progress=progress,
        ):
            done[one.name] = one
    except KeyboardInterrupt:
        raise FitInterrupted(fits(), len(runs.recipes)) from None
    return fits()


def iter_fits(
    runs: Runs,
    priors: SigmoidPriors | None = None,
    *,
    chains: int = RECIPE_SAMPLER.chains,
    tune: int = RECIPE_SAMPLER.tune,
    draws: int = RECIPE_SAMPLER.draws,
    seed: int = RECIPE_SAMPLER.seed,
    rules: VerdictRules | None = None,
    cores: int | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Iterator[Fit]:
    """Fit like `fit`, and yield each posterior as soon as it is complete.

    The iterator keeps no reference to yielded fits, so the caller determines the memory: a fit of one run has 0.6 MB of
    draws.

    Parameters
    ----------
    runs, priors, chains, tune, draws, seed, rules, cores, backend, batch_size, progress
        As in `fit`.

    Returns
    -------
    iterator of Fit
        Fits in the order of completion, each identical to the result of `fit`.

    Raises
    ------
    DataError
        As in `fit`.
    KeyboardInterrupt
        On Ctrl-C, from the iterator, after all fits that were complete at that time have been yielded.

    Examples
    --------
    >>> import rlceiling as rl
    >>> for fit in rl.iter_fits(rl.load_dataset("scalerl")):  # doctest: +SKIP
    ...     print(fit.sentence())
    """
    runs.check_enough()
    units = Units(runs.compute_label, runs.reward_label, runs.reward_bounds)
    driver = recipe_driver(
        priors,
        rules,
        replace(RECIPE_SAMPLER, chains=chains, tune=tune, draws=draws, seed=seed),
        backend=backend,
        batch_size=batch_size,
        number=len(runs.recipes),
    )
    shown = None if progress is None else not progress
    bar = tqdm(total=len(runs.recipes), desc="fitting", unit="recipe", disable=shown)
    tasks = (recipe_task(driver, name, members, units) for name, members in runs.iter_recipes())
    return _with_bar(driver.iterate(tasks, cores, bar), bar)


def _with_bar(fits: Iterator[Fit], bar: tqdm) -> Iterator[Fit]:
    with bar:
        yield from fits


def recipe_driver(
    priors: SigmoidPriors | None = None,
    rules: VerdictRules | None = None,
    settings: SamplerSettings = RECIPE_SAMPLER,
    *,
    backend: str | None = None,
    batch_size: int | None = None,
    number: int = 1,
) -> Driver[Fit]:
    """Sampling driver of recipes; arguments as in `fit`, and the `number` of recipes."""
    priors = SigmoidPriors() if priors is None else priors
    rules = VerdictRules() if rules is None else rules

    def assemble(task: Task, sampled: Sampled) -> Fit:
        name, *_ = task.stream_names
        units, failed = task.context
        return Fit(
            name=name,
            runs=tuple(run for unit in task.units for run in unit.runs),
            units=units,
            priors=priors,
            rules=rules,
            settings=sampled.settings,
            draws=units.unscale_draws(sampled.draws),
            unit_draws=units.unscale_draws(sampled.unit_draws),
            sample_stats=sampled.sample_stats,
            failed_runs=failed,
        )

    return Driver(RECIPE, priors, rules, settings, assemble, backend=backend, batch_size=batch_size, number=number)


def recipe_task(driver: Driver[Fit], name: str, runs: Sequence[Run], units: Units) -> Task:
    """Task of the hierarchical model of the healthy runs of one recipe, whose rewards `units` scales to [0, 1]."""
    runs, units = _on_scale_of_model(runs, units)
    failed = failed_runs(runs, units)
    runs = [run for run in runs if run.run not in failed]
    members = tuple(Unit(run.run, (run,)) for run in runs)
    return driver.task((name, *(run.run for run in runs)), members, (units, failed))


def _on_scale_of_model(runs: Sequence[Run], units: Units) -> tuple[Sequence[Run], Units]:
    """Rescale rewards without natural bounds to a span that the data set."""
    if are_natural(units.bounds):
        return runs, units
    rewards = [units.unscale(np.append(run.reward, run.start[:1] if run.start else ())) for run in runs]
    scaled = replace(units, data_span=span_of_data(np.concatenate(rewards)))

    def moved(reward: Any) -> Any:
        # Rounded far below the resolution of the model, so that other bounds give the same numbers.
        return np.round(scaled.scale(units.unscale(reward)), 7)

    return [
        replace(run, reward=moved(run.reward), start=run.start and (float(moved(run.start[0])), run.start[1]))
        for run in runs
    ], scaled
