"""Sampling driver of recipes, and the task of one recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlceiling.fitting.driver import Driver, Sampled, Task
from rlceiling.fitting.failed_runs import failed_runs
from rlceiling.models.recipe_family import RECIPE
from rlceiling.models.recipe_priors import SigmoidPriors
from rlceiling.models.unit import Unit
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import VerdictRules
from rlceiling.runs import Run
from rlceiling.runs.units import Units, are_natural, span_of_data
from rlceiling.settings import RECIPE_SAMPLER, SamplerSettings


def recipe_driver(
    priors: SigmoidPriors | None = None,
    rules: VerdictRules | None = None,
    settings: SamplerSettings = RECIPE_SAMPLER,
    *,
    backend: str | None = None,
    batch_size: int | None = None,
    number: int = 1,
) -> Driver[Fit]:
    """Sampling driver of recipes; arguments as in `fit`, and the `number` of recipes."""
    priors = SigmoidPriors() if priors is None else priors
    rules = VerdictRules() if rules is None else rules

    def assemble(task: Task, sampled: Sampled) -> Fit:
        name, *_ = task.stream_names
        units, failed = task.context
        return Fit(
            name=name,
            runs=tuple(run for unit in task.units for run in unit.runs),
            units=units,
            priors=task.priors,
            rules=rules,
            settings=sampled.settings,
            draws=units.unscale_draws(sampled.draws),
            unit_draws=units.unscale_draws(sampled.unit_draws),
            sample_stats=sampled.sample_stats,
            failed_runs=failed,
        )

    return Driver(RECIPE, priors, rules, settings, assemble, backend=backend, batch_size=batch_size, number=number)


def recipe_task(
    driver: Driver[Fit], name: str, runs: Sequence[Run], units: Units, priors: SigmoidPriors | None = None
) -> Task:
    """Task of the hierarchical model of the healthy runs of one recipe, whose rewards `units` scales to [0, 1]."""
    runs, units = _on_scale_of_model(runs, units)
    failed = failed_runs(runs, units)
    runs = [run for run in runs if run.run not in failed]
    members = tuple(Unit(run.run, (run,)) for run in runs)
    return driver.task((name, *(run.run for run in runs)), members, (units, failed), priors)


def _on_scale_of_model(runs: Sequence[Run], units: Units) -> tuple[Sequence[Run], Units]:
    """Rescale rewards without natural bounds to a span that the data set."""
    if are_natural(units.bounds):
        return runs, units
    rewards = [units.unscale(np.append(run.reward, run.start[:1] if run.start else ())) for run in runs]
    scaled = replace(units, data_span=span_of_data(np.concatenate(rewards)))

    def moved(reward: Any) -> Any:
        # Rounded far below the resolution of the model, so that other bounds give the same numbers.
        return np.round(scaled.scale(units.unscale(reward)), 7)

    return [
        replace(run, reward=moved(run.reward), start=run.start and (float(moved(run.start[0])), run.start[1]))
        for run in runs
    ], scaled
