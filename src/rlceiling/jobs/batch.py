"""Run jobs: what is not yet in a store goes out to an executor, and what comes back is kept at once."""

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

AHEAD = 4
"""Chunks per worker that are handed out at a time, so that a long list takes no memory."""

MOST_LOSSES = 3
"""Workers that a job may lose: twice its machine or another job may have been to blame, the last time it runs alone."""


@dataclass
class Progress:
    """How far a batch is.

    Attributes
    ----------
    total : int
        Jobs of the manifest.
    there : int
        Those that were in the store before.
    done, failed : int
        Those that were fitted, or could not be, by this batch.
    verdicts : Counter
        Verdicts given by it.
    begun : float
        When it began, by a clock that never jumps.
    """

    total: int
    there: int
    done: int = 0
    failed: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    begun: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return (self.done + self.failed) / max(time.monotonic() - self.begun, 1e-9)

    def __str__(self) -> str:
        left = self.total - self.there - self.done - self.failed
        said = f"{self.there + self.done} of {self.total} jobs done"
        if self.failed:
            said += f", {self.failed} failed"
        if self.done:
            said += f", {self.rate:.2f} a second"
        if left and self.done:
            said += f", {duration(left / self.rate)} left"
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in self.verdicts.most_common())
        return f"{said}{f' ({verdicts})' if verdicts else ''}"


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
    """Fit the jobs that are not in a store yet, and keep each posterior as soon as it is there.

    Chunks of jobs go out to an executor, and files of posteriors come back. A posterior depends on its job alone, so
    the same bytes come back whatever the executor, its workers and the chunks. A worker that is lost takes its jobs
    with it: these are handed out again one by one, those lost twice alone at the end, and one that is lost then is
    recorded as failed.

    Parameters
    ----------
    jobs : sequence of Job
        From `rlceiling.jobs.manifest.plan`.
    store : Store
        Where posteriors are kept; this process must hold its `lock`.
    unreadable : sequence of Unreadable
        What the manifest names and cannot be fitted; the reasons are kept.
    make_executor : callable, optional
        Makes any `concurrent.futures.Executor` whose workers can import this package, and another one when that is
        broken. `rlceiling.jobs.executors` has some. Its attribute ``lost`` may name what futures raise when a worker
        is lost, besides BrokenExecutor and CancelledError, and ``alive`` say that it is there. Default: threads of this
        process.
    workers : int, optional
        Jobs fitted at once. Default: what the executor says in its attribute ``workers``, or else the cores this
        process may use.
    chunk : int, default 1
        Jobs that go out together. More than one pays where the way to a worker takes longer than a fit.
    watch : callable, optional
        Is told of the progress at the beginning and after every job.

    Returns
    -------
    Progress

    Raises
    ------
    DataError
        If workers cannot fit any job, as those that lack this package or have another version of it, or the cluster
        is gone.
    OSError
        If the store cannot be written, as on a full disk; what is done by then is in the store.
    KeyboardInterrupt
        On Ctrl-C; what is done by then is in the store.
    """
    labels = [label for job in jobs for label in job.labels] + [one.label for one in unreadable]
    store.forget_failures({label.source for label in labels})
    for one in unreadable:
        store.put_failure(one.key, *one)
    meant = store.meant()
    batch = 1 + max((number for number, _ in meant.values()), default=0)
    waiting = []
    for job in jobs:
        if not store.has(job.key):
            waiting.append(job)
        elif stale := [label for label in job.labels if meant.get((label, job.recipe), (0, ""))[1] != job.key]:
            store.relabel(job.key, stale, batch)
    progress = Progress(total=len(jobs) + len(unreadable), there=len(jobs) - len(waiting), failed=len(unreadable))
    if waiting:
        _Handing(waiting, store, batch, progress, make_executor, workers, chunk, watch).run()
    return progress


class _Handing:
    """Jobs on their way to an executor and back."""

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
        self.make, self.workers = make_executor, workers
        self.pool = self.executor()
        self.waiting, self.suspects = deque(jobs), deque[Job]()
        self.losses = Counter[str]()
        self.under_way: dict[Future[list[Outcome]], list[Job]] = {}

    def executor(self) -> Executor:
        return ThreadPoolExecutor(self.workers or available_cores()) if self.make is None else self.make()

    def run(self) -> None:
        if self.watch is not None:
            self.watch(self.progress)
        try:
            while self.waiting or self.suspects or self.under_way:
                broken = not self.hand_out()
                # Waking often enough for Ctrl-C to be heard.
                for future in wait(self.under_way, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    broken |= isinstance(self.take(future), BrokenExecutor)
                if not getattr(self.pool, "alive", True):
                    raise DataError("the cluster is gone; begin it again and run the batch again, which goes on.")
                if broken:
                    for future in wait(self.under_way).done:  # a broken executor ends all it has
                        self.take(future)
                    self.pool.shutdown(wait=False)
                    self.pool = self.executor()
        finally:
            self.pool.shutdown(cancel_futures=True)
            for future in [f for f in self.under_way if f.done() and not f.cancelled() and f.exception() is None]:
                self.take(future)

    def hand_out(self) -> bool:
        """Keep the executor busy; whether it still takes jobs."""
        workers = self.workers or getattr(self.pool, "workers", None) or available_cores()
        while self.waiting and len(self.under_way) < AHEAD * workers:
            size = 1 if self.losses[self.waiting[0].key] else self.chunk
            if not self.submit([self.waiting.popleft() for _ in range(min(size, len(self.waiting)))]):
                return False
        if self.suspects and not self.waiting and not self.under_way:
            return self.submit([self.suspects.popleft()])
        return True

    def submit(self, jobs: list[Job]) -> bool:
        try:
            future = self.pool.submit(fit_jobs, jobs) if self.make is None else self.pool.submit(fit_packed, pack(jobs))
        except BrokenExecutor:  # since it was looked at last
            self.waiting.extendleft(reversed(jobs))
            return False
        except RuntimeError as error:  # it was shut down by somebody else
            raise DataError(f"no more jobs can be handed out ({error}); run the batch again, which goes on.") from None
        self.under_way[future] = jobs
        return True

    def take(self, future: Future[list[Outcome]]) -> BaseException | None:
        """Keep what came back, or hand it out again if its worker was lost; what the executor raised."""
        jobs = self.under_way.pop(future)
        error = CancelledError("cancelled") if future.cancelled() else future.exception()
        if error is not None and not isinstance(
            error, (BrokenExecutor, CancelledError, *getattr(self.pool, "lost", ()))
        ):
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise DataError(f"workers cannot fit ({reason}); give them the same rlceiling as this process has.")
        outcomes = [None] * len(jobs) if error is not None else future.result()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome is not None:
                self.keep(job, outcome)
                continue
            self.losses[job.key] += 1
            if self.losses[job.key] == MOST_LOSSES:
                self.keep(job, Outcome(b"", {}, f"its worker was lost {MOST_LOSSES} times ({error})"))
            elif self.losses[job.key] == MOST_LOSSES - 1:
                self.suspects.append(job)
            else:
                self.waiting.appendleft(job)
        return error

    def keep(self, job: Job, outcome: Outcome) -> None:
        if outcome.reason:
            self.store.put_failure(job.key, job.labels[0], job.recipe, outcome.reason)
            self.progress.failed += 1
        else:
            self.store.put(job.key, outcome.content, outcome.row, job.labels, self.batch)
            self.progress.done += 1
            self.progress.verdicts[outcome.row["verdict"]] += 1
        if self.watch is not None:
            self.watch(self.progress)
