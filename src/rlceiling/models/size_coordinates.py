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
from scipy.special import expit, logit

from rlceiling.curves.least_squares import grid_curves
from rlceiling.models.coordinates import log_slope, stretch
from rlceiling.models.noise import whiten
from rlceiling.models.recipe_data import RunData
from rlceiling.models.size_data import SizeData
from rlceiling.models.size_laws import CEILING_LAW, SizeLaw


class SizeCentre(NamedTuple):
    """Where the coordinates are zero, and what the data say of the numbers of every size."""

    values: dict[str, float]
    """Parameters of the law."""
    estimate: np.ndarray
    """Numbers of every size, shape (columns, sizes)."""
    precision: np.ndarray
    """Inverse covariance by the data alone of all but the noise, a column after the other."""
    noise_precision: np.ndarray
    """That of the noise, shape (sizes, sizes)."""
    variance: np.ndarray
    """What the data alone leave open of each number, shape (columns, sizes)."""
    gap: np.ndarray
    """Usual distance in ln X between neighbouring evaluations."""


def dimension(data: SizeData, law: SizeLaw) -> int:
    """Coordinates of the law and of the numbers of the sizes."""
    return len(law.sampled) + len(law.columns) * len(data.t)


def to_natural(
    z: Array, data: SizeData, centre: SizeCentre, priors: Mapping[str, Any], law: SizeLaw
) -> tuple[dict[str, Array], Array, Array]:
    """Map coordinates to parameters and standard normals; the last array returned is the log determinant."""
    names = law.sampled
    of_law, own = z[: len(names)], z[len(names) :]
    bent = jnp.array([name not in ON_LOG_SCALE for name in names])
    stretched, log_stretch = stretch(jnp.where(bent, of_law, 0.0))
    place = jnp.where(bent, stretched, of_law)
    log_det = jnp.where(bent, log_stretch, 0.0).sum()
    values: dict[str, Array] = {}
    factors = {column.factor: i for i, column in enumerate(law.columns) if column.factor}
    for name, at in zip(names, place, strict=True):
        if name in UNIT:
            at = at + jnp.log(centre.values[name]) - jnp.log1p(-centre.values[name])
            values[name] = jax.nn.sigmoid(at)
            log_det = log_det + log_slope(at)
        elif name not in factors:
            values[name] = centre.values[name] * jnp.exp(at)
            log_det = log_det + jnp.log(values[name])
    # Data fix the noise between neighbours, not its total, which grows with the part that is correlated.
    from_total = -0.5 * jnp.log(1.0 - values["share"] * jnp.exp(-centre.gap / values["length"]))
    estimate = jnp.asarray(centre.estimate).at[-1].add(from_total)
    # A factor that all sizes share is known from them as well as they lie together, whatever the rest of the law says.
    for name, i in factors.items():
        column = law.columns[i]
        shape = law.means({**dict.fromkeys(factors, 1.0), **values}, data.t, (data.t[0], data.t[-1]))[column.name]
        weight = 1.0 / (values[column.spread] ** 2 + centre.variance[i])
        precision = weight.sum() + FACTOR_WIDTH**-2
        middle = (weight * (estimate[i] - shape)).sum() + jnp.log(centre.values[name]) * FACTOR_WIDTH**-2
        values[name] = jnp.exp(middle / precision + place[names.index(name)] / jnp.sqrt(precision))
        log_det = log_det + jnp.log(values[name]) - 0.5 * jnp.log(precision)

    span = data.t[0], data.t[-1]
    s, t = data.t[:, None], data.t
    roots = [jnp.linalg.cholesky(law.covariance(column, values[column.spread], priors, s, t)) for column in law.columns]
    means = [law.mean(column, values, priors, t, span) for column in law.columns]
    # The noise of a size says nothing of its curve. The numbers of curves go together, and stay below 32 up to eight
    # sizes, from where on LAPACK spends its time on threads.
    of_curves = own[: -len(t)], jax.scipy.linalg.block_diag(*roots[:-1]), jnp.concatenate(means[:-1])
    curves, log_scale = _conditional(*of_curves, jnp.asarray(centre.precision), estimate[:-1].ravel())
    noise, log_scale_noise = _conditional(
        own[-len(t) :], roots[-1], means[-1], jnp.asarray(centre.noise_precision), estimate[-1]
    )
    u = jnp.concatenate([curves, noise]).reshape(len(means), len(t))
    return values, u, log_det + log_scale + log_scale_noise


def _conditional(z: Array, root: Array, mean: Array, precision: Array, estimate: Array) -> tuple[Array, Array]:
    """Standard normals ``u`` of ``mean + root u`` at standard place `z`, given what data say, and the determinant."""
    precise = precision @ root
    inner = jnp.linalg.cholesky(jnp.eye(len(z)) + root.T @ precise)
    place = solve_triangular(inner, precise.T @ (estimate - mean), lower=True) + z
    return solve_triangular(inner.T, place, lower=False), -jnp.log(jnp.diagonal(inner)).sum()


FACTOR_WIDTH = 1.0
"""How far, on a log scale, a factor may lie from its centre if no size tells; steers the sampler only."""

LEAST_SD = 5e-4
"""Smallest noise that least squares is believed."""

ON_LOG_SCALE = frozenset({"E_max", "N0", "B", "sigma", "length"})
"""Parameters whose priors are about normal on a log scale; those of the others have exponential tails there."""

UNIT = frozenset({"A_largest", "A_smallest", "A_limit", "share"})
"""Parameters between 0 and 1."""


def least_squares_centre(data: SizeData, law: SizeLaw) -> SizeCentre:
    """Numbers of every size by least squares, what the data say of them, and parameters of the law to go with them."""
    k, sizes = len(law.columns), len(data.t)
    estimate, precision, noise = np.zeros((k, sizes)), np.zeros((k - 1, sizes, k - 1, sizes)), np.zeros(sizes)
    for i in range(sizes):
        own = RunData(*(array[data.size_of == i] for array in data.runs))
        estimate[:, i], precision[:, i, :, i] = _of_size(own, law)
        noise[i] = own.observed.sum()  # of a log standard deviation; independent evaluations would tell twice as much
    gaps = np.diff(data.runs.x, axis=1)[data.runs.observed[:, 1:]]
    together = precision.reshape(((k - 1) * sizes,) * 2)
    # Numbers that the data leave open are held near others by a mild prior.
    each = [np.linalg.inv(precision[:, i, :, i] + np.eye(k - 1)) for i in range(sizes)]
    variance = np.stack([*np.array([np.diag(matrix) for matrix in each]).T, 1.0 / noise])
    return SizeCentre(_law_guess(estimate, law), estimate, together, np.diag(noise), variance, np.median(gaps))


def _of_size(runs: RunData, law: SizeLaw) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of one size that fit its runs best, and the inverse covariance of all but the noise."""
    seen = runs.observed
    x, reward, weight = runs.x[seen], runs.reward[seen], np.sqrt(runs.count[seen])
    found, centre, width = _first_guess(x, reward, law)
    sd = 0.01

    def errors(eta: np.ndarray) -> np.ndarray:
        return np.asarray(weight * (reward - law.curve(x, *eta)))

    def penalised(eta: np.ndarray) -> np.ndarray:
        return np.concatenate([errors(eta) / sd, (eta - centre) / width])

    for _ in range(2):  # the second time with the noise that was found
        found = least_squares(penalised, found).x
        sd = max(float(np.sqrt(np.mean(errors(found) ** 2))), LEAST_SD)
    step = 1e-4 * np.eye(len(found))
    slopes = np.stack([law.curve(runs.x, *(found + e)) - law.curve(runs.x, *(found - e)) for e in step], -1) / 2e-4
    with jax.enable_x64(True):
        noise = jnp.asarray(0.5 * sd**2), jnp.asarray(0.5)
        white = 0.5 * sd**2 / runs.count + runs.eval_var
        of_lane = jax.vmap(whiten, in_axes=(0, 0, 0, None, None, 0))
        flat = np.asarray(of_lane(jnp.asarray(slopes), runs.x, seen, *noise, white))
    return np.append(found, np.log(sd)), np.einsum("rni,rnj->ij", flat, flat)


def _first_guess(x: np.ndarray, reward: np.ndarray, law: SizeLaw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of one size to start from, and a mild prior of them: centre and width."""
    if law is not CEILING_LAW:
        loss = np.log(np.maximum(1.0 - reward, 1e-3))
        slope, level = np.polyfit(x, loss, 1) if np.ptp(x) > 0 else (0.0, loss.mean())
        guess = np.array([level, np.log(np.clip(-slope, 0.005, 2.0))])
        return guess, np.array([level, np.log(0.05)]), np.array([1.0, 2.0])
    order = np.argsort(x)
    x, reward = x[order], reward[order]
    grid = grid_curves(x, reward, np.geomspace(0.5, 6.0, 15), np.linspace(x[0] - 1.0, x[-1] + 1.0, 31), R0=None)
    penalty = ((np.log(grid.B) - 0.5) / 0.6) ** 2 * 1e-4
    best = int(np.argmin(grid.squares + penalty))
    R0, gain = float(grid.R0[best]), float(grid.gain[best])
    A = R0 + gain
    guess = np.array([logit(A), logit(np.clip(R0 / A, 0.02, 0.98)), grid.x_mid[best], np.log(grid.B[best])])
    centre = np.array([logit(np.clip(reward.max(), 0.02, 0.98)), -0.5, x.mean(), 0.5])
    return guess, centre, np.array([1.0, 1.5, 2.0, 0.6])


def _law_guess(estimate: np.ndarray, law: SizeLaw) -> dict[str, float]:
    """Parameters of the law that go with numbers of every size."""
    values = dict.fromkeys(law.spreads, 0.3)
    values |= {"share": 0.5, "length": 0.5, "sigma": float(np.exp(estimate[-1].mean()))}
    if law is CEILING_LAW:
        A = expit(estimate[0])
        largest = float(np.clip(A[-1], 0.05, 0.95))
        values |= {"A_largest": largest, "A_smallest": float(np.clip(A[0] / largest, 0.05, 0.95)), "A_limit": 0.4}
        return values | {"B": float(np.exp(estimate[3].mean())), "A_walk": 0.3}
    E = np.exp(estimate[1])
    return values | {"E_max": float(1.3 * E.max()), "N0": 1.0, "ln_K_bend": 0.1}
