"""Draws from the posterior of recipes, several side by side if asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlceiling.inference.nuts import SAMPLE_STATS, run_chains, side_by_side, statistics
from rlceiling.models.coordinates import VARIES, Centre, dimension, least_squares_centre, to_natural
from rlceiling.models.recipe_data import RecipeData
from rlceiling.models.sigmoid import log_posterior


class Draws(NamedTuple):
    """Draws of one fit; arrays have shape (chains, draws), those of runs (chains, draws, lanes)."""

    R0: Any
    A: Any
    headroom: Any
    B: Any
    C_mid: Any
    sigma: Any
    share: Any
    length: Any
    headroom_spread: Any
    C_mid_spread: Any
    B_spread: Any
    run_A: Any
    run_B: Any
    run_C_mid: Any
    diverging: Any
    energy: Any
    acceptance_rate: Any
    n_steps: Any
    step_size: Any


PARAMETERS = ("A", "B", "C_mid", "R0", "headroom", "sigma", "share", "length") + tuple(f"{v}_spread" for v in VARIES)
"""Fields of `Draws` that are parameters of the recipe, in the order of tables."""

RUN_PARAMETERS = ("run_A", "run_B", "run_C_mid")
"""Fields of `Draws` that are parameters of its runs."""

TARGET_ACCEPT = 0.95
"""Acceptance that the step size is tuned to. Short runs have a corner (a curve that saturates before the first
evaluation, the rest noise) where the steps that suffice elsewhere diverge now and then."""


def recipe_density(recipe: RecipeData, centre: Centre, priors: Mapping[str, Any]) -> Callable[[Array], Array]:
    """Minus the log posterior density of the sampling coordinates of one recipe."""
    priors = dict(priors)  # made here, once
    return lambda z: -log_posterior(z, recipe, centre, priors)


@jax.jit
def _natural(rows: Array, recipes: RecipeData, centres: Centre) -> dict[str, Array]:
    """Parameters and statistics of rows, shape (fits, chains, draws, ...)."""

    def of_point(z: Array, recipe: RecipeData, centre: Centre) -> dict[str, Array]:
        natural, _ = to_natural(z, recipe, centre)
        R0, offsets = natural.R0, natural.offsets
        C_mid = natural.C_mid_ratio * jnp.exp(recipe.log_origin + recipe.x_prior)
        logit_headroom = jnp.log(natural.headroom) - jnp.log1p(-natural.headroom)
        return {
            "R0": R0,
            "A": R0 + (1.0 - R0) * natural.headroom,
            "headroom": natural.headroom,
            "B": natural.B,
            "C_mid": C_mid,
            "sigma": natural.sigma,
            "share": natural.share,
            "length": natural.length,
            **{f"{name}_spread": natural.spreads[i] for i, name in enumerate(VARIES)},
            "run_A": R0 + (1.0 - R0) * jax.nn.sigmoid(logit_headroom + offsets[:, 0]),
            "run_C_mid": C_mid * jnp.exp(offsets[:, 1]),
            "run_B": natural.B * jnp.exp(offsets[:, 2]),
        }

    of_fit = jax.vmap(jax.vmap(of_point, in_axes=(0, None, None)), in_axes=(0, None, None))
    places, stats = rows[..., : -len(SAMPLE_STATS)], rows[..., -len(SAMPLE_STATS) :]
    return jax.vmap(of_fit)(places, recipes, centres) | statistics(stats)


def sample(
    key_data: Sequence[np.ndarray],
    recipes: Sequence[RecipeData],
    priors: Mapping[str, Any],
    *,
    chains: int,
    tune: int,
    draws: int,
    target_accept: float = TARGET_ACCEPT,
) -> list[Draws]:
    """Sample the posteriors of recipes side by side, in one program.

    Parameters
    ----------
    key_data : sequence of ndarray
        From `fit_key`, one a recipe.
    recipes : sequence of RecipeData
        Recipes whose arrays have the same shapes.
    priors : mapping of name to distribution
        From `SigmoidPriors.distributions`.
    chains, tune, draws : int
        Chains, warm-up steps a chain, draws kept a chain. None of them is part of the program but the first; with
        ``tune=draws=0`` it is compiled and nothing else done.
    target_accept : float, default 0.95
        Mean acceptance that the step size is tuned to.

    Returns
    -------
    list of Draws
        numpy arrays of float64, one a recipe.
    """
    # 64-bit mode for this computation alone; the caller's own setting stays as it is.
    with jax.enable_x64(True):
        stacked = side_by_side([(recipe, least_squares_centre(recipe), priors) for recipe in recipes])
        lanes = len(recipes[0].order)
        of_windows = []
        for rows, made in run_chains(
            np.stack(key_data),
            stacked,
            recipe_density,
            chains=chains,
            dimension=dimension(lanes),
            # Offsets of runs are nearly independent by their coordinates; a dense metric for them would cost more time
            # than the gradient.
            dense=dimension(1),
            tune=tune,
            draws=draws,
            target_accept=target_accept,
        ):
            natural = _natural(rows, *stacked[:2])
            of_windows.append({name: np.asarray(values)[:, :, :made] for name, values in natural.items()})
    whole = {name: np.concatenate([part[name] for part in of_windows], axis=2) for name in of_windows[0]}
    return [Draws(**{name: values[i] for name, values in whole.items()}) for i in range(len(recipes))]
