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


def check_comparable(where: str, fits: Mapping[str, Fit], *, compute: bool) -> None:
    """Raise DataError unless fits have the same reward and bounds, and with `compute` the same unit of compute."""
    of = {name: (fit.units.reward, fit.units.bounds) for name, fit in fits.items()}
    for what, units in (
        ("reward", of),
        ("unit of compute", {name: fit.units.compute for name, fit in fits.items()} if compute else {}),
    ):
        for name, own in units.items():
            first = next(iter(units))
            if own != units[first]:
                raise DataError(
                    f"{where}: {first!r} and {name!r} have another {what} ({_shown(units[first])} and {_shown(own)}); "
                    "compare recipes with the same."
                )


def _shown(units: object) -> str:
    """Name of a reward with its bounds, or of a unit of compute."""
    return f"{units[0]} from {units[1][0]:g} to {units[1][1]:g}" if isinstance(units, tuple) else str(units)


def check_of(where: str, of: str, known: Sequence[str]) -> None:
    """Raise DataError unless `of` is one of the known values."""
    if of not in known:
        raise DataError(f"{where}: of={of!r} is none of {listing([repr(word) for word in known])}; give one of them.")
