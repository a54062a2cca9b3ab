"""Priors of the laws across model sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpyro import distributions as dist

from rlceiling.models.priors import NORMAL, POSITIVE, UNIT_INTERVAL, Priors, check_evaluation_error


@dataclass(frozen=True, eq=False, repr=False)
class SizePriors(Priors):
    """Priors of the noise, shared by both laws; see `PowerLawPriors` and `CeilingLawPriors`."""

    sigma: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.01), 0.7))
    sigma_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.5))
    share: Any = field(default_factory=lambda: dist.Beta(2.0, 1.0))
    length: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.5), 1.0))
    evaluation_error: float = 0.5

    supports: ClassVar[Mapping[str, str]] = {
        "sigma": POSITIVE,
        "sigma_spread": POSITIVE,
        "share": UNIT_INTERVAL,
        "length": POSITIVE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_evaluation_error(self.evaluation_error)


@dataclass(frozen=True, eq=False, repr=False)
class PowerLawPriors(SizePriors):
    r"""Priors of the power law across sizes; each prior can be replaced.

    .. math::
        L(N, X) = K(N)\, (X / X_{ref})^{-E(N)}, \qquad E(N) = E_{max} / (1 + N_0 / N)

    where ``L = 1 - pass rate``. ``X_ref`` is the geometric mean of the resource (each size with equal weight) and
    ``N_ref`` the geometric mean of the sizes, so the priors do not depend on units. The exponent of every size is
    distributed around ``E(N)``; ``ln K(N)`` is a Gaussian process in ln N, a line plus integrated Brownian motion, so
    that its slope deviates further from the slope at ``N_ref`` with the distance from ``N_ref``. The noise is on the
    pass rate and is that of the sigmoid model: an Ornstein-Uhlenbeck process in ln X plus white noise. On ``ln L`` it
    is the same noise divided by L (the delta method), which agrees with real runs: between sizes of 0.5B and 72B their
    scatter differs six-fold on ``ln L``, and two- to three-fold on the pass rate.

    The paper writes ``ln L = -k(N) ln X + E(N)``. Its learning efficiency ``k(N)`` is the exponent ``E(N)`` here, and
    its ``E(N)`` is ``ln K(N)`` at ``X_ref = 1``.

    Parameters
    ----------
    ln_K : Normal, default Normal(-0.5, 0.7)
        ``ln K`` at ``N_ref``. It must be a normal, because it is integrated in closed form; so must `ln_K_slope`.
    ln_K_slope : Normal, default Normal(-0.2, 0.3)
        Slope of ``ln K`` in ln N at ``N_ref``. Between the Qwen2.5 models the slope is -0.03 to -0.25.
    ln_K_bend : positive distribution, default HalfNormal(0.1)
        Standard deviation of the change of that slope over a factor e in N (scale of the integrated Brownian motion).
    E_max : positive distribution, default LogNormal(ln 0.15, 0.7)
        Exponent of an infinitely large model. Published values are 0.13 to 0.16.
    N0 : positive distribution, default LogNormal(0, 1.5)
        Size at which the exponent is half of `E_max`, divided by ``N_ref``. Wide, around the sizes that were trained.
    E_spread : positive distribution, default HalfNormal(0.3)
        Between-size standard deviation of ln E around the law.
    sigma : positive distribution, default LogNormal(ln 0.01, 0.7)
        Typical standard deviation of one evaluation around its curve, on the pass rate: means of three runs have .005
        to .015.
    sigma_spread : positive distribution, default HalfNormal(0.5)
        Between-size standard deviation of the logarithm of the noise standard deviation.
    share, length : as in `SigmoidPriors`
        Share of the variance that is autocorrelated along a run, and its correlation length in ln X.
    evaluation_error : float, default 0.5
        As in `SigmoidPriors`.

    References
    ----------
    "Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300.
    """

    ln_K: Any = field(default_factory=lambda: dist.Normal(-0.5, 0.7))
    ln_K_slope: Any = field(default_factory=lambda: dist.Normal(-0.2, 0.3))
    ln_K_bend: Any = field(default_factory=lambda: dist.HalfNormal(0.1))
    E_max: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.15), 0.7))
    N0: Any = field(default_factory=lambda: dist.LogNormal(0.0, 1.5))
    E_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.3))

    supports: ClassVar[Mapping[str, str]] = {
        **SizePriors.supports,
        "ln_K": NORMAL,
        "ln_K_slope": NORMAL,
        "ln_K_bend": POSITIVE,
        "E_max": POSITIVE,
        "N0": POSITIVE,
        "E_spread": POSITIVE,
    }


@dataclass(frozen=True, eq=False, repr=False)
class CeilingLawPriors(SizePriors):
    r"""Priors of the ceiling law across sizes, the sigmoid with a ceiling that depends on N; all can be replaced.

    .. math::
        L(N, X) = L_\infty + (N_1 / N)^\alpha + \frac{\lambda(N)}{1 + (X / X_{mid}(N))^{B(N)}}, \qquad
        A(N) = 1 - L_\infty - (N_1 / N)^\alpha, \quad \lambda(N) = A(N) - R_0(N)

    The priors are on interpretable quantities: the ceilings of the smallest and the largest size in the data and of an
    infinitely large model, from which ``L_inf``, ``N1`` and ``alpha`` follow. The logit of a size's ceiling deviates
    from the law by a Brownian motion in ln N that is 0 at the geometric mean of the sizes. The logit of ``R0/A`` and
    ``ln X_mid`` of every size are distributed around a line in ln N each, and ``ln B`` around a constant. A step-0
    evaluation is data for ``R0``.

    Parameters
    ----------
    A_largest : distribution on (0, 1), default Beta(1.5, 1.5)
        Ceiling of the largest size, as a pass rate.
    A_smallest : distribution on (0, 1), default Beta(1, 1)
        Ceiling of the smallest size, as a share of `A_largest`.
    A_limit : distribution on (0, 1), default Beta(1, 1.5)
        Ceiling of an infinitely large model, as a share of the headroom above the largest size: the ceiling is
        ``A_largest + (1 - A_largest) A_limit``.
    A_walk : positive distribution, default LogNormal(ln 0.25, 0.4)
        Standard deviation of the Brownian motion of the logit of the ceiling over a factor e in N.
    start, start_slope : Normal, default Normal(-0.5, 1) and Normal(0, 0.3)
        Logit of ``R0/A`` at the middle size, and its slope in ln N.
    start_spread : positive distribution, default LogNormal(ln 0.4, 0.35)
        Between-size standard deviation around that line.
    X_mid, X_mid_slope : Normal, default Normal(0, 2) and Normal(0, 1)
        ``ln (X_mid / X_ref)`` at the middle size, and its slope in ln N: about 1 against compute and 0 against data.
    X_mid_spread : positive distribution, default LogNormal(ln 0.4, 0.35)
        Between-size standard deviation around that line.
    B : positive distribution, default LogNormal(ln 1.7, 0.6)
        Typical efficiency, as in `SigmoidPriors`.
    B_spread : positive distribution, default LogNormal(ln 0.4, 0.35)
        Between-size standard deviation of ln B around that value. The default priors keep all between-size standard
        deviations away from 0: sizes do differ (on the Qwen2.5 runs all four are 0.4 to 0.6), and curves that follow a
        law exactly are hard to sample while their ceilings are not yet determined (Chung et al. 2013,
        doi:10.1007/s11336-013-9328-2, on priors that keep a scale away from 0).
    sigma, sigma_spread, share, length, evaluation_error
        As in `PowerLawPriors`.

    References
    ----------
    "Scaling Behaviors of LLM Reinforcement Learning Post-Training", arXiv 2509.25300, appendix D.
    """

    A_largest: Any = field(default_factory=lambda: dist.Beta(1.5, 1.5))
    A_smallest: Any = field(default_factory=lambda: dist.Beta(1.0, 1.0))
    A_limit: Any = field(default_factory=lambda: dist.Beta(1.0, 1.5))
    A_walk: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.25), 0.4))
    start: Any = field(default_factory=lambda: dist.Normal(-0.5, 1.0))
    start_slope: Any = field(default_factory=lambda: dist.Normal(0.0, 0.3))
    start_spread: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.4), 0.35))
    X_mid: Any = field(default_factory=lambda: dist.Normal(0.0, 2.0))
    X_mid_slope: Any = field(default_factory=lambda: dist.Normal(0.0, 1.0))
    X_mid_spread: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.4), 0.35))
    B: Any = field(default_factory=lambda: dist.LogNormal(math.log(1.7), 0.6))
    B_spread: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.4), 0.35))

    supports: ClassVar[Mapping[str, str]] = {
        **SizePriors.supports,
        "A_largest": UNIT_INTERVAL,
        "A_smallest": UNIT_INTERVAL,
        "A_limit": UNIT_INTERVAL,
        "A_walk": POSITIVE,
        "start": NORMAL,
        "start_slope": NORMAL,
        "start_spread": POSITIVE,
        "X_mid": NORMAL,
        "X_mid_slope": NORMAL,
        "X_mid_spread": POSITIVE,
        "B": POSITIVE,
        "B_spread": POSITIVE,
    }
