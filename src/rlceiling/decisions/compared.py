"""What is compared of recipes: their ceilings, or their curves at a compute; and what of it the data do not fix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlceiling.curves.stages import staged_curve
from rlceiling.errors import DataError, is_finite
from rlceiling.posterior.fit import Fit
from rlceiling.posterior.verdicts import Verdict
from rlceiling.text import number


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

    def open_because(self, fit: Fit) -> str:
        """Why the data do not fix it; empty if they do.

        A curve at a compute is fixed up to a multiple of the largest compute of the recipe, as long as it is a sigmoid
        (see `VerdictRules.max_ahead`); a ceiling, or a curve further on, where the ceiling is `IDENTIFIED`.
        """
        if self.at is None or not fit.reason or fit.verdict is not Verdict.PRE_INFLECTION:
            return fit.reason
        furthest = fit.compared_until
        if self.at <= furthest:
            return ""
        compute = fit.units.compute
        return (
            f"{fit.name} ends at {number(fit.largest_compute)} {compute}, and its curve can be compared up to "
            f"{number(furthest)}"
        )

    def least(self, fit: Fit, run: str | None = None) -> np.ndarray:
        """Draws of what the data show of it: the level at the last evaluation, which a sigmoid does not leave again."""
        if fit.verdict not in (Verdict.PRE_INFLECTION, Verdict.IDENTIFIED):
            return np.full(fit.draws["A"].shape, fit.units.bounds[0])
        return _curve(fit, fit.largest_compute, run)

    def most(self, fit: Fit) -> np.ndarray:
        """The upper bound of the reward, for every draw."""
        return np.full(fit.draws["A"].shape, fit.units.bounds[1])

    def ends(self, fit: Fit, run: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Least and most that it may be: its draws where the data fix it, else what no prior can change."""
        if not self.open_because(fit):
            own = self.draws(fit, run)
            return own, own
        return self.least(fit, run), self.most(fit)

    def formula(self, name: str) -> str:
        """It as a formula: "A of a", or "R(20,000) of a"."""
        return f"{'A' if self.at is None else f'R({number(self.at)})'} of {name}"


def _curve(fit: Fit, compute: float, run: str | None) -> np.ndarray:
    """Curve of a recipe or run at a compute, with the error of its form beyond the data, shape (chains, draws)."""
    at, own = np.array([compute]), fit.scaled_draws if run is None else fit.scaled_draws_of(run)
    flat = {name: values.reshape(-1, 1) for name, values in own.items()}
    curve = fit.units.unscale(staged_curve(at, flat, fit.begins) + fit.off_form(flat, at, run))
    return np.clip(curve, *fit.units.bounds).reshape(own["A"].shape)
