"""Where fits are sampled: CPU or GPU."""

from __future__ import annotations

from typing import Any

import jax

from rlceiling.errors import DataError

BACKENDS = ("cpu", "gpu")

GPU_LANES = 1024
"""Chains from which on a GPU is taken if there is one and the user has not chosen. Not measured yet: a GPU step costs
its launches, about the same for one lane as for thousands."""

GPU_BATCH = 256
"""Recipes side by side on a GPU, unless told. Not measured yet."""


def check_backend(where: str, backend: str | None) -> None:
    """Raise unless a backend is one of those known."""
    if backend is not None and backend not in BACKENDS:
        raise DataError(f"{where}: backend={backend!r} is neither 'cpu' nor 'gpu'; give one of them, or leave it out.")


def device_of(where: str, backend: str | None, lanes: int) -> Any:
    """Device for so many chains: the one asked for, or else what fits the number.

    Raises
    ------
    DataError
        If a GPU is asked for and JAX has none.
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
