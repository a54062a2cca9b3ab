"""Chances between simulated recipes come true, and would not if the spread between runs were left out."""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist

import rlceiling as rl
from handmade import rules_of
from rlceiling.calibration.simulate import simulate_from_priors
from rlceiling.decisions.chances import chance_of_draws
from slow import in_miniature_too

PAIRS = 150
BRIEF = {"chains": 2, "tune": 100, "draws": 100, "rules": rules_of(rl.Verdict.IDENTIFIED), "progress": False}
SPREAD = 0.1


def spiegelhalter_z(p: np.ndarray, true: np.ndarray) -> float:
    """Brier score minus its mean if the chances are true, in standard deviations (Spiegelhalter 1986).

    Standard normal for chances that come true, positive for overconfident ones. doi 10.1002/sim.4780050506
    """
    return float(((true - p) * (1 - 2 * p)).sum() / np.sqrt(((1 - 2 * p) ** 2 * p * (1 - p)).sum()))


@in_miniature_too
def test_probabilities_are_calibrated_only_with_between_run_sd(full: bool) -> None:
    pairs = PAIRS if full else 6
    # Little noise, so that it is the spread of runs that decides.
    priors = rl.SigmoidPriors(sigma=dist.HalfNormal(0.005), headroom_spread=dist.HalfNormal(SPREAD))
    runs, truths = simulate_from_priors(2 * pairs, 1000.0 * np.arange(1, 31) / 30, priors, seed=7)
    recipe_ceiling = truths["A"].droplevel("run")
    rng = np.random.default_rng(7)

    fits = rl.fit(runs, priors, **({} if full else BRIEF))
    # Neighbours, so that there is something to be unsure of; a choice by data alone leaves true chances true.
    ordered = fits.summary().sort_values("A")
    names = list(ordered.index[ordered["verdict"] == "IDENTIFIED"])
    asked = []
    for i in range(0, len(names) - 7, 8):
        asked += [rng.permutation([names[j], names[j + 4]]) for j in range(i, i + 4)]
    chances = [fits.chance_higher(*pair) for pair in asked]
    assert len(chances) >= pairs // 3
    assert all(c.conclusive for c in chances)
    p = np.array([c.probability for c in chances])
    without = np.array([chance_of_draws(*(fits[name].run_draws["A"][..., 0] for name in pair))[0] for pair in asked])
    true = np.array([recipe_ceiling[a] > recipe_ceiling[b] for a, b in asked], float)

    if not full:
        assert all(0.0 < chance < 1.0 for chance in p)
        assert all(0.0 <= chance <= 1.0 for chance in without)
        assert np.isfinite(spiegelhalter_z(p, true))
        return
    assert abs(spiegelhalter_z(p, true)) < 3
    assert spiegelhalter_z(np.clip(without, 1e-3, 1 - 1e-3), true) > 4
    assert ((true - p) ** 2).mean() < min(0.25, ((true - without) ** 2).mean())
