"""NumPyro model of runs of several model sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist

from rlceiling.models.noise import OUWhiteNoise
from rlceiling.models.size_data import SizeData
from rlceiling.models.size_laws import SizeLaw


def size_model(data: SizeData, priors: Mapping[str, Any], law: SizeLaw, *, predict: bool = False) -> None:
    """NumPyro model of runs of several model sizes; `PowerLawPriors` and `CeilingLawPriors` document the laws.

    Parameters
    ----------
    data : SizeData
        The runs.
    priors : mapping of name to distribution
        From `Priors.distributions`.
    law : SizeLaw
        The law across sizes.
    predict : bool, default False
        Draw the rewards instead of conditioning on them (prior and posterior predictive).
    """
    values = {name: numpyro.sample(name, priors[name]) for name in law.pooling.sampled}
    shape = len(law.pooling.parameters), len(data.t)
    standard = numpyro.sample("standard", dist.Normal(jnp.zeros(shape), 1.0).to_event(2))
    columns = size_parameters(standard, values, data, priors, law)
    for parameter, column in zip(law.pooling.parameters, columns, strict=True):
        numpyro.deterministic(f"of_size_{parameter.name}", column)
    *of_lane, ln_sigma_of_lane = (column[data.size_of] for column in columns)
    curve = law.curve.value(data.runs.inputs, *(column[:, None] for column in of_lane))
    variance = jnp.exp(2.0 * ln_sigma_of_lane)
    white = ((1.0 - values["share"]) * variance)[:, None] / data.runs.count + data.runs.eval_var
    if law.curve.start is not None:
        logged = jnp.isfinite(data.start_sd)
        around = dist.Normal(law.curve.start(*columns), jnp.where(logged, data.start_sd, 1.0)).mask(logged)
        numpyro.sample("start", around.to_event(1), obs=None if predict else data.start)
    noise = OUWhiteNoise(
        curve, data.runs.clock, data.runs.observed, values["share"] * variance, values["length"], white
    )
    numpyro.sample("reward", noise, obs=None if predict else data.runs.reward)


def size_parameters(
    standard: Array, values: Mapping[str, Any], data: SizeData, priors: Mapping[str, Any], law: SizeLaw
) -> list[Array]:
    """Size-level parameters from standard normal numbers: one array of shape (sizes,) per parameter."""
    span = data.t[0], data.t[-1]
    s, t = data.t[:, None], data.t
    out = []
    for parameter, own in zip(law.pooling.parameters, standard, strict=True):
        root = jnp.linalg.cholesky(law.pooling.covariance(parameter, values[parameter.spread], priors, s, t))
        out.append(law.pooling.mean(parameter, values, priors, data.t, span) + root @ own)
    return out


def standard_normals(
    own: Mapping[str, Array], values: Mapping[str, Any], data: SizeData, priors: Mapping[str, Any], law: SizeLaw
) -> Array:
    """Inverse of `size_parameters`: standard normal numbers of shape (parameters, sizes)."""
    span = data.t[0], data.t[-1]
    s, t = data.t[:, None], data.t
    out = []
    for parameter in law.pooling.parameters:
        root = jnp.linalg.cholesky(law.pooling.covariance(parameter, values[parameter.spread], priors, s, t))
        off = own[parameter.name] - law.pooling.mean(parameter, values, priors, data.t, span)
        out.append(jnp.linalg.solve(root, off))
    return jnp.stack(out)
