"""Which stream of random numbers each use gets: from the seed and names alone, never from a place in a batch."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def stream_key(seed: int, *names: str) -> np.ndarray:
    """Key data of one use, for `jax.random.wrap_key_data` (threefry2x32) or numpy's ``default_rng``.

    The key is 64 bits of the BLAKE2b hash (RFC 7693) of the seed and the names, so that among 100,000 recipes two share
    random numbers with probability 3e-10.

    Parameters
    ----------
    seed : int
        Seed of the user.
    *names : str
        Recipe, runs, and what the numbers are for.

    Returns
    -------
    ndarray of uint32, shape (2,)
    """
    written = json.dumps([seed, *names])  # lists of different names are never written alike
    return np.frombuffer(hashlib.blake2b(written.encode(), digest_size=8).digest(), dtype=">u4").astype(np.uint32)
