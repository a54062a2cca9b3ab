"""Posterior of a recipe with one run by brute-force integration, written without the package's own model code.

Every factor comes from scipy: prior densities, and the likelihood as a dense multivariate normal. The curve is
laid out on a grid of its values at two computes and of its ceiling, on which the posterior is compact; the noise
(sigma, share, length) and the start are integrated by quadrature. The run's headroom, efficiency and midpoint have
as prior those of the recipe spread by the unknown spread between runs, which is integrated by quadrature too; the
ceiling of the recipe follows from that of the run. The trapezoid rule is exact to many digits for
smooth densities that vanish at the ends of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, logit, roots_hermitenorm, roots_jacobi


@dataclass(frozen=True)
class GridPosterior:
    """Points of the grid and their posterior weights."""

    values: dict[str, np.ndarray]
    weights: np.ndarray

    def quantile(self, name: str, q: float) -> float:
        order = np.argsort(self.values[name])
        cumulative = np.cumsum(self.weights[order]) - 0.5 * self.weights[order]
        return float(np.interp(q, cumulative, self.values[name][order]))

    def chance_higher(self, other: GridPosterior) -> float:
        """P(A > A of other), by the weighted distribution function of the other."""
        order = np.argsort(other.values["A"])
        cumulative = np.cumsum(other.weights[order]) - 0.5 * other.weights[order]
        below = np.interp(self.values["A"], other.values["A"][order], cumulative, left=0.0, right=1.0)
        return float(self.weights @ below)


def half_normal(scale: float, nodes: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a half-normal spread: those of a normal, folded."""
    t, weight = roots_hermitenorm(nodes)
    return scale * np.abs(t), weight / weight.sum()


def spread_normal(values: np.ndarray, mean: float, sd: float, scale: float) -> np.ndarray:
    """Log density of a run around a normal recipe, with a half-normal spread between runs."""
    spread, weight = half_normal(scale)
    return np.logaddexp.reduce(
        [np.log(w) + stats.norm.logpdf(values, mean, np.hypot(sd, s)) for s, w in zip(spread, weight, strict=True)]
    )


def recipe_steps() -> tuple[np.ndarray, np.ndarray]:
    """Steps from the recipe to a run in the logit of headroom, and their probabilities."""
    spread, weight = half_normal(0.1)
    t, weight_t = roots_hermitenorm(21)
    steps = np.multiply.outer(spread, t).ravel()
    return steps, np.multiply.outer(weight, weight_t / weight_t.sum()).ravel()


def recipe_logit(values: np.ndarray) -> np.ndarray:
    """Log prior density of the recipe's logit of headroom, headroom being Beta(1.5, 1.5)."""
    return stats.beta(1.5, 1.5).logpdf(expit(values)) + np.log(expit(values)) + np.log(expit(-values))


def run_logit(values: np.ndarray) -> np.ndarray:
    """That of a run, from a table fine enough to be linear in between."""
    steps, weight = recipe_steps()
    table = np.linspace(values.min() - 1e-6, values.max() + 1e-6, 2000)
    spread = np.full(len(table), -np.inf)
    for step, log_weight in zip(steps, np.log(weight), strict=True):
        spread = np.logaddexp(spread, log_weight + recipe_logit(table - step))
    return np.interp(values, table, spread)


def grid_posterior(
    compute: np.ndarray,
    reward: np.ndarray,
    eval_sd: np.ndarray,
    start: tuple[float, float],
    *,
    low_range: tuple[float, float],
    high_range: tuple[float, float],
    top_range: tuple[float, float],
    nodes: tuple[int, int, int] = (30, 24, 60),
) -> GridPosterior:
    """Integrate the posterior under the default priors.

    Parameters
    ----------
    compute, reward, eval_sd : ndarray
        Evaluations and the error of each.
    start : (float, float)
        Step-0 evaluation and its error.
    low_range, high_range : (float, float)
        Range of the mean curve at 15% and 85% of ln C.
    top_range : (float, float)
        Range of ``logit((A - p_high) / (1 - p_high))``.
    nodes : (int, int, int)
        Grid points in each.
    """
    x = np.log(compute)
    x_low, x_high = x[0] + np.array([0.15, 0.85]) * (x[-1] - x[0])

    # Start: Gauss-Hermite. Noise: log grid of sigma, Gauss-Jacobi for share, Gauss-Hermite for ln length.
    z0, w0 = roots_hermitenorm(3)
    R0, p_low, p_high, z_top = (
        g.ravel()
        for g in np.meshgrid(
            start[0] + start[1] * z0,
            np.linspace(*low_range, nodes[0]),
            np.linspace(*high_range, nodes[1]),
            np.linspace(*top_range, nodes[2]),
            indexing="ij",
        )
    )
    log_weight = np.repeat(np.log(w0), nodes[0] * nodes[1] * nodes[2])
    kept = (p_low > R0) & (p_high > p_low)
    R0, p_low, p_high, z_top, log_weight = (v[kept] for v in (R0, p_low, p_high, z_top, log_weight))
    A = p_high + (1.0 - p_high) * expit(z_top)
    logits = logit((p_low - R0) / (A - R0)), logit((p_high - R0) / (A - R0))
    B = (logits[1] - logits[0]) / (x_high - x_low)
    ln_C_mid = x_low - logits[0] / B

    # d(A, ln B, ln C_mid) / d(z_top, p_low, p_high), with dl/dp = (A - R0)/((p - R0)(A - p)).
    slopes = [(A - R0) / ((p - R0) * (A - p)) for p in (p_low, p_high)]
    jacobian = (x_high - x_low) / (logits[1] - logits[0]) ** 2 * slopes[0] * slopes[1]
    jacobian *= (1.0 - p_high) * expit(z_top) * expit(-z_top)
    headroom = (A - R0) / (1.0 - R0)
    log_weight += (
        np.log(jacobian)
        + run_logit(logit(headroom))
        - np.log(headroom * (1.0 - headroom))
        - np.log(1.0 - R0)
        + spread_normal(np.log(B), np.log(1.7), 0.6, 0.1)
        + spread_normal(ln_C_mid, x.mean(), 2.0, 0.2)
    )
    residual = reward[:, None] - (R0 + (A - R0) * expit(B * (x[:, None] - ln_C_mid)))

    log_sigma = np.linspace(np.log(2e-4), np.log(0.09), 16)
    sigma_weight = stats.halfnorm.pdf(np.exp(log_sigma), scale=0.02) * np.exp(log_sigma)
    t, share_weight = roots_jacobi(10, 0.0, 1.0)  # Beta(2, 1)
    log_length, length_weight = roots_hermitenorm(9)
    total, reference = np.zeros(len(A)), -np.inf
    for ls, ws in zip(log_sigma, sigma_weight, strict=True):
        for share, wh in zip((t + 1.0) / 2.0, share_weight, strict=True):
            for z, wl in zip(log_length, length_weight, strict=True):
                variance = np.exp(2.0 * ls)
                correlated = share * variance * np.exp(-np.abs(x[:, None] - x) / np.exp(np.log(0.5) + z))
                factor = np.linalg.cholesky(correlated + np.diag((1.0 - share) * variance + eval_sd**2))
                white = np.linalg.inv(factor) @ residual  # a product runs on all cores; conditions are mild
                log_density = -0.5 * np.einsum("ij,ij->j", white, white) - np.log(np.diag(factor)).sum()
                log_density += log_weight + np.log(ws * wh * wl)
                highest = log_density.max()
                if highest > reference:
                    total, reference = total * np.exp(reference - highest), highest
                if highest > reference - 40.0:
                    total += np.exp(log_density - reference)
    kept = total > 0
    return GridPosterior(
        {"A": A[kept], "B": B[kept], "C_mid": np.exp(ln_C_mid[kept]), "R0": R0[kept]}, total[kept] / total.sum()
    )


def recipe_ceiling(run: GridPosterior, bins: int = 600) -> GridPosterior:
    """Ceiling of the recipe: each ceiling of the run, and the steps that may have led there from the recipe."""
    steps, weight = recipe_steps()
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
