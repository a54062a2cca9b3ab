"""Executors that fit jobs: processes of this machine, and what a worker must set before it computes.

This module imports nothing that computes, so that a new process can set its variables first.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor

ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def begin_worker() -> None:
    """Make a fresh process a worker: it computes on CPU and on one core, and leaves a trainer's GPU alone."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_CORE}".strip()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is heard by who hands out the jobs
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from rlceiling.inference.xla_flags import set_flag

    set_flag()


def _end_with(parent: int) -> None:
    """End this process when the one that began it is gone, which a killed process cannot tell its workers."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def local_processes(workers: int) -> ProcessPoolExecutor:
    """Processes of this machine; each is begun afresh (spawned, never forked from a process that runs threads)."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin_worker)
