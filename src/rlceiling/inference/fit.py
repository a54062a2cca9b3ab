"""`fit`: runs in, posteriors out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from rlceiling.errors import DataError, count
from rlceiling.inference.devices import GPU_BATCH, check_backend, device_of
from rlceiling.inference.nuts import SAMPLE_STATS, fit_key
from rlceiling.inference.recipes import PARAMETERS, RUN_PARAMETERS, TARGET_ACCEPT, Draws, sample
from rlceiling.inference.xla_flags import warn_if_slow
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.fit import Fit, Settings, Units
from rlceiling.posterior.fits import Fits
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.runs import Run, Runs

RETRY_FACTOR = 2
"""How many times longer the one automatic second try is."""

RETRY_TARGET_ACCEPT = 0.99
"""Acceptance that the second try tunes its step size to: smaller steps get round the corners that diverged."""


class FitInterrupted(KeyboardInterrupt):
    """Fitting was interrupted; `fits` holds what was done by then."""

    def __init__(self, fits: Fits, total: int) -> None:
        super().__init__(f"interrupted after {len(fits)} of {count(total, 'recipe')}")
        self.fits = fits


def fit(
    runs: Runs,
    priors: SigmoidPriors | None = None,
    *,
    chains: int = 4,
    tune: int = 500,
    draws: int = 1000,
    seed: int = 0,
    rules: VerdictRules | None = None,
    cores: int | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Fits:
    """Sample the posterior of every recipe by NUTS.

    The runs of a recipe are fitted together: each has a ceiling, midpoint and efficiency of its own around those of
    the recipe, and a noise path of its own. Recipes are independent fits of one compiled program for each bucket of
    lengths and numbers of runs. A fit that has not converged is tried once more, twice as long and with smaller steps.

    Parameters
    ----------
    runs : Runs
        From `read_runs` or `load_dataset`.
    priors : SigmoidPriors, optional
        Default `SigmoidPriors()`.
    chains, tune, draws : int, default 4, 500, 1000
        Chains, warm-up steps and kept draws of each. The defaults leave more than 400 effective draws of every
        parameter on the bundled runs.
    seed : int, default 0
        Same seed, same draws.
    rules : VerdictRules, optional
        Thresholds of the verdicts.
    cores : int, optional
        Programs run at once. Default: all cores this process may use, on a GPU one.
    backend : {"cpu", "gpu"}, optional
        Where to sample. Default: CPU, or a GPU if JAX has one and there are chains enough to fill it. The draws of a
        GPU differ from those of a CPU as those of another seed do. It is recorded in ``settings.versions``.
    batch_size : int, optional
        Recipes sampled side by side in one program. Default: 1 on CPU, where a fit is then the same to the last bit
        whatever it is fitted with, and 256 on a GPU, which wants many lanes.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.

    Returns
    -------
    Fits

    Raises
    ------
    DataError
        If a recipe has no run with four distinct positive compute values, a setting is not a positive integer, or
        there is no such backend.
    FitInterrupted
        On Ctrl-C; what is done is in its ``fits``.

    See Also
    --------
    iter_fits : One fit after the other, for more of them than memory holds.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl"))  # doctest: +SKIP
    """
    done: dict[str, Fit] = {}

    def fits() -> Fits:
        return Fits([done[name] for name in runs.recipes if name in done], runs.notes)

    try:
        for one in iter_fits(
            runs,
            priors,
            chains=chains,
            tune=tune,
            draws=draws,
            seed=seed,
            rules=rules,
            cores=cores,
            backend=backend,
            batch_size=batch_size,
            progress=progress,
        ):
            done[one.name] = one
    except KeyboardInterrupt:
        raise FitInterrupted(fits(), len(runs.recipes)) from None
    return fits()


def iter_fits(
    runs: Runs,
    priors: SigmoidPriors | None = None,
    *,
    chains: int = 4,
    tune: int = 500,
    draws: int = 1000,
    seed: int = 0,
    rules: VerdictRules | None = None,
    cores: int | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Iterator[Fit]:
    """Fit like `fit`, and give each posterior away as soon as it is there.

    Nothing is kept, so memory holds as many fits as its user does: a fit of one run has 0.6 MB of draws.

    Parameters
    ----------
    runs, priors, chains, tune, draws, seed, rules, cores, backend, batch_size, progress
        As of `fit`.

    Returns
    -------
    iterator of Fit
        In the order in which they are done, each the same as `fit` makes.

    Raises
    ------
    DataError
        As `fit` does.
    KeyboardInterrupt
        On Ctrl-C, from the iterator, after it has given away what is done by then.

    Examples
    --------
    >>> import rlceiling as rl
    >>> for fit in rl.iter_fits(rl.load_dataset("scalerl")):  # doctest: +SKIP
    ...     print(fit.sentence())
    """
    check_settings("fit", chains, tune, draws, seed)
    check_backend("fit", backend)
    if batch_size is not None and not (isinstance(batch_size, int) and batch_size >= 1):
        raise DataError(f"fit: batch_size={batch_size!r} is not a number of recipes; give a whole number from 1 up.")
    runs.check_enough()
    warn_if_slow()
    device = device_of("fit", backend, lanes=len(runs.recipes) * chains)
    on_gpu = device.platform != "cpu"
    settings = Settings(chains, tune, draws, TARGET_ACCEPT, seed, retried=False, versions=versions(device))
    fitter = Fitter(
        units=Units(runs.compute_label, runs.reward_label, runs.reward_bounds),
        priors=SigmoidPriors() if priors is None else priors,
        rules=VerdictRules() if rules is None else rules,
        settings=settings,
        device=device,
        batch_size=batch_size or (min(GPU_BATCH, len(runs.recipes)) if on_gpu else 1),
    )
    threads = cores or (1 if on_gpu else available_cores())
    bar = tqdm(
        total=len(runs.recipes), desc="fitting", unit="recipe", disable=None if progress is None else not progress
    )
    return _finished(fitter, fitter.batches(runs), threads, bar)


class Recipe(NamedTuple):
    """A recipe that waits for its fit."""

    name: str
    members: tuple[Run, ...]
    data: RecipeData

    def shape(self) -> Any:
        """What makes programs differ."""
        return jax.tree.structure(self.data), self.data.runs.x.shape


class Fitter:
    """Fits batches of recipes of one shape, in threads."""

    def __init__(
        self,
        *,
        units: Units,
        priors: SigmoidPriors,
        rules: VerdictRules,
        settings: Settings,
        device: Any,
        batch_size: int,
    ) -> None:
        self.units, self.priors, self.rules = units, priors, rules
        self.settings, self.device, self.batch_size = settings, device, batch_size
        self.distributions = priors.distributions()
        self.compiling: dict[Any, Lock] = {}
        self.compiled: set[Any] = set()

    def recipe(self, name: str, members: Sequence[Run]) -> Recipe:
        """Make the arrays of a recipe."""
        priors = self.priors
        data = prepare(members, evaluation_error=priors.evaluation_error, C_mid_origin=priors.C_mid_origin)
        return Recipe(name, tuple(members), data)

    def batches(self, runs: Runs) -> Iterator[list[Recipe]]:
        """Group recipes of one shape."""
        waiting: dict[Any, list[Recipe]] = {}
        for name, members in runs.iter_recipes():
            one = self.recipe(name, members)
            shape = one.shape()
            batch = waiting.setdefault(shape, [])
            batch.append(one)
            if len(batch) == self.batch_size:
                yield waiting.pop(shape)
        yield from waiting.values()

    def fit(self, batch: list[Recipe]) -> list[Fit]:
        """Fit a batch, and once more what has not converged."""
        with jax.default_device(self.device):
            shape = batch[0].shape()
            # Threads that meet a new shape wait for the first of them, or each would compile the same program.
            with self.compiling.setdefault(shape, Lock()):
                if shape not in self.compiled:
                    self.sample(batch, replace(self.settings, tune=0, draws=0))
                    self.compiled.add(shape)
            fits = self.attempt(batch, self.settings)
            failed = [i for i, one in enumerate(fits) if not self.rules.converged(one.convergence)]
            if failed:
                longer = replace(
                    self.settings,
                    tune=RETRY_FACTOR * self.settings.tune,
                    draws=RETRY_FACTOR * self.settings.draws,
                    target_accept=RETRY_TARGET_ACCEPT,
                    retried=True,
                )
                for i, again in zip(failed, self.attempt([batch[i] for i in failed], longer), strict=True):
                    fits[i] = again
        return fits

    def sample(self, batch: list[Recipe], settings: Settings) -> list[Draws]:
        """Draws of a batch."""
        # A short batch is filled up, or it would be a program of its own.
        padded = [*batch, *[batch[0]] * (self.batch_size - len(batch))]
        return sample(
            [fit_key(settings.seed, one.name, *(run.run for run in one.members)) for one in padded],
            [one.data for one in padded],
            self.distributions,
            chains=settings.chains,
            tune=settings.tune,
            draws=settings.draws,
            target_accept=settings.target_accept,
        )[: len(batch)]

    def attempt(self, batch: list[Recipe], settings: Settings) -> list[Fit]:
        """Posteriors of a batch."""
        return [
            self.posterior(one, out, settings) for one, out in zip(batch, self.sample(batch, settings), strict=True)
        ]

    def posterior(self, one: Recipe, out: Draws, settings: Settings) -> Fit:
        """Posterior of a recipe from its draws."""
        lanes = np.argsort(one.data.order)[: len(one.members)]
        own = {name.removeprefix("run_"): getattr(out, name)[..., lanes] for name in RUN_PARAMETERS}
        return Fit(
            name=one.name,
            runs=one.members,
            units=self.units,
            priors=self.priors,
            settings=settings,
            draws=self.units.unscale_draws({name: getattr(out, name) for name in PARAMETERS}),
            run_draws=self.units.unscale_draws(own),
            sample_stats={name: getattr(out, name) for name in SAMPLE_STATS},
            rules=self.rules,
        )


def _finished(fitter: Fitter, batches: Iterator[list[Recipe]], threads: int, bar: Any) -> Iterator[Fit]:
    """Fits as they are done; as many batches are under way as there are threads, and as many wait for one."""
    ready: deque[Fit] = deque()
    done: set[Future[list[Fit]]] = set()
    with bar, ThreadPoolExecutor(threads) as pool:
        under_way = {pool.submit(fitter.fit, batch) for batch in islice(batches, 2 * threads)}
        try:
            while under_way:
                # Waking often enough for Ctrl-C to be heard.
                done, under_way = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                under_way |= {pool.submit(fitter.fit, batch) for batch in islice(batches, len(done))}
                while done:
                    ready.extend(done.pop().result())
                while ready:
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


def check_settings(where: str, chains: int, tune: int, draws: int, seed: int) -> None:
    """Raise unless the settings of a sampler make sense."""
    for name, value, least in (("chains", chains, 2), ("tune", tune, 100), ("draws", draws, 100)):
        if not isinstance(value, int) or value < least:
            raise DataError(
                f"{where}: {name}={value!r} is too few for a diagnosis; give a whole number from {least} up."
            )
    if not isinstance(seed, int):
        raise DataError(f"{where}: seed={seed!r} is not a whole number; give one.")


def available_cores() -> int:
    """Cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def versions(device: Any = None) -> dict[str, str]:
    """Versions that a fit was made with, and the backend."""
    backend = jax.default_backend() if device is None else device.platform
    return package_versions() | {"backend": backend}


@cache
def package_versions() -> dict[str, str]:
    """Versions on which draws depend."""
    return {p: version(p) for p in ("rlceiling", "jax", "numpyro")}
