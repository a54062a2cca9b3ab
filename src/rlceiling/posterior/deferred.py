"""A field of a dataclass whose value may be made when it is first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

Argument = TypeVar("Argument")
Value = TypeVar("Value")


class _Deferred(NamedTuple):
    make: Callable[[Any], Any]
    argument: Any


def defer(make: Callable[[Argument], Value], argument: Argument) -> Value:
    """Stand-in, for a `DeferredField`, of the value ``make(argument)``, which is made when the field is first read."""
    return cast("Value", _Deferred(make, argument))


class DeferredField:
    """Descriptor of a required field of a dataclass that takes a value, or one from `defer`.

    The priors of a posterior that was read from a file need NumPyro, whose import takes longer than most questions, and
    most questions do not need the priors.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            raise AttributeError(self.name)  # so that the dataclass sees no default
        value = instance.__dict__[self.name]
        if isinstance(value, _Deferred):
            value = instance.__dict__[self.name] = value.make(value.argument)
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = value
