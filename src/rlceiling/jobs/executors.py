"""Executors that fit the jobs of a batch; each is a `concurrent.futures.Executor`.

Dask, Ray and dask-jobqueue are optional dependencies, one extra of this package each, and imported where they are used.
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
from rlceiling.jobs.workers import initialise_worker

NEEDS = {"threads": "", "processes": "", "dask": "distributed", "ray": "ray", "slurm": "dask_jobqueue"}
"""Kind of executor -> the module that it needs, empty if it needs none."""

WAIT = 30.0
"""Seconds within which a cluster must answer when a client connects to it."""

MEMORY = "4GB"
"""Memory that a SLURM worker asks for where the configuration of dask-jobqueue names none."""


def executor_of(
    kind: str, workers: int, address: str | None = None, sbatch: str | None = None
) -> Callable[[], Executor] | None:
    """Make a function that makes executors of a kind.

    Parameters
    ----------
    kind : {"threads", "processes", "dask", "ray", "slurm"}
        Threads of this process; processes of this machine; a cluster of Dask or Ray, either a running one or a new one
        on this machine; Dask workers that SLURM runs.
    workers : int
        Number of workers of an executor that is started here; each fits one job at a time.
    address : str, optional
        Address of a running cluster: ``tcp://host:8786`` for Dask, ``auto`` or ``ray://host:10001`` for Ray.
    sbatch : str, optional
        Further options for sbatch, such as ``"--partition=cpu --time=04:00:00"``.

    Returns
    -------
    callable or None
        For `rlceiling.jobs.batch.run_batch`; None stands for threads.

    Raises
    ------
    DataError
        If there is no such kind, the package that it needs is not installed, or an option does not apply to it.
    """
    if kind not in NEEDS:
        raise DataError(f"executor {kind!r} is not known; give one of {listing(NEEDS)}.")
    if address is not None and kind not in ("dask", "ray"):
        raise DataError(f"address {address!r} is for the executors dask and ray; leave it out for {kind}.")
    if sbatch is not None and kind != "slurm":
        raise DataError(f"sbatch {sbatch!r} is for the executor slurm; leave it out for {kind}.")
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
    """Processes of this machine; they are spawned, since a process that runs threads must not be forked."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=initialise_worker)


class DaskExecutor(Executor):
    """Workers of a Dask cluster. Those that are started here have one thread each.

    Parameters
    ----------
    workers : int
        Number of workers of a cluster that is started here, and stopped by `shutdown`.
    address : str, optional
        Address of a running cluster.
    sbatch : list of str, optional
        Start the workers as SLURM jobs, with these options for sbatch. Everything else about the cluster, such as its
        network interface, is read from the configuration of dask-jobqueue.

    Attributes
    ----------
    workers : int
        Number of jobs that the cluster can fit at once.
    lost : tuple of type
        Exceptions that a future raises if its worker was lost.
    """

    def __init__(self, workers: int, address: str | None = None, sbatch: list[str] | None = None) -> None:
        import dask
        from distributed import Client, KilledWorker, LocalCluster

        self._close = ExitStack()
        if address is not None:
            try:
                client = self._close.enter_context(Client(address, timeout=WAIT, set_as_default=False))
            except (OSError, ValueError) as error:
                raise DataError(f"no Dask cluster answers at {address!r}: {error}; start one there.") from None
            workers = sum(client.nthreads().values()) or workers
        else:
            # Dask does not retry a job whose worker is lost; the dispatcher does.
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}), _ignoring_interrupts():
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
        """Whether the client is connected to the cluster; futures of one that has stopped never end."""
        return self._client.status not in ("closing", "closed")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call."""
        return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Close the client, and stop the cluster if it was started here."""
        if self.alive:
            self._pool.shutdown(wait and not cancel_futures)
        self._close.close()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Let processes that are started in this context ignore SIGINT; this process handles Ctrl-C and stops them."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
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
        # A program that was compiled for the processor of this machine may not run on another one.
        job_script_prologue=[*configured["job-script-prologue"], "unset JAX_COMPILATION_CACHE_DIR"],
    )
    cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)  # replaces a worker that ends or is killed
    return cluster


class RayExecutor(Executor):
    """Tasks of Ray, each on one CPU and no GPU.

    Parameters
    ----------
    workers : int
        Number of CPUs of a cluster that is started here, and stopped by `shutdown`.
    address : str, optional
        Address of a running cluster. If this process is connected to one already, that one is used and left running.

    Attributes
    ----------
    workers : int
        Number of jobs that the cluster can fit at once.
    lost : tuple of type
        Exceptions that a future raises if its worker was lost.
    """

    def __init__(self, workers: int, address: str | None = None) -> None:
        import ray
        from ray import exceptions

        self._ray, self._own = ray, not ray.is_initialized()
        self._remote = cache(ray.remote(num_cpus=1, max_retries=0))  # the dispatcher retries a job
        if self._own:
            _start_ray(workers, address)
        self.workers = int(ray.cluster_resources().get("CPU", 0)) or workers
        self.lost = (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.LocalRayletDiedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call."""
        return self._remote(fn).remote(*args, **kwargs).future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Disconnect from Ray, and stop it, if it was started here."""
        if self._own:
            self._ray.shutdown()


def _start_ray(workers: int, address: str | None) -> None:
    import ray

    try:
        if address is not None and ":" in address:  # Ray takes minutes to fail here
            host, port = address.removeprefix("ray://").rsplit(":", 1)
            socket.create_connection((host, int(port)), WAIT).close()
        options: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
        with warnings.catch_warnings():
            # JAX warns of every fork, but the processes that Ray forks execute another program at once.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"no Ray cluster answers at {address!r}: {error}; start one there.") from None
