"""Draws and densities that ArviZ uses in addition to a posterior: prior draws, replicates, and log densities."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from numpyro.infer import Predictive
from numpyro.infer.util import compute_log_probs

from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.family import NUMPYRO_LOCK, Family


class Predicted(NamedTuple):
    """Prior draws, replicates and log densities, one per posterior draw; every array has a leading axis of draws."""

    prior: dict[str, Any]
    """Sites of the model drawn from the prior, including ``reward``, shape (draws, lanes, n)."""
    reward: Any
    """Posterior predictive replicates of the rewards, shape (draws, lanes, n), each with its own noise path."""
    log_prob: dict[str, Any]
    """Log density of every site."""


def predict(key_data: np.ndarray, family: Family, sites: dict[str, Any], data: Any, priors: Any) -> Predicted:
    """Draw from the prior and from the posterior predictive distribution.

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
    with double_precision_on_cpu(), NUMPYRO_LOCK:
        return jax.tree.map(np.asarray, _predict(key_data, sites, data, priors, family=family))


# It runs once for each posterior and for a fraction of a second, while to optimise it would take XLA several seconds.
@partial(jax.jit, static_argnames=("family",), compiler_options={"xla_backend_optimization_level": 0})
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
