"""Draws and densities that ArviZ asks for beside a posterior: prior, replicates, and log prior densities."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.infer import Predictive
from numpyro.infer.util import compute_log_probs

from rlceiling.models.family import NUMPYRO_LOCK, Family


class Predicted(NamedTuple):
    """As many draws as the posterior has: every array has a first axis of draws."""

    prior: dict[str, Any]
    """Sites of the model drawn from the prior, ``reward`` (draws, lanes, n) among them."""
    reward: Any
    """Replicated rewards of the posterior, shape (draws, lanes, n), each with a noise path of its own."""
    log_prob: dict[str, Any]
    """Log density of every site."""


def predict(key_data: np.ndarray, family: Family, sites: dict[str, Any], data: Any, priors: Any) -> Predicted:
    """Draw from the prior and replicate the posterior.

    Parameters
    ----------
    key_data : ndarray
        From `rlceiling.inference.stream_keys.stream_key`.
    family : Family
        The model.
    sites : dict of str to array
        Sites of the posterior draws, from `Family.sites_of_draws`.
    data : pytree
        From `Family.prepare`.
    priors : Distributions
        From `Priors.distributions`.
    """
    with jax.enable_x64(True), NUMPYRO_LOCK:
        return jax.tree.map(np.asarray, _predict(key_data, sites, data, priors, family=family))


@partial(jax.jit, static_argnames=("family",))
def _predict(key_data: jax.Array, sites: dict[str, jax.Array], data: Any, priors: Any, *, family: Family) -> Any:
    prior_key, posterior_key = jax.random.split(jax.random.wrap_key_data(key_data, impl="threefry2x32"))
    number = len(next(iter(sites.values())))
    prior = Predictive(family.model, num_samples=number, parallel=True)
    replicated = Predictive(family.model, sites, parallel=True)

    def log_probs(values: dict[str, Any]) -> dict[str, jax.Array]:
        return compute_log_probs(family.model, (data, priors), {}, values)[0]

    return Predicted(
        prior(prior_key, data, priors, predict=True),
        replicated(posterior_key, data, priors, predict=True)["reward"],
        jax.vmap(log_probs)(sites),
    )
