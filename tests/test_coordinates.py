"""Sampling coordinates: the Jacobian, the densities, and where sampling starts."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rlceiling.curves import sigmoid_curve
from rlceiling.models.coordinates import least_squares_centre, stretch, to_natural
from rlceiling.models.run_data import RunData, prepare
from rlceiling.models.sigmoid import SigmoidPriors, log_posterior

COMPUTE = np.geomspace(800, 12_000, 15)
REWARD = sigmoid_curve(COMPUTE, 0.62, 1.8, 2500.0, 0.4)
STARTS = {"known": (0.4, 16_000.0), "error unknown": (0.4, np.nan), "not logged": None}


def run_with(start: tuple[float, float] | None) -> RunData:
    return prepare(COMPUTE, REWARD, np.full(15, 16_000.0), start, evaluation_error=0.5)


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("shift", [-1.0, -0.3, 0.0, 0.5])
def test_log_determinant_is_that_of_the_derivative(start: str, shift: float) -> None:
    run = run_with(STARTS[start])
    centre = least_squares_centre(run)
    z = shift + 0.1 * jnp.arange(7.0)
    derivative = jax.jacobian(lambda v: jnp.stack(to_natural(v, run, centre)[0]))(z)
    assert float(to_natural(z, run, centre)[1]) == pytest.approx(np.linalg.slogdet(derivative)[1], abs=1e-8)


def test_stretch_makes_logistic_tails_gaussian() -> None:
    # A uniform share has a logistic logit; in the stretched coordinate it must be exactly standard normal.
    w = jnp.linspace(-6, 6, 25)
    u, log_slope = stretch(w)
    np.testing.assert_allclose(stats.logistic.logpdf(u) + log_slope, stats.norm.logpdf(w), rtol=1e-10)


@pytest.mark.parametrize("start", STARTS)
def test_sampling_starts_on_the_curve_of_noiseless_data(start: str) -> None:
    run = run_with(STARTS[start])
    natural, _ = to_natural(jnp.zeros(7), run, least_squares_centre(run))
    A = natural.R0 + (1 - natural.R0) * natural.headroom
    C_mid = natural.C_mid_ratio * np.exp(run.log_origin)
    curve = sigmoid_curve(COMPUTE, float(A), float(natural.B), float(C_mid), float(natural.R0))
    assert np.max(np.abs(curve - REWARD)) < 0.01  # the grid is coarse; NUTS does the rest


def test_log_posterior_is_prior_times_likelihood_times_jacobian() -> None:
    run = run_with(STARTS["known"])
    centre = least_squares_centre(run)
    z = jnp.array([0.3, -0.2, 0.1, 0.4, -0.5, 0.2, 0.6])
    natural, log_det = to_natural(z, run, centre)
    R0, headroom, B, ratio, sigma, share, length = (float(v) for v in natural)
    p = (0.4 * 16_000 + 0.5) / 16_001
    start_sd = np.sqrt(0.25 * p * (1 - p) / 16_000 + 1e-8)
    origin = np.log(COMPUTE).mean()
    x = origin + np.round(np.log(COMPUTE) - origin, 9)  # as documented, far below any meaning
    eval_p = (REWARD * 16_000 + 0.5) / 16_001
    eval_var = 0.25 * eval_p * (1 - eval_p) / 16_000 + 1e-8
    covariance = share * sigma**2 * np.exp(-np.abs(x[:, None] - x) / length)
    covariance += np.diag((1 - share) * sigma**2 + eval_var)
    curve = sigmoid_curve(np.exp(x), R0 + (1 - R0) * headroom, B, ratio * np.exp(origin), R0)
    expected = (
        stats.norm.logpdf(R0, 0.4, start_sd)
        + stats.beta.logpdf(headroom, 1.5, 1.5)
        + stats.lognorm.logpdf(B, 0.6, scale=1.7)
        + stats.lognorm.logpdf(ratio, 2.0)
        + stats.halfnorm.logpdf(sigma, scale=0.02)
        + stats.beta.logpdf(share, 2.0, 1.0)
        + stats.lognorm.logpdf(length, 1.0, scale=0.5)
        + stats.multivariate_normal(curve, covariance).logpdf(REWARD)
        + float(log_det)
    )
    actual = log_posterior(z, run, centre, SigmoidPriors().distributions())
    assert float(actual) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("reward", [np.full(15, 0.4), REWARD[::-1]], ids=["constant", "falling"])
def test_density_and_gradient_are_finite_at_the_start_for_hopeless_runs(start: str, reward: np.ndarray) -> None:
    run = prepare(COMPUTE, reward, np.full(15, np.nan), STARTS[start], evaluation_error=0.5)
    centre = least_squares_centre(run)
    priors = SigmoidPriors().distributions()
    value, gradient = jax.value_and_grad(log_posterior)(jnp.zeros(7), run, centre, priors)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
