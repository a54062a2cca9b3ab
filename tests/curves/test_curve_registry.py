"""Every curve of the registry against the contract of `Curve`, by the same checks; a new curve needs one row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares
from test_curves import MISRA1D_X, MISRA1D_Y

from rlceiling.curves.curve import Curve, Unit
from rlceiling.curves.registry import CURVES

SHARE, POSITIVE = (0.0, 1.0), (0.0, np.inf)


class Certified(NamedTuple):
    """Data with a certified least squares fit of a curve, and that fit."""

    x: np.ndarray
    """Logarithm of the resource, shape (n,)."""
    reward: np.ndarray
    """Rewards on [0, 1], shape (n,)."""
    fixed: Mapping[str, float]
    """Unconstrained parameters that the certified fit holds fixed."""
    expected: Mapping[str, tuple[float, float]]
    """Symbol of each free parameter -> certified constrained value and standard error."""


class Row(NamedTuple):
    """What the checks need for one curve."""

    eta: tuple[tuple[float, float], ...]
    """Interval of each unconstrained parameter, from which the checks draw."""
    ranges: tuple[tuple[float, float], ...]
    """Range of each constrained parameter."""
    certified: Certified
    """Data with a certified fit."""


# Data sets are from the NIST Statistical Reference Datasets (public domain), with values and errors as certified.
DANWOOD_X = np.array([1.309, 1.471, 1.490, 1.565, 1.611, 1.680])
DANWOOD_Y = np.array([2.138, 3.421, 3.597, 4.340, 4.882, 5.660])

NORRIS_X = np.array(
    [0.2, 337.4, 118.2, 884.6, 10.1, 226.5, 666.3, 996.3, 448.6, 777.0, 558.2, 0.4]
    + [0.6, 775.5, 666.9, 338.0, 447.5, 11.6, 556.0, 228.1, 995.8, 887.6, 120.2, 0.3]
    + [0.3, 556.8, 339.1, 887.2, 999.0, 779.0, 11.1, 118.3, 229.2, 669.1, 448.9, 0.5]
)
NORRIS_Y = np.array(
    [0.1, 338.8, 118.1, 888.0, 9.2, 228.1, 668.5, 998.5, 449.1, 778.9, 559.2, 0.3]
    + [0.1, 778.1, 668.8, 339.3, 448.9, 10.8, 557.7, 228.3, 998.0, 888.8, 119.6, 0.3]
    + [0.6, 557.6, 339.3, 888.0, 998.5, 778.9, 10.2, 117.6, 228.9, 668.4, 449.2, 0.2]
)

ROWS = {
    "sigmoid": Row(
        eta=((-1.0, 2.0), (-2.0, 1.0), (-1.5, 1.5), (-0.4, 1.2)),
        ranges=(SHARE, SHARE, POSITIVE, POSITIVE),
        # Misra1d: y = b1 b2 x / (1 + b2 x), the sigmoid with R0 = 0 and B = 1; rewards are y / 1000.
        certified=Certified(
            x=np.log(MISRA1D_X),
            reward=MISRA1D_Y / 1000.0,
            fixed={"logit_start": -np.inf, "ln_B": 0.0},
            expected={
                "A": (0.43736970754, 3.6489174345e-3),
                "X_mid": (1.0 / 3.0227324449e-4, 2.9334354479e-6 / 3.0227324449e-4**2),
            },
        ),
    ),
    "burr": Row(
        eta=((-1.0, 2.0), (-2.0, 1.0), (-1.5, 1.5), (-0.4, 1.2), (-1.0, 1.0)),
        ranges=(SHARE, SHARE, POSITIVE, POSITIVE, POSITIVE),
        # As the sigmoid, which it is with tau = 1.
        certified=Certified(
            x=np.log(MISRA1D_X),
            reward=MISRA1D_Y / 1000.0,
            fixed={"logit_start": -np.inf, "ln_B": 0.0, "ln_tail": 0.0},
            expected={
                "A": (0.43736970754, 3.6489174345e-3),
                "X_mid": (1.0 / 3.0227324449e-4, 2.9334354479e-6 / 3.0227324449e-4**2),
            },
        ),
    ),
    "power law": Row(
        eta=((-1.5, -0.4), (-3.0, -1.0)),
        ranges=(POSITIVE, POSITIVE),
        # DanWood: y = b1 x^b2; the resource is 1 / x, and rewards are 1 - y / 8.
        certified=Certified(
            x=-np.log(DANWOOD_X),
            reward=1.0 - DANWOOD_Y / 8.0,
            fixed={},
            expected={"K": (0.76886226176 / 8.0, 0.018281973860 / 8.0), "E": (3.8604055871, 0.051726610913)},
        ),
    ),
    "log-linear": Row(
        eta=((-2.0, 0.0), (-3.5, -1.5), (-1.5, 1.5)),
        ranges=(SHARE, POSITIVE, POSITIVE),
        # Norris: y = b0 + b1 x. With C0 = 1 and ln(1 + C) = x / 1000 the curve is a line in x; rewards are
        # (y + 100) / 1200.
        certified=Certified(
            x=np.log(np.expm1(NORRIS_X / 1000.0)),
            reward=(NORRIS_Y + 100.0) / 1200.0,
            fixed={"ln_C0": 0.0},
            expected={
                "R0": ((100.0 - 0.262323073774029) / 1200.0, 0.232818234301152 / 1200.0),
                "s": (1.00211681802045 / 1.2, 0.429796848199937e-3 / 1.2),
            },
        ),
    ),
}
"""Name of a curve -> its row."""

FAR = 200.0
"""Distance in ln X at which a curve has come within rounding of its limit and its start."""


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def drawn(row: Row, number: int) -> np.ndarray:
    """Unconstrained parameters drawn from the intervals of a row, shape (parameters, number)."""
    lower, upper = np.array(row.eta).T[..., None]
    return lower + (upper - lower) * np.random.default_rng(0).uniform(size=(len(row.eta), number))


def assert_same_in_jax(function: Callable[..., Any], *arguments: Any) -> np.ndarray:
    """Result on numpy arrays, after a check that JAX arrays give a JAX array of the same shape and values."""
    plain = function(*arguments)
    traced = jax.jit(function)(*map(jnp.asarray, arguments))
    assert isinstance(plain, np.ndarray | np.generic)
    assert isinstance(traced, jax.Array)
    assert traced.shape == np.shape(plain)
    np.testing.assert_allclose(traced, plain, rtol=1e-11, atol=1e-12)
    return np.asarray(plain)


# Checks: each raises AssertionError for a curve that breaks its contract ---------------------------------------------


def check_parameters(curve: Curve, row: Row) -> None:
    """Names and symbols are unique, and `constrain` rises from one end of the range to the other."""
    parameters = curve.parameters
    assert len(parameters) == len(row.eta) == len(row.ranges)
    for attribute in ("name", "symbol", "label"):
        texts = [getattr(parameter, attribute) for parameter in parameters]
        assert all(text.strip() for text in texts), attribute
        assert len(set(texts)) == len(texts), attribute
    z = np.linspace(-30.0, 30.0, 121)
    for parameter, (lower, upper) in zip(parameters, row.ranges, strict=True):
        assert parameter.name.isidentifier()
        assert parameter.unit in get_args(Unit)
        values = assert_same_in_jax(parameter.constrain, z)
        assert (np.diff(values) > 0).all(), parameter.name
        assert lower < values[0] < lower + 1e-6, parameter.name
        assert values[-1] < upper, parameter.name
        assert values[-1] > (1e6 if np.isinf(upper) else upper - 1e-6), parameter.name


def check_shapes(curve: Curve, row: Row) -> None:
    """Inputs of shape (..., n, k) and parameters broadcast to rewards of shape (..., n)."""
    eta = drawn(row, 5)
    x = np.linspace(-2.0, 2.0, 7)
    expected = np.array([curve.value(x[:, None], *own) for own in eta.T])
    assert expected.shape == (5, 7)
    columns = eta[..., None]
    for inputs, parameters, shape in (
        (x[:, None], columns, (5, 7)),
        (np.broadcast_to(x[:, None], (5, 7, 1)), columns, (5, 7)),
        (np.broadcast_to(x[:, None], (2, 5, 7, 1)), columns, (2, 5, 7)),
        (np.broadcast_to(x[:, None], (2, 1, 7, 1)), columns, (2, 5, 7)),
    ):
        found = assert_same_in_jax(curve.value, inputs, *parameters)
        assert found.shape == shape
        np.testing.assert_array_equal(found, np.broadcast_to(expected, shape))
        assert assert_same_in_jax(curve.inverse, found, *parameters).shape == shape


def check_inverse(curve: Curve, row: Row) -> None:
    """The inverse gives back the resource, or an infinity of the right sign for a reward that no resource gives."""
    eta = drawn(row, 5)[..., None]
    x = np.linspace(-2.0, 2.0, 7)
    np.testing.assert_allclose(
        assert_same_in_jax(curve.inverse, curve.value(x[:, None], *eta), *eta), np.broadcast_to(x, (5, 7)), atol=1e-9
    )
    rewards = np.broadcast_to(np.linspace(-0.2, 1.2, 29), (5, 29))
    at = assert_same_in_jax(curve.inverse, rewards, *eta)
    assert not np.isnan(at).any()
    finite = np.isfinite(at)
    assert finite.any()
    again = curve.value(np.where(finite, at, 0.0)[..., None], *eta)
    np.testing.assert_allclose(again[finite], rewards[finite], atol=1e-9)
    never, before = at == np.inf, at == -np.inf
    far = np.full((5, 29, 1), FAR)
    assert (curve.value(far, *eta)[never] <= rewards[never]).all()
    assert (curve.value(-far, *eta)[before] >= rewards[before]).all()


def check_limit(curve: Curve, row: Row) -> None:
    """A ceiling is the reward at very large resource and is never reached; without one every reward below 1 is."""
    eta = drawn(row, 5)
    if curve.limit is None:
        reward = np.array([0.9, 0.999, 1.0 - 1e-6])
        at = assert_same_in_jax(curve.inverse, np.broadcast_to(reward, (5, 3)), *eta[..., None])
        assert np.isfinite(at).all()
        np.testing.assert_allclose(
            curve.value(at[..., None], *eta[..., None]), np.broadcast_to(reward, (5, 3)), atol=1e-9
        )
        assert (np.diff(at, axis=1) > 0).all()
        return
    limit = assert_same_in_jax(curve.limit, *eta)
    np.testing.assert_allclose(curve.value(np.full((5, 1), FAR), *eta), limit, rtol=1e-12)
    assert (curve.inverse(limit + 0.01, *eta) == np.inf).all()
    assert np.isfinite(curve.inverse(limit - 1e-4, *eta)).all()


def check_start(curve: Curve, row: Row) -> None:
    """A start is the reward at very small resource; without one the curve falls below every reward there."""
    eta = drawn(row, 5)
    first = curve.value(np.full((5, 1), -FAR), *eta)
    if curve.start is None:
        assert (first < 0.0).all()
        return
    start = assert_same_in_jax(curve.start, *eta)
    np.testing.assert_allclose(first, start, rtol=1e-12)
    assert (curve.inverse(start - 0.01, *eta) == -np.inf).all()
    assert np.isfinite(curve.inverse(start + 1e-4, *eta)).all()


def check_local(curve: Curve, row: Row) -> None:
    """Local coordinates are inverted, their log determinant is that of autodiff, and their place is among the data."""
    if curve.local is None:
        return
    local, eta, place = curve.local, drawn(row, 5), np.linspace(-1.0, 1.0, 5)
    at = assert_same_in_jax(local.to_local, eta, place)
    assert at.shape == eta.shape
    np.testing.assert_allclose(assert_same_in_jax(local.from_local, at, place), eta, rtol=1e-9, atol=1e-9)
    derivative = jax.vmap(jax.jacfwd(local.from_local), in_axes=(1, 0))(jnp.asarray(at), jnp.asarray(place))
    expected = np.linalg.slogdet(np.asarray(derivative))[1]
    np.testing.assert_allclose(np.broadcast_to(local.log_det(eta), (5,)), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.broadcast_to(local.log_det(jnp.asarray(eta)), (5,)), expected, rtol=1e-9, atol=1e-9)

    x = np.linspace(-2.0, 2.0, 9)
    observed = np.arange(9) < 6  # the rest is padding
    for own in eta.T:
        assert x[0] < local.place(x, observed, own) < x[5]


def check_guess(curve: Curve, row: Row) -> None:
    """The guess is near noiseless data, and least squares from it finds their curve."""
    inputs = np.linspace(-3.0, 3.0, 25)[:, None]
    for own in drawn(row, 5).T:
        reward = curve.value(inputs, *own)
        guess = curve.guess(inputs, reward, np.ones(25))
        for part in guess:
            assert part.shape == (len(row.eta),)
            assert np.isfinite(part).all()
        assert (guess.width > 0).all()
        assert np.abs(curve.value(inputs, *guess.eta) - reward).max() < GUESS_ERROR
        found = least_squares(lambda eta, y=reward: curve.value(inputs, *eta) - y, guess.eta, **TIGHT).x
        np.testing.assert_allclose(curve.value(inputs, *found), reward, atol=1e-6)


GUESS_ERROR = 0.05
"""Largest error in reward of a guess on noiseless data."""

TIGHT = {"jac": "3-point", "x_scale": "jac", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 2000}
"""Least squares to the last digits."""


def check_certified(curve: Curve, row: Row) -> None:
    """Least squares from the guess finds the certified parameters and, by linear theory, their standard errors."""
    x, reward, fixed, expected = row.certified
    names = [parameter.name for parameter in curve.parameters]
    free = [i for i, name in enumerate(names) if name not in fixed]
    start = curve.guess(x[:, None], reward, np.ones(len(x))).eta
    all_eta = np.array([fixed.get(name, value) for name, value in zip(names, start, strict=True)])

    def residual(own: np.ndarray) -> np.ndarray:
        eta = all_eta.copy()
        eta[free] = own
        return np.asarray(curve.value(x[:, None], *eta) - reward)

    fit = least_squares(residual, all_eta[free], **TIGHT)
    covariance = np.linalg.inv(fit.jac.T @ fit.jac) * (fit.fun**2).sum() / (len(x) - len(free))
    assert {curve.parameters[i].symbol for i in free} == set(expected)
    for i, value, error in zip(free, fit.x, np.sqrt(np.diag(covariance)), strict=True):
        constrain = curve.parameters[i].constrain
        slope = (constrain(value + 1e-6) - constrain(value - 1e-6)) / 2e-6
        certified_value, certified_error = expected[curve.parameters[i].symbol]
        np.testing.assert_allclose(constrain(value), certified_value, rtol=1e-7)
        np.testing.assert_allclose(slope * error, certified_error, rtol=1e-5)


CHECKS = (
    check_parameters,
    check_shapes,
    check_inverse,
    check_limit,
    check_start,
    check_local,
    check_guess,
    check_certified,
)


def test_every_curve_has_a_row_and_its_own_name() -> None:
    assert set(CURVES) == set(ROWS)
    assert all(name == curve.name for name, curve in CURVES.items())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CURVES)
def test_curve(name: str, check: Callable[[Curve, Row], None]) -> None:
    check(CURVES[name], ROWS[name])


# Negative controls: one wrong function each, which its check must find ------------------------------------------------

SIGMOID = CURVES["sigmoid"]

WRONG: dict[str, tuple[Callable[[Curve, Row], None], Curve]] = {
    "inverse off by 1e-6": (check_inverse, replace(SIGMOID, inverse=lambda *a: SIGMOID.inverse(*a) + 1e-6)),
    "inverse NaN above the ceiling": (
        check_inverse,
        replace(SIGMOID, inverse=lambda *a: (at := SIGMOID.inverse(*a)) + 0.0 * at),
    ),
    "limit 1% low": (check_limit, replace(SIGMOID, limit=lambda *eta: 0.99 * SIGMOID.limit(*eta))),
    "limit not declared": (check_limit, replace(SIGMOID, limit=None)),
    "start is that of another parameter": (check_start, replace(SIGMOID, start=lambda *eta: SIGMOID.limit(*eta))),
    "start not declared": (check_start, replace(SIGMOID, start=None)),
    "log determinant of the wrong sign": (
        check_local,
        replace(SIGMOID, local=replace(SIGMOID.local, log_det=lambda eta: eta[3])),
    ),
    "local coordinates not inverted": (
        check_local,
        replace(SIGMOID, local=replace(SIGMOID.local, from_local=lambda local, place: local)),
    ),
    "place among the padding": (
        check_local,
        replace(SIGMOID, local=replace(SIGMOID.local, place=lambda x, observed, eta: x.max())),
    ),
    "value of the wrong shape": (check_shapes, replace(SIGMOID, value=lambda x, *eta: SIGMOID.value(x, *eta)[..., :1])),
    "parameters of one name": (check_parameters, replace(SIGMOID, parameters=SIGMOID.parameters[:1] * 4)),
    "parameters in the wrong order": (check_parameters, replace(SIGMOID, parameters=SIGMOID.parameters[::-1])),
    "guess far from the data": (
        check_guess,
        replace(SIGMOID, guess=lambda *a: SIGMOID.guess(*a)._replace(eta=np.array([0.0, 0.0, 0.0, 0.5]))),
    ),
    "midpoint off by 1 in a million": (
        check_certified,
        replace(SIGMOID, value=lambda x, a, s, mid, b: SIGMOID.value(x, a, s, mid + 1e-6, b)),
    ),
}
"""What is wrong -> the check that must fail, and the curve."""


@pytest.mark.parametrize("wrong", WRONG)
def test_checks_find_a_wrong_curve(wrong: str) -> None:
    check, curve = WRONG[wrong]
    with np.errstate(invalid="ignore"), pytest.raises(AssertionError):
        check(curve, ROWS["sigmoid"])
