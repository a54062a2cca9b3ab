"""Compiled programs on disk: asked for, found again by the next process, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from typer.testing import CliRunner

import rlceiling as rl
from rlceiling.cli import app

LOWER = """
import hashlib, jax
import rlceiling as rl
import rlceiling.inference.nuts as nuts
program = nuts.window
def window(*given, **options):
    print(hashlib.md5(program.lower(*given, **options).as_text().encode()).hexdigest())
    raise SystemExit
nuts.window = window
from rlceiling.inference.stream_keys import stream_key
from rlceiling.inference.sampling import sample
from rlceiling.models.recipe_family import RECIPE
from rlceiling.settings import SamplerSettings
from rlceiling.models.recipe_data import prepare
_, members = next(rl.load_dataset("scalerl").iter_recipes())
recipe = prepare(members, evaluation_error=0.5)
sample([stream_key(0, "a")], [recipe], RECIPE, rl.SigmoidPriors().distributions(), SamplerSettings(2, 100, 100))
"""


@pytest.fixture(autouse=True)
def no_cache_yet() -> object:
    """Begin without the cache that these tests are run with, as a user does, and go back to it."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_the_program_is_the_same_in_every_process() -> None:
    """Or no process would find what another one has compiled: the order of sets differs between processes."""
    made = {
        subprocess.run(
            [sys.executable, "-c", LOWER],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


def test_cache_is_off_by_default(tmp_path: Path) -> None:
    program = "import jax, rlceiling.fitting.fit_recipes; print(jax.config.jax_compilation_cache_dir)"
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "None\n"
    assert rl.use_compile_cache(tmp_path / "kept") == tmp_path / "kept"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "kept")
    # A place that was chosen stays.
    assert rl.use_compile_cache() == tmp_path / "kept"


def test_the_command_line_keeps_programs_unless_told(user_cache: Path, tmp_path: Path) -> None:
    arguments = ["fit", "scalerl", "--select", "GSPO", "--tune", "100", "--draws", "100", "--quiet", "--chains"]
    kept = user_cache / "rlceiling"
    before = set(kept.iterdir()) if kept.exists() else set()
    result = CliRunner().invoke(app, [*arguments, "3"])  # a program that no other test asks for
    assert result.exit_code == 0, result.output
    assert jax.config.jax_compilation_cache_dir == str(kept)
    assert set(kept.iterdir()) - before
    jax.config.update("jax_compilation_cache_dir", None)
    result = CliRunner().invoke(app, [*arguments, "3", "--no-compile-cache"])
    assert result.exit_code == 0, result.output
    assert jax.config.jax_compilation_cache_dir is None


def test_unwritable_cache_directory_raises_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        rl.use_compile_cache(tmp_path / "file" / "cache")
