"""Estimates as a run grows: refits to truncated runs at increasing compute, compared with least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlceiling.calibration.baselines import least_squares
from rlceiling.errors import count, unknown_name
from rlceiling.fitting.driver import RETRY_FACTOR
from rlceiling.fitting.fit_recipes import FitInterrupted, fit
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.posterior import check_prob
from rlceiling.results.fits import Fits
from rlceiling.runs import Run, Runs
from rlceiling.runs.cuts import cut_runs

SHARES = (0.15, 0.25, 0.4, 0.6, 0.8)
"""Shares of each run's largest compute at which it is refitted."""


class GrowthInterrupted(KeyboardInterrupt):
    """Refits were interrupted; `growth` contains the completed part."""

    def __init__(self, growth: Growth) -> None:
        super().__init__("refits interrupted")
        self.growth = growth


@dataclass(frozen=True, eq=False, repr=False)
class Growth:
    """Fits of truncated runs and of the full runs.

    Returned by `rlceiling.growth`.

    Attributes
    ----------
    fits : dict of float to Fits
        Fits by share of the largest compute, ascending; share 1 is the fit of the full runs. A recipe is left out at a
        share that leaves too few evaluations, or the same evaluations as a smaller share, or lies in a stage before the
        last.
    """

    fits: dict[float, Fits]

    @property
    def recipes(self) -> list[str]:
        """Names of the recipes."""
        return list(self.fits[1.0])

    def of(self, recipe: str) -> dict[float, Fit]:
        """Fits of one recipe by share, ascending; raises DataError if no recipe has this name."""
        if recipe not in self.fits[1.0]:
            raise unknown_name("this growth", "recipe", recipe, self.recipes)
        return {share: fits[recipe] for share, fits in self.fits.items() if recipe in fits}

    def table(self, prob: float = 0.9) -> pd.DataFrame:
        """Tabulate the ceilings, one row per recipe and share.

        Parameters
        ----------
        prob : float, default 0.9
            Probability of the equal-tailed credible intervals.

        Returns
        -------
        DataFrame
            Columns: ``recipe``, ``share``, the largest compute fitted under its own name, ``evaluations``, ceiling
            ``A`` (median) with ``A_lower`` and ``A_upper``, ``verdict``, and ``A_least_squares``, the ceiling by least
            squares on the grid of ScaleRL from the same evaluations. Quote ``A`` only where the verdict is IDENTIFIED.
        """
        check_prob("growth", prob)
        rows = []
        for recipe in self.recipes:
            for share, one in self.of(recipe).items():
                lower, median, upper = one.interval("A", prob)
                row = {"recipe": recipe, "share": share, one.units.compute: one.largest_compute}
                row |= {
                    "evaluations": one.evaluations,
                    "A": median,
                    "A_lower": lower,
                    "A_upper": upper,
                    "verdict": one.verdict.name,
                }
                rows.append(row | {"A_least_squares": _least_squares_ceiling(one)})
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:g}" for share in self.fits)
        return f"Growth: {count(len(self.recipes), 'recipe')} at shares {shares} of their compute"


def growth(
    fits: Fits,
    shares: Sequence[float] = SHARES,
    *,
    cores: int | None = None,
    backend: str | None = None,
    progress: bool | None = None,
) -> Growth:
    """Refit runs truncated at several shares of their compute.

    Parameters
    ----------
    fits : Fits
        Fits of the full runs; the truncated runs are fitted with the same priors, settings, seed and rules.
    shares : sequence of float
        Shares of each run's largest compute, between 0 and 1. Default .15, .25, .4, .6 and .8, about evenly spaced in
        ln C, the variable of the curve.
    cores, backend, progress
        As in `rlceiling.fit`.

    Returns
    -------
    Growth
        Fits by share.

    Raises
    ------
    DataError
        If a share is not between 0 and 1, or there are no fits.
    GrowthInterrupted
        On Ctrl-C; its ``growth`` contains the completed part.

    Examples
    --------
    >>> import rlceiling as rl
    >>> fits = rl.fit(rl.load_dataset("scalerl").select("ScaleRL"))  # doctest: +SKIP
    >>> rl.growth(fits).table()  # doctest: +SKIP
    """
    cuts = cut_runs("growth", fits.to_runs(), shares)
    first = next(iter(fits.values()))
    tries = RETRY_FACTOR if first.settings.retried else 1
    made: dict[float, Fits] = {}
    try:
        for share, whole in cuts.items():
            part = _in_last_stages(whole, fits)
            if part is None:
                continue
            made[share] = fit(
                part,
                {name: fits[name].priors for name in part.recipes},
                chains=first.settings.chains,
                tune=first.settings.tune // tries,
                draws=first.settings.draws // tries,
                seed=first.settings.seed,
                rules=first.rules,
                cores=cores,
                backend=backend,
                progress=progress,
            )
    except FitInterrupted as stop:
        raise GrowthInterrupted(Growth({**made, **({share: stop.fits} if stop.fits else {}), 1.0: fits})) from None
    return Growth({**made, 1.0: fits})


def _in_last_stages(runs: Runs, fits: Fits) -> Runs | None:
    """The recipes that are cut in their last stage, to which the ceilings belong; None if there are none."""
    kept = [name for name, members in runs.iter_recipes() if len(members[0].begins) == len(fits[name].begins)]
    return runs.select(*kept) if kept else None


def _least_squares_ceiling(fit: Fit) -> float:
    """Ceiling by least squares, with all runs of a recipe merged into one."""
    runs = [run.last_stage() for run in fit.runs]
    compute = np.concatenate([run.compute for run in runs])
    order = np.argsort(compute, kind="stable")
    reward = np.concatenate([run.reward for run in runs])[order]
    n_eval = np.concatenate([run.n_eval for run in runs])[order]
    start = next((run.start for run in runs if run.start is not None), None)
    pooled = Run(fit.name, "all", compute[order], reward, n_eval, start)
    return float(fit.units.unscale(least_squares(pooled, reward[:, None]).A[0]))
