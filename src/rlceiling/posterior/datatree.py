"""The posterior of one recipe as the `xarray.DataTree` that ArviZ works on."""

from __future__ import annotations

from typing import Any

import arviz_base
import jax
import numpy as np
import xarray as xr
from numpyro import distributions as dist
from numpyro.infer import Predictive
from numpyro.infer.util import compute_log_probs

from rlceiling.inference.nuts import fit_key
from rlceiling.inference.recipes import PARAMETERS, RUN_PARAMETERS
from rlceiling.models.coordinates import VARIES
from rlceiling.models.paths import paths_at_evaluations
from rlceiling.models.recipe_data import RecipeData
from rlceiling.models.sigmoid import NUMPYRO_LOCK, sigmoid_model
from rlceiling.posterior.fit import Fit

PRIOR_SITES = {name: name for name in PARAMETERS if name != "A"} | {"C_mid": "C_mid_ratio"}
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
        Groups, with dimensions (chain, draw), ``run`` (coordinate: names of the runs) and ``evaluation`` (those of all
        runs, one run after the other; coordinates: compute, and ``run_of_evaluation``):

        - ``posterior``: A, B, C_mid, R0, headroom, sigma, share, length and the spreads between runs of the recipe;
          run_A, run_B and run_C_mid of its runs;
        - ``sample_stats``: diverging, energy, acceptance_rate, n_steps, step_size;
        - ``prior`` and ``prior_predictive``: as many draws as the posterior, of the recipe's parameters and of
          ``reward``;
        - ``posterior_predictive``: replicates of the runs, each with a noise path of its own;
        - ``log_likelihood``: log density of each evaluation given those before it in its run, so that the sum is the
          log likelihood of all; `loo` then leaves out one such factor at a time;
        - ``log_prior``: log density of each parameter under its prior, and ``runs``, that of the runs around the
          recipe, which is part of the model: name the others as ``prior_var_names`` of ArviZ's ``psense_summary``;
        - ``observed_data``: reward (bin averages where a run was binned);
        - ``constant_data``: n_eval where there was no binning.
    """
    recipe, priors = fit.recipe_data, fit.priors.distributions()
    lanes = np.argsort(recipe.order)[: len(fit.runs)]
    shape = fit.draws["A"].shape
    flat = {name: values.reshape(-1) for name, values in fit.scaled_draws.items()}
    flat_runs = {run: {k: v.reshape(-1) for k, v in fit.scaled_draws_of(run).items()} for run in fit.run_names}
    natural = {site: flat[name] for name, site in PRIOR_SITES.items()}
    natural["C_mid_ratio"] = flat["C_mid"] / np.exp(recipe.log_origin + recipe.x_prior)
    natural["offsets"] = _offsets(flat, flat_runs, len(recipe.order), lanes)
    with jax.enable_x64(True), NUMPYRO_LOCK:
        key = fit_key(fit.settings.seed, fit.name, *fit.run_names, "datatree")
        prior, replicated, log_prior = _predict(key, natural, recipe, priors)
        around = dist.Normal(0.0, np.stack([flat[f"{name}_spread"] for name in VARIES], axis=-1)[:, None])
        log_prior["runs"] = around.log_prob(natural["offsets"][:, lanes]).sum((1, 2))  # without the padding
    paths = [paths_at_evaluations(recipe, place, flat_runs[run]) for place, run in enumerate(fit.run_names)]
    data = [recipe.run(place) for place in range(len(fit.runs))]

    def chained(values: object) -> np.ndarray:
        array = np.asarray(values)
        return array.reshape(*shape, *array.shape[1:])

    def observed(values: object) -> np.ndarray:
        """Evaluations of all runs, one run after the other, of an array that ends in (lanes, padded length)."""
        array = np.asarray(values)
        return np.concatenate(
            [array[..., lane, :][..., run.observed] for lane, run in zip(lanes, data, strict=True)], axis=-1
        )

    rewards = {"posterior_predictive": replicated, "prior_predictive": prior["reward"]}
    kept = [int(run.observed.sum()) for run in data]
    groups = {
        "posterior": {**fit.draws, **{f"run_{name}": values for name, values in fit.run_draws.items()}},
        "sample_stats": fit.sample_stats,
        "prior": fit.units.unscale_draws({name: chained(prior[name]) for name in PARAMETERS}),
        **{group: {"reward": fit.units.unscale(chained(observed(values)))} for group, values in rewards.items()},
        "log_likelihood": {"reward": chained(np.concatenate([path.log_prob for path in paths], axis=-1))},
        "log_prior": {name: chained(log_prior[site]) for name, site in PRIOR_SITES.items()}
        | {"runs": chained(log_prior["runs"])},
        "observed_data": {"reward": fit.units.unscale(observed(recipe.runs.reward))},
    }
    if kept == [len(run.compute) for run in fit.runs]:
        groups["constant_data"] = {"n_eval": np.concatenate([run.n_eval for run in fit.runs])}
    tree = arviz_base.from_dict(
        groups,
        coords={"evaluation": np.exp(observed(recipe.runs.x) + recipe.log_origin), "run": fit.run_names},
        dims={"reward": ["evaluation"], "n_eval": ["evaluation"]} | {name: ["run"] for name in RUN_PARAMETERS},
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
    run_of = ("evaluation", np.repeat(fit.run_names, kept))
    for group in ("posterior_predictive", "prior_predictive", "log_likelihood", "observed_data", "constant_data"):
        if group in tree:
            tree[group].coords["run_of_evaluation"] = run_of
    return tree


@jax.jit
def _predict(
    key_data: jax.Array, natural: dict[str, jax.Array], recipe: RecipeData, priors: dict[str, Any]
) -> tuple[dict[str, jax.Array], jax.Array, dict[str, jax.Array]]:
    """As many draws of the prior and its replicates, replicates of the posterior, and its log prior densities."""
    prior_key, posterior_key = jax.random.split(jax.random.wrap_key_data(key_data, impl="threefry2x32"))
    prior = Predictive(sigmoid_model, num_samples=len(natural["R0"]), parallel=True)
    replicated = Predictive(sigmoid_model, natural, parallel=True)

    def log_priors(values: dict[str, Any]) -> dict[str, jax.Array]:
        return compute_log_probs(sigmoid_model, (recipe, priors), {}, values)[0]

    return (
        prior(prior_key, recipe, priors, predict=True),
        replicated(posterior_key, recipe, priors, predict=True)["reward"],
        jax.vmap(log_priors)(natural),
    )


def _offsets(
    flat: dict[str, np.ndarray], flat_runs: dict[str, dict[str, np.ndarray]], lanes: int, own: np.ndarray
) -> np.ndarray:
    """Runs minus recipe, shape (draws, lanes, 3); 0 for padding."""

    def coordinates(draws: dict[str, np.ndarray]) -> np.ndarray:
        logit_headroom = np.log(draws["A"] - draws["R0"]) - np.log1p(-draws["A"])
        return np.stack([logit_headroom, np.log(draws["C_mid"]), np.log(draws["B"])], axis=-1)

    offsets = np.zeros((len(flat["A"]), lanes, len(VARIES)))
    for lane, draws in zip(own, flat_runs.values(), strict=True):
        offsets[:, lane] = coordinates(draws) - coordinates(flat)
    return offsets
