"""Where compiled programs are kept, the order of the files, and fits that several test modules read."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlceiling as rl
from once import FOLDER, once
from rlceiling.jobs.workers import ONE_CORE
from slow import without_miniature

# Two workers of pytest keep two cores busy, and processes that fit jobs find the programs that were compiled here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported; its idle threads would wait busily
if ONE_CORE not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_CORE}".strip()

LONGEST_FIRST = (
    "test_fit_sizes.py",
    "test_datatree.py",
    "test_recipe_coordinates.py",
    "test_size_posterior.py",
    "test_learn_priors.py",
    "test_sbc.py",
    "test_population.py",
    "test_executors.py",
    "test_size_jobs.py",
    "test_backtest.py",
    "test_fit_recipes.py",
    "test_cli.py",
    "test_brute_force.py",
    "test_jobs.py",
    "test_nuts.py",
    "test_compile_cache.py",
    "test_files.py",
    "test_size_laws.py",
    "test_recipe_plots.py",
    "test_outputs.py",
    "test_priors.py",
    "test_report.py",
    "test_verdicts.py",
    "test_chances.py",
)
"""Files that take more than 20 seconds of CPU when nothing is compiled yet, from the longest on.

They begin first, or one worker would wait for the other at the end. Only the order matters, and roughly; files that are
not here come after those that are.
"""

CACHE = "RLCEILING_TEST_CACHE"
"""Environment variable with the directory in which programs stay compiled between runs. Default: that of pytest."""

SETTINGS = {
    "jax_compilation_cache_dir": None,
    "jax_persistent_cache_min_compile_time_secs": 0.0,  # thousands of single operations add up
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_compilation_cache_max_size": -1,  # to keep a bound JAX would look at all files whenever it writes one
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs where the other worker, processes that tests begin and the next run find them."""
    # One that cannot be read, such as one that is just being written, is compiled again.
    config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache:UserWarning")
    cache = getattr(config, "cache", None)
    first = "PYTEST_XDIST_WORKER" not in os.environ
    if os.environ.get(CACHE) or cache is not None:  # not so with -p no:cacheprovider
        folder = Path(os.environ.get(CACHE) or cache.mkdir("compiled")).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if first:
            prune(folder)
        SETTINGS["jax_compilation_cache_dir"] = str(folder)
        os.environ.update({name.upper(): str(value) for name, value in SETTINGS.items()})
    if not (first and getattr(config.option, "tx", None)):  # a process that only begins workers needs no JAX
        from rlceiling.inference.xla_flags import set_flag

        set_flag()  # before anything is compiled
        settle()
        # ArviZ imports it too, and where warnings are errors it swallows one and leaves half of the package imported.
        importlib.import_module("numpyro.distributions")


def settle() -> None:
    """Give JAX the settings of these tests."""
    import jax

    for name, value in SETTINGS.items():
        if getattr(jax.config, name) != value:
            jax.config.update(name, value)


def prune(folder: Path, most: int = 1 << 29) -> None:
    """Delete compiled programs from the oldest on until the others are no more than so many bytes."""
    kept = 0
    for path in sorted(folder.glob("*-cache"), key=lambda path: -path.stat().st_mtime):
        kept += path.stat().st_size
        if kept > most:
            path.unlink(missing_ok=True)


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (alone := without_miniature(items)) and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"slow tests need a miniature (see tests/helpers/slow.py): {', '.join(alone)}")
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(autouse=True)
def settings_of_the_compile_cache() -> Iterator[None]:
    """Those of these tests again after one that has run the command line, which has others."""
    yield
    settle()


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache directory of this run, and not the one of the user of this machine."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(folder))
        yield folder


@pytest.fixture(scope="session")
def scalerl() -> rl.Runs:
    return rl.load_dataset("scalerl")


@pytest.fixture(scope="session")
def scalerl_fits(scalerl: rl.Runs) -> rl.Fits:
    """All 23 recipes, with the defaults that users get."""
    return once("scalerl_fits", lambda: rl.fit(scalerl))
