"""Modules import from their own layer and from those below it, without cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rlceiling

ROOT = Path(rlceiling.__file__).parent

LAYERS = (
    ("errors", "text", "settings", "display", "writing"),
    ("curves",),
    ("runs", "logs"),
    ("models",),
    ("inference",),
    ("posterior",),
    ("decisions",),
    ("results",),
    ("fitting",),
    ("live",),
    ("integrations",),
    ("calibration",),
    ("report",),
    ("jobs",),
    ("cli",),
    ("__main__",),
)
"""Packages and modules of rlceiling, from the lowest layer up."""

UPWARD = {("results.sizes", "report.size_plots")}
"""Imports that go up: a method that draws its own posterior, for which matplotlib is loaded when it is called."""


def modules() -> dict[str, str]:
    """Name of each module below rlceiling, and its source."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:  # the package itself loads public names of all layers when they are used
            found[name] = path.read_text()
    return found


def imports_of(source: str, known: Mapping[str, str]) -> Iterator[str]:
    """Modules of rlceiling that a source imports, at its top, inside functions or for type checkers."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlceiling."):
            base = str(node.module).removeprefix("rlceiling.")
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """One cycle of imports; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def layer_of(module: str) -> int:
    """Place of the layer that a module belongs to."""
    return next(place for place, names in enumerate(LAYERS) if module.split(".")[0] in names)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: {other for other in imports_of(source, known) if other != name} for name, source in known.items()}


def test_no_module_imports_from_a_higher_layer(graph: Mapping[str, set[str]]) -> None:
    up = {(name, other) for name, others in graph.items() for other in others if layer_of(other) > layer_of(name)}
    assert up == UPWARD


def test_imports_have_no_cycle(graph: Mapping[str, set[str]]) -> None:
    assert len(graph) > 80
    assert cycle_in(graph) == []


def test_a_cycle_is_noticed() -> None:
    """Negative control, with an import inside a function."""
    known = {"models.a": "from rlceiling.models.b import x", "models.b": "def f():\n    from rlceiling.models import a"}
    graph = {name: set(imports_of(source, known)) for name, source in known.items()}
    assert set(cycle_in(graph)) == {"models.a", "models.b"}


def test_only_the_record_of_a_law_uses_its_name() -> None:
    """What differs between laws is asked of their records; a name is only written where it is a default."""
    compared = []
    for name, source in modules().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Compare, ast.Match)):
                words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                if words & {"power law", "ceiling", "sigmoid"} or names & {"POWER_LAW", "CEILING_LAW"}:
                    compared.append((name, node.lineno))
    assert compared == []
