"""Keys of random number streams are those of JAX, so that draws do not depend on where they are computed."""

from __future__ import annotations

import zlib

import jax
import numpy as np
import pytest

from rlceiling.inference.stream_keys import stream_key


def of_jax(seed: int, *names: str) -> np.ndarray:
    digest = zlib.crc32("\0".join(names).encode())
    return np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), digest)))


@pytest.mark.parametrize("seed", [0, 1, 7, 12345, 2**31 - 1, 2**31, 2**32 - 1, 2**32 + 5, -1, -(2**31)])
def test_keys_equal_those_of_jax(seed: int) -> None:
    for names in ((), ("",), ("ScaleRL", "0"), ("a", "forecast"), ("☃",), *((str(i), "x") for i in range(10))):
        key = stream_key(seed, *names)
        assert key.dtype == np.uint32
        assert key.tolist() == of_jax(seed, *names).tolist(), names


def test_seeds_and_names_give_streams_of_their_own() -> None:
    keys = {tuple(stream_key(seed, name).tolist()) for seed in range(20) for name in "abcdefghij"}
    assert len(keys) == 200
