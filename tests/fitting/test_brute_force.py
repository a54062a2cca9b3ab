"""NUTS against brute-force integration on real runs: quantiles and a chance, within Monte Carlo error."""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import pytest
from arviz_stats.base import array_stats
from scipy.special import logit

import rlceiling as rl
from brute_force import GridPosterior, Reach, grid_posterior, recipe_ceiling
from rlceiling.decisions.chances import chance_of_draws
from rlceiling.models.paths import paths_at

KINDS = {
    "GSPO": "identified",
    "no-positive-resampling": "noisy: the largest sigma",
    "ScaleRL-34k": "before its inflection",
    "no-norm": "short: 11 evaluations",
}
TAILS = 9
"""Number of tails at which the others are integrated."""

QUANTILES = (0.05, 0.5, 0.95)
ALLOWED = 4.0
"""Monte Carlo errors that a quantile may be off: 48 comparisons pass this by chance 99.7 times in 100."""


def integrate(fit: rl.Fit) -> GridPosterior:
    """Integrate the posterior of a run; the fit only says how far the grid must reach."""
    (e,) = fit.runs
    assert e.start is not None
    x = np.log(e.compute)
    anchors = np.exp(x[0] + np.array([0.15, 0.85]) * (x[-1] - x[0]))
    flat = {k: v.reshape(-1) for k, v in fit.scaled_draws_of(e.run).items()}
    curve = paths_at(fit.data, 0, flat, anchors).curve

    def reach(values: np.ndarray) -> Reach:
        lowest, low, middle, high, highest = np.quantile(values, [0.001, 0.25, 0.5, 0.75, 0.999])
        margin = 0.25 * (highest - lowest)
        return Reach(lowest - margin, middle, high - low, highest + margin)

    def error(reward: np.ndarray, n_eval: np.ndarray) -> np.ndarray:
        p = (reward * n_eval + 0.5) / (n_eval + 1.0)
        return np.sqrt(0.25 * p * (1.0 - p) / n_eval + 1e-8)

    return grid_posterior(
        e.compute,
        e.reward,
        error(e.reward, e.n_eval),
        (e.start[0], float(error(np.array(e.start[0]), np.array(e.start[1])))),
        low=reach(logit((curve[:, 0] - flat["R0"]) / (curve[:, 1] - flat["R0"]))),
        high=reach(curve[:, 1]),
        top=reach(logit((flat["A"] - curve[:, 1]) / (1.0 - curve[:, 1]))),
        ln_tails=np.linspace(*np.quantile(np.log(flat["tail"]), [0.0005, 0.9995]), TAILS),
    )


@pytest.fixture(scope="module")
def fits(scalerl: rl.Runs) -> rl.Fits:
    """Longer than by default, so that Monte Carlo errors are small and themselves known.

    No evaluation is bad, because the integral over all subsets of bad evaluations is too large; see the tests of the
    noise for them.
    """
    return rl.fit(scalerl.select(*KINDS), rl.SigmoidPriors(bad_share=0.0), draws=5000)


@pytest.fixture(scope="module")
def grids(fits: rl.Fits) -> dict[str, GridPosterior]:
    return {name: integrate(fits[name]) for name in KINDS}


@pytest.fixture(scope="module")
def recipes(grids: dict[str, GridPosterior]) -> dict[str, GridPosterior]:
    return {name: recipe_ceiling(grid) for name, grid in grids.items()}


def errors(fit: rl.Fit, grid: GridPosterior, recipe: GridPosterior) -> dict[tuple[str, float], float]:
    """Distance of each quantile of the run, and of the recipe's ceiling, in Monte Carlo errors."""
    pairs = [(name, fit.run_draws[name][..., 0], grid) for name in ("A", "B", "C_mid")]
    pairs.append(("A of the recipe", fit.draws["A"], recipe))
    return {
        (name, q): (np.quantile(draws, q) - expected.quantile(name.split()[0], q))
        / float(array_stats.mcse(draws, method="quantile", prob=q))
        for name, draws, expected in pairs
        for q in QUANTILES
    }


@pytest.mark.parametrize("name", KINDS)
def test_quantiles_agree(
    name: str, fits: rl.Fits, grids: dict[str, GridPosterior], recipes: dict[str, GridPosterior]
) -> None:
    off = errors(fits[name], grids[name], recipes[name])
    assert max(map(abs, off.values())) < ALLOWED, off


def test_chance_agrees(fits: rl.Fits, recipes: dict[str, GridPosterior]) -> None:
    chance, mcse = chance_of_draws(fits["GSPO"].draws["A"], fits["no-positive-resampling"].draws["A"])
    assert 0.2 < chance < 0.95
    expected = recipes["GSPO"].chance_higher(recipes["no-positive-resampling"])
    assert abs(chance - expected) < ALLOWED * mcse


def test_quantiles_of_wrong_model_disagree(
    scalerl: rl.Runs, grids: dict[str, GridPosterior], recipes: dict[str, GridPosterior]
) -> None:
    """Negative control: the same comparison notices noise that is taken for independent."""
    independent = rl.fit(scalerl.select("GSPO"), rl.SigmoidPriors(share=dist.Beta(1, 1000), bad_share=0.0))
    off = errors(independent["GSPO"], grids["GSPO"], recipes["GSPO"])
    assert max(map(abs, off.values())) > 3 * ALLOWED
