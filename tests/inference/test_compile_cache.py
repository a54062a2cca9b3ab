"""Compiled programs on disk: asked for, found again by the next process, and never in the way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from typer.testing import CliRunner

import rlceiling as rl
from rlceiling.cli import app
from rlceiling.inference import compile_cache, sampling

LOWER = """
import hashlib, jax
import rlceiling as rl
import rlceiling.fitting.fit_recipes
import rlceiling.inference.nuts as nuts
print(jax.config.jax_compilation_cache_dir)
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
sample([stream_key(0, "a")], [recipe], RECIPE, [rl.SigmoidPriors().distributions()], SamplerSettings(2, 100, 100))
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


@pytest.fixture(scope="module")
def said() -> list[list[str]]:
    """What two processes say of the place of compiled programs and of their program for a recipe."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return [
        subprocess.run(
            [sys.executable, "-c", LOWER],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]


def test_the_program_is_the_same_in_every_process(said: list[list[str]]) -> None:
    """Or no process would find what another one has compiled: the order of sets differs between processes."""
    (_, first), (_, second) = said
    assert first == second


def test_cache_is_off_by_default(said: list[list[str]], tmp_path: Path) -> None:
    assert {folder for folder, _ in said} == {"None"}
    assert rl.use_compile_cache(tmp_path / "kept") == tmp_path / "kept"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "kept")
    # A place that was chosen stays.
    assert rl.use_compile_cache() == tmp_path / "kept"


def test_the_command_line_keeps_programs_by_default(user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A program that no other test asks for: the sampler's, of a density that takes XLA a quarter of a recipe's time.
    monkeypatch.setattr(sampling, "potential", lambda _: lambda *_: lambda z: 50.0 * (z**2).sum())
    monkeypatch.setattr(compile_cache, "LEAST_SECONDS", 0.1)
    arguments = ["fit", "scalerl", "--select", "GSPO", "--tune", "100", "--draws", "100", "--quiet", "--chains", "2"]
    kept = user_cache / "rlceiling"
    before = set(kept.iterdir()) if kept.exists() else set()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert jax.config.jax_compilation_cache_dir == str(kept)
    assert any(path.name.startswith("jit_window-") for path in set(kept.iterdir()) - before)
    seen = []

    def fit(*_: object, **__: object) -> rl.Fits:
        seen.append(jax.config.jax_compilation_cache_dir)
        raise rl.DataError("enough.")

    monkeypatch.setattr("rlceiling.fitting.fit_recipes.fit", fit)
    for more in ([], ["--no-compile-cache"]):
        jax.config.update("jax_compilation_cache_dir", None)
        assert CliRunner().invoke(app, [*arguments, *more]).stderr == "rlceiling: enough.\n"
    assert seen == [str(kept), None]


def test_unwritable_cache_directory_raises_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        rl.use_compile_cache(tmp_path / "file" / "cache")


def test_a_cache_that_others_can_write_is_refused(
    user_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs in it are native code. The default directory, which is the user's own, is made private instead."""
    jax.config.update("jax_compilation_cache_dir", None)
    shared = tmp_path / "shared"
    assert stat.S_IMODE(rl.use_compile_cache(shared).stat().st_mode) == 0o700
    jax.config.update("jax_compilation_cache_dir", None)
    for mode in (0o770, 0o702):
        shared.chmod(mode)
        with pytest.raises(rl.DataError, match=f"the compilation cache {shared} can be written by other users, and"):
            rl.use_compile_cache(shared)
    assert jax.config.jax_compilation_cache_dir is None
    shared.chmod(0o755)
    rl.use_compile_cache(shared)
    jax.config.update("jax_compilation_cache_dir", None)
    own = user_cache / "rlceiling"
    own.mkdir(exist_ok=True)
    own.chmod(0o775)
    assert rl.use_compile_cache() == own
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    jax.config.update("jax_compilation_cache_dir", str(shared))
    shared.chmod(0o777)
    result = CliRunner().invoke(app, ["fit", "scalerl", "--select", "GSPO", "--chains", "1"])
    assert "can be written by other users" in result.stderr
    assert "Programs are compiled without it.\n" in result.stderr
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setattr(os, "getuid", lambda: shared.stat().st_uid + 1)
    with pytest.raises(rl.DataError, match="belongs to another user"):
        rl.use_compile_cache(shared)
