"""Sampling driver of all families: batches of fits of equal shape, in threads, with one longer retry."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import islice
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

import jax

from rlceiling.errors import DataError
from rlceiling.inference.convergence import ConvergenceRules
from rlceiling.inference.devices import GPU_BATCH, check_backend, device_of
from rlceiling.inference.sampling import Draws, sample
from rlceiling.inference.stream_keys import stream_key
from rlceiling.inference.xla_flags import warn_if_slow
from rlceiling.models.family import Family
from rlceiling.models.priors import Priors
from rlceiling.models.unit import Unit
from rlceiling.posterior.posterior import Posterior
from rlceiling.settings import SamplerSettings, Settings

RETRY_FACTOR = 2
"""Factor by which the automatic retry of a fit that has not converged is longer."""

RETRY_TARGET_ACCEPT = 0.99
"""Target acceptance of the retry: smaller steps resolve the high curvature in which trajectories diverged."""

AnyPosterior = TypeVar("AnyPosterior", bound=Posterior)

_ONE_AT_A_TIME = Lock()
"""Held while a program of a family with ``parallel = False`` runs."""


class Task(NamedTuple):
    """One fit to be sampled."""

    stream_names: tuple[str, ...]
    """Names from which, with the seed, its random streams are derived."""
    units: tuple[Unit, ...]
    data: Any
    """Arrays, from `Family.prepare`."""
    priors: Any
    """Priors of this fit."""
    context: Any = None
    """Anything that `assemble` needs beside the draws."""

    def shape(self) -> Any:
        """Shapes on which the compiled program depends."""
        arrays = self.data, self.priors.distributions()
        return jax.tree.structure(arrays), tuple(jax.numpy.shape(leaf) for leaf in jax.tree.leaves(arrays))


class Sampled(NamedTuple):
    """Draws of a task, with the fields common to all posteriors."""

    settings: Settings
    draws: dict[str, Any]
    unit_draws: dict[str, Any]
    sample_stats: dict[str, Any]


class Driver(Generic[AnyPosterior]):
    """Samples posteriors of one family.

    A posterior depends only on its task, the priors and the settings, not on the other tasks: on a CPU it is
    bit-identical in every batch and thread.

    Parameters
    ----------
    family : Family
        The model.
    priors : Priors
        Priors of the family.
    rules : ConvergenceRules
        Convergence thresholds beyond which a fit is retried once, longer and with smaller steps.
    settings : SamplerSettings
        Settings of the first attempt.
    assemble : callable
        (task, sampled) -> posterior.
    backend : {"cpu", "gpu"}, optional
        Default: CPU, or a GPU if JAX has one and there are enough chains to fill it.
    batch_size : int, optional
        Number of fits in one program. Default: 1 on CPU and 256 on a GPU.
    number : int, default 1
        Expected number of fits, used for the defaults of `backend` and `batch_size`.
    where : str, default "fit"
        Name of the calling function, for error messages.
    report : callable, optional
        Called with the number of new draws of each chain whenever draws have been made.

    Raises
    ------
    DataError
        If a setting is invalid, or there is no such backend.
    """

    def __init__(
        self,
        family: Family,
        priors: Priors,
        rules: ConvergenceRules,
        settings: SamplerSettings,
        assemble: Callable[[Task, Sampled], AnyPosterior],
        *,
        backend: str | None = None,
        batch_size: int | None = None,
        number: int = 1,
        where: str = "fit",
        report: Callable[[int], object] | None = None,
    ) -> None:
        settings.check(where)
        check_backend(where, backend)
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size >= 1):
            raise DataError(
                f"{where}: batch_size={batch_size!r} is not a number of fits; give a whole number from 1 up."
            )
        warn_if_slow()
        self.device = device_of(where, backend, lanes=number * settings.chains)
        self.on_gpu = self.device.platform != "cpu"
        self.batch_size = batch_size or (min(GPU_BATCH, number) if self.on_gpu else 1)
        self.family, self.priors, self.rules, self.assemble = family, priors, rules, assemble
        self.settings = Settings(**settings.sampler(), versions=versions(self.device))
        self.report = report
        self._compiling: dict[Any, Lock] = {}
        self._compiled: set[Any] = set()

    def task(
        self, stream_names: tuple[str, ...], units: tuple[Unit, ...], context: Any = None, priors: Priors | None = None
    ) -> Task:
        """Make the arrays of a fit, under priors of its own or those of the driver."""
        priors = self.priors if priors is None else priors
        return Task(stream_names, units, self.family.prepare(units, priors), priors, context)

    def fit(self, batch: list[Task]) -> list[AnyPosterior]:
        """Fit a batch of tasks of equal shape, and retry once the tasks that have not converged."""
        with jax.default_device(self.device):
            self._compile(batch)
            fits = self._attempt(batch, self.settings)
            failed = [i for i, one in enumerate(fits) if one.worth_a_retry]
            if failed:
                longer = replace(
                    self.settings,
                    tune=RETRY_FACTOR * self.settings.tune,
                    draws=RETRY_FACTOR * self.settings.draws,
                    target_accept=RETRY_TARGET_ACCEPT,
                    retried=True,
                )
                for i, again in zip(failed, self._attempt([batch[i] for i in failed], longer), strict=True):
                    fits[i] = again
        return fits

    def fit_one(self, task: Task) -> AnyPosterior:
        """Fit one task."""
        return self.fit([task])[0]

    def iterate(self, tasks: Iterable[Task], cores: int | None = None, bar: Any = None) -> Iterator[AnyPosterior]:
        """Yield posteriors as they complete.

        At most twice as many batches as `cores` are submitted at a time, which bounds the memory.

        Parameters
        ----------
        tasks : iterable of Task
            Fits to sample; tasks of equal shape are batched.
        cores : int, optional
            Number of batches fitted at once. Default: all cores available to this process; on a GPU one.
        bar : tqdm, optional
            Progress bar, updated with each posterior.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C, after all posteriors that were complete at that time have been yielded.
        """
        threads = cores or (1 if self.on_gpu else available_cores())
        batches = self._batches(tasks)
        ready: deque[AnyPosterior] = deque()
        done: set[Future[list[AnyPosterior]]] = set()
        with ThreadPoolExecutor(threads) as pool:
            under_way = {pool.submit(self.fit, batch) for batch in islice(batches, 2 * threads)}
            try:
                while under_way:
                    # The short timeout allows Ctrl-C to be handled.
                    done, under_way = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                    under_way |= {pool.submit(self.fit, batch) for batch in islice(batches, len(done))}
                    while done:
                        ready.extend(done.pop().result())
                    while ready:
                        if bar is not None:
                            bar.update()
                        yield ready.popleft()
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                for future in done | under_way:
                    ready.extend([] if future.cancelled() else future.result())
                yield from ready
                raise
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _batches(self, tasks: Iterable[Task]) -> Iterator[list[Task]]:
        """Group tasks of equal shape into batches."""
        waiting: dict[Any, list[Task]] = {}
        for task in tasks:
            shape = task.shape()
            batch = waiting.setdefault(shape, [])
            batch.append(task)
            if len(batch) == self.batch_size:
                yield waiting.pop(shape)
        yield from waiting.values()

    def _compile(self, batch: list[Task]) -> None:
        """Compile the program of a shape once; other threads that need it wait for the first thread."""
        shape = batch[0].shape()
        with self._compiling.setdefault(shape, Lock()):
            if shape not in self._compiled:
                self._sample(batch, replace(self.settings, tune=0, draws=0), report=None)
                self._compiled.add(shape)

    def _sample(self, batch: list[Task], settings: Settings, report: Callable[[int], object] | None) -> list[Draws]:
        # A short batch is padded to the full size, since another size would compile another program.
        padded = [*batch, *[batch[0]] * (self.batch_size - len(batch))]
        keys = [stream_key(settings.seed, *one.stream_names) for one in padded]
        arrays, priors = [one.data for one in padded], [one.priors.distributions() for one in padded]

        def run() -> list[Draws]:
            return sample(keys, arrays, self.family, priors, settings, report)[: len(batch)]

        if self.family.parallel:
            return run()
        with _ONE_AT_A_TIME:
            return run()

    def _attempt(self, batch: list[Task], settings: Settings) -> list[AnyPosterior]:
        fits = []
        for task, drawn in zip(batch, self._sample(batch, settings, self.report), strict=True):
            places = self.family.unit_places(task.data, task.units)
            own = {name: values[..., places] for name, values in drawn.unit_parameters.items()}
            names = dict.fromkeys([*self.family.parameters, *drawn.parameters])  # in the order of tables
            draws = {name: drawn.parameters[name] for name in names}
            unit_draws = {name: own[name] for name in self.family.unit_parameters}
            fits.append(self.assemble(task, Sampled(settings, draws, unit_draws, drawn.sample_stats)))
        return fits


def available_cores() -> int:
    """Number of cores available to this process."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def versions(device: Any = None) -> dict[str, str]:
    """Versions of packages used by a fit, and the backend."""
    backend = jax.default_backend() if device is None else device.platform
    return package_versions() | {"backend": backend}


@cache
def package_versions() -> dict[str, str]:
    """Versions of packages on which draws depend."""
    return {p: version(p) for p in ("rlceiling", "jax", "numpyro")}
