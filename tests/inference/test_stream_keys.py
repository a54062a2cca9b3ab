"""Keys of random numbers: the same for the same names on every machine, and different for different names."""

from __future__ import annotations

import hashlib
import zlib

import jax
import numpy as np

from rlceiling.inference.stream_keys import stream_key


def test_a_key_is_64_bits_of_the_hash_of_seed_and_names() -> None:
    expected = hashlib.blake2b(b'[7, "ScaleRL", "seed 1"]', digest_size=8).hexdigest()
    key = stream_key(7, "ScaleRL", "seed 1")
    assert "".join(f"{word:08x}" for word in key) == expected
    assert key.dtype == np.uint32
    # JAX takes it as it is.
    jax.random.normal(jax.random.wrap_key_data(key, impl="threefry2x32"))


def test_different_uses_have_different_keys() -> None:
    uses = [(0, "a", "b"), (0, "ab"), (0, "a\0b"), (0, "a", "b", ""), (1, "a", "b"), (0, "b", "a"), (0, 'a", "b')]
    assert len({stream_key(*use).tobytes() for use in uses}) == len(uses)


def test_keys_of_many_recipes_are_distinct() -> None:
    """The 32 bits of a CRC, which were used once, are not enough."""
    names = [f"recipe {number}" for number in range(200_000)]
    assert len({stream_key(0, name).tobytes() for name in names}) == len(names)
    rng = np.random.default_rng(0)
    labels = {rng.bytes(12).hex() for _ in range(200_000)}
    assert len({zlib.crc32(label.encode()) for label in labels}) < len(labels)
    assert len({stream_key(0, label).tobytes() for label in labels}) == len(labels)
