"""Forecasts against the dense Gaussian-process conditional, on a posterior that is one known point."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm, t

import rlceiling as rl
from handmade import given
from rlceiling.curves import sigmoid_curve
from rlceiling.decisions.forecast import predict, predictive_draws
from rlceiling.models.paths import paths_at
from rlceiling.runs import Run
from rlceiling.runs.units import Units
from rlceiling.settings import Settings

THETA = {"A": 0.62, "B": 1.8, "C_mid": 2000.0, "R0": 0.4, "sigma": 0.02, "share": 0.7, "length": 0.6, "tail": 1.0}
N_EVAL = np.array([400.0, 2000.0, 800.0, 16_000.0, 300.0, 1000.0, 16_000.0, np.nan, 500.0])
COMPUTE = np.array([300.0, 420.0, 800.0, 801.0, 1500.0, 2900.0, 3300.0, 7000.0, 9000.0])
REWARD = sigmoid_curve(COMPUTE, 0.62, 1.8, 2000.0, 0.4) + 0.02 * np.random.default_rng(3).standard_normal(9)
# Before, on, between and beyond the evaluations.
WHERE = np.array([10.0, 250.0, 300.0, 600.0, 801.0, 2000.0, 3300.0, 5000.0, 9000.0, 9500.0, 20_000.0, 1e9])


SPREADS = ("headroom_spread", "C_mid_spread", "B_spread", "sigma_spread")


OF_RUN = ("A", "B", "C_mid", "sigma")


def point_fit(
    draws: int = 4000, *, units: Units | None = None, name: str = "a", form_error: float = 0.0, **values: float
) -> rl.Fit:
    """A posterior of one point, repeated, of a recipe with one run that is like all others."""
    units = units or Units("gpu_hours", "pass_rate", (0.0, 1.0))
    theta = THETA | values
    scaled = {"A": units.unscale, "R0": units.unscale, "sigma": lambda v: v * units.width}
    full = dict.fromkeys(SPREADS, 0.0) | theta | {"headroom": (theta["A"] - theta["R0"]) / (1.0 - theta["R0"])}
    posterior = {k: np.full((4, draws // 4), scaled.get(k, lambda v: v)(v)) for k, v in full.items()}
    own = {k: posterior[k][..., None] for k in OF_RUN}
    run = Run(name, "0", COMPUTE, REWARD, N_EVAL, (0.4, 16_000.0))
    settings = Settings(4, 1000, draws // 4, versions={"numpyro": "0"})
    fit = rl.Fit(
        name=name,
        runs=(run,),
        units=units,
        priors=rl.SigmoidPriors(bad_share=0.0, form_error=form_error),
        settings=settings,
        draws=posterior,
        unit_draws=own,
        sample_stats={},
    )
    return given(fit, verdict=rl.Verdict.IDENTIFIED)


def dense_conditional(
    where: np.ndarray, compute: np.ndarray = COMPUTE, reward: np.ndarray = REWARD, **values: float
) -> tuple[np.ndarray, ...]:
    """Curve, mean and variance of the correlated noise given the evaluations, variance of the white noise."""
    theta = THETA | values
    x, q = np.log(compute), np.log(where)
    p = (reward * N_EVAL + 0.5) / (N_EVAL + 1.0)
    error = np.nan_to_num(0.25 * p * (1.0 - p) / N_EVAL) + 1e-8
    ou, white = theta["share"] * theta["sigma"] ** 2, (1.0 - theta["share"]) * theta["sigma"] ** 2

    def curve(at: np.ndarray) -> np.ndarray:
        return theta["R0"] + (theta["A"] - theta["R0"]) * expit(theta["B"] * (at - np.log(theta["C_mid"])))

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ou * np.exp(-np.abs(a[:, None] - b) / theta["length"])

    weights = np.linalg.solve(covariance(x, x) + np.diag(white + error), covariance(x, q)).T
    wander = weights @ (reward - curve(x))
    wander_var = ou - np.einsum("qn,nq->q", weights, covariance(x, q))
    return curve(q), wander, wander_var, np.full(len(q), white + np.median(error))


@pytest.mark.parametrize("where", [WHERE, WHERE[::-1], WHERE[[4]], np.repeat(WHERE, 3)])
def test_paths_are_the_dense_conditional(where: np.ndarray) -> None:
    fit = point_fit(4)
    paths = paths_at(fit.data, 0, {k: v.reshape(-1) for k, v in fit.scaled_draws_of("0").items()}, where)
    found = (paths.curve, paths.wander, paths.wander_var, paths.white_var)
    for values, expected in zip(found, dense_conditional(where), strict=True):
        assert values.shape == (4, len(where))
        assert np.abs(values - expected).max() < 1e-9


def test_forecast_is_the_dense_conditional() -> None:
    table = rl.Fits([point_fit()]).forecast(WHERE, prob=0.8, of="runs")
    curve, wander, wander_var, white_var = dense_conditional(WHERE)
    assert np.abs(wander).max() > 0.01  # so that leaving it out would show
    sd = np.sqrt(wander_var + white_var)
    for column in ("mean", "lower", "upper"):
        assert np.allclose(table[column], curve, atol=1e-9)
    assert (np.abs(table["new_mean"] - curve - wander) < 4 * sd / 4000**0.5).all()
    # Standard error of a 10% quantile: sqrt(.1 * .9 / n) / density.
    z = norm.ppf(0.9)
    error = sd * (0.09 / 4000) ** 0.5 / norm.pdf(z)
    assert (np.abs(table["new_lower"] - (curve + wander - z * sd)) < 4 * error).all()
    assert (np.abs(table["new_upper"] - (curve + wander + z * sd)) < 4 * error).all()


@pytest.mark.parametrize("of", ["recipe", "runs", None])
def test_error_of_the_form_grows_beyond_the_data_and_is_zero_within_them(of: str | None) -> None:
    units = Units("gpu_hours", "pass_rate", (0.0, 100.0))
    sure, unsure = (rl.Fits([point_fit(20_000, units=units, form_error=e)]).forecast(WHERE, of=of) for e in (0.0, 0.1))
    last = COMPUTE[-1]
    form = 0.1 * 22.0 * np.sqrt(np.log(np.maximum(WHERE / last, 1.0)))  # A - R0 is 22 points of 100
    ahead = last < WHERE
    same = unsure[~ahead].drop(columns="verdict").select_dtypes("number")
    assert np.allclose(same, sure[~ahead].select_dtypes("number"), atol=1e-9)
    for prefix in ("", "new_"):
        found = (unsure[f"{prefix}upper"] - unsure[f"{prefix}lower"])[ahead] / (2 * norm.ppf(0.95))
        others = (sure[f"{prefix}upper"] - sure[f"{prefix}lower"])[ahead] / (2 * norm.ppf(0.95))
        assert np.allclose(found, np.hypot(others, form[ahead]), rtol=0.04)
    assert (form[ahead] > 0.4).all()


def test_error_of_the_form_is_refused_unless_it_is_a_share() -> None:
    for value in (-0.1, np.nan, "much"):
        with pytest.raises(rl.DataError, match="form_error"):
            rl.SigmoidPriors(form_error=value)


def test_autocorrelated_noise_decays_beyond_data() -> None:
    fit = point_fit(4)
    flat = {k: v.reshape(-1) for k, v in fit.scaled_draws_of("0").items()}
    steps = np.array([1.0, 1.5, 3.0, 10.0, 1e3, 1e12])
    paths = paths_at(fit.data, 0, flat, COMPUTE[-1] * steps)
    fade = np.exp(-np.log(steps) / THETA["length"])
    assert np.allclose(paths.wander[0], paths.wander[0, 0] * fade, atol=1e-10)
    assert abs(paths.wander[0, 0]) > 1e-3
    assert (np.diff(paths.wander_var[0]) >= 0).all()
    assert paths.wander_var[0, -1] == pytest.approx(THETA["share"] * THETA["sigma"] ** 2, rel=1e-12)
    early = paths_at(fit.data, 0, flat, COMPUTE[:1] * 1e-12)
    assert abs(early.wander[0, 0]) < 1e-12
    assert early.curve[0, 0] == pytest.approx(THETA["R0"], abs=1e-12)


def spread_fit(name: str = "a", units: Units | None = None) -> rl.Fit:
    """A posterior with some width, of the recipe and of its run."""
    fit = point_fit(units=units, name=name)
    rng = np.random.default_rng(0)

    def widened(draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        wide = {k: draws[k] * np.exp(0.05 * rng.standard_normal(draws[k].shape)) for k in ("B", "C_mid")}
        return draws | wide | {"A": draws["A"] + 0.02 * fit.units.width * rng.standard_normal(draws["A"].shape)}

    own, draws = widened(fit.run_draws), widened(fit.draws)
    draws["headroom"] = (fit.units.scale(draws["A"]) - THETA["R0"]) / (1.0 - THETA["R0"])
    return given(dataclasses.replace(fit, draws=draws, unit_draws=own), verdict=rl.Verdict.PRE_INFLECTION)


def test_the_curve_has_the_quantiles_of_its_draws() -> None:
    fit = spread_fit()
    for of, draws in (("recipe", fit.draws), ("runs", fit.draws_of("0"))):
        table = rl.Fits([fit]).forecast(WHERE, of=of)
        d = {k: v.reshape(-1, 1) for k, v in draws.items()}
        curves = sigmoid_curve(WHERE, d["A"], d["B"], d["C_mid"], d["R0"])
        assert np.allclose(table["mean"], curves.mean(axis=0), atol=1e-12)
        assert np.allclose(table[["lower", "upper"]].T, np.quantile(curves, [0.05, 0.95], axis=0), atol=1e-12)
        # A new evaluation of a new run varies more than the curve. If the run goes on, its noise may cancel errors
        # of the curve near the data; far beyond them a new evaluation varies more, by the sum of the variances.
        wider = table["new_upper"] - table["new_lower"] > table["upper"] - table["lower"]
        assert wider.all() if of == "recipe" else wider.iloc[-1]
    _, new = predictive_draws(fit, WHERE[-1:], "0")
    _, _, wander_var, white_var = dense_conditional(WHERE[-1:])
    assert new.std() == pytest.approx((curves[:, -1].var() + wander_var[0] + white_var[0]) ** 0.5, rel=0.05)


def test_forecast_at_many_computes_matches_single_computes() -> None:
    fits = rl.Fits([spread_fit()])
    where = np.geomspace(5.0, 1e6, 40)
    many = fits.forecast(where, of="recipe")
    exact, noisy = ["mean", "lower", "upper"], ["new_mean", "new_lower", "new_upper"]
    for i in (0, 17, 39):
        one = fits.forecast(float(where[i]), of="recipe")
        assert len(one) == 1
        assert np.allclose(one[exact], many.loc[[i], exact], atol=1e-12)
        assert np.allclose(one[noisy], many.loc[[i], noisy], atol=0.003)  # other normals, .03 / sqrt(4000) * 4
    assert fits.forecast(where, of="recipe").equals(many)


def test_default_forecast_of_one_run_goes_on_from_where_it_stands() -> None:
    """The run ends .05 above its curve: its level starts there and returns to the curve with its correlation length."""
    fit = point_fit(4000)
    (run,) = fit.runs
    higher = (dataclasses.replace(run, reward=run.reward + 0.05),)
    above = rl.Fits([given(dataclasses.replace(fit, runs=higher), verdict=fit.verdict)])
    last = float(run.compute[-1])
    level, curve = above.forecast([last, 1e4 * last]), above.forecast([last, 1e4 * last], of="runs")
    assert level["of"].tolist() == ["run", "run"]
    assert level["mean"][0] > curve["mean"][0] + 0.02
    assert level["mean"][1] == pytest.approx(curve["mean"][1], abs=0.005)
    np.testing.assert_allclose(level["mean"], level["new_mean"], atol=0.003)
    width, new_width = (level[f"{new}upper"] - level[f"{new}lower"] for new in ("", "new_"))
    assert (width < new_width).all()


def test_default_forecast_of_several_runs_is_the_recipe() -> None:
    fits = rl.Fits([two_runs_fit()])
    default = fits.forecast(WHERE)
    assert set(default["of"]) == {"recipe"}
    assert default.drop(columns="of").equals(fits.forecast(WHERE, of="recipe"))


def test_forecast_is_independent_of_other_fits() -> None:
    a, b = spread_fit("a"), spread_fit("b")
    both = rl.Fits([b, a]).forecast([100.0, 1e5], of="recipe")
    alone = rl.Fits([a]).forecast([100.0, 1e5], of="recipe")
    assert both["recipe"].tolist() == ["b", "b", "a", "a"]
    assert both.iloc[2:].reset_index(drop=True).equals(alone)
    assert list(alone.columns) == [
        *("recipe", "gpu_hours", "mean", "lower", "upper", "new_mean", "new_lower", "new_upper", "verdict"),
    ]
    assert alone["verdict"].tolist() == ["PRE_INFLECTION"] * 2


@pytest.mark.parametrize("of", ["recipe", "new run", "runs"])
def test_percent_is_a_hundred_times_the_share(of: str) -> None:
    percent = rl.Fits([spread_fit(units=Units("steps", "score", (-100.0, 100.0)))]).forecast(WHERE, of=of)
    share = rl.Fits([spread_fit()]).forecast(WHERE, of=of)
    assert percent["steps"].tolist() == WHERE.tolist()
    assert np.allclose(percent[NUMBERS], 200.0 * share[NUMBERS] - 100.0, atol=1e-7)


def test_new_evaluations_stay_inside_the_bounds() -> None:
    low = Units("gpu_hours", "score", (10.0, 20.0))
    for run in ("0", None):
        told, new = predictive_draws(point_fit(A=0.995, C_mid=100.0, sigma=0.05), np.array([1e-3, 1e8]), run)
        assert told.curve[:, 1].max() < 0.996
        assert new.max() == 1.0
        assert 0.2 < (new[:, 1] == 1.0).mean() < 0.6
        _, new = predictive_draws(point_fit(R0=0.01, sigma=0.05, units=low), np.array([1e-3]), run)
        assert new.min() == 10.0


# ---------------------------------------------------------------- several runs, and one more

OTHER_COMPUTE = COMPUTE * np.linspace(0.8, 3.0, 9)
OTHER_REWARD = sigmoid_curve(OTHER_COMPUTE, 0.66, 2.2, 3000.0, 0.4) + 0.02 * np.random.default_rng(4).standard_normal(9)
OTHER = {"A": 0.66, "B": 2.2, "C_mid": 3000.0}
NUMBERS = ["mean", "lower", "upper", "new_mean", "new_lower", "new_upper"]


def two_runs_fit(name: str = "a", **values: float) -> rl.Fit:
    """A point of a recipe with runs "x" and "y"; "x" is that of `point_fit`, "y" has values of its own."""
    fit = point_fit(name=name, **values)
    x = dataclasses.replace(fit.runs[0], run="x")
    y = dataclasses.replace(x, run="y", compute=OTHER_COMPUTE, reward=OTHER_REWARD)
    other = {k: np.full_like(fit.draws[k], OTHER.get(k, fit.draws[k])) for k in OF_RUN}
    own = {k: np.stack([fit.draws[k], other[k]], -1) for k in OF_RUN}
    return given(dataclasses.replace(fit, runs=(x, y), unit_draws=own), verdict=rl.Verdict.IDENTIFIED)


def test_each_run_is_forecast_from_its_own_curve_and_evaluations() -> None:
    for place, own in enumerate(((COMPUTE, REWARD, {}), (OTHER_COMPUTE, OTHER_REWARD, OTHER))):
        compute, reward, values = own
        fit = two_runs_fit()
        draws = {k: v.reshape(-1)[:4] for k, v in fit.scaled_draws_of("xy"[place]).items()}
        paths = paths_at(fit.data, place, draws, WHERE)
        found = (paths.curve, paths.wander, paths.wander_var, paths.white_var)
        expected = dense_conditional(WHERE, compute, reward, **values)
        for ours, dense in zip(found, expected, strict=True):
            assert np.abs(ours - dense).max() < 1e-9
        told = predict(fit, WHERE, "xy"[place])
        assert np.abs(told.curve - expected[0]).max() < 1e-9
        assert np.abs(told.mean - expected[0] - expected[1]).max() < 1e-9
        assert np.abs(told.sd - np.sqrt(expected[2] + expected[3])).max() < 1e-9


def test_rows_of_runs_come_in_their_order() -> None:
    a, b = two_runs_fit("a"), two_runs_fit("b")
    both = rl.Fits([b, a]).forecast([100.0, 1e5], of="runs")
    assert list(both.columns) == ["recipe", "run", "gpu_hours", *NUMBERS, "verdict"]
    assert both["recipe"].tolist() == ["b"] * 4 + ["a"] * 4
    assert both["run"].tolist() == ["x", "x", "y", "y"] * 2
    assert both["gpu_hours"].tolist() == [100.0, 1e5] * 4
    assert both["verdict"].tolist() == ["IDENTIFIED"] * 8
    alone = rl.Fits([a]).forecast([100.0, 1e5], of="runs")
    assert both.iloc[4:].reset_index(drop=True).equals(alone)
    curves = [sigmoid_curve(np.array([100.0, 1e5]), o["A"], o["B"], o["C_mid"], 0.4) for o in (THETA, OTHER)]
    assert np.allclose(alone["mean"], np.concatenate(curves), atol=1e-9)
    # Each run has noise of its own.
    assert alone["new_mean"][1] - alone["mean"][1] != alone["new_mean"][3] - alone["mean"][3]


def test_without_a_spread_a_new_run_has_the_curve_of_the_recipe() -> None:
    fits = rl.Fits([spread_fit()])  # its draws differ, its spreads are 0
    recipe, new = fits.forecast(WHERE, of="recipe"), fits.forecast(WHERE, of="new run")
    assert np.allclose(new[NUMBERS[:3]], recipe[NUMBERS[:3]], atol=1e-12)
    assert list(new.columns) == list(recipe.columns)


def test_between_run_sd_widens_interval_of_new_run() -> None:
    fit = spread_fit()
    fit.draws.update({k: np.abs(0.1 * np.random.default_rng(8).standard_normal((4, 1000))) for k in SPREADS})
    fits = rl.Fits([fit])
    recipe, new = fits.forecast(WHERE[1:], of="recipe"), fits.forecast(WHERE[1:], of="new run")
    assert (new["upper"] > recipe["upper"]).all()
    assert (new["lower"] < recipe["lower"]).all()
    # An evaluation made by somebody who starts the recipe again is the same one for both questions.
    assert new[NUMBERS[3:]].equals(recipe[NUMBERS[3:]])
    assert (new["new_upper"] - new["new_lower"] > new["upper"] - new["lower"]).all()


@pytest.mark.parametrize("of", ["headroom", "C_mid", "B"])
def test_new_run_quantiles_follow_between_run_sd(of: str) -> None:
    spread, compute = 0.3, 4000.0
    table = rl.Fits([point_fit(20_000, **{f"{of}_spread": spread})]).forecast(compute, of="new run")

    def curve(z: np.ndarray) -> np.ndarray:
        step = {name: np.where(name == of, spread * z, 0.0) for name in ("headroom", "C_mid", "B")}
        headroom = expit(logit(0.22 / 0.6) + step["headroom"])
        bent = expit(THETA["B"] * np.exp(step["B"]) * (np.log(compute / THETA["C_mid"]) - step["C_mid"]))
        return 0.4 + 0.6 * headroom * bent

    # A Student t number with four degrees of freedom whose central 90% are those of a standard normal.
    around = t(4, 0.0, norm.ppf(0.95) / t.ppf(0.95, 4))
    points = curve(around.ppf((np.arange(200_000) + 0.5) / 200_000))
    mean, sd = float(points.mean()), float(points.std())
    assert abs(table["mean"][0] - mean) < 4 * sd / 20_000**0.5
    ends = np.sort(curve(norm.ppf([0.05, 0.95])))  # the curve is monotone in z
    error = sd * (0.05 * 0.95 / 20_000) ** 0.5 / around.pdf(norm.ppf(0.05))
    assert np.abs(table[["lower", "upper"]].to_numpy()[0] - ends).max() < 5 * error
    assert ends[1] - ends[0] > 0.02


def test_a_new_evaluation_of_a_recipe_has_all_the_noise() -> None:
    """Nothing is known of the wandering of a run that is not there."""
    table = rl.Fits([two_runs_fit()]).forecast(WHERE, prob=0.8)
    curve, *_ = dense_conditional(WHERE)
    white = np.sqrt(THETA["sigma"] ** 2 + dense_conditional(WHERE)[3] - (1.0 - THETA["share"]) * THETA["sigma"] ** 2)
    z = norm.ppf(0.9)
    error = white * (0.09 / 4000) ** 0.5 / norm.pdf(z)
    assert (np.abs(table["new_mean"] - curve) < 4 * white / 4000**0.5).all()
    assert (np.abs(table["new_lower"] - (curve - z * white)) < 4 * error).all()
    assert (np.abs(table["new_upper"] - (curve + z * white)) < 4 * error).all()


def test_a_new_run_is_evaluated_like_the_longest() -> None:
    fit = two_runs_fit()
    x, y = fit.runs
    coarse = dataclasses.replace(y, run="y", compute=y.compute[:5], reward=y.reward[:5], n_eval=np.full(5, 10.0))
    other = dataclasses.replace(fit, runs=(coarse, x), unit_draws={k: v[..., ::-1] for k, v in fit.run_draws.items()})
    other = given(other, verdict=rl.Verdict.IDENTIFIED)
    assert predict(other, WHERE).sd == pytest.approx(predict(fit, WHERE).sd)
    assert (predict(other, WHERE, "y").sd[:, -1] > 2 * predict(fit, WHERE, "y").sd[:, -1]).all()


def test_new_runs_follow_seed_and_name() -> None:
    def offsets(name: str, seed: int = 0) -> np.ndarray:
        fit = point_fit(name=name, headroom_spread=0.1)
        fit = dataclasses.replace(fit, settings=dataclasses.replace(fit.settings, seed=seed))
        return predict(fit, WHERE[-1:]).mean[:, 0]

    first = offsets("a")
    assert np.array_equal(first, offsets("a"))
    for other in (offsets("a", 1), offsets("b")):
        assert abs(np.corrcoef(first, other)[0, 1]) < 4 / 4000**0.5


@pytest.mark.parametrize("of", ["seeds", "run", ""])
def test_of_must_be_one_of_three(of: object) -> None:
    with pytest.raises(rl.DataError) as raised:
        rl.Fits([point_fit(4)]).forecast(100.0, of=of)  # type: ignore[arg-type]
    assert str(raised.value) == f"forecast: of={of!r} is none of 'recipe', 'new run', 'runs'; give one of them."


def test_a_run_that_is_not_there() -> None:
    with pytest.raises(rl.DataError) as raised:
        predict(two_runs_fit(), WHERE, "z")
    assert str(raised.value) == "recipe 'a' has no run 'z'; it has: x, y."


# ---------------------------------------------------------------- what cannot be asked


@pytest.mark.parametrize("bad", [0.0, -5.0, np.inf, np.nan, [100.0, -5.0]])
def test_compute_must_be_positive(bad: object) -> None:
    with pytest.raises(rl.DataError) as raised:
        rl.Fits([point_fit(4)]).forecast(bad)  # type: ignore[arg-type]
    shown = f"{np.atleast_1d(bad)[-1]:g}"  # type: ignore[call-overload]
    assert str(raised.value) == (
        f"forecast: compute {shown} is not positive and finite; give a compute above 0 in the unit of the runs."
    )


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("much", "forecast: compute 'much' is not a number; give a positive one."),
        ([1.0, "much"], "forecast: compute [1.0, 'much'] is not a number; give a positive one."),
        (None, "forecast: compute nan is not positive and finite; give a compute above 0 in the unit of the runs."),
        ([], "forecast: compute [] is not a number or a list of them; give positive numbers."),
        ([[1.0]], "forecast: compute [[1.0]] is not a number or a list of them; give positive numbers."),
    ],
)
def test_compute_must_be_numbers(bad: object, sentence: str) -> None:
    with pytest.raises(rl.DataError) as raised:
        rl.Fits([point_fit(4)]).forecast(bad)  # type: ignore[arg-type]
    assert str(raised.value) == sentence


@pytest.mark.parametrize("prob", [0.0, 1.0, -0.1, 90, np.nan])
def test_prob_must_be_a_probability(prob: float) -> None:
    with pytest.raises(rl.DataError) as raised:
        rl.Fits([point_fit(4)]).forecast(100.0, prob)
    assert str(raised.value) == (
        f"forecast: prob={prob!r} is not between 0 and 1; give the probability of the interval."
    )


@pytest.mark.parametrize("of", ["recipe", "runs", "new run", None])
def test_forecasts_of_curves_stay_inside_the_bounds(of: str | None) -> None:
    fit = point_fit(A=0.99, form_error=0.3)
    ahead = 20.0 * COMPUTE[-1]
    table = rl.Fits([fit]).forecast(ahead, of=of)
    assert table["upper"][0] <= 1.0
    lower, _, upper = fit.curve_at(np.array([ahead]))
    assert upper[0] <= 1.0
    assert lower[0] < 0.9  # so that the error of the form is large enough to leave them
