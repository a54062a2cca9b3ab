"""The README's Python runs as it stands and prints what the README shows, up to the digits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def words(text: str) -> list[str]:
    """Words of a text; digits differ between versions of JAX."""
    return re.sub(r"[<>]?\d+(?:,\d{3})*(?:\.\d+)?", "#", text).split()


def test_python_example_prints_what_is_shown(tmp_path: Path) -> None:
    code, shown = (re.search(rf"```{kind}\n(.*?)```", README.read_text(), re.DOTALL) for kind in ("python", "text"))
    assert code
    assert shown
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code[1]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr
    assert words(out.stdout) == words(shown[1])
    assert (tmp_path / "fits" / "fits.json").exists()
