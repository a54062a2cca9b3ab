"""Sampling coordinates: the Jacobian, the densities, and where sampling starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from rlceiling.curves import sigmoid_curve
from rlceiling.models.family import log_posterior as family_log_posterior
from rlceiling.models.noise import BAD_SCALE
from rlceiling.models.pooling import CORE
from rlceiling.models.recipe_centre import least_squares_centre
from rlceiling.models.recipe_coordinates import (
    CURVE_DIMENSION,
    TAIL_SCALE,
    VARIES,
    Centre,
    Natural,
    dimension,
    to_natural,
)
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.models.recipe_family import RECIPE
from rlceiling.models.recipe_priors import SigmoidPriors
from rlceiling.models.transforms import stretch, unstretch
from rlceiling.runs import Run

COMPUTE = np.geomspace(800, 12_000, 15)
REWARD = sigmoid_curve(COMPUTE, 0.62, 1.8, 2500.0, 0.4)
STARTS = {"known": (0.4, 16_000.0), "error unknown": (0.4, np.nan), "not logged": None}
SHORTER = sigmoid_curve(COMPUTE[:6], 0.6, 2.0, 2200.0, 0.4)
SINGLE = sigmoid_curve(COMPUTE[9:10], 0.63, 1.6, 2700.0, 0.4)


def run_of(reward: np.ndarray, start: tuple[float, float] | None, compute: np.ndarray = COMPUTE) -> Run:
    return Run("a", "0", compute, reward, np.full(len(compute), 16_000.0), start)


def recipe_with(start: tuple[float, float] | None, runs: int = 1, bad_share: float = 0.0) -> RecipeData:
    """Up to three runs of unequal length, the longest not the first."""
    made = [run_of(SINGLE, start, COMPUTE[9:10]), run_of(REWARD, start), run_of(SHORTER, start, COMPUTE[:6])]
    return prepare(made[1:2] if runs == 1 else made[:runs], evaluation_error=0.5, bad_share=bad_share)


def _natural_and_derivative(
    z: jax.Array, recipe: RecipeData, centre: Centre
) -> tuple[jax.Array, tuple[Natural, jax.Array]]:
    """Derivative of the parameters, flattened, with respect to the coordinates; parameters and log determinant."""

    def flat(z: jax.Array) -> tuple[jax.Array, tuple[Natural, jax.Array]]:
        natural, log_det = to_natural(z, recipe, centre)
        return jnp.concatenate([jnp.ravel(part) for part in natural]), (natural, log_det)

    return jax.jacfwd(flat, has_aux=True)(z)


def log_posterior(z: jax.Array, recipe: RecipeData, centre: Centre, priors: Any) -> jax.Array:
    return family_log_posterior(z, RECIPE, recipe, centre, priors)


# One program for each shape: compiling takes nearly all the time here, the less so without optimisation.
UNOPTIMISED = {"xla_backend_optimization_level": 0}
natural_and_derivative = jax.jit(_natural_and_derivative, compiler_options=UNOPTIMISED)
value_and_gradient = jax.jit(jax.value_and_grad(log_posterior), compiler_options=UNOPTIMISED)


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("shift", [-1.0, 0.5])
@pytest.mark.parametrize("runs", [1, 3])
def test_log_determinant_is_that_of_the_derivative(start: str, shift: float, runs: int) -> None:
    recipe = recipe_with(STARTS[start], runs)
    centre = least_squares_centre(recipe)
    size = dimension(len(recipe.order))
    z = shift + 0.7 * jnp.sin(jnp.arange(float(size)))

    derivative, (_, log_det) = natural_and_derivative(z, recipe, centre)
    assert derivative.shape == (size, size)
    assert float(log_det) == pytest.approx(np.linalg.slogdet(derivative)[1], abs=1e-7)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("ln_tail", [-3.0, 0.4, 2.0])
def test_low_and_high_points_do_not_depend_on_the_tail(start: str, ln_tail: float) -> None:
    """The other coordinates are values of the curve, whatever its tail; with a tail of 1 it is the sigmoid."""
    recipe = recipe_with(STARTS[start])
    centre = least_squares_centre(recipe)
    z = 0.5 * jnp.cos(jnp.arange(float(dimension(1)))).at[CURVE_DIMENSION:].set(0.0)
    points = []
    for at in (z.at[CURVE_DIMENSION - 1].set(0.0), z.at[CURVE_DIMENSION - 1].set(ln_tail / TAIL_SCALE)):
        derivative, (natural, log_det) = natural_and_derivative(at, recipe, centre)
        assert float(log_det) == pytest.approx(np.linalg.slogdet(derivative)[1], abs=1e-7)
        by_headroom, by_C_mid, by_B, _ = np.asarray(natural.offsets)[0]
        A = natural.R0 + (1 - natural.R0) * expit(logit(float(natural.headroom)) + by_headroom)
        C_mid = natural.C_mid_ratio * np.exp(by_C_mid)
        anchors = np.exp(np.array([recipe.x_low, recipe.x_high]))
        own = (float(v) for v in (A, natural.B * np.exp(by_B), C_mid, natural.R0, natural.tail))
        points.append([float(natural.tail), float(natural.R0), float(A), *sigmoid_curve(anchors, *own)])
    assert points[0][0] == 1.0
    assert points[1][0] == pytest.approx(np.exp(ln_tail))
    np.testing.assert_allclose(points[0][1:], points[1][1:], rtol=1e-9)


@pytest.mark.parametrize("ln_tail", [-2.0, 0.0, 2.0])
def test_a_nearly_flat_curve_loses_no_digits(ln_tail: float) -> None:
    """Between points that differ by 1e-9 the slope is still exact to rounding."""
    recipe = recipe_with(STARTS["known"])
    centre = least_squares_centre(recipe)
    z = jnp.zeros(dimension(1)).at[CURVE_DIMENSION - 1].set(ln_tail / TAIL_SCALE)
    flat = []
    for below in (20.0, 21.0):  # the logit of the low point's share of the high one
        _, (natural, _) = natural_and_derivative(z.at[1].set(below / centre.unit[1]), recipe, centre)
        flat.append(float(natural.B * jnp.exp(natural.offsets[0, 2])))
    assert flat[0] / flat[1] == pytest.approx(np.e, rel=1e-6)


def test_stretch_makes_logistic_tails_gaussian() -> None:
    # A uniform share has a logistic logit; in the stretched coordinate it is nearly standard normal, far out too.
    w = jnp.linspace(-12, 12, 49)
    u, log_slope = stretch(w)
    np.testing.assert_allclose(stats.logistic.logpdf(u) + log_slope, stats.norm.logpdf(w), atol=0.05, rtol=0.05)
    np.testing.assert_allclose(log_slope, jnp.log(jax.vmap(jax.grad(lambda one: stretch(one)[0]))(w)), rtol=1e-10)
    np.testing.assert_allclose([unstretch(float(one)) for one in u], w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("runs", [1, 3])
def test_sampling_starts_on_the_curves_of_noiseless_data(start: str, runs: int) -> None:
    recipe = recipe_with(STARTS[start], runs)
    origin = jnp.zeros(dimension(len(recipe.order)))
    _, (natural, _) = natural_and_derivative(origin, recipe, least_squares_centre(recipe))
    by_headroom, by_C_mid, by_B, _ = np.asarray(natural.offsets).T
    headroom = expit(logit(float(natural.headroom)) + by_headroom)
    A = natural.R0 + (1 - natural.R0) * headroom
    C_mid = natural.C_mid_ratio * np.exp(recipe.log_origin + by_C_mid)
    for lane, place in enumerate(recipe.order[: len(recipe.order)]):
        run = recipe.run(int(place))
        compute = np.exp(run.clock[run.observed] + recipe.log_origin)
        curve = sigmoid_curve(
            compute, float(A[lane]), float(natural.B * np.exp(by_B[lane])), float(C_mid[lane]), float(natural.R0)
        )
        assert np.max(np.abs(curve - run.reward[run.observed])) < 0.015  # the grid is coarse; NUTS does the rest


def test_coordinates_of_runs_are_standard_normal_whatever_the_spread() -> None:
    """Where curves are nearly linear in the offsets, the log posterior falls like a standard normal along them.

    In the offsets themselves it falls thousands of times as fast: data or spread fix them to a few per cent.
    """
    recipe = recipe_with(STARTS["known"], 3)
    centre, priors = least_squares_centre(recipe), SigmoidPriors().distributions()
    of_recipe, step = dimension(1), 1e-4
    for spread in (-2.0, 0.0):
        z = jnp.zeros(dimension(3)).at[CURVE_DIMENSION : CURVE_DIMENSION + 3].set(spread)
        sides = [
            [value_and_gradient(z.at[i].add(side), recipe, centre, priors)[1][of_recipe:] for side in (step, -step)]
            for i in range(of_recipe, len(z))
        ]
        curvature = np.array([above - below for above, below in sides]) / (2.0 * step)
        np.testing.assert_allclose(curvature, -np.eye(len(curvature)), atol=0.2)


def test_sites_come_back_from_the_parameters_of_the_runs() -> None:
    """Each run's own parameters are those of its recipe moved by its offsets, in the order of the runs."""
    recipe, priors = recipe_with(STARTS["known"], 3), SigmoidPriors().distributions()
    z = 0.6 * jnp.sin(jnp.arange(float(dimension(3))))
    sites, _ = RECIPE.to_sites(z, recipe, least_squares_centre(recipe), priors)
    own, by_lane = RECIPE.kept(sites, recipe, priors)
    assert set(own) == set(RECIPE.parameters)
    assert set(by_lane) == set(RECIPE.unit_parameters)
    np.testing.assert_allclose(by_lane["sigma"], own["sigma"] * np.exp(sites["offsets"][:, 3]), rtol=1e-12)
    draws = {name: np.asarray(value)[None] for name, value in own.items()}
    runs = {name: np.asarray(values)[np.argsort(recipe.order)][None] for name, values in by_lane.items()}
    again = RECIPE.sites_of_draws(draws, runs, recipe, priors)
    assert set(again) == set(sites)
    for name, value in sites.items():
        np.testing.assert_allclose(again[name][0], value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("bad_share", [0.0, 0.05])
def test_log_posterior_is_prior_times_likelihood_times_jacobian(bad_share: float) -> None:
    """With bad evaluations the noise is white here, so that the density of each evaluation is a mixture of two."""
    recipe = recipe_with(STARTS["known"], 3, bad_share)
    centre = least_squares_centre(recipe)
    z = 0.6 * jnp.sin(jnp.arange(float(dimension(3))))
    if bad_share:
        z = z.at[5].set(-9.0)
    _, (natural, log_det) = natural_and_derivative(z, recipe, centre)
    R0, headroom, B, ratio, sigma, share, length, tail = (float(v) for v in natural[:8])
    spreads, offsets = np.asarray(natural.spreads), np.asarray(natural.offsets)
    p = (0.4 * 16_000 + 0.5) / 16_001
    start_sd = np.sqrt(0.25 * p * (1 - p) / 16_000 + 1e-8)
    # The single evaluation is the last lane, the short run the second.
    computes, rewards = [COMPUTE, COMPUTE[:6], COMPUTE[9:10]], [REWARD, SHORTER, SINGLE]
    origin = np.log(np.concatenate(computes)).mean()
    expected = (
        stats.norm.logpdf(R0, 0.4, start_sd)
        + stats.beta.logpdf(headroom, 1.5, 1.5)
        + stats.lognorm.logpdf(B, 0.6, scale=1.7)
        + stats.lognorm.logpdf(ratio, 2.0)
        + stats.halfnorm.logpdf(sigma, scale=0.02)
        + stats.beta.logpdf(share, 2.0, 1.0)
        + stats.lognorm.logpdf(length, 1.0, scale=0.5)
        + stats.lognorm.logpdf(tail, 1.0)
        + stats.halfnorm.logpdf(spreads, scale=[0.1, 0.2, 0.1, 0.3]).sum()
        + stats.t.logpdf(offsets, 4.0, 0.0, CORE * spreads).sum()
        + float(log_det)
    )
    for compute, reward, (by_headroom, by_C_mid, by_B, by_sigma) in zip(computes, rewards, offsets, strict=True):
        x = origin + np.round(np.log(compute) - origin, 9)  # as documented, far below any meaning
        eval_p = (reward * 16_000 + 0.5) / 16_001
        own_var = (sigma * np.exp(by_sigma)) ** 2
        covariance = share * own_var * np.exp(-np.abs(x[:, None] - x) / length)
        covariance += np.diag((1 - share) * own_var + 0.25 * eval_p * (1 - eval_p) / 16_000 + 1e-8)
        A = R0 + (1 - R0) * expit(logit(headroom) + by_headroom)
        curve = sigmoid_curve(np.exp(x), A, B * np.exp(by_B), ratio * np.exp(origin + by_C_mid), R0, tail)
        if bad_share:
            assert share < 1e-15
            sd = np.sqrt(np.diag(covariance))
            sound, bad = stats.norm(curve, sd).pdf(reward), stats.cauchy(curve, BAD_SCALE * sd).pdf(reward)
            expected += np.log((1.0 - bad_share) * sound + bad_share * bad).sum()
        else:
            expected += stats.multivariate_normal(curve, covariance).logpdf(reward)
    actual, _ = value_and_gradient(z, recipe, centre, SigmoidPriors().distributions())
    assert float(actual) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("reward", [np.full(15, 0.4), REWARD[::-1]], ids=["constant", "falling"])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("bad_share", [0.0, 0.01])
def test_density_and_gradient_are_finite_at_origin_for_degenerate_runs(
    start: str, reward: np.ndarray, runs: int, bad_share: float
) -> None:
    members = [Run("a", str(i), COMPUTE, reward, np.full(15, np.nan), STARTS[start]) for i in range(runs)]
    recipe = prepare(members, evaluation_error=0.5, bad_share=bad_share)
    centre = least_squares_centre(recipe)
    priors = SigmoidPriors().distributions()
    value, gradient = value_and_gradient(jnp.zeros(dimension(runs)), recipe, centre, priors)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_padded_lanes_only_add_their_prior() -> None:
    """Two runs are padded to three lanes; the third adds only the t factor of its own offsets, in its own coordinates.

    In these, its offsets are scaled so that the density falls like a standard normal at the recipe: a t number
    with n degrees of freedom has the scale ``((n + 1) / n)**0.5`` then, whatever the spreads.
    """
    recipe = recipe_with(STARTS["known"], 2)
    assert len(recipe.order) == 3
    centre, priors = least_squares_centre(recipe), SigmoidPriors().distributions()
    k = len(VARIES)
    z = 0.4 * jnp.cos(jnp.arange(float(dimension(3))))
    step = jnp.zeros_like(z).at[-k:].set(jnp.array([0.7, -1.1, 0.3, 1.6]))
    after, before = (value_and_gradient(at, recipe, centre, priors)[0] for at in (z + step, z))
    padded = stats.t(4.0, scale=(5.0 / 4.0) ** 0.5)
    expected = (padded.logpdf((z + step)[-k:]) - padded.logpdf(z[-k:])).sum()
    assert float(after - before) == pytest.approx(float(expected), abs=1e-9)
    # Nothing else moves with them.
    natural, moved = (natural_and_derivative(at, recipe, centre)[1][0] for at in (z, z + step))
    for one, other in zip(natural[:-1], moved[:-1], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(natural.offsets[:2], moved.offsets[:2])
    apart = (moved.offsets - natural.offsets)[2]
    np.testing.assert_allclose(apart, natural.spreads * CORE * (4.0 / 5.0) ** 0.5 * step[-k:], rtol=1e-9)
