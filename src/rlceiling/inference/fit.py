"""`fit`: runs in, posteriors out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.metadata import version

import jax
import numpy as np
from tqdm.auto import tqdm

from rlceiling.errors import DataError, count
from rlceiling.inference.nuts import PARAMETERS, SAMPLE_STATS, TARGET_ACCEPT, fit_key, sample
from rlceiling.models.sigmoid import SigmoidPriors
from rlceiling.posterior.fit import Fit, Fits, Settings, Units
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.runs import Run, Runs

RETRY_FACTOR = 2
"""How many times longer the one automatic second try is."""

RETRY_TARGET_ACCEPT = 0.99
"""Acceptance that the second try tunes its step size to: smaller steps get round the corners that diverged."""


class FitInterrupted(KeyboardInterrupt):
    """Fitting was interrupted; `fits` holds what was done by then."""

    def __init__(self, fits: Fits, total: int) -> None:
        super().__init__(f"interrupted after {len(fits)} of {count(total, 'run')}")
        self.fits = fits


def fit(
    runs: Runs,
    priors: SigmoidPriors | None = None,
    *,
    chains: int = 4,
    tune: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    rules: VerdictRules | None = None,
    cores: int | None = None,
    progress: bool | None = None,
) -> Fits:
    """Sample the posterior of every run by NUTS.

    Runs are independent fits of one compiled program a length bucket; a fit is the same to the last bit whatever
    batch it is part of. A fit that has not converged is tried once more, twice as long and with smaller steps.

    Parameters
    ----------
    runs : Runs
        From `read_runs` or `load_dataset`. A recipe with several runs has each fitted alone, under the name
        ``recipe/run``.
    priors : SigmoidPriors, optional
        Default `SigmoidPriors()`.
    chains, tune, draws : int, default 4, 1000, 1000
        Chains, warm-up steps and kept draws of each. The defaults leave more than 400 effective draws of every
        parameter on the bundled runs.
    seed : int, default 0
        Same seed, same draws.
    rules : VerdictRules, optional
        Thresholds of the verdicts.
    cores : int, optional
        Fits sampled at once. Default: all cores this process may use.
    progress : bool, optional
        Show a progress bar. Default: only on a terminal.

    Returns
    -------
    Fits

    Raises
    ------
    DataError
        If a run has fewer than four distinct positive compute values, or a setting is not a positive integer.
    FitInterrupted
        On Ctrl-C; what is done is in its ``fits``.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl"))  # doctest: +SKIP
    """
    for name, value, least in (("chains", chains, 2), ("tune", tune, 100), ("draws", draws, 100)):
        if not isinstance(value, int) or value < least:
            raise DataError(f"fit: {name}={value!r} is too few for a diagnosis; give a whole number from {least} up.")
    if not isinstance(seed, int):
        raise DataError(f"fit: seed={seed!r} is not a whole number; give one.")
    runs.check_enough()
    priors = SigmoidPriors() if priors is None else priors
    rules = VerdictRules() if rules is None else rules
    units = Units(runs.compute_label, runs.reward_label, runs.reward_bounds)

    def fit_one(run: Run) -> Fit:
        several = len(runs.runs_of(run.recipe)) > 1
        name = f"{run.recipe}/{run.run}" if several else run.recipe
        first = _fit_run(run, name, units, priors, rules, chains, tune, draws, seed, retry=False)
        if rules.converged(first.convergence):
            return first
        return _fit_run(run, name, units, priors, rules, chains, tune, draws, seed, retry=True)

    todo = list(runs.iter_runs())
    done = dict.fromkeys(range(len(todo)))
    with ThreadPoolExecutor(cores or _available_cores()) as pool:
        futures = {pool.submit(fit_one, run): i for i, run in enumerate(todo)}
        try:
            bar = tqdm(
                total=len(todo),
                desc="fitting",
                unit="run",
                disable=None if progress is None else not progress,
            )
            with bar:
                for future in _as_completed(futures):
                    done[futures[future]] = future.result()
                    bar.update()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            finished = {i: f.result() for f, i in futures.items() if f.done() and not f.cancelled()}
            raise FitInterrupted(Fits([finished[i] for i in sorted(finished)], runs.notes), len(todo)) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Fits([f for f in done.values() if f is not None], runs.notes)


def _as_completed(futures: dict[Future[Fit], int]) -> Iterator[Future[Fit]]:
    """Yield futures as they finish, waking often enough for Ctrl-C to be heard."""
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        yield from finished


def _available_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def _fit_run(
    run: Run,
    name: str,
    units: Units,
    priors: SigmoidPriors,
    rules: VerdictRules,
    chains: int,
    tune: int,
    draws: int,
    seed: int,
    *,
    retry: bool,
) -> Fit:
    factor = RETRY_FACTOR if retry else 1
    settings = Settings(
        chains=chains,
        tune=factor * tune,
        draws=factor * draws,
        target_accept=RETRY_TARGET_ACCEPT if retry else TARGET_ACCEPT,
        seed=seed,
        retried=retry,
        versions=_versions(),
    )
    empty: dict[str, np.ndarray] = {}
    fit = Fit(name, run, units, priors, settings, empty, empty, rules)
    out = sample(
        fit_key(seed, run.recipe, run.run),
        fit.run_data,
        priors.distributions(),
        chains=chains,
        tune=settings.tune,
        draws=settings.draws,
        target_accept=settings.target_accept,
    )
    user = {"A": units.unscale, "R0": units.unscale, "sigma": lambda v: units.width * v}
    posterior = {p: user[p](getattr(out, p)) if p in user else getattr(out, p) for p in PARAMETERS}
    stats = {s: getattr(out, s) for s in SAMPLE_STATS}
    return Fit(name, run, units, priors, settings, posterior, stats, rules)


def _versions() -> dict[str, str]:
    return {p: version(p) for p in ("rlceiling", "jax", "numpyro")} | {"backend": jax.default_backend()}
