"""Find a recipe, or one of its runs, by the name that a user typed; and check words that choose what is asked."""

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
        Posteriors. One with a method ``find`` of its own is asked, since it may know names of posteriors that are not
        read yet.
    name : str
        As the user typed it.

    Returns
    -------
    Fit
        The posterior of the recipe.
    str or None
        The run, None where the recipe itself was named.

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
    """Raise unless `of` is one of the words known."""
    if of not in known:
        raise DataError(f"{where}: of={of!r} is none of {listing([repr(word) for word in known])}; give one of them.")
