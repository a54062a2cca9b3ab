"""The one flag of XLA that matters here: loops as one kernel on CPU.

A loop of many small operations spends most of its time between operations if XLA starts each by itself, and on all
cores at that. From JAX 0.12 on it compiles small loops into one kernel; before (on Python 3.11 there is nothing newer)
it must be told, by an environment variable that it reads once, when the first program is compiled.
"""

from __future__ import annotations

import os
import warnings

import jax

OPTION = "xla_backend_extra_options"
FLAG = f"--{OPTION}=xla_cpu_small_while_loop_byte_threshold=1000000000"


def needs_flag() -> bool:
    """Whether loops are slow with the flags as they are."""
    return jax.__version_info__ < (0, 12) and OPTION not in os.environ.get("XLA_FLAGS", "")


def set_flag() -> None:
    """Ask for one kernel a loop, if this version has to be asked; for programs of our own, before JAX computes."""
    if needs_flag():
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()


def warn_if_slow() -> None:
    """Say how to sample several times faster on an older JAX."""
    if needs_flag():
        warnings.warn(
            f"JAX {jax.__version__} samples several times slower than it can; before Python starts, set "
            f"XLA_FLAGS={FLAG} (the rlceiling command does), or use JAX 0.12, which needs Python 3.12.",
            RuntimeWarning,
            stacklevel=3,
        )
