"""Interface of a learning curve: parameters, value, inverse, limit, start, first guess and local coordinates.

A curve gives the reward of one run, scaled to [0, 1], as a function of its inputs (the logarithm of compute, or of
another resource, relative to a reference). It has no priors and no sampler. Its parameters ``eta`` are unconstrained
real numbers, so that each can vary around a mean of its own between runs or model sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Unit = Literal["reward", "resource", "none"]


@dataclass(frozen=True, eq=False)
class Parameter:
    """One parameter of a curve.

    Attributes
    ----------
    name : str
        Name of the unconstrained parameter, as sampled, such as ``"ln_B"``.
    symbol : str
        Name of the constrained parameter, as tables and plots show it, such as ``"B"``.
    label : str
        Meaning in one or two words, such as ``"efficiency"``.
    unit : {"reward", "resource", "none"}
        Unit of the constrained parameter. ``"reward"`` is for a reward on [0, 1] and not for a difference of rewards,
        ``"resource"`` for a resource divided by the reference of the inputs.
    constrain : callable
        Increasing map from the unconstrained to the constrained parameter.
    """

    name: str
    symbol: str
    label: str
    unit: Unit
    constrain: Callable[[Any], Any]


class Guess(NamedTuple):
    """Start of a least squares fit and a penalty for it; arrays of shape (parameters,)."""

    eta: np.ndarray
    """Unconstrained parameters of a curve near the data, where least squares starts."""
    usual: np.ndarray
    """Centre of a quadratic penalty, which decides about parameters that the data leave open."""
    width: np.ndarray
    """Scale of the penalty: ``((eta - usual) / width)^2`` is added to the sum of squared residuals over noise."""


@dataclass(frozen=True, eq=False)
class LocalCoordinates:
    """Expected-value coordinates of a curve: quantities that data around one place determine directly.

    An example is the reward and the slope at a place. A posterior that is strongly curved in the parameters of the
    curve is close to Gaussian in such coordinates.

    Attributes
    ----------
    to_local : callable
        (eta, place) -> local coordinates. The first axis of `eta` and of the result is the parameters; `place` is a
        logarithm of the resource relative to the reference and broadcasts against the other axes.
    from_local : callable
        (local, place) -> eta. Inverse of `to_local`.
    log_det : callable
        eta -> logarithm of the absolute determinant of the derivative of eta with respect to the local coordinates.
        It must not depend on the place.
    place : callable
        (x, observed, eta) -> a place between the first and the last evaluation, near which the data determine the curve
        best. `x` and the boolean `observed`, False for padding, have one shape; `eta` has shape (parameters,).

    References
    ----------
    Ross, "Nonlinear Estimation", Springer 1990.
    """

    to_local: Callable[[Any, Any], Any]
    from_local: Callable[[Any, Any], Any]
    log_det: Callable[[Any], Any]
    place: Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True, eq=False)
class Curve:
    """A form of learning curve.

    `value`, `inverse`, `limit`, `start` and the functions of `local` other than ``place`` take numpy and JAX arrays and
    broadcast their arguments. ``tests/test_curve_registry.py`` checks every curve of the registry against this
    description.

    Attributes
    ----------
    name : str
        Name in the registry.
    parameters : tuple of Parameter
        Parameters, in the order in which the functions take them.
    value : callable
        (inputs, \\*eta) -> reward. The last axis of `inputs` holds the k inputs of an evaluation, so that inputs of
        shape (..., n, k) give rewards of shape (..., n); the first input is the logarithm of the resource. Rewards are
        bounded by 0 and 1, but a form may leave these bounds far from the data.
    inverse : callable
        (reward, \\*eta) -> logarithm of the resource at which the curve reaches a reward, relative to the reference. It
        is infinite where no resource gives that reward, and minus infinite where the curve starts at or above it.
    guess : callable
        (inputs, reward, weight) -> `Guess`, for numpy arrays of shape (n, k), (n,) and (n,). The weights are the
        numbers of evaluations that were averaged; a form may ignore them.
    limit : callable or None
        (\\*eta) -> ceiling below 1, which the reward approaches as the resource grows. None if the curve reaches every
        reward below 1 at a finite resource.
    start : callable or None
        (\\*eta) -> reward at zero resource. None if the curve falls without limit there.
    local : LocalCoordinates or None
        None where posteriors are close to Gaussian in the parameters of the curve, or where no such coordinates are
        known in closed form.
    """

    name: str
    parameters: tuple[Parameter, ...]
    value: Callable[..., Any]
    inverse: Callable[..., Any]
    guess: Callable[[np.ndarray, np.ndarray, np.ndarray], Guess]
    limit: Callable[..., Any] | None = None
    start: Callable[..., Any] | None = None
    local: LocalCoordinates | None = None
