"""The READMEs of the benchmarks are what their result files render, and every result file says where it comes from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted(BENCHMARKS.glob("**/results/*.json"))


@pytest.mark.parametrize("folder", [BENCHMARKS, BENCHMARKS / "calibration"], ids=lambda folder: folder.name)
def test_readme_is_rendered_from_the_results(folder):
    done = subprocess.run(
        [sys.executable, folder / "render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_result_file_has_its_origin(path):
    result = json.loads(path.read_text())
    assert result["command"].startswith("python benchmarks/")
    assert {"measured_by", "stale", "rlceiling", "commit", "date", "machine", "tables"} <= set(result)
    assert {"cpu", "cores", "system", "python", "jax", "numpyro"} <= set(result["machine"])
    assert not result["stale"] or result["reason"]
    for table in result["tables"].values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
