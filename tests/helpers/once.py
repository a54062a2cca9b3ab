"""What costs much is made once a run of pytest, by the worker that needs it first, and read by the others."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock

Made = TypeVar("Made")

FOLDER = "RLCEILING_TEST_RUN"
"""Environment variable with the directory that all workers of this run share; `conftest` sets it."""


def once(name: str, make: Callable[[], Made]) -> Made:
    """What `make` returns: from a file if another worker of this run was here before.

    Parameters
    ----------
    name : str
        A name of its own.
    make : callable
        Makes it; it must be one that can be pickled.
    """
    path = Path(os.environ[FOLDER]) / f"{name}.pickle"
    with filelock.FileLock(path.with_suffix(".lock")):
        if path.exists():
            made: Any = pickle.loads(path.read_bytes())
            return made
        made = make()
        part = path.with_suffix(".part")
        part.write_bytes(pickle.dumps(made))
        part.rename(path)
    return made
