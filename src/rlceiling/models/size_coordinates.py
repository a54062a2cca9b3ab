"""Sampling coordinates in which the posterior across sizes is close to independent standard normals.

The numbers of every size are pulled two ways, by the data of that size and by the law across sizes; which pull is the
stronger differs from size to size and changes with the scale of the deviations. Neither centred nor non-centred
coordinates suit all, so the numbers are counted from their joint mean, in units of their joint standard deviations,
given the parameters of the law and the data in a linearised model: with ``u`` standard normals that the law turns into
the numbers, ``eta = mean + root u``, and data that say ``Normal(estimate, precision^-1)`` of ``eta``, ``u`` is normal
with precision ``I + root' precision root``.
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
    """Where the coordinates are zero, and what the data say of the numbers of every size."""

    values: dict[str, float]
    """Parameters of the law."""
    estimate: np.ndarray
    """Numbers of every size by least squares, shape (columns, sizes)."""
    residual: np.ndarray
    """Rewards minus those curves, shape (lanes, n)."""
    slopes: np.ndarray
    """Derivatives of the curves with respect to their numbers, shape (lanes, n, columns - 1)."""
    variance: np.ndarray
    """What the data alone leave open of each number at usual noise, shape (columns, sizes)."""
    gap: np.ndarray
    """Usual distance in ln X between neighbouring evaluations."""
    middle: np.ndarray
    """Where in ln X the curve of each size is best known, shape (sizes,)."""
    straight: np.ndarray
    """Derivatives of the local coordinates of the curve there, shape (sizes, columns - 1, columns - 1)."""


def dimension(data: SizeData, law: SizeLaw) -> int:
    """Coordinates of the law and of the numbers of the sizes."""
    return len(law.pooling.sampled) + len(law.pooling.parameters) * len(data.t)


def to_natural(
    z: Array, data: SizeData, centre: SizeCentre, priors: Mapping[str, Any], law: SizeLaw
) -> tuple[dict[str, Array], Array, Array]:
    """Map coordinates to parameters and standard normals; the last array returned is the log determinant."""
    pooling = law.pooling
    names = pooling.sampled
    of_law, own = z[: len(names)], z[len(names) :]
    # Priors of scales and of numbers between 0 and 1 have exponential tails on the log or logit scale.
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

    # Data fix the noise between neighbours, not its total, which grows with the part that is correlated.
    from_total = -0.5 * jnp.log(1.0 - values["share"] * jnp.exp(-centre.gap / values["length"]))
    estimate = jnp.asarray(centre.estimate).at[-1].add(from_total)
    # A factor that all sizes share is known from them as well as they lie together, whatever the rest of the law says.
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

    # Noise first: it says how well the data know all curves, and would be a funnel if they were counted without it.
    noise_root, noise_mean = root(noise), pooling.mean(noise, values, priors, t, span)
    known = jnp.diag(1.0 / centre.variance[-1])
    u_noise, log_scale_noise = _conditional(z_noise, noise_root, noise_mean, known, estimate[-1], jnp.zeros(len(t)))
    # Numbers of curves go together, and stay below 32 up to eight sizes, from where on LAPACK spends its time on
    # threads.
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
    """Curves whose local coordinates are those that planes around the centre give to points `flat`, and log |J|."""
    best = jnp.asarray(centre.estimate[:-1])
    at = local.to_local(best, centre.middle) + jnp.einsum("sij,js->is", centre.straight, flat - best)
    eta = local.from_local(at, centre.middle)
    return eta, (local.log_det(eta) - local.log_det(best)).sum()


def _information(
    data: SizeData, centre: SizeCentre, ln_sigma: Array, share: Array, length: Array
) -> tuple[Array, Array, Array]:
    """What the data say of the numbers of all curves: precision, estimate, and how they pull it, a column each.

    The curves are taken as planes around those of least squares; the noise is what it is.
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
    """Standard normals ``u`` of ``mean + root u`` at standard place `z`, given what data say, and the determinant."""
    precise = precision @ root
    inner = jnp.linalg.cholesky(jnp.eye(len(z)) + root.T @ precise)
    place = solve_triangular(inner, precise.T @ (estimate - mean) + root.T @ pull, lower=True) + z
    return solve_triangular(inner.T, place, lower=False), -jnp.log(jnp.diagonal(inner)).sum()


FACTOR_WIDTH = 1.0
"""How far, on a log scale, a factor may lie from its centre if no size tells; steers the sampler only."""

LEAST_SD = 5e-4
"""Smallest noise that least squares is believed."""


def least_squares_centre(data: SizeData, law: SizeLaw) -> SizeCentre:
    """Numbers of every size by least squares, what the data say of them, and parameters of the law to go with them.

    Each size alone first, then all together, every number held near a line in ln N where its own data leave it open:
    curves should be straight where the law holds them, too.
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
    # Autocorrelated evaluations carry about half the information; what the data leave open is held by a mild prior.
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
"""How far parameters of a size may lie from a line in ln N at the centre."""


def _errors(runs: RunData, curve: Curve, eta: np.ndarray) -> np.ndarray:
    seen = runs.observed
    return np.asarray(np.sqrt(runs.count[seen]) * (runs.reward[seen] - curve.value(runs.inputs[seen], *eta)))


def _of_size(runs: RunData, curve: Curve) -> tuple[np.ndarray, float, Guess]:
    """Parameters of one size that fit its runs best, the noise, and the guess they were found from."""
    seen = runs.observed
    guess = curve.guess(runs.inputs[seen], runs.reward[seen], runs.count[seen])
    found, sd = guess.eta, 0.01

    def penalised(eta: np.ndarray) -> np.ndarray:
        return np.append(_errors(runs, curve, eta) / sd, (eta - guess.usual) / guess.width)

    for _ in range(2):  # the second time with the noise that was found
        found = least_squares(penalised, found).x
        sd = max(float(np.sqrt(np.mean(_errors(runs, curve, found) ** 2))), LEAST_SD)
    return found, sd, guess
