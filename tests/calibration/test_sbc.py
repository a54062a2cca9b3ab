"""Simulation-based calibration: the truth of runs drawn from the priors ranks uniformly among posterior draws.

A mistake anywhere between the priors and the draws (likelihood, Jacobian, sampler) moves some rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logit

import rlceiling as rl
from rlceiling.calibration.ranks import QUANTITIES, outside_band, rank_truths, simultaneous_band
from rlceiling.calibration.simulate import START, simulate_from_priors, simulate_rewards
from rlceiling.curves import sigmoid_curve
from rlceiling.curves.stages import stage_names
from rlceiling.inference import sampling
from rlceiling.inference.convergence import Convergence
from rlceiling.models import recipe_family
from rlceiling.posterior import posterior
from rlceiling.posterior.fit import Fit
from rlceiling.runs.units import Units
from rlceiling.settings import Settings
from slow import are_ranks, in_miniature_too

COMPUTE = np.geomspace(100.0, 10_000.0, 24)
"""One run in eight has its midpoint below these, one in eight above, most of the others bend inside."""

NUMBER = 120
"""Recipes of one run: fewer do not show a wrong sign in the Jacobian, more take too long by default."""

SEVERAL = 20
"""Recipes of three runs, each of which costs four times as much."""

FEW_SEVERAL, FEW = 3, 6
"""Recipes of several runs and of one, where few will do: as many are then drawn from the priors, and random numbers of
each number are a program to be compiled."""

CHEAP: dict[str, Any] = {
    "chains": 2,
    "tune": 200,
    "draws": 200,
    # The longer second try is for users; here every fit counts as it is.
    "rules": rl.VerdictRules(max_r_hat=np.inf, min_ess=0.0, max_divergences=10**9, min_e_bfmi=0.0),
}

BRIEF: dict[str, Any] = CHEAP | {"tune": 100, "draws": 100}
"""For miniatures of slow tests."""

PROB = 1.0 - 0.01 / len(QUANTITIES)
"""A right sampler fails one check of all quantities in a hundred."""

SPREADS = rl.SigmoidPriors(
    headroom=dist.Beta(4.0, 4.0),
    C_mid=dist.LogNormal(0.0, 1.0),
    sigma=dist.HalfNormal(0.005),
    headroom_spread=dist.HalfNormal(0.3),
    C_mid_spread=dist.HalfNormal(0.3),
)
"""Priors under which three runs tell something of the spread between them."""

INDEPENDENT = rl.SigmoidPriors(share=dist.Beta(1.0, 1000.0))
"""Priors without correlated noise."""


def outside(ranks: pd.DataFrame) -> set[str]:
    """Quantities whose ranks are not uniform."""
    found = outside_band(ranks, PROB)
    return set(found[found > 0].index)


def cheap_fits(runs: rl.Runs, priors: rl.SigmoidPriors | None = None) -> rl.Fits:
    """Fits without convergence diagnostics, which would take a fifth of the time and are not read here."""
    unread = Convergence(r_hat=1.0, ess_bulk=np.inf, ess_tail=np.inf, divergences=0, e_bfmi=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior, "diagnose", lambda *_: unread)
        return rl.fit(runs, priors, **CHEAP)


@pytest.fixture(scope="module")
def simulated() -> tuple[rl.Runs, pd.DataFrame]:
    return simulate_from_priors(NUMBER, COMPUTE)


@pytest.fixture(scope="module")
def fits(simulated: tuple[rl.Runs, pd.DataFrame]) -> rl.Fits:
    return cheap_fits(simulated[0])


# Calibration


def test_truths_rank_uniformly(fits: rl.Fits, simulated: tuple[rl.Runs, pd.DataFrame]) -> None:
    ranks = rank_truths(fits, simulated[1])
    assert ranks.shape == (NUMBER, len(QUANTITIES))
    assert outside(ranks) == set()


@in_miniature_too
def test_truths_of_recipes_with_several_runs_rank_uniformly(full: bool) -> None:
    """With a negative control: truths of the spreads that are doubled."""
    number, settings = (SEVERAL, CHEAP) if full else (FEW_SEVERAL, BRIEF)
    runs, truths = simulate_from_priors(number, COMPUTE[::2], SPREADS, runs=3 if full else 5, seed=2)
    fits = rl.fit(runs if full else runs.select(*runs.recipes[:2]), SPREADS, **settings)
    ranks = rank_truths(fits, truths)
    if not full:
        assert are_ranks(ranks, 2, QUANTITIES)
        assert outside(ranks) <= set(QUANTITIES)
        return
    assert outside(ranks) == set()
    wrong = truths.assign(**{name: 2.0 * truths[name] for name in ("headroom_spread", "C_mid_spread")})
    assert outside(rank_truths(fits, wrong)) == {"headroom_spread", "C_mid_spread"}


def test_ranks_notice_noise_taken_for_independent(simulated: tuple[rl.Runs, pd.DataFrame]) -> None:
    """Negative control."""
    runs, truths = simulated
    ranks = rank_truths(cheap_fits(runs.select(*runs.recipes[:40]), INDEPENDENT), truths)
    assert outside(ranks) >= {"share", "run_sigma"}


def test_ranks_notice_a_wrong_sign_in_the_jacobian(fits: rl.Fits, simulated: tuple[rl.Runs, pd.DataFrame]) -> None:
    """Negative control: with ln B subtracted, not added, the density that is sampled is the right one over B**2."""
    wrong = {name: reweighted(fit, lambda draws: draws["B"] ** -2.0) for name, fit in fits.items()}
    assert "run_B" in outside(rank_truths(wrong, simulated[1]))


def reweighted(fit: Fit, weight: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Fit:
    """Resample the draws of a fit, so that its density is multiplied by the weight."""
    flat = {k: v.reshape(-1) for k, v in fit.draws.items()}
    weights = weight(flat)
    rng = np.random.default_rng(1)
    index = rng.choice(len(weights), size=fit.draws["A"].shape, p=weights / weights.sum())
    of_runs = {k: v.reshape(-1, v.shape[-1])[index] for k, v in fit.run_draws.items()}
    return replace(fit, draws={k: v[index] for k, v in flat.items()}, unit_draws=of_runs)


# Ranks, by themselves


def one_run() -> tuple[rl.Runs, pd.DataFrame]:
    runs, truths = simulate_from_priors(FEW, COMPUTE, seed=3)
    return runs.select("0"), truths.loc[["0"]]


def fit_with(draws: np.ndarray) -> Fit:
    """Fit of a simulated run whose draws of the ceiling are given."""
    runs, truths = one_run()
    given = truths.loc[("0", "0")].to_dict()
    of_recipe = {k: np.full(draws.shape, v) for k, v in given.items() if not k.startswith("run_")} | {"A": draws}
    of_run = {k: np.full((*draws.shape, 1), given[f"run_{k}"]) for k in ("B", "C_mid")} | {"A": draws[..., None]}
    settings = Settings(chains=2, tune=0, draws=0, target_accept=0.9, seed=0, retried=False, versions={})
    units = Units("compute", "reward", (0.0, 1.0))
    return Fit(
        name="0",
        runs=tuple(runs.iter_runs()),
        units=units,
        priors=rl.SigmoidPriors(),
        settings=settings,
        draws=of_recipe,
        unit_draws=of_run,
        sample_stats={},
    )


@pytest.mark.parametrize("below", [0, 37, 100])
def test_rank_is_the_share_of_draws_below_the_truth(below: int) -> None:
    # Of 2 x 500 draws every tenth is ranked; those between lie on the other side and must not count.
    draws = np.full(1000, 0.9)
    draws[: 10 * below : 10] = 0.1
    truths = one_run()[1].assign(A=0.5)
    rank = rank_truths({"0": fit_with(draws.reshape(2, 500))}, truths)["A"].item()
    assert below / 101 <= rank <= (below + 1) / 101


def test_curve_and_likelihood_are_ranked_too() -> None:
    truths = one_run()[1]
    far_below = fit_with(np.full((2, 100), truths["R0"].item() + 1e-3))
    ranks = rank_truths({"0": far_below}, truths).loc["0"]
    assert ranks["mu"] > 0.99
    assert ranks["log_likelihood"] > 0.99


def test_band_holds_uniform_numbers_as_often_as_it_says() -> None:
    uniform = pd.DataFrame(np.random.default_rng(2).uniform(size=(100, 2000)))
    assert (outside_band(uniform, 0.9) > 0).mean() == pytest.approx(0.1, abs=0.03)


def test_truth_from_the_same_distribution_as_the_draws_stays_inside() -> None:
    rng = np.random.default_rng(3)
    truth, draws = rng.standard_normal((200, 1)), rng.standard_normal((200, 100))
    assert outside(ranks_among(truth, draws)) == set()


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.0), (0.0, 0.6), (0.0, 1.8)], ids=["shifted", "narrow", "wide"])
def test_truth_from_another_distribution_leaves_the_band(shift: float, scale: float) -> None:
    rng = np.random.default_rng(4)
    truth, draws = rng.standard_normal((200, 1)), shift + scale * rng.standard_normal((200, 100))
    assert outside(ranks_among(truth, draws)) == {"quantity"}


def ranks_among(truth: np.ndarray, draws: np.ndarray) -> pd.DataFrame:
    spread = np.random.default_rng(5).uniform(size=len(draws))
    return pd.DataFrame({"quantity": ((draws < truth).sum(axis=1) + spread) / (draws.shape[1] + 1)})


def test_band_widens_with_its_probability() -> None:
    _, lower, upper = simultaneous_band(50, 0.5)
    _, lower_wide, upper_wide = simultaneous_band(50, 0.99)
    assert (lower_wide <= lower).all()
    assert (upper_wide >= upper).all()
    assert (upper_wide - lower_wide).sum() > (upper - lower).sum()


# Simulated runs

TRUTH = {"A": 0.7, "B": 1.5, "C_mid": 300.0, "R0": 0.3, "sigma": 0.01, "share": 0.6, "length": 0.8}
PLACES = np.array([100.0, 120.0, 400.0, 900.0, 5000.0])


def test_rewards_have_the_mean_and_covariance_of_the_formula() -> None:
    rng, number, eval_var = np.random.default_rng(6), 20_000, 2e-5
    rewards = np.stack([simulate_rewards(PLACES, TRUTH, rng, eval_var) for _ in range(number)])
    lag = np.abs(np.subtract.outer(np.log(PLACES), np.log(PLACES)))
    covariance = 1e-4 * (0.6 * np.exp(-lag / 0.8) + 0.4 * np.eye(5)) + 2e-5 * np.eye(5)
    sd = np.sqrt(np.diag(covariance))

    mean = 0.3 + 0.4 / (1.0 + (300.0 / PLACES) ** 1.5)
    assert np.all(np.abs(rewards.mean(axis=0) - mean) < 4.0 * sd / np.sqrt(number))
    error = np.sqrt((np.outer(sd, sd) ** 2 + covariance**2) / number)
    assert np.all(np.abs(np.cov(rewards.T) - covariance) < 4.0 * error)


def residual(**changes: float) -> np.ndarray:
    truth = TRUTH | changes
    curve = sigmoid_curve(PLACES, truth["A"], truth["B"], truth["C_mid"], truth["R0"])
    return simulate_rewards(PLACES, truth, np.random.default_rng(7)) - curve


def test_share_0_is_independent_noise() -> None:
    np.testing.assert_allclose(residual(share=0.0), 0.01 * np.random.default_rng(7).standard_normal(5), atol=1e-15)


def test_share_1_and_a_long_length_is_one_offset() -> None:
    offset = 0.01 * np.random.default_rng(7).standard_normal()
    np.testing.assert_allclose(residual(share=1.0, length=1e12), offset, atol=1e-7)


@pytest.mark.parametrize(
    "start", [START, (0.4, np.nan), (0.0, 100.0), None], ids=["known error", "no n_eval", "at 0", "no step 0"]
)
def test_simulated_runs_are_as_logged(start: tuple[float, float] | None) -> None:
    runs, truths = simulate_from_priors(FEW, COMPUTE, start=start)
    assert runs.recipes == list(truths.index.get_level_values("recipe")) == [str(i) for i in range(FEW)]
    for run in runs.iter_runs():
        np.testing.assert_allclose(run.compute, COMPUTE)
        assert run.start == (pytest.approx(start, nan_ok=True) if start else None)
        assert np.isnan(run.n_eval).all()
    assert runs.table["reward"].between(0.0, 1.0).all()
    assert ((truths["R0"] >= 0.0) & (truths["R0"] < truths["A"]) & (truths["A"] <= 1.0)).all()


def test_runs_of_a_recipe_lie_around_it_and_share_its_start() -> None:
    priors = rl.SigmoidPriors(headroom=dist.Beta(4.0, 4.0), C_mid=dist.LogNormal(0.0, 0.5))
    number = NUMBER // 2  # as many are drawn from the priors as for recipes of one run above
    runs, truths = simulate_from_priors(number, COMPUTE, priors, runs=5)
    assert list(truths.index) == [(str(i), str(j)) for i in range(number) for j in range(5)]
    assert {run.start for run in runs.iter_runs()} == {START}
    recipes = truths.drop(columns=["run_A", "run_B", "run_C_mid", "run_sigma"]).groupby("recipe")
    assert (recipes.nunique() == 1).all(axis=None)
    step = {name: np.log(truths[f"run_{name}"] / truths[name]) for name in ("B", "C_mid", "sigma")}
    step["headroom"] = logit((truths["run_A"] - truths["R0"]) / (1 - truths["R0"])) - logit(truths["headroom"])
    for name, values in step.items():
        # A Student t number with four degrees of freedom whose central 90% are those of a standard normal.
        central = stats.norm.ppf(0.95) / stats.t.ppf(0.95, 4)
        assert stats.kstest(values / truths[f"{name}_spread"], stats.t(4, 0.0, central).cdf).pvalue > 0.001


def test_same_seed_same_runs() -> None:
    (first, truths), (again, truths_again) = (simulate_from_priors(FEW, COMPUTE, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, again.table)
    pd.testing.assert_frame_equal(truths, truths_again)
    assert not simulate_from_priors(FEW, COMPUTE, seed=4)[1].equals(truths)


def test_truths_follow_the_priors() -> None:
    priors = rl.SigmoidPriors(B=dist.LogNormal(0.0, 0.1), C_mid=dist.LogNormal(0.0, 0.1), C_mid_origin=3000.0)
    truths = simulate_from_priors(NUMBER, COMPUTE, priors)[1]
    for name, middle in (("B", 1.0), ("C_mid", 3000.0)):
        logs = np.log(truths[name] / middle)
        assert abs(logs.mean()) < 4.0 * 0.1 / np.sqrt(NUMBER)
        assert logs.std() == pytest.approx(0.1, rel=0.25)
    # Binomial error of 16,000 answers, halved.
    assert truths["R0"].std() == pytest.approx(0.5 * np.sqrt(0.4 * 0.6 / 16_000), rel=0.25)


def test_priors_without_room_are_refused() -> None:
    with pytest.raises(rl.DataError, match="recipes drawn from the priors stay between 0 and 1"):
        simulate_from_priors(FEW, COMPUTE, rl.SigmoidPriors(sigma=dist.HalfNormal(100.0)))


# The same with defaults and many runs


def ranks_of_many(
    start: tuple[float, float] | None,
    number: int = 2000,
    runs: int = 1,
    priors: rl.SigmoidPriors | None = None,
    *,
    full: bool = True,
) -> pd.DataFrame:
    """Ranks among default draws, of a hundred recipes at a time; or of 2 with brief fits, one at a time."""
    settings: dict[str, Any] = {}
    fitted, at_once, compute = number, 100, COMPUTE
    if not full:
        number, settings = FEW if runs == 1 else FEW_SEVERAL, BRIEF
        fitted, at_once, compute = 2, 1, COMPUTE[::2]
    table, truths = simulate_from_priors(number, compute, priors, runs=runs, start=start, seed=1)
    names = table.recipes[:fitted]
    return pd.concat(
        rank_truths(rl.fit(table.select(*names[i : i + at_once]), priors, **settings), truths, seed=i)
        for i in range(0, len(names), at_once)
    )


def check_uniform(ranks: pd.DataFrame, full: bool) -> None:
    """Truths rank uniformly; or, of the few of a miniature, are ranks at all."""
    if full:
        assert outside(ranks) == set()
    else:
        assert are_ranks(ranks, 2, QUANTITIES)
        assert outside(ranks) <= set(QUANTITIES)


@in_miniature_too
def test_truths_of_recipes_with_five_runs_rank_uniformly_among_default_draws(full: bool) -> None:
    check_uniform(ranks_of_many(START, 200, runs=5, priors=SPREADS, full=full), full)


@in_miniature_too
@pytest.mark.parametrize("start", [START, (0.4, np.nan), None], ids=["known error", "no n_eval", "no step 0"])
def test_truths_rank_uniformly_among_default_draws(start: tuple[float, float] | None, full: bool) -> None:
    check_uniform(ranks_of_many(start, full=full), full)


class Seen(Exception):
    """Sampling was about to begin."""


@pytest.mark.parametrize(
    ("forgotten", "full"),
    [
        pytest.param("B", False, id="B-miniature"),  # of one alone, since each is a program to be compiled
        *(pytest.param(name, True, id=name, marks=pytest.mark.slow) for name in ("B", "C_mid_ratio", "sigma")),
    ],
)
def test_ranks_notice_a_forgotten_term_of_the_jacobian(
    forgotten: str, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a density of the logarithm taken for one of the parameter.

    The miniature samples nothing, but what would be sampled lacks the term and is the same otherwise.
    """
    right = recipe_family.to_natural

    def wrong(*args: Any) -> tuple[Any, jax.Array]:
        natural, log_det = right(*args)
        return natural, log_det - jnp.log(getattr(natural, forgotten))

    monkeypatch.setattr(recipe_family, "to_natural", wrong)
    # Another function, or JAX would run the program that it compiled before.
    density = sampling.potential(recipe_family.RECIPE)
    another = lambda *given: density(*given)  # noqa: E731
    monkeypatch.setattr(sampling, "potential", lambda family: another)
    if full:
        assert forgotten.removesuffix("_ratio") in outside(ranks_of_many(START, number=500))
        return

    asked: list[tuple[Any, Any]] = []

    def run_chains(_: np.ndarray, given: Any, density: Any, **options: Any) -> Any:
        asked.append((given, density))
        raise Seen

    monkeypatch.setattr(sampling, "run_chains", run_chains)
    with pytest.raises(Seen):
        ranks_of_many(START, full=False)
    ((given, sampled),) = asked
    recipe, centre, priors = jax.tree.map(lambda array: array[0], given)

    def difference(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of the densities at a point, and the forgotten term there."""
        lacking = sampled(recipe, centre, priors)(z)
        with monkeypatch.context() as patch:
            patch.setattr(recipe_family, "to_natural", right)
            complete = density(recipe, centre, priors)(z)
        return complete - lacking, -jnp.log(getattr(right(z, recipe, centre)[0], forgotten))

    with jax.enable_x64(True):
        size, _ = recipe_family.RECIPE.dimension(recipe)
        found, expected = map(float, jax.jit(difference)(0.5 * np.sin(np.arange(size))))
    assert abs(expected) > 0.1
    assert found == pytest.approx(expected, abs=1e-9)


# Stages

STAGED = np.linspace(100.0, 3200.0, 32)
BEGINS = (0.0, float(STAGED[15]))


@in_miniature_too
def test_truths_of_runs_with_two_stages_rank_uniformly(full: bool) -> None:
    """With a negative control: the first stage is taken to end two evaluations late."""
    number, settings = (NUMBER, CHEAP) if full else (2, BRIEF)
    runs, truths = simulate_from_priors(number, STAGED, begins=BEGINS, start=None, seed=6)
    ranks = rank_truths(rl.fit(runs, **settings), truths)
    names = (*QUANTITIES, *stage_names(2))
    if not full:
        assert are_ranks(ranks, 2, names)
        assert (truths["R0_1"] < truths["R0"]).all()
        return
    assert outside(ranks) == set()
    late = runs.table.assign(stage=np.where(runs.table["compute"] <= STAGED[17], "1", "2"))
    assert outside(rank_truths(rl.fit(rl.read_runs(late), **settings), truths)) >= {"R0"}
