"""Fits that several test modules read; each is made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import rlceiling as rl
from rlceiling.inference.xla_flags import set_flag

set_flag()  # before anything is compiled


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The command line keeps compiled programs here, and not where the user of this machine has theirs."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        yield folder


@pytest.fixture(scope="session")
def scalerl() -> rl.Runs:
    return rl.load_dataset("scalerl")


@pytest.fixture(scope="session")
def scalerl_fits(scalerl: rl.Runs) -> rl.Fits:
    """All 23 recipes, with the defaults that users get."""
    return rl.fit(scalerl)
