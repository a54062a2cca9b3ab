"""The population of recipes: known answers, calibrated hyperparameters, and the distribution of one more recipe."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

from rlceiling.models.population import (
    BETWEEN_SHARE,
    LEAST_SPREAD,
    SPREAD_FACTOR,
    SPREAD_SHARE,
    SPREADS_DIFFER,
    Hyperprior,
    Population,
    RecipeDraws,
    first_guess,
    predictive,
    sample_new_study,
    sample_population,
)
from slow import in_miniature_too

NAMES = ("headroom", "B", "sigma")
MEAN, SCALE = np.array([0.0, 0.5, -4.6]), np.array([1.4, 0.6, 1.1])
MILD = Hyperprior.of_mild(MEAN, SCALE)


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
    found = sample_population([normal_recipe(u, 0.05, rng) for u in true], NAMES, MILD)
    spread = true.std(axis=0, ddof=1)
    assert np.abs(found.centre.mean(axis=0) - true.mean(axis=0)).max() < 0.05
    assert found.centre.std(axis=0) == pytest.approx(spread / np.sqrt(12), rel=0.5)
    assert np.median(found.spread, axis=0) == pytest.approx(spread, rel=0.3)
    assert found.like["curve"].mean() > 0.9


def test_a_recipe_far_outside_leaves_the_population_as_it_is() -> None:
    rng = np.random.default_rng(1)
    true = np.array([-1.0, 0.6, -5.2]) + np.array([0.35, 0.15, 0.25]) * rng.standard_normal((11, 3))
    odd = np.array([2.5, 0.6, -5.2])
    found = sample_population([normal_recipe(u, 0.05, rng) for u in [*true, odd]], NAMES, MILD)
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
        population = sample_population(made, NAMES, MILD, seed=int(rng.integers(1 << 30)))
        jax.clear_caches()  # see study_ranks
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
    centre, spread = first_guess([normal_recipe(u, 0.1, rng) for u in true], MILD)
    assert np.abs(centre - true.mean(axis=0)).max() < 0.05
    assert spread == pytest.approx(true.std(axis=0), rel=0.2)


def study_of(centre: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> Population:
    """Draws of a study whose recipes give normal likelihoods of its centres and log spreads: a closed form."""

    def known(truth: np.ndarray, mean: np.ndarray, sd: np.ndarray, error: float = 0.1) -> np.ndarray:
        observed, precision = truth + error * rng.standard_normal(3), 1.0 / sd**2 + 1.0 / error**2
        middle = (mean / sd**2 + observed / error**2) / precision
        return middle + rng.standard_normal((400, 3)) / np.sqrt(precision)

    log_own = known(np.log(own), MILD.log_spread, MILD.log_spread_sd)
    spread = np.hypot(np.exp(log_own), LEAST_SPREAD)
    return Population(NAMES, known(centre, MILD.centre, MILD.scale), spread, {"curve": np.full(400, 0.9)}, log_own)


def test_one_more_study_differs_from_the_others_as_they_do() -> None:
    rng = np.random.default_rng(5)
    middle, between = np.array([-1.0, 0.6, -5.2]), 0.6
    centres = middle + between * rng.standard_normal((6, 3))
    found = sample_new_study([study_of(centre, np.full(3, 0.15), rng) for centre in centres], MILD)
    spread = centres.std(axis=0, ddof=1)
    assert np.abs(found.centre.mean(axis=0) - centres.mean(axis=0)).max() < 0.5 * spread.max()
    assert found.centre.std(axis=0) == pytest.approx(spread * np.sqrt(1.0 + 1.0 / 6.0), rel=0.4)
    assert np.median(found.spread, axis=0) == pytest.approx(0.16, abs=0.06)
    # A population that took all recipes for those of one study would be far narrower than one more study.
    alike = sample_new_study([study_of(middle, np.full(3, 0.15), rng) for _ in centres], MILD)
    assert (alike.centre.std(axis=0) < 0.6 * found.centre.std(axis=0)).all()


def study_ranks(number: int, rng: np.random.Generator) -> np.ndarray:
    """Ranks of the centre and spread of a seventh study among the draws for one more study, from the model itself."""
    found = []
    for _ in range(number):
        mean = MEAN + SCALE * rng.standard_normal(3)
        between = BETWEEN_SHARE * SCALE * np.exp(SPREAD_FACTOR * rng.standard_normal(3))
        log_spread = MILD.log_spread + SPREAD_FACTOR * rng.standard_normal(3)
        differ = SPREADS_DIFFER[0] * np.exp(SPREADS_DIFFER[1] * rng.standard_normal(3))
        centres = mean + between * rng.standard_normal((7, 3))
        own = np.exp(log_spread + differ * rng.standard_normal((7, 3)))
        made = [study_of(c, s, rng) for c, s in zip(centres[:6], own[:6], strict=True)]
        population = sample_new_study(made, MILD, seed=int(rng.integers(1 << 30)))
        jax.clear_caches()  # every sampling compiles its program, and hundreds of them exhaust XLA
        truth = np.concatenate([centres[6], np.hypot(own[6], LEAST_SPREAD)])
        found.append((np.hstack([population.centre, population.spread]) < truth).mean(axis=0))
    return np.array(found)


@in_miniature_too
def test_one_more_study_is_calibrated(full: bool) -> None:
    got = study_ranks(200 if full else 2, np.random.default_rng(6))
    assert ((got > 0.0) & (got < 1.0)).mean() > 0.8
    if full:
        for column in got.T:
            assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_a_hyperprior_moves_the_population_of_few_recipes() -> None:
    rng = np.random.default_rng(7)
    few = [normal_recipe(np.array([1.0, 0.5, -5.0]), 0.8, rng) for _ in range(3)]
    known = Hyperprior(np.array([-1.0, 0.5, -5.0]), np.full(3, 0.1), np.log(np.full(3, 0.1)), np.full(3, 0.1))
    free, held = (sample_population(few, NAMES, prior).centre[:, 0].mean() for prior in (MILD, known))
    assert free > 0.2
    assert held < -0.6
