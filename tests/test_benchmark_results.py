"""The README of the calibration is what its result files render, and every result file says where it comes from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "calibration"
FILES = sorted((FOLDER / "results").glob("*.json"))


def test_readme_is_rendered_from_the_results():
    done = subprocess.run(
        [sys.executable, FOLDER / "render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_result_file_has_its_origin(path):
    result = json.loads(path.read_text())
    assert result["command"].startswith("python benchmarks/calibration/")
    assert {"measured_by", "stale", "rlceiling", "commit", "date", "machine", "tables"} <= set(result)
    assert {"cpu", "cores", "system", "python", "jax", "numpyro"} <= set(result["machine"])
    assert not result["stale"] or result["reason"]
    for table in result["tables"].values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
