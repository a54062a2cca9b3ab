"""The sigmoid model of one run as users write it in NumPyro and in PyMC: natural coordinates, dense covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from rlceiling.models.recipe_data import RecipeData

NAMES = ("R0", "headroom", "B", "C_mid_ratio", "sigma", "share", "length", "spread")
"""What is diagnosed, the three spreads under one name."""

SPREADS = np.array([0.1, 0.2, 0.1])
"""Scales of the spreads between runs of headroom, ln C_mid and ln B."""


def arrays(recipe: RecipeData) -> dict[str, np.ndarray]:
    """Data of the one run of a recipe, padded; padding is away from the likelihood."""
    run = recipe.run(0)
    seen = run.observed.astype(float)
    return {
        "x": run.clock - recipe.x_prior,
        "reward": run.reward,
        "seen": seen,
        "floor": run.eval_var,
        "start": np.asarray(recipe.start.reward),
        "start_sd": np.sqrt(recipe.start.var),
    }


def numpyro_model(x: Array, reward: Array, seen: Array, floor: Array, start: Array, start_sd: Array) -> None:
    R0 = numpyro.sample("R0", dist.TruncatedNormal(start, start_sd, low=0.0, high=1.0))
    headroom = numpyro.sample("headroom", dist.Beta(1.5, 1.5))
    B = numpyro.sample("B", dist.LogNormal(math.log(1.7), 0.6))
    ratio = numpyro.sample("C_mid_ratio", dist.LogNormal(0.0, 2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.02))
    share = numpyro.sample("share", dist.Beta(2.0, 1.0))
    length = numpyro.sample("length", dist.LogNormal(math.log(0.5), 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(SPREADS).to_event(1))
    offset = spread * numpyro.sample("offset", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    logit = jnp.log(headroom) - jnp.log1p(-headroom) + offset[0]
    rise = B * jnp.exp(offset[2]) * (x - jnp.log(ratio) - offset[1])
    curve = R0 + (1.0 - R0) / (1.0 + jnp.exp(-logit)) / (1.0 + jnp.exp(-rise))
    both = seen[:, None] * seen
    covariance = both * share * sigma**2 * jnp.exp(-jnp.abs(x[:, None] - x) / length)
    covariance = covariance + jnp.diag(jnp.where(seen > 0, (1.0 - share) * sigma**2 + floor, 1.0))
    at = jnp.where(seen > 0, curve, reward)
    numpyro.sample("y", dist.MultivariateNormal(at, covariance_matrix=covariance), obs=reward)


def pymc_model(data: Mapping[str, np.ndarray]) -> Any:
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        x, reward, seen, floor, start, start_sd = (pm.Data(name, value) for name, value in data.items())
        R0 = pm.TruncatedNormal("R0", start, start_sd, lower=0.0, upper=1.0)
        headroom = pm.Beta("headroom", 1.5, 1.5)
        B = pm.LogNormal("B", math.log(1.7), 0.6)
        ratio = pm.LogNormal("C_mid_ratio", 0.0, 2.0)
        sigma = pm.HalfNormal("sigma", 0.02)
        share = pm.Beta("share", 2.0, 1.0)
        length = pm.LogNormal("length", math.log(0.5), 1.0)
        spread = pm.HalfNormal("spread", SPREADS, shape=3)
        offset = spread * pm.Normal("offset", 0.0, 1.0, shape=3)
        logit = pt.log(headroom) - pt.log1p(-headroom) + offset[0]
        rise = B * pt.exp(offset[2]) * (x - pt.log(ratio) - offset[1])
        curve = R0 + (1.0 - R0) * pt.sigmoid(logit) * pt.sigmoid(rise)
        both = seen[:, None] * seen
        covariance = both * share * sigma**2 * pt.exp(-pt.abs(x[:, None] - x) / length)
        covariance = covariance + pt.diag(pt.switch(seen > 0, (1.0 - share) * sigma**2 + floor, 1.0))
        pm.MvNormal("y", pt.switch(seen > 0, curve, reward), cov=covariance, observed=reward)
    return model
