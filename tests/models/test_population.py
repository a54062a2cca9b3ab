"""The population of recipes: brute-force integration, calibrated hyperparameters, and one more recipe or study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from rlceiling.fitting.sample_population import JointDraws, sample_joint
from rlceiling.models.joint_population import HyperCoordinates, Recipes, conditional, hyper_dimension, no_correction
from rlceiling.models.likeness import LEARNED, LIKE
from rlceiling.models.population import (
    BETWEEN_SHARE,
    LEAST_SPREAD,
    LIKE_PRIOR,
    SPREAD_FACTOR,
    SPREAD_SHARE,
    SPREADS_DIFFER,
    Hyperprior,
    Population,
    first_guess,
    groups_of,
    predictive,
    sample_new_study,
)
from rlceiling.settings import SamplerSettings
from slow import in_miniature_too

NAMES = ("headroom", "B", "sigma")
MEAN, SCALE = np.array([0.0, 0.5, -4.6]), np.array([1.4, 0.6, 1.1])
MILD = Hyperprior.of_mild(MEAN, SCALE)
QUICK = SamplerSettings(chains=4, tune=150, draws=250, target_accept=0.9)


def normal_recipe(z: jax.Array, learned: Mapping[str, Any], given: Any) -> jax.Array:
    """Log density of a recipe whose parameters were observed with a normal error, under normal mild priors."""
    observed, error, mean, scale = given
    density = dist.Normal(z, error).log_prob(observed).sum()
    names = [name for name in NAMES if LEARNED(name) in learned]
    for group, places in groups_of(names).items():
        like = sum(learned[LEARNED(names[k])].log_prob(z[k]) for k in places)
        other = sum(dist.Normal(mean[k], scale[k]).log_prob(z[k]) for k in places)
        w = learned[LIKE(group)].probs
        density += jnp.logaddexp(jnp.log(w) + like, jnp.log1p(-w) + other)
    return density


def sampled(
    observed: np.ndarray,
    error: float,
    prior: Hyperprior = MILD,
    *,
    names: tuple[str, ...] = NAMES,
    settings: SamplerSettings = QUICK,
) -> JointDraws:
    """Joint posterior of recipes with these observed parameters, shape (recipes, K)."""
    rng = np.random.default_rng(0)
    chosen = [NAMES.index(name) for name in names]
    mean, scale = MEAN[chosen], SCALE[chosen]
    precision = 1.0 / scale**2 + 1.0 / error**2
    number, size = observed.shape
    alone = (mean / scale**2 + observed / error**2) / precision
    u = alone[:, None] + rng.standard_normal((number, 300, size)) / np.sqrt(precision)
    near = [conditional(own, own, np.full(size, 0.9), mean, scale**-2) for own in u]
    given = tuple(np.broadcast_to(values, observed.shape) for values in (observed, error, mean, scale))
    centre, spread = first_guess(u, prior, mean, scale)
    hyper = HyperCoordinates(prior, mean, scale, centre, np.hypot(spread, error) / np.sqrt(number), np.log(spread))
    recipes = Recipes(
        given,
        jax.tree.map(lambda *one: np.stack(one), *near),
        no_correction(number, size, hyper_dimension(names)),
    )
    return sample_joint(names, hyper, [recipes], normal_recipe, settings, max_r_hat=1.05)


class Grid:
    """Posterior of one centre, one spread and one probability to be like the others, on a grid."""

    def __init__(self, observed: np.ndarray, error: float) -> None:
        mean, scale = MEAN[1], SCALE[1]
        centre = np.linspace(mean - 4.0 * scale, mean + 4.0 * scale, 161)
        log_own = MILD.log_spread[1] + SPREAD_FACTOR * np.linspace(-4.0, 4.0, 61)
        like = (np.arange(40) + 0.5) / 40.0
        self.centre, log_own, w = np.meshgrid(centre, log_own, like, indexing="ij")
        self.spread = np.hypot(np.exp(log_own), LEAST_SPREAD)
        density = stats.norm(mean, scale).logpdf(self.centre) + stats.beta(*LIKE_PRIOR).logpdf(w)
        density += stats.norm(MILD.log_spread[1], SPREAD_FACTOR).logpdf(log_own)
        for y in observed:
            alike = stats.norm(self.centre, np.hypot(self.spread, error)).logpdf(y)
            density += np.logaddexp(
                np.log(w) + alike, np.log1p(-w) + stats.norm(mean, np.hypot(scale, error)).logpdf(y)
            )
        self.weight = np.exp(density - density.max())
        self.weight /= self.weight.sum()
        self.error, self.w = error, w

    def mean(self, of: np.ndarray) -> float:
        return float((self.weight * of).sum())

    def recipe(self, y: float) -> float:
        """Posterior mean of a recipe that was observed at `y` and is one of those of the grid."""
        found, odds = [], []
        pairs = ((self.centre, self.spread, self.w), (MEAN[1], SCALE[1], 1.0 - self.w))
        for centre, spread, share in pairs:
            precision = 1.0 / spread**2 + 1.0 / self.error**2
            found.append((centre / spread**2 + y / self.error**2) / precision)
            odds.append(share * stats.norm(centre, np.hypot(spread, self.error)).pdf(y))
        return self.mean((odds[0] * found[0] + odds[1] * found[1]) / (odds[0] + odds[1]))


def test_hyperparameters_and_recipes_are_those_of_brute_force_integration() -> None:
    observed, error = np.array([0.3, 0.55, 0.7, 2.0]), 0.15
    joint = sampled(
        observed[:, None], error, Hyperprior(*(own[1:2] for own in MILD)), names=("B",), settings=SamplerSettings()
    )
    population, grid = joint.population(), Grid(observed, error)
    assert joint.r_hat < 1.02
    for drawn, of in ((population.centre, grid.centre), (population.spread, grid.spread)):
        middle = grid.mean(of)
        sd = np.sqrt(grid.mean((of - middle) ** 2))
        assert drawn.mean() == pytest.approx(middle, abs=0.15 * sd)
        assert drawn.std() == pytest.approx(sd, rel=0.2)
        for p in (0.1, 0.5, 0.9):  # a part of the grid has a width of its own
            assert grid.mean(of <= np.quantile(drawn, p)) == pytest.approx(p, abs=0.05)
    assert population.like["curve"].mean() == pytest.approx(grid.mean(grid.w), abs=0.02)
    (recipes,) = joint.recipes()
    for i, y in enumerate(observed):
        assert recipes[:, :, i, 0].mean() == pytest.approx(grid.recipe(y), abs=0.02)
    # The outlier is left out by weights; the population of the others is another one.
    others = Grid(observed[:3], error)
    weight = joint.weights_without(3)
    without = float(weight @ population.centre[:, 0])
    assert without == pytest.approx(others.mean(others.centre), abs=0.06)
    assert abs(population.centre.mean() - without) > 0.1


def test_hyperparameters_of_well_known_recipes_are_those_of_their_values() -> None:
    rng = np.random.default_rng(0)
    true = np.array([-1.0, 0.6, -5.2]) + np.array([0.35, 0.15, 0.25]) * rng.standard_normal((12, 3))
    found = sampled(true, 0.05).population()
    spread = true.std(axis=0, ddof=1)
    assert np.abs(found.centre.mean(axis=0) - true.mean(axis=0)).max() < 0.05
    assert found.centre.std(axis=0) == pytest.approx(spread / np.sqrt(12), rel=0.5)
    assert np.median(found.spread, axis=0) == pytest.approx(spread, rel=0.3)
    assert found.like["curve"].mean() > 0.9


def test_a_recipe_far_outside_leaves_the_population_as_it_is() -> None:
    rng = np.random.default_rng(1)
    true = np.array([-1.0, 0.6, -5.2]) + np.array([0.35, 0.15, 0.25]) * rng.standard_normal((11, 3))
    odd = np.array([2.5, 0.6, -5.2])
    found = sampled(np.vstack([true, odd]), 0.05).population()
    spread = np.median(found.spread, axis=0)[0]
    assert abs(found.centre[:, 0].mean() - true[:, 0].mean()) < 0.1
    assert spread == pytest.approx(true[:, 0].std(ddof=1), rel=0.35)
    assert np.vstack([true, odd])[:, 0].std() > 2.0 * spread  # what it would be without the mixture


def ranks(number: int, recipes: int, rng: np.random.Generator) -> np.ndarray:
    """Ranks of true hyperparameters and of one recipe's parameters among their draws, for truths from the model."""
    found = []
    for _ in range(number):
        centre = MEAN + SCALE * rng.standard_normal(len(NAMES))
        own = SPREAD_SHARE * SCALE * np.exp(SPREAD_FACTOR * rng.standard_normal(len(NAMES)))
        spread = np.hypot(own, LEAST_SPREAD)
        like = {"curve": rng.beta(*LIKE_PRIOR), "noise": rng.beta(*LIKE_PRIOR)}
        alike = np.stack([rng.random(recipes) < like[group] for group in ("curve", "curve", "noise")], axis=-1)
        alike[:, 1] = alike[:, 0]  # both parameters of the curve are like the others, or neither is
        own_u, other = (rng.standard_normal((recipes, 3)) for _ in range(2))
        u = np.where(alike, centre + spread * own_u, MEAN + SCALE * other)
        # Some errors are as large as the spreads, so that the recipes learn from each other.
        settings = SamplerSettings(tune=250, draws=500, target_accept=0.9, seed=int(rng.integers(1 << 30)))
        joint = sampled(u + 0.3 * rng.standard_normal(u.shape), 0.3, settings=settings)
        population, (z,) = joint.population(), joint.recipes()
        drawn = np.hstack([population.centre, population.spread, z[:, :, 0].reshape(-1, 3)])
        found.append((drawn < np.concatenate([centre, spread, u[0]])).mean(axis=0))
    return np.array(found)


@in_miniature_too
def test_hyperparameters_and_recipes_are_calibrated(full: bool) -> None:
    got = ranks(200 if full else 2, 12, np.random.default_rng(2))
    assert got.shape[1] == 9
    assert ((got > 0.0) & (got < 1.0)).mean() > 0.9
    if full:
        for column in got.T:
            assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_one_more_recipe_is_spread_like_draws_from_the_population() -> None:
    rng = np.random.default_rng(3)
    centre = 1.0 + 0.3 * rng.standard_normal((4000, 1))
    spread = 0.5 * np.exp(0.3 * rng.standard_normal((4000, 1)))
    population = Population(("B",), centre, spread, {"curve": np.full(4000, 0.9)})
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
    draws = true[:, None] + 0.1 * rng.standard_normal((30, 250, 3))
    centre, spread = first_guess(draws, MILD, MEAN, SCALE)
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
    return Population(NAMES, known(centre, MILD.centre, MILD.scale), spread, {"curve": np.full(400, 0.9)})


def test_one_more_study_differs_from_the_others_as_they_do() -> None:
    rng = np.random.default_rng(5)
    middle, between = np.array([-1.0, 0.6, -5.2]), 0.6
    centres = middle + between * rng.standard_normal((6, 3))
    found = sample_new_study([study_of(centre, np.full(3, 0.15), rng) for centre in centres], MILD)
    spread = centres.std(axis=0, ddof=1)
    assert np.abs(found.centre.mean(axis=0) - centres.mean(axis=0)).max() < 0.5 * spread.max()
    assert found.centre.std(axis=0) == pytest.approx(spread * np.sqrt(1.0 + 1.0 / 6.0), rel=0.4)
    assert np.median(found.spread, axis=0) == pytest.approx(0.16, abs=0.06)
    # A study that was sampled again has more draws.
    more = [study_of(centre, np.full(3, 0.15), rng) for centre in centres]
    doubled = (
        more[0]
        .thinned(400)
        ._replace(centre=np.repeat(more[0].centre, 2, axis=0), spread=np.repeat(more[0].spread, 2, axis=0))
    )
    doubled = doubled._replace(like={"curve": np.full(800, 0.9)})
    np.testing.assert_array_equal(doubled.thinned(400).centre[[0, -1]], more[0].centre[[0, -1]])
    assert np.isfinite(sample_new_study([doubled, *more[1:]], MILD).centre).all()
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
    few = np.array([1.0, 0.5, -5.0]) + 0.8 * rng.standard_normal((3, 3))
    known = Hyperprior(np.array([-1.0, 0.5, -5.0]), np.full(3, 0.1), np.log(np.full(3, 0.1)), np.full(3, 0.1))
    free, held = (sampled(few, 0.8, prior).population().centre[:, 0].mean() for prior in (MILD, known))
    assert free > 0.2
    assert held < -0.6
