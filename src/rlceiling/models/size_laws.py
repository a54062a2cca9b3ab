"""Scaling laws across model sizes: curve of one size, dependence of its parameters on size, and verdict sentences.

Everything that differs between two laws is in their `SizeLaw` records here; other modules read these records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.special import expit

from rlceiling.curves.arrays import namespace
from rlceiling.curves.curve import Curve
from rlceiling.curves.power_law import POWER_LAW as POWER_LAW_CURVE
from rlceiling.curves.sigmoid import SIGMOID
from rlceiling.curves.size_laws import ceiling_exponent, ceiling_of_size, saturating_exponent
from rlceiling.models.pooling import (
    AcrossSizes,
    SizeParameter,
    brownian_motion,
    independent,
    integrated_brownian_motion,
)
from rlceiling.models.size_priors import CeilingLawPriors, PowerLawPriors, SizePriors

Values = Mapping[str, Any]
"""Draws of the parameters of a law, by name."""


@dataclass(frozen=True, eq=False)
class Saturating:
    """The parameter that saturates with model size; plots and verdicts show it.

    Attributes
    ----------
    parameter : str
        Name of the size-level parameter.
    of_size : callable
        (values, t, span of t) -> the constrained parameter under the law, without the deviations of sizes.
    limit : callable
        values -> asymptote of the parameter for infinite model size.
    """

    parameter: str
    of_size: Callable[[Values, Any, tuple[float, float]], Any]
    limit: Callable[[Values], Any]


@dataclass(frozen=True, eq=False)
class SizeLaw:
    """A law across model sizes.

    Attributes
    ----------
    name : str
        Name, as given by the user.
    phrase : str
        Name with its article, for use inside a sentence.
    curve : Curve
        Learning curve of one size.
    pooling : AcrossSizes
        Dependence of the parameters of the curve on size.
    priors : type
        Class of the priors.
    first_values : callable
        Least-squares estimates of the size-level parameters, shape (parameters, sizes) -> initial population
        parameters.
    saturating : Saturating
        The parameter that saturates with model size.
    limits : callable
        (values, span of t, N_ref) -> draws of the parameters in the published form of the law, sizes in the user's
        unit.
    past_bend : callable
        (values, limits, largest size, share) -> per draw, whether the largest size is past the bend of the law.
    table : callable
        size-level parameters -> symbol -> (unit, constrained draws), as shown in tables; a resource is relative to
        X_ref.
    unseen, seen : str
        Sentences of the verdict when the bend has not and has been observed, with fields such as ``{N0}``,
        ``{N0_lower}`` and ``{largest}``.
    """

    name: str
    phrase: str
    curve: Curve
    pooling: AcrossSizes
    priors: type[SizePriors]
    first_values: Callable[[np.ndarray], dict[str, float]]
    saturating: Saturating
    limits: Callable[[Values, tuple[float, float], float], dict[str, np.ndarray]]
    past_bend: Callable[[Values, Values, float, float], Any]
    table: Callable[[Values], dict[str, tuple[str, np.ndarray]]]
    unseen: str
    seen: str


_NOISE = SizeParameter("ln_sigma", "sigma_spread", independent, factor="sigma")


def _common_first_values(estimate: np.ndarray, pooling: AcrossSizes) -> dict[str, float]:
    values = dict.fromkeys(pooling.scales, 0.3)
    return values | {"share": 0.5, "length": 0.5, "sigma": float(np.exp(estimate[-1].mean()))}


# Power law with an exponent that saturates ----------------------------------------------------------------------------


def _power_law_means(values: Values, t: Any, span: tuple[float, float]) -> dict[str, Any]:
    xp = namespace(t, *values.values())
    return {
        "ln_E": xp.log(saturating_exponent(xp.exp(t), values["E_max"], values["N0"])),
        "ln_sigma": xp.log(values["sigma"]) + 0.0 * t,
    }


_POWER_LAW_POOLING = AcrossSizes(
    (
        SizeParameter("ln_K", "ln_K_bend", integrated_brownian_motion, "ln_K", "ln_K_slope"),
        SizeParameter("ln_E", "E_spread", independent, factor="E_max"),
        _NOISE,
    ),
    ("E_max", "N0", "sigma"),
    _power_law_means,
)


def _power_law_first_values(estimate: np.ndarray) -> dict[str, float]:
    E = np.exp(estimate[1])
    values = _common_first_values(estimate, _POWER_LAW_POOLING)
    return values | {"E_max": float(1.3 * E.max()), "N0": 1.0, "ln_K_bend": 0.1}


POWER_LAW = SizeLaw(
    name="power law",
    phrase="the power law",
    curve=POWER_LAW_CURVE,
    pooling=_POWER_LAW_POOLING,
    priors=PowerLawPriors,
    first_values=_power_law_first_values,
    saturating=Saturating(
        "ln_E",
        lambda values, t, span: saturating_exponent(np.exp(t), values["E_max"], values["N0"]),
        lambda values: values["E_max"],
    ),
    limits=lambda values, span, N_ref: {"E_max": values["E_max"], "N0": N_ref * values["N0"]},
    past_bend=lambda values, limits, largest, share: limits["N0"] < largest,
    table=lambda own: {"K": ("none", np.exp(own["ln_K"])), "E": ("none", np.exp(own["ln_E"]))},
    unseen=(
        "the sizes up to {largest} may all lie below N0 (chance to be past it {p_bend:.2f}; N0 anywhere from"
        " {N0_lower} to {N0_upper}), so where the exponent saturates cannot be known."
    ),
    seen=(
        "the exponent saturates at {E_max} (90% interval {E_max_lower} to {E_max_upper}), half of it at {N0}"
        " ({N0_lower} to {N0_upper})."
    ),
)


# Sigmoid with a ceiling that depends on size --------------------------------------------------------------------------


def _ceilings(values: Values) -> tuple[Any, Any, Any]:
    """Ceilings of the smallest, the largest and an infinitely large size, from their sampled shares."""
    A_largest = values["A_largest"]
    return A_largest * values["A_smallest"], A_largest, A_largest + (1.0 - A_largest) * values["A_limit"]


def _ceiling_law_means(values: Values, t: Any, span: tuple[float, float]) -> dict[str, Any]:
    xp = namespace(t, *values.values())
    A = ceiling_of_size(t, span, *_ceilings(values))
    return {
        "logit_A": xp.log(A) - xp.log1p(-A),
        "ln_B": xp.log(values["B"]) + 0.0 * t,
        "ln_sigma": xp.log(values["sigma"]) + 0.0 * t,
    }


_CEILING_LAW_POOLING = AcrossSizes(
    (
        SizeParameter("logit_A", "A_walk", brownian_motion),
        SizeParameter("logit_start", "start_spread", independent, "start", "start_slope"),
        SizeParameter("x_mid", "X_mid_spread", independent, "X_mid", "X_mid_slope"),
        SizeParameter("ln_B", "B_spread", independent, factor="B"),
        _NOISE,
    ),
    ("A_largest", "A_smallest", "A_limit", "B", "sigma"),
    _ceiling_law_means,
)


def _ceiling_law_first_values(estimate: np.ndarray) -> dict[str, float]:
    A = expit(estimate[0])
    largest = float(np.clip(A[-1], 0.05, 0.95))
    values = _common_first_values(estimate, _CEILING_LAW_POOLING)
    values |= {"A_largest": largest, "A_smallest": float(np.clip(A[0] / largest, 0.05, 0.95)), "A_limit": 0.4}
    return values | {"B": float(np.exp(estimate[3].mean())), "A_walk": 0.3}


def _ceiling_law_limits(values: Values, span: tuple[float, float], N_ref: float) -> dict[str, np.ndarray]:
    smallest, largest, limit = _ceilings(values)
    alpha = np.asarray(ceiling_exponent(span, smallest, largest, limit))
    # limit - A(N) = (N1 / N)^alpha at the largest size.
    with np.errstate(divide="ignore"):
        N1 = np.exp(np.log(limit - largest) / alpha) * N_ref * np.exp(span[1])
    return {"L_inf": 1.0 - limit, "N1": N1, "alpha": alpha}


def _ceiling_law_past_bend(values: Values, limits: Values, largest: float, share: float) -> Any:
    _, A_largest, limit = _ceilings(values)
    return A_largest > share * limit


CEILING_LAW = SizeLaw(
    name="ceiling",
    phrase="the ceiling law",
    curve=SIGMOID,
    pooling=_CEILING_LAW_POOLING,
    priors=CeilingLawPriors,
    first_values=_ceiling_law_first_values,
    saturating=Saturating(
        "logit_A",
        lambda values, t, span: ceiling_of_size(t, span, *_ceilings(values)),
        lambda values: _ceilings(values)[2],
    ),
    limits=_ceiling_law_limits,
    past_bend=_ceiling_law_past_bend,
    table=lambda own: {
        "A": ("reward", expit(own["logit_A"])),
        "R0": ("reward", expit(own["logit_A"]) * expit(own["logit_start"])),
        "X_mid": ("resource", np.exp(own["x_mid"])),
        "B": ("none", np.exp(own["ln_B"])),
    },
    unseen=(
        "ceilings still rise with size at {largest} (chance to have {share:.0%} of the last one {p_bend:.2f}; loss of a"
        " model without limit anywhere from {L_inf_lower} to {L_inf_upper})."
    ),
    seen="a model without limit keeps a test loss of {L_inf} (90% interval {L_inf_lower} to {L_inf_upper}).",
)

LAWS: Mapping[str, SizeLaw] = MappingProxyType({law.name: law for law in (POWER_LAW, CEILING_LAW)})
"""Name of the law -> law."""
