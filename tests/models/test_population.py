"""The population of recipes: known answers, calibrated hyperparameters, and the distribution of one more recipe."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rlceiling.models.population import (
    LEAST_SPREAD,
    SPREAD_FACTOR,
    SPREAD_SHARE,
    Population,
    RecipeDraws,
    first_guess,
    predictive,
    sample_population,
)
from slow import in_miniature_too

NAMES = ("headroom", "B", "sigma")
MEAN, SCALE = np.array([0.0, 0.5, -4.6]), np.array([1.4, 0.6, 1.1])


def normal_recipe(observed: np.ndarray, error: float, rng: np.random.Generator, draws: int = 250) -> RecipeDraws:
    """Draws of a recipe whose data give a normal likelihood, under a normal mild prior: a closed form."""
    precision = 1.0 / SCALE**2 + 1.0 / error**2
    mean = (MEAN / SCALE**2 + observed / error**2) / precision
    at = mean + rng.standard_normal((draws, len(NAMES))) / np.sqrt(precision)
    mild = stats.norm(MEAN, SCALE).logpdf(at)
    return RecipeDraws(at, mild, mild.sum(axis=-1))


def test_hyperparameters_of_well_known_recipes_are_those_of_their_values() -> None:
    rng = np.random.default_rng(0)
    true = np.array([-1.0, 0.6, -5.2]) + np.array([0.35, 0.15, 0.25]) * rng.standard_normal((12, 3))
    found = sample_population([normal_recipe(u, 0.05, rng) for u in true], NAMES, MEAN, SCALE)
    spread = true.std(axis=0, ddof=1)
    assert np.abs(found.centre.mean(axis=0) - true.mean(axis=0)).max() < 0.05
    assert found.centre.std(axis=0) == pytest.approx(spread / np.sqrt(12), rel=0.5)
    assert np.median(found.spread, axis=0) == pytest.approx(spread, rel=0.3)
    assert found.like["curve"].mean() > 0.9


def test_a_recipe_far_outside_leaves_the_population_as_it_is() -> None:
    rng = np.random.default_rng(1)
    true = np.array([-1.0, 0.6, -5.2]) + np.array([0.35, 0.15, 0.25]) * rng.standard_normal((11, 3))
    odd = np.array([2.5, 0.6, -5.2])
    found = sample_population([normal_recipe(u, 0.05, rng) for u in [*true, odd]], NAMES, MEAN, SCALE)
    spread = np.median(found.spread, axis=0)[0]
    assert abs(found.centre[:, 0].mean() - true[:, 0].mean()) < 0.1
    assert spread == pytest.approx(true[:, 0].std(ddof=1), rel=0.35)
    assert np.vstack([true, odd])[:, 0].std() > 2.0 * spread  # what it would be without the mixture


def ranks(number: int, recipes: int, rng: np.random.Generator) -> np.ndarray:
    """Ranks of true hyperparameters among their draws, shape (number, 2 K), for truths drawn from their priors."""
    found = []
    for _ in range(number):
        centre = MEAN + SCALE * rng.standard_normal(len(NAMES))
        own = SPREAD_SHARE * SCALE * np.exp(SPREAD_FACTOR * rng.standard_normal(len(NAMES)))
        spread = np.hypot(own, LEAST_SPREAD)
        like = {"curve": rng.beta(9.0, 1.0), "noise": rng.beta(9.0, 1.0)}
        made = []
        for _ in range(recipes):
            alike = np.array([rng.random() < like["curve"]] * 2 + [rng.random() < like["noise"]])
            # Both parameters of the curve are like the others, or neither is.
            alike[1] = alike[0]
            u = np.where(alike, centre + spread * rng.standard_normal(3), MEAN + SCALE * rng.standard_normal(3))
            made.append(normal_recipe(u + 0.1 * rng.standard_normal(3), 0.1, rng))
        population = sample_population(made, NAMES, MEAN, SCALE, seed=int(rng.integers(1 << 30)))
        truth = np.concatenate([centre, spread])
        found.append((np.hstack([population.centre, population.spread]) < truth).mean(axis=0))
    return np.array(found)


@in_miniature_too
def test_hyperparameters_are_calibrated(full: bool) -> None:
    got = ranks(100 if full else 2, 12, np.random.default_rng(2))
    assert got.shape[1] == 6
    assert ((got > 0.0) & (got < 1.0)).mean() > 0.9
    if full:
        for column in got.T:
            assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_one_more_recipe_is_spread_like_draws_from_the_population() -> None:
    rng = np.random.default_rng(3)
    centre = 1.0 + 0.3 * rng.standard_normal((4000, 1))
    spread = 0.5 * np.exp(0.3 * rng.standard_normal((4000, 1)))
    population = Population(("B",), centre, spread, {"curve": np.full(4000, 0.9)}, np.zeros((4000, 1)))
    learned, like = predictive(population)
    one = learned["B"]
    drawn = (centre + spread * rng.standard_normal((4000, 1))).ravel()
    t = stats.t(float(one.df), float(one.loc), float(one.scale))
    assert like == {"curve": pytest.approx(0.9)}
    for p in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert t.cdf(np.quantile(drawn, p)) == pytest.approx(p, abs=0.02)
    later = predictive(population, (np.arange(4000) % 2 == 0).astype(float))[0]["B"]
    assert float(later.loc) == pytest.approx(centre[::2].mean(), abs=1e-6)


def test_first_guess_is_near_the_truth_where_recipes_are_well_known() -> None:
    rng = np.random.default_rng(4)
    true = np.array([-1.0, 0.6, -5.2]) + 0.4 * rng.standard_normal((30, 3))
    centre, spread = first_guess([normal_recipe(u, 0.1, rng) for u in true], MEAN, SCALE)
    assert np.abs(centre - true.mean(axis=0)).max() < 0.05
    assert spread == pytest.approx(true.std(axis=0), rel=0.2)
