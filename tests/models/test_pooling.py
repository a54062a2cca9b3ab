"""Partial pooling: units that were not fitted are drawn from the right distribution, and covariances are regular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpyro import distributions as dist
from scipy import linalg, stats

from rlceiling.models.pooling import (
    CORE,
    FREEDOM,
    NUGGET,
    AcrossSizes,
    Exchangeable,
    SizeParameter,
    brownian_motion,
    independent,
    integrated_brownian_motion,
)

KERNELS = {
    "independent": independent,
    "Brownian motion": brownian_motion,
    "integrated Brownian motion": integrated_brownian_motion,
}

SEEN = np.log([0.5, 1.5, 3.0, 7.0, 14.0]) - np.log(3.0)
NEW = np.log([0.2, 5.0, 70.0]) - np.log(3.0)

PRIORS = {"level": dist.Normal(-0.5, 0.7), "slope": dist.Normal(-0.1, 0.2)}
POPULATION = {"rate": np.array([0.3]), "spread": np.array([0.4])}


def across_sizes(kernel: Callable[[Any, Any], Any], level: bool) -> tuple[AcrossSizes, SizeParameter]:
    """One size parameter, whose mean has a normal level and slope or is a curved law of ln N."""
    parameter = SizeParameter("a", "spread", kernel, *(("level", "slope") if level else ()))
    return AcrossSizes((parameter,), ("rate",), lambda values, t, span: {"a": values["rate"] * np.tanh(t)}), parameter


def dense_mean_and_covariance(
    kernel: Callable[[Any, Any], Any], level: bool, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Prior mean and covariance at places `t`, entry by entry from their definition."""
    spread, rate = float(POPULATION["spread"][0]), float(POPULATION["rate"][0])
    mean, covariance = np.empty(len(t)), np.empty((len(t), len(t)))
    for i, s in enumerate(t):
        mean[i] = -0.5 - 0.1 * s if level else rate * np.tanh(s)
        for j, u in enumerate(t):
            covariance[i, j] = spread**2 * float(kernel(s, u)) + NUGGET**2 * (i == j)
            if level:
                covariance[i, j] += 0.7**2 + 0.2**2 * s * u
    return mean, covariance


def draw(pooling: AcrossSizes, parameter: SizeParameter, own: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Draws at the new sizes; all of them are from one draw of the population."""
    draws = {name: np.repeat(value, len(own)) for name, value in POPULATION.items()}
    return pooling.draw_new(parameter, draws, PRIORS, own, SEEN, NEW, normal)


class TestExchangeable:
    POOLING = Exchangeable("run", ("headroom", "B"))

    def test_scales_are_named_after_the_parameters(self) -> None:
        assert self.POOLING.scales == ("headroom_spread", "B_spread")

    def test_deviations_of_new_units_have_the_spread_of_the_draw(self) -> None:
        """They are Student t numbers with four degrees of freedom, times the spread and `CORE`."""
        spreads = np.repeat([[0.05], [0.4]], 20_000, axis=1)
        draws = {"headroom_spread": spreads, "B_spread": 100.0 * spreads}
        found = self.POOLING.draw_new("headroom", draws, np.random.default_rng(0))
        assert found.shape == spreads.shape
        for deviations, spread in zip(found, (0.05, 0.4), strict=True):
            # A probability transform makes them standard normal, whose sum of squares is chi-squared.
            normal = stats.norm.ppf(stats.t(4.0, scale=CORE * spread).cdf(deviations))
            assert 0.001 < stats.chi2(len(normal)).cdf((normal**2).sum()) < 0.999
            assert stats.kstest(normal, "norm").pvalue > 0.001
            # Nine tenths of them lie where nine tenths of normal ones would, and far more lie far out.
            within = int((np.abs(deviations) < stats.norm.ppf(0.95) * spread).sum())
            assert 0.001 < stats.binom(len(deviations), 0.9).cdf(within) < 0.999
            far = int((np.abs(deviations) > 4.0 * spread).sum())
            assert stats.binom(len(deviations), 2.0 * stats.norm.sf(4.0)).sf(far - 1) < 1e-9
        assert abs(np.corrcoef(found)[0, 1]) < 4.0 / 20_000**0.5

    def test_the_central_nine_tenths_are_those_of_the_standard_normal(self) -> None:
        assert FREEDOM == 4.0
        np.testing.assert_allclose(stats.t(4.0, scale=CORE).interval(0.9), stats.norm.interval(0.9), rtol=1e-12)

    def test_every_draw_uses_its_own_spread(self) -> None:
        draws = {"B_spread": np.array([0.1, 0.0, 2.0])}
        standard = self.POOLING.draw_new("B", {"B_spread": np.ones(3)}, np.random.default_rng(3))
        assert len(set(standard)) == 3
        found = self.POOLING.draw_new("B", draws, np.random.default_rng(3))
        np.testing.assert_allclose(found, draws["B_spread"] * standard, rtol=1e-15)


@pytest.mark.parametrize("level", [True, False], ids=["level and slope", "law"])
@pytest.mark.parametrize("kernel", KERNELS)
class TestAcrossSizes:
    def conditional(self, kernel: str, level: bool, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance at the new sizes given those seen, from the joint covariance."""
        mean, joint = dense_mean_and_covariance(KERNELS[kernel], level, np.concatenate([SEEN, NEW]))
        n = len(SEEN)
        factor = linalg.cho_factor(joint[:n, :n])
        centre = mean[n:] + joint[n:, :n] @ linalg.cho_solve(factor, own - mean[:n])
        return centre, joint[n:, n:] - joint[n:, :n] @ linalg.cho_solve(factor, joint[:n, n:])

    def test_draws_have_the_conditional_distribution(self, kernel: str, level: bool) -> None:
        pooling, parameter = across_sizes(KERNELS[kernel], level)
        own = np.array([-0.7, -0.4, -0.5, -0.1, -0.3])
        centre, covariance = self.conditional(kernel, level, own)
        # Standard normals of 0 give the mean, and unit vectors the columns of a root of the covariance.
        normal = np.vstack([np.zeros(len(NEW)), np.eye(len(NEW))])
        found = draw(pooling, parameter, np.tile(own, (len(normal), 1)), normal)
        np.testing.assert_allclose(found[0], centre, rtol=1e-8, atol=1e-9)
        root = found[1:] - found[0]
        np.testing.assert_allclose(root.T @ root, covariance, rtol=1e-6, atol=1e-9)

    def test_one_draw_has_the_density_of_scipy(self, kernel: str, level: bool) -> None:
        """log p(seen, new) = log p(seen) + log p(new given seen), with the joint density of scipy on the left."""
        pooling, parameter = across_sizes(KERNELS[kernel], level)
        mean, joint = dense_mean_and_covariance(KERNELS[kernel], level, np.concatenate([SEEN, NEW]))
        n = len(SEEN)
        own = mean[:n] + np.linalg.cholesky(joint[:n, :n]) @ np.array([0.3, -1.2, 0.5, 0.9, -0.4])
        normal = np.random.default_rng(1).standard_normal((1, len(NEW)))
        new = draw(pooling, parameter, own[None], normal)[0]
        together = stats.multivariate_normal(mean, joint).logpdf(np.concatenate([own, new]))
        seen = stats.multivariate_normal(mean[:n], joint[:n, :n]).logpdf(own)
        _, covariance = self.conditional(kernel, level, own)
        given = stats.norm.logpdf(normal[0]).sum() - 0.5 * np.linalg.slogdet(covariance)[1]
        np.testing.assert_allclose(together - seen, given, rtol=1e-6)

    def test_a_size_that_was_fitted_is_drawn_at_its_own_value(self, kernel: str, level: bool) -> None:
        """The nugget belongs to the size, so that a size seen before has no uncertainty left."""
        pooling, parameter = across_sizes(KERNELS[kernel], level)
        own = np.array([[-0.7, -0.4, -0.5, -0.1, -0.3]])
        draws = {name: value[:1] for name, value in POPULATION.items()}
        again = pooling.draw_new(parameter, draws, PRIORS, own, SEEN, SEEN[[0, 3]], np.ones((1, 2)))
        np.testing.assert_allclose(again, own[:, [0, 3]], atol=1e-4)

    def test_covariance_is_positive_definite_with_the_nugget(self, kernel: str, level: bool) -> None:
        pooling, parameter = across_sizes(KERNELS[kernel], level)
        t = np.sort(np.concatenate([SEEN, NEW, SEEN + 1e-3]))  # sizes that are almost equal, and one at t = 0
        for spread in (1e-6, 0.4, 10.0):
            covariance = pooling.covariance(parameter, spread, PRIORS, t[:, None], t)
            np.testing.assert_allclose(covariance, covariance.T, rtol=1e-14)
            assert np.linalg.eigvalsh(covariance).min() > 0.5 * NUGGET**2
            np.linalg.cholesky(covariance)


def test_every_draw_is_conditioned_on_its_own_population() -> None:
    pooling, parameter = across_sizes(brownian_motion, level=False)
    rng = np.random.default_rng(2)
    draws = {"rate": np.array([0.1, 0.5, -0.2]), "spread": np.array([0.01, 0.4, 3.0])}
    own, normal = rng.normal(0.0, 0.3, (3, len(SEEN))), rng.standard_normal((3, len(NEW)))
    together = pooling.draw_new(parameter, draws, PRIORS, own, SEEN, NEW, normal)
    for i in range(3):
        alone = {name: value[i : i + 1] for name, value in draws.items()}
        expected = pooling.draw_new(parameter, alone, PRIORS, own[i : i + 1], SEEN, NEW, normal[i : i + 1])
        np.testing.assert_allclose(together[i], expected[0], rtol=1e-10)


@pytest.mark.parametrize("kernel", ["Brownian motion", "integrated Brownian motion"])
def test_covariance_without_the_nugget_is_singular(kernel: str) -> None:
    """Negative control: deviations are zero at the middle size, t = 0, so that only the nugget makes it regular."""
    covariance = KERNELS[kernel](SEEN[:, None], SEEN)
    assert 0.0 in SEEN
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(covariance)


def test_standard_deviation_grows_with_the_root_of_the_distance_from_the_largest_size() -> None:
    pooling, parameter = across_sizes(brownian_motion, level=False)
    own, far = np.zeros((1, len(SEEN))), SEEN[-1] + np.array([0.5, 1.0, 2.0, 4.0])
    draws = {name: value[:1] for name, value in POPULATION.items()}

    def drawn(place: float, normal: float) -> float:
        return float(
            pooling.draw_new(parameter, draws, PRIORS, own, SEEN, np.array([place]), np.full((1, 1), normal))[0, 0]
        )

    sd = [drawn(place, 1.0) - drawn(place, 0.0) for place in far]
    np.testing.assert_allclose(sd, 0.4 * np.sqrt(far - SEEN[-1]), rtol=1e-3)
