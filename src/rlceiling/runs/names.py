"""Names of recipes, runs and columns: refused if a terminal or a page would not show them, noted if they look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlceiling.errors import DataError

BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text around them."""

LINES = frozenset("\u2028\u2029")
"""Separators of lines and of paragraphs."""


def hidden_character(name: str) -> str:
    """First character of a name that cannot be shown, as ``U+001B``; empty if there is none.

    These are control characters, half of a surrogate pair, and characters that change the direction of a text.
    """
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs") or character in BIDI or character in LINES:
            return f"U+{ord(character):04X}"
    return ""


def check_shown(where: str, what: str, names: Iterable[str]) -> None:
    """Raise DataError if a name holds a character that cannot be shown; `where` names the data."""
    for name in names:
        if found := hidden_character(name):
            raise DataError(
                f"{where}: the {what} {name!r} holds the character {found}, which cannot be shown; remove it."
            )


def check_spelling(recipe: NDArray[np.object_], rows: pd.Index, source: str) -> None:
    """Raise DataError if two recipe names differ only in letter case or surrounding blanks."""
    seen: dict[str, str] = {}
    for name in pd.unique(recipe):
        twin = seen.setdefault(name.strip().casefold(), name)
        if twin != name:
            first, second = (rows[int(np.argmax(recipe == one))] for one in (twin, name))
            raise DataError(
                f"{source}: the recipe names {twin!r} (row {first}) and {name!r} (row {second}) differ only"
                " in letter case or surrounding blanks; spell them alike, or make them clearly different."
            )


def lookalike_notes(recipes: Sequence[str], runs: Sequence[str]) -> list[str]:
    """Return a note on each two names that look alike: of recipes, or of runs of one recipe.

    They do if they differ by characters without width, by the normal form of Unicode, by blanks, or as 1 and 1.0 do.

    Parameters
    ----------
    recipes, runs : sequence of str
        Recipe and name of each run.
    """
    notes = []
    for what, pairs in (
        ("recipes", [("", recipe) for recipe in recipes]),
        ("runs", list(zip(recipes, runs, strict=True))),
    ):
        seen: dict[tuple[str, str], str] = {}
        for of, name in dict.fromkeys(pairs):
            twin = seen.setdefault((of, _skeleton(name)), name)
            if twin != name:
                whose = f" of recipe {of!r}" if of else ""
                notes.append(
                    f"the names {twin!a} and {name!a} of two {what}{whose} look alike; spell them alike if they are one"
                )
    return notes


def _skeleton(name: str) -> str:
    """What a reader sees of a name."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    words = " ".join(seen.split()).casefold()
    whole, point, rest = words.partition(".")
    return whole if point and whole.isdecimal() and not rest.strip("0") else words
