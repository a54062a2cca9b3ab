"""Executors: who fits the jobs of a batch, all behind `concurrent.futures.Executor`.

Packages of clusters are imported when they are asked for; each is an extra of this package.
"""

from __future__ import annotations

import logging
import multiprocessing
import shlex
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

from rlceiling.errors import DataError, listing
from rlceiling.jobs.workers import begin_worker

NEEDS = {"threads": "", "processes": "", "dask": "distributed", "ray": "ray", "slurm": "dask_jobqueue"}
"""Module that each kind of executor needs."""

WAIT = 30.0
"""Seconds within which a cluster must answer."""

MEMORY = "4GB"
"""Of a worker under SLURM; it uses one."""


def executor_of(
    kind: str, workers: int, address: str | None = None, sbatch: str | None = None
) -> Callable[[], Executor] | None:
    """What makes an executor.

    Parameters
    ----------
    kind : {"threads", "processes", "dask", "ray", "slurm"}
        Threads of this process; processes of this machine; a cluster of Dask or Ray, the one at an address or one of
        this machine; Dask workers that SLURM runs.
    workers : int
        Jobs at once, of executors that begin here.
    address : str, optional
        Of a running cluster: ``tcp://host:8786`` of Dask, ``auto`` or ``ray://host:10001`` of Ray.
    sbatch : str, optional
        More options for sbatch, such as ``"--partition=cpu --time=04:00:00"``.

    Returns
    -------
    callable or None
        For `rlceiling.jobs.batch.run_batch`; None stands for threads.

    Raises
    ------
    DataError
        If there is no such kind, it needs a package that is not there, or an option is not for it.
    """
    if kind not in NEEDS:
        raise DataError(f"executor {kind!r} is not known; there are {listing(NEEDS)}.")
    if address is not None and kind not in ("dask", "ray"):
        raise DataError(f"address {address!r} is of a cluster of Dask or Ray; leave it out for {kind}.")
    if sbatch is not None and kind != "slurm":
        raise DataError(f"sbatch {sbatch!r} is for slurm; leave it out for {kind}.")
    if NEEDS[kind] and find_spec(NEEDS[kind]) is None:
        raise DataError(f'executor {kind!r} needs another package; run pip install "rlceiling[{kind}]".')
    if kind == "threads":
        return None
    if kind == "processes":
        return partial(local_processes, workers)
    if kind == "ray":
        return partial(RayExecutor, workers, address)
    return partial(DaskExecutor, workers, address, shlex.split(sbatch or "") if kind == "slurm" else None)


def local_processes(workers: int) -> ProcessPoolExecutor:
    """Processes of this machine; each is begun afresh (spawned, never forked from a process that runs threads)."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin_worker)


class DaskExecutor(Executor):
    """Workers of a Dask cluster, each on one core unless the cluster gives it more threads.

    Parameters
    ----------
    workers : int
        Of a cluster that begins here and ends with `shutdown`.
    address : str, optional
        A cluster that runs already.
    sbatch : list of str, optional
        Begin the workers as jobs of SLURM, with these options of sbatch. What else there is to say about a cluster,
        such as the network it uses, stands in the configuration of dask-jobqueue.

    Attributes
    ----------
    workers : int
        Jobs that the cluster can fit at once.
    lost : tuple of type
        What a future raises if its worker was lost.
    """

    def __init__(self, workers: int, address: str | None = None, sbatch: list[str] | None = None) -> None:
        import dask
        from distributed import Client, KilledWorker, LocalCluster

        self._close = ExitStack()
        if address is not None:
            try:
                client = self._close.enter_context(Client(address, timeout=WAIT, set_as_default=False))
            except (OSError, ValueError) as error:
                raise DataError(f"no Dask cluster answers at {address!r}: {error}; begin one there.") from None
            workers = sum(client.nthreads().values()) or workers
        else:
            # A job that kills its worker is tried again by who hands it out, and alone.
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}), _deaf_to_ctrl_c():
                if sbatch is None:
                    cluster = LocalCluster(
                        n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
                    )
                else:
                    cluster = _slurm_cluster(workers, sbatch)
            self._close.enter_context(cluster)
            client = self._close.enter_context(Client(cluster, set_as_default=False))
        self.workers, self.lost = workers, (KilledWorker,)
        self._client, self._pool = client, client.get_executor(pure=False)

    @property
    def alive(self) -> bool:
        """Whether the cluster is there; where it is not, futures never end."""
        return self._client.status not in ("closing", "closed")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand out a call."""
        return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End, and the cluster with it if it began here."""
        if self.alive:
            self._pool.shutdown(wait and not cancel_futures)
        self._close.close()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that begin herein never hear of Ctrl-C, which is for who hands out the jobs and ends them itself."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set what signals do
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _slurm_cluster(workers: int, sbatch: list[str]) -> Any:
    import dask
    from dask_jobqueue import SLURMCluster

    configured = dask.config.get("jobqueue.slurm")
    cluster = SLURMCluster(
        cores=configured["cores"] or 1,
        processes=configured["processes"] or 1,
        memory=configured["memory"] or MEMORY,
        job_extra_directives=[*configured["job-extra-directives"], *sbatch],
        # What is compiled for the processor here may not run on another one.
        job_script_prologue=[*configured["job-script-prologue"], "unset JAX_COMPILATION_CACHE_DIR"],
    )
    cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)  # so that one that ends or is killed is begun again
    return cluster


class RayExecutor(Executor):
    """Tasks of Ray, each on one CPU and no GPU.

    Parameters
    ----------
    workers : int
        CPUs of a Ray that begins here and ends with `shutdown`.
    address : str, optional
        A cluster that runs already. Where this process is connected to one, that is used and left running.

    Attributes
    ----------
    workers : int
        Jobs that the cluster can fit at once.
    lost : tuple of type
        What a future raises if its worker was lost.
    """

    def __init__(self, workers: int, address: str | None = None) -> None:
        import ray
        from ray import exceptions

        self._ray, self._own = ray, not ray.is_initialized()
        self._remote = cache(ray.remote(num_cpus=1, max_retries=0))  # who hands out a call tries it again
        if self._own:
            _begin_ray(workers, address)
        self.workers = int(ray.cluster_resources().get("CPU", 0)) or workers
        self.lost = (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.LocalRayletDiedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand out a call."""
        return self._remote(fn).remote(*args, **kwargs).future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End, and Ray with it if it began here."""
        if self._own:
            self._ray.shutdown()


def _begin_ray(workers: int, address: str | None) -> None:
    import ray

    try:
        if address is not None and ":" in address:  # of which Ray itself takes minutes to say that nobody is there
            host, port = address.removeprefix("ray://").rsplit(":", 1)
            socket.create_connection((host, int(port)), WAIT).close()
        begun: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
        with warnings.catch_warnings():
            # JAX warns of every fork; those of Ray become another program at once.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **begun)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"no Ray cluster answers at {address!r}: {error}; begin one there.") from None
