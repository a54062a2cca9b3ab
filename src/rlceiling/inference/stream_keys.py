"""Keys of random streams, derived from the seed and names only, so that they do not depend on the batch."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def stream_key(seed: int, *names: str) -> np.ndarray:
    """Key data of one random stream, for `jax.random.wrap_key_data` (threefry2x32) or NumPy's ``default_rng``.

    The key is 64 bits of the BLAKE2b hash (RFC 7693) of the seed and the names, so that the probability that any two of
    100,000 recipes share random numbers is 3e-10.

    Parameters
    ----------
    seed : int
        Seed of the user.
    *names : str
        Recipe, runs, and the purpose of the random numbers.

    Returns
    -------
    ndarray of uint32, shape (2,)
        Key data.
    """
    written = json.dumps([seed, *names])  # injective: different lists of names give different text
    return np.frombuffer(hashlib.blake2b(written.encode(), digest_size=8).digest(), dtype=">u4").astype(np.uint32)
