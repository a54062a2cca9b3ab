"""The curve against certified and published least-squares fits, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from rlceiling.curves import sigmoid_curve, sigmoid_share
from rlceiling.curves.sigmoid import share_of_rise, steepness

# NIST StRD Misra1d (monomolecular adsorption), y = b1 b2 x / (1 + b2 x).
MISRA1D_X = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
MISRA1D_Y = np.array([10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78])

# Root length of ryegrass against dose of ferulic acid, R package drc.
RYEGRASS_DOSE = np.repeat([0.0, 0.94, 1.88, 3.75, 7.5, 15.0, 30.0], [6, 3, 3, 3, 3, 3, 3])
RYEGRASS_LENGTH = np.array(
    [7.58, 8.0, 8.328571429, 7.25, 7.375, 7.9625, 8.355555556, 6.914285714, 7.75, 6.871428571, 6.45, 5.922222222, 1.925]
    + [2.885714286, 4.233333333, 1.1875, 0.857142857, 1.057142857, 0.6875, 0.525, 0.825, 0.25, 0.22, 0.44]
)


def test_misra1d_is_recovered_to_its_certified_digits() -> None:
    fitted, covariance = curve_fit(
        lambda x, A, C_mid: sigmoid_curve(x, A, 1.0, C_mid), MISRA1D_X, MISRA1D_Y, p0=(500, 10_000), xtol=1e-12
    )
    A, C_mid = fitted
    assert pytest.approx(437.36970754, rel=1e-6) == A
    assert pytest.approx(3.0227324449e-4, rel=1e-6) == 1.0 / C_mid
    assert np.sqrt(covariance[0, 0]) == pytest.approx(3.6489174345, rel=1e-5)


def test_decreasing_ryegrass_curve_is_recovered() -> None:
    # The curve falls, so the ceiling is drc's lower limit and the start its upper limit.
    (R0, A, B, C_mid), _ = curve_fit(
        lambda x, R0, A, B, C_mid: sigmoid_curve(x, A, B, C_mid, R0),
        RYEGRASS_DOSE,
        RYEGRASS_LENGTH,
        p0=(8, 0.5, 3, 3),
        xtol=1e-12,
    )
    assert A < R0
    assert [A, R0, C_mid, B] == pytest.approx([0.48141, 7.79296, 3.05796, 2.98223], rel=2e-6)


def test_sigmoid_limits_and_midpoint() -> None:
    curve = sigmoid_curve(np.array([0.0, 3000.0, 1e15]), 0.6, 2.0, 3000.0, 0.4)
    np.testing.assert_allclose(curve, [0.4, 0.5, 0.6], rtol=1e-15)
    # The form with R0 = 0 that the paper fits.
    assert sigmoid_curve(1500.0, 0.6, 2.0, 3000.0) == pytest.approx(0.6 / (1 + (3000 / 1500) ** 2.0))


def test_extreme_tails_and_computes_give_shares_between_0_and_1() -> None:
    """The terms of the formula overflow here: 2^tau for a long tail, and the power for a steep curve."""
    compute = np.array([0.0, 1e-9, 1.0, 1e3, 1e9, 1e30])[:, None]
    share = sigmoid_share(compute, np.array([1.0, 30.0, 1.7, 1e-3]), 1e3, np.array([2000.0, 1e-3, 3e4, 1e-9]))
    assert ((share >= 0.0) & (share <= 1.0)).all()
    assert (np.diff(share, axis=0) >= 0.0).all()
    np.testing.assert_allclose(share[3], 0.5, rtol=1e-6)
    # Below 1024 the factor 2^tau is finite, and its product with the power is not.
    for tail, ratio, expected in (
        (1000.0, 1.05, 0.5238),
        (500.0, 5.0, 0.9),
        (300.0, 20.0, 0.975),
        (100.0, 2000.0, 1.0),
    ):
        assert sigmoid_share(ratio, 2.0, 1.0, tail) == pytest.approx(expected, abs=3e-4)
    assert isinstance(sigmoid_share(5.0, 2.0, 1.0, 500.0), float)


def test_any_unit_of_compute_gives_the_same_share() -> None:
    compute = np.geomspace(1, 1e4, 7)
    np.testing.assert_allclose(sigmoid_share(compute, 1.7, 300.0), sigmoid_share(3600 * compute, 1.7, 3600 * 300.0))


def test_jax_arrays_give_jax_arrays_with_the_same_values() -> None:
    import jax
    import jax.numpy as jnp

    compute = np.geomspace(100, 1e4, 5)
    with jax.enable_x64(True):
        out = jax.jit(lambda c: sigmoid_curve(c, 0.6, 2.0, 3000.0, 0.4))(jnp.asarray(compute))
        assert isinstance(out, jax.Array)
        np.testing.assert_allclose(out, sigmoid_curve(compute, 0.6, 2.0, 3000.0, 0.4), rtol=1e-13)


TAILS = np.array([1e-6, 0.2, 0.7, 1.0, 2.5, 12.0])


def test_a_tail_of_1_is_the_sigmoid() -> None:
    compute = np.r_[0.0, np.geomspace(1e-3, 1e9, 60)]
    for B in (0.5, 1.8, 6.0):
        with np.errstate(divide="ignore"):
            expected = 1.0 / (1.0 + (3000.0 / compute) ** B)
        np.testing.assert_allclose(sigmoid_share(compute, B, 3000.0, 1.0), expected, rtol=1e-13)
        np.testing.assert_array_equal(sigmoid_share(compute, B, 3000.0), sigmoid_share(compute, B, 3000.0, 1.0))


def test_a_tail_near_0_is_a_stretched_exponential() -> None:
    compute = np.geomspace(10.0, 1e5, 40)
    b = 1.8 / (2.0 * np.log(2.0))  # so that the slope at the midpoint is that of the sigmoid
    expected = 1.0 - 2.0 ** -((compute / 3000.0) ** b)
    np.testing.assert_allclose(sigmoid_share(compute, 1.8, 3000.0, 1e-9), expected, atol=1e-8)


def test_compute_far_beyond_the_midpoint_gives_all_of_the_gain_without_a_warning() -> None:
    tail = np.array(20.0)
    left = np.exp(-(306.0 * np.log(10.0) + np.log(2.0**20 - 1.0)) / 20.0)  # 2e-16
    with np.errstate(over="raise"):
        assert sigmoid_share(1e306 ** (1.0 / steepness(tail)), 1.0, 1.0, tail) == 1.0 - left


def test_a_large_tail_approaches_its_ceiling_by_a_slow_power() -> None:
    far = np.array([1e12, 1e13])
    left = 1.0 - sigmoid_share(far, 1.8, 3000.0, 8.0)
    # 1 - s falls like C^(-b / tail), where b / tail is B / 2 for large tails.
    assert np.log(left[0] / left[1]) / np.log(10.0) == pytest.approx(0.9 / (1.0 - 2.0**-8), rel=1e-4)


def test_midpoint_and_efficiency_keep_their_meaning_for_every_tail() -> None:
    step = 1e-5
    around = 3000.0 * np.exp(np.array([-step, 0.0, step]))
    share = sigmoid_share(around, 1.8, 3000.0, TAILS[:, None])
    np.testing.assert_allclose(share[:, 1], 0.5, rtol=1e-9)
    log_odds = np.log(share) - np.log1p(-share)
    np.testing.assert_allclose((log_odds[:, 2] - log_odds[:, 0]) / (2.0 * step), 1.8, rtol=1e-6)
    # Negative control: further out the curves differ.
    assert np.ptp(sigmoid_share(30_000.0, 1.8, 3000.0, TAILS)) > 0.03


def test_shares_from_logarithms_are_the_same() -> None:
    compute = np.geomspace(1e-6, 1e12, 50)
    for tail in TAILS:
        z = 1.8 * steepness(tail) * np.log(compute / 3000.0)
        np.testing.assert_allclose(
            share_of_rise(z, tail), sigmoid_share(compute, 1.8, 3000.0, tail), rtol=1e-8, atol=1e-15 / min(tail, 1.0)
        )
    np.testing.assert_array_equal(share_of_rise(np.array([-1e6, 1e6]), 1.0), [0.0, 1.0])
