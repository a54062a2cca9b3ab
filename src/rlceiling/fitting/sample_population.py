"""Sampling of the joint posterior of the recipes of a study and of their population, by NUTS."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Event

import jax
import numpy as np
from jax import Array
from scipy.stats import chi2
from tqdm import tqdm

from rlceiling.inference.nuts import TransitionStats, run_chains, statistics
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.joint_population import (
    HyperCoordinates,
    RecipeDensity,
    Recipes,
    corrected,
    densities_of_recipes,
    hyper_dimension,
    hyperparameters,
    joint_potential,
    split,
)
from rlceiling.models.population import Population, groups_of
from rlceiling.settings import SamplerSettings

FIRST = {"tune": 150, "draws": 150}
"""Warm-up steps and draws of each chain of the first sampling, from which the coordinates are corrected."""

HALVES = 2
"""Number of programs among which the chains are divided, so that they use two cores."""

BURNT = 25
"""Draws of each chain of the first sampling that are not used, since its warm-up is short."""

INSIDE = 0.7
"""Share of a standard normal distribution of the residuals of a recipe, and of their draws, within the radius of
the distribution by which it is left out. Beyond it the posterior may have lighter tails than that, and weights would
have no bound."""

FEWEST_EFFECTIVE = 50.0
"""Effective number of draws that weights must leave. Where a recipe matters so much that fewer would be left, its
weights are raised to a power below 1: the recipe is then left out in part."""

RETRY_FACTOR = 2
"""Factor by which a sampling that has not converged is repeated longer."""


@dataclass(frozen=True, eq=False)
class JointDraws:
    """Draws of the joint posterior; chains and draws are the first axes of every array."""

    names: tuple[str, ...]
    """Learned parameters."""
    hyper: HyperCoordinates
    groups: tuple[Recipes, ...]
    of: RecipeDensity
    x: np.ndarray
    """Coordinates, shape (chains, draws, dimension)."""
    sample_stats: dict[str, np.ndarray]
    """Sampler statistics, shape (chains, draws)."""

    @property
    def r_hat(self) -> float:
        """Largest R-hat of the hyperparameters."""
        from arviz_stats.base import array_stats

        h = split(self.x, self.names, self.groups)[0]
        return max(float(array_stats.rhat(h[..., k])) for k in range(h.shape[-1]))

    def population(self) -> Population:
        """Draws of the hyperparameters, chains concatenated."""
        h = split(self.x, self.names, self.groups)[0].reshape(-1, hyper_dimension(self.names))
        with double_precision_on_cpu():
            at = jax.vmap(lambda one: hyperparameters(one, self.hyper)[0])(h)
        like = {group: np.asarray(at.like[:, g]) for g, group in enumerate(groups_of(self.names))}
        return Population(self.names, np.asarray(at.centre), np.asarray(at.spread), like)

    def recipes(self) -> list[np.ndarray]:
        """Coordinates of the recipes of each group, shape (chains, draws, n, d)."""
        return self._evaluated[1]

    def weights_without(self, place: int) -> np.ndarray:
        r"""Weights of the draws that leave a recipe out, shape (chains * draws,).

        They are Pareto-smoothed importance weights, which leave the recipe out only in part where few draws would be
        left (see `FEWEST_EFFECTIVE`). With the residuals ``zeta`` of that recipe, its density
        ``p(y, zeta | h)`` given the hyperparameters, and any density ``q``, draws weighted by
        ``q(zeta) / p(y, zeta | h)`` are draws of the hyperparameters given the other recipes. Here ``q`` is standard
        normal within a ball.

        Parameters
        ----------
        place : int
            Number of the recipe, counted over all groups.

        References
        ----------
        Geweke, "Using simulation methods for Bayesian econometric models", Econometric Reviews 1999, doi
        10.1080/07474939908800428 (the truncated density). Vehtari et al., "Pareto smoothed importance sampling", JMLR
        2024.
        """
        from arviz_stats.base import array_stats

        density = np.concatenate([own.reshape(-1, own.shape[-1]) for own in self._evaluated[0]], axis=1)[:, place]
        parts = split(self.x, self.names, self.groups)[1]
        squares = [(zeta**2).sum(axis=-1).reshape(-1, zeta.shape[-2]) for zeta in parts]
        sizes = np.repeat([zeta.shape[-1] for zeta in parts], [zeta.shape[-2] for zeta in parts])
        square = np.concatenate(squares, axis=1)[:, place]
        # Where residuals are spread wider than the approximation says, the ball has to be larger to hold enough draws.
        inside = square <= max(chi2(sizes[place]).ppf(INSIDE), np.quantile(square, INSIDE))
        log_inverse = (density + 0.5 * square)[inside]
        try:
            log_weight, _ = array_stats.psislw(log_inverse)
        except ValueError:  # a few draws have all the weight, so that there is no tail to be smoothed
            log_weight = -log_inverse
        weight = np.zeros(len(square))
        for power in np.linspace(1.0, 0.0, 21):
            weight[inside] = np.exp(power * (log_weight - log_weight.max()))
            weight /= weight.sum()
            if 1.0 / np.sum(weight**2) >= FEWEST_EFFECTIVE:
                break
        return weight

    @cached_property
    def _evaluated(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Log densities of the recipes of each group, shape (chains, draws, n), and their coordinates."""
        with double_precision_on_cpu():
            found = _evaluate(self.x, self.hyper, self.groups, names=self.names, of=self.of)
            return [np.asarray(one) for one in found[0]], [np.asarray(one) for one in found[1]]


def sample_joint(
    names: Sequence[str],
    hyper: HyperCoordinates,
    groups: Sequence[Recipes],
    of: RecipeDensity,
    settings: SamplerSettings,
    max_r_hat: float,
    *,
    hidden: bool | None = None,
) -> JointDraws:
    """Sample the joint posterior.

    A first sampling serves to correct the coordinates, as in `joint_population`; its draws are not kept.

    Parameters
    ----------
    names : sequence of str
        Learned parameters.
    hyper : HyperCoordinates
        Prior and coordinates of the hyperparameters.
    groups : sequence of Recipes
        Recipes, those with arrays of equal shapes together.
    of : RecipeDensity
        Log density of a recipe; a module-level function, because compiled programs are cached by it.
    settings : SamplerSettings
        Chains, warm-up steps, draws, seed and target acceptance.
    max_r_hat : float
        R-hat of the hyperparameters above which the sampling is repeated once, longer.
    hidden : bool, optional
        Hide the progress bar. Default: show it only on a terminal.
    """
    joint = JointDraws(tuple(names), hyper, tuple(groups), of, np.zeros(0), {})
    first = replace(settings, **FIRST)
    with tqdm(total=first.tune + first.draws + settings.tune + settings.draws, desc="learning", disable=hidden) as bar:
        joint = _sampled(_corrected(_sampled(joint, first, "first", bar), BURNT), settings, "last", bar)
        if joint.r_hat < max_r_hat:
            return joint
        longer = replace(settings, tune=RETRY_FACTOR * settings.tune, draws=RETRY_FACTOR * settings.draws)
        bar.reset(longer.tune + longer.draws)
        return _sampled(_corrected(joint), longer, "longer", bar)


def _corrected(joint: JointDraws, burnt: int = 0) -> JointDraws:
    """The same with coordinates that its draws correct, without the first of each chain."""
    h, parts = split(joint.x[:, burnt:].reshape(-1, joint.x.shape[-1]), joint.names, joint.groups)
    pairs = zip(parts, joint.groups, strict=True)
    return replace(joint, groups=tuple(g._replace(residuals=corrected(h, zeta, g.residuals)) for zeta, g in pairs))


def _sampled(joint: JointDraws, settings: SamplerSettings, purpose: str, bar: tqdm) -> JointDraws:
    """Draws with these settings."""
    dense = hyper_dimension(joint.names)
    dimension = dense + sum(int(np.prod(one.residuals.mean.shape)) for one in joint.groups)
    given = jax.tree.map(lambda array: np.asarray(array)[None], (joint.hyper, joint.groups))
    programs = HALVES if settings.chains % HALVES == 0 else 1
    stopped = Event()

    def chains_of(part: int, tune: int, draws: int) -> np.ndarray:
        own: list[np.ndarray] = []
        with double_precision_on_cpu():
            for rows, made in run_chains(
                stream_key(settings.seed, purpose, str(part))[None],
                given,
                joint_potential(joint.names, joint.of),
                chains=settings.chains // programs,
                dimension=dimension,
                dense=dense,
                tune=tune,
                draws=draws,
                target_accept=settings.target_accept,
            ):
                bar.update((made + tune * (not own)) / programs)
                own.append(np.asarray(rows)[0, :, :made])
                if stopped.is_set():
                    break
        return np.concatenate(own, axis=1)

    chains_of(0, 0, 0)  # alone, so that the program is compiled once
    with ThreadPoolExecutor(programs) as pool:
        try:
            under_way = [pool.submit(chains_of, part, settings.tune, settings.draws) for part in range(programs)]
            rows = np.concatenate([one.result() for one in under_way])
        except BaseException:
            stopped.set()
            raise
    columns = len(TransitionStats._fields)
    return replace(joint, x=rows[..., :-columns], sample_stats=statistics(rows[..., -columns:]))


@partial(jax.jit, static_argnames=("names", "of"))
def _evaluate(
    x: Array, hyper: HyperCoordinates, groups: tuple[Recipes, ...], *, names: tuple[str, ...], of: RecipeDensity
) -> tuple[list[Array], list[Array]]:
    """Log densities and coordinates of the recipes of each group at many points."""

    def at(one: Array) -> tuple[list[Array], list[Array]]:
        h, parts = split(one, names, groups)
        return densities_of_recipes(h, parts, hyper, groups, names, of)[:2]

    return jax.vmap(lambda chain: jax.lax.map(at, chain))(x)
