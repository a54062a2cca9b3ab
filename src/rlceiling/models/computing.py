"""Where and how small computations with JAX are made, without changing the settings of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def double_precision_on_cpu() -> Iterator[None]:
    """Compute in 64-bit mode on the CPU inside this context, even if JAX has a GPU, which a trainer may be using."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield
