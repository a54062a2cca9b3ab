"""What a learning curve is to the rest of the package: parameters, value, inverse, limit, start and a first guess.

A curve gives the reward of one run, on [0, 1], as a function of its inputs (the logarithm of compute, or of another
resource, relative to a reference). It has no priors and no sampler. Its parameters ``eta`` are unconstrained real
numbers, so that each can vary around a mean of its own between runs or model sizes.
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
        What it is, in one or two words, such as ``"efficiency"``.
    unit : {"reward", "resource", "none"}
        Unit of the constrained parameter; a resource is relative to the reference of the inputs.
    constrain : callable
        From the unconstrained to the constrained parameter.
    """

    name: str
    symbol: str
    label: str
    unit: Unit
    constrain: Callable[[Any], Any]


class Guess(NamedTuple):
    """Start of a least squares fit; arrays of shape (parameters,)."""

    eta: np.ndarray
    """Parameters of a curve near the data."""
    usual: np.ndarray
    """Usual parameters, towards which a mild penalty pulls those that the data leave open."""
    width: np.ndarray
    """Standard deviation of that penalty."""


@dataclass(frozen=True, eq=False)
class LocalCoordinates:
    """Expected-value coordinates of a curve: numbers that the data around one place fix directly.

    In the curve's own parameters a posterior is often strongly curved; in local coordinates it is close to Gaussian.

    Attributes
    ----------
    to_local : callable
        (eta, place) -> local coordinates; arrays whose first axis is the parameters.
    from_local : callable
        (local, place) -> eta, its inverse.
    log_det : callable
        eta -> log absolute determinant of the derivative of eta with respect to the local coordinates.
    place : callable
        (x, observed, eta) -> the place in the range of the evaluations where the curve is known best.

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

    Every function works on numpy and JAX arrays and broadcasts its arguments.

    Attributes
    ----------
    name : str
        Name in the registry.
    parameters : tuple of Parameter
        Parameters, in the order in which the functions take them.
    value : callable
        (inputs, \\*eta) -> reward on [0, 1]. The last axis of `inputs` holds the k inputs of an evaluation, so that
        inputs of shape (..., n, k) give rewards of shape (..., n); the first input is the logarithm of the resource.
    inverse : callable
        (reward, \\*eta) -> logarithm of the resource at which the curve reaches a reward: infinite where it never does,
        minus infinite where it starts above it.
    guess : callable
        (inputs, reward, weight) -> `Guess`, for evaluations of shape (n, k), (n,) and (n,).
    limit : callable or None
        (\\*eta) -> ceiling, the reward approached as the resource grows; None if the form has none.
    start : callable or None
        (\\*eta) -> reward at zero resource; None if the form has none.
    local : LocalCoordinates or None
        None where the curve's own parameters are close to Gaussian already.
    """

    name: str
    parameters: tuple[Parameter, ...]
    value: Callable[..., Any]
    inverse: Callable[..., Any]
    guess: Callable[[np.ndarray, np.ndarray, np.ndarray], Guess]
    limit: Callable[..., Any] | None = None
    start: Callable[..., Any] | None = None
    local: LocalCoordinates | None = None
