"""Pooled recipes beside a plain sampling of the same joint posterior by NumPyro's NUTS.

python benchmarks/calibration/joint.py

Recipes are those of `scalerl`, cut at half of their train parts, where they learn most from each other. The plain
sampling has the density written out once more, and the coordinates that each recipe has alone, which do not follow the
hyperparameters. Results go to results/joint.json: for each hyperparameter, for each recipe's A, B and C_mid, and for
differences of ceilings the medians and 90% intervals of both, and how far the quantiles differ, in widths of the 90%
interval and in Monte Carlo errors.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from futures import show
from jax import Array
from numpyro import distributions as dist
from numpyro.infer import MCMC, NUTS
from results import record

import rlceiling as rl
from rlceiling.fitting.learn_priors import usable_fits
from rlceiling.fitting.study import Study
from rlceiling.inference.nuts import side_by_side
from rlceiling.models.family import log_posterior
from rlceiling.models.likeness import coordinate, log_slope
from rlceiling.models.population import LEAST_SPREAD, LIKE_PRIOR, groups_of
from rlceiling.models.recipe_family import RECIPE
from rlceiling.runs.table import FEWEST
from rlceiling.settings import SamplerSettings

CHAINS, TUNE, DRAWS = 2, 1500, 3000
POOLED = SamplerSettings(target_accept=0.9)
"""Settings of the package's sampling, the defaults of `rlceiling.fit`."""

QUANTILES = (0.05, 0.5, 0.95)
SHOWN = ("A", "B", "C_mid")


def half() -> rl.Runs:
    """Recipes up to half of their train parts, those that have enough evaluations there."""
    train = rl.load_dataset("scalerl")
    ends = {run.recipe: float(run.compute[-1]) for run in train.iter_runs()}
    table = train.table
    early = train.keep(table["compute"] <= 0.5 * table["recipe"].map(ends))
    number = early.table[early.table["compute"] > 0.0].groupby("recipe")["compute"].nunique()
    return early.select(*(name for name in early.recipes if number[name] >= FEWEST))


class Joint:
    """Log density of all recipes' coordinates and of the hyperparameters."""

    def __init__(self, fits: list[rl.Fit], study: Study) -> None:
        self.fits, self.names, self.prior = fits, study.names, study.prior
        self.groups = groups_of(study.names)
        self.origins = jnp.array([fit.log_origin + float(fit.data.x_prior) for fit in fits])
        plain = study.mild.distributions()
        given = [(fit.data, RECIPE.centre(fit.data), plain) for fit in fits]
        self.given = side_by_side(given)
        self.dimension = RECIPE.dimension(fits[0].data)[0]

    def unpacked(self, hyper: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
        """Centres, spreads, probabilities of the groups, and log density of them with the Jacobian."""
        own = jnp.exp(hyper["log_spread"])
        like = jax.nn.sigmoid(hyper["logit_like"])
        density = dist.Normal(self.prior.centre, self.prior.scale).log_prob(hyper["centre"]).sum()
        density += dist.Normal(self.prior.log_spread, self.prior.log_spread_sd).log_prob(hyper["log_spread"]).sum()
        density += (dist.Beta(*LIKE_PRIOR).log_prob(like) + jnp.log(like) + jnp.log1p(-like)).sum()
        return hyper["centre"], jnp.hypot(own, LEAST_SPREAD), like, density

    def potential(self, at: dict[str, Array]) -> Array:
        """Minus the log density."""
        mu, tau, like, density = self.unpacked(at)

        def of_recipe(z: Array, origin: Array, data: Any, centre: Any, priors: Any) -> Array:
            priors = dict(priors)
            sites, _ = RECIPE.to_sites(z, data, centre, priors)
            found = log_posterior(z, RECIPE, data, centre, priors)
            for column, places in enumerate(self.groups.values()):
                ratio = 0.0
                for k in places:
                    name = self.names[k]
                    value = sites["C_mid_ratio" if name == "C_mid" else name]
                    u = coordinate(name, value) + (origin if name == "C_mid" else 0.0)
                    mild = 0.0 if name == "R0" else priors[name].log_prob(value)  # every start was evaluated
                    ratio += dist.Normal(mu[k], tau[k]).log_prob(u) + log_slope(name, value, jnp) - mild
                found += jnp.logaddexp(jnp.log(like[column]) + ratio, jnp.log1p(-like[column]))
            return found

        return -density - jax.vmap(of_recipe)(at["z"], self.origins, *self.given).sum()

    def kept(self, z: Array) -> dict[str, Array]:
        """A, B and C_mid of every recipe, shape (recipes,), from their coordinates."""

        def of_recipe(z: Array, data: Any, centre: Any, priors: Any) -> dict[str, Array]:
            priors = dict(priors)
            own, _ = RECIPE.kept(RECIPE.to_sites(z, data, centre, priors)[0], data, priors)
            return {name: own[name] for name in SHOWN}

        return jax.vmap(of_recipe)(z, *self.given)


def joint_draws(joint: Joint, study: Study) -> tuple[dict[str, np.ndarray], float]:
    """Draws of the joint model, shape (chains, draws, ...), and the share of divergent transitions."""
    population = study.population
    start = {
        "z": jnp.zeros((CHAINS, len(joint.fits), joint.dimension)),
        "centre": jnp.tile(jnp.asarray(population.centre.mean(axis=0)), (CHAINS, 1)),
        "log_spread": jnp.tile(jnp.log(jnp.asarray(np.median(population.spread, axis=0))), (CHAINS, 1)),
        "logit_like": jnp.full((CHAINS, len(joint.groups)), 2.0),
    }
    kernel = NUTS(
        potential_fn=joint.potential, dense_mass=[("centre", "log_spread", "logit_like")], target_accept_prob=0.9
    )
    chain = MCMC(kernel, num_warmup=TUNE, num_samples=DRAWS, num_chains=CHAINS, chain_method="sequential")
    chain.run(jax.random.key(0), init_params=start, extra_fields=("diverging",))
    drawn = chain.get_samples(group_by_chain=True)
    kept = jax.jit(jax.vmap(jax.vmap(joint.kept)))(drawn["z"])
    spread = np.hypot(np.exp(np.asarray(drawn["log_spread"])), LEAST_SPREAD)
    found = {name: np.asarray(values) for name, values in kept.items()}
    found |= {"centre": np.asarray(drawn["centre"]), "spread": spread}
    return found, float(np.asarray(chain.get_extra_fields()["diverging"]).mean())


def compared(ours: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    """Quantiles of both, and their largest difference in widths of the 90% interval and in Monte Carlo errors."""
    found = {"package": ours, "plain": plain}
    at = {name: np.quantile(draws, QUANTILES) for name, draws in found.items()}
    off = at["package"] - at["plain"]
    errors = [
        np.hypot(*(float(array_stats.mcse(draws, method="quantile", prob=q)) for draws in found.values()))
        for q in QUANTILES
    ]
    row = {f"{name} {q:.0%}": v for name, values in at.items() for q, v in zip(QUANTILES, values, strict=True)}
    row["off, in widths"] = float(np.abs(off).max() / (at["plain"][2] - at["plain"][0]))
    row["off, in errors"] = float(np.max(np.abs(off) / errors))
    width = {name: values[2] - values[0] for name, values in at.items()}
    return row | {
        "ratio of widths": float(width["package"] / width["plain"]),
        **{f"ess of {name}": float(array_stats.ess(draws)) for name, draws in found.items()},
    }


def main() -> None:
    began = time.perf_counter()
    alone = rl.fit(half(), progress=False)
    fits = [fit for fit in usable_fits(alone) if fit.data.start is not None]
    fits = [fit for fit in fits if fit.data.runs.reward.shape == fits[0].data.runs.reward.shape]
    study, start = Study(fits, settings=POOLED, max_r_hat=np.inf), time.perf_counter()
    pooled, population = study.pooled(), study.population
    ours = time.perf_counter() - start
    with jax.enable_x64(True):
        start = time.perf_counter()
        joint = Joint(fits, study)
        drawn, divergent = joint_draws(joint, study)
        plain = time.perf_counter() - start
    rows = {}
    chains = (POOLED.chains, POOLED.draws)
    for part, own in (("centre", population.centre), ("spread", population.spread)):
        for k, name in enumerate(study.names):
            rows[f"{part} of {name}"] = compared(own[:, k].reshape(chains), drawn[part][..., k])
    for name in SHOWN:
        for i, fit in enumerate(fits):
            rows[f"{name} of {fit.name}"] = compared(pooled[fit.name].draws[name], drawn[name][..., i])
    first = fits[0].name
    for i, fit in enumerate(fits[1:], 1):
        own, other = (pooled[name].draws["A"] for name in (first, fit.name))
        rows[f"difference of {first} and {fit.name}"] = compared(own - other, drawn["A"][..., 0] - drawn["A"][..., i])
    table = pd.DataFrame(rows).T.rename_axis("parameter")
    kinds = table.groupby(table.index.str.split(" of ").str[0], sort=False)
    columns = ["off, in widths", "off, in errors", "ratio of widths", "ess of package", "ess of plain"]
    summary = kinds[columns].agg(["median", "max", "min"])
    lines = [
        f"{len(fits)} recipes, {joint.dimension * len(fits)} coordinates and {2 * len(study.names)} hyperparameters",
        f"divergent transitions of the plain sampling: {divergent:.2%}",
        f"the package took {ours:.0f} s and the plain sampling {plain:.0f} s",
    ]
    for line in lines:
        print(line)
    show("differences", summary)
    show("all", table)
    tables = {"differences": summary, "parameters": table}
    record("joint", "joint.py", tables, lines, time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
