"""`Study`: the recipes of one study and their population, sampled together."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import distributions as dist
from scipy.stats import norm

from rlceiling.errors import DataError, listing
from rlceiling.fitting.driver import available_cores, versions
from rlceiling.fitting.sample_population import JointDraws, sample_joint
from rlceiling.inference.nuts import TransitionStats, run_chains, side_by_side
from rlceiling.inference.sampling import potential, stored_parameters
from rlceiling.inference.stream_keys import stream_key
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.family import log_posterior
from rlceiling.models.joint_population import (
    HyperCoordinates,
    Recipes,
    conditional,
    hyper_dimension,
    no_correction,
)
from rlceiling.models.likeness import GROUPS, LOGIT, coordinate
from rlceiling.models.population import (
    LEAST_SPREAD,
    LIKE_PRIOR,
    Hyperprior,
    Population,
    first_guess,
    predictive,
    usual_likeness,
)
from rlceiling.models.recipe_data import RecipeData, padded
from rlceiling.models.recipe_family import RECIPE
from rlceiling.models.recipe_priors import LearnedPriors, SigmoidPriors
from rlceiling.posterior.fit import Fit
from rlceiling.settings import SamplerSettings, Settings

MOST_RECIPES = 60
"""Largest number of recipes that are sampled together. The time grows faster than their number, and the spread over 60
recipes is known to a tenth of itself."""

JOINT_SAMPLER = SamplerSettings(tune=150, draws=400, target_accept=0.9)
"""Default settings of the joint sampling: the learned priors are means over some hundred effective draws of the
hyperparameters, or over at least 50 where a recipe is left out."""

LEAST_ACCEPTANCE = 0.2
"""Mean acceptance below which chains have not moved."""

MAX_R_HAT = 1.05
"""R-hat of the hyperparameters above which the joint sampling is repeated, where only the learned priors are used."""

WORKING = SamplerSettings(tune=250, draws=250, target_accept=0.9)
"""Settings of the sampling of each recipe under working priors."""

WIDER, FREEDOM = 1.3, 5.0
"""Working priors are the first guess of the population with spreads wider by this factor and tails of this t
distribution."""

GUESSED_FROM = 250
"""Number of draws of each recipe for the first guess."""

WIDTH_OF_90 = 2.0 * float(norm.ppf(0.95))
"""Width of the central 90% interval of a normal distribution with the standard deviation 1."""


class Study:
    """Population of the recipes of one study, sampled together with the parameters of these recipes.

    Parameters
    ----------
    fits : sequence of Fit
        Posteriors of the recipes alone, at least three.
    names : sequence of str, optional
        Parameters that are learned. Default: all that can be, see `learned_names`.
    reference : LearnedPriors, optional
        Population of several studies, which gives the prior of the hyperparameters. Default: the mild priors give it.
    settings : SamplerSettings, default `JOINT_SAMPLER`
        Settings of the joint sampling.
    max_r_hat : float, default 1.05
        R-hat of the hyperparameters above which it is repeated once, longer.
    cores
        As in `learn_priors`.
    hidden : bool, optional
        Hide the progress bar. Default: show it only on a terminal.

    Attributes
    ----------
    fits : list of Fit
        Recipes from which the population is learned: all, or `MOST_RECIPES` chosen at random if there are more.
    """

    def __init__(
        self,
        fits: Sequence[Fit],
        *,
        names: Sequence[str] | None = None,
        reference: LearnedPriors | None = None,
        settings: SamplerSettings = JOINT_SAMPLER,
        max_r_hat: float = MAX_R_HAT,
        cores: int | None = None,
        hidden: bool | None = None,
    ) -> None:
        self.settings, self.max_r_hat = settings, max_r_hat
        rng = np.random.default_rng(self.settings.seed)
        chosen = np.sort(rng.permutation(len(fits))[:MOST_RECIPES])
        self.fits = [fits[i] for i in chosen]
        self.mild = mild_priors(fits[0].priors)
        labels = {fit.units.compute for fit in fits}
        self.compute = labels.pop() if len(labels) == 1 else ""
        several = any(len(fit.runs) > 1 for fit in fits)
        self.names = tuple(names or learned_names(several=several, left_out=() if self.compute else ("C_mid",)))
        self.prior = self._hyperprior(reference)
        self._groups = of_equal_shape(self.fits)
        self.cores, self.hidden = cores, hidden

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes, in the order of the joint draws."""
        return tuple(fit.name for members in self._groups for fit, _ in members)

    @cached_property
    def population(self) -> Population:
        """Draws of the hyperparameters from all recipes."""
        return self.joint.population()

    def priors(self, leave_out: str | None = None) -> LearnedPriors:
        """Priors of one more recipe, or of one of the recipes as the others see it.

        A recipe is left out by Pareto-smoothed importance weights of the hyperparameters' draws.
        """
        known = leave_out in self.recipes
        weight = self.joint.weights_without(self.recipes.index(str(leave_out))) if known else None
        others = tuple(name for name in self.recipes if name != leave_out)
        about = {"compute": self.compute, "reward": self.fits[0].units.reward, "recipes": others}
        return priors_from(self.mild, self.population, weight, **about)

    def pooled(self) -> dict[str, Fit]:
        """Posteriors of the recipes in the light of each other, from the joint draws, under `priors` of the others."""
        found = {}
        together = hashlib.blake2b(self.joint.x.tobytes(), digest_size=8).hexdigest()
        cpu = jax.local_devices(backend="cpu")[0]
        settings = Settings(**self.settings.sampler(), versions=versions(cpu), sampled_together=together)
        for members, z in zip(self._groups, self.joint.recipes(), strict=True):
            data = [own for _, own in members]
            drawn = stored_parameters(np.moveaxis(z, 2, 0), data, RECIPE, [self.mild.distributions()] * len(data))
            for (fit, own), (parameters, of_runs) in zip(members, drawn, strict=True):
                places = RECIPE.unit_places(own, fit.members)
                found[fit.name] = replace(
                    fit,
                    priors=self.priors(fit.name),
                    settings=settings,
                    draws=fit.units.unscale_draws({name: parameters[name] for name in RECIPE.parameters}),
                    unit_draws=fit.units.unscale_draws({k: of_runs[k][..., places] for k in RECIPE.unit_parameters}),
                    sample_stats=dict(self.joint.sample_stats),
                )
        return found

    @cached_property
    def joint(self) -> JointDraws:
        """Draws of the hyperparameters and of the recipes, sampled when first asked for.

        Each recipe is sampled under working priors first, for the coordinates of the joint sampling.
        """
        mild_mean, mild_sd = self._mild
        guess = np.stack([self._guess_from(fit) for members in self._groups for fit, _ in members])
        centre, spread = first_guess(guess, self.prior, mild_mean, mild_sd)
        wide = WIDER * np.hypot(spread, spread / np.sqrt(len(self.fits)))
        learned = {name: dist.StudentT(FREEDOM, *at) for name, *at in zip(self.names, centre, wide, strict=True)}
        like = dict.fromkeys(GROUPS, LIKE_PRIOR[0] / sum(LIKE_PRIOR))
        working = LearnedPriors(**own_fields(self.mild), learned=learned, like=like).distributions()
        precision = (FREEDOM + 1.0) / FREEDOM / wide**2
        groups, variances = [], []
        for members in self._groups:
            data = [own for _, own in members]
            z = working_draws([fit.name for fit, _ in members], data, working, self.settings, self.cores)
            u = learned_coordinates(z, data, self.names)
            alike = usual_likeness(self.names, u, centre, spread, mild_mean, mild_sd)
            near = [conditional(*own, centre, precision) for own in zip(z, u, alike, strict=True)]
            given = [(own, RECIPE.centre(own), self.mild.distributions()) for own in data]
            residuals = no_correction(len(data), z.shape[-1], hyper_dimension(self.names))
            groups.append(Recipes(side_by_side(given), side_by_side(near), residuals))
            variances.append(u.var(axis=1))
        unit = 1.5 * np.sqrt((spread**2 + np.concatenate(variances).mean(axis=0)) / len(self.fits))
        log_spread = np.log(np.maximum(spread, 0.1 * np.exp(self.prior.log_spread)))
        hyper = HyperCoordinates(self.prior, mild_mean, mild_sd, centre, unit, log_spread)
        joint = sample_joint(
            self.names, hyper, groups, log_density_of_recipe, self.settings, self.max_r_hat, hidden=self.hidden
        )
        if not joint.sample_stats["acceptance_rate"].mean() > LEAST_ACCEPTANCE:
            raise DataError(
                f"the recipes {listing(self.recipes, 4)} could not be sampled together (nearly no step was "
                "accepted); leave out those whose fit alone is the least certain."
            )
        return joint

    @cached_property
    def _mild(self) -> tuple[np.ndarray, np.ndarray]:
        """Median and standard deviation of the mild priors on the logit or log scale, each of shape (K,)."""
        moments = []
        with double_precision_on_cpu():
            priors = self.mild.distributions()
            for name in self.names:
                at = np.asarray(coordinate(name, priors[name].sample(jax.random.key(0), (4000,))))
                moments.append((float(np.median(at)), float(at.std())))
        mean, sd = np.array(moments).T
        if "C_mid" in self.names:  # which is relative to the evaluations of each recipe
            mean[self.names.index("C_mid")] += np.mean([fit.log_origin + float(fit.data.x_prior) for fit in self.fits])
        return mean, sd

    def _hyperprior(self, reference: LearnedPriors | None) -> Hyperprior:
        """Prior of the hyperparameters: from the mild priors, and where there is a reference from that."""
        mild = Hyperprior.of_mild(*self._mild)
        known = {} if reference is None else reference.hyperparameters
        return Hyperprior(
            *np.transpose(
                [
                    normals(known[name]) if name in known else values
                    for name, values in zip(self.names, zip(*mild, strict=True), strict=True)
                ]
            )
        )

    def _guess_from(self, fit: Fit) -> np.ndarray:
        """Learned parameters in thinned draws of a recipe alone, on the logit or log scale, shape (draws, K)."""
        flat = {name: values.reshape(-1) for name, values in fit.scaled_draws.items()}
        places = np.linspace(0, len(flat["A"]) - 1, GUESSED_FROM).astype(int)
        values = {name: flat[name][places] for name in self.names}
        values |= {name: np.clip(values[name], 1e-12, 1.0 - 1e-12) for name in LOGIT if name in values}
        return np.stack([coordinate(name, values[name], np) for name in self.names], axis=-1)


def priors_from(
    mild: SigmoidPriors, population: Population, weight: np.ndarray | None = None, **about: Any
) -> LearnedPriors:
    """Priors of one more recipe of a population, with `about` the other fields of `LearnedPriors`."""
    learned, like = predictive(population, weight)
    hyper = hyperparameters(population, weight)
    return LearnedPriors(**own_fields(mild), learned=learned, like=like, hyperparameters=hyper, **about)


def own_fields(mild: SigmoidPriors) -> dict[str, Any]:
    """Fields of the mild priors."""
    return {f.name: getattr(mild, f.name) for f in fields(SigmoidPriors)}


def of_equal_shape(fits: Sequence[Fit]) -> list[list[tuple[Fit, RecipeData]]]:
    """Recipes with their arrays, in groups of equal shapes: by the number of runs, the start and the coordinates."""
    groups: dict[tuple[int, bool, bool], list[Fit]] = {}
    for fit in fits:
        data = fit.data
        groups.setdefault((len(data.order), data.start is None, data.curves is None), []).append(fit)
    longest = {key: max(fit.data.runs.reward.shape[1] for fit in group) for key, group in groups.items()}
    return [[(fit, padded(fit.data, longest[key])) for fit in group] for key, group in groups.items()]


def working_draws(
    names: Sequence[str],
    data: Sequence[RecipeData],
    working: Mapping[str, Any],
    settings: SamplerSettings,
    cores: int | None = None,
) -> np.ndarray:
    """Draws of the coordinates of recipes under working priors, shape (n, draws, d)."""
    dimension, dense = RECIPE.dimension(data[0])

    def of_recipe(name: str, own: RecipeData) -> np.ndarray:
        with double_precision_on_cpu():
            windows = run_chains(
                stream_key(settings.seed, name, "working")[None],
                side_by_side([(own, RECIPE.centre(own), working)]),
                potential(RECIPE),
                chains=settings.chains,
                dimension=dimension,
                dense=dense,
                tune=WORKING.tune,
                draws=WORKING.draws,
                target_accept=WORKING.target_accept,
            )
            rows = np.concatenate([np.asarray(rows)[0, :, :made] for rows, made in windows], axis=1)
        return np.asarray(rows[..., : -len(TransitionStats._fields)].reshape(-1, dimension))

    first = of_recipe(names[0], data[0])  # alone, so that the program is compiled once
    with ThreadPoolExecutor(cores or available_cores()) as pool:
        return np.stack([first, *pool.map(of_recipe, names[1:], data[1:])])


def learned_coordinates(z: np.ndarray, data: Sequence[RecipeData], names: tuple[str, ...]) -> np.ndarray:
    """Learned parameters of recipes at their coordinates, on the logit or log scale, shape (n, draws, K)."""
    with double_precision_on_cpu():
        given = side_by_side([(own, RECIPE.centre(own)) for own in data])
        return np.asarray(_learned_coordinates(z, *given, names=names))


@partial(jax.jit, static_argnames=("names",))
def _learned_coordinates(z: Array, data: Any, centres: Any, *, names: tuple[str, ...]) -> Array:
    def at(one: Array, data: RecipeData, centre: Any) -> Array:
        sites, _ = RECIPE.to_sites(one, data, centre, {})
        origin = data.log_origin + data.x_prior
        values = {name: sites["C_mid_ratio" if name == "C_mid" else name] for name in names}
        return jnp.stack([coordinate(name, values[name]) + origin * (name == "C_mid") for name in names])

    return jax.vmap(jax.vmap(at, (0, None, None)))(z, data, centres)


def log_density_of_recipe(z: Array, learned: Mapping[str, Any], given: Any) -> Array:
    """Log posterior density of the coordinates of a recipe under its mild priors with what is learned at a point."""
    data, centre, priors = given
    return log_posterior(z, RECIPE, data, centre, {**priors, **learned})


def normals(shown: Mapping[str, Sequence[float]]) -> tuple[float, float, float, float]:
    """Means and standard deviations of a centre and of the logarithm of a spread, from 90% intervals.

    `LEAST_SPREAD`, which the model adds to every spread, is taken off.
    """
    own = 0.5 * np.log(np.maximum(np.square(shown["spread"]) - LEAST_SPREAD**2, 1e-6))
    (low, centre, high), (least, spread, most) = shown["centre"], own
    return centre, (high - low) / WIDTH_OF_90, float(spread), float(most - least) / WIDTH_OF_90


def learned_names(*, several: bool, left_out: Collection[str] = ()) -> list[str]:
    """Parameters that are learned; spreads between runs where recipes have several."""
    groups = {group: names for group, names in GROUPS.items() if group != "spread" or several}
    return [name for names in groups.values() for name in names if name not in left_out]


def hyperparameters(population: Population, weight: np.ndarray | None = None) -> dict[str, dict[str, list[float]]]:
    """Median and 90% interval of the centre and of the spread of each parameter; `weight` as in `predictive`."""

    def shown(values: np.ndarray) -> list[float]:
        at = np.quantile(values, [0.05, 0.5, 0.95], weights=weight, method="inverted_cdf")
        return [float(v) for v in at]

    return {
        name: {"centre": shown(population.centre[:, i]), "spread": shown(population.spread[:, i])}
        for i, name in enumerate(population.names)
    }


def mild_priors(priors: SigmoidPriors) -> SigmoidPriors:
    """The mild part of priors."""
    return priors.mild() if isinstance(priors, LearnedPriors) else priors
