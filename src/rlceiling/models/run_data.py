"""One run as the model sees it: centred ln C, rewards on [0, 1], evaluation errors, padded to a bucket length."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

BUCKETS = (32, 64, 128)
"""Lengths that runs are padded to, so that runs of about the same length share one compiled program."""

MAX_BINS = 64
"""Bins of equal width in ln C that a run longer than the last bucket is averaged into."""

RESOLUTION = 1e-4
"""Smallest standard deviation of one evaluation: logs hold about four decimals. Without it a run whose
rewards lie exactly on a curve would have no proper posterior."""

ANCHORS = (0.15, 0.85)
"""Places in the observed range of ln C where the sampler takes the mean curve as coordinates."""


class Start(NamedTuple):
    """Step-0 evaluation of a run."""

    reward: Any
    """Reward at zero compute, on [0, 1]."""
    var: Any
    """Variance of its evaluation error (0 where n_eval is unknown)."""
    white_weight: Any
    """1 where n_eval is unknown, so that the white part of the noise stands in for the error; else 0."""
    logit: Any
    """Centre of the sampling coordinate of R0."""
    logit_slope: Any
    """Derivative of the logit there."""


class RunData(NamedTuple):
    """Arrays of one run, a JAX pytree. All have the padded length n unless said otherwise."""

    x: Any
    """ln C minus `log_origin`, ascending; padding repeats the last value."""
    reward: Any
    """Reward on [0, 1]."""
    observed: Any
    """False for padding."""
    eval_var: Any
    """Variance of the evaluation error, the floor of the white noise."""
    count: Any
    """Evaluations averaged into this one (1 unless binned)."""
    start: Start | None
    """The step-0 evaluation, None if the run did not log one."""
    x_low: Any
    """Lower anchor, scalar."""
    x_high: Any
    """Upper anchor, scalar."""
    x_prior: Any
    """Place of the midpoint prior relative to `log_origin`, scalar."""
    log_origin: Any
    """Mean ln C of the run's evaluations, scalar: results do not depend on the unit of compute."""


def evaluation_sd(reward: np.ndarray, n_eval: np.ndarray, scale: float) -> np.ndarray:
    """Standard error of a mean pass rate over n_eval answers, `scale` times binomial; 0 where n_eval is unknown.

    The half counts keep it positive when every answer was right or wrong.
    """
    p = (reward * n_eval + 0.5) / (n_eval + 1.0)
    return np.where(np.isnan(n_eval), 0.0, scale * np.sqrt(p * (1.0 - p) / np.where(np.isnan(n_eval), 1, n_eval)))


def bin_evaluations(
    x: np.ndarray, reward: np.ndarray, eval_var: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average evaluations in bins of equal width in `x`; the last array returned counts them."""
    edges = np.linspace(x[0], x[-1], bins + 1)
    index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    count = count[filled].astype(float)
    mean_x, mean_reward, mean_var = (
        np.bincount(index, weights=values, minlength=bins)[filled] / count for values in (x, reward, eval_var)
    )
    return mean_x, mean_reward, mean_var / count, count


def prepare(
    compute: np.ndarray,
    reward: np.ndarray,
    n_eval: np.ndarray,
    start: tuple[float, float] | None,
    *,
    evaluation_error: float,
    C_mid_origin: float | None = None,
) -> RunData:
    """Make the arrays of one run.

    Parameters
    ----------
    compute : ndarray, shape (m,)
        Positive, ascending.
    reward : ndarray, shape (m,)
        On [0, 1].
    n_eval : ndarray, shape (m,)
        Answers behind each evaluation, NaN where unknown.
    start : (float, float) or None
        Reward at zero compute and its n_eval.
    evaluation_error, C_mid_origin
        As in `SigmoidPriors`.
    """
    log_compute = np.log(compute)
    log_origin = float(log_compute.mean())
    # Rounded far below any meaning, so that another unit of compute gives the same arrays bit for bit.
    x = np.round(log_compute - log_origin, 9)
    eval_var = evaluation_sd(reward, n_eval, evaluation_error) ** 2
    count = np.ones_like(x)
    x_low, x_high = x[0] + np.array(ANCHORS) * (x[-1] - x[0])
    if len(x) > BUCKETS[-1]:
        x, reward, eval_var, count = bin_evaluations(x, reward, eval_var, MAX_BINS)
    pad = next(b for b in BUCKETS if b >= len(x)) - len(x)

    return RunData(
        x=np.pad(x, (0, pad), mode="edge"),
        reward=np.pad(reward, (0, pad), mode="edge"),
        observed=np.pad(np.ones(len(x), bool), (0, pad)),
        eval_var=np.pad(eval_var + RESOLUTION**2, (0, pad), mode="edge"),
        count=np.pad(count, (0, pad), mode="edge"),
        start=None if start is None else _start(*start, evaluation_error),
        x_low=x_low,
        x_high=x_high,
        x_prior=np.float64(0.0 if C_mid_origin is None else np.log(C_mid_origin) - log_origin),
        log_origin=np.float64(log_origin),
    )


def _start(reward: float, n_eval: float, evaluation_error: float) -> Start:
    sd = float(evaluation_sd(np.array(reward), np.array(n_eval), evaluation_error))
    centre = np.clip(reward, 1e-3, 1.0 - 1e-3)
    return Start(
        reward=np.float64(reward),
        var=np.float64(sd**2 + RESOLUTION**2),
        white_weight=np.float64(np.isnan(n_eval)),
        logit=np.log(centre / (1.0 - centre)),
        logit_slope=1.0 / (centre * (1.0 - centre)),
    )
