"""Optional cache on disk of compiled programs, shared between processes."""

from __future__ import annotations

from pathlib import Path

import jax
import platformdirs


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
    """
    known = jax.config.jax_compilation_cache_dir or platformdirs.user_cache_dir("rlceiling")  # type: ignore[attr-defined]
    path = Path(known if directory is None else directory)
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


LEAST_SECONDS = 0.5
"""Compilation time in seconds below which a program is not cached, because reading it back would save nothing."""
