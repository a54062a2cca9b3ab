"""Sampling coordinates in which the posterior across sizes is close to independent standard normals.

The parameters of every size are informed by the data of that size and by the law across sizes; which of the two
dominates differs between sizes and changes with the scale of the deviations. Neither a centred nor a non-centred
parameterisation suits all sizes. The size-level parameters are therefore standardised by their joint conditional mean
and covariance in a linearised model, given the parameters of the law and the data: let ``u`` be standard normal under
the law, with ``eta = mean + root u`` the size-level parameters, and let ``Normal(estimate, precision^-1)`` be the
Gaussian approximation of the likelihood in ``eta``; then ``u`` is normal with precision ``I + root' precision root``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular
from scipy.optimize import least_squares

from rlceiling.curves.curve import Curve, Guess, LocalCoordinates
from rlceiling.models.noise import whiten
from rlceiling.models.pooling import SizeParameter
from rlceiling.models.priors import UNIT_INTERVAL
from rlceiling.models.run_data import RunData, lane
from rlceiling.models.size_data import SizeData
from rlceiling.models.size_laws import SizeLaw
from rlceiling.models.transforms import log_slope, stretch


class SizeCentre(NamedTuple):
    """Origin of the coordinates, and the linearised likelihood of the size-level parameters."""

    values: dict[str, float]
    """Parameters of the law."""
    estimate: np.ndarray
    """Least-squares estimates of the size-level parameters, shape (parameters, sizes)."""
    residual: np.ndarray
    """Rewards minus the least-squares curves, shape (lanes, n)."""
    slopes: np.ndarray
    """Derivatives of the curves with respect to their parameters, shape (lanes, n, parameters - 1)."""
    variance: np.ndarray
    """Variance of each size-level parameter given its own data only, at usual noise, shape (parameters, sizes)."""
    gap: np.ndarray
    """Median distance in ln X between neighbouring evaluations."""
    middle: np.ndarray
    """ln X at which the curve of each size is best known, shape (sizes,)."""
    straight: np.ndarray
    """Derivatives of the local coordinates of the curve at `middle`, shape (sizes, parameters - 1, parameters - 1)."""


def dimension(data: SizeData, law: SizeLaw) -> int:
    """Number of coordinates: parameters of the law and size-level parameters."""
    return len(law.pooling.sampled) + len(law.pooling.parameters) * len(data.t)


def to_natural(
    z: Array, data: SizeData, centre: SizeCentre, priors: Mapping[str, Any], law: SizeLaw
) -> tuple[dict[str, Array], Array, Array]:
    """Map coordinates to law parameters and standard normals of the sizes; the last array is the log determinant."""
    pooling = law.pooling
    names = pooling.sampled
    of_law, own = z[: len(names)], z[len(names) :]
    # Priors of scales and of parameters between 0 and 1 have exponential tails on the log or logit scale.
    unit = {name for name in names if law.priors.supports[name] == UNIT_INTERVAL}
    bent = jnp.array([name in unit or name in pooling.scales for name in names])
    stretched, log_stretch = stretch(jnp.where(bent, of_law, 0.0))
    place = jnp.where(bent, stretched, of_law)
    log_det = jnp.where(bent, log_stretch, 0.0).sum()
    values: dict[str, Array] = {}
    factors = {parameter.factor: i for i, parameter in enumerate(pooling.parameters) if parameter.factor}
    for name, at in zip(names, place, strict=True):
        if name in unit:
            at = at + jnp.log(centre.values[name]) - jnp.log1p(-centre.values[name])
            values[name] = jax.nn.sigmoid(at)
            log_det = log_det + log_slope(at)
        elif name not in factors:
            values[name] = centre.values[name] * jnp.exp(at)
            log_det = log_det + jnp.log(values[name])
    span = data.t[0], data.t[-1]
    s, t = data.t[:, None], data.t
    *curves, noise = pooling.parameters
    z_curves, z_noise = own[: -len(t)], own[-len(t) :]

    # Data determine the noise between neighbouring evaluations; the total also depends on the autocorrelated share.
    from_total = -0.5 * jnp.log(1.0 - values["share"] * jnp.exp(-centre.gap / values["length"]))
    estimate = jnp.asarray(centre.estimate).at[-1].add(from_total)
    # The precision of a shared factor follows from the scatter of the sizes around it, given the rest of the law.
    for name, i in factors.items():
        parameter = pooling.parameters[i]
        shape = pooling.means({**dict.fromkeys(factors, 1.0), **values}, t, span)[parameter.name]
        weight = 1.0 / (values[parameter.spread] ** 2 + centre.variance[i])
        precision = weight.sum() + FACTOR_WIDTH**-2
        middle = (weight * (estimate[i] - shape)).sum() + jnp.log(centre.values[name]) * FACTOR_WIDTH**-2
        values[name] = jnp.exp(middle / precision + place[names.index(name)] / jnp.sqrt(precision))
        log_det = log_det + jnp.log(values[name]) - 0.5 * jnp.log(precision)

    def root(parameter: SizeParameter) -> Array:
        return jnp.linalg.cholesky(pooling.covariance(parameter, values[parameter.spread], priors, s, t))

    # Noise first, because it sets the precision of all curves; curves standardised without it would form a funnel.
    noise_root, noise_mean = root(noise), pooling.mean(noise, values, priors, t, span)
    known = jnp.diag(1.0 / centre.variance[-1])
    u_noise, log_scale_noise = _conditional(z_noise, noise_root, noise_mean, known, estimate[-1], jnp.zeros(len(t)))
    # All curve parameters form one system, of order below 32 up to eight sizes; from there on the threading overhead
    # of LAPACK dominates.
    curve_root = jax.scipy.linalg.block_diag(*map(root, curves))
    curve_mean = jnp.concatenate([pooling.mean(parameter, values, priors, t, span) for parameter in curves])
    information = _information(data, centre, noise_mean + noise_root @ u_noise, values["share"], values["length"])
    u_curves, log_scale = _conditional(z_curves, curve_root, curve_mean, *information)
    log_det = log_det + log_scale + log_scale_noise
    if law.curve.local is not None:
        flat = (curve_mean + curve_root @ u_curves).reshape(len(curves), len(t))
        eta, log_bend = _bent(flat, centre, law.curve.local)
        log_det = log_det + log_bend
        u_curves = solve_triangular(curve_root, eta.ravel() - curve_mean, lower=True)
    return values, jnp.concatenate([u_curves, u_noise]).reshape(len(pooling.parameters), len(t)), log_det


def _bent(flat: Array, centre: SizeCentre, local: LocalCoordinates) -> tuple[Array, Array]:
    """Curve parameters whose local coordinates are linear in `flat` around the centre, and log |J|."""
    best = jnp.asarray(centre.estimate[:-1])
    at = local.to_local(best, centre.middle) + jnp.einsum("sij,js->is", centre.straight, flat - best)
    eta = local.from_local(at, centre.middle)
    return eta, (local.log_det(eta) - local.log_det(best)).sum()


def _information(
    data: SizeData, centre: SizeCentre, ln_sigma: Array, share: Array, length: Array
) -> tuple[Array, Array, Array]:
    """Gaussian approximation of the likelihood in all curve parameters: precision, estimate, and score at the estimate.

    The curves are linearised around the least-squares curves; the noise is taken as given.
    """
    k, sizes = centre.slopes.shape[-1], len(data.t)
    variance = jnp.exp(2.0 * ln_sigma)[data.size_of]
    white = ((1.0 - share) * variance)[:, None] / data.runs.count + data.runs.eval_var
    of_lane = jax.vmap(whiten, in_axes=(0, 0, 0, 0, None, 0))
    columns = jnp.concatenate([centre.slopes, centre.residual[..., None]], axis=-1)
    flat = of_lane(columns, data.runs.clock, data.runs.observed, share * variance, length, white)
    each = jnp.einsum("rni,rnj->rij", flat[..., :k], flat)
    each = jnp.zeros((sizes, k, k + 1)).at[data.size_of].add(each)
    together = (jnp.moveaxis(each[..., :k], 0, -1)[..., None] * jnp.eye(sizes)).swapaxes(1, 2)
    return together.reshape(k * sizes, k * sizes), jnp.asarray(centre.estimate[:-1]).ravel(), each[..., k].T.ravel()


def _conditional(
    z: Array, root: Array, mean: Array, precision: Array, estimate: Array, pull: Array
) -> tuple[Array, Array]:
    """Map `z` to ``u`` of ``mean + root u``, distributed given the linearised likelihood; also the log determinant."""
    precise = precision @ root
    inner = jnp.linalg.cholesky(jnp.eye(len(z)) + root.T @ precise)
    place = solve_triangular(inner, precise.T @ (estimate - mean) + root.T @ pull, lower=True) + z
    return solve_triangular(inner.T, place, lower=False), -jnp.log(jnp.diagonal(inner)).sum()


FACTOR_WIDTH = 1.0
"""Standard deviation, on a log scale, of a shared factor around its centre where no size determines it. Affects
sampling efficiency only, not the posterior."""

LEAST_SD = 5e-4
"""Lower bound of the noise standard deviation estimated by least squares."""


def least_squares_centre(data: SizeData, law: SizeLaw) -> SizeCentre:
    """Least-squares estimates of the size-level parameters, their linearised likelihood, and matching law parameters.

    Each size is fitted alone first, then all sizes jointly with a penalty on deviations from a line in ln N, which
    matters where a size's own data do not determine a parameter: the linearisation has to be good there as well.
    """
    runs, t, curve = data.runs, data.t, law.curve
    k, sizes = len(curve.parameters), len(t)
    lanes = [data.size_of == i for i in range(sizes)]
    own = [lane(runs, place) for place in lanes]
    eta, sd, guesses = zip(*(_of_size(size, curve) for size in own), strict=True)
    usual, width = np.array([guess.usual for guess in guesses]), np.array([guess.width for guess in guesses])
    line = np.vander(t, 2) if sizes > 1 else np.ones((1, 1))
    off_line = np.eye(sizes) - line @ np.linalg.pinv(line)

    def penalised(free: np.ndarray) -> np.ndarray:
        at = free.reshape(sizes, k)
        errors = [_errors(size, curve, values) / s for size, values, s in zip(own, at, sd, strict=True)]
        return np.concatenate([*errors, (off_line @ at).ravel() / USUAL_SPREAD, ((at - usual) / width).ravel()])

    estimate = least_squares(penalised, np.ravel(eta)).x.reshape(sizes, k)

    step = 1e-5 * np.eye(k)
    of_lane = estimate[data.size_of].T[:, :, None]
    residual = runs.reward - curve.value(runs.inputs, *of_lane)
    moved = [[curve.value(runs.inputs, *(of_lane + e[:, None, None])) for e in sign * step] for sign in (1.0, -1.0)]
    slopes = np.moveaxis((np.array(moved[0]) - np.array(moved[1])) / 2e-5, 0, -1)
    # Autocorrelated evaluations carry about half the information; a mild prior (np.eye) bounds undetermined directions.
    left_open = []
    for place, size, s in zip(lanes, own, sd, strict=True):
        precise = np.einsum("rni,rnj,rn->ij", slopes[place], slopes[place], size.observed * size.count) / (2.0 * s**2)
        left_open.append(np.append(np.diag(np.linalg.inv(precise + np.eye(k))), 1.0 / size.observed.sum()))
    middle, straight = np.zeros(sizes), np.zeros((sizes, k, k))
    if curve.local is not None:
        for i, size in enumerate(own):
            middle[i] = curve.local.place(size.inputs[..., 0], size.observed, estimate[i])
            at = [curve.local.to_local(estimate[i, :, None] + sign * step, middle[i]) for sign in (1.0, -1.0)]
            straight[i] = (at[0] - at[1]) / 2e-5
    together = np.vstack([estimate.T, np.log(sd)])
    gap = np.median(np.diff(runs.clock, axis=1)[runs.observed[:, 1:]])
    return SizeCentre(
        law.first_values(together), together, residual, slopes, np.array(left_open).T, gap, middle, straight
    )


USUAL_SPREAD = 0.3
"""Penalty scale of the deviations of size-level parameters from a line in ln N in the least-squares fit."""


def _errors(runs: RunData, curve: Curve, eta: np.ndarray) -> np.ndarray:
    seen = runs.observed
    return np.asarray(np.sqrt(runs.count[seen]) * (runs.reward[seen] - curve.value(runs.inputs[seen], *eta)))


def _of_size(runs: RunData, curve: Curve) -> tuple[np.ndarray, float, Guess]:
    """Penalised least-squares parameters of one size, the noise, and the initial guess."""
    seen = runs.observed
    guess = curve.guess(runs.inputs[seen], runs.reward[seen], runs.count[seen])
    found, sd = guess.eta, 0.01

    def penalised(eta: np.ndarray) -> np.ndarray:
        return np.append(_errors(runs, curve, eta) / sd, (eta - guess.usual) / guess.width)

    for _ in range(2):  # the second pass uses the noise estimated in the first
        found = least_squares(penalised, found).x
        sd = max(float(np.sqrt(np.mean(_errors(runs, curve, found) ** 2))), LEAST_SD)
    return found, sd, guess
