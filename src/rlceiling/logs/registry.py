"""The formats: every module of `rlceiling.logs.formats` has a tuple ``FORMATS``."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from rlceiling.logs import formats
from rlceiling.logs.probe import Format, Probe


@functools.cache
def all_formats() -> tuple[Format, ...]:
    """All formats, ordered by rank and name."""
    modules = (
        importlib.import_module(f"{formats.__name__}.{one.name}") for one in pkgutil.iter_modules(formats.__path__)
    )
    found = [one for module in modules for one in getattr(module, "FORMATS", ())]
    return tuple(sorted(found, key=lambda one: (one.rank, one.name)))


def format_of(probe: Probe) -> Format | None:
    """The format of a file or folder; None if it has none."""
    return next((one for one in all_formats() if one.recognises(probe)), None)
