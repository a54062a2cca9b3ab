"""Convergence diagnostics of one fit, by ArviZ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats


@dataclass(frozen=True)
class Convergence:
    """What the chains say about themselves; the worst over all parameters unless said otherwise.

    Attributes
    ----------
    r_hat : float
        Largest rank-normalised split R-hat.
    ess_bulk, ess_tail : float
        Smallest effective sample size of the bulk and of the 5% and 95% quantiles.
    divergences : int
        Divergent transitions after warm-up, all chains together.
    e_bfmi : float
        Smallest energy Bayesian fraction of missing information of a chain.

    References
    ----------
    Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat for assessing
    convergence of MCMC", Bayesian Analysis 2021, doi 10.1214/20-BA1221. Betancourt, "Diagnosing suboptimal
    cotangent disintegrations in Hamiltonian Monte Carlo", arXiv 1604.00695.
    """

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    e_bfmi: float


def diagnose(draws: Mapping[str, np.ndarray], diverging: np.ndarray, energy: np.ndarray) -> Convergence:
    """Diagnose arrays of shape (chains, draws)."""
    stacked = np.stack(list(draws.values()))
    # A chain that never moved divides zero by zero, and one that is lost has energies whose squares overflow; NaN fails
    # every threshold, which is what it should do.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return Convergence(
            r_hat=float(np.max(array_stats.rhat(stacked))),
            ess_bulk=float(np.min(array_stats.ess(stacked, method="bulk"))),
            ess_tail=float(np.min(array_stats.ess(stacked, method="tail", prob=(0.05, 0.95)))),
            divergences=int(np.sum(diverging)),
            e_bfmi=float(np.min(array_stats.bfmi(energy))),
        )
