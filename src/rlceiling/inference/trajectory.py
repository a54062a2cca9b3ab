"""Trajectories of the No-U-Turn sampler: a binary tree of leapfrog points, built iteratively, one point at a time.

Every function takes and returns the state of all chains; the leading axis of every array is lanes, one per chain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

DEPTH = 10
"""Largest tree depth: trajectories have up to 2**10 leapfrog steps. Trajectories of 15 to 40 steps are typical."""

MAX_ENERGY_ERROR = 1000.0
"""Increase of the energy above which a trajectory is divergent."""


class Point(NamedTuple):
    """A point of a trajectory."""

    z: Array
    p: Array
    """Momentum, in coordinates in which the mass matrix is the identity."""
    gradient: Array


class Tree(NamedTuple):
    """Summary of the points of a trajectory, and the point drawn from them."""

    z: Array
    potential: Array
    gradient: Array
    energy: Array
    log_weight: Array
    p_sum: Array
    """Sum of the momenta of all points."""


class TrajectoryState(NamedTuple):
    """State of the sampler loop; the leading axis of every array is lanes."""

    idle: Array
    """Whether the lane has no current trajectory: it is about to begin one, or has completed its transitions."""
    done: Array
    """Number of completed transitions in this window."""
    current: Point
    """Newest point of the subtree under construction."""
    direction: Array
    """Direction of integration: +1 or -1; 0 while a chain evaluates its initial point."""
    leaf: Array
    """Number of points of the subtree."""
    depth: Array
    """Number of doublings of the tree."""
    first: Point
    """Earliest point of the tree in time."""
    last: Point
    """Latest point of the tree in time."""
    tree: Tree
    subtree: Tree
    p_saved: Array
    """Momenta at the left ends of incomplete subtrees, shape (lanes, DEPTH, dimension)."""
    sum_saved: Array
    """Sums of momenta up to and including those left ends."""
    origin: Array
    """Energy at the start of the trajectory."""
    accepted: Array
    """Sum of acceptance probabilities over the points of the trajectory."""
    leaves: Array
    """Number of points of the trajectory except the first."""
    averaging: tuple[Array, Array, Array]
    """Dual averaging: logarithm of the step size, its average, and the average error of the acceptance probability."""


def pick(mask: Array, yes: Any, no: Any) -> Any:
    """Select `yes` in the lanes of `mask` and `no` elsewhere."""

    def one(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (jnp.ndim(b) - 1)), a, b)

    return jax.tree.map(one, yes, no)


def turns(p_first: Array, p_last: Array, p_sum: Array) -> Array:
    """Generalised no-U-turn criterion for a part of a trajectory, from its end momenta and the sum of all momenta."""
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
    """Add a point to the subtree. Returns the state, whether the trajectory diverges and whether the subtree turns."""
    sub, p = trajectory.subtree, current.p
    energy = value + 0.5 * (p * p).sum(-1)
    error = energy - trajectory.origin
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    log_weight = jnp.logaddexp(sub.log_weight, -error)
    drawn = jnp.log(uniform) < -error - log_weight
    p_sum = sub.p_sum + p
    sub = pick(drawn, Tree(current.z, value, current.gradient, energy, log_weight, p_sum), sub)

    # Even leaves are left ends of subtrees; an odd leaf completes as many subtrees as its index has trailing ones.
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
    """Join a complete subtree to the tree. Returns the new state, and whether the tree turns.

    The next subtree grows from the end of the tree given by `direction`.
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
    """Dual averaging update after a trajectory, with the constants of Hoffman and Gelman."""
    _, log_average, lag = trajectory.averaging
    count = trajectory.done + 1.0
    share = 1.0 / (count + 10.0)
    lag = (1.0 - share) * lag + share * (target_accept - trajectory.accepted / trajectory.leaves)
    log_step = pulled_to - jnp.sqrt(count) / 0.05 * lag
    newest = count**-0.75
    return log_step, newest * log_step + (1.0 - newest) * log_average, lag
