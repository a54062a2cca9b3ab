"""The Kalman filter and smoother against the dense Gaussian process they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import jax
import numpy as np
import pytest
from scipy import stats

from rlceiling.models.noise import BAD_SCALE, Filtered, OUWhiteNoise, kalman_filter, smooth, whiten

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


def noise(*observed: np.ndarray) -> OUWhiteNoise:
    """A run for each mask; the second has its evaluations elsewhere."""
    x = np.stack([X, 2.0 * X])[: len(observed)]
    white = np.tile(WHITE, (len(observed), 1))
    curve = np.full((len(observed), 6), 0.5)
    return OUWhiteNoise(curve, x, np.stack(observed), np.float64(OU_VAR), np.float64(LENGTH), white)


def test_log_density_is_that_of_the_dense_normal() -> None:
    expected = stats.multivariate_normal(np.full(6, 0.5), dense(X) + np.diag(WHITE)).logpdf(0.5 + RESIDUAL)
    assert float(noise(np.ones(6, bool)).log_prob(0.5 + RESIDUAL[None])) == pytest.approx(expected, rel=1e-12)


def test_runs_are_independent() -> None:
    seen = np.array([True, True, True, True, False, False])
    first = stats.multivariate_normal(np.zeros(6), dense(X) + np.diag(WHITE)).logpdf(RESIDUAL)
    other = stats.multivariate_normal(np.zeros(4), (dense(2.0 * X) + np.diag(WHITE))[:4, :4]).logpdf(-RESIDUAL[:4])
    both = noise(np.ones(6, bool), seen).log_prob(0.5 + np.stack([RESIDUAL, -RESIDUAL]))
    assert float(both) == pytest.approx(first + other, rel=1e-12)


@pytest.mark.parametrize("seen", [[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0]])
def test_whitening_is_the_inverse_cholesky_factor(seen: list[int]) -> None:
    observed = np.array(seen, bool)
    columns = np.stack([RESIDUAL, X**2, np.ones(6)], axis=1)
    whitened = np.asarray(whiten(columns, X, observed, np.float64(OU_VAR), np.float64(LENGTH), WHITE))
    factor = np.linalg.cholesky((dense(X) + np.diag(WHITE))[np.ix_(observed, observed)])
    np.testing.assert_allclose(whitened[observed], np.linalg.solve(factor, columns[observed]), rtol=1e-9)
    assert (whitened[~observed] == 0).all()


def test_unobserved_places_change_nothing() -> None:
    seen = np.array([True, True, False, True, True, False])
    expected = stats.multivariate_normal(np.full(4, 0.5), (dense(X) + np.diag(WHITE))[np.ix_(seen, seen)])
    value = np.where(seen, 0.5 + RESIDUAL, 99.0)
    assert float(noise(seen).log_prob(value[None])) == pytest.approx(expected.logpdf(0.5 + RESIDUAL[seen]), rel=1e-12)


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
    assert draws.shape == (40_000, 1, 6)
    draws = draws[:, 0]
    expected = dense(X) + np.diag(WHITE)
    # Standard error of a covariance of n normal draws, five of them.
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / len(draws))
    assert np.all(np.abs(np.cov(draws.T) - expected) < 5 * error)
    assert np.all(np.abs(draws.mean(0) - 0.5) < 5 * np.sqrt(np.diag(expected) / len(draws)))


class TestBadEvaluations:
    """Bad evaluations against the sum over all subsets of evaluations that may be bad."""

    SHARE = 0.02
    ODDS = np.full(6, np.log(SHARE / (1.0 - SHARE)))

    def expected(self, residual: np.ndarray, ou_var: float) -> tuple[float, np.ndarray]:
        """Log density, and the probability that each evaluation is bad given all of them."""
        total, bad = 0.0, np.zeros(6)
        for subset in product([False, True], repeat=6):
            is_bad = np.array(subset)
            prior = np.prod(np.where(is_bad, self.SHARE, 1.0 - self.SHARE))
            covariance = (ou_var / OU_VAR * dense(X) + np.diag(WHITE))[np.ix_(~is_bad, ~is_bad)]
            sound = stats.multivariate_normal(np.zeros(6)[~is_bad], covariance) if (~is_bad).any() else None
            density = 1.0 if sound is None else sound.pdf(residual[~is_bad])
            far = stats.cauchy(0.0, BAD_SCALE * np.sqrt(ou_var + WHITE[is_bad])).pdf(residual[is_bad])
            joint = prior * density * np.prod(far)
            total, bad = total + joint, bad + joint * is_bad
        return float(np.log(total)), bad / total

    def filtered(self, residual: np.ndarray, ou_var: float, odds: np.ndarray | None = None) -> Filtered:
        odds = self.ODDS if odds is None else odds
        return kalman_filter(residual, X, np.ones(6, bool), np.float64(ou_var), np.float64(LENGTH), WHITE, odds)

    SPIKED = RESIDUAL + 0.15 * (np.arange(6) == 3)

    @pytest.mark.parametrize("residual", [RESIDUAL, SPIKED], ids=["clean", "spiked"])
    def test_exact_without_autocorrelated_noise(self, residual: np.ndarray) -> None:
        found = self.filtered(residual, 0.0)
        log_density, p_bad = self.expected(residual, 0.0)
        assert float(found.log_prob.sum()) == pytest.approx(log_density, rel=1e-9)
        np.testing.assert_allclose(found.p_bad, p_bad, rtol=1e-9)

    @pytest.mark.parametrize("residual", [RESIDUAL, SPIKED], ids=["clean", "spiked"])
    def test_close_with_autocorrelated_noise(self, residual: np.ndarray) -> None:
        found = self.filtered(residual, OU_VAR)
        log_density, p_bad = self.expected(residual, OU_VAR)
        assert float(found.log_prob.sum()) == pytest.approx(log_density, abs=0.02)
        np.testing.assert_allclose(found.p_bad, p_bad, atol=0.02)
        assert (np.asarray(found.p_bad) > 0.9).tolist() == (residual > 0.1).tolist()
        # Negative control: with every evaluation trusted, the density of the spiked run is another one.
        trusted = float(self.filtered(residual, OU_VAR, np.full(6, -np.inf)).log_prob.sum())
        assert (abs(trusted - log_density) > 1.0) == (residual > 0.1).any()

    def test_trusting_all_evaluations_is_the_plain_filter(self) -> None:
        plain = kalman_filter(RESIDUAL, X, np.ones(6, bool), np.float64(OU_VAR), np.float64(LENGTH), WHITE)
        for one, other in zip(self.filtered(RESIDUAL, OU_VAR, np.full(6, -np.inf)), plain, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)

    def test_draws_have_the_share_of_bad_evaluations(self) -> None:
        shape = (1, 6)
        model = OUWhiteNoise(
            *(np.full(shape, 0.5), X[None], np.ones(shape, bool), np.float64(1e-8), np.float64(LENGTH)),
            *(np.full(shape, 1e-8), self.ODDS[None]),
        )
        scale = BAD_SCALE * np.sqrt(2e-8)
        far = np.abs(np.asarray(model.sample(jax.random.key(2), (20_000,))) - 0.5) > 3.0 * scale
        expected = self.SHARE * 2.0 * stats.cauchy.sf(3.0)  # sound evaluations lie within 15 standard deviations
        assert far.mean() == pytest.approx(expected, abs=5.0 * np.sqrt(expected / 120_000))
