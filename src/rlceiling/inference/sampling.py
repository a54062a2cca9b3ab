"""Sampling of the posteriors of any family, one fit or a batch of fits: arrays in, draws out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from rlceiling.inference.nuts import Density, TransitionStats, run_chains, side_by_side, statistics
from rlceiling.models.family import Family, log_posterior
from rlceiling.settings import SamplerSettings


class Draws(NamedTuple):
    """Draws of one fit, on the scale of the model: rewards on [0, 1]."""

    parameters: dict[str, np.ndarray]
    """Population parameters, shape (chains, draws)."""
    unit_parameters: dict[str, np.ndarray]
    """Unit parameters, shape (chains, draws, units), with padded units."""
    sample_stats: dict[str, np.ndarray]
    """Sampler statistics, shape (chains, draws)."""


@cache
def potential(family: Family) -> Density:
    """Minus the log posterior density of the coordinates. One function per family, the cache key of programs."""

    def density(data: Any, centre: Any, priors: Mapping[str, Any]) -> Callable[[Array], Array]:
        priors = dict(priors)  # constructs each distribution once
        return lambda z: -log_posterior(z, family, data, centre, priors)

    return density


@partial(jax.jit, static_argnames=("family",))
def _kept(
    rows: Array, data: Any, centres: Any, priors: Mapping[str, Any], *, family: Family
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """Stored parameters and sampler statistics of rows, shape (fits, chains, draws, ...)."""

    def of_point(z: Array, data: Any, centre: Any, priors: Mapping[str, Any]) -> Any:
        priors = dict(priors)
        sites, _ = family.to_sites(z, data, centre, priors)
        return family.kept(sites, data, priors)

    of_fit = jax.vmap(jax.vmap(of_point, (0, None, None, None)), (0, None, None, None))
    columns = len(TransitionStats._fields)
    parameters, unit_parameters = jax.vmap(of_fit)(rows[..., :-columns], data, centres, priors)
    return parameters, unit_parameters, statistics(rows[..., -columns:])


def stored_parameters(
    z: np.ndarray, data: Sequence[Any], family: Family, priors: Sequence[Mapping[str, Any]]
) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Population and unit parameters of several fits at sampled coordinates, shape (fits, chains, draws, d)."""
    with jax.enable_x64(True):
        stacked = side_by_side([(one, family.centre(one), own) for one, own in zip(data, priors, strict=True)])
        rows = np.concatenate([z, np.zeros((*z.shape[:-1], len(TransitionStats._fields)))], axis=-1)
        found = [{k: np.asarray(v) for k, v in group.items()} for group in _kept(rows, *stacked, family=family)[:2]]
    parameters, of_units = found
    return [
        ({k: v[i] for k, v in parameters.items()}, {k: v[i] for k, v in of_units.items()}) for i in range(len(data))
    ]


def sample(
    key_data: Sequence[np.ndarray],
    data: Sequence[Any],
    family: Family,
    priors: Sequence[Mapping[str, Any]],
    settings: SamplerSettings,
    report: Callable[[int], object] | None = None,
) -> list[Draws]:
    """Sample several posteriors of one family in one batch, by one program.

    Parameters
    ----------
    key_data : sequence of ndarray
        From `rlceiling.inference.stream_keys.stream_key`, one per fit.
    data : sequence of pytrees
        From `Family.prepare`; their arrays must have the same shapes.
    family : Family
        The model.
    priors : sequence of mappings of name to distribution
        From `Priors.distributions`, one per fit; their distributions must be of the same kinds.
    settings : SamplerSettings
        Chains, warm-up steps, draws and target acceptance. Only the number of chains is part of the compiled program;
        with ``tune=0`` and ``draws=0`` the program is compiled and no draw is made.
    report : callable, optional
        Called with the number of new draws of each chain whenever draws have been made.

    Returns
    -------
    list of Draws
        NumPy arrays of float64, one entry per fit.
    """
    # 64-bit mode for this computation only; the setting of the caller is unchanged.
    with jax.enable_x64(True):
        stacked = side_by_side([(one, family.centre(one), own) for one, own in zip(data, priors, strict=True)])
        dimension, dense = family.dimension(data[0])
        windows = []
        for rows, made in run_chains(
            np.stack(key_data),
            stacked,
            potential(family),
            chains=settings.chains,
            dimension=dimension,
            dense=dense,
            tune=settings.tune,
            draws=settings.draws,
            target_accept=settings.target_accept,
        ):
            kept = _kept(rows, *stacked, family=family)
            windows.append([{k: np.asarray(v)[:, :, :made] for k, v in group.items()} for group in kept])
            if report is not None:
                report(made)
    whole = [
        {k: np.concatenate([part[k] for part in parts], axis=2) for k in parts[0]}
        for parts in zip(*windows, strict=True)
    ]
    return [Draws(*({k: v[i] for k, v in group.items()} for group in whole)) for i in range(len(data))]
