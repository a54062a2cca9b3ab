"""`fit`: runs in, posteriors out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.metadata import version

import jax
import numpy as np
from tqdm.auto import tqdm

from rlceiling.errors import DataError, count
from rlceiling.inference.nuts import PARAMETERS, RUN_PARAMETERS, SAMPLE_STATS, TARGET_ACCEPT, fit_key, sample
from rlceiling.models.recipe_data import prepare
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
    tune: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    rules: VerdictRules | None = None,
    cores: int | None = None,
    progress: bool | None = None,
) -> Fits:
    """Sample the posterior of every recipe by NUTS.

    The runs of a recipe are fitted together: each has a ceiling, midpoint and efficiency of its own around those of
    the recipe, and a noise path of its own. Recipes are independent fits of one compiled program for each bucket of
    lengths and numbers of runs; a fit is the same to the last bit whatever batch it is part of. A fit that has not
    converged is tried once more, twice as long and with smaller steps.

    Parameters
    ----------
    runs : Runs
        From `read_runs` or `load_dataset`.
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
        If a recipe has no run with four distinct positive compute values, or a setting is not a positive integer.
    FitInterrupted
        On Ctrl-C; what is done is in its ``fits``.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl"))  # doctest: +SKIP
    """
    check_settings("fit", chains, tune, draws, seed)
    runs.check_enough()
    priors = SigmoidPriors() if priors is None else priors
    rules = VerdictRules() if rules is None else rules
    units = Units(runs.compute_label, runs.reward_label, runs.reward_bounds)

    def fit_one(recipe: str, members: Sequence[Run]) -> Fit:
        def attempt(*, retry: bool) -> Fit:
            factor = RETRY_FACTOR if retry else 1
            settings = Settings(
                chains=chains,
                tune=factor * tune,
                draws=factor * draws,
                target_accept=RETRY_TARGET_ACCEPT if retry else TARGET_ACCEPT,
                seed=seed,
                retried=retry,
                versions=versions(),
            )
            return _fit_recipe(recipe, tuple(members), units, priors, rules, settings)

        first = attempt(retry=False)
        return first if rules.converged(first.convergence) else attempt(retry=True)

    todo = list(runs.iter_recipes())
    done = dict.fromkeys(range(len(todo)))
    with ThreadPoolExecutor(cores or available_cores()) as pool:
        futures = {pool.submit(fit_one, *one): i for i, one in enumerate(todo)}
        try:
            bar = tqdm(
                total=len(todo),
                desc="fitting",
                unit="recipe",
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


def check_settings(where: str, chains: int, tune: int, draws: int, seed: int) -> None:
    """Raise unless the settings of a sampler make sense."""
    for name, value, least in (("chains", chains, 2), ("tune", tune, 100), ("draws", draws, 100)):
        if not isinstance(value, int) or value < least:
            raise DataError(
                f"{where}: {name}={value!r} is too few for a diagnosis; give a whole number from {least} up."
            )
    if not isinstance(seed, int):
        raise DataError(f"{where}: seed={seed!r} is not a whole number; give one.")


def _as_completed(futures: dict[Future[Fit], int]) -> Iterator[Future[Fit]]:
    """Yield futures as they finish, waking often enough for Ctrl-C to be heard."""
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        yield from finished


def available_cores() -> int:
    """Cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def _fit_recipe(
    recipe: str,
    members: tuple[Run, ...],
    units: Units,
    priors: SigmoidPriors,
    rules: VerdictRules,
    settings: Settings,
) -> Fit:
    data = prepare(members, evaluation_error=priors.evaluation_error, C_mid_origin=priors.C_mid_origin)
    out = sample(
        fit_key(settings.seed, recipe, *(run.run for run in members)),
        data,
        priors.distributions(),
        chains=settings.chains,
        tune=settings.tune,
        draws=settings.draws,
        target_accept=settings.target_accept,
    )
    lanes = np.argsort(data.order)[: len(members)]
    own = {name.removeprefix("run_"): getattr(out, name)[..., lanes] for name in RUN_PARAMETERS}
    return Fit(
        name=recipe,
        runs=members,
        units=units,
        priors=priors,
        settings=settings,
        draws=units.unscale_draws({name: getattr(out, name) for name in PARAMETERS}),
        run_draws=units.unscale_draws(own),
        sample_stats={name: getattr(out, name) for name in SAMPLE_STATS},
        rules=rules,
    )


def versions() -> dict[str, str]:
    """Versions that a fit was made with."""
    return {p: version(p) for p in ("rlceiling", "jax", "numpyro")} | {"backend": jax.default_backend()}
