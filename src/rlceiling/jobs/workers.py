"""What runs in a worker process: its set-up before JAX computes, and the fitting of a chunk of jobs.

This module imports neither JAX nor anything that does, so that a new process can set environment variables first.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlceiling.jobs.job import Job, Outcome

ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def pack(jobs: Sequence[Job]) -> bytes:
    """Serialise a chunk of jobs for `fit_packed`, with the versions of packages that its draws depend on."""
    from rlceiling.fitting.driver import package_versions

    return pickle.dumps((package_versions(), pickle.dumps(tuple(jobs))))


def fit_packed(packed: bytes) -> list[Outcome]:
    """Fit a chunk of jobs in another process than the one that submits them.

    Raises
    ------
    ImportError
        If this process has other versions of the packages that draws depend on.
    """
    use_one_core_of_cpu()
    wanted, jobs = pickle.loads(packed)

    from rlceiling.fitting.driver import package_versions
    from rlceiling.inference.xla_flags import set_flag
    from rlceiling.jobs.job import fit_jobs

    here = package_versions()
    other = [name for name in here if here[name] != wanted.get(name)]
    if other:
        have, want = ({name: versions.get(name) for name in other} for versions in (here, wanted))
        raise ImportError(f"a worker has {have} and not {want}")
    set_flag()
    return fit_jobs(pickle.loads(jobs))


def use_one_core_of_cpu() -> None:
    """Make JAX in this process use one core of the CPU, and leave the GPU to a trainer.

    It must be called before JAX computes.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:  # the cluster reuses a process in which other code has imported JAX
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    if ONE_CORE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_CORE}".strip()


def initialise_worker() -> None:
    """Initialise a worker process: ignore SIGINT, and exit when the parent process dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C and stops its workers
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()


def _exit_with_parent(parent: int) -> None:
    """Exit this process when its parent has died; a parent that is killed cannot stop its workers."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
