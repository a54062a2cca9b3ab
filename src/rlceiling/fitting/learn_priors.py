"""`learn_priors`: priors of one more recipe, learned from finished ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from numpyro import distributions as dist
from scipy.stats import norm

from rlceiling.errors import DataError, count, listing
from rlceiling.fitting.recipe_driver import recipe_driver, recipe_task
from rlceiling.models.computing import double_precision_on_cpu
from rlceiling.models.likeness import GROUPS, LOGIT, coordinate, log_likeness, log_slope
from rlceiling.models.population import (
    DRAWS,
    LEAST_SPREAD,
    LIKE_PRIOR,
    Hyperprior,
    Population,
    RecipeDraws,
    first_guess,
    predictive,
    sample_new_study,
    sample_population,
)
from rlceiling.models.recipe_priors import LearnedPriors, SigmoidPriors
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.settings import RECIPE_SAMPLER

FEWEST_RECIPES = 3
"""Smallest number of recipes from which a spread over recipes can be learned."""

OF_ITS_STUDY = ("R0", "C_mid")
"""Parameters about which other studies say nothing: the start is that of the model and the task, and the midpoint is in
the unit of compute of the study."""

FEWEST_STUDIES = 2
"""Smallest number of studies from which it can be learned how they differ."""

WIDER, FREEDOM = 1.3, 5.0
"""Working priors are the first guess of the population with spreads wider by this factor and tails of this t
distribution, so that they cover the population that is then sampled."""

WIDTH_OF_90 = 2.0 * float(norm.ppf(0.95))
"""Width of the central 90% interval of a normal distribution with the standard deviation 1."""

MAX_PARETO_K = 0.7
"""Largest shape of the generalised Pareto distribution of importance weights (PSIS) at which draws are reweighted."""

QUICK = {"tune": 400, "draws": 250}
"""Warm-up steps and draws of each chain where a fit serves only to learn."""


def learn_priors(
    fits: Mapping[str, Fit] | Mapping[str, Mapping[str, Fit]], *, seed: int = 0, cores: int | None = None
) -> LearnedPriors:
    """Learn the priors of one more recipe from the posteriors of finished recipes.

    From the recipes of one study (one task and model, with one unit of compute) the priors of one more recipe of that
    study are learned. From several studies the priors of a recipe of yet another study are learned: they carry the
    differences between studies, and say nothing about R0, which is that of the model and the task, nor about C_mid,
    whose unit differs.

    A recipe whose stored draws do not cover what the others suggest (Pareto shape above 0.7) is fitted again, briefly,
    under the first guess of the population. Recipes that did not converge, that follow no sigmoid, that show no rise or
    that were trained in stages teach nothing, and are left out.

    Parameters
    ----------
    fits : Fits, mapping of str to Fit, or mapping of str to these
        Posteriors of at least three recipes, on one scale of reward; of several studies, by the name of the study.
    seed : int, default 0
        Seed of the hyperparameters' draws.
    cores : int, optional
        Number of programs run at once. Default: all available.

    Returns
    -------
    LearnedPriors
        Priors for `rlceiling.fit`.

    Raises
    ------
    DataError
        If fewer than three recipes can be used, or rewards have different bounds.

    Notes
    -----
    The hyperparameters are sampled from stored draws of each recipe. Where every recipe alone says little, as when all
    stop early, a few draws dominate, and the learned priors are too narrow: on recipes cut at half of their run the 90%
    intervals of ceilings were 0.77 times as wide as under one joint sampling (see ``benchmarks/calibration``).

    References
    ----------
    Lunn et al. 2013, doi 10.1111/rssc.12007. Vehtari et al., "Pareto smoothed importance sampling", JMLR 2024.

    Examples
    --------
    >>> import rlceiling as rl
    >>> history = rl.learn_priors(rl.load_fits("finished"))  # doctest: +SKIP
    >>> fits = rl.fit(rl.read_runs("new.csv"), priors=history)  # doctest: +SKIP
    """
    for name, one in fits.items():
        if not isinstance(one, Fit | Mapping):
            raise DataError(
                f"learn_priors: {name!r} is of type {type(one).__name__}; give fits, or fits of several studies."
            )
    one_study = {name: one for name, one in fits.items() if isinstance(one, Fit)}
    if len(one_study) == len(fits):
        return Study(usable_fits(one_study), seed=seed, cores=cores).priors()
    studies = {name: one for name, one in fits.items() if isinstance(one, Mapping)}
    if one_study:
        raise DataError(
            f"learn_priors: {listing(one_study)} are fits, and {listing(studies)} is a study; give either the fits of "
            "one study, or several studies."
        )
    return priors_of_new_study(studies, seed=seed, cores=cores)


def priors_of_new_study(
    studies: Mapping[str, Mapping[str, Fit]], *, seed: int = 0, cores: int | None = None
) -> LearnedPriors:
    """Priors of a recipe of a study that is not among these."""
    if len(studies) < FEWEST_STUDIES:
        raise DataError(
            f"learn_priors: one study ({listing(studies)}) cannot show how studies differ; give at least "
            f"{FEWEST_STUDIES}, or the fits of that study themselves."
        )
    on_one_scale({f"{study}: {name}": fit for study, fits in studies.items() for name, fit in fits.items()})
    used = {}
    for name, fits in studies.items():
        try:
            used[name] = usable_fits(fits)
        except DataError as error:
            raise DataError(f"study {name}: {error}") from None
    several = any(len(fit.runs) > 1 for fits in used.values() for fit in fits)
    names = learned_names(several=several, left_out=OF_ITS_STUDY)
    made = {name: Study(fits, names=names, seed=seed, cores=cores) for name, fits in used.items()}
    return between_studies(made, seed)


def between_studies(studies: Mapping[str, Study], seed: int = 0) -> LearnedPriors:
    """Priors of a recipe of one more study, from the populations of the same parameters in several studies."""
    first = next(iter(studies.values()))
    population = sample_new_study([study.population for study in studies.values()], first.prior, seed)
    learned, like = predictive(population)
    return LearnedPriors(
        **{f.name: getattr(first.mild, f.name) for f in fields(SigmoidPriors)},
        learned=learned,
        like=like,
        recipes=tuple(name for study in studies.values() for name in study.recipes),
        studies=tuple(studies),
        hyperparameters=hyperparameters(population),
    )


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


def on_one_scale(fits: Mapping[str, Fit]) -> None:
    """Raise DataError unless fits can be compared: they have the same bounds of the reward and weak priors."""
    bounds = {fit.units.bounds for fit in fits.values()}
    if len(bounds) > 1:
        raise DataError(
            f"learn_priors: rewards have different bounds ({', '.join(map(str, sorted(bounds)))}); learn from recipes "
            "that are on one scale."
        )
    scaled = [name for name, fit in fits.items() if fit.units.data_span is not None]
    if scaled:
        raise DataError(
            f"learn_priors: rewards of {listing(scaled)} have no natural bounds and are scaled by the data of each "
            "recipe, so that recipes cannot be compared; give reward_bounds when the runs are read."
        )
    mild = {str(mild_priors(fit.priors)) for fit in fits.values() if teaches(fit)}
    if len(mild) > 1:
        raise DataError("learn_priors: recipes were fitted under different weak priors; fit them again under the same.")


def teaches(fit: Fit) -> bool:
    """Whether a fit says anything about recipes of its kind."""
    unfit = (Verdict.NOT_CONVERGED, Verdict.NOT_A_SIGMOID, Verdict.NO_RISE)
    return fit.verdict not in unfit and not fit.stages


def usable_fits(fits: Mapping[str, Fit]) -> list[Fit]:
    """Fits that say something about recipes of their kind; raises DataError if they are too few."""
    on_one_scale(fits)
    usable = [fit for fit in fits.values() if teaches(fit)]
    twice = [name for name, number in Counter(fit.name for fit in usable).items() if number > 1]
    if twice:
        raise DataError(f"learn_priors: several fits are named {twice[0]!r}; rename all but one (Fit.renamed).")
    if len(usable) < FEWEST_RECIPES:
        raise DataError(
            f"learn_priors: {count(len(usable), 'recipe')} of {len(fits)} can be used, and at least {FEWEST_RECIPES} "
            "are needed; recipes that did not converge, follow no sigmoid, show no rise or have stages teach nothing."
        )
    return usable


class Study:
    """Population of the recipes of one study, sampled from their posteriors.

    Parameters
    ----------
    fits : sequence of Fit
        Posteriors, at least three.
    names : sequence of str, optional
        Parameters that are learned. Default: all that can be, see `learned_names`.
    reference : LearnedPriors, optional
        Population of several studies, which gives the prior of the hyperparameters. Default: the mild priors give it.
    seed, cores
        As in `learn_priors`.
    """

    def __init__(
        self,
        fits: Sequence[Fit],
        *,
        names: Sequence[str] | None = None,
        reference: LearnedPriors | None = None,
        seed: int = 0,
        cores: int | None = None,
    ) -> None:
        self.mild = mild_priors(fits[0].priors)
        labels = {fit.units.compute for fit in fits}
        self.compute = labels.pop() if len(labels) == 1 else ""
        several = any(len(fit.runs) > 1 for fit in fits)
        self.names = list(names or learned_names(several=several, left_out=() if self.compute else ("C_mid",)))
        self.fits = list(fits)
        self.prior = self._hyperprior(reference)
        recipes = [self._draws(fit) for fit in fits]
        working = self._working(recipes)
        covered = [self._covers(fit, one, working) for fit, one in zip(fits, recipes, strict=True)]
        again = self._fit_again([fit for fit, kept in zip(fits, covered, strict=True) if not kept], working, cores)
        self.refitted = tuple(again)
        self.recipes = {fit.name: self._draws(again.get(fit.name, fit)) for fit in fits}
        self.seed = seed

    @cached_property
    def population(self) -> Population:
        """Draws of the hyperparameters from all recipes."""
        return self._population(list(self.recipes))

    def priors(self, leave_out: str | None = None) -> LearnedPriors:
        """Priors of one more recipe, or of one of the recipes as the others see it.

        A recipe is left out by importance weights of the hyperparameters' draws, or where these fail (Pareto shape
        above 0.7) by sampling the hyperparameters again.
        """
        others = [name for name in self.recipes if name != leave_out]
        population, weight = self.population, None
        if len(others) < len(self.recipes):
            from arviz_stats.base import array_stats

            own = population.log_likelihood[:, list(self.recipes).index(str(leave_out))]
            log_weight, pareto = array_stats.psislw(own)  # the weights are proportional to 1 / exp(own)
            weight = np.exp(log_weight - log_weight.max())
            if pareto > MAX_PARETO_K:
                population, weight = self._population(others), None
        learned, like = predictive(population, weight)
        return self._learned(learned, like, tuple(others), hyperparameters(population, weight))

    def _population(self, names: Sequence[str]) -> Population:
        """Draws of the hyperparameters from some of the recipes."""
        recipes = [self.recipes[name] for name in names]
        return sample_population(recipes, self.names, self.prior, self.seed)

    def _learned(
        self, learned: Mapping[str, Any], like: Mapping[str, float], recipes: tuple[str, ...], hyper: Mapping[str, Any]
    ) -> LearnedPriors:
        own = {f.name: getattr(self.mild, f.name) for f in fields(SigmoidPriors)}
        return LearnedPriors(
            **own,
            learned=learned,
            like=like,
            compute=self.compute,
            reward=self.fits[0].units.reward,
            recipes=recipes,
            hyperparameters=hyper,
        )

    def _hyperprior(self, reference: LearnedPriors | None) -> Hyperprior:
        """Prior of the hyperparameters: from the mild priors, and where there is a reference from that."""
        moments = []
        with double_precision_on_cpu():
            priors = self.mild.distributions()
            for name in self.names:
                at = np.asarray(coordinate(name, priors[name].sample(jax.random.key(0), (4000,))))
                moments.append((float(np.median(at)), float(at.std())))
        mean, sd = np.array(moments).T
        if "C_mid" in self.names:  # which is relative to the evaluations of each recipe
            mean[self.names.index("C_mid")] += np.mean([fit.log_origin + float(fit.data.x_prior) for fit in self.fits])
        mild = Hyperprior.of_mild(mean, sd)
        known = {} if reference is None else reference.hyperparameters
        return Hyperprior(
            *np.transpose(
                [
                    normals(known[name]) if name in known else values
                    for name, values in zip(self.names, zip(*mild, strict=True), strict=True)
                ]
            )
        )

    def _draws(self, fit: Fit) -> RecipeDraws:
        """Draws of a recipe, thinned, with the densities of its priors."""
        values, log_origin = self._values(fit)
        at = np.stack([coordinate(name, values[name], np) for name in self.names], axis=-1)
        if "C_mid" in self.names:
            at[:, self.names.index("C_mid")] += log_origin
        return RecipeDraws(at, *self._log_prior(fit, fit.priors))

    def _values(self, fit: Fit) -> tuple[dict[str, Any], float]:
        """Thinned draws of the parameters of a recipe, C_mid relative to its origin, and the log of the origin."""
        flat = {name: values.reshape(-1) for name, values in fit.scaled_draws.items()}
        places = np.linspace(0, len(flat["A"]) - 1, DRAWS).astype(int)
        log_origin = fit.log_origin + float(fit.data.x_prior)
        values = {name: flat[name][places] for group in GROUPS.values() for name in group}
        values["C_mid"] = values["C_mid"] / np.exp(log_origin)
        return values | {name: np.clip(values[name], 1e-12, 1.0 - 1e-12) for name in LOGIT}, log_origin

    def _log_prior(self, fit: Fit, priors: SigmoidPriors) -> tuple[np.ndarray, np.ndarray]:
        """Log densities at these draws: mild ones of each parameter, shape (S, K), and that of `priors`, shape (S,)."""
        values, log_origin = self._values(fit)
        start_known = fit.data.start is not None
        with double_precision_on_cpu():
            distributions = dict(priors.distributions())

            def mild(name: str) -> np.ndarray:
                flat_start = name == "R0" and start_known
                density = 0.0 if flat_start else np.asarray(distributions[name].log_prob(values[name]))
                return np.asarray(density - log_slope(name, values[name], np))

            own = np.stack([mild(name) for name in self.names], axis=-1)
            terms = log_likeness(values, distributions, log_origin, start_known=start_known)
            whole = own.sum(axis=-1) + sum(np.logaddexp(*map(np.asarray, pair)) for pair in terms.values())
        return own, whole

    def _working(self, recipes: Sequence[RecipeDraws]) -> LearnedPriors:
        """Wide priors around the first guess of the population."""
        centre, spread = first_guess(recipes, self.prior)
        wide = WIDER * np.hypot(spread, spread / np.sqrt(len(recipes)))
        learned = {name: dist.StudentT(FREEDOM, float(centre[i]), float(wide[i])) for i, name in enumerate(self.names)}
        return self._learned(
            learned, dict.fromkeys(GROUPS, LIKE_PRIOR[0] / sum(LIKE_PRIOR)), tuple(fit.name for fit in self.fits), {}
        )

    def _covers(self, fit: Fit, own: RecipeDraws, working: LearnedPriors) -> bool:
        """Whether the draws of a recipe can be reweighted to the working priors."""
        from arviz_stats.base import array_stats

        _, whole = self._log_prior(fit, working)
        pareto = array_stats.psislw(own.drawn_from - whole)[1]  # of the logarithm of inverse weights
        return bool(pareto <= MAX_PARETO_K)

    def _fit_again(self, fits: Sequence[Fit], working: LearnedPriors, cores: int | None) -> dict[str, Fit]:
        """Brief fits of recipes under the working priors."""
        if not fits:
            return {}
        first = fits[0].settings
        settings = replace(RECIPE_SAMPLER, chains=first.chains, seed=first.seed, **QUICK)
        driver = recipe_driver(working, fits[0].rules, settings, number=len(fits))
        tasks = (recipe_task(driver, fit.name, fit.runs, fit.units) for fit in fits)
        return {one.name: one for one in driver.iterate(tasks, cores)}


def normals(shown: Mapping[str, Sequence[float]]) -> tuple[float, float, float, float]:
    """Means and standard deviations of a centre and of the logarithm of a spread, from 90% intervals.

    `LEAST_SPREAD`, which the model adds to every spread, is taken off.
    """
    own = 0.5 * np.log(np.maximum(np.square(shown["spread"]) - LEAST_SPREAD**2, 1e-6))
    (low, centre, high), (least, spread, most) = shown["centre"], own
    return centre, (high - low) / WIDTH_OF_90, float(spread), float(most - least) / WIDTH_OF_90


def mild_priors(priors: SigmoidPriors) -> SigmoidPriors:
    """The mild part of priors."""
    return priors.mild() if isinstance(priors, LearnedPriors) else priors
