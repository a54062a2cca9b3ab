"""`learn_priors`: priors of one more recipe, learned from finished ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from rlceiling.errors import DataError, count, listing
from rlceiling.fitting.study import JOINT_SAMPLER, Study, learned_names, mild_priors, priors_from
from rlceiling.models.population import sample_new_study
from rlceiling.models.recipe_priors import LearnedPriors
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.settings import check_cores, check_seed

FEWEST_RECIPES = 3
"""Smallest number of recipes from which a spread over recipes can be learned."""

OF_ITS_STUDY = ("R0", "C_mid")
"""Parameters about which other studies say nothing: the start is that of the model and the task, and the midpoint is in
the unit of compute of the study."""

FEWEST_STUDIES = 2
"""Smallest number of studies from which it can be learned how they differ."""

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

    The recipes of a study and their population are sampled together, from the evaluations of the fits, which takes
    about as long as fitting each of them several times. Recipes that did not converge, that follow no sigmoid, that
    show no rise or that were trained in stages teach nothing, and are left out. Of more than 60 recipes of one study
    60 are chosen at random.

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
        If fewer than three recipes can be used, rewards have different bounds, or the seed or the number of cores is
        not one.

    References
    ----------
    Robust mixture: Schmidli et al. 2014, doi 10.1111/biom.12242.

    Examples
    --------
    >>> import rlceiling as rl
    >>> history = rl.learn_priors(rl.load_fits("finished"))  # doctest: +SKIP
    >>> fits = rl.fit(rl.read_runs("new.csv"), priors=history)  # doctest: +SKIP
    """
    check_seed("learn_priors", seed)
    check_cores("learn_priors", cores)
    for name, one in fits.items():
        if not isinstance(one, Fit | Mapping):
            raise DataError(
                f"learn_priors: {name!r} is of type {type(one).__name__}; give fits, or fits of several studies."
            )
    one_study = {name: one for name, one in fits.items() if isinstance(one, Fit)}
    if len(one_study) == len(fits):
        return Study(usable_fits(one_study), settings=replace(JOINT_SAMPLER, seed=seed), cores=cores).priors()
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
    settings = replace(JOINT_SAMPLER, seed=seed)
    made = {name: Study(fits, names=names, settings=settings, cores=cores) for name, fits in used.items()}
    return between_studies(made, seed)


def between_studies(studies: Mapping[str, Study], seed: int = 0) -> LearnedPriors:
    """Priors of a recipe of one more study, from the populations of the same parameters in several studies."""
    first = next(iter(studies.values()))
    population = sample_new_study([study.population for study in studies.values()], first.prior, seed)
    recipes = tuple(name for study in studies.values() for name in study.recipes)
    return priors_from(first.mild, population, recipes=recipes, studies=tuple(studies))


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


def usable_fits(fits: Mapping[str, Fit], where: str = "learn_priors") -> list[Fit]:
    """Fits that say something about recipes of their kind; raises DataError if they are too few."""
    on_one_scale(fits)
    usable = [fit for fit in fits.values() if teaches(fit)]
    twice = [name for name, number in Counter(fit.name for fit in usable).items() if number > 1]
    if twice:
        raise DataError(f"learn_priors: several fits are named {twice[0]!r}; rename all but one (Fit.renamed).")
    if len(usable) < FEWEST_RECIPES:
        raise DataError(
            f"{where}: {count(len(usable), 'recipe')} of {len(fits)} can be used, and at least {FEWEST_RECIPES} "
            "are needed; recipes that did not converge, follow no sigmoid, show no rise or have stages teach nothing."
        )
    return usable
