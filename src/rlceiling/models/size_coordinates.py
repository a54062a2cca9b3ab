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
from rlceiling.curves.sigmoid import namespace
from rlceiling.models.coordinates import log_slope, stretch
from rlceiling.models.noise import whiten
from rlceiling.models.recipe_data import RunData
from rlceiling.models.size_data import SizeData
from rlceiling.models.size_laws import CEILING_LAW, Column, SizeLaw


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
    """Derivatives of `local_of_ceiling_law` there, shape (sizes, columns - 1, columns - 1)."""


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
    span = data.t[0], data.t[-1]
    s, t = data.t[:, None], data.t
    *curves, noise = law.columns
    z_curves, z_noise = own[: -len(t)], own[-len(t) :]

    # Data fix the noise between neighbours, not its total, which grows with the part that is correlated.
    from_total = -0.5 * jnp.log(1.0 - values["share"] * jnp.exp(-centre.gap / values["length"]))
    estimate = jnp.asarray(centre.estimate).at[-1].add(from_total)
    # A factor that all sizes share is known from them as well as they lie together, whatever the rest of the law says.
    for name, i in factors.items():
        column = law.columns[i]
        shape = law.means({**dict.fromkeys(factors, 1.0), **values}, t, span)[column.name]
        weight = 1.0 / (values[column.spread] ** 2 + centre.variance[i])
        precision = weight.sum() + FACTOR_WIDTH**-2
        middle = (weight * (estimate[i] - shape)).sum() + jnp.log(centre.values[name]) * FACTOR_WIDTH**-2
        values[name] = jnp.exp(middle / precision + place[names.index(name)] / jnp.sqrt(precision))
        log_det = log_det + jnp.log(values[name]) - 0.5 * jnp.log(precision)

    def root(column: Column) -> Array:
        return jnp.linalg.cholesky(law.covariance(column, values[column.spread], priors, s, t))

    # Noise first: it says how well the data know all curves, and would be a funnel if they were counted without it.
    noise_root, noise_mean = root(noise), law.mean(noise, values, priors, t, span)
    known = jnp.diag(1.0 / centre.variance[-1])
    u_noise, log_scale_noise = _conditional(z_noise, noise_root, noise_mean, known, estimate[-1], jnp.zeros(len(t)))
    # Numbers of curves go together, and stay below 32 up to eight sizes, from where on LAPACK spends its time on
    # threads.
    curve_root = jax.scipy.linalg.block_diag(*map(root, curves))
    curve_mean = jnp.concatenate([law.mean(column, values, priors, t, span) for column in curves])
    information = _information(data, centre, noise_mean + noise_root @ u_noise, values["share"], values["length"])
    u_curves, log_scale = _conditional(z_curves, curve_root, curve_mean, *information)
    log_det = log_det + log_scale + log_scale_noise
    if law is CEILING_LAW:
        flat = (curve_mean + curve_root @ u_curves).reshape(len(curves), len(t))
        eta, log_bend = _bent(flat, centre)
        log_det = log_det + log_bend
        u_curves = solve_triangular(curve_root, eta.ravel() - curve_mean, lower=True)
    return values, jnp.concatenate([u_curves, u_noise]).reshape(len(law.columns), len(t)), log_det


def _bent(flat: Array, centre: SizeCentre) -> tuple[Array, Array]:
    """Curves that have the local numbers which planes around the centre give to points `flat`, and the determinant."""
    best = jnp.asarray(centre.estimate[:-1])
    local = local_of_ceiling_law(best, centre.middle) + jnp.einsum("sij,js->is", centre.straight, flat - best)
    eta = ceiling_law_of_local(local, centre.middle)
    return eta, (best[3] - eta[3]).sum()


def local_of_ceiling_law(eta: Any, middle: Any) -> Any:
    r"""Value and slope of a curve at a place, and what lies below and above it.

    With ``v`` and ``D`` the curve and its slope at `middle`: logit of ``v``, ``ln D``, logits of ``R0 / v`` and of
    ``(A - v) / (1 - v)``. Data fix the first two and may leave the others open; in the numbers that the law speaks of
    that is a banana.

    Parameters
    ----------
    eta : array_like, shape (4, ...)
        Logit of the ceiling, logit of ``R0 / A``, ``x_mid``, ``ln B``.
    middle : array_like
        A place in ln X.
    """
    logit_A, logit_start, x_mid, ln_B = eta
    xp = namespace(logit_A, middle)
    rise = xp.exp(ln_B) * (middle - x_mid)
    log_A, log_above_A = _log_expit(logit_A), _log_expit(-logit_A)
    log_start, log_gain = log_A + _log_expit(logit_start), log_A + _log_expit(-logit_start)
    log_below, log_above = log_gain + _log_expit(rise), log_gain + _log_expit(-rise)  # v - R0 and A - v
    logit_v = xp.logaddexp(log_start, log_below) - xp.logaddexp(log_above, log_above_A)
    log_slope = ln_B + log_below + log_above - log_gain
    return xp.stack([logit_v, log_slope, log_start - log_below, log_above - log_above_A])


def ceiling_law_of_local(local: Any, middle: Any) -> Any:
    """Inverse of `local_of_ceiling_law`; its log determinant is ``-ln B`` for each curve."""
    logit_v, log_slope, logit_start, logit_room = local
    xp = namespace(logit_v, middle)
    log_v, log_room = _log_expit(logit_v), _log_expit(-logit_v)
    log_start, log_below = log_v + _log_expit(logit_start), log_v + _log_expit(-logit_start)
    log_above, log_above_A = log_room + _log_expit(logit_room), log_room + _log_expit(-logit_room)
    log_gain = xp.logaddexp(log_below, log_above)
    ln_B = log_slope + log_gain - log_below - log_above
    x_mid = middle - (log_below - log_above) * xp.exp(-ln_B)
    return xp.stack([xp.logaddexp(log_v, log_above) - log_above_A, log_start - log_gain, x_mid, ln_B])


def _log_expit(z: Any) -> Any:
    xp = namespace(z)
    return -xp.logaddexp(0.0, -z)


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
    flat = of_lane(columns, data.runs.x, data.runs.observed, share * variance, length, white)
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

ON_LOG_SCALE = frozenset({"E_max", "N0", "B", "sigma", "length"})
"""Parameters whose priors are about normal on a log scale; those of the others have exponential tails there."""

UNIT = frozenset({"A_largest", "A_smallest", "A_limit", "share"})
"""Parameters between 0 and 1."""


def least_squares_centre(data: SizeData, law: SizeLaw) -> SizeCentre:
    """Numbers of every size by least squares, what the data say of them, and parameters of the law to go with them.

    Each size alone first, then all together, every number held near a line in ln N where its own data leave it open:
    curves should be straight where the law holds them, too.
    """
    runs, t = data.runs, data.t
    k, sizes = len(law.columns) - 1, len(t)
    lanes = [data.size_of == i for i in range(sizes)]
    own = [RunData(*(array[lane] for array in runs)) for lane in lanes]
    eta, sd, ordinary = (np.array(values) for values in zip(*(_of_size(size, law) for size in own), strict=True))
    line = np.vander(t, 2) if sizes > 1 else np.ones((1, 1))
    off_line = np.eye(sizes) - line @ np.linalg.pinv(line)

    def penalised(free: np.ndarray) -> np.ndarray:
        at = free.reshape(sizes, k)
        errors = [_errors(size, law, values) / s for size, values, s in zip(own, at, sd, strict=True)]
        return np.concatenate(
            [*errors, (off_line @ at).ravel() / USUAL_SPREAD, ((at - ordinary) / WIDTH[law.name]).ravel()]
        )

    estimate = least_squares(penalised, eta.ravel()).x.reshape(sizes, k)

    step = 1e-5 * np.eye(k)
    of_lane = estimate[data.size_of].T[:, :, None]
    residual = runs.reward - law.curve(runs.x, *of_lane)
    moved = [[law.curve(runs.x, *(of_lane + e[:, None, None])) for e in sign * step] for sign in (1.0, -1.0)]
    slopes = np.moveaxis((np.array(moved[0]) - np.array(moved[1])) / 2e-5, 0, -1)
    # Evaluations that wander together tell half; numbers that the data leave open are held by a mild prior.
    left_open = []
    for lane, size, s in zip(lanes, own, sd, strict=True):
        precise = np.einsum("rni,rnj,rn->ij", slopes[lane], slopes[lane], size.observed * size.count) / (2.0 * s**2)
        left_open.append(np.append(np.diag(np.linalg.inv(precise + np.eye(k))), 1.0 / size.observed.sum()))
    middle, straight = np.zeros(sizes), np.zeros((sizes, k, k))
    if law is CEILING_LAW:
        for i, size in enumerate(own):
            # Middle of the data, but of their beginning where the curve has saturated: its slope is next to nothing
            # further up.
            rise = expit(np.exp(estimate[i, 3]) * (size.x - estimate[i, 2]))
            steep = size.observed * (rise * (1.0 - rise) + 1e-12)
            middle[i] = np.average(size.x, weights=np.minimum(steep / steep.max(), STEEP))
            local = [local_of_ceiling_law(estimate[i, :, None] + sign * step, middle[i]) for sign in (1.0, -1.0)]
            straight[i] = (local[0] - local[1]) / 2e-5
    together = np.vstack([estimate.T, np.log(sd)])
    gap = np.median(np.diff(runs.x, axis=1)[runs.observed[:, 1:]])
    return SizeCentre(
        _law_guess(together, law), together, residual, slopes, np.array(left_open).T, gap, middle, straight
    )


USUAL_SPREAD = 0.3
"""How far numbers of a size may lie from a line in ln N at the centre."""

STEEP = 0.2
"""Slope, as a share of the largest seen, from which on evaluations count the same for where a curve is best known."""

WIDTH = {"power law": np.array([1.0, 2.0]), "ceiling": np.array([1.0, 1.5, 2.0, 0.6])}
"""How far numbers of a curve may lie from ordinary ones at the centre."""


def _errors(runs: RunData, law: SizeLaw, eta: np.ndarray) -> np.ndarray:
    seen = runs.observed
    return np.asarray(np.sqrt(runs.count[seen]) * (runs.reward[seen] - law.curve(runs.x[seen], *eta)))


def _of_size(runs: RunData, law: SizeLaw) -> tuple[np.ndarray, float, np.ndarray]:
    """Numbers of one size that fit its runs best, the noise, and ordinary numbers."""
    found, ordinary = _first_guess(runs.x[runs.observed], runs.reward[runs.observed], law)
    sd = 0.01

    def penalised(eta: np.ndarray) -> np.ndarray:
        return np.append(_errors(runs, law, eta) / sd, (eta - ordinary) / WIDTH[law.name])

    for _ in range(2):  # the second time with the noise that was found
        found = least_squares(penalised, found).x
        sd = max(float(np.sqrt(np.mean(_errors(runs, law, found) ** 2))), LEAST_SD)
    return found, sd, ordinary


def _first_guess(x: np.ndarray, reward: np.ndarray, law: SizeLaw) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of one size to start from, and ordinary ones."""
    if law is not CEILING_LAW:
        loss = np.log(np.maximum(1.0 - reward, 1e-3))
        slope, level = np.polyfit(x, loss, 1) if np.ptp(x) > 0 else (0.0, loss.mean())
        guess = np.array([level, np.log(np.clip(-slope, 0.005, 2.0))])
        return guess, np.array([level, np.log(0.05)])
    order = np.argsort(x)
    x, reward = x[order], reward[order]
    grid = grid_curves(x, reward, np.geomspace(0.5, 6.0, 15), np.linspace(x[0] - 1.0, x[-1] + 1.0, 31), R0=None)
    penalty = ((np.log(grid.B) - 0.5) / 0.6) ** 2 * 1e-4
    best = int(np.argmin(grid.squares + penalty))
    R0, gain = float(grid.R0[best]), float(grid.gain[best])
    A = R0 + gain
    guess = np.array([logit(A), logit(np.clip(R0 / A, 0.02, 0.98)), grid.x_mid[best], np.log(grid.B[best])])
    return guess, np.array([logit(np.clip(reward.max(), 0.02, 0.98)), -0.5, x.mean(), 0.5])


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
