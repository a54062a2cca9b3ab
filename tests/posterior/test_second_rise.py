"""Two rises are told from one, whatever the smooth form of the one rise and however the noise wanders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from rlceiling.models.recipe_data import prepare
from rlceiling.posterior import second_rise as module
from rlceiling.posterior.second_rise import PAIR_B, SecondRise, second_rise
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.runs import Run

X = np.log(np.arange(1, 31) / 30.0)
LIMIT = VerdictRules().max_second_rise


def data(reward: np.ndarray, x: np.ndarray = X, start: float | None = None) -> Any:
    run = Run("recipe", "0", np.exp(x), reward, np.full(len(x), np.nan), None if start is None else (start, np.nan))
    return prepare([run], evaluation_error=0.5)


def check(reward: np.ndarray, x: np.ndarray = X, start: float | None = None) -> SecondRise:
    recipe = data(reward, x, start)
    found = second_rise(recipe.run(0), recipe.start)
    return found._replace(x=found.x + recipe.log_origin)


def wandering(rng: np.random.Generator, sd: float) -> np.ndarray:
    """Autocorrelated and white noise, of correlation length 0.5 in ln C."""
    decay = np.exp(-np.diff(X, prepend=-np.inf) / 0.5)
    path = np.zeros(len(X))
    for i, normal in enumerate(rng.standard_normal(len(X))):
        path[i] = decay[i] * path[i - 1] + np.sqrt(1.0 - decay[i] ** 2) * 0.8 * sd * normal
    return path + 0.6 * sd * rng.standard_normal(len(X))


TWO = 0.3 + 0.2 * expit(2.0 * (X + 3.0)) + 0.15 * expit(4.0 * (X + 0.7))
ONE = {
    "sigmoid": 0.3 + 0.3 * expit(1.5 * (X + 1.5)),
    "stretched exponential": 0.3 - 0.3 * np.expm1(-((np.exp(X) / 0.15) ** 0.7)),
    "Gompertz": 0.3 + 0.3 * np.exp(-4.0 * np.exp(-6.0 * np.exp(X))),
    "straight line in ln C": 0.3 + 0.08 * np.log1p(np.exp(X) / 0.03),
    "no rise": np.full(30, 0.3),
}


def test_second_rise_is_seen_and_located() -> None:
    rng = np.random.default_rng(0)
    found = [check(TWO + wandering(rng, 0.006), start=start) for start in (None, 0.3) for _ in range(5)]
    assert np.median([one.evidence for one in found]) > 3.0 * LIMIT
    assert all(-2.5 < one.x < -0.9 for one in found if one.evidence > LIMIT)


@pytest.mark.parametrize("name", ONE)
def test_one_rise_is_not_two(name: str) -> None:
    rng = np.random.default_rng(1)
    found = [check(ONE[name] + wandering(rng, 0.006)).evidence for _ in range(40)]
    assert np.mean(np.array(found) > LIMIT) <= 0.05


def test_without_other_forms_one_rise_looks_like_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: if one rise must be a sigmoid, a straight line is taken for two rises."""
    x = np.log(np.arange(1, 101) / 100.0)
    line = 0.3 + 0.08 * np.log1p(np.exp(x) / 0.03) + 0.002 * np.random.default_rng(2).standard_normal(100)
    assert check(line, x).evidence <= LIMIT
    sigmoids = len(module.ONE_B) * 24
    shapes = module.single_rises
    monkeypatch.setattr(module, "single_rises", lambda x: shapes(x)[:, :sigmoids])
    monkeypatch.setattr(module, "LEVEL", 2.0)
    assert check(line, x).evidence > LIMIT


def test_evidence_equals_likelihoods_by_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """With white noise alone: AICc from the residual sums of squares of the two best curves."""
    rng = np.random.default_rng(3)
    n, reward = len(X), TWO + 0.004 * rng.standard_normal(len(X))
    recipe = data(reward)
    run = recipe.run(0)
    x, y = run.clock[:n], run.reward[:n]

    def left(*shapes: np.ndarray) -> float:
        columns = np.column_stack([np.ones(n), *shapes])
        fitted = np.linalg.lstsq(columns, y, rcond=None)[0]
        return float(((y - columns @ fitted) ** 2).sum()) if (fitted[1:] > 0.0).all() else np.inf

    def aicc(squares: float, k: int) -> float:
        return n * np.log(squares) + 2 * k + 2 * k * (k + 1) / (n - k - 1)

    rises = [expit(b * (x - m)) for m in np.linspace(x[0] - 0.5, x[-1], module.MIDPOINTS) for b in PAIR_B]
    one = min(left(shape) for shape in module.single_rises(x).T)
    two = min(left(a, b) for i, a in enumerate(rises) for b in rises[i + 1 :])
    white = {"NOISE_SHARE": np.zeros(1), "NOISE_LENGTH": np.ones(1)}
    for name, value in {**white, "LEVEL": np.inf, "PART": 0.0}.items():  # all pairs of rises, under white noise
        monkeypatch.setattr(module, name, value)
    found = second_rise(run, None)
    assert found.evidence == pytest.approx(0.5 * (aicc(one, 7) - aicc(two, 10)), rel=1e-6)


def test_short_runs_are_not_judged() -> None:
    assert check(TWO[::3], X[::3]).evidence == 0.0
