r"""The population of recipes of a study, or of several studies: what their posteriors say about one more recipe.

Each parameter of a recipe is normally distributed over the recipes, on the logit or log scale of
`rlceiling.models.likeness`, with a centre and a spread of its own; in each group of parameters a recipe is like the
others with some probability, and otherwise has the mild prior:

.. math:: \theta_i \sim \prod_g \Bigl[ w_g \prod_{k \in g} N(u_{ik}; \mu_k, \tau_k^2)
          + (1 - w_g) \prod_{k \in g} p_k(u_{ik}) \Bigr]

Where there are several studies, each has its own centres and spreads, which have a distribution over studies, sampled
from the draws of each study in a third stage:

.. math:: \mu_{sk} \sim N(m_k, b_k^2), \qquad \ln \tau_{sk} \sim N(t_k, c_k^2)

The hyperparameters are sampled by NUTS from stored draws of each recipe's own posterior (second stage): the likelihood
of a recipe is the mean over its draws of the density above divided by the prior under which they were drawn.

References
----------
Lunn et al., "Fully Bayesian hierarchical modelling in two stages, with application to meta-analysis", JRSS C 2013,
doi 10.1111/rssc.12007. Robust mixture: Schmidli et al. 2014, doi 10.1111/biom.12242.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


BETWEEN_SHARE = 0.5
"""Prior of the standard deviation of a centre over studies: log-normal around this share of the standard deviation of
the mild prior, with `SPREAD_FACTOR`, since studies differ by more than the recipes of one of them."""

SPREADS_DIFFER = 0.4, 0.5
"""Prior of the standard deviation of the logarithm of a spread over studies: median, and standard deviation of its
logarithm."""

NEW_STUDIES = 20
"""Number of new studies that are drawn for each draw of the hyperparameters."""


class RecipeDraws(NamedTuple):
    """Posterior draws of one recipe as the second stage uses them; S draws of K parameters."""

    coordinates: np.ndarray
    """Parameters on the logit or log scale, shape (S, K)."""
    mild: np.ndarray
    """Log density of the mild prior of each parameter on that scale, shape (S, K)."""
    drawn_from: np.ndarray
    """Log density of the prior under which the recipe was fitted, on that scale, shape (S,)."""


class Hyperprior(NamedTuple):
    """Prior of the centre and of the spread over recipes of each of K parameters; arrays of shape (K,)."""

    centre: np.ndarray
    """Mean of the centre."""
    scale: np.ndarray
    """Standard deviation of the centre."""
    log_spread: np.ndarray
    """Mean of the logarithm of the spread."""
    log_spread_sd: np.ndarray
    """Standard deviation of the logarithm of the spread."""

    @classmethod
    def of_mild(cls, mean: np.ndarray, sd: np.ndarray) -> Hyperprior:
        """Hyperprior where nothing is known but means and standard deviations of the mild priors, shape (K,)."""
        return cls(mean, sd, np.log(SPREAD_SHARE * sd), np.full(len(sd), SPREAD_FACTOR))


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


def first_guess(recipes: Sequence[RecipeDraws], prior: Hyperprior) -> tuple[np.ndarray, np.ndarray]:
    """Centre and spread of each parameter on its own, by expectation maximisation over the draws.

    Parameters
    ----------
    recipes : sequence of RecipeDraws
        The recipes.
    prior : Hyperprior
        Prior of the centre and of the spread on the logit or log scale.

    Returns
    -------
    centre, spread : ndarray, shape (K,)
    """
    u, mild = np.stack([one.coordinates for one in recipes]), np.stack([one.mild for one in recipes])
    usual = np.exp(prior.log_spread)
    mu, tau = np.median(u.mean(axis=1), axis=0), np.maximum(u.mean(axis=1).std(axis=0), usual)
    like = LIKE_PRIOR[0] / sum(LIKE_PRIOR)
    for _ in range(100):
        log_like = np.log(like) - 0.5 * ((u - mu) / tau) ** 2 - np.log(tau) - 0.5 * np.log(2.0 * np.pi) - mild
        log_both = np.logaddexp(log_like, np.log1p(-like))
        weight = np.exp(log_both - log_both.max(axis=1, keepdims=True))
        weight *= np.exp(log_like - log_both) / weight.sum(axis=1, keepdims=True)
        number = weight.sum(axis=(0, 1))
        mu = ((weight * u).sum((0, 1)) / tau**2 + prior.centre / prior.scale**2) / (number / tau**2 + prior.scale**-2.0)
        tau = np.sqrt(((weight * (u - mu) ** 2).sum((0, 1)) + 2.0 * usual**2) / (number + 2.0))
    return mu, tau


def sample_population(
    recipes: Sequence[RecipeDraws], names: Sequence[str], prior: Hyperprior, seed: int = 0
) -> Population:
    """Sample the hyperparameters of one study by NUTS.

    Parameters
    ----------
    recipes : sequence of RecipeDraws
        The recipes, each with the same number of draws.
    names : sequence of str
        Names of the K parameters.
    prior : Hyperprior
        Prior of the hyperparameters.
    seed : int, default 0
        Seed.
    """
    groups = groups_of(names)
    mu, tau = first_guess(recipes, prior)
    start = {"centre": mu, "spread": tau, "like": _usually_like(groups)}
    member = _members(names, groups)
    drawn = _run(_model, start, seed, _terms(recipes, member), member, prior)
    like = {group: drawn["like"][:, column] for column, group in enumerate(groups)}
    return Population(tuple(names), drawn["centre"], drawn["spread_of_recipes"], like, drawn["log_likelihood"])


def sample_new_study(studies: Sequence[Population], prior: Hyperprior, seed: int = 0) -> Population:
    """Sample the hyperparameters of one more study by NUTS, from those of several.

    The draws of each study are used as those of a recipe are for its study, parameter by parameter: with 5 studies and
    a dozen parameters, their correlations within a study say little about one more study.

    Parameters
    ----------
    studies : sequence of Population
        Draws of the same parameters in each study, from `sample_population`.
    prior : Hyperprior
        Prior under which these were drawn, here that of the mean over studies and of the usual spread.
    seed : int, default 0
        Seed.

    Returns
    -------
    Population
        Draws for one more study, `NEW_STUDIES` for each draw of what is common to the studies. Probabilities of being
        like the others are those of the studies, in turn.
    """
    names = studies[0].names
    centre = np.stack([one.centre for one in studies])
    log_own = 0.5 * np.log(np.maximum(np.stack([one.spread for one in studies]) ** 2 - LEAST_SPREAD**2, 1e-12))
    drawn_from = _log_normal(centre, prior.centre, prior.scale) + _log_normal(
        log_own, prior.log_spread, prior.log_spread_sd
    )
    usual = np.median(centre, axis=1)
    start = {
        "mean": usual.mean(axis=0),
        "between": np.maximum(usual.std(axis=0), BETWEEN_SHARE * prior.scale),
        "log_spread": log_own.mean(axis=(0, 1)),
        "spreads_differ": np.full(len(names), SPREADS_DIFFER[0]),
    }
    drawn = _run(_model_of_studies, start, seed, centre, log_own, drawn_from, prior)
    again = {name: np.repeat(values, NEW_STUDIES, axis=0) for name, values in drawn.items()}
    normal = np.random.default_rng(seed).standard_normal((2, *again["mean"].shape))
    own = np.exp(again["log_spread"] + again["spreads_differ"] * normal[1])
    number = len(own)
    like = {
        group: np.resize(np.stack([one.like[group] for one in studies], axis=-1), number) for group in studies[0].like
    }
    return Population(
        names,
        again["mean"] + again["between"] * normal[0],
        np.hypot(own, LEAST_SPREAD),
        like,
        again["log_likelihood"],
    )


def _log_normal(value: Any, mean: Any, sd: Any, xp: Any = np) -> Any:
    return -0.5 * ((value - mean) / sd) ** 2 - xp.log(sd) - 0.5 * np.log(2.0 * np.pi)


def _usually_like(groups: Mapping[str, Any]) -> np.ndarray:
    return np.full(len(groups), LIKE_PRIOR[0] / sum(LIKE_PRIOR))


def _members(names: Sequence[str], groups: Mapping[str, list[int]]) -> np.ndarray:
    """1 where a parameter belongs to a group, shape (K, groups)."""
    member = np.zeros((len(names), len(groups)))
    for column, places in enumerate(groups.values()):
        member[places, column] = 1.0
    return member


class _Terms(NamedTuple):
    """What the density of recipes needs of their draws."""

    powers: np.ndarray
    """Squares of the coordinates, the coordinates, and 1: exponents of normal densities are one product of matrices
    with them, which is far faster than densities one by one."""
    mild: np.ndarray
    """Log density of the mild prior of each group."""
    drawn_from: np.ndarray
    """Log density of the prior under which the recipe was fitted."""


def _terms(recipes: Sequence[RecipeDraws], member: np.ndarray) -> _Terms:
    u = np.stack([one.coordinates for one in recipes])
    powers = np.concatenate([u**2, u, np.ones((*u.shape[:2], 1))], axis=-1)
    mild = np.stack([one.mild for one in recipes]) @ member
    return _Terms(powers, mild, np.stack([one.drawn_from for one in recipes]))


def _run(model: Callable[..., None], start: Mapping[str, np.ndarray], seed: int, *given: Any) -> dict[str, np.ndarray]:
    """Draws of the sites of a NumPyro model by NUTS."""
    with double_precision_on_cpu(), NUMPYRO_LOCK:
        kernel = NUTS(model, dense_mass=True, max_tree_depth=7, init_strategy=init_to_value(values=dict(start)))
        chain = MCMC(kernel, num_warmup=TUNE, num_samples=KEPT, num_chains=1, progress_bar=False)
        chain.run(jax.random.key(seed), *given)
        return {name: np.asarray(values) for name, values in chain.get_samples().items()}


def _model(terms: _Terms, member: Array, prior: Hyperprior) -> None:
    mu = numpyro.sample("centre", dist.Normal(prior.centre, prior.scale).to_event(1))
    own = numpyro.sample("spread", dist.LogNormal(prior.log_spread, prior.log_spread_sd).to_event(1))
    tau = numpyro.deterministic("spread_of_recipes", jnp.hypot(own, LEAST_SPREAD))
    of_recipe = _log_likelihood(terms, member, mu, tau, _like(member))
    numpyro.deterministic("log_likelihood", of_recipe)
    add_log_density("recipes", of_recipe.sum())


def _model_of_studies(centre: Array, log_own: Array, drawn_from: Array, prior: Hyperprior) -> None:
    """Draws of the centres and of the logarithms of the spreads have shape (studies, draws, K)."""
    mean = numpyro.sample("mean", dist.Normal(prior.centre, prior.scale).to_event(1))
    usual = jnp.log(BETWEEN_SHARE * prior.scale)
    between = numpyro.sample("between", dist.LogNormal(usual, SPREAD_FACTOR).to_event(1))
    log_spread = numpyro.sample("log_spread", dist.Normal(prior.log_spread, prior.log_spread_sd).to_event(1))
    middle, factor = SPREADS_DIFFER
    differ = numpyro.sample("spreads_differ", dist.LogNormal(jnp.full(len(mean), jnp.log(middle)), factor).to_event(1))
    density = _log_normal(centre, mean, between, jnp) + _log_normal(log_own, log_spread, differ, jnp) - drawn_from
    of_study = (jax.nn.logsumexp(density, axis=1) - jnp.log(density.shape[1])).sum(axis=-1)
    numpyro.deterministic("log_likelihood", of_study)
    add_log_density("studies", of_study.sum())


def _like(member: Array) -> Array:
    ones = jnp.ones(member.shape[1])
    return numpyro.sample("like", dist.Beta(LIKE_PRIOR[0] * ones, LIKE_PRIOR[1] * ones).to_event(1))


def _log_likelihood(terms: _Terms, member: Array, mu: Array, tau: Array, like: Array) -> Array:
    """Log likelihood of each recipe, shape (recipes,)."""
    precision = (tau**-2)[:, None] * member
    constant = (-0.5 * mu**2 / tau**2 - jnp.log(tau) - 0.5 * jnp.log(2.0 * jnp.pi)) @ member
    learned = terms.powers @ jnp.concatenate([-0.5 * precision, mu[:, None] * precision, constant[None]])
    density = jnp.logaddexp(jnp.log(like) + learned, jnp.log1p(-like) + terms.mild).sum(-1) - terms.drawn_from
    return jax.nn.logsumexp(density, axis=1) - jnp.log(density.shape[1])


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
