r"""Joint posterior of the recipes of a study and of their population: its density, and coordinates to sample it in.

The parameters are the hyperparameters of `rlceiling.models.population` and the coordinates ``z_i`` of every recipe. A
population pulls each recipe the more, the less its own evaluations say, so that neither a centred nor a non-centred
parameterisation suits all of them. The coordinates of a recipe are therefore the standardised residuals ``zeta_i`` of
its conditional distribution given the hyperparameters ``h``, in a Gaussian approximation:

.. math:: z_i = m_i(h) + L_i(h)\,(a_i + G_i (h - \bar h) + R_i \zeta_i)

where ``m_i(h)`` and ``L_i(h)`` would be the mean and a root of the covariance if the likelihood were Gaussian in
``z_i`` and the learned parameters linear in it. The constants ``a_i``, ``G_i`` and ``R_i`` correct that approximation;
they are estimated from draws of a first sampling. Any constants give the same posterior: they affect the efficiency
only.

References
----------
Betancourt and Girolami, "Hamiltonian Monte Carlo for hierarchical models", arXiv 1312.0906 (why centring matters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular
from numpyro import distributions as dist

from rlceiling.models.likeness import LEARNED, LIKE
from rlceiling.models.population import LEAST_SPREAD, LIKE_PRIOR, Hyperprior, groups_of

REACH = 2.0
"""Largest distance, in standard deviations of the likelihood, over which the population moves a recipe in its
coordinates. It affects the efficiency only, since the move does not depend on the recipe's own coordinates."""

FAR = 7.0
"""Draws farther from the median than this many median absolute deviations are left out of an approximation; of a normal
distribution these are 2 in a million."""

MOST_EXPLAINED = 0.9
"""Largest share of the precision of a recipe, in any direction, that is taken for that of its working priors."""

RIDGE = 0.1
"""Relative ridge of the regression of residuals on hyperparameters, which are sampled by few independent draws."""

LOG_SPREAD_UNIT, LOGIT_LIKE_ORIGIN = 0.4, 2.0
"""Typical posterior standard deviation of the logarithm of a spread, and typical logit of the probability to be like
the others. They affect the efficiency of sampling only."""

RecipeDensity = Callable[[Array, Mapping[str, Any], Any], Array]
"""Log density of the coordinates of one recipe, from these, the learned priors, and its own arrays."""


class HyperCoordinates(NamedTuple):
    """Prior of the hyperparameters, and origin and unit of their coordinates; arrays of shape (K,)."""

    prior: Hyperprior
    mild_mean: Any
    """Mean of the mild priors on the logit or log scale."""
    mild_sd: Any
    """Standard deviation of the mild priors."""
    centre: Any
    unit: Any
    log_spread: Any


class Conditional(NamedTuple):
    """Gaussian approximation of a recipe with d coordinates given the hyperparameters.

    Its coordinates are ``at + basis @ v``, where ``v`` would be standard normal without learned priors and without the
    `pull`; only the first K entries of ``v`` move the K learned parameters.
    """

    at: Any
    """Point of linearisation, shape (d,)."""
    basis: Any
    """Directions of the coordinates, shape (d, d)."""
    pull: Any
    """Gradient of the log density in these directions at that point, without the learned priors, shape (d,)."""
    value: Any
    """Learned parameters at that point, on the logit or log scale, shape (K,)."""
    slope: Any
    """Their derivatives with respect to the first K entries of ``v``, shape (K, K)."""
    like: Any
    """Usual probability that the recipe is like the others in the group of each parameter, shape (K,)."""


class Residuals(NamedTuple):
    """Correction of the approximation: a linear regression of its residuals on the H hyperparameters."""

    centre: Any
    """Shape (H,)."""
    mean: Any
    """Shape (d,)."""
    slope: Any
    """Shape (d, H)."""
    root: Any
    """Cholesky factor of the covariance, shape (d, d)."""


class Recipes(NamedTuple):
    """Recipes whose arrays have equal shapes; every array has a leading axis of n recipes."""

    given: Any
    """Arrays of each recipe, for its density."""
    conditional: Conditional
    residuals: Residuals


class Hyperparameters(NamedTuple):
    """Hyperparameters at one point, or at many."""

    centre: Any
    """Shape (..., K)."""
    spread: Any
    """Spreads over recipes, shape (..., K)."""
    like: Any
    """Probabilities of the groups, shape (..., groups)."""


def hyper_dimension(names: Sequence[str]) -> int:
    """Number of the hyperparameters."""
    return 2 * len(names) + len(groups_of(names))


def hyperparameters(h: Array, hyper: HyperCoordinates) -> tuple[Hyperparameters, Array]:
    """Hyperparameters at their coordinates, shape (H,), and their log density with the Jacobian."""
    number = hyper.centre.shape[-1]
    centre = hyper.centre + hyper.unit * h[:number]
    log_spread = hyper.log_spread + LOG_SPREAD_UNIT * h[number : 2 * number]
    logit_like = LOGIT_LIKE_ORIGIN + h[2 * number :]
    like = jax.nn.sigmoid(logit_like)
    prior = hyper.prior
    density = dist.Normal(prior.centre, prior.scale).log_prob(centre).sum()
    density += dist.Normal(prior.log_spread, prior.log_spread_sd).log_prob(log_spread).sum()
    density += (dist.Beta(*LIKE_PRIOR).log_prob(like) + jnp.log(like) + jnp.log1p(-like)).sum()
    return Hyperparameters(centre, jnp.hypot(jnp.exp(log_spread), LEAST_SPREAD), like), density


def learned_at(names: Sequence[str], at: Hyperparameters) -> dict[str, Any]:
    """Learned part of the priors of a recipe, as `rlceiling.models.likeness` names it."""
    learned: dict[str, Any] = {LEARNED(name): dist.Normal(at.centre[k], at.spread[k]) for k, name in enumerate(names)}
    return learned | {LIKE(group): dist.Bernoulli(probs=at.like[g]) for g, group in enumerate(groups_of(names))}


def recipe_coordinates(
    zeta: Array, h: Array, at: Hyperparameters, hyper: HyperCoordinates, one: Recipes
) -> tuple[Array, Array]:
    """Coordinates of one recipe at its residuals, and the log determinant of the map."""
    own, residuals = one.conditional, one.residuals
    precision = own.like / at.spread**2 + (1.0 - own.like) / hyper.mild_sd**2
    towards = own.like * at.centre / at.spread**2 + (1.0 - own.like) * hyper.mild_mean / hyper.mild_sd**2
    number = own.value.shape[-1]
    root = jnp.linalg.cholesky(jnp.eye(number) + (own.slope.T * precision) @ own.slope)
    pull = own.pull[:number] + own.slope.T @ (towards - precision * own.value)
    standard = residuals.mean + residuals.slope @ (h - residuals.centre) + residuals.root @ zeta
    mean, own_part = solve_triangular(
        root.T, jnp.stack([solve_triangular(root, pull, lower=True), standard[:number]], axis=-1), lower=False
    ).T
    # A recipe far from the others would be moved to where the approximation means nothing.
    moving = REACH * jnp.tanh(mean / REACH) + own_part
    v = jnp.concatenate([moving, own.pull[number:] + standard[number:]])
    log_det = jnp.log(jnp.diagonal(residuals.root)).sum() - jnp.log(jnp.diagonal(root)).sum()
    return own.at + own.basis @ v, log_det  # the determinant of the basis is constant


def split(x: Any, names: Sequence[str], groups: Sequence[Recipes]) -> tuple[Any, list[Any]]:
    """Coordinates of the hyperparameters, and those of the recipes of each group, shape (..., n, d)."""
    begin = hyper_dimension(names)
    h, parts = x[..., :begin], []
    for one in groups:
        number, size = one.residuals.mean.shape[-2:]
        parts.append(x[..., begin : begin + number * size].reshape(*x.shape[:-1], number, size))
        begin += number * size
    return h, parts


def densities_of_recipes(
    h: Array, parts: Sequence[Array], hyper: HyperCoordinates, groups: Sequence[Recipes], names: Sequence[str], of: Any
) -> tuple[list[Array], list[Array], Array]:
    """Log density of the residuals of each recipe given the hyperparameters, their coordinates, and that of these.

    `of` is a `RecipeDensity`.
    """
    at, log_hyper = hyperparameters(h, hyper)

    def of_recipe(zeta: Array, one: Recipes) -> tuple[Array, Array]:
        z, log_det = recipe_coordinates(zeta, h, at, hyper, one)
        return of(z, learned_at(names, at), one.given) + log_det, z

    found = [jax.vmap(of_recipe)(zeta, one) for zeta, one in zip(parts, groups, strict=True)]
    return [density for density, _ in found], [z for _, z in found], log_hyper


@cache
def joint_potential(names: tuple[str, ...], of: RecipeDensity) -> Callable[..., Callable[[Array], Array]]:
    """Minus the joint log density, for `rlceiling.inference.nuts.run_chains`; one function for each set of names."""

    def density(hyper: HyperCoordinates, groups: Sequence[Recipes]) -> Callable[[Array], Array]:
        def potential(x: Array) -> Array:
            h, parts = split(x, names, groups)
            own, _, log_hyper = densities_of_recipes(h, parts, hyper, groups, names, of)
            return -log_hyper - sum(one.sum() for one in own)

        return potential

    return density


def conditional(
    z: np.ndarray, u: np.ndarray, like: np.ndarray, working_mean: np.ndarray, working_precision: np.ndarray
) -> Conditional:
    """Approximation of one recipe from draws under working priors.

    Parameters
    ----------
    z : ndarray, shape (draws, d)
        Coordinates.
    u : ndarray, shape (draws, K)
        Learned parameters on the logit or log scale.
    like : ndarray, shape (K,)
        Usual probability to be like the others.
    working_mean, working_precision : ndarray, shape (K,)
        Normal approximation of the working priors.
    """
    # A few draws far off would make the approximation so wide that chains begin where there is no density.
    middle = np.median(z, axis=0)
    reach = FAR * np.median(np.abs(z - middle), axis=0)
    near = (np.abs(z - middle) <= reach).all(axis=1)
    if near.sum() > 4 * z.shape[1]:
        z, u = z[near], u[near]
    at, value = z.mean(axis=0), u.mean(axis=0)
    covariance = np.atleast_2d(np.cov(z.T))
    slope = (u - value).T @ (z - at) / (len(z) - 1) @ np.linalg.inv(covariance)
    root = np.linalg.cholesky(covariance)
    # In units of the covariance the precision is 1, of which the working priors contribute these shares.
    shares, axes = np.linalg.eigh(root.T @ (slope.T * working_precision) @ slope @ root)
    kept = 1.0 - np.minimum(shares, MOST_EXPLAINED)
    basis = root @ (axes / np.sqrt(kept))  # in which the precision without the working priors is 1
    moved = slope @ basis
    directions = np.linalg.qr(moved.T, mode="complete").Q
    basis, moved = basis @ directions, (moved @ directions)[:, : len(value)]
    pull = np.zeros(len(at))
    pull[: len(value)] = -moved.T @ (working_precision * (working_mean - value))
    return Conditional(at, basis, pull, value, moved, like)


def no_correction(recipes: int, dimension: int, hyper: int) -> Residuals:
    """Residuals of an approximation that is not corrected."""
    return Residuals(
        np.zeros((recipes, hyper)),
        np.zeros((recipes, dimension)),
        np.zeros((recipes, dimension, hyper)),
        np.tile(np.eye(dimension), (recipes, 1, 1)),
    )


def corrected(h: np.ndarray, zeta: np.ndarray, before: Residuals) -> Residuals:
    """Correction that draws of the hyperparameters, shape (draws, H), and of residuals, shape (draws, n, d), suggest.

    `before` is the correction under which the residuals were drawn.
    """
    residual = before.mean + np.einsum("nrh,snh->snr", before.slope, h[:, None] - before.centre)
    residual = residual + np.einsum("nrd,snd->snr", before.root, zeta)
    centre, mean = h.mean(axis=0), residual.mean(axis=0)
    off_h, off = h - centre, residual - mean
    covariance = off_h.T @ off_h / len(h)
    covariance += RIDGE * np.diag(np.diag(covariance))
    slope = np.einsum("snr,sh->nrh", off, off_h) / len(h) @ np.linalg.inv(covariance)
    rest = off - np.einsum("nrh,sh->snr", slope, off_h)
    scatter = np.einsum("snr,snq->nrq", rest, rest) / len(h) + 1e-4 * np.eye(rest.shape[-1])
    return Residuals(np.tile(centre, (len(mean), 1)), mean, slope, np.linalg.cholesky(scatter))
