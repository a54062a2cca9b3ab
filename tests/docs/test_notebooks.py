"""Notebooks run from their first cell to their last, quietly, and stay small; so does the page on ArviZ."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.notebooks

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 600_000
"""Bytes of a notebook with its outputs."""


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::RuntimeWarning")
    notebook = nbformat.read(path, as_version=4)
    stored = outputs(notebook)
    # Two prints of a cell are one output or two, depending on the time between them, unless they are joined.
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        coalesce_streams=True,
    ).execute()
    fresh = outputs(notebook)
    assert [o.output_type for o in fresh] == [o.output_type for o in stored]
    for output in fresh:
        assert output.get("name") != "stderr", output.text
    kinds = {kind for output in fresh for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds  # rich reprs and pictures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small_and_has_no_local_paths(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= LARGEST
    without_pictures = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"/(root|home|tmp|Users|work)/", without_pictures)
    stored = outputs(nbformat.reads(text, as_version=4))
    assert stored
    assert not [o for o in stored if o.output_type == "error" or o.get("name") == "stderr"]


def test_arviz_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (FOLDER / "arviz.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import matplotlib; matplotlib.use('Agg')\n" + "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
