"""Optional cache on disk of compiled programs, shared between processes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import jax
import platformdirs

from rlceiling.errors import DataError


def use_compile_cache(directory: str | Path | None = None) -> Path:
    """Keep compiled programs on disk, so that the next process does not compile them again.

    The cache is off by default, because this function sets JAX's own cache for the whole process. The command line
    calls it, except with the flag ``--no-compile-cache``. Programs depend on the versions of JAX and of this package,
    on the processor and on chains, warm-up steps and draws, never on the data; programs of other versions are not used
    and may be deleted. Draws are the same with and without the cache.

    Parameters
    ----------
    directory : path, optional
        Directory of the cache. Default: the directory that JAX uses already (``JAX_COMPILATION_CACHE_DIR``), or else
        ``rlceiling`` in the user's cache directory.

    Returns
    -------
    Path
        The directory of the cache.

    Raises
    ------
    OSError
        If the directory cannot be created.
    DataError
        If another user owns the directory or can write to it. Programs in it are native code, which is run.
    """
    known = jax.config.jax_compilation_cache_dir or platformdirs.user_cache_dir("rlceiling")  # type: ignore[attr-defined]
    path = Path(known if directory is None else directory)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory is None and not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        _make_private(path)
    _check_private(path)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def _make_private(path: Path) -> None:
    """Take the rights of others to write from the default directory, which earlier versions created with them."""
    if hasattr(os, "getuid") and path.stat().st_uid == os.getuid() and path.stat().st_mode & OTHERS_WRITE:
        path.chmod(0o700)


def _check_private(path: Path) -> None:
    """Raise DataError if another user owns a directory or can write to it."""
    if not hasattr(os, "getuid"):  # Windows, where rights are inherited from the user's folder
        return
    found = path.stat()
    if found.st_uid == os.getuid() and not found.st_mode & OTHERS_WRITE:
        return
    why = "belongs to another user" if found.st_uid != os.getuid() else "can be written by other users"
    raise DataError(
        f"the compilation cache {path} {why}, and programs in it would be run; make a directory of your own and name "
        f"it in JAX_COMPILATION_CACHE_DIR, or take their rights away with chmod go-w."
    )


OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

LEAST_SECONDS = 0.5
"""Compilation time in seconds below which a program is not cached, because reading it back would save nothing."""
