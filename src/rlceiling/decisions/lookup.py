"""Find a recipe, or one of its runs, by name; and check the values of arguments named `of`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rlceiling.errors import DataError, listing
from rlceiling.posterior.fit import Fit
from rlceiling.runs.table import find_name


class _Finder(Protocol):
    def find(self, name: str) -> tuple[Fit, str | None]: ...


def find_fit(fits: Mapping[str, Fit] | _Finder, name: str) -> tuple[Fit, str | None]:
    """Find a recipe by its name, or one run of it as ``recipe/run``.

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors. If the mapping has a method ``find``, that is called, since it may include posteriors that have not
        been read yet.
    name : str
        Name, as given by the user.

    Returns
    -------
    Fit
        The posterior of the recipe.
    str or None
        The run, or None if `name` is a recipe.

    Raises
    ------
    DataError
        If there is no such recipe or run.
    """
    if hasattr(fits, "find"):
        return fits.find(name)
    assert isinstance(fits, Mapping)
    recipe, run = find_name("this set of fits", {n: fit.run_names for n, fit in fits.items()}, name)
    return fits[recipe], run


def check_of(where: str, of: str, known: Sequence[str]) -> None:
    """Raise DataError unless `of` is one of the known values."""
    if of not in known:
        raise DataError(f"{where}: of={of!r} is none of {listing([repr(word) for word in known])}; give one of them.")
