"""The curve against certified and published least-squares fits, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from rlceiling.curves import sigmoid_curve, sigmoid_share

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
