"""Partial pooling: distributions of units (runs of a recipe, model sizes) around their population."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtri, stdtrit

from rlceiling.curves.arrays import namespace

FREEDOM = 4.0
"""Degrees of freedom of the distribution of runs around their recipe. One failed seed then neither widens nor drags its
recipe; final results of seeds of many recipes have such tails (arXiv 2609.06107)."""

CORE = float(ndtri(0.95) / stdtrit(FREEDOM, 0.95))
"""Scale of that Student t distribution at spread 1: its central 90% are those of the standard normal distribution."""

NUGGET = 1e-3
"""Standard deviation of an independent deviation of every size, which keeps covariance matrices positive definite. It
is far below the resolution of any log."""


class Pooling(Protocol):
    """Distribution of units around their population, given the population parameters.

    Each implementation also draws units that were not fitted, with `draw_new`.
    """

    @property
    def unit(self) -> str:
        """Kind of unit, such as ``"run"``; also the name of the dimension of its draws."""

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the scales of the deviations, one per parameter that varies."""


@dataclass(frozen=True)
class Exchangeable:
    """Exchangeable units: independent draws from one heavy-tailed population, without a covariate.

    A unit deviates from the population by the spread times a Student t number with `FREEDOM` degrees of freedom, scaled
    by `CORE`.

    Attributes
    ----------
    unit : str
        Kind of unit, such as ``"run"``.
    parameters : tuple of str
        Parameters that vary, each around the population value, which is 0 for deviations.
    """

    unit: str
    parameters: tuple[str, ...]

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the between-unit spreads."""
        return tuple(f"{name}_spread" for name in self.parameters)

    def draw_new(self, parameter: str, draws: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Draw the deviation of a new unit, which is independent of the fitted units given the population.

        Parameters
        ----------
        parameter : str
            Name of the parameter.
        draws : mapping of name to ndarray
            Draws of the population parameters.
        rng : Generator
            Random numbers.
        """
        spread = draws[f"{parameter}_spread"]
        return np.asarray(spread * CORE * rng.standard_t(FREEDOM, spread.shape))


def independent(s: Any, t: Any) -> Any:
    """Kernel of independent deviations: 1 if ``s == t``, else 0."""
    return 1.0 * (s == t)


def brownian_motion(s: Any, t: Any) -> Any:
    """Kernel of Brownian motion in ln N that is 0 at the middle size: ``min(|s|, |t|)`` on the same side of it, else 0.

    The standard deviation grows with the square root of the distance from the middle size.
    """
    xp = namespace(s, t)
    return xp.where(s * t > 0, xp.minimum(xp.abs(s), xp.abs(t)), 0.0)


def integrated_brownian_motion(s: Any, t: Any) -> Any:
    """Kernel of integrated Brownian motion in ln N: the posterior mean is a cubic spline.

    ``near**2 * (3 * far - near) / 6`` with the smaller and the larger of ``|s|`` and ``|t|`` if both lie on the same
    side of the middle size, else 0.
    """
    xp = namespace(s, t)
    near, far = xp.minimum(xp.abs(s), xp.abs(t)), xp.maximum(xp.abs(s), xp.abs(t))
    return xp.where(s * t > 0, near**2 * (3.0 * far - near) / 6.0, 0.0)


@dataclass(frozen=True)
class SizeParameter:
    """A size-level parameter (random effect) and its Gaussian process in ln N."""

    name: str
    spread: str
    """Name of the scale of the deviations."""
    kernel: Callable[[Any, Any], Any]
    """Kernel: covariance of the deviations at scale 1."""
    level: str = ""
    """Name of the normal prior of the value at the middle size; empty if the law gives the mean."""
    slope: str = ""
    """Name of the normal prior of the slope in ln N at the middle size."""
    factor: str = ""
    """Name of the population parameter whose logarithm is added to this parameter of every size."""


@dataclass(frozen=True, eq=False)
class AcrossSizes:
    """Size-level parameters are Gaussian processes in ln N around a scaling law.

    ``t`` below is ln N minus its mean over the fitted sizes.

    Attributes
    ----------
    parameters : tuple of SizeParameter
        Size-level parameters; the last is the logarithm of the noise standard deviation.
    population : tuple of str
        Names of the parameters of the law.
    means : callable
        (population parameters, t, span of t) -> mean of each size-level parameter that has no level of its own.
    unit : str
        ``"size"``.
    """

    parameters: tuple[SizeParameter, ...]
    population: tuple[str, ...]
    means: Callable[[Mapping[str, Any], Any, tuple[float, float]], dict[str, Any]]
    unit: str = "size"

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the scales of the deviations."""
        return tuple(parameter.spread for parameter in self.parameters)

    @property
    def sampled(self) -> tuple[str, ...]:
        """Names of all sampled population-level parameters, that is, of those that do not belong to one size."""
        return (*self.population, *self.scales, "share", "length")

    def mean(
        self, parameter: SizeParameter, values: Mapping[str, Any], priors: Mapping[str, Any], t: Any, span: Any
    ) -> Any:
        """Mean of a size-level parameter at sizes `t`, given the population parameters."""
        if parameter.level:
            return priors[parameter.level].loc + priors[parameter.slope].loc * t
        return self.means(values, t, span)[parameter.name]

    def covariance(self, parameter: SizeParameter, spread: Any, priors: Mapping[str, Any], s: Any, t: Any) -> Any:
        """Covariance of a size-level parameter between sizes `s` and `t`, given the scale of the deviations."""
        own = spread**2 * parameter.kernel(s, t) + NUGGET**2 * independent(s, t)
        if parameter.level:
            own = own + priors[parameter.level].scale ** 2 + priors[parameter.slope].scale ** 2 * s * t
        return own

    def draw_new(
        self,
        parameter: SizeParameter,
        draws: Mapping[str, np.ndarray],
        priors: Mapping[str, Any],
        own: np.ndarray,
        seen: np.ndarray,
        new: np.ndarray,
        normal: np.ndarray,
    ) -> np.ndarray:
        """Draw a parameter of sizes that were not fitted from its conditional normal, given the fitted sizes.

        Parameters
        ----------
        parameter : SizeParameter
            The size-level parameter.
        draws : mapping of name to ndarray, shape (draws,)
            Draws of the population parameters.
        priors : mapping of name to distribution
            From `Priors.distributions`.
        own : ndarray, shape (draws, len(seen))
            Draws of the parameter at the fitted sizes.
        seen, new : ndarray
            ``t`` of the fitted sizes and of the new sizes.
        normal : ndarray, shape (draws, len(new))
            Standard normal numbers.

        Returns
        -------
        ndarray, shape (draws, len(new))
        """
        values = {name: flat[:, None] for name, flat in draws.items()}
        spread, span = values[parameter.spread][..., None], (seen[0], seen[-1])

        def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            return np.asarray(self.covariance(parameter, spread, priors, one[:, None], other))

        gain = np.linalg.solve(covariance(seen, seen), covariance(seen, new))  # (draws, seen, new)
        off = own - self.mean(parameter, values, priors, seen, span)
        centre = self.mean(parameter, values, priors, new, span) + np.einsum("ds,dsn->dn", off, gain)
        left = covariance(new, new) - np.einsum("dsm,dsn->dmn", gain, covariance(seen, new))
        root = np.linalg.cholesky(left + 1e-12 * np.eye(len(new)))
        return np.asarray(centre + np.einsum("dmn,dn->dm", root, normal))
