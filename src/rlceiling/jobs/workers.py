"""What runs where jobs are fitted: what a worker must set before it computes, and what it does with a chunk of jobs.

This module imports nothing that computes, so that a new process can set its variables first.
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
    """A chunk of jobs to be sent to `fit_packed`, with the versions that it must be fitted with."""
    from rlceiling.fitting.driver import package_versions

    return pickle.dumps((package_versions(), pickle.dumps(tuple(jobs))))


def fit_packed(packed: bytes) -> list[Outcome]:
    """Fit a chunk of jobs in another process than the one that hands them out.

    Raises
    ------
    ImportError
        If this process has other versions of what computes, and so would make other draws.
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
    """Let this process compute on CPU and on one core, and leave a trainer's GPU alone; before JAX computes."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:  # by whoever had this process before
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    if ONE_CORE not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_CORE}".strip()


def begin_worker() -> None:
    """Make a process that was begun for this a worker: Ctrl-C is not for it, and it ends with who began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is heard by who hands out the jobs
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the one that began it is gone, which a killed process cannot tell its workers."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
