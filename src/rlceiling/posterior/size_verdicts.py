"""Verdicts on laws across model sizes, and the thresholds and checks that decide them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from rlceiling.inference.convergence import ConvergenceRules
from rlceiling.posterior.predictive_checks import largest_error

if TYPE_CHECKING:
    from rlceiling.models.paths import Paths


class SizeVerdict(Enum):
    """Conclusions that a fit of a law across sizes supports. Members have a `sentence` and an `advice`."""

    NOT_CONVERGED = (
        "The chains do not agree, so nothing can be read off this posterior.",
        "Fit again with more steps, and look at the runs for mistakes.",
    )
    NOT_THE_LAW = (
        "The runs do not follow learning curves of this law, so neither their curves nor other sizes may be read off.",
        "Look at the runs; try the other law, cut the runs before the trouble begins, or correct the evaluations.",
    )
    TOO_FEW_SIZES = (
        "There are too few sizes to know how the law goes on, so other sizes follow the priors.",
        "Add runs of other sizes; ask about the sizes there are.",
    )
    SATURATION_UNSEEN = (
        "All sizes lie where the law has not bent, so what it saturates at cannot be known.",
        "Add runs of larger sizes; sizes a little beyond those seen may be asked about.",
    )
    SATURATION_SEEN = (
        "The sizes reach past the bend of the law.",
        "Its limit may be quoted with its interval.",
    )

    def __init__(self, sentence: str, advice: str) -> None:
        self.sentence = sentence
        self.advice = advice


LEAST_RISE = 0.05
"""Lower bound, on [0, 1], of the rise with which autocorrelated noise is compared: small models often gain only a few
points, which ordinary noise exceeds."""


@dataclass(frozen=True)
class SizeCheck:
    """Posterior predictive checks of one run against the learning curve of its size.

    Attributes
    ----------
    outlier_p : float
        Posterior predictive p-value of the largest absolute one-step-ahead error.
    outlier_resource, outlier_sd : float
        Resource of that evaluation, and its error in standard deviations.
    wander : float
        Posterior median of the range of the autocorrelated noise divided by the rise of the curve along the run, or by
        `LEAST_RISE` where the curve rises by less.
    p_wander : float
        Posterior probability that this is larger than `SizeRules.max_wander`.
    """

    outlier_p: float
    outlier_resource: float
    outlier_sd: float
    wander: float
    p_wander: float


def check_run(paths: Paths, resource: np.ndarray, max_wander: float) -> SizeCheck:
    """Compute the posterior predictive checks of one run.

    Parameters
    ----------
    paths : Paths
        Curve and noise at the evaluations of the run.
    resource : ndarray, shape (n,)
        Resource of the evaluations.
    max_wander : float
        As in `SizeRules`.
    """
    outlier = largest_error(paths)
    rise = np.maximum(paths.curve[:, -1] - paths.curve[:, 0], LEAST_RISE)
    wander = np.ptp(paths.wander, axis=1) / rise
    return SizeCheck(
        outlier.p,
        float(resource[outlier.place]),
        outlier.sd,
        float(np.median(wander)),
        float(np.mean(wander > max_wander)),
    )


@dataclass(frozen=True)
class SizeRules(ConvergenceRules):
    """Thresholds of the verdicts across sizes, checked in the order of the fields.

    Attributes
    ----------
    max_r_hat, min_ess, max_divergences, min_e_bfmi
        `NOT_CONVERGED` beyond any of these (see `ConvergenceRules`).
    min_outlier_p : float
        A run does not follow its curve if its largest one-step-ahead error has a smaller posterior predictive p-value.
    max_wander, decided : float
        A run does not follow its curve either if, with posterior probability `decided`, the range of its
        autocorrelated noise is more than the share `max_wander` of the rise of its curve. `NOT_THE_LAW` if half of the
        runs do not follow their curves.
    min_sizes : int
        `TOO_FEW_SIZES` below this. Two sizes determine a level and a slope and leave no information on deviations from
        the law.
    min_p_bend : float
        For the power law: `SATURATION_UNSEEN` unless the largest size is beyond N0, where half of E_max is reached,
        with this probability. For the ceiling law: `SATURATION_UNSEEN` unless the largest size has reached
        `min_share_of_limit` of the ceiling of an infinitely large model with this probability.
    min_share_of_limit : float
        Share of the ceiling of an infinitely large model; see `min_p_bend`.
    size_reach : float
        A size is outside the supported range if its distance from the fitted sizes, in ln N, is more than this share of
        their span.
    resource_reach : float
        A resource is outside the supported range if its distance beyond the last evaluation, in ln X, is more than this
        share of the widest span of any run. Forecasts of the held-out rest of runs from their first 20 to 40%, and of
        held-out sizes, were scored up to that distance (``benchmarks/calibration``).
    """

    min_outlier_p: float = 0.001
    max_wander: float = 0.4
    decided: float = 0.9
    min_sizes: int = 3
    min_p_bend: float = 0.9
    min_share_of_limit: float = 0.9
    size_reach: float = 0.25
    resource_reach: float = 0.5

    def follows(self, check: SizeCheck) -> bool:
        """Whether a run follows the learning curve of its size."""
        return not (check.outlier_p < self.min_outlier_p or check.p_wander >= self.decided)
