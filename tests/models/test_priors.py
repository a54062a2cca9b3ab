"""Priors: their densities, what they predict, what replacing them does, and those that cannot be used."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import Predictive
from scipy import stats
from scipy.special import expit, logit

import rlceiling as rl
import several
from rlceiling.curves import sigmoid_curve
from rlceiling.models.noise import BAD_SCALE
from rlceiling.models.pooling import CORE
from rlceiling.models.recipe_data import RecipeData, prepare
from rlceiling.models.recipe_family import RECIPE
from rlceiling.models.recipe_model import sigmoid_model
from rlceiling.models.run_data import evaluation_sd
from rlceiling.models.unit import Unit
from rlceiling.runs import Run

QUICK = {"chains": 2, "tune": 200, "draws": 300, "rules": several.LENIENT}
COMPUTE = np.geomspace(300.0, 12_000.0, 12)

SCIPY = {
    "R0": stats.uniform(0, 1),
    "headroom": stats.beta(1.5, 1.5),
    "B": stats.lognorm(0.6, scale=1.7),
    "C_mid": stats.lognorm(2.0),
    "sigma": stats.halfnorm(scale=0.02),
    "share": stats.beta(2.0, 1.0),
    "length": stats.lognorm(1.0, scale=0.5),
    "tail": stats.lognorm(1.0),
    "headroom_spread": stats.halfnorm(scale=0.1),
    "C_mid_spread": stats.halfnorm(scale=0.2),
    "B_spread": stats.halfnorm(scale=0.1),
    "sigma_spread": stats.halfnorm(scale=0.3),
}


@pytest.mark.parametrize("name", SCIPY)
def test_defaults_have_the_documented_densities(name: str) -> None:
    prior, expected = rl.SigmoidPriors().distributions()[name], SCIPY[name]
    at = expected.ppf(np.linspace(0.01, 0.99, 25))
    with jax.enable_x64(True):
        density = np.asarray(prior.log_prob(at))
    assert np.allclose(density, expected.logpdf(at), atol=1e-6)


def prepared(
    n_eval: float, start: tuple[float, float] | None, evaluation_error: float = 0.5, bad_share: float = 0.0
) -> RecipeData:
    """Two runs of twelve evaluations and of one."""
    runs = [Run("a", str(n), COMPUTE[:n], np.full(n, 0.5), np.full(n, n_eval), start) for n in (12, 1)]
    return prepare(runs, evaluation_error=evaluation_error, bad_share=bad_share)


@partial(
    jax.jit,
    static_argnames=("number", "sites"),
    compiler_options={"xla_backend_optimization_level": 0},  # compiling takes nearly all the time
)
def _predicted(
    key: jax.Array, recipe: RecipeData, priors: dict[str, Any], number: int, sites: tuple[str, ...] | None
) -> dict[str, jax.Array]:
    drawn = Predictive(sigmoid_model, num_samples=number)(key, recipe, priors, predict=True)
    return drawn if sites is None else {site: drawn[site] for site in sites}


def predicted(
    recipe: RecipeData, priors: rl.SigmoidPriors, number: int, sites: tuple[str, ...] | None = None
) -> dict[str, np.ndarray]:
    """Draws from the prior and of rewards under it, or only those of some sites."""
    with jax.enable_x64(True):
        drawn = _predicted(jax.random.key(0), recipe, priors.distributions(), number, sites)
    return {k: np.asarray(v) for k, v in drawn.items()}


def around_curves(draws: dict[str, np.ndarray], floor: float) -> list[np.ndarray]:
    """Rewards of the two runs around their own curves, divided by their own sigma and the evaluation error."""
    column, offsets = {k: v[:, None] for k, v in draws.items() if v.ndim == 1}, draws["offsets"][:, :2]
    own_headroom = expit(logit(column["headroom"]) + offsets[..., 0])
    A = column["R0"] + (1 - column["R0"]) * own_headroom
    B, C_mid = column["B"] * np.exp(offsets[..., 2]), column["C_mid"] * np.exp(offsets[..., 1])
    sigma = column["sigma"] * np.exp(offsets[..., 3])
    off = []
    for place, n in enumerate((12, 1)):
        curve = sigmoid_curve(COMPUTE[:n], *(v[:, place, None] for v in (A, B, C_mid)), column["R0"], column["tail"])
        scale = np.sqrt(sigma[:, place, None] ** 2 + floor + 1e-8)
        off.append((draws["reward"][:, place, :n] - curve) / scale)
    return off


@pytest.mark.parametrize(("n_eval", "multiple"), [(400.0, 0.5), (400.0, 1.0), (np.nan, 0.5)])
def test_prior_predictive(n_eval: float, multiple: float) -> None:
    recipe = prepared(n_eval, (0.4, n_eval), multiple)
    draws = predicted(recipe, rl.SigmoidPriors(), 4000)
    for name, prior in SCIPY.items():
        if name != "R0":
            assert stats.kstest(draws["C_mid_ratio" if name == "C_mid" else name], prior.cdf).pvalue > 1e-3, name
    assert np.allclose(draws["A"], draws["R0"] + (1 - draws["R0"]) * draws["headroom"])
    assert np.allclose(draws["C_mid"], draws["C_mid_ratio"] * np.exp(recipe.log_origin))
    assert recipe.log_origin == pytest.approx((12 * np.log(COMPUTE).mean() + np.log(300.0)) / 13)
    assert np.median(draws["C_mid"]) == pytest.approx(np.exp(recipe.log_origin), rel=0.15)
    white = (1 - draws["share"]) * draws["sigma"] ** 2
    if np.isnan(n_eval):
        error = np.sqrt(white + 1e-8)  # the noise of the run stands in
    else:
        p = (0.4 * 400 + 0.5) / 401
        error = np.full(4000, multiple * np.sqrt(p * (1 - p) / 400))
    assert stats.kstest((draws["R0"] - 0.4) / error, "norm").pvalue > 1e-3
    # Runs lie about the recipe, in logit of headroom, ln C_mid, ln B and ln sigma, as t numbers.
    offsets = draws["offsets"][:, :2]
    assert offsets.shape == (4000, 2, 4)
    for i, name in enumerate(("headroom", "C_mid", "B", "sigma")):
        standard = offsets[..., i] / draws[f"{name}_spread"][:, None]
        assert stats.kstest(standard.ravel(), stats.t(4.0, scale=CORE).cdf).pvalue > 1e-3
        assert abs(np.corrcoef(standard.T)[0, 1]) < 0.06
    # Rewards scatter about the curve of their run by its sigma and the evaluation error.
    floor = 0.0 if np.isnan(n_eval) else multiple**2 * 0.25 / 400
    for off in around_curves(draws, floor):
        assert off.std() == pytest.approx(1.0, rel=0.03)
        assert stats.kstest(off[:, -1], "norm").pvalue > 1e-3


@pytest.mark.parametrize("bad_share", [0.01, 0.2])
def test_prior_predictive_of_bad_evaluations(bad_share: float) -> None:
    recipe = prepared(400.0, (0.4, 400.0), bad_share=bad_share)
    assert rl.SigmoidPriors().bad_share == 0.01
    long, single = around_curves(predicted(recipe, rl.SigmoidPriors(), 4000), 0.25 * 0.25 / 400)
    sound, bad = stats.norm, stats.cauchy(0.0, BAD_SCALE)
    mixture = stats.kstest(single.ravel(), lambda at: (1 - bad_share) * sound.cdf(at) + bad_share * bad.cdf(at))
    assert mixture.pvalue > 1e-3
    # Sound evaluations do not lie as far off as this, and evaluations are bad independently of each other.
    far = np.abs(np.concatenate([long, single], axis=1)) > 6.0
    expected = bad_share * 2.0 * bad.sf(6.0)
    assert 0.001 < stats.binom(far.size, expected).cdf(int(far.sum())) < 0.999
    together = int((far[:, 1:] & far[:, :-1]).sum())
    assert together == pytest.approx(12 * 4000 * expected**2, abs=4.0 * np.sqrt(12 * 4000 * expected**2))


def test_the_prior_probability_of_a_bad_evaluation_is_that_of_the_priors() -> None:
    runs = [Unit("0", (Run("a", "0", COMPUTE, np.full(12, 0.5), np.full(12, 400.0), None),))]
    for priors, odds in (
        (rl.SigmoidPriors(), np.log(0.01 / 0.99)),
        (rl.SigmoidPriors(bad_share=0.2), np.log(0.25)),
        (rl.SigmoidPriors(bad_share=0.0), -np.inf),
    ):
        data = RECIPE.prepare(runs, priors).runs
        assert np.allclose(data.bad_log_odds[data.observed], odds, rtol=1e-12)


def test_without_step_0_the_start_has_its_own_prior() -> None:
    draws = predicted(prepared(np.nan, None), rl.SigmoidPriors(R0=dist.Beta(8.0, 12.0)), 2000, ("R0",))
    assert stats.kstest(draws["R0"], stats.beta(8, 12).cdf).pvalue > 1e-3


def short_run(seconds: float = 1.0, n_eval: float = 300.0) -> rl.Runs:
    """Too short to say much of B and C_mid by itself."""
    compute = np.r_[0.0, np.geomspace(300.0, 2500.0, 8)]
    reward = sigmoid_curve(compute, 0.62, 1.8, 2500.0, 0.4) + 0.008 * np.sin(7.0 * np.arange(9))
    columns = {"recipe": "short", "compute": compute * seconds, "reward": reward, "n_eval": n_eval}
    return rl.read_runs(pd.DataFrame(columns))


@pytest.fixture(scope="module")
def plain() -> rl.Fit:
    return rl.fit(short_run(), **QUICK)["short"]


def median(fit: rl.Fit, parameter: str) -> float:
    return float(np.median(fit.draws[parameter]))


@pytest.mark.parametrize(
    ("name", "prior", "target"),
    [
        ("B", dist.LogNormal(np.log(4.0), 0.05), 4.0),
        ("headroom", dist.Beta(900.0, 100.0), 0.9),
        ("share", dist.Beta(50.0, 950.0), 0.05),
        ("length", dist.LogNormal(np.log(5.0), 0.05), 5.0),
        ("tail", dist.LogNormal(np.log(3.0), 0.05), 3.0),
    ],
)
def test_a_tight_prior_moves_the_posterior_to_it(name: str, prior: object, target: float, plain: rl.Fit) -> None:
    moved = rl.fit(short_run(), rl.SigmoidPriors(**{name: prior}), **QUICK)["short"]
    assert median(moved, name) == pytest.approx(target, rel=0.1)
    assert abs(median(plain, name) / target - 1.0) > 0.25


def test_the_midpoint_prior_can_be_absolute_in_any_unit(plain: rl.Fit) -> None:
    assert median(plain, "C_mid") < 0.85 * 5000.0
    assert np.log(plain.draws["C_mid"]).std() > 0.2
    for seconds in (1.0, 3600.0):
        priors = rl.SigmoidPriors(C_mid=dist.LogNormal(0.0, 0.05), C_mid_origin=5000.0 * seconds)
        fit = rl.fit(short_run(seconds), priors, **QUICK)["short"]
        assert median(fit, "C_mid") == pytest.approx(5000.0 * seconds, rel=0.05)
        assert np.log(fit.draws["C_mid"]).std() == pytest.approx(0.05, rel=0.25)
    # Without an origin the same prior is about the geometric mean of the run.
    relative = rl.fit(short_run(), rl.SigmoidPriors(C_mid=dist.LogNormal(0.0, 0.05)), **QUICK)["short"]
    assert median(relative, "C_mid") == pytest.approx(np.sqrt(300.0 * 2500.0), rel=0.1)


def test_a_larger_evaluation_error_widens(plain: rl.Fit) -> None:
    wide = rl.fit(short_run(), rl.SigmoidPriors(evaluation_error=1.0), **QUICK)["short"]
    exact = rl.fit(short_run(), rl.SigmoidPriors(evaluation_error=0.0), **QUICK)["short"]
    resolution = 1e-8
    known = [fit.data.runs.eval_var - resolution for fit in (wide, plain)]
    assert np.allclose(known[0], 4.0 * known[1], rtol=1e-9)
    assert np.allclose(exact.data.runs.eval_var, resolution, rtol=1e-9)
    assert wide.draws["R0"].std() > 1.4 * plain.draws["R0"].std() > 5 * exact.draws["R0"].std()


def test_without_a_spread_the_run_is_the_recipe(plain: rl.Fit) -> None:
    names = ("headroom", "C_mid", "B", "sigma")
    priors = rl.SigmoidPriors(**{f"{name}_spread": dist.HalfNormal(1e-4) for name in names})
    alike = rl.fit(short_run(), priors, **QUICK)["short"]
    for fit, close in ((alike, True), (plain, False)):
        for name in ("A", "C_mid", "B", "sigma"):
            ratio = fit.run_draws[name][..., 0] / fit.draws[name]
            assert (np.abs(np.log(ratio)) < 1e-3).all() == close
    assert all(median(alike, f"{name}_spread") < 2e-4 for name in names)


def start_of(*starts: tuple[float, float] | None) -> tuple[float, ...] | None:
    """The step-0 evaluation of runs that logged these."""
    runs = [Run("a", str(i), COMPUTE, np.full(12, 0.5), np.full(12, np.nan), start) for i, start in enumerate(starts)]
    start = prepare(runs, evaluation_error=0.5).start
    return None if start is None else tuple(map(float, start))


@pytest.mark.parametrize("n_eval", [16_000.0, np.nan])
def test_a_step_0_that_runs_share_is_one_evaluation(n_eval: float) -> None:
    one = start_of((0.4, n_eval))
    assert start_of(*[(0.4, n_eval)] * 10) == one
    assert start_of(None, (0.4, n_eval), None) == one
    assert start_of(None, None) is None
    assert start_of((0.4, n_eval), (0.41, n_eval)) != one


def test_different_step_0_evaluations_are_averaged() -> None:
    shared = start_of((0.4, 1000.0), (0.44, 3000.0), (0.4, 1000.0))
    assert shared == start_of((0.44, 3000.0), (0.4, 1000.0)) == pytest.approx(start_of((0.43, 4000.0)), rel=1e-12)
    # Where it is not known how many answers are behind them, the noise stands in, and half of it after averaging.
    reward, var, white_weight, *_ = start_of((0.4, np.nan), (0.44, np.nan)) or ()
    assert reward == pytest.approx(0.42)
    assert (var, white_weight) == (1e-8, 0.5)
    assert (start_of((0.4, np.nan)) or ())[2] == 1.0
    assert (start_of((0.4, 1000.0), (0.44, 3000.0)) or ())[2] == 0.0


def test_evaluation_sd_is_the_formula() -> None:
    p = (0.25 * 100 + 0.5) / 101
    found = evaluation_sd(np.array([0.25, 0.0, 1.0, 0.3]), np.array([100.0, 50.0, 50.0, np.nan]), 0.5)
    end = 0.5 / 51
    assert found[0] == pytest.approx(0.5 * np.sqrt(p * (1 - p) / 100), rel=1e-12)
    assert np.allclose(found[1:3], 0.5 * np.sqrt(end * (1 - end) / 50), rtol=1e-12)
    assert found[3] == 0.0


@pytest.mark.parametrize(
    "priors",
    [
        rl.SigmoidPriors(),
        rl.SigmoidPriors(
            R0=dist.Beta(2.0, 3.0),
            B=dist.Gamma(4.0, 2.0),
            C_mid=dist.LogNormal(0.5, 1.0),
            sigma=dist.InverseGamma(3.0, 0.1),
            length=dist.Exponential(2.0),
            tail=dist.LogNormal(0.0, 0.5),
            headroom_spread=dist.HalfCauchy(0.1),
            C_mid_spread=dist.HalfNormal(0.3),
            B_spread=dist.LogNormal(-3.0, 1.0),
            sigma_spread=dist.HalfNormal(0.5),
            C_mid_origin=5e3,
            evaluation_error=1.0,
            bad_share=0.05,
        ),
    ],
)
def test_a_description_comes_back_from_json(priors: rl.SigmoidPriors) -> None:
    again = rl.SigmoidPriors.from_dict(json.loads(json.dumps(priors.to_dict())))
    assert again.to_dict() == priors.to_dict()
    assert repr(again) == repr(priors)
    for name in ("C_mid_origin", "evaluation_error", "bad_share"):
        assert getattr(again, name) == getattr(priors, name)
    assert {k: type(v) for k, v in again.distributions().items()} == {
        k: type(v) for k, v in priors.distributions().items()
    }
    for name, prior in priors.distributions().items():
        assert float(prior.log_prob(0.3)) == float(again.distributions()[name].log_prob(0.3))


POSITIVE, UNIT = "numpyro.distributions.LogNormal(0, 1)", "numpyro.distributions.Beta(2, 2)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"B": 1.7}, f"prior of B is 1.7; give a NumPyro distribution, such as {POSITIVE}"),
        ({"R0": "flat"}, f"prior of R0 is 'flat'; give a NumPyro distribution, such as {UNIT}"),
        (
            {"B": dist.Normal(2.0, 1.0)},
            f"prior of B is a Normal, whose support is not the positive that B needs; give one such as {POSITIVE}",
        ),
        (
            {"headroom": dist.HalfNormal(1.0)},
            "prior of headroom is a HalfNormal, whose support is not the unit interval that headroom needs; "
            f"give one such as {UNIT}",
        ),
        (
            {"sigma": dist.Uniform(0.0, 0.1)},
            "prior of sigma is a Uniform, whose support is not the positive that sigma needs; "
            f"give one such as {POSITIVE}",
        ),
        (
            {"R0": dist.Uniform(0.3, 0.5)},
            f"prior of R0 is a Uniform, whose support is not the unit interval that R0 needs; give one such as {UNIT}",
        ),
        (
            {"length": dist.LogNormal(np.zeros(2), 1.0)},
            f"prior of length is a LogNormal of shape (2,); give a plain scalar NumPyro distribution, such as "
            f"{POSITIVE}",
        ),
        (
            {"share": dist.Dirichlet(np.ones(3))},
            f"prior of share is a Dirichlet of shape (3,); give a plain scalar NumPyro distribution, such as {UNIT}",
        ),
        *(
            (
                {"C_mid_origin": bad},
                f"C_mid_origin={bad!r} is not a positive compute; give one in the unit of the runs, or None for each "
                "run's own geometric mean",
            )
            for bad in (0.0, -1.0, float("inf"), float("nan"))
        ),
        *(
            (
                {"evaluation_error": bad},
                f"evaluation_error={bad!r} is not a multiple of binomial error; give a number of 0 or more "
                "(0.5 for a fixed test set, 1 for fresh subsets)",
            )
            for bad in (-0.5, float("inf"), float("nan"))
        ),
        *(
            (
                {"bad_share": bad},
                f"bad_share={bad!r} is not a probability below 0.5; give the share of evaluations that are bad, or 0 "
                "to trust all",
            )
            for bad in (-0.01, 0.5, 1.0, float("inf"), float("nan"))
        ),
    ],
)
def test_priors_that_cannot_be_used(arguments: dict, sentence: str) -> None:
    with pytest.raises(rl.DataError) as raised:
        rl.SigmoidPriors(**arguments)
    assert str(raised.value) == sentence


def test_truncated_priors_are_used_described_and_read_back() -> None:
    priors = rl.SigmoidPriors(
        R0=dist.TruncatedNormal(0.4, 0.01, low=0.0, high=1.0), B=dist.TruncatedNormal(2.0, 1.0, low=0.0)
    )
    again = rl.SigmoidPriors.from_dict(json.loads(json.dumps(priors.to_dict())))
    for name, expected in (("R0", stats.norm(0.4, 0.01)), ("B", stats.truncnorm(-2.0, np.inf, 2.0, 1.0))):
        density = again.distributions()[name].log_prob(0.41)
        assert float(density) == pytest.approx(expected.logpdf(0.41), rel=1e-4)
    assert repr(again) == repr(priors)


@pytest.mark.parametrize("name", ["C_mid_origin", "evaluation_error", "bad_share"])
def test_a_text_is_not_a_number(name: str) -> None:
    with pytest.raises(rl.DataError, match=f"^{name}='x' is not a "):
        rl.SigmoidPriors(**{name: "x"})
