"""Trajectories of the No-U-Turn sampler: a binary tree of leapfrog points, built one point at a time.

Every function takes and returns the state of all chains; the first axis of every array is lanes, one for each chain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

DEPTH = 10
"""Longest trajectory, as a power of 2 of leapfrog steps. Trajectories of 15 to 40 steps are usual."""

MAX_ENERGY_ERROR = 1000.0
"""Trajectories whose energy has grown by more are divergent."""


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


class TrajectoryState(NamedTuple):
    """State of the loop; the first axis of every array is lanes."""

    idle: Array
    """Whether the lane has no trajectory under way: it is about to begin one, or has made all its transitions."""
    done: Array
    """Transitions of this window."""
    current: Point
    """Newest point of the subtree that is being built."""
    direction: Array
    """Direction of integration: +1 or -1; 0 while a chain evaluates its initial point."""
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


def pick(mask: Array, yes: Any, no: Any) -> Any:
    """Select `yes` in the lanes of `mask` and `no` elsewhere."""

    def one(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (jnp.ndim(b) - 1)), a, b)

    return jax.tree.map(one, yes, no)


def turns(p_first: Array, p_last: Array, p_sum: Array) -> Array:
    """Generalised no-U-turn criterion: whether a piece of trajectory turns back, from its end momenta and their sum."""
    inner = p_sum - 0.5 * (p_first + p_last)
    return ((p_first * inner).sum(-1) <= 0.0) | ((p_last * inner).sum(-1) <= 0.0)


def begin(trajectory: TrajectoryState, begins: Array, p: Array, direction: Array) -> TrajectoryState:
    """Begin a trajectory in the lanes of `begins`, with momentum `p`."""
    zero = jnp.zeros_like(direction)
    point = Point(trajectory.tree.z, p, trajectory.tree.gradient)
    energy = trajectory.tree.potential + 0.5 * (p * p).sum(-1)
    fresh = trajectory._replace(
        idle=jnp.zeros_like(trajectory.idle),
        current=point,
        direction=direction,
        leaf=jnp.zeros_like(trajectory.leaf),
        depth=jnp.zeros_like(trajectory.depth),
        first=point,
        last=point,
        tree=trajectory.tree._replace(energy=energy, log_weight=zero, p_sum=p),
        subtree=trajectory.subtree._replace(log_weight=zero - jnp.inf, p_sum=jnp.zeros_like(p)),
        origin=energy,
        accepted=zero,
        leaves=jnp.zeros_like(trajectory.leaves),
    )
    return pick(begins, fresh, trajectory)


def grow(
    trajectory: TrajectoryState, current: Point, value: Array, uniform: Array
) -> tuple[TrajectoryState, Array, Array]:
    """Add a new point to the subtree: the new state, whether the trajectory diverges, and whether the subtree turns."""
    sub, p = trajectory.subtree, current.p
    energy = value + 0.5 * (p * p).sum(-1)
    error = energy - trajectory.origin
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    log_weight = jnp.logaddexp(sub.log_weight, -error)
    drawn = jnp.log(uniform) < -error - log_weight
    p_sum = sub.p_sum + p
    sub = pick(drawn, Tree(current.z, value, current.gradient, energy, log_weight, p_sum), sub)

    # Even leaves are left ends of subtrees; odd ones end as many subtrees as their number has ones at its end.
    row, odd = jnp.arange(DEPTH), trajectory.leaf % 2 == 1
    newest = jax.lax.population_count(trajectory.leaf >> 1)
    ended = jax.lax.population_count(trajectory.leaf ^ (trajectory.leaf + 1)) - 1
    saves = ((row == newest[:, None]) & ~odd[:, None])[..., None]
    p_saved = jnp.where(saves, p[:, None], trajectory.p_saved)
    sum_saved = jnp.where(saves, p_sum[:, None], trajectory.sum_saved)
    turned = turns(p_saved, p[:, None], p_sum[:, None] - sum_saved + p_saved)
    ends_here = (row <= newest[:, None]) & (row > (newest - ended)[:, None])
    trajectory = trajectory._replace(
        current=current,
        leaf=trajectory.leaf + 1,
        subtree=sub._replace(log_weight=log_weight, p_sum=p_sum),
        p_saved=p_saved,
        sum_saved=sum_saved,
        accepted=trajectory.accepted + jnp.minimum(1.0, jnp.exp(-error)),
        leaves=trajectory.leaves + 1,
    )
    return trajectory, error > MAX_ENERGY_ERROR, odd & (turned & ends_here).any(-1)


def join(trajectory: TrajectoryState, joins: Array, uniform: Array, direction: Array) -> tuple[TrajectoryState, Array]:
    """Join a complete subtree to the tree: the new state, and whether the tree turns.

    The next subtree grows from the end of the tree that `direction` names.
    """
    tree, sub = trajectory.tree, trajectory.subtree
    taken = joins & (jnp.log(uniform) < sub.log_weight - tree.log_weight)
    log_weight, p_sum = jnp.logaddexp(tree.log_weight, sub.log_weight), tree.p_sum + sub.p_sum
    first = pick(joins & (trajectory.direction < 0.0), trajectory.current, trajectory.first)
    last = pick(joins & (trajectory.direction > 0.0), trajectory.current, trajectory.last)
    joined = trajectory._replace(
        current=pick(direction > 0.0, last, first),
        direction=direction,
        leaf=jnp.zeros_like(trajectory.leaf),
        depth=trajectory.depth + 1,
        tree=pick(taken, sub, tree)._replace(log_weight=log_weight, p_sum=p_sum),
        subtree=sub._replace(log_weight=jnp.full_like(sub.log_weight, -jnp.inf), p_sum=jnp.zeros_like(p_sum)),
    )
    trajectory = pick(joins, joined, trajectory)._replace(first=first, last=last)
    return trajectory, joins & turns(first.p, last.p, trajectory.tree.p_sum)


def average(trajectory: TrajectoryState, target_accept: Array, pulled_to: Array) -> tuple[Array, Array, Array]:
    """Dual averaging after a trajectory, with the constants of Hoffman and Gelman."""
    _, log_average, lag = trajectory.averaging
    count = trajectory.done + 1.0
    share = 1.0 / (count + 10.0)
    lag = (1.0 - share) * lag + share * (target_accept - trajectory.accepted / trajectory.leaves)
    log_step = pulled_to - jnp.sqrt(count) / 0.05 * lag
    newest = count**-0.75
    return log_step, newest * log_step + (1.0 - newest) * log_average, lag
