"""The README's Python runs as it stands and prints what the README shows, up to the digits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
"""Python that is followed by what it prints; a later example goes on where the one before ends."""


def words(text: str) -> list[str]:
    """Words of a text; digits differ between versions of JAX."""
    return re.sub(r"[<>]?\d+(?:,\d{3})*(?:\.\d+)?", "#", text).split()


def test_python_examples_print_what_is_shown(tmp_path: Path) -> None:
    examples = EXAMPLE.findall(README.read_text(encoding="utf-8"))
    assert len(examples) == 3
    code, shown = ("\n".join(part) for part in zip(*examples, strict=True))
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr
    assert words(out.stdout) == words(shown)
    assert (tmp_path / "fits" / "fits.json").exists()
