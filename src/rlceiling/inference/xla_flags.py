"""The XLA flag that compiles loops into one kernel on CPU.

A loop of many small operations spends most of its time between operations if XLA launches each of them separately, and
does so on all cores. From JAX 0.12 on, XLA compiles small loops into one kernel. Earlier versions (the only ones for
Python 3.11) need a flag in an environment variable that is read once, when the first program is compiled.
"""

from __future__ import annotations

import os
import warnings

import jax

OPTION = "xla_backend_extra_options"
FLAG = f"--{OPTION}=xla_cpu_small_while_loop_byte_threshold=1000000000"


def needs_flag() -> bool:
    """Whether loops are slow with the present flags."""
    return jax.__version_info__ < (0, 12) and OPTION not in os.environ.get("XLA_FLAGS", "")


def set_flag() -> None:
    """Set the flag for one kernel per loop, if this version of JAX needs it.

    Only for programs of this package, and only before JAX computes anything.
    """
    if needs_flag():
        # First, because XLA reads no flag after a word without dashes, such as intra_op_parallelism_threads=1.
        os.environ["XLA_FLAGS"] = f"{FLAG} {os.environ.get('XLA_FLAGS', '')}".strip()


def warn_if_slow() -> None:
    """Warn how to sample several times faster on an older JAX."""
    if needs_flag():
        warnings.warn(
            f"JAX {jax.__version__} samples several times slower than it can; before Python starts, set "
            f"XLA_FLAGS={FLAG} (the rlceiling command does), or use JAX 0.12, which needs Python 3.12.",
            RuntimeWarning,
            stacklevel=3,
        )
