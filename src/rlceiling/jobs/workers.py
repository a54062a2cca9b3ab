"""Executors that fit jobs: processes of this machine, and what a worker must set before it computes.

This module imports nothing that computes, so that a new process can set its variables first.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def begin_worker() -> None:
    """Make a fresh process a worker: it computes on CPU and on one core, and leaves a trainer's GPU alone."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_CORE}".strip()
    from rlceiling.inference.xla_flags import set_flag

    set_flag()


def local_processes(workers: int) -> ProcessPoolExecutor:
    """Processes of this machine; each is begun afresh (spawned, never forked from a process that runs threads)."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin_worker)
