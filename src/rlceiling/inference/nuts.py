"""All chains of one fit in one compiled program.

The program takes the recipe, the priors and the key as arguments, so fits of the same bucket length share it and a
new fit compiles nothing. Chains are lanes of `jax.lax.map`: under `vmap` every chain would wait for the slowest
trajectory. A fit is always the same program on the same numbers, whatever batch it belongs to.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer import NUTS

from rlceiling.models.coordinates import VARIES, Centre, dimension, least_squares_centre, to_natural
from rlceiling.models.recipe_data import RecipeData
from rlceiling.models.sigmoid import log_posterior


class Chains(NamedTuple):
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
"""Fields of `Chains` that are parameters of the recipe, in the order of tables."""

RUN_PARAMETERS = ("run_A", "run_B", "run_C_mid")
"""Fields of `Chains` that are parameters of its runs."""

SAMPLE_STATS = Chains._fields[len(PARAMETERS) + len(RUN_PARAMETERS) :]
"""Fields of `Chains` that say how the sampler fared."""

TARGET_ACCEPT = 0.95
"""Acceptance that the step size is tuned to. Short runs have a corner (a curve that saturates before the first
evaluation, the rest noise) where the steps that suffice elsewhere diverge now and then."""

WARM_UP_DEPTH, DEPTH = 6, 10
"""Longest trajectories, as powers of 2. Before the step size and the metric are known, trees grow to their limit and
would take as long as all later steps together; afterwards trajectories of 15 to 40 steps are usual."""

START_JITTER = 0.3
"""Standard deviation of the chains' starting points around the least-squares curve, in sampling coordinates:
wide against the posterior of the mean curve, so that R-hat can see chains that do not meet."""


def fit_key(seed: int, *names: str) -> np.ndarray:
    """Key data of one use of one fit: from the seed and names alone, never from a place in a batch."""
    digest = zlib.crc32("\0".join(names).encode())
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), digest)
    return np.asarray(jax.random.key_data(key))


def joined(z: Mapping[str, Array]) -> Array:
    """Blocks of coordinates as one vector."""
    return jnp.concatenate(list(z.values()), axis=-1)


def run_chain(
    key: Array,
    potential: Callable[[dict[str, Array]], Array],
    blocks: Mapping[str, int],
    dense_mass: bool | list[tuple[str, ...]],
    *,
    tune: int,
    draws: int,
    target_accept: float,
) -> tuple[Array, ...]:
    """One chain of NUTS, to be called inside a compiled function.

    Parameters
    ----------
    key : Array
        JAX key.
    potential : callable
        Minus the log density of blocks of coordinates, which are about standard normal.
    blocks : mapping of name to int
        Their lengths.
    dense_mass : bool or list of tuples of names
        As in NumPyro's NUTS.
    tune, draws, target_accept
        As in `sample`.

    Returns
    -------
    z : Array, shape (draws, dimension)
        Coordinates, the blocks one after the other.
    *stats : Array, shape (draws,)
        In the order of `SAMPLE_STATS`.
    """
    jitter_key, nuts_key = jax.random.split(key)
    kernel = NUTS(
        potential_fn=potential,
        dense_mass=dense_mass,
        target_accept_prob=target_accept,
        max_tree_depth=(WARM_UP_DEPTH, DEPTH),
    )
    place = START_JITTER * jax.random.normal(jitter_key, (sum(blocks.values()),))
    z = dict(zip(blocks, jnp.split(place, np.cumsum(list(blocks.values()))[:-1]), strict=True))
    state = kernel.init(nuts_key, tune, init_params=z, model_args=(), model_kwargs={})

    def step(state: Any, _: None) -> tuple[Any, tuple[Array, ...]]:
        state = kernel.sample(state, (), {})
        saved = (joined(state.z), state.diverging, state.energy, state.accept_prob, state.num_steps)
        return state, (*saved, state.adapt_state.step_size)

    # One loop over warm-up and draws: two would hold the program twice and take twice as long to compile.
    steps = jax.lax.scan(step, state, length=tune + draws)[1]
    return tuple(saved[tune:] for saved in steps)


@partial(jax.jit, static_argnames=("chains", "tune", "draws", "target_accept"))
def _sample(
    key_data: Array,
    centre: Centre,
    recipe: RecipeData,
    priors: Mapping[str, Any],
    *,
    chains: int,
    tune: int,
    draws: int,
    target_accept: float,
) -> Chains:
    priors = dict(priors)  # made here, outside the loops
    of_recipe = dimension(1)
    of_runs = dimension(centre.offsets.shape[0]) - of_recipe

    def potential(z: dict[str, Array]) -> Array:
        return -log_posterior(joined(z), recipe, centre, priors)

    def chain(key: Array) -> tuple[Array, ...]:
        # Offsets of runs are nearly independent by their coordinates; a dense metric for them would cost more time
        # than the gradient.
        blocks = {"recipe": of_recipe, "runs": of_runs}
        return run_chain(key, potential, blocks, [("recipe",)], tune=tune, draws=draws, target_accept=target_accept)

    key = jax.random.wrap_key_data(key_data, impl="threefry2x32")
    z, *stats = jax.lax.map(chain, jax.random.split(key, chains))
    natural = jax.vmap(jax.vmap(lambda point: to_natural(point, recipe, centre)[0]))(z)
    R0, headroom, offsets = natural.R0, natural.headroom, natural.offsets
    C_mid = natural.C_mid_ratio * jnp.exp(recipe.log_origin + recipe.x_prior)
    logit_headroom = jnp.log(headroom) - jnp.log1p(-headroom)
    run_headroom = jax.nn.sigmoid(logit_headroom[..., None] + offsets[..., 0])
    return Chains(
        R0=R0,
        A=R0 + (1.0 - R0) * headroom,
        headroom=headroom,
        B=natural.B,
        C_mid=C_mid,
        sigma=natural.sigma,
        share=natural.share,
        length=natural.length,
        **{f"{name}_spread": natural.spreads[..., i] for i, name in enumerate(VARIES)},
        run_A=R0[..., None] + (1.0 - R0[..., None]) * run_headroom,
        run_C_mid=C_mid[..., None] * jnp.exp(offsets[..., 1]),
        run_B=natural.B[..., None] * jnp.exp(offsets[..., 2]),
        **dict(zip(SAMPLE_STATS, stats, strict=True)),
    )


def sample(
    key_data: np.ndarray,
    recipe: RecipeData,
    priors: Mapping[str, Any],
    *,
    chains: int,
    tune: int,
    draws: int,
    target_accept: float = TARGET_ACCEPT,
) -> Chains:
    """Sample the posterior of one recipe.

    Parameters
    ----------
    key_data : ndarray
        From `fit_key`.
    recipe : RecipeData
        The recipe.
    priors : mapping of name to distribution
        From `SigmoidPriors.distributions`.
    chains, tune, draws : int
        Chains, warm-up steps a chain, draws kept a chain.
    target_accept : float, default 0.95
        Mean acceptance that the step size is tuned to.

    Returns
    -------
    Chains
        numpy arrays of float64.
    """
    # 64-bit mode for this computation alone; the caller's own setting stays as it is.
    with jax.enable_x64(True):
        out = _sample(
            key_data,
            least_squares_centre(recipe),
            recipe,
            priors,
            chains=chains,
            tune=tune,
            draws=draws,
            target_accept=target_accept,
        )
        return jax.tree.map(np.asarray, out)
