"""Sampling coordinates of a run with several stages: the Jacobian, the likelihood, and where sampling starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rlceiling as rl
from rlceiling.curves.stages import staged_curve
from rlceiling.models.family import log_posterior
from rlceiling.models.recipe_centre import least_squares_centre
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.models.recipe_family import RECIPE, recipe_family
from rlceiling.models.run_data import BUCKETS, MAX_BINS, NOT_BEGUN, RESOLUTION
from rlceiling.runs import Run, Stage

BEGINS = np.array([0.0, 900.0, 2000.0])
COMPUTE = np.linspace(100.0, 3600.0, 36)
CURVE = {"A_1": 0.45, "C_mid_1": 300.0, "R0_1": 0.3, "C_mid_2": 400.0, "A": 0.7, "B": 2.0, "C_mid": 500.0, "tail": 1.0}
STARTS = {"known": (0.3, 16_000.0), "error unknown": (0.3, np.nan), "not logged": None}


def with_levels(parameters: dict[str, float]) -> dict[str, float]:
    """Parameters with the levels at which the later stages begin, and a ceiling of the second stage."""
    found = parameters | {"A_2": 0.55, "R0_2": 0.0, "R0": 0.0}
    found["R0_2"] = float(staged_curve(BEGINS[1], found, BEGINS))
    found["R0"] = float(staged_curve(BEGINS[2], found, BEGINS))
    return found


TRUTH = with_levels(CURVE)


def staged_run(start: str = "not logged", compute: np.ndarray = COMPUTE, unit: float = 1.0) -> Run:
    """A run on the curve of three stages, without noise."""
    stages = tuple(Stage(name, begins * unit) for name, begins in zip("abc", BEGINS, strict=True))
    unknown = np.full(len(compute), np.nan)
    return Run("a", "0", compute * unit, staged_curve(compute, TRUTH, BEGINS), unknown, STARTS[start], stages)


def data_of(run: Run, bad_share: float = 0.0) -> RecipeData:
    return prepare([run], evaluation_error=0.5, bad_share=bad_share)


def sites_at(z: jax.Array, data: RecipeData, centre: Any) -> tuple[dict[str, jax.Array], jax.Array]:
    return RECIPE.to_sites(z, data, centre, {})


def _derivative(z: jax.Array, data: RecipeData, centre: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    """Derivative of all sites with respect to the coordinates; the log determinant and the sites."""

    def flat(z: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        sites, log_det = sites_at(z, data, centre)
        return jnp.concatenate([jnp.ravel(sites[name]) for name in sorted(sites)]), (log_det, sites)

    return jax.jacfwd(flat, has_aux=True)(z)


UNOPTIMISED = {"xla_backend_optimization_level": 0}
derivative_of = jax.jit(_derivative, compiler_options=UNOPTIMISED)


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.5])
def test_log_determinant_is_that_of_the_derivative(start: str, shift: float) -> None:
    data = data_of(staged_run(start))
    centre, (size, dense) = RECIPE.centre(data), RECIPE.dimension(data)
    assert size == dense
    z = shift + 0.7 * jnp.sin(jnp.arange(float(size)))
    derivative, (log_det, _) = derivative_of(z, data, centre)
    assert derivative.shape == (size, size)
    assert float(log_det) == pytest.approx(np.linalg.slogdet(derivative)[1], abs=1e-7)


@pytest.mark.parametrize("start", STARTS)
def test_sampling_starts_on_the_curve_of_noiseless_data(start: str) -> None:
    run = staged_run(start)
    data = data_of(run)
    _, (_, sites) = derivative_of(jnp.zeros(RECIPE.dimension(data)[0]), data, RECIPE.centre(data))
    kept, _ = RECIPE.kept(sites, data, {})
    draws = {name: float(value) for name, value in kept.items()}
    np.testing.assert_allclose(staged_curve(COMPUTE, draws, BEGINS), run.reward, atol=0.01)
    np.testing.assert_allclose([draws["R0"], draws["R0_2"]], [TRUTH["R0"], TRUTH["R0_2"]], atol=0.01)
    assert set(recipe_family(3).parameters) == set(kept)


def test_density_is_that_of_the_formula() -> None:
    """The log posterior against priors and a dense normal likelihood from SciPy, at two points."""
    run = staged_run("known")
    data, priors = data_of(run), rl.SigmoidPriors(bad_share=0.0)
    centre, distributions = RECIPE.centre(data), dict(priors.distributions())
    found, expected = [], []
    for shift in (0.0, 0.2):
        z = shift + 0.1 * jnp.cos(jnp.arange(float(RECIPE.dimension(data)[0])))
        _, (log_det, sites) = derivative_of(z, data, centre)
        found.append(float(log_posterior(z, RECIPE, data, centre, distributions)) - float(log_det))
        kept, own = RECIPE.kept(sites, data, {})
        values = {name: float(value) for name, value in kept.items()}
        own_sigma, own_curve = float(own["sigma"][0]), {name: float(own[name][0]) for name in ("A", "B", "C_mid")}
        x = np.log(COMPUTE)
        covariance = values["share"] * own_sigma**2 * np.exp(-np.abs(x[:, None] - x) / values["length"])
        covariance += np.eye(len(x)) * ((1.0 - values["share"]) * own_sigma**2 + RESOLUTION**2)
        curve = staged_curve(COMPUTE, values | own_curve, BEGINS)
        total = stats.multivariate_normal.logpdf(run.reward, curve, covariance)
        sites = {name: np.asarray(value) for name, value in sites.items()}
        for name in ("sigma", "share", "length", "headroom", "B", "tail"):
            total += float(distributions[name].log_prob(sites[name]))
        for k in ("", "_1", "_2"):
            total += float(distributions["C_mid"].log_prob(sites[f"C_mid_ratio{k}"]))
            total += float(distributions["headroom"].log_prob(sites[f"headroom{k}"])) if k else 0.0
        for name in RECIPE.pooling.scales:
            total += float(distributions[name].log_prob(sites[name]))
        assert data.start is not None
        sd = np.sqrt(data.start.var)
        total += stats.norm.logpdf(sites["R0_1"], data.start.reward, sd)  # hardly truncated
        spreads = np.array([sites[name] for name in RECIPE.pooling.scales])
        expected.append(total + float(RECIPE.log_prior_of_units({}, _one(sites, spreads), data, [None])[0]))
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def _one(sites: dict[str, Any], spreads: np.ndarray) -> dict[str, Any]:
    """Sites of one draw, with a leading axis."""
    names = dict(zip(RECIPE.pooling.scales, spreads[:, None], strict=True))
    return names | {"offsets": np.asarray(sites["offsets"])[None]}


def test_results_do_not_depend_on_the_unit_of_compute() -> None:
    one, other = (data_of(staged_run(unit=unit)) for unit in (1.0, 3600.0))
    jax.tree.map(np.testing.assert_array_equal, one._replace(log_origin=0), other._replace(log_origin=0))


def test_long_runs_are_averaged_stage_by_stage() -> None:
    compute = np.arange(1.0, 3601.0)
    assert len(compute) > BUCKETS[-1]
    data = data_of(staged_run(compute=compute))
    run = data.run(0)
    seen = run.observed
    assert seen.sum() <= MAX_BINS
    stage = (run.inputs[seen] > NOT_BEGUN).sum(axis=1)
    np.testing.assert_allclose([run.count[seen][stage == k].sum() for k in (1, 2, 3)], [900, 1100, 1600])
    assert min((stage == k).sum() for k in (1, 2, 3)) > 10
    spent = np.where(run.inputs[seen] > NOT_BEGUN, np.exp(run.inputs[seen]), 0.0).sum(axis=1)
    np.testing.assert_allclose(spent, np.exp(run.clock[seen]))


def test_a_run_with_one_stage_has_the_arrays_of_a_run_without() -> None:
    plain = Run("a", "0", COMPUTE, np.linspace(0.3, 0.6, len(COMPUTE)), np.full(len(COMPUTE), np.nan), None)
    data = data_of(plain)
    assert data.stages is None
    assert data.begins.tolist() == [0.0]
    assert (data.run(0).inputs[:, 0] == data.run(0).clock).all()
    assert least_squares_centre(data).stages is None
