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
    transitions : int, default 0
        Number of transitions after warm-up, over all chains; 0 in files of versions that did not store it.

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
    transitions: int = 0

    @property
    def ess(self) -> float:
        """Smallest effective sample size."""
        return min(self.ess_bulk, self.ess_tail)

    @property
    def divergent_share(self) -> float:
        """Share of the transitions that diverged."""
        return self.divergences / max(self.transitions, 1)


@dataclass(frozen=True)
class ConvergenceRules:
    """Thresholds of the convergence diagnostics, the same for every family.

    Attributes
    ----------
    max_r_hat, min_ess, min_e_bfmi : float
        Limits beyond which the chains are considered not converged, from Vehtari et al. 2021 (R-hat 1.01, 100 effective
        draws per chain) and Betancourt 2016 (E-BFMI 0.3).
    max_divergences : float, default 0.005
        Largest accepted share of divergent transitions. So few cannot move an interval visibly, if the chains agree.
    """

    max_r_hat: float = 1.01
    min_ess: float = 400.0
    max_divergences: float = 0.005
    min_e_bfmi: float = 0.3

    def converged(self, c: Convergence) -> bool:
        """Whether all diagnostics are within their thresholds."""
        return not self.failures(c)

    def failures(self, c: Convergence) -> list[str]:
        """Diagnostics beyond their thresholds, each as a part of a sentence."""
        # NaN (from a chain that never moved) must fail, so every comparison is written as the condition to be met.
        met = {
            f"the chains do not agree (R-hat {c.r_hat:.3f}, below {self.max_r_hat:g} needed)": c.r_hat < self.max_r_hat,
            f"the chains hold few independent draws (smallest effective sample {c.ess:.0f}, {self.min_ess:g} needed)": (
                c.ess_bulk >= self.min_ess and c.ess_tail >= self.min_ess
            ),
            f"{c.divergences:,} of {c.transitions:,} transitions diverged (a share of {self.max_divergences:g} is "
            "accepted)": c.divergent_share <= self.max_divergences,
            f"the chains mix slowly in energy (E-BFMI {c.e_bfmi:.2f}, {self.min_e_bfmi:g} needed)": (
                c.e_bfmi >= self.min_e_bfmi
            ),
        }
        return [said for said, holds in met.items() if not holds]

    def sentence(self, c: Convergence) -> str:
        """Sentence on why the chains have not converged."""
        return f"{'; '.join(self.failures(c))}: nothing can be read off."


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
            transitions=int(np.size(diverging)),
        )
