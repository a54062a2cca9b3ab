"""Older versions of JAX must be told to compile loops into one kernel: by the command line, and by nobody's import."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest

import rlceiling as rl
from rlceiling.inference.xla_flags import FLAG, needs_flag, set_flag
from rlceiling.jobs.workers import ONE_CORE
from rlceiling.runs import Runs


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(jax, "__version__", "0.11.2")
    monkeypatch.setattr(jax, "__version_info__", (0, 11, 2))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return monkeypatch


def test_flag_is_set_for_older_jax(older: pytest.MonkeyPatch) -> None:
    assert needs_flag()
    older.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    set_flag()
    assert os.environ["XLA_FLAGS"] == f"{FLAG} --xla_cpu_enable_fast_math=false"
    assert not needs_flag()
    set_flag()
    assert os.environ["XLA_FLAGS"].count(FLAG) == 1


def test_flag_comes_before_words_without_dashes(older: pytest.MonkeyPatch) -> None:
    """XLA reads no flag after them, so a worker process would sample slowly, and by a program with other rounding."""
    older.setenv("XLA_FLAGS", ONE_CORE)
    set_flag()
    assert os.environ["XLA_FLAGS"] == f"{FLAG} {ONE_CORE}"


def test_what_the_user_set_stays(older: pytest.MonkeyPatch) -> None:
    own = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=7"
    older.setenv("XLA_FLAGS", own)
    set_flag()
    assert os.environ["XLA_FLAGS"] == own


def test_a_newer_jax_is_left_alone(older: pytest.MonkeyPatch) -> None:
    older.setattr(jax, "__version_info__", (0, 12, 0))
    set_flag()
    assert not needs_flag()
    assert "XLA_FLAGS" not in os.environ


def test_fit_says_how_to_be_faster(older: pytest.MonkeyPatch, scalerl: Runs) -> None:
    with pytest.warns(RuntimeWarning, match=r"JAX 0\.11\.2 samples several times slower than it can; before Python"):
        rl.iter_fits(scalerl)


def test_importing_sets_nothing() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import rlceiling.fitting.fit_recipes, os; print(os.environ.get('XLA_FLAGS'))"],
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "None\n"


@pytest.mark.skipif(not jax.__version_info__ < (0, 12), reason="this JAX needs no flag")
def test_xla_knows_the_flag() -> None:
    """A flag that XLA does not know ends the process."""
    program = "import jax; print(jax.jit(lambda x: x + 1)(1))"
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "XLA_FLAGS": FLAG},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "2\n"
