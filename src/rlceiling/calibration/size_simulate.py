"""Simulated runs of several sizes, generated without the likelihood code: the noise is one dense normal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from rlceiling.errors import DataError
from rlceiling.fitting.fit_sizes import check_law
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.run_data import RESOLUTION
from rlceiling.models.size_laws import LAWS
from rlceiling.models.size_priors import SizePriors

SPARE = 4
"""Number of sets drawn per requested set; sets with a reward outside [0, 1] are rejected."""


def simulate_sizes(
    number: int,
    sizes: Sequence[float],
    resource: np.ndarray,
    law: str = "power law",
    priors: SizePriors | None = None,
    seed: int = 0,
) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Simulate sets of runs, one run per size, from the priors of a law, for simulation-based calibration.

    Sets with a reward outside [0, 1] are rejected. The rejection depends only on the data, so it does not change the
    posterior of the remaining sets, and the ranks of the true values stay uniform.

    Parameters
    ----------
    number : int
        Number of sets.
    sizes : sequence of float
        Model sizes, ascending.
    resource : ndarray, shape (n,)
        Resource of the evaluations, positive, ascending; the same for all sizes.
    law : {"power law", "ceiling"}, default "power law"
        Law across sizes.
    priors : PowerLawPriors or CeilingLawPriors, optional
        Default: the default priors of the law.
    seed : int, default 0
        Seed of the random numbers; the same seed gives the same sets.

    Returns
    -------
    list of (DataFrame, dict)
        Tables with the columns ``size``, ``resource`` and ``reward``, and the true values: every parameter of the law,
        and every size-level parameter as an array of shape (sizes,).

    Raises
    ------
    DataError
        If too few sets drawn from the priors have all rewards between 0 and 1.
    """
    priors = check_law(law, priors)
    size_law, distributions = LAWS[law], priors.distributions()
    pooling = size_law.pooling
    tries = SPARE * number
    with double_precision_on_cpu():
        keys = {
            name: jax.random.wrap_key_data(jnp.asarray(stream_key(seed, "simulate", name)), impl="threefry2x32")
            for name in pooling.sampled
        }
        drawn = {n: np.asarray(distributions[n].sample(keys[n], (tries,))) for n in pooling.sampled}
    rng = np.random.default_rng(seed)
    t = np.log(np.asarray(sizes, dtype=float))
    t -= t.mean()
    x = np.log(resource) - np.log(resource).mean()
    out: list[tuple[pd.DataFrame, dict[str, Any]]] = []
    for i in range(tries):
        truth: dict[str, Any] = {name: float(values[i]) for name, values in drawn.items()}
        columns = {}
        for parameter in pooling.parameters:
            covariance = np.asarray(
                pooling.covariance(parameter, truth[parameter.spread], distributions, t[:, None], t), dtype=float
            )
            mean = np.asarray(pooling.mean(parameter, truth, distributions, t, (t[0], t[-1])), dtype=float)
            columns[parameter.name] = rng.multivariate_normal(mean, covariance, method="cholesky")
        rewards = _rewards(x, columns, truth, size_law.curve.value, rng)
        if rewards.min() < 0.0 or rewards.max() > 1.0:
            continue
        table = pd.DataFrame(
            {
                "size": np.repeat(np.asarray(sizes, dtype=float), len(x)),
                "resource": np.tile(resource, len(t)),
                "reward": rewards.ravel(),
            }
        )
        out.append((table, {**truth, **columns}))
        if len(out) == number:
            return out
    raise DataError(f"only {len(out)} of {tries} sets drawn from the priors stay between 0 and 1; give other priors.")


def _rewards(
    x: np.ndarray, columns: Mapping[str, np.ndarray], truth: Mapping[str, float], curve: Any, rng: np.random.Generator
) -> np.ndarray:
    """Simulate the rewards of every size, shape (sizes, n)."""
    *own, ln_sigma = columns.values()
    rows = []
    for *numbers, log_sd in zip(*own, ln_sigma, strict=True):
        variance, share = np.exp(2.0 * log_sd), truth["share"]
        covariance = share * variance * np.exp(-np.abs(x[:, None] - x) / truth["length"])
        covariance += np.eye(len(x)) * ((1.0 - share) * variance + RESOLUTION**2)
        rows.append(curve(x[:, None], *numbers) + np.linalg.cholesky(covariance) @ rng.standard_normal(len(x)))
    return np.array(rows)
