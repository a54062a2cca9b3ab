"""One fit as the `xarray.DataTree` that ArviZ works on."""

from __future__ import annotations

from typing import Any

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpyro.infer import Predictive
from numpyro.infer.util import compute_log_probs

from rlceiling.inference.nuts import PARAMETERS, fit_key
from rlceiling.models.paths import paths_at_evaluations
from rlceiling.models.sigmoid import NUMPYRO_LOCK, sigmoid_model
from rlceiling.posterior.fit import Fit

PRIOR_SITES = {"R0": "R0", "headroom": "headroom", "B": "B", "C_mid": "C_mid_ratio"} | {
    name: name for name in ("sigma", "share", "length")
}
"""Parameters with a prior of their own, and the sites of the NumPyro model they are."""


def to_datatree(fit: Fit) -> xr.DataTree:
    """Everything ArviZ asks for about one fit, in the user's units.

    Parameters
    ----------
    fit : Fit
        The fit.

    Returns
    -------
    DataTree
        Groups, with dimensions (chain, draw) and ``evaluation`` (coordinate: compute):

        - ``posterior``: A, B, C_mid, R0, headroom, sigma, share, length;
        - ``sample_stats``: diverging, energy, acceptance_rate, n_steps, step_size;
        - ``prior`` and ``prior_predictive``: as many draws as the posterior, of the parameters and of ``reward``;
        - ``posterior_predictive``: replicated runs, each with a noise path of its own;
        - ``log_likelihood``: log density of each evaluation given those before it, so that the sum is the log
          likelihood of the run; `loo` then leaves out one such factor at a time;
        - ``log_prior``: log density of each parameter under its prior;
        - ``observed_data``: reward (bin averages where the run was binned);
        - ``constant_data``: n_eval where there was no binning.
    """
    run, n = fit.run_data, int(np.sum(fit.run_data.observed))
    priors = fit.priors.distributions()
    shape = fit.draws["A"].shape
    flat = {name: values.reshape(-1) for name, values in fit.scaled_draws.items()}
    with jax.enable_x64(True), NUMPYRO_LOCK:
        key = fit_key(fit.settings.seed, fit.evaluations.recipe, fit.evaluations.run, "datatree")
        prior_key, posterior_key = jax.random.split(jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32"))
        prior = Predictive(sigmoid_model, num_samples=flat["A"].size)(prior_key, run, priors, predict=True)
        ratio = flat["C_mid"] / np.exp(run.log_origin + run.x_prior)
        natural = {site: ratio if site == "C_mid_ratio" else flat[name] for name, site in PRIOR_SITES.items()}
        replicated = Predictive(sigmoid_model, natural)(posterior_key, run, priors, predict=True)

        def log_priors(values: dict[str, Any]) -> dict[str, jax.Array]:
            return compute_log_probs(sigmoid_model, (run, priors), {}, values)[0]

        log_prior = jax.vmap(log_priors)(natural)
    paths = paths_at_evaluations(run, flat)

    def chained(values: object) -> np.ndarray:
        array = np.asarray(values)
        return array.reshape(*shape, *array.shape[1:])

    user = {"A": fit.units.unscale, "R0": fit.units.unscale, "sigma": lambda v: v * fit.units.width}
    rewards = {"posterior_predictive": replicated["reward"], "prior_predictive": prior["reward"]}
    evaluations = fit.evaluations
    groups = {
        "posterior": fit.draws,
        "sample_stats": fit.sample_stats,
        "prior": {name: user.get(name, lambda v: v)(chained(prior[name])) for name in PARAMETERS},
        **{group: {"reward": fit.units.unscale(chained(values)[..., :n])} for group, values in rewards.items()},
        "log_likelihood": {"reward": chained(paths.log_prob)},
        "log_prior": {name: chained(log_prior[site]) for name, site in PRIOR_SITES.items()},
        "observed_data": {"reward": fit.units.unscale(run.reward[:n])},
    }
    if n == len(evaluations.compute):
        groups["constant_data"] = {"n_eval": evaluations.n_eval}
    return arviz_base.from_dict(
        groups,
        coords={"evaluation": np.exp(run.x[:n] + run.log_origin)},
        dims={"reward": ["evaluation"], "n_eval": ["evaluation"]},
        attrs={
            "/": {
                "name": fit.name,
                "compute": fit.units.compute,
                "reward": fit.units.reward,
                "inference_library": "numpyro",
                "inference_library_version": fit.settings.versions["numpyro"],
            }
        },
    )
