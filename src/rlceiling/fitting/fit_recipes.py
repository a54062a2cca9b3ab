"""`fit` and `iter_fits`: posteriors of recipes from their runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from rlceiling.errors import DataError, count, unknown_name
from rlceiling.fitting.learn_priors import FEWEST_RECIPES, QUICK, usable_fits
from rlceiling.fitting.recipe_driver import recipe_driver, recipe_task
from rlceiling.fitting.study import JOINT_SAMPLER, Study, mild_priors
from rlceiling.models.recipe_priors import LearnedPriors, SigmoidPriors
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict, VerdictRules
from rlceiling.results.fits import Fits
from rlceiling.runs import Run, Runs
from rlceiling.runs.units import Units
from rlceiling.settings import RECIPE_SAMPLER, check_cores

POOL_MAX_R_HAT = 1.02
"""R-hat of the hyperparameters above which the recipes of a study are sampled together once more, longer. A recipe that
has not converged then is fitted under the priors that the others give."""


class FitInterrupted(KeyboardInterrupt):
    """Fitting was interrupted; `fits` contains the posteriors that were complete."""

    def __init__(self, fits: Fits, total: int) -> None:
        super().__init__(f"interrupted after {len(fits)} of {count(total, 'recipe')}")
        self.fits = fits


def fit(
    runs: Runs,
    priors: SigmoidPriors | Mapping[str, SigmoidPriors] | None = None,
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
    pool: bool = False,
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
    priors : SigmoidPriors, or mapping of recipe to SigmoidPriors, optional
        Priors, such as those that `rlceiling.learn_priors` learned from finished recipes; a mapping gives each recipe
        its own. Default `SigmoidPriors()`.
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
        a GPU differ from those of a CPU as those of another seed do. It is recorded in ``settings.versions``. Pooled
        recipes are sampled together on the CPU.
    batch_size : int, optional
        Number of recipes sampled in one program. Default: 1 on CPU, where a fit is then bit-identical whatever recipes
        are fitted with it, and 256 on a GPU, which needs many lanes to be used fully.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.
    pool : bool, default False
        Let the recipes of one study learn from each other: all are sampled together with what they have in common (see
        `rlceiling.learn_priors`), which needs at least three recipes. The draws of two such recipes belong together,
        and chances use that. Of more than 60 recipes, the others are fitted under what 60 of them taught. With
        ``priors=SigmoidPriors.reference()`` what is usual in other studies is the prior of what these recipes have in
        common; on real runs that was no better (see ``benchmarks/calibration``). Default: each recipe alone, so that a
        fit does not depend on what else is fitted.

    Returns
    -------
    Fits
        Posteriors by name of the recipe.

    Raises
    ------
    DataError
        If a recipe has no run with four distinct positive compute values, a setting is not a positive integer, the
        seed does not fit into 64 bits, there is no such backend, or fewer than three recipes are to be pooled.
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
    of_one_study = isinstance(priors, LearnedPriors) and not priors.studies
    if pool and (isinstance(priors, Mapping) or of_one_study):
        raise DataError(
            "fit: pool=True learns priors from the runs themselves; give no priors that were learned from one study "
            "with it."
        )
    if pool and len(runs.recipes) < FEWEST_RECIPES:
        raise DataError(
            f"fit: pool=True lets recipes learn from each other and needs at least {FEWEST_RECIPES}; {runs.source} has "
            f"{count(len(runs.recipes), 'recipe')}."
        )
    done: dict[str, Fit] = {}
    notes = list(runs.notes)

    def fits() -> Fits:
        return Fits([done[name] for name in runs.recipes if name in done], notes)

    sampling: dict[str, Any] = {"chains": chains, "tune": tune, "draws": draws, "seed": seed, "rules": rules}
    running: dict[str, Any] = {"cores": cores, "backend": backend, "batch_size": batch_size, "progress": progress}
    try:
        if pool:
            assert not isinstance(priors, Mapping)
            reference = priors if isinstance(priors, LearnedPriors) else None
            weak = None if priors is None else mild_priors(priors)
            early = {one.name: one for one in iter_fits(runs, weak, **sampling | QUICK, **running)}
            alone = Fits([early[name] for name in runs.recipes], runs.notes)  # the order in which they end varies
            settings = replace(JOINT_SAMPLER, chains=chains, tune=tune, draws=draws, seed=seed)
            hidden = None if progress is None else not progress
            usable = usable_fits(alone, "fit: pool=True")
            notes += pooling_notes(usable)
            study = Study(
                usable, reference=reference, settings=settings, max_r_hat=POOL_MAX_R_HAT, cores=cores, hidden=hidden
            )
            try:
                done |= {name: one for name, one in study.pooled().items() if not one.worth_a_retry}
                priors = {name: study.priors(name) for name in runs.recipes if name not in done}
            except DataError as error:
                notes.append(f"pooled recipes: each was fitted alone, because {str(error).rstrip('.')}")
                priors = weak
        others = [name for name in runs.recipes if name not in done]
        for one in iter_fits(runs.select(*others), priors, **sampling, **running) if others else ():
            done[one.name] = one
    except KeyboardInterrupt:
        raise FitInterrupted(fits(), len(runs.recipes)) from None
    return fits()


def iter_fits(
    runs: Runs,
    priors: SigmoidPriors | Mapping[str, SigmoidPriors] | None = None,
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
    check_cores("fit", cores)
    units = Units(runs.compute_label, runs.reward_label, runs.reward_bounds)
    if isinstance(priors, Mapping):
        for name in runs.recipes:
            if name not in priors:
                raise unknown_name("the mapping of priors", "recipe", name, priors)
    driver = recipe_driver(
        None,
        rules,
        replace(RECIPE_SAMPLER, chains=chains, tune=tune, draws=draws, seed=seed),
        backend=backend,
        batch_size=batch_size,
        number=len(runs.recipes),
    )
    shown = None if progress is None else not progress
    bar = tqdm(total=len(runs.recipes), desc="fitting", unit="recipe", disable=shown)
    tasks = (
        recipe_task(driver, name, members, units, priors_of(name, members, priors, runs.compute_label))
        for name, members in runs.iter_recipes()
    )
    return _with_bar(driver.iterate(tasks, cores, bar), bar)


def pooling_notes(alone: Sequence[Fit]) -> list[str]:
    """Sentences about recipes that are pooled, from their fits alone."""
    if any(one.verdict is Verdict.IDENTIFIED for one in alone):
        return []
    return [
        "pooled recipes: alone, none has a ceiling that its data fix, so that together they know little about how such "
        "runs end"
    ]


def priors_of(
    name: str, runs: Sequence[Run], priors: SigmoidPriors | Mapping[str, SigmoidPriors] | None, compute: str
) -> SigmoidPriors | None:
    """Priors of one recipe, see `SigmoidPriors.suited_to`."""
    own = priors[name] if isinstance(priors, Mapping) else priors
    return None if own is None else own.suited_to(compute, staged=any(run.stages for run in runs))


def _with_bar(fits: Iterator[Fit], bar: tqdm) -> Iterator[Fit]:
    with bar:
        yield from fits
