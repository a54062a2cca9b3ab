"""Vectorised NUTS: many chains in one loop, without synchronising their trajectories.

Under `vmap` of a textbook sampler every chain waits for the longest trajectory. Here the loop is over gradient steps
instead: a chain whose trajectory has ended begins its next one while others continue, so that no chain is idle before
the end of a window of transitions. The number of transitions, the target acceptance and the metric are arguments of one
compiled program, which is used for warm-up, draws and retries.

References
----------
Hoffman and Gelman, "The No-U-Turn Sampler", JMLR 15, 2014 (trajectories, dual averaging). Betancourt, "A Conceptual
Introduction to Hamiltonian Monte Carlo", arXiv 1701.02434 (multinomial weights, generalised turning criterion). Phan,
Pradhan and Jankowiak, arXiv 1912.11554 (trees without recursion). Dance, Glaser, Orbanz and Adams, "Efficiently
Vectorized MCMC on Modern Accelerators", arXiv 2503.17405 (chains as state machines).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlceiling.inference.trajectory import DEPTH, Point, TrajectoryState, Tree, average, begin, grow, join, pick


class TransitionStats(NamedTuple):
    """Sampler statistics stored with each draw: the last columns of the sampler's output, in this order."""

    diverging: Any
    """Whether the trajectory diverged."""
    energy: Any
    """Energy (Hamiltonian) of the draw."""
    acceptance_rate: Any
    """Mean acceptance probability over the points of the trajectory."""
    n_steps: Any
    """Number of leapfrog steps."""
    step_size: Any


WINDOW = 250
"""Largest number of transitions in one call of the program."""

WARM_UP_DEPTH = 6
"""Largest tree depth during warm-up (trajectories of up to 2**6 leapfrog steps). Before the step size and the metric
are adapted, trees grow to their limit and would take as long as all later steps together."""

START_JITTER = 0.3
"""Standard deviation of the initial points of the chains around 0. It is wide compared with the posterior of the mean
curve in sampling coordinates, so that R-hat can detect chains that have not mixed."""

FEW_LANES = 16
"""Up to this number of lanes, rows of tables are copied one by one, which on CPU is faster than gather or scatter."""

FIRST_STEP = 0.1
"""Initial step size of dual averaging."""

Density = Callable[..., Callable[[Array], Array]]
"""Arguments of one fit -> potential (minus the log density of its coordinates), shape (dimension,) -> scalar."""


class Metric(NamedTuple):
    """Cholesky factor of the inverse mass matrix of each fit: dense for the leading coordinates, then diagonal."""

    root: Any
    """Lower Cholesky factor of the dense block, shape (fits, dense, dense)."""
    scale: Any
    """Standard deviations of the other coordinates, shape (fits, dimension - dense)."""


class Chains(NamedTuple):
    """State of the chains between two windows: one lane per chain, the chains of a fit in adjacent lanes."""

    key_data: Any
    """Key data of each chain, shape (lanes, 2)."""
    transitions: Any
    """Number of transitions so far, shape (lanes,)."""
    z: Any
    """Position, shape (lanes, dimension)."""
    potential: Any
    """Potential at the position, shape (lanes,)."""
    gradient: Any
    """Gradient of the potential, shape (lanes, dimension)."""
    log_step: Any
    """Logarithm of the step size, shape (lanes,)."""
    metric: Metric


class WindowSettings(NamedTuple):
    """Settings of one window; scalars, so that one compiled program serves all windows."""

    transitions: Any
    """Number of transitions of each chain, at most WINDOW."""
    first: Any
    """Whether chains are first moved to their random initial points."""
    adapt: Any
    """Whether step sizes are adapted."""
    learn: Any
    """Whether the metric is estimated from the draws of this window."""
    target_accept: Any
    max_depth: Any


def _scaled(metric: Metric, lanes: Array, *, transposed: bool = False) -> Array:
    """Cholesky factor of the inverse mass matrix, or its transpose, times vectors of shape (lanes, dimension)."""
    fits, dense = metric.root.shape[:2]
    of_fits = lanes.reshape(fits, -1, lanes.shape[-1])
    root = metric.root if transposed else jnp.swapaxes(metric.root, -1, -2)
    # An explicit sum, because the overhead of a matrix product call exceeds its arithmetic at this size.
    first = (of_fits[..., :dense, None] * root[:, None]).sum(-2)
    if dense == lanes.shape[-1]:
        return first.reshape(lanes.shape)
    return jnp.concatenate([first, of_fits[..., dense:] * metric.scale[:, None]], axis=-1).reshape(lanes.shape)


def _uniform(seeds: Array, counter: Array) -> Array:
    """Counter-based uniform numbers on [0, 1): SplitMix64 (Steele, Lea and Flood, doi 10.1145/2660193.2660195)."""
    x = seeds + (counter.astype(jnp.uint64) + 1) * jnp.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> 30)) * jnp.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> 27)) * jnp.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> 31)) >> 11).astype(float) * 2.0**-53


def _row(table: Array, place: Array) -> Array:
    """Gather: ``table[lane, place[lane]]`` of each lane."""
    if len(table) > FEW_LANES:
        return jax.vmap(lambda one, i: one[i])(table, place)
    return jnp.stack([jax.lax.dynamic_index_in_dim(table[i], place[i], keepdims=False) for i in range(len(table))])


def _with_row(table: Array, row: Array, place: Array) -> Array:
    """Functional update: ``table[lane, place[lane]] = row[lane]`` of each lane."""
    if len(table) > FEW_LANES:
        return table.at[jnp.arange(len(table)), place].set(row)
    for i in range(len(table)):
        table = jax.lax.dynamic_update_slice(table, row[None, i : i + 1], (i, place[i], 0))
    return table


def _learn(places: Array, transitions: Array, dense: int) -> Metric:
    """Estimate the metric from the draws of a window, shape (fits, chains, WINDOW, dimension), pooling the chains."""
    weight = (jnp.arange(WINDOW) < transitions) / (transitions * places.shape[1])
    off = places - jnp.einsum("fknd,n->fd", places, weight)[:, None, None]
    covariance = jnp.einsum("fkni,fknj,n->fij", off[..., :dense], off[..., :dense], weight)
    variance = jnp.einsum("fknd,n->fd", off[..., dense:] ** 2, weight)
    # Shrunk towards a small multiple of the identity, as in Stan, which matters in short windows.
    count = transitions * places.shape[1]
    kept, added = count / (count + 5.0), 5e-3 / (count + 5.0)
    return Metric(jnp.linalg.cholesky(kept * covariance + added * jnp.eye(dense)), jnp.sqrt(kept * variance + added))


@partial(jax.jit, static_argnames=("density",), compiler_options={"xla_backend_optimization_level": 1})
def window(chains: Chains, given: Any, settings: WindowSettings, *, density: Density) -> tuple[Chains, Array]:
    """Advance every chain by one window of transitions.

    Parameters
    ----------
    chains : Chains
        State before the window.
    given : pytree
        Arguments of `density`, each array with a leading axis of fits.
    settings : WindowSettings
        Number of transitions, and which adaptations are done.
    density : callable
        Returns the potential of one fit from its arguments.

    Returns
    -------
    Chains
        State after the window.
    Array, shape (fits, chains, WINDOW, dimension + len(TransitionStats._fields))
        Positions and sampler statistics; rows beyond the number of transitions are undefined.
    """
    fits, dense = chains.metric.root.shape[:2]
    lanes, dimension = chains.z.shape
    zero, none = jnp.zeros(lanes), jnp.zeros(lanes, int)
    keys = jax.vmap(lambda data: jax.random.wrap_key_data(data, impl="threefry2x32"))(chains.key_data)
    keys = jax.vmap(jax.random.fold_in)(keys, chains.transitions)
    # JAX generates random numbers in loops of many small steps on CPU, so momenta are drawn before the loop.
    normals = jax.vmap(lambda key: jax.random.normal(key, (WINDOW + 1, dimension)))(keys)
    momenta, start = normals[:, :WINDOW], normals[:, WINDOW]
    high, low = jnp.moveaxis(jax.vmap(jax.random.key_data)(keys).astype(jnp.uint64), -1, 0)
    seeds = (high << 32) | low

    def evaluate(z: Array) -> tuple[Array, Array]:
        of_fit = jax.vmap(lambda one, z: jax.vmap(jax.value_and_grad(density(*one)))(z))
        value, gradient = of_fit(given, z.reshape(fits, -1, dimension))
        return value.reshape(lanes), gradient.reshape(lanes, dimension)

    def step(state: tuple[Array, TrajectoryState, Array]) -> tuple[Array, TrajectoryState, Array]:
        number, trajectory, rows = state
        uniform = _uniform(seeds, 4 * number + jnp.arange(4)[:, None])
        direction, next_direction = jnp.where(uniform[:2] < 0.5, -1.0, 1.0)
        begins = trajectory.idle & (trajectory.done < settings.transitions)
        trajectory = begin(trajectory, begins, _row(momenta, trajectory.done), direction)

        step_size = jnp.exp(trajectory.averaging[0])
        signed = jnp.where(trajectory.idle, 0.0, trajectory.direction * step_size)[:, None]
        p = trajectory.current.p - 0.5 * signed * _scaled(chains.metric, trajectory.current.gradient, transposed=True)
        z = trajectory.current.z + signed * _scaled(chains.metric, p)
        value, gradient = evaluate(z)
        p = p - 0.5 * signed * _scaled(chains.metric, gradient, transposed=True)

        grown, diverges, turns = grow(trajectory, Point(z, p, gradient), value, uniform[2])
        moves = ~trajectory.idle & (trajectory.direction != 0.0)
        initialising = ~trajectory.idle & (trajectory.direction == 0.0)
        complete = moves & ~diverges & ~turns & (grown.leaf == 1 << grown.depth)
        grown, tree_turns = join(grown, complete, uniform[3], next_direction)
        ends = moves & (diverges | turns | tree_turns | (grown.depth >= settings.max_depth))

        # The row is overwritten at each step until the trajectory has ended.
        tree = grown.tree
        transition_stats = TransitionStats(
            diverges, tree.energy, grown.accepted / grown.leaves, grown.leaves, step_size
        )
        row = jnp.concatenate([tree.z, jnp.stack([v.astype(float) for v in transition_stats], axis=-1)], axis=-1)
        rows = _with_row(rows, row, trajectory.done)
        after = grown._replace(
            idle=trajectory.idle | initialising | ends,
            done=trajectory.done + ends,
            tree=pick(initialising, tree._replace(potential=value, gradient=gradient), tree),
            averaging=pick(
                ends & settings.adapt, average(grown, settings.target_accept, pulled_to), trajectory.averaging
            ),
        )
        return number + 1, after, rows

    z = jnp.where(settings.first, START_JITTER * start, chains.z)
    point = Point(z, jnp.zeros_like(z), jnp.zeros_like(z))
    tree = Tree(z, chains.potential, chains.gradient, zero, zero, jnp.zeros_like(z))
    pulled_to = chains.log_step + jnp.log(10.0)
    saved = jnp.zeros((lanes, DEPTH, dimension))
    trajectory = TrajectoryState(
        idle=jnp.broadcast_to(~settings.first, (lanes,)),
        done=none,
        current=point,
        direction=zero,
        leaf=none,
        depth=none,
        first=point,
        last=point,
        tree=tree,
        subtree=tree,
        p_saved=saved,
        sum_saved=saved,
        origin=zero,
        accepted=zero,
        leaves=none,
        averaging=(chains.log_step, chains.log_step, zero),
    )
    rows = jnp.zeros((lanes, WINDOW + 1, dimension + len(TransitionStats._fields)))
    _, trajectory, rows = jax.lax.while_loop(
        lambda state: (state[1].done < settings.transitions).any(), step, (jnp.array(0), trajectory, rows)
    )

    rows = rows[:, :WINDOW].reshape(fits, -1, WINDOW, rows.shape[-1])
    learnt = _learn(rows[..., :dimension], settings.transitions, dense)
    # The chains of a fit share one adapted step size; each adapts it on its own within a window.
    averaged = trajectory.averaging[1].reshape(fits, -1)
    shared = jnp.broadcast_to(averaged.mean(axis=1, keepdims=True), averaged.shape).reshape(lanes)
    after = Chains(
        key_data=chains.key_data,
        transitions=chains.transitions + trajectory.done,
        z=trajectory.tree.z,
        potential=trajectory.tree.potential,
        gradient=trajectory.tree.gradient,
        log_step=jnp.where(settings.adapt, shared, chains.log_step),
        metric=jax.tree.map(partial(jnp.where, settings.learn), learnt, chains.metric),
    )
    return after, rows


def windows(tune: int) -> list[tuple[int, bool]]:
    """Lengths of the warm-up windows, and whether the metric is estimated from each.

    As in Stan: a first and a last window adapt the step size only, and windows of increasing length between them also
    estimate the metric. Adaptation pools the chains of a fit, so a window contains several times the information of a
    single chain.
    """
    first, last = min(max(15, tune * 3 // 40), WINDOW), min(max(25, tune // 20), WINDOW)
    lengths, left, length = [], tune - first - last, 25
    while left >= 3 * length:
        lengths.append(min(length, WINDOW))
        left, length = left - lengths[-1], 2 * length
    parts = -(-left // WINDOW)
    lengths += [left * (k + 1) // parts - left * k // parts for k in range(parts)]
    return [(first, False), *((length, True) for length in lengths), (last, False)]


def start(key_data: np.ndarray, chains: int, dimension: int, dense: int) -> Chains:
    """Initial state of the chains, before their first window."""
    fits = len(key_data)
    lanes = fits * chains
    return Chains(
        key_data=np.asarray(_lane_keys(key_data, chains)),
        transitions=np.zeros(lanes, int),
        z=np.zeros((lanes, dimension)),
        potential=np.zeros(lanes),
        gradient=np.zeros((lanes, dimension)),
        log_step=np.full(lanes, np.log(FIRST_STEP)),
        metric=Metric(np.tile(np.eye(dense), (fits, 1, 1)), np.ones((fits, dimension - dense))),
    )


def run_chains(
    key_data: np.ndarray,
    given: Any,
    density: Density,
    *,
    chains: int,
    dimension: int,
    dense: int,
    tune: int,
    draws: int,
    target_accept: float,
) -> Iterator[tuple[Any, int]]:
    """Sample several fits in one batch; must be called in 64-bit mode.

    Parameters
    ----------
    key_data : ndarray, shape (fits, 2)
        From `rlceiling.inference.stream_keys.stream_key`.
    given : pytree
        Arguments of `density`, each array with a leading axis of fits.
    density : callable
        Returns the potential of one fit from its arguments: a function from coordinates, shape (dimension,),
        approximately standard normal, to minus their log density. It must be the same object in every call, such as a
        module-level function, because the compiled program is cached by it.
    chains : int
        Number of chains per fit.
    dimension, dense : int
        Number of coordinates, and size of the leading block in which the metric is dense.
    tune, draws : int
        Number of warm-up steps and of draws of each chain.
    target_accept : float
        Mean acceptance probability to which the step size is adapted.

    Yields
    ------
    rows : Array, shape (fits, chains, WINDOW, dimension + len(TransitionStats._fields))
        Coordinates and sampler statistics of the next draws.
    int
        Number of the rows that are draws.
    """
    state = start(key_data, chains, dimension, dense)
    for i, (length, learns) in enumerate(windows(tune) if tune else ()):
        settings = WindowSettings(length, i == 0, True, learns, target_accept, WARM_UP_DEPTH)
        state, _ = window(state, given, settings, density=density)
    for made in range(0, max(draws, 1), WINDOW):
        length = min(WINDOW, draws - made)
        state, rows = window(
            state, given, WindowSettings(length, False, False, False, target_accept, DEPTH), density=density
        )
        yield rows, length


@partial(jax.jit, static_argnames=("chains",))
def _lane_keys(key_data: Array, chains: int) -> Array:
    keys = jax.vmap(lambda data: jax.random.split(jax.random.wrap_key_data(data, impl="threefry2x32"), chains))
    return jax.random.key_data(keys(key_data)).reshape(-1, 2)


def side_by_side(fits: Sequence[Any]) -> Any:
    """Stack the arrays of several fits along a new leading axis."""
    return jax.tree.map(lambda *arrays: np.stack(arrays), *fits)


def statistics(columns: Any) -> dict[str, Any]:
    """Sampler statistics by name, from the last columns of the sampler's output."""
    stats = TransitionStats(*(columns[..., i] for i in range(len(TransitionStats._fields))))
    return stats._replace(diverging=stats.diverging > 0.0, n_steps=stats.n_steps.astype(int))._asdict()
