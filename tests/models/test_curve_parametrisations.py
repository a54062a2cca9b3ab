"""The sigmoid has three parametrisations in the package, which must give the same curve."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logit

from rlceiling.curves import sigmoid_compute, sigmoid_curve
from rlceiling.curves.burr import BURR
from rlceiling.curves.sigmoid import SIGMOID
from rlceiling.models.recipe_data import prepare
from rlceiling.models.recipe_model import run_curves
from rlceiling.runs import Run

# Columns are curves; the last one is almost flat and the second one starts at almost zero reward.
R0 = np.array([0.40, 1e-6, 0.15, 0.30])
A = np.array([0.62, 0.90, 0.70, 0.301])
B = np.array([1.8, 0.7, 4.0, 1.2])
C_MID = np.array([2500.0, 9000.0, 800.0, 3000.0])
ETA = (logit(A), logit(R0 / A), np.log(C_MID), np.log(B))
"""The same curves in the parameters of `SIGMOID`, with a reference compute of 1."""


def test_natural_and_unconstrained_parameters_give_the_same_curve() -> None:
    compute = np.geomspace(1.0, 1e6, 25)
    found = SIGMOID.value(np.log(compute)[:, None], *(eta[:, None] for eta in ETA))
    expected = sigmoid_curve(compute, A[:, None], B[:, None], C_MID[:, None], R0[:, None])
    assert found.shape == (4, 25)
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    np.testing.assert_allclose(SIGMOID.limit(*ETA), A, rtol=1e-12)
    np.testing.assert_allclose(SIGMOID.start(*ETA), R0, rtol=1e-9)


def test_burr_is_the_natural_curve_and_with_a_tail_of_1_the_sigmoid() -> None:
    compute = np.geomspace(1.0, 1e6, 25)
    columns = [eta[:, None] for eta in ETA]
    for tail in (0.05, 1.0, 5.0):
        ln_tail = np.full((4, 1), np.log(tail))
        found = BURR.value(np.log(compute)[:, None], *columns, ln_tail)
        expected = sigmoid_curve(compute, A[:, None], B[:, None], C_MID[:, None], R0[:, None], tail)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        reward = R0 + np.linspace(0.01, 0.99, 9)[:, None] * (A - R0)
        np.testing.assert_allclose(
            np.exp(BURR.inverse(reward, *ETA, np.log(tail))),
            sigmoid_compute(reward, A, B, C_MID, R0, tail),
            rtol=1e-9,
        )
        if tail == 1.0:
            np.testing.assert_allclose(found, SIGMOID.value(np.log(compute)[:, None], *columns), rtol=1e-11)


def test_natural_and_unconstrained_parameters_give_the_same_inverse() -> None:
    reward = R0 + np.linspace(0.01, 0.99, 9)[:, None] * (A - R0)
    found, expected = SIGMOID.inverse(reward, *ETA), sigmoid_compute(reward, A, B, C_MID, R0)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-9)
    # Zero compute and infinite compute outside of the range of the curve.
    np.testing.assert_array_equal(np.exp(SIGMOID.inverse(R0 - 1e-4, *ETA)), sigmoid_compute(R0 - 1e-4, A, B, C_MID, R0))
    np.testing.assert_array_equal(np.exp(SIGMOID.inverse(A + 1e-4, *ETA)), sigmoid_compute(A + 1e-4, A, B, C_MID, R0))


def test_unconstrained_parameters_are_constrained_to_the_natural_ones() -> None:
    constrained = [parameter.constrain(eta) for parameter, eta in zip(SIGMOID.parameters, ETA, strict=True)]
    assert [parameter.symbol for parameter in SIGMOID.parameters] == ["A", "R0/A", "X_mid", "B"]
    for found, expected in zip(constrained, (A, R0 / A, C_MID, B), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_curves_of_a_recipe_are_the_sigmoid_of_each_run() -> None:
    """The recipe has a headroom, and every run has offsets from it in logit of headroom, ln C_mid and ln B."""
    compute = [np.geomspace(800.0, 12_000.0, 15), np.geomspace(700.0, 5000.0, 9), np.geomspace(900.0, 2000.0, 5)]
    runs = [Run("a", str(i), c, np.full(len(c), 0.5), np.full(len(c), np.nan), None) for i, c in enumerate(compute)]
    start, headroom, efficiency, ratio, tail = 0.4, 0.35, 1.8, 1.3, 2.2
    offsets = np.array([[0.1, -0.2, 0.05], [-0.3, 0.4, -0.1], [0.0, 0.1, 0.2]])
    with jax.enable_x64(True):
        recipe = prepare(runs, evaluation_error=0.5, C_mid_origin=3000.0)
        found = run_curves(recipe, *map(jnp.asarray, (start, headroom, efficiency, ratio, tail, offsets)))
    assert found.shape == recipe.runs.reward.shape
    own_headroom = 1.0 / (1.0 + np.exp(-(logit(headroom) + offsets[:, 0])))
    ceiling = start + (1.0 - start) * own_headroom
    eta = (
        logit(ceiling),
        logit(start / ceiling),
        np.log(3000.0 * ratio) - recipe.log_origin + offsets[:, 1],
        np.log(efficiency) + offsets[:, 2],
        np.full(3, np.log(tail)),
    )
    expected = BURR.value(recipe.runs.inputs, *(column[:, None] for column in eta))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # Negative control: offsets of the runs in another order give other curves.
    other = BURR.value(recipe.runs.inputs, *(column[::-1, None] for column in eta))
    assert np.abs(np.asarray(found) - other).max() > 0.01
    # The same curves in the unit of compute.
    for lane, place in enumerate(recipe.order):
        evaluations = len(compute[place])
        natural = sigmoid_curve(
            compute[place],
            ceiling[lane],
            efficiency * np.exp(offsets[lane, 2]),
            3000.0 * ratio * np.exp(offsets[lane, 1]),
            start,
            tail,
        )
        np.testing.assert_allclose(found[lane, :evaluations], natural, rtol=1e-8)
