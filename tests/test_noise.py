"""The Kalman filter and smoother against the dense Gaussian process they stand for."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
import pytest
from scipy import stats

from rlceiling.models.noise import OUWhiteNoise, kalman_filter, smooth

OU_VAR, LENGTH = 3e-4, 0.6
X = np.array([-1.1, -1.0, -0.2, -0.2, 0.4, 1.9])  # unequal spacing, a repeated value and a gap
WHITE = np.array([1e-4, 2e-4, 1e-4, 1e-4, 5e-5, 1e-4])
RESIDUAL = np.array([0.01, 0.02, -0.01, 0.005, 0.0, 0.03])


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def dense(x: np.ndarray) -> np.ndarray:
    return OU_VAR * np.exp(-np.abs(x[:, None] - x) / LENGTH)


def noise(observed: np.ndarray) -> OUWhiteNoise:
    return OUWhiteNoise(np.full(6, 0.5), X, observed, np.float64(OU_VAR), np.float64(LENGTH), WHITE)


def test_log_density_is_that_of_the_dense_normal() -> None:
    expected = stats.multivariate_normal(np.full(6, 0.5), dense(X) + np.diag(WHITE)).logpdf(0.5 + RESIDUAL)
    everything = noise(np.ones(6, bool))
    assert float(everything.log_prob(0.5 + RESIDUAL)) == pytest.approx(expected, rel=1e-12)
    assert float(everything.pointwise_log_prob(0.5 + RESIDUAL).sum()) == pytest.approx(expected, rel=1e-12)


def test_unobserved_places_change_nothing() -> None:
    seen = np.array([True, True, False, True, True, False])
    expected = stats.multivariate_normal(np.full(4, 0.5), (dense(X) + np.diag(WHITE))[np.ix_(seen, seen)])
    value = np.where(seen, 0.5 + RESIDUAL, 99.0)
    assert float(noise(seen).log_prob(value)) == pytest.approx(expected.logpdf(0.5 + RESIDUAL[seen]), rel=1e-12)


@pytest.mark.parametrize("seen", [[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 0]])
def test_smoother_is_the_conditional_normal(seen: list[int]) -> None:
    observed = np.array(seen, bool)
    filtered = kalman_filter(RESIDUAL, X, observed, np.float64(OU_VAR), np.float64(LENGTH), WHITE)
    mean, var = smooth(filtered)
    prior = dense(X)
    gain = prior[:, observed] @ np.linalg.inv((prior + np.diag(WHITE))[np.ix_(observed, observed)])
    np.testing.assert_allclose(mean, gain @ RESIDUAL[observed], rtol=1e-9)
    np.testing.assert_allclose(var, np.diag(prior - gain @ prior[observed]), rtol=1e-9)


def test_draws_have_the_covariance_of_the_model() -> None:
    draws = np.asarray(noise(np.ones(6, bool)).sample(jax.random.key(1), (40_000,)))
    assert draws.shape == (40_000, 6)
    expected = dense(X) + np.diag(WHITE)
    # Standard error of a covariance of n normal draws, five of them.
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / len(draws))
    assert np.all(np.abs(np.cov(draws.T) - expected) < 5 * error)
    assert np.all(np.abs(draws.mean(0) - 0.5) < 5 * np.sqrt(np.diag(expected) / len(draws)))
