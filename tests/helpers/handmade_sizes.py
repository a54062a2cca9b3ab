"""A posterior of the power law across model sizes, made by hand around a known law: it costs no sampling."""

from __future__ import annotations

import numpy as np

import rlceiling as rl
from rlceiling.runs import Run
from rlceiling.runs.grouping import SizeUnits
from rlceiling.settings import SIZE_SAMPLER, Settings

SIZES = (0.5, 1.5, 4.0, 12.0, 40.0)
RESOURCE = np.geomspace(1e17, 1e20, 14)
E_MAX, N0, SIGMA = 0.12, 8.0, 0.004
SHAPE = (4, 250)
LENIENT = rl.SizeRules(max_r_hat=9, min_ess=0, max_divergences=10**6, min_e_bfmi=0)


def made_sizes(
    sizes: tuple[float, ...] = SIZES, *, name: str = "model_size", rules: rl.SizeRules = LENIENT, notes: tuple = ()
) -> rl.Sizes:
    """Posterior around ``L = K(N) (X / X_ref)^-E(N)``; its verdict is SATURATION_SEEN with the rules of this module."""
    rng = np.random.default_rng(len(sizes))
    N = np.array(sizes)
    K, E = 0.6 - 0.05 * np.log(N), E_MAX / (1.0 + N0 / N)
    x = np.log(RESOURCE) - np.log(RESOURCE).mean()
    runs = []
    for size, k, e in zip(sizes, K, E, strict=True):
        reward = 1.0 - k * np.exp(-e * x) + SIGMA * rng.standard_normal(len(x))
        runs.append((Run(f"{size:g}", "0", RESOURCE, reward, np.full(len(x), np.nan), None),))

    def around(centre: np.ndarray | float, sd: float) -> np.ndarray:
        return np.asarray(centre) + sd * rng.standard_normal((*SHAPE, *np.shape(centre)))

    N_ref = np.exp(np.log(N).mean())
    draws = {"E_max": np.exp(around(np.log(E_MAX), 0.1)), "N0": np.exp(around(np.log(N0 / N_ref), 0.2))}
    draws |= {"sigma": np.exp(around(np.log(SIGMA), 0.1)), "ln_K_bend": np.exp(around(-2.5, 0.2))}
    draws |= {"E_spread": np.exp(around(-2.5, 0.2)), "sigma_spread": np.exp(around(-2.0, 0.2))}
    draws |= {"share": 0.3 * np.exp(around(0.0, 0.1)), "length": np.exp(around(np.log(0.5), 0.1))}
    columns = {"ln_K": around(np.log(K), 0.002), "ln_E": around(np.log(E), 0.03)}
    columns["ln_sigma"] = around(np.full(len(sizes), np.log(SIGMA)), 0.1)
    stats = {"diverging": np.zeros(SHAPE, bool), "energy": rng.standard_normal(SHAPE)}
    stats |= {key: np.ones(SHAPE) for key in ("acceptance_rate", "n_steps", "step_size")}
    return rl.Sizes(
        law="power law",
        sizes=tuple(sizes),
        runs=tuple(runs),
        units=SizeUnits(name, "flops", "pass_rate", (0.0, 1.0), lettered=False),
        priors=rl.PowerLawPriors(),
        rules=rules,
        settings=Settings(**SIZE_SAMPLER.sampler(), versions={"numpyro": "0"}),
        draws=draws,
        unit_draws=columns,
        sample_stats=stats,
        table_notes=notes,
    )
