"""Which stream of random numbers each use gets: from the seed and names alone, never from a place in a batch."""

from __future__ import annotations

import zlib

import numpy as np

_MASK = 0xFFFFFFFF
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def stream_key(seed: int, *names: str) -> np.ndarray:
    """Key data of one use, shape (2,), for `jax.random.wrap_key_data` or numpy's ``default_rng``.

    It equals ``jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), digest)``, with the CRC-32 of the names as
    the digest. It is computed here because questions to saved posteriors would otherwise wait for JAX to compile it.
    """
    digest = zlib.crc32("\0".join(names).encode())
    return np.array(_threefry2x32((0, seed & _MASK), (0, digest)), dtype=np.uint32)


def _threefry2x32(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds.

    References
    ----------
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, doi 10.1145/2063384.2063405.
    """
    schedule = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = (counter[0] + schedule[0]) & _MASK, (counter[1] + schedule[1]) & _MASK
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = (x + y) & _MASK
            y = ((y << rotation | y >> (32 - rotation)) & _MASK) ^ x
        x = (x + schedule[(group + 1) % 3]) & _MASK
        y = (y + schedule[(group + 2) % 3] + group + 1) & _MASK
    return x, y
