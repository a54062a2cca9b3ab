"""NumPyro model of runs of models of several sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist
from numpyro.infer.util import log_density

from rlceiling.models.noise import OUWhiteNoise
from rlceiling.models.sigmoid import NUMPYRO_LOCK
from rlceiling.models.size_coordinates import SizeCentre, to_natural
from rlceiling.models.size_data import SizeData
from rlceiling.models.size_laws import SizeLaw


def size_model(data: SizeData, priors: Mapping[str, Any], law: SizeLaw, *, predict: bool = False) -> None:
    """NumPyro model of runs of several sizes; the laws are in `PowerLawPriors` and `CeilingLawPriors`.

    Parameters
    ----------
    data : SizeData
        The runs.
    priors : mapping of name to distribution
        From `Priors.distributions`.
    law : SizeLaw
        The family.
    predict : bool, default False
        Draw the rewards instead of conditioning on them.
    """
    values = {name: numpyro.sample(name, priors[name]) for name in law.sampled}
    standard = numpyro.sample("standard", dist.Normal(jnp.zeros((len(law.columns), len(data.t))), 1.0).to_event(2))
    columns = columns_of_sizes(standard, values, data, priors, law)
    for name, column in zip(law.columns, columns, strict=True):
        numpyro.deterministic(f"of_size_{name.name}", column)
    *of_lane, ln_sigma_of_lane = (column[data.size_of] for column in columns)
    curve = law.curve(data.runs.x, *(column[:, None] for column in of_lane))
    variance = jnp.exp(2.0 * ln_sigma_of_lane)
    white = ((1.0 - values["share"]) * variance)[:, None] / data.runs.count + data.runs.eval_var
    if law.start is not None:
        logged = jnp.isfinite(data.start_sd)
        around = dist.Normal(law.start(*columns), jnp.where(logged, data.start_sd, 1.0)).mask(logged)
        numpyro.sample("start", around.to_event(1), obs=None if predict else data.start)
    noise = OUWhiteNoise(curve, data.runs.x, data.runs.observed, values["share"] * variance, values["length"], white)
    numpyro.sample("reward", noise, obs=None if predict else data.runs.reward)


def columns_of_sizes(
    standard: Array, values: Mapping[str, Any], data: SizeData, priors: Mapping[str, Any], law: SizeLaw
) -> list[Array]:
    """Numbers of every size from standard normals, a column each."""
    span = data.t[0], data.t[-1]
    s, t = data.t[:, None], data.t
    out = []
    for column, own in zip(law.columns, standard, strict=True):
        root = jnp.linalg.cholesky(law.covariance(column, values[column.spread], priors, s, t))
        out.append(law.mean(column, values, priors, data.t, span) + root @ own)
    return out


def log_posterior(z: Array, data: SizeData, centre: SizeCentre, priors: Mapping[str, Any], law: SizeLaw) -> Array:
    """Unnormalised log posterior density of the sampling coordinates."""
    values, standard, log_det = to_natural(z, data, centre, priors, law)
    with NUMPYRO_LOCK:
        density, _ = log_density(size_model, (data, priors, law), {}, {**values, "standard": standard})
    return density + log_det
