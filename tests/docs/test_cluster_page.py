"""The page on clusters does what it says: threads, processes, Dask, Ray, and SLURM as far as one machine goes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slurm import write_slurm

pytestmark = pytest.mark.notebooks

PAGE = Path(__file__).parents[2] / "notebooks" / "cluster.md"


@pytest.mark.skipif(sys.platform == "win32", reason="the page is for a shell of Unix")
def test_the_page_runs_and_all_executors_give_the_same_bytes(tmp_path: Path) -> None:
    """All blocks in their order, with a scheduler in the place of SLURM that begins what it is given at once."""
    for module in ("distributed", "ray", "dask_jobqueue"):
        pytest.importorskip(module)
    page = PAGE.read_text(encoding="utf-8")
    script = ["set -eu"]
    for nth, (kind, block) in enumerate(re.findall(r"```(toml|sh|python)\n(.*?)```", page, re.DOTALL)):
        if kind == "toml":
            (tmp_path / "jobs.toml").write_text(block)
        elif kind == "python":
            (tmp_path / f"block{nth}.py").write_text(block)
            script.append(f"python block{nth}.py")
        else:
            script.append(block)
    (tmp_path / "slurm").mkdir()
    write_slurm(tmp_path / "slurm")
    path = os.pathsep.join([str(tmp_path / "slurm"), str(Path(sys.executable).parent), os.environ["PATH"]])
    out = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stdout + out.stderr
    assert len(list((tmp_path / "slurm").glob("job*.sh"))) == 2
    assert out.stdout.count("6 of 6 jobs done") == 6
    stores = [tmp_path / "posteriors", *sorted(tmp_path.glob("by-*"))]
    assert len(stores) == 6
    marks = [sorted((p.stem, json.loads(p.read_text())["sha256"]) for p in s.glob("fits/*/*.json")) for s in stores]
    assert len(marks[0]) == 6
    assert all(mark == marks[0] for mark in marks)
    for name in ("summary.csv", "draws.parquet", "report.html", "index.parquet"):
        assert (stores[0] / name).stat().st_size
    assert len(list((stores[0] / "plots").glob("*.png"))) == 6
    assert (tmp_path / "growth.png").stat().st_size
    for script in (tmp_path / "slurm").glob("job*.sh"):
        assert "#SBATCH --partition=cpu\n#SBATCH --time=02:00:00\n" in script.read_text()
        assert "#SBATCH --cpus-per-task=1\n#SBATCH --mem=4G\n" in script.read_text()
