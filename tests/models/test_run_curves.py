"""Estimates of the curves of runs that have levelled off, and the coordinates of their recipes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from rlceiling.curves import sigmoid_curve
from rlceiling.models.noise import BAD_SCALE
from rlceiling.models.recipe_coordinates import dimension, to_natural
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.models.recipe_family import RECIPE
from rlceiling.models.run_curves import BAD_SHARE, BROAD, SIGMAS, USUAL, run_moments
from rlceiling.models.run_data import RESOLUTION
from rlceiling.runs import Run

COMPUTE = np.linspace(1e5, 12e5, 12)

SUCCESS = {
    "slow": [0.1, 0.8, *[1.0] * 10],
    "between two evaluations": [0.0, *[1.0] * 11],
    "late": [*[0.0] * 7, 0.2, *[1.0] * 4],
}
"""Success rates of three seeds, shares of ten episodes. The second is only ever at 0 and 1."""

MIDPOINTS = (2.4e5, 2.9e5, 3.5e5)


def run_of(name: str, reward: list[float] | np.ndarray, start: bool) -> Run:
    reward = np.asarray(reward, float)
    n_eval = np.full(len(reward), np.nan)
    return Run("a", name, COMPUTE[: len(reward)], reward, n_eval, (0.0, np.nan) if start else None)


def prepared(runs: list[Run]) -> RecipeData:
    return prepare(runs, evaluation_error=0.5, bad_share=0.01)


def saturated(start: bool = True) -> RecipeData:
    return prepared([run_of(name, reward, start) for name, reward in SUCCESS.items()])


def noisy(B: float, n: int = 12, start: bool = False) -> RecipeData:
    """Three seeds with a ceiling of .8."""
    rng = np.random.default_rng(3)
    curves = [sigmoid_curve(COMPUTE[:n], 0.8, B, C_mid, 0.05) for C_mid in MIDPOINTS]
    return prepared([run_of(str(i), curve + 0.01 * rng.standard_normal(n), start) for i, curve in enumerate(curves)])


@pytest.mark.parametrize(
    ("recipe", "complete"),
    [
        (saturated(), True),
        (noisy(6.0), True),
        (noisy(1.7), False),  # has not levelled off
        (noisy(6.0, n=3), False),  # too short
        (prepared([run_of("steep", SUCCESS["slow"], True)]), False),  # a single run
        (prepared([run_of(str(i), np.full(12, 0.3), False) for i in range(3)]), False),  # no rise
    ],
    ids=["saturated", "steep", "slow", "short", "single", "flat"],
)
def test_only_recipes_whose_runs_all_show_their_whole_rise_are_estimated(recipe: RecipeData, complete: bool) -> None:
    assert (recipe.curves is not None) == complete


def test_a_run_with_few_evaluations_keeps_its_recipe_in_the_other_coordinates() -> None:
    whole = [run_of(name, reward, True) for name, reward in SUCCESS.items()]
    assert prepared([*whole, run_of("short", [0.1, 0.8, 1.0], True)]).curves is None


def test_moments_agree_with_a_fine_grid() -> None:
    """Written with SciPy's densities. The estimates may be too wide, not too narrow."""
    data = noisy(6.0)
    lane = int(np.flatnonzero(data.order == 1)[0])
    found = run_moments(data.run(1), 0.05, 1.0)
    seen = data.runs.observed[lane]
    x, reward = data.runs.inputs[lane, seen, 0], data.runs.reward[lane, seen]

    sd = np.sqrt(np.diag(found.covariance))
    axes = [np.linspace(m - 5 * s, m + 5 * s, 31) for m, s in zip(found.mean, sd, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    curve = 0.05 + 0.95 * expit(grid[:, :1]) * expit(np.exp(grid[:, 2:]) * (x - grid[:, 1:2]))
    log_prior = stats.norm(USUAL, BROAD).logpdf(grid).sum(axis=1)
    posterior = np.zeros(len(grid))
    for sigma in SIGMAS:
        scale = np.sqrt(sigma**2 + RESOLUTION**2)
        sound = (1.0 - BAD_SHARE) * stats.norm(curve, scale).pdf(reward)
        bad = BAD_SHARE * stats.cauchy(curve, BAD_SCALE * scale).pdf(reward)
        # Equal steps in ln sigma stand for a density in sigma times sigma.
        posterior += sigma * stats.halfnorm(scale=0.02).pdf(sigma) * np.exp(np.log(sound + bad).sum(axis=1) + log_prior)
    posterior /= posterior.sum()
    mean = posterior @ grid
    fine_sd = np.sqrt(posterior @ (grid - mean) ** 2)
    assert (np.abs(found.mean - mean) < fine_sd).all()
    assert (sd > 0.9 * fine_sd).all()
    assert (sd < 4.0 * fine_sd).all()


@pytest.mark.parametrize("start", [True, False])
def test_log_determinant_of_complete_recipes_is_that_of_the_derivative(start: bool) -> None:
    recipe = saturated(start)
    assert recipe.curves is not None
    with jax.enable_x64(True):
        centre, size = RECIPE.centre(recipe), dimension(3)

        def flat(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            natural, log_det = to_natural(z, recipe, centre)
            return jnp.concatenate([jnp.ravel(part) for part in natural]), log_det

        derivative, log_det = jax.jit(
            jax.jacfwd(flat, has_aux=True), compiler_options={"xla_backend_optimization_level": 0}
        )(0.4 + 0.7 * jnp.sin(jnp.arange(float(size))))
    assert float(log_det) == pytest.approx(np.linalg.slogdet(derivative)[1], abs=1e-7)


def test_runs_of_a_recipe_share_the_rounding_of_their_rewards() -> None:
    """Ten episodes per evaluation round to a standard deviation of 0.1 / sqrt(12), also of a run only at 0 and 1."""
    recipe = saturated()
    assert recipe.runs.eval_var[recipe.present] == pytest.approx(0.1**2 / 12.0)
    assert float(recipe.start.var) == pytest.approx(0.1**2 / 12.0)
    alone = prepared([run_of("steep", SUCCESS["between two evaluations"], True)])
    assert alone.runs.eval_var == pytest.approx(RESOLUTION**2)
