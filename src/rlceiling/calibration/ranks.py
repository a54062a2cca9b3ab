"""Simulation-based calibration: ranks of the true parameters among posterior draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from arviz_stats.ecdf_utils import ecdf_pit

from rlceiling.curves.stages import stage_names, staged_curve
from rlceiling.models.paths import paths_at_evaluations
from rlceiling.posterior.fit import Fit

QUANTITIES = (
    *("A", "B", "C_mid", "R0", "sigma", "share", "length", "tail"),
    *("headroom_spread", "C_mid_spread", "B_spread", "sigma_spread"),
    *("run_A", "run_B", "run_C_mid", "run_sigma", "mu", "log_likelihood"),
)
"""Ranked quantities: the parameters of the recipe and of its first run, the curve of that run at `FAR` times its
largest compute, and the log likelihood of all runs, which detects errors in the likelihood that the ranks of the
parameters do not show."""

OF_RUN = ("A", "B", "C_mid", "sigma")
"""Parameters of a run."""

FAR = 10.0
"""Multiple of the largest compute at which the curve is ranked."""

THINNED = 100
"""Number of draws among which the truth is ranked, thinned so far that they are nearly independent."""

BAND_SIMULATIONS = 2000
"""Number of simulated uniform samples from which the width of the simultaneous band is computed."""


def rank_truths(fits: Mapping[str, Fit], truths: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Rank the true values of each recipe among the draws of its posterior.

    If the true values are drawn from the priors and the sampler is correct, every column is uniform on (0, 1).

    Parameters
    ----------
    fits : mapping of name to Fit
        Posteriors, under the priors from which the true values were drawn.
    truths : DataFrame
        From `simulate_from_priors`: index (recipe, run), rewards on [0, 1].
    seed : int, default 0
        Seed of the randomisation: a rank among n draws takes one of n + 1 values, and is randomised to be continuous
        on (0, 1).

    Returns
    -------
    DataFrame
        Index: name. Columns: `QUANTITIES`, and the parameters of earlier stages.

    References
    ----------
    Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration", arXiv 1804.06788.
    Modrak et al., "Simulation-based calibration checking for Bayesian computation: the choice of test quantities
    shapes sensitivity", Bayesian Analysis 2023, doi 10.1214/23-BA1404.
    """
    rng = np.random.default_rng(seed)
    rows = {}
    for name, fit in fits.items():
        step = max(1, fit.draws["A"].size // THINNED)
        thin = {k: v.reshape(-1)[::step] for k, v in fit.scaled_draws.items()}
        runs = [{k: v.reshape(-1)[::step] for k, v in fit.scaled_draws_of(run).items()} for run in fit.run_names]
        truth_rows = truths.loc[[name]].to_dict("records")
        true_runs = [{str(k): np.array([v]) for k, v in row.items()} for row in truth_rows]
        true = true_runs[0]
        true_runs = [{**row, **{k: row[f"run_{k}"] for k in OF_RUN}} for row in true_runs]
        few, truth = _quantities(fit, thin, runs), _quantities(fit, true, true_runs)
        ranked = (*QUANTITIES, *stage_names(len(fit.begins)))
        rows[name] = {q: (np.count_nonzero(few[q] < truth[q]) + rng.uniform()) / (len(few[q]) + 1) for q in ranked}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("recipe")


def outside_band(ranks: pd.DataFrame, prob: float = 0.95) -> pd.Series:
    """Largest distance of each column's distribution function outside the simultaneous band of uniform samples.

    Parameters
    ----------
    ranks : DataFrame
        From `rank_truths`.
    prob : float, default 0.95
        Probability that the distribution function of a uniform sample is inside the band everywhere.

    Returns
    -------
    Series
        For each column, the largest distance of its empirical distribution function from the band; 0 if it is inside.

    References
    ----------
    Saeilynoja, Buerkner, Vehtari, "Graphical test for discrete uniformity and its applications in goodness-of-fit
    evaluation and multiple sample comparison", Statistics and Computing 2022, doi 10.1007/s11222-022-10090-6.
    """
    places, lower, upper = simultaneous_band(len(ranks), prob)
    found = {}
    for name, values in ranks.items():
        ecdf = np.searchsorted(np.sort(values), places, side="right") / len(values)
        found[str(name)] = float(max(0.0, np.max(lower - ecdf), np.max(ecdf - upper)))
    return pd.Series(found, name="outside")


@lru_cache
def simultaneous_band(number: int, prob: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simultaneous band of the empirical distribution function of uniform numbers.

    Parameters
    ----------
    number : int
        Number of uniform numbers in a sample.
    prob : float, default 0.95
        Probability that the function is inside the band everywhere.

    Returns
    -------
    places, lower, upper : ndarray
        Points at which the function is evaluated, and the limits of the band there.

    References
    ----------
    Saeilynoja, Buerkner, Vehtari, as in `outside_band`.
    """
    # The band depends only on the number of ranks; the values passed to ArviZ do not matter.
    places, _, lower, upper = ecdf_pit(np.zeros(number), prob, BAND_SIMULATIONS)
    return places, lower, upper


def _quantities(
    fit: Fit, draws: Mapping[str, np.ndarray], runs: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Quantities that can be ranked, from draws of the recipe and of each of its runs."""
    first = runs[0]
    far = FAR * fit.runs[0].compute[-1]
    mu = staged_curve(far, first, fit.begins)
    log_likelihood = sum(
        paths_at_evaluations(fit.data, place, run).log_prob.sum(axis=1) for place, run in enumerate(runs)
    )
    of_first = {f"run_{name}": first[name] for name in OF_RUN}
    return {**draws, **of_first, "mu": np.asarray(mu), "log_likelihood": np.asarray(log_likelihood)}
