"""Simulated runs with known parameters, generated without the likelihood code: the noise is one dense normal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import truncnorm

from rlceiling.curves.sigmoid import sigmoid_curve
from rlceiling.curves.stages import OF_STAGE, staged_curve
from rlceiling.errors import DataError
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.noise import BAD_SCALE
from rlceiling.models.pooling import CORE, FREEDOM
from rlceiling.models.recipe_priors import SigmoidPriors
from rlceiling.models.run_data import RESOLUTION, evaluation_sd
from rlceiling.runs import Runs, read_runs

START = (0.4, 16_000.0)
"""Step-0 evaluation of simulated runs (reward, n_eval), as of the 8B runs of ScaleRL."""

SPARE = 2
"""Number of recipes drawn per requested recipe, twice as many if they have several runs; recipes with a reward outside
[0, 1] are rejected."""


def simulate_rewards(
    compute: np.ndarray,
    truth: Mapping[Any, float],
    rng: np.random.Generator,
    eval_var: float = 0.0,
    bad_share: float = 0.0,
    begins: Sequence[float] = (0.0,),
) -> np.ndarray:
    r"""Simulate the rewards of one run: its curve plus autocorrelated and white noise.

    .. math::
        y \sim \mathrm{Normal}(R(C),\; \sigma^2 [s\, e^{-|x - x'| / \ell} + (1 - s) I] + v I), \qquad x = \ln C

    Parameters
    ----------
    compute : ndarray, shape (n,)
        Compute of the evaluations, positive.
    truth : mapping of name to float
        A, B, C_mid, R0, the tail (1 if it is left out) and the noise parameters sigma, share ``s`` and length ``l``;
        rewards on [0, 1]. Of several stages, the parameters as in `rlceiling.curves.stages`.
    rng : numpy Generator
        Source of the noise.
    eval_var : float, default 0
        Variance ``v`` of the evaluation error.
    bad_share : float, default 0
        Probability that an evaluation is bad: it then lies around the curve with a Cauchy distribution (see
        `rlceiling.models.noise`).
    begins : sequence of float, default (0,)
        Compute at which each stage begins.

    Returns
    -------
    ndarray, shape (n,)
        Rewards, not clipped to [0, 1].
    """
    x = np.log(compute)
    variance, share = truth["sigma"] ** 2, truth["share"]
    covariance = share * variance * np.exp(-np.abs(x[:, None] - x) / truth["length"])
    covariance += np.eye(len(x)) * ((1.0 - share) * variance + eval_var)
    curve = staged_curve(compute, {"tail": 1.0, **truth}, np.asarray(begins))
    rewards = curve + np.linalg.cholesky(covariance) @ rng.standard_normal(len(x))
    if bad_share > 0.0:
        bad = rng.random(len(x)) < bad_share
        far = BAD_SCALE * np.sqrt(variance + eval_var) * rng.standard_cauchy(len(x))
        rewards = np.where(bad, curve + far, rewards)
    return np.asarray(rewards)


def simulate_from_priors(
    number: int,
    compute: np.ndarray,
    priors: SigmoidPriors | None = None,
    *,
    runs: int = 1,
    start: tuple[float, float] | None = START,
    begins: Sequence[float] = (0.0,),
    seed: int = 0,
) -> tuple[Runs, pd.DataFrame]:
    """Simulate recipes from the priors, for simulation-based calibration.

    Recipes with a reward outside [0, 1] are rejected. The rejection depends only on the data, so it does not change the
    posterior of the remaining recipes, and the ranks of the true values stay uniform.

    Parameters
    ----------
    number : int
        Number of recipes.
    compute : ndarray, shape (n,)
        Compute of the evaluations, positive, ascending; the same for all runs.
    priors : SigmoidPriors, optional
        Default `SigmoidPriors()`.
    runs : int, default 1
        Number of runs per recipe.
    start : (float, float) or None, default (0.4, 16000)
        Step-0 reward and its number of samples, which determine the prior of R0 and are shared by the runs of a recipe;
        None if step 0 is not logged. The other evaluations have unknown n_eval.
    begins : sequence of float, default (0,)
        Compute at which each stage begins, values of `compute` after the first; several only for recipes with one run.
    seed : int, default 0
        Seed of the random numbers; the same seed gives the same runs.

    Returns
    -------
    runs : Runs
        Recipes ``"0"``, ``"1"``, ..., each with runs ``"0"``, ``"1"``, ...
    truths : DataFrame
        Index: recipe and run. Columns: A, B, C_mid, R0, headroom, sigma, share, length, tail, headroom_spread,
        C_mid_spread, B_spread and sigma_spread of the recipe; run_A, run_B, run_C_mid and run_sigma of the run; with
        several stages also the parameters of the stages before the last (see `rlceiling.curves.stages`).

    Raises
    ------
    DataError
        If too few recipes drawn from the priors have all rewards between 0 and 1.
    """
    priors = SigmoidPriors() if priors is None else priors
    spare = SPARE * number * (1 if runs == 1 else 2)
    drawn = _draw(priors, spare, compute, start, seed)
    rng = np.random.default_rng(seed)
    truths: list[dict[Any, Any]] = []
    tables: list[pd.DataFrame] = []
    kept = 0
    for recipe in drawn.to_dict("records"):
        members = [_draw_run(recipe, rng) for _ in range(runs)]
        if len(begins) > 1:
            recipe, members = _with_stages(recipe, members[0], priors, compute, begins, rng)
        rewards = [
            simulate_rewards(compute, {**recipe, **run}, rng, RESOLUTION**2, priors.bad_share, begins)
            for run in members
        ]
        if min(map(np.min, rewards)) < 0.0 or max(map(np.max, rewards)) > 1.0:
            continue
        for i, (run, values) in enumerate(zip(members, rewards, strict=True)):
            table = pd.DataFrame({"compute": compute, "reward": values, "n_eval": np.nan})
            if start is not None:
                table.loc[-1] = [0.0, *start]
            if len(begins) > 1:
                table["stage"] = np.maximum(np.searchsorted(begins, table["compute"]), 1)
            tables.append(table.assign(recipe=str(kept), run=str(i)))
            own = {f"run_{name}": value for name, value in run.items()}
            truths.append({**recipe, **own, "recipe": str(kept), "run": str(i)})
        kept += 1
        if kept == number:
            break
    if kept < number:
        raise DataError(
            f"only {kept} of {spare} recipes drawn from the priors stay between 0 and 1; give priors of headroom and "
            "sigma that leave room."
        )
    return read_runs(pd.concat(tables)), pd.DataFrame(truths).set_index(["recipe", "run"])


def _draw_run(recipe: Mapping[Any, float], rng: np.random.Generator) -> dict[str, float]:
    """Draw A, B, C_mid and sigma of one run of a recipe."""
    by_headroom, by_C_mid, by_B, by_sigma = CORE * rng.standard_t(FREEDOM, 4)
    headroom = expit(logit(recipe["headroom"]) + recipe["headroom_spread"] * by_headroom)
    return {
        "A": recipe["R0"] + (1.0 - recipe["R0"]) * headroom,
        "B": recipe["B"] * np.exp(recipe["B_spread"] * by_B),
        "C_mid": recipe["C_mid"] * np.exp(recipe["C_mid_spread"] * by_C_mid),
        "sigma": recipe["sigma"] * np.exp(recipe["sigma_spread"] * by_sigma),
    }


def _with_stages(
    recipe: Mapping[Any, float],
    run: Mapping[str, float],
    priors: SigmoidPriors,
    compute: np.ndarray,
    begins: Sequence[float],
    rng: np.random.Generator,
) -> tuple[dict[Any, float], list[dict[str, float]]]:
    """Draw the stages of a run before the last, and move the last to the level that they reach."""
    distributions = priors.distributions()
    headroom_of_run = (run["A"] - recipe["R0"]) / (1.0 - recipe["R0"])
    level, found = recipe["R0"], dict(recipe)
    stage = np.searchsorted(begins, compute) - 1

    def origin(k: int) -> float:
        return priors.C_mid_origin or float(np.exp(np.log(compute[stage == k] - begins[k]).mean()))

    for k, (begin, end) in enumerate(pairwise(begins)):
        with double_precision_on_cpu():
            headroom, ratio = (
                float(distributions[name].sample(jax.random.key(rng.integers(2**31)))) for name in ("headroom", "C_mid")
            )
        own = (level + (1.0 - level) * headroom, origin(k) * ratio, level, headroom)
        found |= {f"{name}_{k + 1}": value for name, value in zip(OF_STAGE, own, strict=True)}
        level = float(sigmoid_curve(end - begin, own[0], run["B"], own[1], level, recipe["tail"]))
    moved = origin(len(begins) - 1) / (priors.C_mid_origin or float(np.exp(np.log(compute).mean())))
    found |= {"R0": level, "A": level + (1.0 - level) * recipe["headroom"], "C_mid": recipe["C_mid"] * moved}
    of_run = {"A": level + (1.0 - level) * headroom_of_run, "C_mid": run["C_mid"] * moved}
    return found, [{**run, **of_run}]


def _draw(
    priors: SigmoidPriors, number: int, compute: np.ndarray, start: tuple[float, float] | None, seed: int
) -> pd.DataFrame:
    distributions = priors.distributions()
    names = list(distributions)
    keys = jax.random.split(jax.random.key(seed, impl="threefry2x32"), len(names))
    with double_precision_on_cpu():
        drawn = {
            name: np.asarray(distributions[name].sample(key, (number,))) for name, key in zip(names, keys, strict=True)
        }
    if start is not None:
        reward, n_eval = np.array(start[0]), np.array(start[1])
        white_sd = drawn["sigma"] * np.sqrt(1.0 - drawn["share"])
        known = np.hypot(evaluation_sd(reward, n_eval, priors.evaluation_error), RESOLUTION)
        sd = np.hypot(RESOLUTION, white_sd) if np.isnan(n_eval) else known
        rng = np.random.default_rng([seed, 1])
        drawn["R0"] = truncnorm.rvs(-reward / sd, (1.0 - reward) / sd, reward, sd, size=number, random_state=rng)
    origin = priors.C_mid_origin or float(np.exp(np.log(compute).mean()))
    drawn["C_mid"] = origin * drawn["C_mid"]
    drawn["A"] = drawn["R0"] + (1.0 - drawn["R0"]) * drawn["headroom"]
    return pd.DataFrame(drawn)
