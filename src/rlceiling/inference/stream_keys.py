"""Which stream of random numbers each use gets: from the seed and names alone, never from a place in a batch."""

from __future__ import annotations

import zlib

import jax
import numpy as np


def stream_key(seed: int, *names: str) -> np.ndarray:
    """Key data of one use, shape (2,), for `jax.random.wrap_key_data` or numpy's ``default_rng``."""
    digest = zlib.crc32("\0".join(names).encode())
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), digest)
    return np.asarray(jax.random.key_data(key))
