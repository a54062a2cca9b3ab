"""Run jobs: submit those that a store does not hold to an executor, and write each posterior as it comes back."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass, field

from rlceiling.errors import DataError
from rlceiling.fitting.driver import available_cores
from rlceiling.jobs.job import Job, Outcome, fit_jobs
from rlceiling.jobs.job_store import Store
from rlceiling.jobs.manifest import Unreadable
from rlceiling.jobs.workers import fit_packed, pack
from rlceiling.text import duration

CHUNKS_PER_WORKER = 4
"""Chunks per worker that are submitted at a time, so that a long list of jobs does not fill memory."""

MAX_ATTEMPTS = 3
"""Attempts at a job whose worker is lost. The first two losses may be due to the machine or to another job in the
worker; in the last attempt no other job runs."""


@dataclass
class Progress:
    """Progress of a batch.

    Attributes
    ----------
    total : int
        Number of jobs of the manifest, with those that cannot be fitted.
    n_cached : int
        Jobs whose posteriors were in the store before the batch.
    done, failed : int
        Jobs that this batch has fitted, and jobs that could not be fitted.
    verdicts : Counter
        Number of posteriors that this batch has made, by verdict.
    started : float
        When the batch started, on a monotonic clock.
    """

    total: int
    n_cached: int
    done: int = 0
    failed: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return (self.done + self.failed) / max(time.monotonic() - self.started, 1e-9)

    def __str__(self) -> str:
        left = self.total - self.n_cached - self.done - self.failed
        parts = [f"{self.n_cached + self.done} of {self.total} jobs done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.done:
            parts.append(f"{self.rate:.2f} per second")
        if left and self.done:
            parts.append(f"{duration(left / self.rate)} left")
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in self.verdicts.most_common())
        return f"{', '.join(parts)}{f' ({verdicts})' if verdicts else ''}"


def run_batch(
    jobs: Sequence[Job],
    store: Store,
    *,
    unreadable: Sequence[Unreadable] = (),
    make_executor: Callable[[], Executor] | None = None,
    workers: int | None = None,
    chunk: int = 1,
    watch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Fit the jobs that a store does not hold yet, and write each posterior as soon as it is done.

    Chunks of jobs are submitted to an executor, which returns the files of their posteriors. A posterior depends on its
    job alone, so its bytes are the same whatever the executor, the number of workers and the chunks. Where a worker is
    lost, its jobs are submitted again one by one; a job whose worker was lost twice runs alone at the end of the batch,
    and fails if its worker is lost a third time.

    Parameters
    ----------
    jobs : sequence of Job
        From `rlceiling.jobs.manifest.plan`.
    store : Store
        Where posteriors are written; this process must hold its `lock`.
    unreadable : sequence of Unreadable
        What the manifest names and cannot be fitted. The reasons are written to the store as failures.
    make_executor : callable, optional
        Makes any `concurrent.futures.Executor` whose workers can import this package; it is called again when that
        executor is broken. `rlceiling.jobs.executors` has some. An executor may have an attribute ``lost``, a tuple of
        exceptions that its futures raise when a worker is lost, besides BrokenExecutor and CancelledError, and an
        attribute ``alive``, which is False when its cluster has stopped. Default: threads of this process.
    workers : int, optional
        Number of jobs fitted at once. Default: the attribute ``workers`` of the executor, or else the number of cores
        that this process may use.
    chunk : int, default 1
        Jobs submitted together. More than one pays where sending a job takes longer than fitting it.
    watch : callable, optional
        Called with the progress at the beginning and after every job.

    Returns
    -------
    Progress

    Raises
    ------
    DataError
        If workers cannot fit any job, for example because they lack this package or have another version of it, or if
        the cluster has stopped.
    OSError
        If the store cannot be written, for example because the disk is full; posteriors written by then are complete.
    KeyboardInterrupt
        On Ctrl-C; posteriors of jobs that were done by then are in the store.
    """
    labels = [label for job in jobs for label in job.labels] + [one.label for one in unreadable]
    store.forget_failures({label.source for label in labels})
    for one in unreadable:
        store.put_failure(one.key, *one)
    current = store.current_keys()
    batch = 1 + max((number for number, _ in current.values()), default=0)
    missing = []
    for job in jobs:
        if not all(map(store.has, job.keys.values())):
            missing.append(job)
            continue
        for name, key in job.keys.items():
            if new := [label for label in job.labels if current.get((label, name), (0, ""))[1] != key]:
                store.relabel(key, new, batch)
    progress = Progress(total=len(jobs) + len(unreadable), n_cached=len(jobs) - len(missing), failed=len(unreadable))
    if missing:
        Dispatcher(missing, store, batch, progress, make_executor, workers, chunk, watch).run()
    return progress


class Dispatcher:
    """Submits jobs to an executor, and records their outcomes in a store.

    Attributes
    ----------
    pending : deque of Job
        Jobs to be submitted.
    quarantined : deque of Job
        Jobs whose worker was lost in every attempt but the last, which is made while no other job runs.
    attempts : Counter
        Number of attempts that ended with the loss of the worker, by key.
    running : dict of Future to list of Job
        Submitted chunks.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        batch: int,
        progress: Progress,
        make_executor: Callable[[], Executor] | None,
        workers: int | None,
        chunk: int,
        watch: Callable[[Progress], None] | None,
    ) -> None:
        self.store, self.batch, self.progress, self.chunk, self.watch = store, batch, progress, chunk, watch
        self.make_executor, self.workers = make_executor, workers
        self.executor = self._new_executor()
        self.pending, self.quarantined = deque(jobs), deque[Job]()
        self.attempts = Counter[str]()
        self.running: dict[Future[list[Outcome]], list[Job]] = {}

    def _new_executor(self) -> Executor:
        if self.make_executor is None:
            return ThreadPoolExecutor(self.workers or available_cores())
        return self.make_executor()

    def run(self) -> None:
        """Run all jobs; raises as `run_batch` does."""
        if self.watch is not None:
            self.watch(self.progress)
        try:
            while self.pending or self.quarantined or self.running:
                broken = not self.submit_ready()
                # The timeout lets Ctrl-C interrupt the wait.
                for future in wait(self.running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    broken |= isinstance(self.collect(future), BrokenExecutor)
                if not getattr(self.executor, "alive", True):
                    raise DataError("the cluster has stopped; start it and run the same batch again to continue.")
                if broken:
                    for future in wait(self.running).done:  # all futures of a broken executor end at once
                        self.collect(future)
                    self.executor.shutdown(wait=False)
                    self.executor = self._new_executor()
        finally:
            self.executor.shutdown(cancel_futures=True)
            for future in [f for f in self.running if f.done() and not f.cancelled() and f.exception() is None]:
                self.collect(future)

    def submit_ready(self) -> bool:
        """Submit pending jobs until the workers have enough to do; False if the executor is broken."""
        workers = self.workers or getattr(self.executor, "workers", None) or available_cores()
        while self.pending and len(self.running) < CHUNKS_PER_WORKER * workers:
            size = 1 if self.attempts[self.pending[0].key] else self.chunk
            if not self._submit([self.pending.popleft() for _ in range(min(size, len(self.pending)))]):
                return False
        if self.quarantined and not self.pending and not self.running:
            return self._submit([self.quarantined.popleft()])
        return True

    def _submit(self, jobs: list[Job]) -> bool:
        try:
            if self.make_executor is None:
                future = self.executor.submit(fit_jobs, jobs)
            else:
                future = self.executor.submit(fit_packed, pack(jobs))
        except BrokenExecutor:  # it broke after its futures were last looked at
            self.pending.extendleft(reversed(jobs))
            return False
        except RuntimeError as error:  # it was shut down by other code
            raise DataError(
                f"the executor does not accept more jobs ({error}); run the same batch again to continue."
            ) from None
        self.running[future] = jobs
        return True

    def collect(self, future: Future[list[Outcome]]) -> BaseException | None:
        """Record the outcomes of a chunk, or queue its jobs again if the worker was lost.

        Returns
        -------
        exception or None
            What the executor raised.

        Raises
        ------
        DataError
            If it is anything but the loss of a worker.
        """
        jobs = self.running.pop(future)
        error = CancelledError("cancelled") if future.cancelled() else future.exception()
        if error is not None and not isinstance(
            error, (BrokenExecutor, CancelledError, *getattr(self.executor, "lost", ()))
        ):
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise DataError(f"workers cannot fit jobs ({reason}); install the rlceiling of this process on them.")
        outcomes = [None] * len(jobs) if error is not None else future.result()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome is not None:
                self.record(job, outcome)
                continue
            self.attempts[job.key] += 1
            if self.attempts[job.key] == MAX_ATTEMPTS:
                self.record(job, Outcome({}, f"its worker was lost {MAX_ATTEMPTS} times ({error})"))
            elif self.attempts[job.key] == MAX_ATTEMPTS - 1:
                self.quarantined.append(job)
            else:
                self.pending.appendleft(job)
        return error

    def record(self, job: Job, outcome: Outcome) -> None:
        """Write the outcome of a job to the store, and report the progress."""
        if outcome.reason:
            self.store.put_failure(job.key, job.labels[0], job.name, outcome.reason)
            self.progress.failed += 1
        else:
            for key, (content, row) in outcome.made.items():
                self.store.put(key, content, row, job.labels, self.batch)
                self.progress.verdicts[row["verdict"]] += 1
            self.progress.done += 1
        if self.watch is not None:
            self.watch(self.progress)
