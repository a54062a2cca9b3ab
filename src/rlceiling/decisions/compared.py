"""The quantity that recipes are compared by: their ceilings, or their curves at a compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlceiling.curves.stages import staged_curve
from rlceiling.errors import DataError, is_finite
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import as_typed, number


@dataclass(frozen=True)
class Compared:
    """Ceiling of a recipe, or its curve at a compute.

    Parameters
    ----------
    at : float, optional
        Compute, in the unit of the runs. Default: the ceiling.

    Raises
    ------
    DataError
        If the compute is not positive and finite.
    """

    at: float | None = None

    def __post_init__(self) -> None:
        if self.at is not None and not (is_finite(self.at) and self.at > 0):
            raise DataError(f"at={self.at!r} is not a positive compute; give one in the unit of the runs.")

    def draws(self, fit: Fit, run: str | None = None) -> np.ndarray:
        """Posterior draws, shape (chains, draws), in the unit of the reward.

        A curve at a compute has the error of its form beyond the data (see `Fit.form_sd`).
        """
        if self.at is None:
            return (fit.draws if run is None else fit.draws_of(run))["A"]
        return _curve(fit, self.at, run)

    def reason_not_fixed(self, fit: Fit, run: str | None = None) -> str:
        """Why the data do not fix it; empty if they do.

        A curve at a compute is fixed up to a multiple of the largest compute of the recipe, as long as it is a sigmoid
        (see `VerdictRules.max_ahead`); a ceiling, or a curve further on, where the ceiling is `IDENTIFIED`.
        """
        if self.at is None or not fit.reason or fit.verdict is not Verdict.PRE_INFLECTION:
            return fit.reason
        last = _last(fit, run)
        furthest = last * fit.max_ahead
        if self.at <= furthest:
            return ""
        return (
            f"{fit.name if run is None else f'{fit.name}/{run}'} ends at {number(last)} {fit.units.compute}, and its "
            f"curve can be compared up to {number(furthest)}"
        )

    def lower_draws(self, fit: Fit, run: str | None = None) -> np.ndarray:
        """Draws of the least that it may be: the level at the last evaluation, which a sigmoid does not leave again."""
        if fit.verdict not in (Verdict.PRE_INFLECTION, Verdict.IDENTIFIED):
            return np.full(fit.draws["A"].shape, fit.units.bounds[0])
        return _curve(fit, _last(fit, run), run)

    def upper_draws(self, fit: Fit) -> np.ndarray:
        """The most that it may be: the upper bound of the reward, for every draw."""
        return np.full(fit.draws["A"].shape, fit.units.bounds[1])

    def range_of_draws(self, fit: Fit, run: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Least and most that it may be: twice its draws where the data fix it, else what no prior can change."""
        if not self.reason_not_fixed(fit, run):
            own = self.draws(fit, run)
            return own, own
        return self.lower_draws(fit, run), self.upper_draws(fit)

    def all_of(self, fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Least that it may be, draws of it, and most that it may be."""
        low, high = self.range_of_draws(fit)
        return low, self.draws(fit), high

    def formula(self, name: str) -> str:
        """The compared quantity as a formula: "A of a", or "R(20,000) of a"."""
        return f"{'A' if self.at is None else f'R({as_typed(self.at)})'} of {name}"


def paired(draws: Sequence[np.ndarray]) -> np.ndarray:
    """Draws of several recipes side by side, shape (recipes, chains, draws).

    Retried fits have more draws than others, and fits may have different numbers of chains; independent posteriors may
    be paired in any way.
    """
    if len({len(own) for own in draws}) > 1:
        draws = [own.reshape(1, -1) for own in draws]
    number_of = min(own.shape[1] for own in draws)
    return np.stack([own[:, :number_of] for own in draws])


def _last(fit: Fit, run: str | None) -> float:
    """Compute of the last evaluation of a run, or of the furthest run of the recipe."""
    return fit.largest_compute if run is None else float(fit.runs[fit.place(run)].compute[-1])


def _curve(fit: Fit, compute: float, run: str | None) -> np.ndarray:
    """Curve of a recipe or run at a compute, with the error of its form beyond the data, shape (chains, draws)."""
    at, own = np.array([compute]), fit.scaled_draws if run is None else fit.scaled_draws_of(run)
    flat = {name: values.reshape(-1, 1) for name, values in own.items()}
    curve = fit.units.unscale(staged_curve(at, flat, fit.begins) + fit.off_form(flat, at, run))
    return np.clip(curve, *fit.units.bounds).reshape(own["A"].shape)
