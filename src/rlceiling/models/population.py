r"""The population of recipes of a study, or of several studies, and the distribution of one more recipe.

Each parameter of a recipe is normally distributed over the recipes, on the logit or log scale of
`rlceiling.models.likeness`, with a centre and a spread of its own; in each group of parameters a recipe is like the
others with some probability, and otherwise has the mild prior:

.. math:: \theta_i \sim \prod_g \Bigl[ w_g \prod_{k \in g} N(u_{ik}; \mu_k, \tau_k^2)
          + (1 - w_g) \prod_{k \in g} p_k(u_{ik}) \Bigr]

Where there are several studies, each has its own centres and spreads, which have a distribution over studies, sampled
from the draws of each study in a third stage:

.. math:: \mu_{sk} \sim N(m_k, b_k^2), \qquad \ln \tau_{sk} \sim N(t_k, c_k^2)

The hyperparameters of one study are sampled together with the parameters of its recipes (see
`rlceiling.fitting.sample_population`); those of several studies from draws of these.

References
----------
Third stage from draws: Lunn et al., "Fully Bayesian hierarchical modelling in two stages, with application to
meta-analysis", JRSS C 2013, doi 10.1111/rssc.12007. Robust mixture: Schmidli et al. 2014, doi 10.1111/biom.12242.
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
from scipy.special import expit

from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.family import NUMPYRO_LOCK
from rlceiling.models.likeness import GROUPS, add_log_density

SPREAD_SHARE, SPREAD_FACTOR = 0.25, 0.7
"""Prior of a spread over recipes: log-normal around this share of the standard deviation of the mild prior, with this
standard deviation of its logarithm. Recipes of real studies have .1 to .4 of it."""

LEAST_SPREAD = 0.05
"""Added in quadrature to every spread: recipes that begin at the same model may have equal starts, and a spread of 0
would make a start that was evaluated with another seed look like that of another study."""

LIKE_PRIOR = (9.0, 1.0)
"""Beta prior of the probability that a recipe is like the others."""

TUNE, KEPT = 400, 600
"""Numbers of warm-up steps and of kept draws of what is common to several studies."""


BETWEEN_SHARE = 0.5
"""Prior of the standard deviation of a centre over studies: log-normal around this share of the standard deviation of
the mild prior, with `SPREAD_FACTOR`, since studies differ by more than the recipes of one of them."""

SPREADS_DIFFER = 0.4, 0.5
"""Prior of the standard deviation of the logarithm of a spread over studies: median, and standard deviation of its
logarithm."""

NEW_STUDIES = 20
"""Number of new studies that are drawn for each draw of the hyperparameters."""


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

    def thinned(self, number: int) -> Population:
        """Evenly spaced draws."""
        at = np.linspace(0, len(self.centre) - 1, number).astype(int)
        return Population(self.names, self.centre[at], self.spread[at], {k: v[at] for k, v in self.like.items()})


def groups_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Places of the parameters of each group that has any."""
    found = {group: [i for i, name in enumerate(names) if name in own] for group, own in GROUPS.items()}
    return {group: places for group, places in found.items() if places}


def first_guess(
    u: np.ndarray, prior: Hyperprior, mild_mean: np.ndarray, mild_sd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and spread of each parameter on its own, by expectation maximisation over draws of each recipe alone.

    Parameters
    ----------
    u : ndarray, shape (recipes, draws, K)
        Draws under the mild priors, on the logit or log scale.
    prior : Hyperprior
        Prior of the centre and of the spread.
    mild_mean, mild_sd : ndarray, shape (K,)
        Normal approximation of the mild priors.

    Returns
    -------
    centre, spread : ndarray, shape (K,)
    """
    usual, mild = np.exp(prior.log_spread), _log_normal(u, mild_mean, mild_sd)
    mu, tau = np.median(u.mean(axis=1), axis=0), np.maximum(u.mean(axis=1).std(axis=0), usual)
    like = LIKE_PRIOR[0] / sum(LIKE_PRIOR)
    for _ in range(100):
        log_like = np.log(like) + _log_normal(u, mu, tau) - mild
        log_both = np.logaddexp(log_like, np.log1p(-like))
        weight = np.exp(log_both - log_both.max(axis=1, keepdims=True))
        weight *= np.exp(log_like - log_both) / weight.sum(axis=1, keepdims=True)
        number = weight.sum(axis=(0, 1))
        mu = ((weight * u).sum((0, 1)) / tau**2 + prior.centre / prior.scale**2) / (number / tau**2 + prior.scale**-2.0)
        tau = np.sqrt(((weight * (u - mu) ** 2).sum((0, 1)) + 2.0 * usual**2) / (number + 2.0))
    return mu, tau


def usual_likeness(
    names: Sequence[str],
    u: np.ndarray,
    centre: np.ndarray,
    spread: np.ndarray,
    mild_mean: np.ndarray,
    mild_sd: np.ndarray,
) -> np.ndarray:
    """Mean probability over draws, shape (n, draws, K), that a recipe is like the others; shape (n, K)."""
    odds = _log_normal(u, centre, spread) - _log_normal(u, mild_mean, mild_sd)
    found = np.zeros((len(u), len(names)))
    for places in groups_of(names).values():
        log_odds = np.log(LIKE_PRIOR[0] / LIKE_PRIOR[1]) + odds[..., places].sum(axis=-1)
        found[:, places] = expit(log_odds).mean(axis=1)[:, None]
    return found


def sample_new_study(studies: Sequence[Population], prior: Hyperprior, seed: int = 0) -> Population:
    """Sample the hyperparameters of one more study by NUTS, from those of several.

    Draws of each study's hyperparameters are reweighted from their prior to the distribution over studies, one
    parameter at a time: with 5 studies and a dozen parameters, their correlations within a study say little about one
    more study.

    Parameters
    ----------
    studies : sequence of Population
        Draws of the same parameters in each study, from `rlceiling.fitting.study.Study.population`.
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
    fewest = min(len(one.centre) for one in studies)  # a study that was sampled again has more draws
    studies = [one.thinned(fewest) for one in studies]
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
    )


def _log_normal(value: Any, mean: Any, sd: Any, xp: Any = np) -> Any:
    return -0.5 * ((value - mean) / sd) ** 2 - xp.log(sd) - 0.5 * np.log(2.0 * np.pi)


def _run(model: Callable[..., None], start: Mapping[str, np.ndarray], seed: int, *given: Any) -> dict[str, np.ndarray]:
    """Draws of the sites of a NumPyro model by NUTS."""
    with double_precision_on_cpu(), NUMPYRO_LOCK:
        kernel = NUTS(model, dense_mass=True, max_tree_depth=7, init_strategy=init_to_value(values=dict(start)))
        chain = MCMC(kernel, num_warmup=TUNE, num_samples=KEPT, num_chains=1, progress_bar=False)
        chain.run(jax.random.key(seed), *given)
        return {name: np.asarray(values) for name, values in chain.get_samples().items()}


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
    add_log_density("studies", of_study.sum())


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
