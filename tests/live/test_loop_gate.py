"""The gate of a training loop: decisions, changes of regime, and input that cannot be used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
from rlceiling.curves import sigmoid_curve
from rlceiling.live.refits import RULES


def rewards(compute: np.ndarray, seed: int, ceiling: float = 0.65) -> np.ndarray:
    noise = 0.004 * np.random.default_rng(seed).standard_normal(len(compute))
    return sigmoid_curve(compute, ceiling, 2.0, 2000.0, 0.3) + noise


def test_a_toy_trainer_goes_on_while_it_gains_and_then_stops() -> None:
    gate, compute = rl.Gate(add=2000.0, gain=0.02), np.arange(1000.0, 30_001.0, 1000.0)
    said = [gate.update(0.0, 0.3)]
    for c, reward in zip(compute, rewards(compute, 0), strict=True):
        said.append(gate.update(c, reward))
        if said[-1].stop:
            break
    assert all("evaluations that a decision needs" in one.why for one in said[:8])
    assert [one.action for one in said[:8]] == ["unknown"] * 8
    assert said[-1].stop
    last = float(gate.evaluations[-1][0])
    # What the next 2,000 would have added where it stopped, and where it last went on.
    gains = sigmoid_curve(compute + 2000.0, 0.65, 2.0, 2000.0, 0.3) - sigmoid_curve(compute, 0.65, 2.0, 2000.0, 0.3)
    assert gains[compute == last][0] < 0.02
    assert last < 30_000.0
    low, middle, high = said[-1].ceiling
    assert low < 0.65 < high
    assert low < middle < high
    assert gate.decisions == said
    assert "stop, chance" in repr(gate)


def test_a_decision_is_that_of_the_fit_itself() -> None:
    gate, compute = rl.Gate(add=2000.0, gain=0.02, first=12, name="a"), np.arange(1000.0, 12_001.0, 1000.0)
    for c, reward in zip(compute, rewards(compute, 1), strict=True):
        decision = gate.update(c, reward)
    assert gate.fit is not None
    fits = rl.fit(gate_runs(compute, rewards(compute, 1)), chains=2, tune=300, draws=300, rules=RULES, progress=False)
    found = fits.gate(2000.0, 0.02).iloc[0]
    assert decision.p_gain == found["p_gain"]
    assert decision.action == found["decision"]
    assert decision.ceiling == fits["a"].interval("A")


def gate_runs(compute: np.ndarray, reward: np.ndarray) -> rl.Runs:
    return rl.read_runs(pd.DataFrame({"recipe": "a", "compute": compute, "reward": reward}))


def test_a_ceiling_that_moves_is_noticed() -> None:
    gate, compute = rl.Gate(add=2000.0, gain=0.02, first=14), np.arange(1000.0, 24_001.0, 1000.0)
    reward = rewards(compute, 2)
    reward[16:] += np.linspace(0.03, 0.2, len(compute) - 16)
    said = [gate.update(c, r) for c, r in zip(compute, reward, strict=True)]
    assert not any(one.ceiling_moved for one in said[:15])
    assert any(one.ceiling_moved or one.verdict == "NOT_A_SIGMOID" for one in said[16:])


@pytest.mark.parametrize(
    ("compute", "reward", "words"),
    [
        (500.0, 0.4, "compute 500 does not go on from 1,000; not used"),
        (2000.0, 1.4, "the reward 1.4 is not a number from 0 to 1; not used"),
        (2000.0, float("nan"), "the reward nan is not a number"),
        ("later", 0.4, "could not convert"),
        (2000.0, None, "NoneType"),
    ],
)
def test_an_evaluation_that_cannot_be_used_ends_nothing_and_is_left_out(
    compute: object, reward: object, words: str
) -> None:
    gate = rl.Gate(add=10.0, gain=0.01)
    gate.update(1000.0, 0.35)
    decision = gate.update(compute, reward)  # type: ignore[arg-type]
    assert decision.action == "unknown"
    assert words in decision.why
    assert gate.evaluations == [(1000.0, 0.35, pytest.approx(float("nan"), nan_ok=True))]
    assert "1 of the 8" not in gate.update(2000.0, 0.36).why


@pytest.mark.parametrize(
    "arguments",
    [
        {"add": 0.0},
        {"gain": -1.0},
        {"first": 2},
        {"max_wrong_stop": 0.6},
        {"reward_bounds": (1, 0)},
        {"priors": 3},
        {"seed": "a"},
    ],
)
def test_invalid_settings_are_refused_before_training(arguments: dict[str, float]) -> None:
    with pytest.raises(rl.DataError):
        rl.Gate(**{"add": 10.0, "gain": 0.01} | arguments)  # type: ignore[arg-type]
