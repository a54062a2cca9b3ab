"""The sigmoid model of a recipe and its runs: priors and NumPyro model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import distributions as dist

from rlceiling.curves.sigmoid import share_of_rise, steepness
from rlceiling.curves.stages import OF_STAGE
from rlceiling.errors import DataError, is_finite
from rlceiling.models.likeness import GROUPS, LIKE, add_log_density, drawn_priors, log_likeness
from rlceiling.models.noise import OUWhiteNoise
from rlceiling.models.pooling import CORE, FREEDOM
from rlceiling.models.priors import (
    POSITIVE,
    UNIT_INTERVAL,
    Priors,
    check_evaluation_error,
    with_floats,
)
from rlceiling.models.recipe_coordinates import OF_CURVE, VARIES
from rlceiling.models.recipe_data import EarlierStages, RecipeData

REFERENCE = Path(__file__).with_name("reference_priors.toml")
"""Priors that ``benchmarks/calibration/studies.py --part reference`` learned."""


@dataclass(frozen=True, eq=False, repr=False)
class SigmoidPriors(Priors):
    r"""Priors of the sigmoid model; each prior can be replaced.

    Each field except the last four takes a univariate NumPyro distribution with scalar arguments, on the support
    named below. Rewards are on [0, 1] here (other bounds are rescaled before fitting).

    Parameters
    ----------
    R0 : distribution on (0, 1), default Uniform(0, 1)
        Reward at compute 0, used only when no run logged an evaluation at compute 0. Otherwise the prior is
        ``Normal(that evaluation, its error)`` truncated to [0, 1]: ScaleRL holds R0 fixed at it, and freeing it moves
        A by .01 to .03 and B by up to a factor of 2.
    headroom : distribution on (0, 1), default Beta(1.5, 1.5)
        ``(A - R0) / (1 - R0)``, the gain as a share of the largest possible gain. Weakly informative; keeps
        ``R0 < A < 1``.
    B : positive distribution, default LogNormal(ln 1.7, 0.6)
        Efficiency, no unit. Published values lie between 1.1 and 5 (arXiv 2510.13786).
    C_mid : positive distribution, default LogNormal(0, 2)
        Midpoint divided by `C_mid_origin`, no unit. The prior is wide and relative to the compute of the run, so that
        results do not change when compute is given in other units.
    sigma : positive distribution, default HalfNormal(0.02)
        Standard deviation of the noise around the curve, without the evaluation error, in reward. Residuals of real
        curves have .002 to .02.
    share : distribution on (0, 1), default Beta(2, 1)
        Share of the variance ``sigma**2`` that is autocorrelated along the run. The default prefers large shares,
        because forecasts of held-out evaluations of real runs are then better calibrated than under a uniform prior
        (``benchmarks/calibration``).
    length : positive distribution, default LogNormal(ln 0.5, 1)
        Correlation length in ln C, no unit.
    tail : positive distribution, default LogNormal(0, 1)
        Tail of the curve, no unit: 1 is the sigmoid (see `rlceiling.curves.sigmoid_share`). All runs of a recipe share
        it. The form of the curve is not known: simulated runs of other forms that end as usual were forecast at 10
        times their compute with a coverage of 0.72 by the sigmoid and of 0.87 under this prior (nominal 0.9), and
        held-out evaluations of real runs better than by the sigmoid. ``LogNormal(0, 0.01)`` gives the sigmoid.
    headroom_spread : positive distribution, default HalfNormal(0.1)
        Between-run spread, within one recipe, of the logit of headroom: the standard deviation of healthy runs. Three
        seeds of ScaleRL gave ceilings within +-.015, and the ceilings of ten seeds on GSM8K differ by .005 to .01; at
        the headroom of those runs both are .05 to .1 on the logit scale. With one run the posterior equals the prior;
        with several runs the data inform it.
    C_mid_spread : positive distribution, default HalfNormal(0.2)
        Between-run spread of ln C_mid. No margins are published; five seeds of complete curves have
        .05 to .3, and a wider prior did not forecast a held-out seed any better (``benchmarks/calibration``).
    B_spread : positive distribution, default HalfNormal(0.1)
        Between-run spread of ln B. Runs that share one B (a standard deviation near 0) forecast a held-out
        seed worse, and a wider prior forecasts it hardly better.
    sigma_spread : positive distribution, default HalfNormal(0.3)
        Between-run spread of ln sigma. Only with several runs do the data inform it.
    C_mid_origin : float or None, default None
        Compute relative to which the midpoint prior is defined, in the unit of the run. None means the geometric mean
        of the run's own evaluations.
    evaluation_error : float, default 0.5
        Standard error of an evaluation with known ``n_eval``, as a multiple of the binomial standard error. With a
        fixed test set the scatter is about half of binomial; with a fresh random subset at each evaluation set it to 1.
        It is a lower bound of the white noise, and the error of the step-0 evaluation.
    bad_share : float, default 0.01
        Prior probability that an evaluation is bad: a crashed or truncated evaluation, a wrong checkpoint. It then lies
        anywhere (see `rlceiling.models.noise`) and says nothing about the curve. At the default an evaluation is
        set aside when it lies about four standard deviations off. 0 trusts every evaluation.
    form_error : float, default 0.05
        Error of the form of the curve in forecasts beyond the data: the standard deviation at a compute ``C`` beyond
        the last evaluation, at ``C_last``, is ``form_error * (A - R0) * sqrt(ln(C / C_last))``, a random walk in ln C.
        A curve with few parameters is an approximation, and with the default held-out evaluations of real runs are
        covered as claimed (``benchmarks/calibration``). It changes no draws and no ceiling. 0 trusts the form.

    Raises
    ------
    DataError
        If a prior is not a scalar NumPyro distribution on its support, `C_mid_origin` is not a positive number,
        `evaluation_error` or `form_error` is negative or not finite, or `bad_share` is not from 0 to below 0.5.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> import rlceiling as rl
    >>> priors = rl.SigmoidPriors(B=dist.LogNormal(0.7, 0.3), C_mid=dist.LogNormal(0, 1), C_mid_origin=3000)
    """

    R0: Any = field(default_factory=lambda: dist.Uniform(0.0, 1.0))
    headroom: Any = field(default_factory=lambda: dist.Beta(1.5, 1.5))
    B: Any = field(default_factory=lambda: dist.LogNormal(math.log(1.7), 0.6))
    C_mid: Any = field(default_factory=lambda: dist.LogNormal(0.0, 2.0))
    sigma: Any = field(default_factory=lambda: dist.HalfNormal(0.02))
    share: Any = field(default_factory=lambda: dist.Beta(2.0, 1.0))
    length: Any = field(default_factory=lambda: dist.LogNormal(math.log(0.5), 1.0))
    tail: Any = field(default_factory=lambda: dist.LogNormal(0.0, 1.0))
    headroom_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.1))
    C_mid_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.2))
    B_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.1))
    sigma_spread: Any = field(default_factory=lambda: dist.HalfNormal(0.3))
    C_mid_origin: float | None = None
    evaluation_error: float = 0.5
    bad_share: float = 0.01
    form_error: float = 0.05

    supports: ClassVar[Mapping[str, str]] = {
        "R0": UNIT_INTERVAL,
        "headroom": UNIT_INTERVAL,
        "B": POSITIVE,
        "C_mid": POSITIVE,
        "sigma": POSITIVE,
        "share": UNIT_INTERVAL,
        "length": POSITIVE,
        "tail": POSITIVE,
        "headroom_spread": POSITIVE,
        "C_mid_spread": POSITIVE,
        "B_spread": POSITIVE,
        "sigma_spread": POSITIVE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.C_mid_origin is not None and not (is_finite(self.C_mid_origin) and self.C_mid_origin > 0):
            raise DataError(
                f"C_mid_origin={self.C_mid_origin!r} is not a positive compute; give one in the unit of the runs, "
                "or None for each run's own geometric mean"
            )
        check_evaluation_error(self.evaluation_error)
        if not (is_finite(self.bad_share) and 0.0 <= self.bad_share < 0.5):
            raise DataError(
                f"bad_share={self.bad_share!r} is not a probability below 0.5; give the share of evaluations that are "
                "bad, or 0 to trust all"
            )
        if not (is_finite(self.form_error) and self.form_error >= 0.0):
            raise DataError(
                f"form_error={self.form_error!r} is not a share of the gain; give a number of 0 or more (0 trusts the "
                "form of the curve)"
            )

    @classmethod
    def weak(cls) -> SigmoidPriors:
        """Weakly informative priors, the default, which were not learned from other recipes."""
        return SigmoidPriors()

    @classmethod
    def reference(cls) -> SigmoidPriors:
        """Priors of a recipe of a new study, learned from public runs of five studies.

        They were learned from `scalerl`, `qwen_math` and three more studies (GRPO with several group sizes, and two of
        "Not All Rollouts are Useful", arXiv 2504.13818), and carry the differences between studies. They say nothing
        about R0, which is that of the model and the task, nor about C_mid, whose unit differs between studies.
        Left out in turn, these studies were forecast no better under the priors of the other four than under the weak
        priors, which therefore are the default (see ``benchmarks/calibration``).

        Returns
        -------
        LearnedPriors
        """
        from rlceiling.models.learned_priors import load_priors  # whose priors are a subclass of these

        return load_priors(REFERENCE)

    def suited_to(self, compute: str, *, staged: bool) -> SigmoidPriors:
        """Priors of runs in this unit of compute, with several stages or one: these."""
        return self

    def spread_log_density(self, of: str) -> Callable[[np.ndarray], np.ndarray]:
        """Log prior density of the between-run standard deviation of ``"headroom"``, ``"C_mid"`` or ``"B"``."""
        prior = with_floats(getattr(self, f"{of}_spread"))
        return lambda spread: np.asarray(prior.log_prob(spread))


def sigmoid_model(recipe: RecipeData, priors: Mapping[str, Any], *, predict: bool = False) -> None:
    r"""NumPyro model of one recipe and its runs.

    .. math::
        R_j(C) = R_0 + (A_j - R_0)\,s(C; B_j, C_{mid,j}, \tau), \qquad
        y_{ij} = R_j(C_{ij}) + o_j(\ln C_{ij}) + w_{ij}

    where ``s`` is the sigmoid with the tail ``tau`` (`rlceiling.curves.sigmoid_share`), ``o_j`` is an
    Ornstein-Uhlenbeck process of run ``j`` with variance ``share * sigma**2`` and correlation length ``length`` in
    ``ln C``, and ``w_ij ~ Normal(0, (1 - share) * sigma**2 / count_ij + eval_var_ij)`` (the second argument is a
    variance), or with probability ``bad_share`` a bad evaluation (see `rlceiling.models.noise`). Runs are partially
    pooled: the logit of the headroom ``(A_j - R0) / (1 - R0)``, ``ln C_mid,j``, ``ln B_j`` and ``ln sigma_j`` are
    distributed around the values of the recipe, each with its own between-run spread, as Student t numbers with four
    degrees of freedom (see `rlceiling.models.pooling.Exchangeable`).

    A run whose training has stages has the curve of `rlceiling.curves.stages`. Each stage has its own headroom, the
    gain as a share of what was left to gain at its beginning, and its own midpoint, counted from its beginning, with
    the priors of a run with one stage; the noise, B and the tail are common to the stages. Such a recipe has one run.

    Parameters
    ----------
    recipe : RecipeData
        The recipe (see `rlceiling.models.recipe_data.prepare`).
    priors : mapping of name to distribution
        From `SigmoidPriors.distributions`.
    predict : bool, default False
        Draw the rewards instead of conditioning on them (prior and posterior predictive).

    References
    ----------
    Curve and published parameters: arXiv 2510.13786. Tail: Burr 1942, doi 10.1214/aoms/1177731607.
    """
    log_origin = recipe.log_origin + recipe.x_prior
    if predict:
        groups = (group for group in GROUPS if LIKE(group) in priors)
        like = {group: numpyro.sample(LIKE(group), dist.Bernoulli(priors[LIKE(group)].probs)) for group in groups}
        priors = drawn_priors(priors, log_origin, like)
    sigma = numpyro.sample("sigma", priors["sigma"])
    share = numpyro.sample("share", priors["share"])
    length = numpyro.sample("length", priors["length"])
    white_var = (1.0 - share) * sigma**2
    first = "R0" if recipe.stages is None else "R0_1"
    if recipe.start is None:
        R0 = numpyro.sample(first, priors["R0"])
    else:
        start_sd = jnp.sqrt(recipe.start.var + recipe.start.white_weight * white_var)
        R0 = numpyro.sample(first, dist.TruncatedNormal(recipe.start.reward, start_sd, low=0.0, high=1.0))
    headroom = numpyro.sample("headroom", priors["headroom"])
    B = numpyro.sample("B", priors["B"])
    ratio = numpyro.sample("C_mid_ratio", priors["C_mid"])
    tail = numpyro.sample("tail", priors["tail"])
    spread = {f"{name}_spread": numpyro.sample(f"{name}_spread", priors[f"{name}_spread"]) for name in VARIES}
    spreads = jnp.stack(list(spread.values()))
    if not predict:
        values = {"R0": R0, "headroom": headroom, "B": B, "C_mid": ratio, "tail": tail}
        values |= {"sigma": sigma, "share": share, "length": length, **spread}
        likeness = log_likeness(values, priors, log_origin, start_known=recipe.start is not None)
        if likeness:
            add_log_density("likeness", jnp.stack([jnp.logaddexp(*terms) for terms in likeness.values()]).sum())
    runs = recipe.runs
    around = dist.StudentT(FREEDOM, jnp.zeros((len(runs.reward), len(VARIES))), CORE * spreads)
    offsets = numpyro.sample("offsets", around.to_event(2))

    before: Any = None
    if recipe.stages is not None:
        stages = range(1, len(recipe.stages.x_prior) + 1)
        headrooms = [numpyro.sample(f"headroom_{k}", priors["headroom"]) for k in stages]
        ratios = [numpyro.sample(f"C_mid_ratio_{k}", priors["C_mid"]) for k in stages]
        own_B = B * jnp.exp(offsets[0, VARIES.index("B")])
        levels = stage_levels(recipe.stages, R0, headrooms, ratios, own_B, tail)
        before = earlier_curve(recipe, levels, headrooms, ratios, own_B, tail)
        for name, value in stage_parameters(recipe, levels, headrooms, ratios).items():
            if name not in (first, *(f"headroom_{k}" for k in stages)):
                numpyro.deterministic(name, value)
        R0 = levels[-1]
        numpyro.deterministic("R0", R0)
    numpyro.deterministic("A", R0 + (1.0 - R0) * headroom)
    numpyro.deterministic("C_mid", ratio * jnp.exp(log_origin))
    curve = run_curves(recipe, R0, headroom, B, ratio, tail, offsets)
    if before is not None:
        curve = curve + before
    variance = (sigma * jnp.exp(offsets[:, OF_CURVE:].squeeze(-1))) ** 2
    white = (1.0 - share) * variance[:, None] / runs.count + runs.eval_var
    noise = OUWhiteNoise(curve, runs.clock, runs.observed, share * variance, length, white, runs.bad_log_odds)
    numpyro.sample("reward", noise, obs=None if predict else runs.reward)


def stage_levels(
    stages: EarlierStages, R0: Array, headrooms: Sequence[Array], ratios: Sequence[Array], B: Array, tail: Array
) -> list[Array]:
    """Level at the beginning of every stage of a run (see `rlceiling.curves.stages`).

    Parameters
    ----------
    stages : EarlierStages
        The stages before the last.
    R0, B, tail : Array
        Start, and efficiency and tail of the run.
    headrooms, ratios : sequence of Array, length stages - 1
        Headroom ``(A_k - L_k) / (1 - L_k)`` of each of them, and its midpoint over the origin of its prior.
    """
    levels = [R0]
    for k, (headroom, ratio) in enumerate(zip(headrooms, ratios, strict=True)):
        rise = B * steepness(tail) * (stages.log_spent[k] - jnp.log(ratio) - stages.x_prior[k])
        levels.append(levels[k] + (1.0 - levels[k]) * headroom * share_of_rise(rise, tail))
    return levels


def earlier_curve(
    recipe: RecipeData,
    levels: Sequence[Array],
    headrooms: Sequence[Array],
    ratios: Sequence[Array],
    B: Array,
    tail: Array,
) -> Array:
    """Curve at the evaluations minus the level at the beginning of the last stage, shape (n,); 0 in the last stage."""
    stages = recipe.stages
    assert stages is not None
    curve = levels[0] - levels[-1]
    for k, (headroom, ratio) in enumerate(zip(headrooms, ratios, strict=True)):
        rise = B * steepness(tail) * (recipe.runs.inputs[0, :, k] - jnp.log(ratio) - stages.x_prior[k])
        curve = curve + (1.0 - levels[k]) * headroom * share_of_rise(rise, tail)
    return curve


def stage_parameters(
    recipe: RecipeData, levels: Sequence[Array], headrooms: Sequence[Array], ratios: Sequence[Array]
) -> dict[str, Array]:
    """Parameters of the stages before the last, by the names of `rlceiling.curves.stages.stage_names`."""
    stages = recipe.stages
    assert stages is not None
    found: dict[str, Array] = {}
    for k, (level, headroom, ratio) in enumerate(zip(levels[:-1], headrooms, ratios, strict=True)):
        C_mid = ratio * jnp.exp(recipe.log_origin + stages.x_prior[k])
        values = (level + (1.0 - level) * headroom, C_mid, level, headroom)
        found |= {f"{name}_{k + 1}": value for name, value in zip(OF_STAGE, values, strict=True)}
    return found


def run_curves(
    recipe: RecipeData, R0: Array, headroom: Array, B: Array, ratio: Array, tail: Array, offsets: Array
) -> Array:
    """Curve of every run at its evaluations, shape (lanes, n); `R0` in stages before the last."""
    by_headroom, by_x_mid, by_log_B = offsets[:, :OF_CURVE].T[..., None]
    own_headroom = jax.nn.sigmoid(jnp.log(headroom) - jnp.log1p(-headroom) + by_headroom)
    x_mid = jnp.log(ratio) + recipe.x_prior + by_x_mid
    x = recipe.runs.inputs[..., -1]
    rise = B * steepness(tail) * jnp.exp(by_log_B) * (x - x_mid)
    return R0 + (1.0 - R0) * own_headroom * share_of_rise(rise, tail)
