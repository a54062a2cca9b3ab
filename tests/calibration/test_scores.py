"""Scores of forecasts against closed forms, and the baselines against other ways to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
from scipy import stats
from scipy.optimize import curve_fit

from rlceiling.calibration.baselines import (
    A_STEP,
    B_GRID,
    C_MID_GRID,
    bootstrap_forecast,
    covariance_forecast,
    last_value_forecast,
    least_squares,
)
from rlceiling.calibration.scores import ENSEMBLE, Mixture, ensemble, score_forecast
from rlceiling.curves import sigmoid_curve
from rlceiling.curves.least_squares import grid_curves
from rlceiling.runs import Run

RNG = np.random.default_rng(0)
COMPUTE = np.geomspace(500.0, 16_000.0, 24)
NOISE = 0.003 * np.random.default_rng(5).standard_normal(24)


def run_of(reward: np.ndarray, start: tuple[float, float] | None = (0.4, 16_000.0)) -> Run:
    return Run("one", "0", COMPUTE, reward, np.full(len(reward), np.nan), start)


def normal(mean: float, sd: float) -> Mixture:
    return Mixture(np.full((1, 1), mean), np.full((1, 1), sd))


class TestScores:
    @pytest.mark.parametrize("z", [-2.0, -0.3, 0.0, 1.0, 2.5])
    def test_one_normal_has_closed_forms(self, z: float) -> None:
        reward = np.array([0.5 + 0.02 * z])
        row = score_forecast(normal(0.5, 0.02), reward, (0.0, 1.0), np.random.default_rng(0)).iloc[0]
        assert row["pit"] == pytest.approx(stats.norm.cdf(z))
        assert row["log_score"] == pytest.approx(-stats.norm.logpdf(reward[0], 0.5, 0.02))
        assert row["crps"] == pytest.approx(float(scoringrules.crps_normal(reward[0], 0.5, 0.02)), rel=2e-3)
        assert row["mean"] == pytest.approx(0.5, abs=1e-6)
        assert row["lower"] == pytest.approx(stats.norm.ppf(0.05, 0.5, 0.02), abs=1e-4)
        assert row["upper"] == pytest.approx(stats.norm.ppf(0.95, 0.5, 0.02), abs=1e-4)

    def test_a_mixture_is_the_average_of_its_components(self) -> None:
        mean, sd, reward = np.array([[0.3], [0.5], [0.52]]), np.array([[0.1], [0.02], [0.05]]), np.array([0.47])
        row = score_forecast(Mixture(mean, sd), reward, (0.0, 1.0), np.random.default_rng(0)).iloc[0]
        assert row["pit"] == pytest.approx(stats.norm.cdf(reward, mean, sd).mean())
        assert row["log_score"] == pytest.approx(-np.log(stats.norm.pdf(reward, mean, sd).mean()))

    def test_members_stay_inside_the_bounds_and_use_every_component(self) -> None:
        members = ensemble(Mixture(np.array([[0.02], [0.99]]), np.full((2, 1), 0.05)), (0.0, 1.0), RNG)
        assert members.shape == (ENSEMBLE, 1)
        assert members.min() == 0.0
        assert members.max() == 1.0
        assert (members < 0.5).mean() == 0.5

    def test_log_score_of_extreme_forecast_is_finite(self) -> None:
        worse = [
            score_forecast(normal(0.1, sd), np.array([0.9]), (0.0, 1.0), RNG)["log_score"].iloc[0]
            for sd in (0.1, 0.02, 0.0001)
        ]
        assert worse[0] < worse[1]
        assert worse[2] > 400
        assert np.isfinite(worse).all()

    def test_coverage_is_nominal_only_if_the_width_is_right(self) -> None:
        truth = np.random.default_rng(1).normal(0.5, 0.02, 4000)
        for factor, expected in ((1.0, 0.9), (0.5, 0.589), (2.0, 0.999)):  # 2 * Phi(1.645 * factor) - 1
            forecast = Mixture(np.full((1, 4000), 0.5), np.full((1, 4000), 0.02 * factor))
            pit = score_forecast(forecast, truth, (0.0, 1.0), RNG)["pit"]
            assert ((pit - 0.5).abs() <= 0.45).mean() == pytest.approx(expected, abs=0.02)


class TestGrid:
    def test_the_best_cell_is_that_of_a_scan(self) -> None:
        reward = sigmoid_curve(COMPUTE, 0.6, 1.8, 2500.0, 0.4) + NOISE
        x, B, x_mid = np.log(COMPUTE), np.array([1.0, 1.7, 3.0]), np.log([1500.0, 2500.0, 4000.0])
        grid = grid_curves(x, reward, B, x_mid, R0=0.4, A_step=A_STEP)
        for cell in range(9):
            share = 1.0 / (1.0 + np.exp(-grid.B[cell] * (x - grid.x_mid[cell])))
            ceilings = np.arange(0.42, 1.0, A_STEP)
            squares = [np.sum((reward - 0.4 - (A - 0.4) * share) ** 2) for A in ceilings]
            assert grid.squares[cell] == pytest.approx(min(squares))
            assert 0.4 + grid.gain[cell] == pytest.approx(ceilings[int(np.argmin(squares))])

    def test_several_rewards_at_once_are_as_one_by_one(self) -> None:
        rewards = np.stack([sigmoid_curve(COMPUTE, A, 1.8, 2500.0, 0.4) + NOISE for A in (0.5, 0.7)], axis=1)
        for start in ((0.4, 16_000.0), None):
            both = least_squares(run_of(rewards[:, 0], start), rewards)
            for k in range(2):
                alone = least_squares(run_of(rewards[:, k], start), rewards[:, k : k + 1])
                assert [v[0] for v in alone] == pytest.approx([v[k] for v in both])

    @pytest.mark.parametrize("start", [(0.4, 16_000.0), None])
    def test_a_curve_without_noise_is_found(self, start: tuple[float, float] | None) -> None:
        B, x_mid = B_GRID[30], np.log(COMPUTE[-1] * C_MID_GRID[50])
        reward = sigmoid_curve(COMPUTE, 0.62, B, np.exp(x_mid), 0.4)
        found = least_squares(run_of(reward, start), reward[:, None])
        assert [v[0] for v in found] == pytest.approx([0.4, 0.62, B, x_mid], abs=0.01 if start is None else 1e-9)


class TestBaselines:
    later = np.geomspace(20_000.0, 60_000.0, 5)
    run = run_of(sigmoid_curve(COMPUTE, 0.6, 1.8, 2500.0, 0.4) + NOISE)

    def test_covariance_is_that_of_curve_fit(self) -> None:
        x = np.log(COMPUTE)

        def curve(x: np.ndarray, A: float, ln_B: float, x_mid: float) -> np.ndarray:
            return 0.4 + (A - 0.4) / (1.0 + np.exp(-np.exp(ln_B) * (x - x_mid)))

        noisy = run_of(self.run.reward + 3.0 * NOISE)  # so noisy that the steps of the grid hardly matter
        best, covariance = curve_fit(curve, x, noisy.reward, p0=(0.6, 0.6, 8.0))
        residual_var = np.sum((noisy.reward - curve(x, *best)) ** 2) / 21
        eps = 1e-6 * np.eye(3)
        slope = [(curve(np.log(self.later), *(best + e)) - curve(np.log(self.later), *best)) / 1e-6 for e in eps]
        sd = np.sqrt(np.einsum("ik,ij,jk->k", slope, covariance, slope) + residual_var)
        forecast = covariance_forecast(noisy, self.later, RNG)
        assert forecast.mean[0] == pytest.approx(curve(np.log(self.later), *best), abs=A_STEP)
        assert forecast.sd[0] == pytest.approx(sd, rel=0.05)

    def test_the_bootstrap_agrees_with_the_covariance_where_data_are_plenty(self) -> None:
        by_covariance = covariance_forecast(self.run, self.later, RNG)
        by_bootstrap = bootstrap_forecast(self.run, self.later, np.random.default_rng(0))
        spread = np.sqrt(by_bootstrap.mean.var(axis=0) + by_bootstrap.sd[0] ** 2)
        assert spread == pytest.approx(by_covariance.sd[0], rel=0.25)

    def test_undetermined_ceiling_gives_wide_baseline_intervals(self) -> None:
        early = run_of(sigmoid_curve(COMPUTE, 0.7, 1.0, 500_000.0, 0.4) + NOISE)
        far = np.array([1e7])
        assert covariance_forecast(early, far, RNG).sd[0, 0] > 0.2
        assert bootstrap_forecast(early, far, RNG).mean.std() > 0.05

    def test_the_last_value_is_carried_forward(self) -> None:
        reward = np.full(24, 0.5)
        reward[::2] += 0.01
        forecast = last_value_forecast(run_of(reward), self.later, RNG)
        assert (forecast.mean == reward[-1]).all()
        assert forecast.sd == pytest.approx(np.full((1, 5), 0.01))

    def test_rewards_exactly_on_a_curve_leave_a_width(self) -> None:
        exact = run_of(sigmoid_curve(COMPUTE, 0.6, B_GRID[28], COMPUTE[-1] * C_MID_GRID[40], 0.4))
        for forecast in (covariance_forecast, bootstrap_forecast):
            assert (forecast(exact, self.later, RNG).sd > 0).all()
