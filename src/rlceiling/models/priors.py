"""Base class of the priors of a model: each prior can be replaced, is checked, and can be written to a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import jax
from numpyro import distributions as dist

from rlceiling.errors import DataError, is_finite

UNIT_INTERVAL, POSITIVE, NORMAL = "unit interval", "positive", "normal"

_EXAMPLE = {
    UNIT_INTERVAL: "numpyro.distributions.Beta(2, 2)",
    POSITIVE: "numpyro.distributions.LogNormal(0, 1)",
    NORMAL: "numpyro.distributions.Normal(0, 1)",
}


@jax.tree_util.register_pytree_node_class
class Distributions(Mapping[str, Any]):
    """Distributions by name, a JAX pytree whose leaves are their arguments.

    NumPyro's own flattening has no fixed order, so that the compilation cache would miss in the next process.
    Distributions are constructed on access: ``dict(priors)`` constructs each of them once.
    """

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self._plain = dict(plain)

    def __getitem__(self, name: str) -> Any:
        return made(self._plain[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)

    def tree_flatten(self) -> tuple[list[Any], tuple[Any, ...]]:
        """Return the numeric arguments, and the static structure: their paths and the names of the distributions."""
        paths = list(_arguments(self._plain))
        values = [value for _, value in paths]
        numbers = [value for value in values if not isinstance(value, str)]
        return numbers, tuple((path, value if isinstance(value, str) else None) for path, value in paths)

    @classmethod
    def tree_unflatten(cls, structure: tuple[Any, ...], numbers: Iterable[Any]) -> Self:
        """Undo `tree_flatten`."""
        plain: dict[str, Any] = {}
        left = iter(numbers)
        for (*folders, last), word in structure:
            place = plain
            for folder in folders:
                place = place.setdefault(folder, {})
            place[last] = next(left) if word is None else word
        return cls(plain)


def _arguments(plain: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _arguments(value, (*at, name))
        else:
            yield (*at, name), value


@dataclass(frozen=True, eq=False, repr=False)
class Priors:
    """Priors of a model: every field named in `supports` holds a scalar NumPyro distribution."""

    supports: ClassVar[Mapping[str, str]] = {}
    """Name -> support that its prior must have. NORMAL requires a normal distribution, because the model integrates
    the parameter in closed form."""

    def __post_init__(self) -> None:
        for name, support in self.supports.items():
            check_prior(name, getattr(self, name), support)

    def distributions(self) -> Distributions:
        """Priors by name, with their arguments as plain floats."""
        return Distributions({name: described(getattr(self, name)) for name in self.supports})

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for JSON."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: described(v) if k in self.supports else v for k, v in own.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(**{k: made(v) if isinstance(v, Mapping) else v for k, v in plain.items()})

    def shown(self) -> dict[str, str]:
        """Every field in readable form, for example ``B`` as ``LogNormal(0.5306, 0.6)``."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            k: f"{type(v).__name__}({', '.join(f'{a:.4g}' for a in with_floats(v).get_args().values())})"
            if k in self.supports
            else str(v)
            for k, v in own.items()
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.shown().items())})"


_TRUNCATED = (dist.LeftTruncatedDistribution, dist.RightTruncatedDistribution, dist.TwoSidedTruncatedDistribution)


def described(distribution: Any) -> dict[str, Any]:
    """Describe a distribution by its name and its arguments, as plain floats."""
    base = {"base_dist": described(distribution.base_dist)} if isinstance(distribution, _TRUNCATED) else {}
    arguments = {k: float(v) for k, v in distribution.get_args().items()}
    return {"distribution": type(distribution).__name__, **base, **arguments}


def made(described: Mapping[str, Any]) -> Any:
    """Undo `described`."""
    arguments = {k: made(v) if isinstance(v, Mapping) else v for k, v in described.items()}
    return getattr(dist, arguments.pop("distribution"))(**arguments)


def with_floats(distribution: Any) -> Any:
    """Rebuild a distribution from plain floats, so that priors made with and without 64-bit mode are the same."""
    return made(described(distribution))


def check_prior(name: str, distribution: Any, support: str) -> None:
    """Raise DataError unless a prior is a scalar distribution on its support that can be written to a file."""
    if not isinstance(distribution, dist.Distribution):
        raise DataError(
            f"prior of {name} is {distribution!r}; give a NumPyro distribution, such as {_EXAMPLE[support]}"
        )
    # Only distributions that NumPyro exports by name can be written to a file and read back.
    named = getattr(dist, type(distribution).__name__, None) is type(distribution)
    transformed = type(distribution) is dist.TransformedDistribution
    if not named or transformed or distribution.batch_shape or distribution.event_shape:
        raise DataError(
            f"prior of {name} is a {type(distribution).__name__} of shape "
            f"{distribution.batch_shape + distribution.event_shape}; give a plain scalar NumPyro distribution, "
            f"such as {_EXAMPLE[support]}"
        )
    if support == NORMAL:
        if type(distribution) is not dist.Normal:
            raise DataError(
                f"prior of {name} is a {type(distribution).__name__}, and {name} is integrated in closed form, for "
                f"which it must be a normal; give one such as {_EXAMPLE[support]}"
            )
        return
    inside, outside = ([0.001, 0.5, 0.999], [-0.1, 1.1]) if support == UNIT_INTERVAL else ([1e-3, 1e3], [-0.1])
    holds = distribution.support
    if not (all(bool(holds(v)) for v in inside) and not any(bool(holds(v)) for v in outside)):
        raise DataError(
            f"prior of {name} is a {type(distribution).__name__}, whose support is not the {support} that {name} "
            f"needs; give one such as {_EXAMPLE[support]}"
        )


def check_evaluation_error(multiple: float) -> None:
    """Raise DataError unless the evaluation error is a valid multiple (0 or more) of the binomial error."""
    if not (is_finite(multiple) and multiple >= 0):
        raise DataError(
            f"evaluation_error={multiple!r} is not a multiple of binomial error; give a number of 0 or more (0.5 for a "
            "fixed test set, 1 for fresh subsets)"
        )
