"""Convergence diagnostics of one fit, computed with ArviZ, and their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Convergence:
    """Convergence diagnostics; the worst value over all parameters unless noted.

    Attributes
    ----------
    r_hat : float
        Largest rank-normalised split R-hat.
    ess_bulk, ess_tail : float
        Smallest effective sample size of the bulk and of the 5% and 95% quantiles.
    divergences : int
        Number of divergent transitions after warm-up, over all chains.
    e_bfmi : float
        Smallest energy Bayesian fraction of missing information of any chain.

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

    def sentence(self) -> str:
        """Sentence on why the chains have not converged."""
        return (
            f"the chains do not agree (R-hat {self.r_hat:.3f}, smallest effective sample "
            f"{min(self.ess_bulk, self.ess_tail):.0f}, {self.divergences} divergences), so nothing can be read off."
        )


@dataclass(frozen=True)
class ConvergenceRules:
    """Thresholds of the convergence diagnostics, the same for every family.

    Attributes
    ----------
    max_r_hat, min_ess, max_divergences, min_e_bfmi
        Limits beyond which the chains are considered not converged, from Vehtari et al. 2021 (R-hat 1.01, 100 effective
        draws per chain) and Betancourt 2016 (E-BFMI 0.3).
    """

    max_r_hat: float = 1.01
    min_ess: float = 400.0
    max_divergences: int = 0
    min_e_bfmi: float = 0.3

    def converged(self, c: Convergence) -> bool:
        """Whether all diagnostics are within their thresholds."""
        # NaN (from a chain that never moved) must fail, so every comparison is written as the condition to be met.
        return (
            c.r_hat < self.max_r_hat
            and c.ess_bulk >= self.min_ess
            and c.ess_tail >= self.min_ess
            and c.divergences <= self.max_divergences
            and c.e_bfmi >= self.min_e_bfmi
        )


def diagnose(draws: Mapping[str, np.ndarray], diverging: np.ndarray, energy: np.ndarray) -> Convergence:
    """Compute the diagnostics from arrays of shape (chains, draws)."""
    # Imported here, because a saved posterior holds its diagnostics and ArviZ takes longer than most questions to it.
    from arviz_stats.base import array_stats

    stacked = np.stack(list(draws.values()))
    # A chain that never moved gives 0 / 0, and squares of the energies of a chain that ran off overflow. The resulting
    # NaN fails every threshold, as it should.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return Convergence(
            r_hat=float(np.max(array_stats.rhat(stacked))),
            ess_bulk=float(np.min(array_stats.ess(stacked, method="bulk"))),
            ess_tail=float(np.min(array_stats.ess(stacked, method="tail", prob=(0.05, 0.95)))),
            divergences=int(np.sum(diverging)),
            e_bfmi=float(np.min(array_stats.bfmi(energy))),
        )
