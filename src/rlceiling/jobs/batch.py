"""Run jobs: what is not yet in a store goes out to an executor, and what comes back is kept at once."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial

from rlceiling.inference.fit import available_cores
from rlceiling.jobs.job import Job
from rlceiling.jobs.manifest import Unreadable
from rlceiling.jobs.store import Store, row_of
from rlceiling.posterior.fit import Fit

AHEAD = 4
"""Jobs per worker that are handed out at a time, so that a long list takes no memory."""


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
            said += f", {left / self.rate / 60.0:.1f} min left"
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in self.verdicts.most_common())
        return f"{said}{f' ({verdicts})' if verdicts else ''}"


def run_batch(
    jobs: Sequence[Job],
    store: Store,
    *,
    unreadable: Sequence[Unreadable] = (),
    make_executor: Callable[[], Executor] | None = None,
    workers: int | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Fit the jobs that are not in a store yet, and keep each posterior as soon as it is there.

    A worker that is lost takes its jobs with it; these are handed out again, one at a time, and one that loses its
    worker again is recorded as failed.

    Parameters
    ----------
    jobs : sequence of Job
        From `rlceiling.jobs.manifest.plan`.
    store : Store
        Where posteriors are kept; this process must hold its `lock`.
    unreadable : sequence of Unreadable
        What the manifest names and cannot be fitted; the reasons are kept.
    make_executor : callable, optional
        Makes a `concurrent.futures.Executor` that fits, and another one when that is broken. A posterior depends on its
        job alone, so the same comes back from any. Default: threads of this process.
    workers : int, optional
        Jobs fitted at once. Default: cores this process may use.
    watch : callable, optional
        Is told of the progress after every job.

    Returns
    -------
    Progress

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C; what is done by then is in the store.
    """
    store.forget_failures({job.source for job in jobs} | {one.source for one in unreadable})
    for one in unreadable:
        store.put_failure(one.key, one._asdict())
    waiting = deque(job for job in jobs if not store.has(job.key))
    progress = Progress(total=len(jobs) + len(unreadable), there=len(jobs) - len(waiting), failed=len(unreadable))
    workers = available_cores() if workers is None else workers
    make = make_executor or partial(ThreadPoolExecutor, workers)
    pool = make()
    suspects: deque[Job] = deque()
    alone: set[str] = set()
    under_way: dict[Future[tuple[Fit, float]], Job] = {}

    def hand_out() -> None:
        while suspects and not under_way:
            job = suspects.popleft()
            alone.add(job.key)
            under_way[pool.submit(fit_job, job)] = job
        while waiting and not suspects and not alone and len(under_way) < AHEAD * workers:
            job = waiting.popleft()
            under_way[pool.submit(fit_job, job)] = job

    def keep(future: Future[tuple[Fit, float]]) -> bool:
        """Keep a posterior, or the reason why there is none; whether the executor still stands."""
        job = under_way.pop(future)
        error = future.exception()
        lost = isinstance(error, BrokenExecutor)
        if lost and job.key not in alone:
            suspects.append(job)
            return False
        alone.discard(job.key)
        if error is None:
            fit, seconds = future.result()
            store.put(job.key, fit, row_of(job.source, job.share, fit, seconds))
            progress.done += 1
            progress.verdicts[fit.verdict.name] += 1
        elif isinstance(error, Exception):
            reason = "its worker was lost twice" if lost else f"{type(error).__name__}: {error}"
            failed = {"source": job.source, "recipe": job.recipe, "share": job.share, "reason": reason}
            store.put_failure(job.key, failed)
            progress.failed += 1
        if watch is not None:
            watch(progress)
        return not lost

    try:
        hand_out()
        while under_way:
            # Waking often enough for Ctrl-C to be heard.
            stands = [keep(future) for future in wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED).done]
            if not all(stands):
                pool.shutdown(wait=False)
                for future in list(under_way):  # those of a broken executor have all ended
                    wait([future])
                    keep(future)
                pool = make()
            hand_out()
    finally:
        pool.shutdown(cancel_futures=True)
        for future in [f for f in under_way if f.done() and not f.cancelled() and f.exception() is None]:
            keep(future)
    return progress


def fit_job(job: Job) -> tuple[Fit, float]:
    """Fit one job, in whatever process this is; the posterior and the seconds it took."""
    begun = time.monotonic()
    return job.fit(), time.monotonic() - begun
