"""What is raised when the user's data or request cannot be used as it is."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real


class DataError(ValueError):
    """The user's data or request cannot be used as it is.

    The message is one clear sentence: what is wrong, where it stands, and what to do next.
    """


def is_finite(value: object) -> bool:
    """Whether a value is a finite number, not a text of one."""
    return isinstance(value, Real) and math.isfinite(value)


def count(number: int, noun: str) -> str:
    """Write a number of things: "1 row", "1,200 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(names: Iterable[object], most: int = 12) -> str:
    """Join names with commas, at most `most` of them (default 12: two lines of a terminal)."""
    known = [str(name) for name in names]
    rest = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + rest


def unknown_name(holder: str, what: str, name: str, known: Iterable[object]) -> DataError:
    """Build the error for a name that is not there, with the nearest one that is.

    Parameters
    ----------
    holder : str
        What was searched, such as a file name or the name of a data set.
    what : str
        What kind of thing was sought, such as ``"recipe"`` or ``"column"``.
    name : str
        The name as the user wrote it.
    known : iterable of str
        The names there are.

    Returns
    -------
    DataError
        To be raised by the caller.
    """
    names = [str(other) for other in known]
    by_spelling = {other.strip().casefold(): other for other in names}
    near = get_close_matches(name.strip().casefold(), by_spelling, n=1)
    hint = f" (did you mean {by_spelling[near[0]]!r}?)" if near else ""
    return DataError(f"{holder} has no {what} {name!r}{hint}; it has: {listing(names)}.")
