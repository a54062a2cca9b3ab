"""JSON documents: what a command answers, for programs that read it.

Every command that answers something has ``--json``. It then prints one JSON object on standard output and nothing else
there; what was read and progress go to standard error, and so do errors, as one sentence with exit code 2. Its fields:

- ``schema``: number of this format, raised when a field is renamed, removed or changes its meaning;
- ``command``, and ``asked``: the questions, with the values that were used;
- ``versions``: of rlceiling now; those with which a recipe was fitted stand with it;
- ``units``: names of compute and reward, and the bounds of the reward;
- ``recipes``: of each recipe asked about its ``verdict`` and ``reasons``, by the names of `rlceiling.Verdict` and
  `rlceiling.Reason`, and the ``versions`` with which it was fitted;
- ``notes``: what was changed or should be known, one sentence each;
- ``fit``, of the command `sizes`: the ``law``, its ``verdict`` and the ``versions`` with which it was fitted;
- ``resources``, of the command `logs`: what the compute of each run can be;
- ``written``: files and directories that were written;
- ``status``, of the command `watch`, printed when it ends: the content of its ``status.json``, whose fields
  `rlceiling.live.watch_state.Status` describes;
- the answers, each under the name of the method of `rlceiling.Fits` or `rlceiling.Sizes` that returns it, with its
  columns or attributes: a table as a list of rows, of which its index is the first fields; a square table of recipes
  (``chances``) as an object of objects, row by column.

NaN is null. Infinite numbers, such as a compute at which a reward is never reached, are the texts ``"Infinity"`` and
``"-Infinity"``, which Python's ``float`` and JavaScript's ``Number`` read.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from rlceiling.results.fits import Fits

SCHEMA = 1
"""Number of the format of the documents."""

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables; see `rlceiling.cli.output`.")
]


def print_json(command: str, asked: Mapping[str, Any], answers: Mapping[str, Any]) -> None:
    """Print the document of a command, which `rlceiling.cli.output` describes.

    Parameters
    ----------
    command : str
        Name of the command.
    asked : mapping
        Its questions.
    answers : mapping
        The answers, and for recipes `about`: DataFrames, dataclasses, mappings, sequences and single values.
    """
    head = {"schema": SCHEMA, "command": command, "asked": asked, "versions": {"rlceiling": version("rlceiling")}}
    typer.echo(json.dumps(plain({**head, "notes": [], **answers}), indent=2, allow_nan=False))


def about(fits: Fits) -> dict[str, Any]:
    """Fields of a document that say what was asked about: units, recipes and notes."""
    units = fits.units
    recipes = [
        {
            "recipe": name,
            "verdict": fit.verdict,
            "reasons": fit.reasons,
            "versions": fit.settings.versions,
        }
        for name, fit in fits.items()
    ]
    return {
        "units": {"compute": units.compute, "reward": units.reward, "bounds": units.bounds},
        "recipes": recipes,
        "notes": [*fits.notes, *fits.odd_runs],
    }


def files_written(*paths: Path | None) -> dict[str, Any]:
    """Field of a document that names the files and directories that were written, of those that may be asked for."""
    return {"written": [path for path in paths if path is not None]}


def square(table: pd.DataFrame) -> dict[str, Any]:
    """A table whose rows and columns are recipes, as an object of objects, row by column."""
    return {str(name): row for name, row in table.to_dict("index").items()}


def plain(value: Any) -> Any:
    """A value as types of JSON."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else f"{value}".replace("inf", "Infinity")
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        named = value.reset_index() if any(name is not None for name in value.index.names) else value
        return [plain(row) for row in named.to_dict("records")]
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return plain(value.item())
    return [plain(one) for one in value]
