"""The callback with the state and control of transformers: decisions, units of compute, and what cannot be used."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import rlceiling as rl
from rlceiling.curves import sigmoid_curve

transformers = pytest.importorskip("transformers", reason="the extra trl is not installed")

from rlceiling.integrations.trl import CeilingCallback  # noqa: E402 (needs transformers)


def evaluated(callback: CeilingCallback, step: int, reward: object) -> object:
    """State of the control after an evaluation at a step, as the trainer calls the callback."""
    state, control = transformers.TrainerState(global_step=step), transformers.TrainerControl()
    metrics = {"eval_loss": 1.0, "eval_reward": reward}
    handler = transformers.trainer_callback.CallbackHandler([callback], None, None, None, None)
    return handler.on_evaluate(None, state, control, metrics)


def test_a_run_that_has_levelled_off_is_stopped_if_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    steps = np.arange(100, 2001, 100)
    reward = sigmoid_curve(steps, 0.6, 2.5, 250.0, 0.3) + 0.002 * np.random.default_rng(0).standard_normal(len(steps))
    stopping, logging_only = (
        CeilingCallback(rl.Gate(add=200, gain=0.02, first=20), stop_training=wanted) for wanted in (True, False)
    )
    with caplog.at_level(logging.INFO, logger="rlceiling"):
        ends = [evaluated(stopping, int(s), float(r)).should_training_stop for s, r in zip(steps, reward, strict=True)]
    assert ends == [False] * 19 + [True]
    assert stopping.decisions[-1].stop
    assert "rlceiling at 2,000: stop, chance" in caplog.messages[-1]
    assert "ceiling 0." in caplog.messages[-1]
    logging_only.gate.evaluations = stopping.gate.evaluations[:-1]
    assert not evaluated(logging_only, 2000, float(reward[-1])).should_training_stop
    assert logging_only.decisions[-1].stop


def test_what_cannot_be_used_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    callback = CeilingCallback(rl.Gate(add=200, gain=0.02), metric="eval_pass_rate")
    for _ in range(2):
        assert not evaluated(callback, 100, 0.3).should_training_stop
    assert [m for m in caplog.messages if "no metric" in m] == [
        "rlceiling: an evaluation has no metric 'eval_pass_rate'; it has: eval_loss, eval_reward"
    ]
    broken = CeilingCallback(rl.Gate(add=200, gain=0.02), compute=lambda state: 1 / 0)
    assert not evaluated(broken, 100, 0.3).should_training_stop
    assert "compute could not be read" in caplog.messages[-1]
    odd = CeilingCallback(rl.Gate(add=200, gain=0.02))
    assert not evaluated(odd, 100, "high").should_training_stop
    assert odd.decisions[-1].action == "unknown"
    with pytest.raises(rl.DataError, match="neither 'steps', 'hours' nor a function"):
        CeilingCallback(rl.Gate(add=200, gain=0.02), compute="days")


def test_compute_is_steps_hours_or_what_a_function_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 200.0, 200.0 + 1800.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    hours = CeilingCallback(rl.Gate(add=1, gain=0.02), compute="hours", gpus=8)
    hours.on_train_begin(None, None, None)
    evaluated(hours, 7, 0.3)
    monkeypatch.undo()
    assert hours.gate.evaluations[0][0] == 4.0
    tokens = CeilingCallback(rl.Gate(add=1, gain=0.02), compute=lambda state: 512.0 * state.global_step)
    steps = CeilingCallback(rl.Gate(add=1, gain=0.02))
    for callback, expected in ((tokens, 3584.0), (steps, 7.0)):
        evaluated(callback, 7, 0.3)
        assert callback.gate.evaluations[0][0] == expected
