"""Small pieces of HTML for notebooks: sentences and a table, built from texts alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from rlceiling.errors import count

if TYPE_CHECKING:
    import jinja2

MOST_ROWS = 40
"""Rows of a table in a notebook; the number of further rows is given below it."""


@cache
def templates(package: str = "rlceiling.display") -> jinja2.Environment:
    """Jinja templates of a package; all values that are filled in are escaped."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html_piece(lines: Sequence[str], headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """HTML of some lines of text and a table."""
    more = [f"and {count(len(rows) - MOST_ROWS, 'more row')}"] if len(rows) > MOST_ROWS else []
    template = templates().get_template("piece.html.jinja")
    return template.render(lines=lines, headers=headers, rows=rows[:MOST_ROWS], more=more)


def render(template: str, **values: Any) -> str:
    """HTML of another template of this package."""
    return templates().get_template(template).render(**values)
