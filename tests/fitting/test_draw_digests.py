"""Draws of recipes stay the same to the last bit when code is moved: they are compared with stored digests.

Draws depend on the version of JAX and on the processor, so digests are stored by both, and where none are stored the
test is skipped. ``PYTHONPATH=tests/helpers python tests/fitting/test_draw_digests.py`` records the digests of the
machine that it runs on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

import once
import quick
import rlceiling as rl
import several

FILE = Path(__file__).with_name("draw_digests.json")


def environment() -> str:
    """JAX and the instructions of the processor, on which the bits of draws depend."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = sorted(
        next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor()).split()
    )
    return f"jax {jax.__version__}, {platform.machine()}, {hashlib.sha256(' '.join(flags).encode()).hexdigest()[:12]}"


def digest(fit: rl.Fit) -> str:
    """Digest of all draws and statistics of a fit."""
    found = hashlib.sha256()
    for group in (fit.draws, fit.run_draws, fit.sample_stats):
        for name, values in sorted(group.items()):
            found.update(name.encode())
            found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:24]


def digests() -> dict[str, str]:
    """Digests of three recipes with one run each, and of one with several runs of different lengths."""
    fits = {**quick.fits(), "uneven": several.fits()["uneven"]}
    return {name: digest(fit) for name, fit in fits.items()}


def test_draws_are_the_same_to_the_last_bit() -> None:
    stored = json.loads(FILE.read_text()).get(environment())
    if stored is None:
        pytest.skip(f"no digests are stored for {environment()}")
    assert digests() == stored


def test_another_seed_has_another_digest(scalerl: rl.Runs) -> None:
    """Negative control."""
    other = rl.fit(scalerl.select("ScaleRL"), **quick.QUICK, seed=1, progress=False)
    assert digest(other["ScaleRL"]) != digest(quick.fits()["ScaleRL"])


if __name__ == "__main__":
    from rlceiling.inference.xla_flags import set_flag

    set_flag()
    os.environ[once.FOLDER] = tempfile.mkdtemp()
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps({**known, environment(): digests()}, indent=1, sort_keys=True) + "\n")
