"""`fit_sizes`: the posterior of a law across model sizes from runs of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from rlceiling.errors import DataError, listing
from rlceiling.fitting.driver import Driver, Sampled, Task
from rlceiling.models.size_family import SIZE_FAMILIES
from rlceiling.models.size_laws import LAWS
from rlceiling.models.size_priors import SizePriors
from rlceiling.posterior.size_fit import units_of_sizes
from rlceiling.posterior.size_verdicts import SizeRules
from rlceiling.results.sizes import Sizes
from rlceiling.runs import Runs
from rlceiling.runs.grouping import GroupedRuns, group_by_size
from rlceiling.settings import DEFAULT_LAW, SIZE_SAMPLER, SamplerSettings


def fit_sizes(
    runs: Runs,
    size: str = "model_size",
    resource: str = "compute",
    *,
    law: str = DEFAULT_LAW,
    priors: SizePriors | None = None,
    chains: int = SIZE_SAMPLER.chains,
    tune: int = SIZE_SAMPLER.tune,
    draws: int = SIZE_SAMPLER.draws,
    seed: int = SIZE_SAMPLER.seed,
    rules: SizeRules | None = None,
    backend: str | None = None,
    progress: bool | None = None,
) -> Sizes:
    """Sample the posterior of a law across model sizes by NUTS.

    The runs of all sizes are fitted by one hierarchical model. A fit that has not converged is retried once, twice as
    long and with smaller steps.

    Parameters
    ----------
    runs : Runs
        From `read_runs` or `load_dataset`. Every run has one model size; runs of the same size share a curve and have
        their own autocorrelated noise, whatever their recipe is called.
    size : str, default "model_size"
        Column of the table with the model size: positive numbers, or texts such as ``7B`` and ``500M``.
    resource : str, default "compute"
        Column with the resource X: ``"compute"``, or another column of the file, such as the number of training
        samples. Any unit.
    law : {"power law", "ceiling"}, default "power law"
        ``L = K(N) X^-E(N)``, or a sigmoid whose ceiling depends on N (see `PowerLawPriors` and `CeilingLawPriors`).
    priors : PowerLawPriors or CeilingLawPriors, optional
        Default: those of the law.
    chains, tune, draws : int, default 4, 1000, 1000
        Number of MCMC chains, and of warm-up steps and draws of each chain. The defaults give more than 400 effective
        draws of every parameter on the bundled runs.
    seed : int, default 0
        Seed of the random numbers; the same seed gives the same draws.
    rules : SizeRules, optional
        Thresholds of the verdicts.
    backend : {"cpu", "gpu"}, optional
        Device for sampling, as in `rlceiling.fit`. Default: CPU. All chains run in one program, which does not use
        several cores; `backtest_sizes` and batches fit several laws at once where that is possible.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.

    Returns
    -------
    Sizes
        Posterior of the law.

    Raises
    ------
    DataError
        If a column is missing, a size or resource is not a positive number, a run has two sizes, a size has fewer
        than four distinct values of the resource, a setting is invalid, or there is no such backend.

    References
    ----------
    "Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300.

    Examples
    --------
    >>> import rlceiling as rl
    >>> sizes = rl.fit_sizes(rl.load_dataset("qwen_math"), size="model_size_b")  # doctest: +SKIP
    """
    grouped = group_by_size(runs, size, resource)
    return fit_grouped(
        grouped,
        law=law,
        priors=priors,
        chains=chains,
        tune=tune,
        draws=draws,
        seed=seed,
        rules=rules,
        backend=backend,
        progress=progress,
    )


def fit_grouped(
    grouped: GroupedRuns,
    *,
    law: str = DEFAULT_LAW,
    priors: SizePriors | None = None,
    rules: SizeRules | None = None,
    backend: str | None = None,
    progress: bool | None = None,
    **sampling: Any,
) -> Sizes:
    """Fit runs that are already grouped by size; arguments as in `fit_sizes`."""
    settings = replace(SIZE_SAMPLER, **sampling)
    settings.check("fit_sizes")
    bar = tqdm(total=settings.draws, desc="fitting", unit="draw", disable=None if progress is None else not progress)
    with bar:
        driver = size_driver(grouped, law, priors, rules, settings, backend=backend, report=bar.update)
        return driver.fit_one(size_task(driver, grouped))


def size_driver(
    grouped: GroupedRuns,
    law: str,
    priors: SizePriors | None = None,
    rules: SizeRules | None = None,
    settings: SamplerSettings = SIZE_SAMPLER,
    *,
    backend: str | None = None,
    report: Callable[[int], object] | None = None,
) -> Driver[Sizes]:
    """Sampling driver of a law across sizes; arguments as in `fit_sizes`."""
    priors = check_law(law, priors)
    rules = SizeRules() if rules is None else rules

    def assemble(task: Task, sampled: Sampled) -> Sizes:
        return Sizes(
            law=law,
            sizes=grouped.sizes,
            runs=grouped.runs,
            units=grouped.units,
            table_notes=grouped.notes,
            priors=priors,
            rules=rules,
            settings=sampled.settings,
            draws=sampled.draws,
            unit_draws=sampled.unit_draws,
            sample_stats=sampled.sample_stats,
        )

    return Driver(
        SIZE_FAMILIES[law], priors, rules, settings, assemble, backend=backend, where="fit_sizes", report=report
    )


def size_task(driver: Driver[Sizes], grouped: GroupedRuns) -> Task:
    """Task of the hierarchical model of runs of several sizes."""
    return driver.task((driver.family.name, "sizes"), units_of_sizes(grouped.sizes, grouped.runs, grouped.units))


def check_law(law: str, priors: SizePriors | None = None) -> SizePriors:
    """Return `priors`, or the default priors of the law.

    Raises DataError if there is no such law, or if the priors belong to another law.
    """
    if law not in LAWS:
        raise DataError(
            f"fit_sizes: law={law!r} is none of {listing([repr(name) for name in LAWS])}; give one of them."
        )
    needed = LAWS[law].priors
    if priors is not None and not isinstance(priors, needed):
        raise DataError(
            f"fit_sizes: priors are {type(priors).__name__} and the {law} needs {needed.__name__}; give those."
        )
    return needed() if priors is None else priors
