"""Digest of the evaluations of a run, by which fits of the same evaluations are recognised."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlceiling.runs.table import Run


def add_run(digest: Any, name: str, run: Run) -> None:
    """Add the evaluations of a run to a digest, such as one of `hashlib`.

    The digest is part of the keys of stores, so its form must not change.

    Parameters
    ----------
    digest : hash object
        It is updated.
    name : str
        What the run is called in the digest.
    run : Run
        The run.
    """
    start = None if run.start is None else [float(v).hex() for v in run.start]
    digest.update(f"\0{name}\0{start}\0".encode())
    for array in (run.compute, run.reward, run.n_eval):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    if run.stages:
        digest.update(f"\0{[(stage.name, stage.begins.hex()) for stage in run.stages]}".encode())
