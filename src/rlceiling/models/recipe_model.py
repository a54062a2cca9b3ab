"""The NumPyro model of a recipe and its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist

from rlceiling.curves.sigmoid import share_of_rise, steepness
from rlceiling.curves.stages import OF_STAGE
from rlceiling.models.likeness import GROUPS, LIKE, add_log_density, drawn_priors, log_likeness
from rlceiling.models.noise import OUWhiteNoise
from rlceiling.models.pooling import CORE, FREEDOM
from rlceiling.models.recipe_coordinates import OF_CURVE, VARIES
from rlceiling.models.recipe_data import EarlierStages, RecipeData


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
