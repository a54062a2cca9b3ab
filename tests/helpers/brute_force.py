"""Posterior of a recipe with one run by brute-force integration, written without the package's own model code.

Every factor comes from scipy: prior densities, and the likelihood as a dense multivariate normal. The curve is
laid out on a grid of its values at two computes and of its ceiling, on which the posterior is compact and smooth, so
that a spline carries the likelihood to a grid too fine to show in a quantile; the tail, the noise (sigma, share,
length) and the start are integrated by quadrature. The run's headroom, efficiency and midpoint have as prior those of
the recipe spread by the unknown spread between runs, which is integrated by quadrature too; the ceiling of the recipe
follows from that of the run. The trapezoid rule is exact to many digits for smooth densities that vanish at the ends of
the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy import stats
from scipy.ndimage import zoom
from scipy.special import betaln, expit, logit, logsumexp, roots_genlaguerre, roots_hermitenorm, roots_jacobi

TAIL_SD = 1.0
"""Prior standard deviation of ln tail."""

FINER = (2, 4, 4)
"""Points of the finer grid for each of the coarse one, in low, high and top."""

AT_ONCE = 4000
"""Points of the coarse grid at a time, few enough for the processor's cache."""


@dataclass(frozen=True)
class GridPosterior:
    """Points of the grid and their posterior weights."""

    values: dict[str, np.ndarray]
    weights: np.ndarray
    sorted: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def quantile(self, name: str, q: float) -> float:
        values, cumulative = self.distribution(name)
        return float(np.interp(q, cumulative, values))

    def distribution(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Distribution function: values in ascending order and what lies below each."""
        if name not in self.sorted:
            order = np.argsort(self.values[name])
            weights = self.weights[order]
            self.sorted[name] = self.values[name][order], np.cumsum(weights) - 0.5 * weights
        return self.sorted[name]

    def chance_higher(self, other: GridPosterior) -> float:
        """P(A > A of other), by the weighted distribution function of the other."""
        below = np.interp(self.values["A"], *other.distribution("A"), left=0.0, right=1.0)
        return float(self.weights @ below)


@dataclass(frozen=True)
class Reach:
    """Where a coordinate is likely: dense in the middle, thin in the tails."""

    lowest: float
    middle: float
    width: float
    highest: float

    def axis(self, nodes: int) -> tuple[np.ndarray, np.ndarray]:
        """Points equal in arcsinh, and the logarithm of what each stands for."""
        u = np.linspace(*(np.arcsinh((v - self.middle) / self.width) for v in (self.lowest, self.highest)), nodes)
        return self.middle + self.width * np.sinh(u), np.log(np.cosh(u))


def half_normal(scale: float, nodes: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a half-normal spread: those of a normal on one side of 0, where half of them lie."""
    t, weight = roots_hermitenorm(nodes)
    above = t > 0.0
    return scale * t[above], weight[above] / weight[above].sum()


def run_sds(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of runs around their recipe, and their probabilities.

    The spread is half-normal. Given it, a run deviates by a Student t number with four degrees of freedom, scaled so
    that its central 90% are those of a normal: a normal whose variance is divided by a Gamma(2, 2) number.
    """
    spread, weight = half_normal(scale)
    x, gamma_weight = roots_genlaguerre(16, 1.0)
    core = stats.norm.ppf(0.95) / stats.t.ppf(0.95, 4)
    sds = np.multiply.outer(spread, core / np.sqrt(x / 2.0)).ravel()
    return sds, np.multiply.outer(weight, gamma_weight / gamma_weight.sum()).ravel()


def run_steps(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Deviations of a run from its recipe, and their probabilities."""
    sds, weight = run_sds(scale)
    t, weight_t = roots_hermitenorm(21)
    return np.multiply.outer(sds, t).ravel(), np.multiply.outer(weight, weight_t / weight_t.sum()).ravel()


def from_table(values: np.ndarray, log_density: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Log density by a table fine enough to be linear in between."""
    table = np.linspace(values.min() - 1e-6, values.max() + 1e-6, 2000)
    return np.interp(values, table, log_density(table))


def spread_normal(values: np.ndarray, mean: float, sd: float, scale: float) -> np.ndarray:
    """Log density of a run around a normal recipe."""
    sds, weight = (values[:, None] for values in run_sds(scale))
    sds = np.hypot(sd, sds)
    # Flat curves in the corners of the grid have midpoints beyond any number; a table up to there would be too coarse.
    near = np.clip(values, mean - 30.0 * sd, mean + 30.0 * sd)
    return from_table(near, lambda v: logsumexp(stats.norm.logpdf(v, mean, sds), axis=0, b=weight))


def recipe_logit(values: np.ndarray) -> np.ndarray:
    """Log prior density of the recipe's logit of headroom, headroom being Beta(1.5, 1.5)."""
    return -1.5 * (np.logaddexp(0.0, values) + np.logaddexp(0.0, -values)) - betaln(1.5, 1.5)


def run_logit(values: np.ndarray) -> np.ndarray:
    """That of a run."""
    return np.interp(values, *run_logit_table())


@cache
def run_logit_table() -> tuple[np.ndarray, np.ndarray]:
    """Logits, beyond which nothing of the posterior lies, and the log prior densities of a run there."""
    steps, weight = run_steps(0.1)
    at = np.linspace(-20.0, 20.0, 4001)
    rows = (logsumexp(recipe_logit(v - steps), b=weight) for v in at)
    return at, np.fromiter(rows, float, len(at))


def grid_posterior(
    compute: np.ndarray,
    reward: np.ndarray,
    eval_sd: np.ndarray,
    start: tuple[float, float],
    *,
    low: Reach,
    high: Reach,
    top: Reach,
    ln_tails: np.ndarray,
    nodes: tuple[int, int, int] = (16, 12, 30),
) -> GridPosterior:
    """Integrate the posterior under the default priors, but with no bad evaluations.

    Parameters
    ----------
    compute, reward, eval_sd : ndarray
        Evaluations and the error of each.
    start : (float, float)
        Step-0 evaluation and its error.
    low : Reach
        Of ``logit((p_low - R0) / (p_high - R0))``, p being the mean curve at 15% and 85% of ln C.
    high : Reach
        Of ``p_high``.
    top : Reach
        Of ``logit((A - p_high) / (1 - p_high))``.
    ln_tails : ndarray
        Equally spaced values of ln tail, for each of which there is a grid of the others.
    nodes : (int, int, int)
        Grid points in each of low, high and top, on which the likelihood is computed. Finer ones leave the quantiles of
        the tests where they are, within the Monte Carlo error of a fit.
    """
    tails = np.exp(ln_tails)
    parts = [_grid_at_tail(compute, reward, eval_sd, start, float(v), low, high, top, nodes) for v in tails]
    log_prior = stats.norm.logpdf(ln_tails, 0.0, TAIL_SD)
    log_weight = np.concatenate([log_w + prior for (_, log_w), prior in zip(parts, log_prior, strict=True)])
    kept = log_weight > log_weight.max() - 20.0
    weight = np.exp(log_weight[kept] - log_weight.max())
    values = {name: np.concatenate([own[name] for own, _ in parts])[kept] for name in parts[0][0]}
    return GridPosterior(values, weight / weight.sum())


def _grid_at_tail(
    compute: np.ndarray,
    reward: np.ndarray,
    eval_sd: np.ndarray,
    start: tuple[float, float],
    tail: float,
    low: Reach,
    high: Reach,
    top: Reach,
    nodes: tuple[int, int, int],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Points of the grid and the logarithms of their weights, given the tail."""
    x = np.log(compute)
    x_low, x_high = x[0] + np.array([0.15, 0.85]) * (x[-1] - x[0])
    z0, w0 = roots_hermitenorm(3)  # Gauss-Hermite

    @np.errstate(divide="ignore", invalid="ignore")
    def lay_out(finer: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
        sizes = [times * (n - 1) + 1 for times, n in zip(finer, nodes, strict=True)]
        axes = [reach.axis(size) for reach, size in zip((low, high, top), sizes, strict=True)]
        R0, z_low, p_high, z_top = np.meshgrid(start[0] + start[1] * z0, *(a for a, _ in axes), indexing="ij")
        log_weight = sum(np.meshgrid(np.log(w0), *(w for _, w in axes), indexing="ij", sparse=True))
        p_low = R0 + (p_high - R0) * expit(z_low)
        A = p_high + (1.0 - p_high) * expit(z_top)
        # Where 1 - s = ((A - p)/(A - R0)), the curve is a line in ln((1 - s)^-tail - 1), here less that at C_mid.
        shares = [(p - R0) / (A - R0) for p in (p_low, p_high)]
        near_start = [np.log1p(-np.minimum(share, 0.9)) for share in shares]
        near_end = [np.log((A - p) / (A - R0)) for p in (p_low, p_high)]
        ends = [
            -tail * np.where(share < 0.5, low_end, high_end)
            for share, low_end, high_end in zip(shares, near_start, near_end, strict=True)
        ]
        lines = [end + np.log(-np.expm1(-end)) - np.log(2.0**tail - 1.0) for end in ends]
        b = (lines[1] - lines[0]) / (x_high - x_low)
        # d(A, ln b, ln C_mid) / d(z_top, z_low, p_high), with dl/dp = tail/((1 - (1 - s)^tail)(A - p)).
        slopes = [tail / (-np.expm1(-end) * (A - p)) for end, p in zip(ends, (p_low, p_high), strict=True)]
        jacobian = (x_high - x_low) / (lines[1] - lines[0]) ** 2 * slopes[0] * slopes[1]
        jacobian *= (1.0 - p_high) * expit(z_top) * expit(-z_top) * (p_high - R0) * expit(z_low) * expit(-z_low)
        return R0, A, b, x_low - lines[0] / b, np.log(jacobian) + log_weight

    # Likelihood with the noise integrated: log grid of sigma, Gauss-Jacobi for share, Gauss-Hermite for ln length.
    R0, A, b, ln_C_mid, _ = (np.nan_to_num(part) for part in lay_out((1, 1, 1)))
    steps = (np.logaddexp(0.0, np.log(2.0**tail - 1.0) + b * (v - ln_C_mid)) for v in x)
    flat = ((R0 + (A - R0) * -np.expm1(-step / tail)).ravel() for step in steps)
    residual = reward[:, None] - np.stack(list(flat))
    log_sigma = np.linspace(np.log(2e-4), np.log(0.09), 16)
    by_run, probability = run_steps(0.3)
    sigma_weight = stats.halfnorm.pdf(np.exp(log_sigma)[:, None], scale=0.02 * np.exp(by_run)) @ probability
    sigma_weight *= np.exp(log_sigma)
    t, share_weight = roots_jacobi(10, 0.0, 1.0)  # Beta(2, 1)
    log_length, length_weight = roots_hermitenorm(9)
    scaled = residual / eval_sd[:, None]
    log_likelihood = np.full(A.size, -np.inf)
    for share, wh in zip((t + 1.0) / 2.0, share_weight, strict=True):
        for z, wl in zip(log_length, length_weight, strict=True):
            correlated = share * np.exp(-np.abs(x[:, None] - x) / np.exp(np.log(0.5) + z))
            noise = correlated + (1.0 - share) * np.eye(len(x))
            # In units of the evaluation errors the covariance is sigma^2 M + I; the eigenvectors of M serve all sigma.
            eigenvalues, vectors = np.linalg.eigh(noise / np.multiply.outer(eval_sd, eval_sd))
            variance = np.exp(2.0 * log_sigma)[:, None] * eigenvalues + 1.0
            log_weight = np.log(sigma_weight * wh * wl) - 0.5 * np.log(variance).sum(axis=1) - np.log(eval_sd).sum()
            for some in np.array_split(np.arange(A.size), A.size // AT_ONCE + 1):
                part = slice(some[0], some[-1] + 1)
                log_density = -0.5 / variance @ np.square(vectors.T @ scaled[:, part]) + log_weight[:, None]
                highest = log_density.max(axis=0)
                total = np.exp(log_density - highest).sum(axis=0)
                np.logaddexp(log_likelihood[part], highest + np.log(total), out=log_likelihood[part])

    # Smooth, so a spline carries it to a grid fine enough that the steps of the grid do not show in quantiles.
    coarse = log_likelihood.reshape(A.shape)
    R0, A, b, ln_C_mid, log_weight = lay_out(FINER)
    B = b * 2.0 * (1.0 - 2.0**-tail) / tail  # slope of the log-odds of the share at C_mid
    fine = [zoom(c, np.array(A.shape[1:]) / c.shape, mode="nearest") for c in coarse]
    headroom = (A - R0) / (1.0 - R0)
    log_weight += (
        np.stack(fine)
        + run_logit(logit(headroom))
        - np.log(headroom * (1.0 - headroom))
        - np.log(1.0 - R0)
        + spread_normal(np.log(B), np.log(1.7), 0.6, 0.1)
        + spread_normal(ln_C_mid, x.mean(), 2.0, 0.2)
    )
    log_weight = np.where(np.isfinite(log_weight), log_weight, -np.inf)  # corners, in which the curve is flat
    near = log_weight > log_weight.max() - 25.0
    own = {"A": A[near], "B": B[near], "C_mid": np.exp(ln_C_mid[near]), "R0": R0[near]}
    return own | {"tail": np.full(near.sum(), tail)}, log_weight[near]


def recipe_ceiling(run: GridPosterior, bins: int = 600) -> GridPosterior:
    """Ceiling of the recipe: each ceiling of the run, and the steps that may have led there from the recipe."""
    steps, weight = run_steps(0.1)
    ceilings, weights = [], []
    for R0 in np.unique(run.values["R0"]):
        at = run.values["R0"] == R0
        place = logit((run.values["A"][at] - R0) / (1.0 - R0))
        total, edges = np.histogram(place, bins, weights=run.weights[at])
        of_run = 0.5 * (edges[1:] + edges[:-1])
        of_recipe = of_run[:, None] - steps
        joint = weight * np.exp(recipe_logit(of_recipe))
        ceilings.append(R0 + (1.0 - R0) * expit(of_recipe).ravel())
        weights.append((total[:, None] * joint / joint.sum(axis=1, keepdims=True)).ravel())
    values, mass = np.concatenate(ceilings), np.concatenate(weights)
    return GridPosterior({"A": values}, mass / mass.sum())
