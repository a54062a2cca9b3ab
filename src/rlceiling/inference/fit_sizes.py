"""`fit_sizes`: runs of models of several sizes in, the posterior of a law across sizes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from rlceiling.errors import DataError, listing
from rlceiling.inference.fit import (
    RETRY_FACTOR,
    RETRY_TARGET_ACCEPT,
    check_settings,
    versions,
)
from rlceiling.inference.nuts import Density, fit_key, run_chains, side_by_side, statistics
from rlceiling.models.size_coordinates import SizeCentre, dimension, least_squares_centre, to_natural
from rlceiling.models.size_data import SizeData, prepare_sizes
from rlceiling.models.size_laws import LAWS, SizeLaw, SizePriors
from rlceiling.models.sizes import columns_of_sizes, log_posterior
from rlceiling.posterior.fit import Settings
from rlceiling.posterior.sizes import SizeRules, Sizes
from rlceiling.runs import Runs
from rlceiling.runs.sizes import GroupedRuns, group_by_size

TARGET_ACCEPT_SIZES = 0.98
"""Acceptance that the step size is tuned to. Where sizes lie close to a line in one respect and ceilings are open,
longer steps diverge in one of a thousand draws; with these most fits need no second try."""


def fit_sizes(
    runs: Runs,
    size: str = "model_size",
    resource: str = "compute",
    *,
    law: str = "power law",
    priors: SizePriors | None = None,
    chains: int = 4,
    tune: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    rules: SizeRules | None = None,
    progress: bool | None = None,
) -> Sizes:
    """Sample the posterior of a law across model sizes by NUTS.

    All runs of all sizes are one fit. A fit that has not converged is tried once more, twice as long and with smaller
    steps.

    Parameters
    ----------
    runs : Runs
        From `read_runs` or `load_dataset`. Every run has one model size; runs of the same size share a curve and have
        noise paths of their own, whatever their recipe is called.
    size : str, default "model_size"
        Column of the table with the model size: positive numbers, or texts such as ``7B`` and ``500M``.
    resource : str, default "compute"
        Column with the resource X: ``"compute"``, or another one of the file, such as the samples seen. Any unit.
    law : {"power law", "ceiling"}, default "power law"
        ``L = K(N) X^-E(N)``, or a sigmoid whose ceiling depends on N (see `PowerLawPriors` and `CeilingLawPriors`).
    priors : PowerLawPriors or CeilingLawPriors, optional
        Default: those of the law.
    chains, tune, draws : int, default 4, 1000, 1000
        Chains, warm-up steps and kept draws of each. The defaults leave more than 400 effective draws of every
        parameter on the bundled runs.
    seed : int, default 0
        Same seed, same draws.
    rules : SizeRules, optional
        Thresholds of the verdicts.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.

    Returns
    -------
    Sizes

    Raises
    ------
    DataError
        If a column is not there, a size or resource is not a positive number, a run has two sizes, a size has fewer
        than four distinct values of the resource, or a setting makes no sense.

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
        progress=progress,
    )


def fit_grouped(
    grouped: GroupedRuns,
    *,
    law: str = "power law",
    priors: SizePriors | None = None,
    chains: int = 4,
    tune: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    rules: SizeRules | None = None,
    progress: bool | None = None,
) -> Sizes:
    """Fit runs that are already grouped by size; arguments as of `fit_sizes`."""
    check_settings("fit_sizes", chains, tune, draws, seed)
    priors = check_law(law, priors)
    rules = SizeRules() if rules is None else rules
    data = prepare_sizes(grouped.sizes, grouped.runs, priors.evaluation_error)

    def attempt(*, retry: bool) -> Sizes:
        factor = RETRY_FACTOR if retry else 1
        settings = Settings(
            chains=chains,
            tune=factor * tune,
            draws=factor * draws,
            target_accept=RETRY_TARGET_ACCEPT if retry else TARGET_ACCEPT_SIZES,
            seed=seed,
            retried=retry,
            versions=versions(),
        )
        parameters, columns, stats = sample_sizes(data, LAWS[law][0], priors.distributions(), settings, progress)
        return Sizes(
            law=law,
            sizes=grouped.sizes,
            runs=grouped.runs,
            units=grouped.units,
            priors=priors,
            settings=settings,
            parameters=parameters,
            columns=columns,
            sample_stats=stats,
            rules=rules,
            notes=grouped.notes,
        )

    first = attempt(retry=False)
    return first if rules.converged(first.convergence) else attempt(retry=True)


def check_law(law: str, priors: SizePriors | None = None) -> SizePriors:
    """Priors of a law, those given or the default; raises if there is no such law, or they are of another."""
    if law not in LAWS:
        raise DataError(
            f"fit_sizes: law={law!r} is none of {listing([repr(name) for name in LAWS])}; give one of them."
        )
    needed = LAWS[law][1]
    if priors is not None and not isinstance(priors, needed):
        raise DataError(
            f"fit_sizes: priors are {type(priors).__name__} and the {law} needs {needed.__name__}; give those."
        )
    return needed() if priors is None else priors


@cache
def _density(law: SizeLaw) -> Density:
    """Minus the log posterior density of the coordinates of a law; one function a law, or each fit would compile."""

    def density(data: SizeData, centre: SizeCentre, priors: Mapping[str, Any]) -> Callable[[Array], Array]:
        priors = dict(priors)  # made here, once
        return lambda z: -log_posterior(z, data, centre, priors, law)

    return density


@partial(jax.jit, static_argnames=("law",))
def _natural(
    rows: Array, data: SizeData, centre: SizeCentre, priors: Mapping[str, Any], *, law: SizeLaw
) -> tuple[dict[str, Array], Array]:
    """Parameters of rows, shape (chains, draws), and their columns, shape (chains, draws, columns, sizes)."""
    priors = dict(priors)

    def of_point(z: Array) -> tuple[dict[str, Array], Array]:
        values, standard, _ = to_natural(z, data, centre, priors, law)
        return values, jnp.stack(columns_of_sizes(standard, values, data, priors, law))

    return jax.vmap(jax.vmap(of_point))(rows)


def sample_sizes(
    data: SizeData,
    law: SizeLaw,
    priors: Mapping[str, Any],
    settings: Settings,
    progress: bool | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Sample the chains: parameters and statistics of shape (chains, draws), columns (chains, draws, sizes)."""
    size = dimension(data, law)
    values, columns, stats = [], [], []
    bar = tqdm(total=settings.draws, desc="fitting", unit="draw", disable=None if progress is None else not progress)
    # 64-bit mode for this computation alone.
    with jax.enable_x64(True), bar:
        centre = least_squares_centre(data, law)
        for rows, made in run_chains(
            fit_key(settings.seed, law.name, "sizes")[None],
            side_by_side([(data, centre, priors)]),
            _density(law),
            chains=settings.chains,
            dimension=size,
            dense=size,
            tune=settings.tune,
            draws=settings.draws,
            target_accept=settings.target_accept,
        ):
            of_values, of_columns = _natural(rows[0, :, :, :size], data, centre, priors, law=law)
            values.append({name: np.asarray(array)[:, :made] for name, array in of_values.items()})
            columns.append(np.asarray(of_columns)[:, :made])
            stats.append(statistics(np.asarray(rows[0, :, :made, size:])))
            bar.update(made)
    joined = [
        {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]} for parts in (values, stats)
    ]
    by_column = np.concatenate(columns, axis=1)
    return joined[0], {column.name: by_column[:, :, i] for i, column in enumerate(law.columns)}, joined[1]
