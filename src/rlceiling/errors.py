"""`DataError`, the exception for unusable data or requests, and helpers for its messages."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real


class DataError(ValueError):
    """The user's data or request cannot be used as it is.

    The message is one clear sentence: the error, its location, and what to do next.
    """


def is_finite(value: object) -> bool:
    """Whether a value is a finite number; texts are not numbers."""
    return isinstance(value, Real) and math.isfinite(value)


def count(number: int, noun: str) -> str:
    """Number with a noun in singular or plural: "1 row", "1,200 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(names: Iterable[object], most: int = 12) -> str:
    """Join names with commas, at most `most` of them (default 12, about two lines of a terminal)."""
    known = [str(name) for name in names]
    rest = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + rest


def unknown_name(holder: str, what: str, name: str, known: Iterable[object]) -> DataError:
    """Build the error for an unknown name, with a suggestion of the most similar known name.

    Parameters
    ----------
    holder : str
        Name of the searched object, such as a file name or the name of a data set.
    what : str
        Kind of the name, such as ``"recipe"`` or ``"column"``.
    name : str
        Unknown name, as given by the user.
    known : iterable of str
        Known names.

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
