"""Posteriors made by hand around known curves, for tests of what is done with them: they cost no sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import rlceiling as rl
from rlceiling.curves import sigmoid_curve
from rlceiling.posterior.verdicts import Reason
from rlceiling.runs import Run
from rlceiling.runs.units import Units
from rlceiling.settings import Settings

THETA = {"B": 1.8, "C_mid": 2000.0, "R0": 0.4, "sigma": 0.004, "share": 0.5, "length": 0.5, "tail": 1.0}
SPREADS = ("headroom_spread", "C_mid_spread", "B_spread", "sigma_spread")
COMPUTE = np.geomspace(250.0, 40_000.0, 14)
CHAINS, DRAWS = 4, 500


def rules_of(verdict: rl.Verdict) -> rl.VerdictRules:
    """Rules by which any posterior has this verdict, if its convergence and checks can be computed."""
    steps = {
        rl.Verdict.NOT_CONVERGED: {"min_ess": np.inf},
        rl.Verdict.NO_RISE: {"min_p_rise": 2.0},
        rl.Verdict.NOT_A_SIGMOID: {"max_second_rise": -1.0},
        rl.Verdict.PRE_INFLECTION: {"min_p_reach": 2.0},
        rl.Verdict.IDENTIFIED: {},
    }
    passed = {"max_r_hat": np.inf, "min_ess": 0.0, "max_divergences": 10**9, "min_e_bfmi": -np.inf}
    passed |= {"min_p_rise": 0.0, "max_bad_share": np.inf, "decided": 2.0, "min_p_reach": 0.0, "max_width": np.inf}
    passed |= {"min_last_fall": np.inf, "max_second_rise": np.inf, "min_ceiling_log_ratio": -np.inf}
    return rl.VerdictRules(**passed | steps[verdict])


def given(fit: rl.Fit, **properties: object) -> rl.Fit:
    """A fit whose cached properties, such as `verdict`, have these values, whatever its draws say.

    For posteriors too simple to have any of their own: all draws the same, or only some parameters.
    """
    other = replace(fit)
    if "verdict" in properties:
        properties |= {"reasons": tuple(reason for reason in Reason if reason.verdict is properties["verdict"])[-1:]}
    for name, value in properties.items():
        assert name in {"verdict", "reasons", "checks", "chance_identified"}
        other.__dict__[name] = value
    return other


def made_run(recipe: str, run: str, ceiling: float, compute: np.ndarray = COMPUTE) -> Run:
    """A run around its curve, rewards on [0, 1]."""
    rng = np.random.default_rng([ord(c) for c in recipe + run])
    curve = sigmoid_curve(compute, ceiling, THETA["B"], THETA["C_mid"], THETA["R0"])
    reward = curve + THETA["sigma"] * rng.standard_normal(len(compute))
    return Run(recipe, run, compute, reward, np.full(len(compute), np.nan), (THETA["R0"], np.nan))


def made_fit(
    runs: Sequence[Run],
    ceilings: Sequence[float],
    *,
    spread: float = 0.1,
    units: Units | None = None,
    verdict: rl.Verdict | None = None,
) -> rl.Fit:
    """A posterior that has converged around the true curves.

    Ceilings, which differ by a shared part and parts of their own, have a standard deviation of about .004 each; the
    recipe's is their mean.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one recipe, as `made_run` makes them.
    ceilings : sequence of float
        True ceiling of each, on [0, 1].
    spread : float
        Posterior mean of each standard deviation between runs.
    units : Units, optional
        Default: pass rates and GPU-hours.
    verdict : Verdict, optional
        What its rules make of it, instead of what the default ones would.
    """
    units = units or Units("gpu_hours", "pass_rate", (0.0, 1.0))
    rng = np.random.default_rng([len(runs), *(ord(c) for c in runs[0].recipe)])
    shape = (CHAINS, DRAWS)

    def around(centre: float, of: float = 0.02) -> np.ndarray:
        return centre * np.exp(of * rng.standard_normal(shape))

    shared = 0.003 * rng.standard_normal(shape)
    own = np.stack([ceiling + shared + 0.003 * rng.standard_normal(shape) for ceiling in ceilings], -1)
    draws = {name: around(value) for name, value in THETA.items() if name != "R0"}
    draws |= {"R0": THETA["R0"] + 0.001 * rng.standard_normal(shape), "A": own.mean(axis=-1)}
    draws["headroom"] = (draws["A"] - draws["R0"]) / (1.0 - draws["R0"])
    draws |= {name: around(spread, 0.1) for name in SPREADS}
    run_draws = {"A": own}
    of_runs = ("B", "C_mid", "sigma")
    run_draws |= {k: draws[k][..., None] * np.exp(0.01 * rng.standard_normal(own.shape)) for k in of_runs}
    stats = {"diverging": np.zeros(shape, bool), "energy": rng.standard_normal(shape)}
    stats |= {name: np.ones(shape) for name in ("acceptance_rate", "n_steps", "step_size")}
    fit = rl.Fit(
        name=runs[0].recipe,
        runs=tuple(runs),
        units=units,
        priors=rl.SigmoidPriors(),
        settings=Settings(CHAINS, 1000, DRAWS, versions={"numpyro": "0"}),
        draws=units.unscale_draws(draws),
        unit_draws=units.unscale_draws(run_draws),
        sample_stats=stats,
    )
    return fit if verdict is None else replace(fit, rules=rules_of(verdict))


def made_recipe(name: str, ceilings: Sequence[float], **options: object) -> rl.Fit:
    """A recipe with a run "1", "2" ... for each ceiling."""
    runs = [made_run(name, str(place), ceiling) for place, ceiling in enumerate(ceilings, start=1)]
    return made_fit(runs, ceilings, **options)  # type: ignore[arg-type]
