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
    """Priors that both laws share: the noise. See `PowerLawPriors` and `CeilingLawPriors`."""

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
    r"""Priors of the power law across sizes; every one can be replaced.

    .. math::
        L(N, X) = K(N)\, (X / X_{ref})^{-E(N)}, \qquad E(N) = E_{max} / (1 + N_0 / N)

    with ``L = 1 - pass rate``. ``X_ref`` is the geometric mean of the resource (every size counts once) and ``N_ref``
    that of the sizes, so nothing here depends on units. The exponent of every size lies around ``E(N)``; ``ln K(N)`` is
    a smooth curve in ln N, a line whose slope wanders ever further from the slope at ``N_ref``. Noise is that of the
    sigmoid model, an Ornstein-Uhlenbeck process in ln X and white noise, on the pass rate; on ``ln L`` that is the same
    divided by L (the delta method), which real runs follow: their scatter on ``ln L`` differs six-fold between
    sizes of 0.5B and 72B, on the pass rate two- to three-fold.

    The paper writes ``ln L = -k(N) ln X + E(N)``. Its learning efficiency ``k(N)`` is the exponent ``E(N)`` here, and
    its ``E(N)`` is ``ln K(N)`` at ``X_ref = 1``.

    Parameters
    ----------
    ln_K : Normal, default Normal(-0.5, 0.7)
        ``ln K`` at ``N_ref``. A normal, since it is integrated in closed form; so is `ln_K_slope`.
    ln_K_slope : Normal, default Normal(-0.2, 0.3)
        Slope of ``ln K`` in ln N there: between the Qwen2.5 models it is -0.03 to -0.25.
    ln_K_bend : positive distribution, default HalfNormal(0.1)
        Standard deviation of the change of that slope over a factor e in N.
    E_max : positive distribution, default LogNormal(ln 0.15, 0.7)
        Exponent of a model without limit. Published: 0.13 to 0.16.
    N0 : positive distribution, default LogNormal(0, 1.5)
        Size with half of it, over ``N_ref``. Wide, around the sizes that were trained.
    E_spread : positive distribution, default HalfNormal(0.3)
        Standard deviation of ln E of a size around the law.
    sigma : positive distribution, default LogNormal(ln 0.01, 0.7)
        Usual standard deviation of one evaluation around its curve, on the pass rate: means of three runs have .005 to
        .015.
    sigma_spread : positive distribution, default HalfNormal(0.5)
        Standard deviation of its logarithm between sizes.
    share, length : as in `SigmoidPriors`
        Share of the variance that is correlated along a run, and over what length in ln X.
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

    Priors stand on what people have a feeling for: the ceilings of the smallest and the largest size seen, and of one
    without limit, from which ``L_inf``, ``N1`` and ``alpha`` follow. The logit of a size's ceiling departs from the law
    by a random walk in ln N that starts at the geometric mean of the sizes. Logit of ``R0/A``, ``ln X_mid`` and
    ``ln B`` of every size lie around a line in ln N, a line, and a constant. A step-0 evaluation tells about ``R0``.

    Parameters
    ----------
    A_largest : distribution on (0, 1), default Beta(1.5, 1.5)
        Ceiling of the largest size, as a pass rate.
    A_smallest : distribution on (0, 1), default Beta(1, 1)
        That of the smallest, as a share of it.
    A_limit : distribution on (0, 1), default Beta(1, 1.5)
        That of a model without limit, as a share of what is left above the largest.
    A_walk : positive distribution, default LogNormal(ln 0.25, 0.4)
        Standard deviation of the walk of the logit of the ceiling over a factor e in N.
    start, start_slope : Normal, default Normal(-0.5, 1) and Normal(0, 0.3)
        Logit of ``R0/A`` at the middle size, and its slope in ln N.
    start_spread : positive distribution, default LogNormal(ln 0.4, 0.35)
        Standard deviation of a size around that line.
    X_mid, X_mid_slope : Normal, default Normal(0, 2) and Normal(0, 1)
        ``ln (X_mid / X_ref)`` at the middle size, and its slope in ln N: about 1 against compute and 0 against data.
    X_mid_spread : positive distribution, default LogNormal(ln 0.4, 0.35)
        Standard deviation of a size around that line.
    B : positive distribution, default LogNormal(ln 1.7, 0.6)
        Usual efficiency, as in `SigmoidPriors`.
    B_spread : positive distribution, default LogNormal(ln 0.4, 0.35)
        Standard deviation of ln B of a size around it. No spread may be 0: sizes do differ (on the Qwen2.5 runs all
        four spreads are 0.4 to 0.6), and curves bound to a law exactly are hard to sample while their ceilings are open
        (Chung et al. 2013, doi:10.1007/s11336-013-9328-2, on priors that keep a scale from 0).
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
