"""Find a recipe, or one of its runs, by name; and check the values of arguments named `of`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rlceiling.errors import DataError, listing
from rlceiling.posterior.fit import Fit
from rlceiling.runs.table import find_name


def find_fit(fits: Mapping[str, Fit], name: str) -> tuple[Fit, str | None]:
    """Find a recipe by its name, or one run of it as ``recipe/run``, as `Fits.find` does.

    A mapping that has a method ``find`` is asked, since it may include posteriors that have not been read yet.
    """
    find: Callable[[str], tuple[Fit, str | None]] | None = getattr(fits, "find", None)
    if find is not None:
        return find(name)
    recipe, run = find_name("this set of fits", {n: fit.run_names for n, fit in fits.items()}, name)
    return fits[recipe], run


def check_of(where: str, of: str, known: Sequence[str]) -> None:
    """Raise DataError unless `of` is one of the known values."""
    if of not in known:
        raise DataError(f"{where}: of={of!r} is none of {listing([repr(word) for word in known])}; give one of them.")
