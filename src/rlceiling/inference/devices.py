"""Choice of the device on which fits are sampled: CPU or GPU."""

from __future__ import annotations

from typing import Any

import jax

from rlceiling.errors import DataError

BACKENDS = ("cpu", "gpu")

GPU_LANES = 16_384
"""Number of chains from which a GPU is used by default. On an NVIDIA H100 a gradient step took about as long for 16,384
chains as for 256, and a batch waits for its slowest chain: with fewer chains 16 CPU cores were faster."""

GPU_BATCH = 256
"""Default number of recipes in one batch on a GPU. Not measured yet."""


def check_backend(where: str, backend: str | None) -> None:
    """Raise DataError unless the backend is known."""
    if backend is not None and backend not in BACKENDS:
        raise DataError(f"{where}: backend={backend!r} is neither 'cpu' nor 'gpu'; give one of them, or leave it out.")


def device_of(where: str, backend: str | None, lanes: int) -> Any:
    """Device of the requested backend, or by default the device suited to the number of chains `lanes`.

    Raises
    ------
    DataError
        If a GPU is requested and JAX has none.
    """
    gpus = _gpus() if backend == "gpu" or (backend is None and lanes >= GPU_LANES) else []
    if backend == "gpu" and not gpus:
        raise DataError(
            f"{where}: backend='gpu' and JAX finds no GPU here; install JAX for it (pip install \"jax[cuda13]\"), or "
            "leave backend out."
        )
    return gpus[0] if gpus else jax.local_devices(backend="cpu")[0]


def _gpus() -> list[Any]:
    try:
        return list(jax.local_devices(backend="gpu"))
    except RuntimeError:
        return []
