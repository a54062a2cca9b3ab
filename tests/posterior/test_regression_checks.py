"""Regression checks of a run: against dense covariance matrices, and whether growth without a ceiling is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, stats

from rlceiling.curves import sigmoid_curve
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.posterior.regression_checks import ceiling_log_ratio, growth_without_ceiling, regress, whiten
from rlceiling.runs import Run

COMPUTE = np.geomspace(200.0, 20_000.0, 25)
DRAW = {"A": 0.62, "B": 1.6, "R0": 0.4, "C_mid": 2500.0, "sigma": 0.01, "share": 0.6, "length": 0.5, "tail": 1.0}


def recipe_of(reward: np.ndarray, start: tuple[float, float] | None) -> RecipeData:
    return prepare([Run("a", "0", COMPUTE, reward, np.full(len(COMPUTE), 4000.0), start)], evaluation_error=0.5)


def arguments(recipe: RecipeData, **changed: float) -> tuple:
    draws = {name: np.array([value]) for name, value in (DRAW | changed).items()}
    return recipe.run(0), recipe.start, np.log(draws["C_mid"]) - recipe.log_origin, draws


def covariance_of(recipe: RecipeData, draw: dict[str, float]) -> np.ndarray:
    """Dense covariance of the evaluations."""
    run = recipe.run(0)
    x, error = run.clock[run.observed], run.eval_var[run.observed]
    correlated = draw["share"] * draw["sigma"] ** 2 * np.exp(-np.abs(x[:, None] - x) / draw["length"])
    return correlated + np.diag((1.0 - draw["share"]) * draw["sigma"] ** 2 + error)


def noisy(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return sigmoid_curve(COMPUTE, 0.62, 1.6, 2500.0, 0.4) + 0.008 * rng.standard_normal(len(COMPUTE))


def test_whitening_is_the_inverse_of_the_cholesky_factor() -> None:
    recipe = recipe_of(noisy(), None)
    covariance = covariance_of(recipe, DRAW)
    columns = np.random.default_rng(1).standard_normal((1, len(COMPUTE), 3))
    run = recipe.run(0)
    white = (1.0 - DRAW["share"]) * DRAW["sigma"] ** 2 + run.eval_var[run.observed]
    found = whiten(
        columns,
        run.clock[run.observed],
        np.array([DRAW["share"] * DRAW["sigma"] ** 2]),
        np.array([DRAW["length"]]),
        white[None],
    )
    expected = linalg.solve_triangular(np.linalg.cholesky(covariance), columns[0], lower=True)
    np.testing.assert_allclose(found[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("start", [None, (0.4, 16_000.0)])
def test_rise_is_that_of_generalised_least_squares(start: tuple[float, float] | None) -> None:
    recipe = recipe_of(noisy(), start)
    found = regress(*arguments(recipe))
    shape = sigmoid_curve(COMPUTE, 1.0, DRAW["B"], DRAW["C_mid"], 0.0)
    design, reward, covariance = np.column_stack([np.ones(25), shape]), noisy(), covariance_of(recipe, DRAW)
    if start is not None:
        design, reward = np.vstack([design, [1.0, 0.0]]), np.append(reward, start[0])
        covariance = linalg.block_diag(covariance, float(recipe.start.var))
    information = design.T @ np.linalg.solve(covariance, design)
    estimate = np.linalg.solve(information, design.T @ np.linalg.solve(covariance, reward))
    se = np.linalg.inv(information)[1, 1] ** 0.5
    assert found.rise_z[0] == pytest.approx(estimate[1] / se, rel=1e-6)
    rise = shape[-1] - (shape[0] if start is None else 0.0)
    assert found.rise_se[0] == pytest.approx(rise * se, rel=1e-6)


def test_log_ratio_is_that_of_dense_normal_densities() -> None:
    recipe = recipe_of(noisy(), None)
    covariance, reward = covariance_of(recipe, DRAW), noisy()
    curve = sigmoid_curve(COMPUTE, DRAW["A"], DRAW["B"], DRAW["C_mid"], DRAW["R0"])
    best = -np.inf
    for shape in growth_without_ceiling(np.log(COMPUTE)).T:
        design = np.column_stack([np.ones(25), shape])
        solved = np.linalg.solve(covariance, np.column_stack([design, reward]))
        coefficients = np.linalg.solve(design.T @ solved[:, :2], design.T @ solved[:, 2])
        best = max(best, stats.multivariate_normal(design @ coefficients, covariance).logpdf(reward))
    expected = stats.multivariate_normal(curve, covariance).logpdf(reward) - best
    assert regress(*arguments(recipe)).ceiling_log_ratio[0] == pytest.approx(expected, rel=1e-6)


def test_growth_has_no_ceiling_and_starts_at_0() -> None:
    x = np.linspace(0.0, 40.0, 200)
    growth = growth_without_ceiling(x)
    assert growth[-1] == pytest.approx(1.0)
    assert (np.diff(growth, axis=0) > 0).all()
    assert (np.diff(growth[-50:], axis=0) > 1e-6).all()  # as steep in ln C at the end as ever


def test_straight_line_is_explained_without_a_ceiling_and_a_sigmoid_is_not() -> None:
    bent = regress(*arguments(recipe_of(noisy(), (0.4, 16_000.0))))
    assert bent.ceiling_log_ratio[0] > 5.0
    line = 0.4 + 0.05 * np.log1p(COMPUTE / 400.0) + (noisy() - noisy(1)) / 2**0.5
    # The sigmoid that comes closest to the line over the run.
    straight = regress(*arguments(recipe_of(line, (0.4, 16_000.0)), A=0.72, B=0.8, C_mid=4500.0))
    assert straight.ceiling_log_ratio[0] < 0.0


def test_ratio_of_a_run_without_noise_is_that_of_its_curve() -> None:
    recipe = recipe_of(sigmoid_curve(COMPUTE, 0.62, 1.6, 2500.0, 0.4), None)
    given = arguments(recipe)
    assert ceiling_log_ratio(*given)[0] == pytest.approx(regress(*given).ceiling_log_ratio[0], rel=1e-6)
