"""NUTS for many chains in one loop, each at its own pace.

Under `vmap` of a textbook sampler every chain waits for the longest trajectory. Here the loop is over gradient steps
instead: a chain whose trajectory has ended begins its next one while others go on, so that none waits before the end of
a window of transitions. The number of transitions, the acceptance to tune to and the metric are arguments of one
compiled program, which serves warm-up, draws and second tries.

References
----------
Hoffman and Gelman, "The No-U-Turn Sampler", JMLR 15, 2014 (trajectories, dual averaging). Betancourt, "A Conceptual
Introduction to Hamiltonian Monte Carlo", arXiv 1701.02434 (multinomial weights, generalised turning criterion). Phan,
Pradhan and Jankowiak, arXiv 1912.11554 (trees without recursion). Dance, Glaser, Orbanz and Adams, "Efficiently
Vectorized MCMC on Modern Accelerators", arXiv 2503.17405 (chains as state machines).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

SAMPLE_STATS = ("diverging", "energy", "acceptance_rate", "n_steps", "step_size")
"""What is saved of each transition beside the place it leads to."""

WINDOW = 250
"""Most transitions in one call of the program."""

WARM_UP_DEPTH, DEPTH = 6, 10
"""Longest trajectories, as powers of 2. Before the step size and the metric are known, trees grow to their limit and
would take as long as all later steps together; afterwards trajectories of 15 to 40 steps are usual."""

MAX_ENERGY_ERROR = 1000.0
"""Trajectories whose energy has grown by more are divergent."""

START_JITTER = 0.3
"""Standard deviation of the chains' starting points around 0: wide against the posterior of the mean curve in sampling
coordinates, so that R-hat can see chains that do not meet."""

FEW_LANES = 16
"""Up to so many lanes, rows of tables are moved one by one: on CPU that is faster than a gather or scatter."""

FIRST_STEP = 0.1
"""Step size that dual averaging begins from."""

Density = Callable[..., Callable[[Array], Array]]
"""From the arguments of one fit to minus the log density of its coordinates, shape (dimension,) -> scalar."""


def fit_key(seed: int, *names: str) -> np.ndarray:
    """Key data of one use of one fit: from the seed and names alone, never from a place in a batch."""
    digest = zlib.crc32("\0".join(names).encode())
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), digest)
    return np.asarray(jax.random.key_data(key))


class Metric(NamedTuple):
    """Root of the covariance that steps are scaled by, of each fit: dense for the first coordinates."""

    root: Any
    """Lower Cholesky factor of the dense part, shape (fits, dense, dense)."""
    scale: Any
    """Standard deviations of the other coordinates, shape (fits, dimension - dense)."""


class Chains(NamedTuple):
    """Chains between two windows; one lane a chain, those of a fit side by side."""

    key_data: Any
    """Shape (lanes, 2)."""
    transitions: Any
    """Transitions so far, shape (lanes,)."""
    z: Any
    """Place, shape (lanes, dimension)."""
    potential: Any
    """Shape (lanes,)."""
    gradient: Any
    """Shape (lanes, dimension)."""
    log_step: Any
    """Logarithm of the step size, shape (lanes,)."""
    metric: Metric


class How(NamedTuple):
    """What a window does; scalars, so that one program serves all windows."""

    transitions: Any
    """Transitions of each chain, at most WINDOW."""
    first: Any
    """Whether chains are put to their starting points first."""
    adapt: Any
    """Whether step sizes are tuned."""
    learn: Any
    """Whether the metric is learnt from this window."""
    target_accept: Any
    max_depth: Any


class Point(NamedTuple):
    """A point of a trajectory."""

    z: Array
    p: Array
    """Momentum, in coordinates in which the metric is the identity."""
    gradient: Array


class Tree(NamedTuple):
    """Points of a trajectory, and the one drawn from them."""

    z: Array
    potential: Array
    gradient: Array
    energy: Array
    log_weight: Array
    p_sum: Array
    """Sum of the momenta of all points."""


class Walk(NamedTuple):
    """State of the loop; the first axis of every array is lanes."""

    waits: Array
    """Whether the lane has no trajectory: it begins one, or has made all its transitions."""
    done: Array
    """Transitions of this window."""
    here: Point
    """Where the subtree that is being built has come to."""
    side: Array
    """1 if it grows forwards in time, -1 if backwards, 0 if the lane only looks where it stands."""
    leaf: Array
    """Points of the subtree."""
    depth: Array
    """Doublings of the tree."""
    first: Point
    """Earliest point of the tree."""
    last: Point
    """Latest point of the tree."""
    tree: Tree
    subtree: Tree
    p_saved: Array
    """Momenta at the left ends of subtrees that are not complete, shape (lanes, DEPTH, dimension)."""
    sum_saved: Array
    """Sums of momenta up to there."""
    origin: Array
    """Energy at which the trajectory began."""
    accepted: Array
    """Sum of acceptance probabilities over its points."""
    leaves: Array
    """Its points but the first."""
    averaging: tuple[Array, Array, Array]
    """Dual averaging: logarithm of the step size, its average, average error."""


def _pick(mask: Array, yes: Any, no: Any) -> Any:
    """`yes` in the lanes of `mask`, `no` elsewhere."""

    def one(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (jnp.ndim(b) - 1)), a, b)

    return jax.tree.map(one, yes, no)


def _turns(p_first: Array, p_last: Array, p_sum: Array) -> Array:
    """Whether a piece of trajectory comes back on itself, from the momenta at its ends and the sum of all."""
    inner = p_sum - 0.5 * (p_first + p_last)
    return ((p_first * inner).sum(-1) <= 0.0) | ((p_last * inner).sum(-1) <= 0.0)


def _begin(walk: Walk, begins: Array, p: Array, side: Array) -> Walk:
    """Begin a trajectory in the lanes of `begins`, with momentum `p`."""
    zero = jnp.zeros_like(side)
    point = Point(walk.tree.z, p, walk.tree.gradient)
    energy = walk.tree.potential + 0.5 * (p * p).sum(-1)
    fresh = walk._replace(
        waits=jnp.zeros_like(walk.waits),
        here=point,
        side=side,
        leaf=jnp.zeros_like(walk.leaf),
        depth=jnp.zeros_like(walk.depth),
        first=point,
        last=point,
        tree=walk.tree._replace(energy=energy, log_weight=zero, p_sum=p),
        subtree=walk.subtree._replace(log_weight=zero - jnp.inf, p_sum=jnp.zeros_like(p)),
        origin=energy,
        accepted=zero,
        leaves=jnp.zeros_like(walk.leaves),
    )
    return _pick(begins, fresh, walk)


def _grow(walk: Walk, here: Point, value: Array, uniform: Array) -> tuple[Walk, Array, Array]:
    """Take a new point into the subtree: walk, whether the trajectory diverges there, whether the subtree turns."""
    sub, p = walk.subtree, here.p
    energy = value + 0.5 * (p * p).sum(-1)
    error = energy - walk.origin
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    log_weight = jnp.logaddexp(sub.log_weight, -error)
    drawn = jnp.log(uniform) < -error - log_weight
    p_sum = sub.p_sum + p
    sub = _pick(drawn, Tree(here.z, value, here.gradient, energy, log_weight, p_sum), sub)

    # Even leaves are left ends of subtrees; odd ones end as many subtrees as their number has ones at its end.
    row, odd = jnp.arange(DEPTH), walk.leaf % 2 == 1
    newest = jax.lax.population_count(walk.leaf >> 1)
    ended = jax.lax.population_count(walk.leaf ^ (walk.leaf + 1)) - 1
    saves = ((row == newest[:, None]) & ~odd[:, None])[..., None]
    p_saved = jnp.where(saves, p[:, None], walk.p_saved)
    sum_saved = jnp.where(saves, p_sum[:, None], walk.sum_saved)
    turns = _turns(p_saved, p[:, None], p_sum[:, None] - sum_saved + p_saved)
    ends_here = (row <= newest[:, None]) & (row > (newest - ended)[:, None])
    walk = walk._replace(
        here=here,
        leaf=walk.leaf + 1,
        subtree=sub._replace(log_weight=log_weight, p_sum=p_sum),
        p_saved=p_saved,
        sum_saved=sum_saved,
        accepted=walk.accepted + jnp.minimum(1.0, jnp.exp(-error)),
        leaves=walk.leaves + 1,
    )
    return walk, error > MAX_ENERGY_ERROR, odd & (turns & ends_here).any(-1)


def _join(walk: Walk, joins: Array, uniform: Array, side: Array) -> tuple[Walk, Array]:
    """Join a complete subtree to the tree: walk, whether the tree turns. The next one grows from the end of `side`."""
    tree, sub = walk.tree, walk.subtree
    taken = joins & (jnp.log(uniform) < sub.log_weight - tree.log_weight)
    log_weight, p_sum = jnp.logaddexp(tree.log_weight, sub.log_weight), tree.p_sum + sub.p_sum
    first = _pick(joins & (walk.side < 0.0), walk.here, walk.first)
    last = _pick(joins & (walk.side > 0.0), walk.here, walk.last)
    joined = walk._replace(
        here=_pick(side > 0.0, last, first),
        side=side,
        leaf=jnp.zeros_like(walk.leaf),
        depth=walk.depth + 1,
        tree=_pick(taken, sub, tree)._replace(log_weight=log_weight, p_sum=p_sum),
        subtree=sub._replace(log_weight=jnp.full_like(sub.log_weight, -jnp.inf), p_sum=jnp.zeros_like(p_sum)),
    )
    walk = _pick(joins, joined, walk)._replace(first=first, last=last)
    return walk, joins & _turns(first.p, last.p, walk.tree.p_sum)


def _average(walk: Walk, target_accept: Array, pulled_to: Array) -> tuple[Array, Array, Array]:
    """Dual averaging after a trajectory, with the constants of Hoffman and Gelman."""
    _, log_average, lag = walk.averaging
    count = walk.done + 1.0
    share = 1.0 / (count + 10.0)
    lag = (1.0 - share) * lag + share * (target_accept - walk.accepted / walk.leaves)
    log_step = pulled_to - jnp.sqrt(count) / 0.05 * lag
    newest = count**-0.75
    return log_step, newest * log_step + (1.0 - newest) * log_average, lag


def _scaled(metric: Metric, lanes: Array, *, transposed: bool = False) -> Array:
    """Root of the covariance, or its transpose, times vectors of shape (lanes, dimension)."""
    fits, dense = metric.root.shape[:2]
    of_fits = lanes.reshape(fits, -1, lanes.shape[-1])
    root = metric.root if transposed else jnp.swapaxes(metric.root, -1, -2)
    # Summed by hand: a call of a matrix product takes longer than its arithmetic.
    first = (of_fits[..., :dense, None] * root[:, None]).sum(-2)
    if dense == lanes.shape[-1]:
        return first.reshape(lanes.shape)
    return jnp.concatenate([first, of_fits[..., dense:] * metric.scale[:, None]], axis=-1).reshape(lanes.shape)


def _uniform(seeds: Array, counter: Array) -> Array:
    """Uniform numbers of a counter: SplitMix64 (Steele, Lea and Flood, doi 10.1145/2660193.2660195)."""
    x = seeds + (counter.astype(jnp.uint64) + 1) * jnp.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> 30)) * jnp.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> 27)) * jnp.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> 31)) >> 11).astype(float) * 2.0**-53


def _row(table: Array, place: Array) -> Array:
    """``table[lane, place[lane]]`` of each lane."""
    if len(table) > FEW_LANES:
        return jax.vmap(lambda one, i: one[i])(table, place)
    return jnp.stack([jax.lax.dynamic_index_in_dim(table[i], place[i], keepdims=False) for i in range(len(table))])


def _with_row(table: Array, row: Array, place: Array) -> Array:
    """Set it."""
    if len(table) > FEW_LANES:
        return table.at[jnp.arange(len(table)), place].set(row)
    for i in range(len(table)):
        table = jax.lax.dynamic_update_slice(table, row[None, i : i + 1], (i, place[i], 0))
    return table


def _learn(places: Array, transitions: Array, dense: int) -> Metric:
    """Metric from the places of a window, shape (fits, chains, WINDOW, dimension), all chains of a fit together."""
    weight = (jnp.arange(WINDOW) < transitions) / (transitions * places.shape[1])
    off = places - jnp.einsum("fknd,n->fd", places, weight)[:, None, None]
    covariance = jnp.einsum("fkni,fknj,n->fij", off[..., :dense], off[..., :dense], weight)
    variance = jnp.einsum("fknd,n->fd", off[..., dense:] ** 2, weight)
    # Towards a small multiple of the identity, as in Stan, for windows of few transitions.
    count = transitions * places.shape[1]
    kept, added = count / (count + 5.0), 5e-3 / (count + 5.0)
    return Metric(jnp.linalg.cholesky(kept * covariance + added * jnp.eye(dense)), jnp.sqrt(kept * variance + added))


@partial(jax.jit, static_argnames=("density",), compiler_options={"xla_backend_optimization_level": 1})
def window(chains: Chains, given: Any, how: How, *, density: Density) -> tuple[Chains, Array]:
    """Make some transitions of every chain.

    Parameters
    ----------
    chains : Chains
        Where they stand.
    given : pytree
        Arguments of `density`, each array with a first axis of fits.
    how : How
        What to do.
    density : callable
        Makes the potential of one fit from its arguments.

    Returns
    -------
    Chains
        Where they stand afterwards.
    Array, shape (fits, chains, WINDOW, dimension + len(SAMPLE_STATS))
        Places and statistics; rows beyond the number of transitions mean nothing.
    """
    fits, dense = chains.metric.root.shape[:2]
    lanes, dimension = chains.z.shape
    zero, none = jnp.zeros(lanes), jnp.zeros(lanes, int)
    keys = jax.vmap(lambda data: jax.random.wrap_key_data(data, impl="threefry2x32"))(chains.key_data)
    keys = jax.vmap(jax.random.fold_in)(keys, chains.transitions)
    # Random numbers of JAX are loops of many small steps on CPU, so momenta are drawn before the loop.
    normals = jax.vmap(lambda key: jax.random.normal(key, (WINDOW + 1, dimension)))(keys)
    momenta, start = normals[:, :WINDOW], normals[:, WINDOW]
    high, low = jnp.moveaxis(jax.vmap(jax.random.key_data)(keys).astype(jnp.uint64), -1, 0)
    seeds = (high << 32) | low

    def evaluate(z: Array) -> tuple[Array, Array]:
        of_fit = jax.vmap(lambda one, z: jax.vmap(jax.value_and_grad(density(*one)))(z))
        value, gradient = of_fit(given, z.reshape(fits, -1, dimension))
        return value.reshape(lanes), gradient.reshape(lanes, dimension)

    def step(state: tuple[Array, Walk, Array]) -> tuple[Array, Walk, Array]:
        number, walk, rows = state
        uniform = _uniform(seeds, 4 * number + jnp.arange(4)[:, None])
        side, next_side = jnp.where(uniform[:2] < 0.5, -1.0, 1.0)
        begins = walk.waits & (walk.done < how.transitions)
        walk = _begin(walk, begins, _row(momenta, walk.done), side)

        step_size = jnp.exp(walk.averaging[0])
        signed = jnp.where(walk.waits, 0.0, walk.side * step_size)[:, None]
        p = walk.here.p - 0.5 * signed * _scaled(chains.metric, walk.here.gradient, transposed=True)
        z = walk.here.z + signed * _scaled(chains.metric, p)
        value, gradient = evaluate(z)
        p = p - 0.5 * signed * _scaled(chains.metric, gradient, transposed=True)

        grown, diverges, turns = _grow(walk, Point(z, p, gradient), value, uniform[2])
        walks = ~walk.waits & (walk.side != 0.0)
        looks = ~walk.waits & (walk.side == 0.0)
        complete = walks & ~diverges & ~turns & (grown.leaf == 1 << grown.depth)
        grown, tree_turns = _join(grown, complete, uniform[3], next_side)
        ends = walks & (diverges | turns | tree_turns | (grown.depth >= how.max_depth))

        # A row is written until the trajectory has ended.
        tree = grown.tree
        told = diverges, tree.energy, grown.accepted / grown.leaves, grown.leaves, step_size
        row = jnp.concatenate([tree.z, jnp.stack([v.astype(float) for v in told], axis=-1)], axis=-1)
        rows = _with_row(rows, row, walk.done)
        after = grown._replace(
            waits=walk.waits | looks | ends,
            done=walk.done + ends,
            tree=_pick(looks, tree._replace(potential=value, gradient=gradient), tree),
            averaging=_pick(ends & how.adapt, _average(grown, how.target_accept, pulled_to), walk.averaging),
        )
        return number + 1, after, rows

    z = jnp.where(how.first, START_JITTER * start, chains.z)
    point = Point(z, jnp.zeros_like(z), jnp.zeros_like(z))
    tree = Tree(z, chains.potential, chains.gradient, zero, zero, jnp.zeros_like(z))
    pulled_to = chains.log_step + jnp.log(10.0)
    saved = jnp.zeros((lanes, DEPTH, dimension))
    walk = Walk(
        waits=jnp.broadcast_to(~how.first, (lanes,)),
        done=none,
        here=point,
        side=zero,
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
    rows = jnp.zeros((lanes, WINDOW + 1, dimension + len(SAMPLE_STATS)))
    _, walk, rows = jax.lax.while_loop(
        lambda state: (state[1].done < how.transitions).any(), step, (jnp.array(0), walk, rows)
    )

    rows = rows[:, :WINDOW].reshape(fits, -1, WINDOW, rows.shape[-1])
    learnt = _learn(rows[..., :dimension], how.transitions, dense)
    # Chains of a fit share what they learn, and go on alone.
    averaged = walk.averaging[1].reshape(fits, -1)
    shared = jnp.broadcast_to(averaged.mean(axis=1, keepdims=True), averaged.shape).reshape(lanes)
    after = Chains(
        key_data=chains.key_data,
        transitions=chains.transitions + walk.done,
        z=walk.tree.z,
        potential=walk.tree.potential,
        gradient=walk.tree.gradient,
        log_step=jnp.where(how.adapt, shared, chains.log_step),
        metric=jax.tree.map(partial(jnp.where, how.learn), learnt, chains.metric),
    )
    return after, rows


def windows(tune: int) -> list[tuple[int, bool]]:
    """Lengths of the windows of warm-up, and whether the metric is learnt from each.

    As in Stan: a first and a last one for the step size alone, and between them ever longer ones for the metric. Chains
    of a fit learn together, so a window tells several times as much as one of a chain alone.
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
    """Chains before their first window."""
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
    """Sample several fits side by side; to be called in 64-bit mode.

    Parameters
    ----------
    key_data : ndarray, shape (fits, 2)
        From `fit_key`.
    given : pytree
        Arguments of `density`, each array with a first axis of fits.
    density : callable
        Makes the potential of one fit from its arguments: coordinates, shape (dimension,), about standard normal, to
        minus their log density. A function of a module, or every call compiles anew.
    chains : int
        Chains of a fit.
    dimension, dense : int
        Number of coordinates, and for how many of them, the first, the metric is dense.
    tune, draws : int
        Warm-up steps and draws of each chain.
    target_accept : float
        Mean acceptance that the step size is tuned to.

    Yields
    ------
    rows : Array, shape (fits, chains, WINDOW, dimension + len(SAMPLE_STATS))
        Coordinates and statistics of the next draws.
    int
        How many of the rows are draws.
    """
    state = start(key_data, chains, dimension, dense)
    for i, (length, learns) in enumerate(windows(tune) if tune else ()):
        how = How(length, i == 0, True, learns, target_accept, WARM_UP_DEPTH)
        state, _ = window(state, given, how, density=density)
    for made in range(0, max(draws, 1), WINDOW):
        length = min(WINDOW, draws - made)
        state, rows = window(state, given, How(length, False, False, False, target_accept, DEPTH), density=density)
        yield rows, length


@partial(jax.jit, static_argnames=("chains",))
def _lane_keys(key_data: Array, chains: int) -> Array:
    keys = jax.vmap(lambda data: jax.random.split(jax.random.wrap_key_data(data, impl="threefry2x32"), chains))
    return jax.random.key_data(keys(key_data)).reshape(-1, 2)


def side_by_side(fits: Sequence[Any]) -> Any:
    """Stack the arrays of several fits along a new first axis."""
    return jax.tree.map(lambda *arrays: np.stack(arrays), *fits)


def statistics(columns: Any) -> dict[str, Any]:
    """Statistics by name, from the last columns of rows."""
    stats = {name: columns[..., i] for i, name in enumerate(SAMPLE_STATS)}
    return stats | {"diverging": stats["diverging"] > 0.0, "n_steps": stats["n_steps"].astype(int)}
