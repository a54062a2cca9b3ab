r"""The population of recipes of a study: what their posteriors, taken together, say about one more recipe.

Each parameter of a recipe is normally distributed over the recipes, on the logit or log scale of
`rlceiling.models.likeness`, with a centre and a spread of its own; in each group of parameters a recipe is like the
others with some probability, and otherwise has the mild prior:

.. math:: \theta_i \sim \prod_g \Bigl[ w_g \prod_{k \in g} N(u_{ik}; \mu_k, \tau_k^2)
          + (1 - w_g) \prod_{k \in g} p_k(u_{ik}) \Bigr]

The hyperparameters are sampled by NUTS from stored draws of each recipe's own posterior (second stage): the likelihood
of a recipe is the mean over its draws of the density above divided by the prior under which they were drawn.

References
----------
Lunn et al., "Fully Bayesian hierarchical modelling in two stages, with application to meta-analysis", JRSS C 2013,
doi 10.1111/rssc.12007. Robust mixture: Schmidli et al. 2014, doi 10.1111/biom.12242.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import distributions as dist
from numpyro.infer import MCMC, NUTS, init_to_value

from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.family import NUMPYRO_LOCK
from rlceiling.models.likeness import GROUPS, add_log_density

DRAWS = 250
"""Number of draws of each recipe in the second stage."""

SPREAD_SHARE, SPREAD_FACTOR = 0.25, 0.7
"""Prior of a spread over recipes: log-normal around this share of the standard deviation of the mild prior, with this
standard deviation of its logarithm. Recipes of real studies have .1 to .4 of it."""

LEAST_SPREAD = 0.05
"""Added in quadrature to every spread: recipes that begin at the same model may have equal starts, and a spread of 0
would make a start that was evaluated with another seed look like that of another study."""

LIKE_PRIOR = (9.0, 1.0)
"""Beta prior of the probability that a recipe is like the others."""

TUNE, KEPT = 400, 600
"""Numbers of warm-up steps and of kept draws of the hyperparameters."""


class RecipeDraws(NamedTuple):
    """Posterior draws of one recipe as the second stage uses them; S draws of K parameters."""

    coordinates: np.ndarray
    """Parameters on the logit or log scale, shape (S, K)."""
    mild: np.ndarray
    """Log density of the mild prior of each parameter on that scale, shape (S, K)."""
    drawn_from: np.ndarray
    """Log density of the prior under which the recipe was fitted, on that scale, shape (S,)."""


class Population(NamedTuple):
    """Draws of the hyperparameters."""

    names: tuple[str, ...]
    """Learned parameters."""
    centre: np.ndarray
    """Centre of each parameter, shape (draws, K)."""
    spread: np.ndarray
    """Spread of each parameter over recipes, shape (draws, K)."""
    like: dict[str, np.ndarray]
    """Probability that a recipe is like the others, for each group, shape (draws,)."""
    log_likelihood: np.ndarray
    """Log likelihood of each recipe, shape (draws, recipes)."""


def groups_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Places of the parameters of each group that has any."""
    found = {group: [i for i, name in enumerate(names) if name in own] for group, own in GROUPS.items()}
    return {group: places for group, places in found.items() if places}


def first_guess(recipes: Sequence[RecipeDraws], centre: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and spread of each parameter on its own, by expectation maximisation over the draws.

    Parameters
    ----------
    recipes : sequence of RecipeDraws
        The recipes.
    centre, scale : ndarray, shape (K,)
        Mean and standard deviation of the mild prior on the logit or log scale.

    Returns
    -------
    centre, spread : ndarray, shape (K,)
    """
    u, mild = np.stack([one.coordinates for one in recipes]), np.stack([one.mild for one in recipes])
    usual = SPREAD_SHARE * scale
    mu, tau = np.median(u.mean(axis=1), axis=0), np.maximum(u.mean(axis=1).std(axis=0), usual)
    like = LIKE_PRIOR[0] / sum(LIKE_PRIOR)
    for _ in range(100):
        log_like = np.log(like) - 0.5 * ((u - mu) / tau) ** 2 - np.log(tau) - 0.5 * np.log(2.0 * np.pi) - mild
        log_both = np.logaddexp(log_like, np.log1p(-like))
        weight = np.exp(log_both - log_both.max(axis=1, keepdims=True))
        weight *= np.exp(log_like - log_both) / weight.sum(axis=1, keepdims=True)
        number = weight.sum(axis=(0, 1))
        mu = ((weight * u).sum((0, 1)) / tau**2 + centre / scale**2) / (number / tau**2 + 1.0 / scale**2)
        tau = np.sqrt(((weight * (u - mu) ** 2).sum((0, 1)) + 2.0 * usual**2) / (number + 2.0))
    return mu, tau


def sample_population(
    recipes: Sequence[RecipeDraws], names: Sequence[str], centre: np.ndarray, scale: np.ndarray, seed: int = 0
) -> Population:
    """Sample the hyperparameters by NUTS.

    Parameters
    ----------
    recipes : sequence of RecipeDraws
        The recipes, each with the same number of draws.
    names : sequence of str
        Names of the K parameters.
    centre, scale : ndarray, shape (K,)
        Mean and standard deviation of the mild prior on the logit or log scale: the prior of a centre.
    seed : int, default 0
        Seed.
    """
    groups = groups_of(names)
    member = np.zeros((len(names), len(groups)))
    for column, places in enumerate(groups.values()):
        member[places, column] = 1.0
    u = np.stack([one.coordinates for one in recipes])
    # The exponents of all normal densities are one product of matrices, which is far faster than densities one by one.
    terms = np.concatenate([u**2, u, np.ones((*u.shape[:2], 1))], axis=-1)
    mild = np.stack([one.mild for one in recipes]) @ member
    drawn_from = np.stack([one.drawn_from for one in recipes])
    mu, tau = first_guess(recipes, centre, scale)
    start = {"centre": mu, "spread": tau, "like": np.full(len(groups), LIKE_PRIOR[0] / sum(LIKE_PRIOR))}
    with double_precision_on_cpu(), NUMPYRO_LOCK:
        kernel = NUTS(_model, dense_mass=True, max_tree_depth=7, init_strategy=init_to_value(values=start))
        chain = MCMC(kernel, num_warmup=TUNE, num_samples=KEPT, num_chains=1, progress_bar=False)
        chain.run(jax.random.key(seed), terms, mild, drawn_from, member, centre, scale)
        drawn = {name: np.asarray(values) for name, values in chain.get_samples().items()}
    like = {group: drawn["like"][:, column] for column, group in enumerate(groups)}
    return Population(tuple(names), drawn["centre"], drawn["spread_of_recipes"], like, drawn["log_likelihood"])


def _model(terms: Array, mild: Array, drawn_from: Array, member: Array, centre: Array, scale: Array) -> None:
    mu = numpyro.sample("centre", dist.Normal(centre, scale).to_event(1))
    own = numpyro.sample("spread", dist.LogNormal(jnp.log(SPREAD_SHARE * scale), SPREAD_FACTOR).to_event(1))
    tau = numpyro.deterministic("spread_of_recipes", jnp.hypot(own, LEAST_SPREAD))
    ones = jnp.ones(member.shape[1])
    like = numpyro.sample("like", dist.Beta(LIKE_PRIOR[0] * ones, LIKE_PRIOR[1] * ones).to_event(1))
    precision = (tau**-2)[:, None] * member
    constant = (-0.5 * mu**2 / tau**2 - jnp.log(tau) - 0.5 * jnp.log(2.0 * jnp.pi)) @ member
    learned = terms @ jnp.concatenate([-0.5 * precision, mu[:, None] * precision, constant[None]])
    density = jnp.logaddexp(jnp.log(like) + learned, jnp.log1p(-like) + mild).sum(-1) - drawn_from
    of_recipe = jax.nn.logsumexp(density, axis=1) - jnp.log(density.shape[1])
    numpyro.deterministic("log_likelihood", of_recipe)
    add_log_density("recipes", of_recipe.sum())


def predictive(population: Population, weight: np.ndarray | None = None) -> tuple[dict[str, Any], dict[str, float]]:
    """Distribution of one more recipe: a Student t distribution for each parameter, and probabilities of the groups.

    The t distribution has the mean, the variance and the kurtosis of the normals averaged over the hyperparameters.

    Parameters
    ----------
    population : Population
        Draws of the hyperparameters.
    weight : ndarray, shape (draws,), optional
        Weights of the draws, such as those that leave a recipe out. Default: equal.
    """
    number = len(population.centre)
    weight = np.full(number, 1.0 / number) if weight is None else weight / weight.sum()
    mean = weight @ population.centre
    off, var = (population.centre - mean) ** 2, population.spread**2
    second = weight @ (off + var)
    fourth = weight @ (off**2 + 6.0 * off * var + 3.0 * var**2)
    excess = np.maximum(fourth / second**2 - 3.0, 0.05)
    freedom = np.clip(4.0 + 6.0 / excess, 4.5, 100.0)  # a t distribution has the excess 6 / (df - 4)
    scale = np.sqrt(second * (freedom - 2.0) / freedom)
    learned = {
        name: dist.StudentT(float(freedom[i]), float(mean[i]), float(scale[i]))
        for i, name in enumerate(population.names)
    }
    return learned, {group: float(weight @ like) for group, like in population.like.items()}
