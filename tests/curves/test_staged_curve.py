"""The curve of a run with stages: each begins at the level reached, and one stage is the sigmoid."""

from __future__ import annotations

import numpy as np

from rlceiling.curves import sigmoid_compute, sigmoid_curve, sigmoid_share
from rlceiling.curves.stages import stage_names, staged_compute, staged_curve

BEGINS = np.array([0.0, 1000.0, 2500.0])
CEILINGS, MIDPOINTS, B, TAIL = (0.5, 0.55, 0.8), (300.0, 2000.0, 700.0), 1.8, 1.4


def three_stages() -> dict[str, float]:
    """Parameters by name; levels by the formula of each stage."""
    found, level = {"B": B, "tail": TAIL}, 0.2
    for k, (A, C_mid) in enumerate(zip(CEILINGS, MIDPOINTS, strict=True)):
        suffix = f"_{k + 1}" if k < 2 else ""
        found |= {f"A{suffix}": A, f"C_mid{suffix}": C_mid, f"R0{suffix}": level}
        if k < 2:
            level += (A - level) * float(sigmoid_share(BEGINS[k + 1] - BEGINS[k], B, C_mid, TAIL))
    return found


def test_each_stage_begins_at_the_level_reached() -> None:
    parameters = three_stages()
    before, after = (staged_curve(BEGINS[1:] + side, parameters, BEGINS) for side in (-1e-9, 1e-9))
    np.testing.assert_allclose(before, [parameters["R0_2"], parameters["R0"]], rtol=1e-6)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert staged_curve(0.0, parameters, BEGINS) == parameters["R0_1"]
    in_last = sigmoid_curve(500.0, *(parameters[name] for name in ("A", "B", "C_mid", "R0", "tail")))
    assert staged_curve(3000.0, parameters, BEGINS) == in_last
    assert set(stage_names(3)) <= {*parameters, "headroom_1", "headroom_2"}


def test_compute_to_a_reward_is_the_inverse_in_every_stage() -> None:
    parameters = three_stages()
    compute = np.array([200.0, 900.0, 1500.0, 2400.0, 2600.0, 9000.0])
    reward = staged_curve(compute, parameters, BEGINS)
    assert (np.diff(reward) > 0).all()
    np.testing.assert_allclose(staged_compute(reward, parameters, BEGINS), compute)
    assert staged_compute(0.1, parameters, BEGINS) == 0.0
    assert staged_compute(0.81, parameters, BEGINS) == np.inf


def test_one_stage_is_the_sigmoid_to_the_last_bit() -> None:
    compute, own = np.geomspace(10.0, 1e5, 50), (0.7, 1.8, 900.0, 0.3, 1.5)
    parameters = dict(zip(("A", "B", "C_mid", "R0", "tail"), own, strict=True))
    one = np.zeros(1)
    assert (staged_curve(compute, parameters, one) == sigmoid_curve(compute, *own)).all()
    assert (staged_compute(0.5, parameters, one) == sigmoid_compute(0.5, *own)).all()
