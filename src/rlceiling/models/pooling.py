"""How units (runs of a recipe, model sizes) vary around their population: partial pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rlceiling.curves.arrays import namespace

NUGGET = 1e-3
"""Standard deviation of an independent deviation of every size, which keeps covariances regular; far below what any log
resolves."""


class Pooling(Protocol):
    """How units vary around their population: Gaussian, given the parameters of the population.

    Each kind also draws units that were not fitted, with `draw_new`.
    """

    @property
    def unit(self) -> str:
        """What varies, such as ``"run"``: the name of the dimension of its draws."""

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the scales of the deviations, one for each parameter that varies."""


@dataclass(frozen=True)
class Exchangeable:
    """Units are independent draws from one normal population; nothing is known that tells one from another.

    Attributes
    ----------
    unit : str
        What varies.
    parameters : tuple of str
        Parameters that vary, each around the population's value, which is 0 where deviations are drawn.
    """

    unit: str
    parameters: tuple[str, ...]

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the standard deviations between units."""
        return tuple(f"{name}_spread" for name in self.parameters)

    def draw_new(self, parameter: str, draws: Mapping[str, np.ndarray], normal: np.ndarray) -> np.ndarray:
        """Draw the deviation of a new unit from the population, about which the fitted units say nothing more.

        Parameters
        ----------
        parameter : str
            What is drawn.
        draws : mapping of name to ndarray
            Population parameters.
        normal : ndarray
            Standard normal numbers, of the shape of the draws.
        """
        return np.asarray(draws[f"{parameter}_spread"] * normal)


def independent(s: Any, t: Any) -> Any:
    """Covariance of independent deviations."""
    return 1.0 * (s == t)


def brownian_motion(s: Any, t: Any) -> Any:
    """Covariance of a random walk in ln N that starts at the middle size: deviations grow with the distance."""
    xp = namespace(s, t)
    return xp.where(s * t > 0, xp.minimum(xp.abs(s), xp.abs(t)), 0.0)


def integrated_brownian_motion(s: Any, t: Any) -> Any:
    """Covariance of a line whose slope is a random walk: the posterior mean is a cubic spline."""
    xp = namespace(s, t)
    near, far = xp.minimum(xp.abs(s), xp.abs(t)), xp.maximum(xp.abs(s), xp.abs(t))
    return xp.where(s * t > 0, near**2 * (3.0 * far - near) / 6.0, 0.0)


@dataclass(frozen=True)
class SizeParameter:
    """A parameter of every model size (a random effect), and how it varies between sizes."""

    name: str
    spread: str
    """Name of the scale of the deviations."""
    kernel: Callable[[Any, Any], Any]
    """Covariance of the deviations at scale 1."""
    level: str = ""
    """Name of the prior of the value at the middle size, a normal; empty if the law gives the mean."""
    slope: str = ""
    """Name of the prior of the slope in ln N there, a normal."""
    factor: str = ""
    """Population parameter whose logarithm is added to this parameter of every size."""


@dataclass(frozen=True, eq=False)
class AcrossSizes:
    """Parameters of model sizes are Gaussian processes in ln N around a law.

    Attributes
    ----------
    parameters : tuple of SizeParameter
        Parameters of each size; the last is the logarithm of the noise.
    population : tuple of str
        Parameters of the law.
    means : callable
        (population parameters, t, span of t) -> mean of each size parameter that has no level of its own.
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
        """Names of all sampled parameters that do not belong to one size."""
        return (*self.population, *self.scales, "share", "length")

    def mean(
        self, parameter: SizeParameter, values: Mapping[str, Any], priors: Mapping[str, Any], t: Any, span: Any
    ) -> Any:
        """Mean of a parameter at sizes, given the population."""
        if parameter.level:
            return priors[parameter.level].loc + priors[parameter.slope].loc * t
        return self.means(values, t, span)[parameter.name]

    def covariance(self, parameter: SizeParameter, spread: Any, priors: Mapping[str, Any], s: Any, t: Any) -> Any:
        """Covariance of a parameter between sizes, given the scale of the deviations."""
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
        """Draw a parameter of sizes that were not fitted from its Gaussian distribution given those that were.

        Parameters
        ----------
        parameter : SizeParameter
            What is drawn.
        draws : mapping of name to ndarray, shape (draws,)
            Population parameters.
        priors : mapping of name to distribution
            From `Priors.distributions`.
        own : ndarray, shape (draws, len(seen))
            Draws of the parameter at the sizes that were fitted.
        seen, new : ndarray
            ``t`` of the sizes fitted and of the new ones.
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
