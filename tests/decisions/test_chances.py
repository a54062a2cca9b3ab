"""Chances against closed forms, their Monte Carlo error against replication, and what cannot be concluded."""

from __future__ import annotations

import dataclasses
import math
import re
from types import SimpleNamespace

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logit
from scipy.stats import norm

import rlceiling as rl
from handmade import given
from rlceiling.decisions.chances import chance_of_draws
from rlceiling.runs import Run
from rlceiling.runs.units import Units
from rlceiling.settings import Settings
from rlceiling.text import at_least, at_most

SETTINGS = Settings(4, 1000, 1000, versions={"numpyro": "0"})
CURVE = {"B": 2.0, "C_mid": 2500.0, "tail": 1.0, "sigma": 0.01, "share": 0.5, "length": 0.5}
MEANS = {"high": (0.62, 0.010), "middle": (0.61, 0.020), "low": (0.58, 0.015), "early": (0.70, 0.050)}


def normal_fit(
    name: str,
    mean: float,
    sd: float,
    *,
    draws: int = 1000,
    runs: dict[str, tuple[float, float]] | None = None,
    verdict: rl.Verdict = rl.Verdict.IDENTIFIED,
    bounds: tuple[float, float] = (0.0, 1.0),
    reward: str = "pass_rate",
) -> rl.Fit:
    """A fit whose ceiling is normal on [0, 1], with nothing else of interest.

    Those of its `runs` are that of the recipe plus normals of their own, with mean and standard deviation given.
    """
    rng = np.random.default_rng([ord(c) for c in name])
    A = mean + sd * rng.standard_normal((4, draws))
    R0 = np.full_like(A, 0.4)
    units = Units("gpu_hours", reward, bounds)
    posterior = {"A": units.unscale(A), "R0": units.unscale(R0), "headroom": (A - R0) / (1.0 - R0)}
    posterior |= {name: np.full_like(A, value) for name, value in CURVE.items()}
    runs = runs or {"0": (0.0, 0.0)}
    own = [units.unscale(A + apart + width * rng.standard_normal(A.shape)) for apart, width in runs.values()]
    compute, reward_of = np.geomspace(100, 1e4, 8), np.linspace(0.4, 0.6, 8)
    members = tuple(Run(name, run, compute, reward_of, np.full(8, np.nan), None) for run in runs)
    fit = rl.Fit(
        name=name,
        runs=members,
        units=units,
        priors=rl.SigmoidPriors(),
        settings=SETTINGS,
        draws=posterior,
        unit_draws={"A": np.stack(own, -1)},
        sample_stats={},
    )
    checks = {run: SimpleNamespace(C_mid=9000.0, p_reach=0.5, p_rise=0.0, constant=False) for run in runs}
    return given(fit, verdict=verdict, checks=checks, chance_identified={1.5: 0.1, 2.0: 0.6})


EARLY = (
    "early has a ceiling that the data do not fix (PRE_INFLECTION: run to about 20,000 gpu_hours; chance that the "
    "ceiling is fixed: 0.10 at 1.5 x the present compute, 0.60 at 2 x)"
)


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    verdicts = {"early": rl.Verdict.PRE_INFLECTION}
    return rl.Fits(
        [normal_fit(n, *m, verdict=verdicts.get(n, rl.Verdict.IDENTIFIED)) for n, m in MEANS.items()],
    )


def closed_form(a: str, b: str, margin: float = 0.0) -> float:
    (ma, sa), (mb, sb) = MEANS[a], MEANS[b]
    return float(norm.cdf((ma - mb - margin) / math.hypot(sa, sb)))


@pytest.mark.parametrize("margin", [0.0, 0.02, -0.03])
@pytest.mark.parametrize(("a", "b"), [("high", "middle"), ("low", "high"), ("middle", "low"), ("high", "early")])
def test_chance_higher_is_the_closed_form(a: str, b: str, margin: float, fits: rl.Fits) -> None:
    chance = fits.chance_higher(a, b, margin)
    assert 1e-4 < chance.mcse < 0.02
    assert abs(chance.probability - closed_form(a, b, margin)) < 4 * chance.mcse


@pytest.mark.parametrize("margin", [0.005, 0.03])
def test_chance_equal_is_the_closed_form_and_completes_the_other_two(margin: float, fits: rl.Fits) -> None:
    equal = fits.chance_equal("high", "low", margin)
    expected = 1.0 - closed_form("high", "low", margin) - closed_form("low", "high", margin)
    assert abs(equal.probability - expected) < 4 * equal.mcse < 0.08
    either = fits.chance_higher("high", "low", margin), fits.chance_higher("low", "high", margin)
    assert equal.probability + sum(c.probability for c in either) == pytest.approx(1.0, abs=1e-12)
    assert equal.probability == pytest.approx(fits.chance_equal("low", "high", margin).probability, abs=1e-12)


def test_the_two_directions_sum_to_one_and_the_margin_counts(fits: rl.Fits) -> None:
    forth, back = fits.chance_higher("high", "middle"), fits.chance_higher("middle", "high")
    assert forth.probability + back.probability == pytest.approx(1.0, abs=1e-12)
    assert forth.mcse == pytest.approx(back.mcse)
    assert fits.chance_higher("high", "middle", 0.1).probability < 0.01 < forth.probability
    assert fits.chance_higher("high", "middle", -0.1).probability > 0.99


def test_ties_count_half() -> None:
    ones = np.ones((2, 50))
    assert chance_of_draws(ones, ones)[0] == 0.5
    assert chance_of_draws(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))[0] == pytest.approx(0.875)


def ar1(rng: np.random.Generator, phi: float, shape: tuple[int, int]) -> np.ndarray:
    shocks = rng.standard_normal(shape)
    out = shocks.copy()
    for t in range(1, shape[1]):
        out[:, t] = phi * out[:, t - 1] + math.sqrt(1.0 - phi**2) * shocks[:, t]
    return out


def test_mcse_matches_replications() -> None:
    rng = np.random.default_rng(5)
    found = {}
    for phi in (0.0, 0.8):
        runs = [chance_of_draws(ar1(rng, phi, (4, 250)) + 0.5, 1.5 * ar1(rng, phi, (4, 250))) for _ in range(120)]
        estimates, errors = np.array(runs).T
        found[phi] = estimates.std(ddof=1)
        assert 1 / 1.5 < errors.mean() / found[phi] < 1.5
        assert estimates.mean() == pytest.approx(norm.cdf(0.5 / math.hypot(1.0, 1.5)), abs=4 * found[phi] / 120**0.5)
    assert found[0.8] > 1.8 * found[0.0]  # 3 for the mean of an AR(1); an error blind to correlation fails above


def test_mcse_of_probability_one_is_one_over_draws() -> None:
    p, mcse = chance_of_draws(np.ones((4, 100)), np.zeros((4, 100)))
    assert p == 1.0
    assert 1 / 400 <= mcse < 2 / 400


def test_between_run_sd_follows_prior_for_one_run(scalerl_fits: rl.Fits) -> None:
    fits = [fit for fit in scalerl_fits.values() if fit.verdict is rl.Verdict.IDENTIFIED]
    assert len(fits) >= 10
    # A half-normal spread times a Student t number (4 degrees of freedom) whose central 90% are those of a normal.
    rng = np.random.default_rng(0)
    core = stats.norm.ppf(0.95) / stats.t.ppf(0.95, 4)
    expected = 0.1 * rng.standard_normal(400_000) * core * rng.standard_t(4, 400_000)
    places = np.quantile(expected, [0.05, 0.25, 0.75, 0.95])
    below, shifts, correlations = [], [], []
    for fit in fits:
        R0 = fit.draws["R0"]
        own = logit((fit.run_draws["A"][..., 0] - R0) / (1.0 - R0))
        step = logit(fit.draws["headroom"]) - own
        below.append((step.reshape(-1, 1) < places).mean(axis=0))
        shifts.append(step.mean())
        correlations.append(stats.spearmanr(step.ravel(), own.ravel()).statistic)
    effective = 400 * len(fits)  # at least
    # The prior of the headroom, Beta(1.5, 1.5), draws the recipe by 1.5 (1 - 2 headroom) times the variance of a step
    # towards a half, which moves its quantiles by less than the last term.
    variance = 0.01 * 2.0 * core**2
    drawn = [1.5 * variance * (1.0 - 2.0 * fit.draws["headroom"].mean()) for fit in fits]
    assert np.mean(shifts) == pytest.approx(np.mean(drawn), abs=4.0 * math.sqrt(variance / effective))
    allowed = 4.0 * np.sqrt(np.array([0.0475, 0.1875, 0.1875, 0.0475]) / effective) + 0.03
    assert (np.abs(np.mean(below, axis=0) - [0.05, 0.25, 0.75, 0.95]) < allowed).all()
    assert abs(np.mean(correlations)) < 0.1


def test_larger_between_run_sd_moves_probability_towards_half(scalerl: rl.Runs, scalerl_fits: rl.Fits) -> None:
    one = scalerl.select("GSPO")
    made = {0.1: scalerl_fits["GSPO"]}
    for spread in (0.01, 0.5):
        made[spread] = rl.fit(one, priors=rl.SigmoidPriors(headroom_spread=dist.HalfNormal(spread)))["GSPO"]
    found = [
        rl.Fits([scalerl_fits["ScaleRL-bs2048"], made[spread]]).chance_higher("ScaleRL-bs2048", "GSPO")
        for spread in sorted(made)
    ]
    probabilities = [chance.probability for chance in found]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] > 0.85
    assert 0.5 < probabilities[-1] < probabilities[0] - 0.05
    # The run itself is the same whatever its siblings might be.
    ends = np.array([fit.interval("A", run="0") for fit in made.values()])
    assert np.ptp(ends, axis=0).max() < 0.004


def test_percent_gives_the_same_chance_with_the_margin_in_percent(fits: rl.Fits) -> None:
    percent = rl.Fits([normal_fit(n, *MEANS[n], bounds=(0.0, 100.0)) for n in ("high", "low")])
    assert percent["high"].draws["A"].mean() == pytest.approx(62.0, abs=0.1)
    assert (
        abs(percent.chance_higher("high", "low", 2.0).probability - fits.chance_higher("high", "low", 0.02).probability)
        < 1e-3
    )


def test_what_is_not_identified_is_inconclusive(fits: rl.Fits) -> None:
    chance = fits.chance_higher("high", "early")
    assert not chance.conclusive
    assert chance.reason == EARLY
    assert chance.probability == pytest.approx(closed_form("high", "early"), abs=0.02)
    assert str(chance) == (
        f"P(A of high > A of early): inconclusive, {EARLY} [the number would be {chance.probability:.2f}]"
    )
    assert chance.sentence() == f"Whether high ends above early cannot be said yet: {EARLY}."
    twice = normal_fit("b", 0.6, 0.01, verdict=rl.Verdict.NO_RISE)
    both = rl.Fits([fits["early"], twice]).chance_equal("early", "b", 0.02)
    assert both.question == "|A of early - A of b| <= 0.02"
    assert both.reason == (
        f"{chance.reason}; b shows no rise (NO_RISE: run longer, evaluate on more answers, or check that it learns)"
    )


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.8349, "0.83"), (0.996, ">0.99"), (1.0, ">0.99"), (0.994, "0.99"), (0.004, "<0.01"), (0.0, "<0.01")],
)
def test_two_decimals_are_shown(p: float, shown: str) -> None:
    chance = rl.Chance("a", "b", 0.02, False, p, 0.0123, True, "")
    assert str(chance) == f"P(A of a > A of b + 0.02) = {shown} (Monte Carlo error 0.01)"
    assert repr(chance) == f"Chance: {chance}"
    said = shown.replace(">", "above ").replace("<", "below ")
    assert chance.sentence() == f"a ends more than 0.02 above b with chance {said} (Monte Carlo error 0.01)."


def test_the_question_names_the_margin(fits: rl.Fits) -> None:
    assert fits.chance_higher("high", "low", 0.02).question == "A of high > A of low + 0.02"
    assert fits.chance_higher("high", "low").question == "A of high > A of low"


def test_table_of_chances(fits: rl.Fits) -> None:
    table = fits.chances(margin=0.01)
    assert list(table.index) == list(table.columns) == list(MEANS)
    assert np.isnan(np.diag(table)).all()
    # Early has already reached more than low may have, so that its unknown ceiling does not matter there.
    assert table.loc["early", ["high", "middle"]].isna().all()
    assert table["early"].drop("low").isna().all()
    assert table.loc["early", "low"] == fits.chance_higher("early", "low", 0.01).lower > 0.95
    known = [n for n in MEANS if n != "early"]
    for a in known:
        for b in set(known) - {a}:
            assert table.loc[a, b] == fits.chance_higher(a, b, 0.01).probability
    full = fits.chances(margin=0.01, include_inconclusive=True)
    assert full.isna().to_numpy().sum() == len(MEANS)
    assert full.loc["early", "low"] == fits.chance_higher("early", "low", 0.01).probability
    pd.testing.assert_frame_equal(full.loc[known, known], table.loc[known, known])


def share(compute: float) -> float:
    """Share of the rise of these recipes at a compute."""
    return float(1.0 / (1.0 + (CURVE["C_mid"] / compute) ** CURVE["B"]))


@pytest.mark.parametrize(("at", "margin"), [(2500.0, 0.0), (9000.0, 0.01), (15_000.0, 0.01), (40_000.0, 0.0)])
def test_chance_at_a_compute_is_the_closed_form(at: float, margin: float, fits: rl.Fits) -> None:
    """The curve is the start plus a share of the gain; beyond the last evaluation, at 10,000, its form has an error."""
    chance = fits.chance_higher("high", "low", margin, at=at)
    far = 0.05 * math.sqrt(math.log(max(at / 1e4, 1.0)))
    means, sds = zip(*(MEANS[name] for name in ("high", "low")), strict=True)
    gains = [share(at) * (mean - 0.4) for mean in means]
    sd = math.hypot(*(share(at) * sd for sd in sds), *(far * (mean - 0.4) for mean in means))
    assert chance.probability == pytest.approx(norm.cdf((gains[0] - gains[1] - margin) / sd), abs=4 * chance.mcse)
    assert chance.conclusive
    assert chance.lower == chance.upper == chance.probability
    assert f"at {at:,.0f} gpu_hours" in chance.sentence()
    assert chance.question.startswith(f"R({at:,.0f}) of high > R({at:,.0f}) of low")


def test_a_compute_far_beyond_the_data_of_an_unfinished_recipe_is_inconclusive(fits: rl.Fits) -> None:
    near, far = (fits.chance_higher("high", "early", at=at) for at in (15_000.0, 20_000.0))
    assert near.conclusive
    assert near.reason == ""
    assert not far.conclusive
    assert far.reason == "early ends at 10,000 gpu_hours, and its curve can be compared up to 16,000"
    longer = dataclasses.replace(fits["early"], rules=rl.VerdictRules(max_ahead=2.5))
    longer = given(longer, verdict=rl.Verdict.PRE_INFLECTION)
    assert rl.Fits([fits["high"], longer]).chance_higher("high", "early", at=20_000.0).conclusive
    assert fits.rank(at=20_000.0)["conclusive"].to_dict() == {"high": True, "middle": True, "low": True, "early": False}
    assert fits.chances(at=20_000.0)["early"].drop("low").isna().all()
    assert not fits.chance_equal("high", "early", 0.01, at=20_000.0).conclusive
    failed = normal_fit("b", 0.6, 0.01, verdict=rl.Verdict.NOT_CONVERGED)
    assert not rl.Fits([fits["high"], failed]).chance_higher("high", "b", at=5000.0).conclusive


def test_an_unfinished_recipe_has_at_least_what_it_has_reached(fits: rl.Fits) -> None:
    chance = fits.chance_higher("early", "low", 0.01)
    reached = 0.4 + share(1e4) * (0.70 - 0.4)
    sd = math.hypot(share(1e4) * 0.05, 0.015)
    assert chance.lower == pytest.approx(norm.cdf((reached - 0.58 - 0.01) / sd), abs=0.02)
    assert chance.upper == 1.0
    assert chance.conclusive
    assert str(chance) == f"P(A of early > A of low + 0.01) is {at_least(chance.lower)}, whatever the prior"
    assert "what has been reached and the bound of the reward leave no more" in chance.sentence()
    plain = fits.chance_higher("early", "low").sentence()
    assert "early has already reached more than the ceiling of low may be" in plain
    back = fits.chance_higher("low", "early", -0.01)
    assert back.upper == pytest.approx(1.0 - chance.lower, abs=1e-9)
    assert back.lower == 0.0
    assert back.question == "A of low > A of early - 0.01"
    assert f"chance {at_most(back.upper)}, whatever the prior" in back.sentence()
    open_ = fits.chance_higher("early", "high")
    assert open_.lower < 0.95
    assert open_.upper == 1.0
    assert not open_.conclusive
    both = rl.Fits([fits["early"], normal_fit("b", 0.6, 0.05, verdict=rl.Verdict.PRE_INFLECTION)])
    assert (both.chance_higher("early", "b").lower, both.chance_higher("early", "b").upper) == (0.0, 1.0)


def test_best_at_is_the_rank_at_each_budget(fits: rl.Fits) -> None:
    table = fits.best_at([5000.0, 20_000.0])
    assert list(table.columns) == list(MEANS)
    assert table.index.name == "gpu_hours"
    for at in table.index:
        pd.testing.assert_series_equal(table.loc[at], fits.rank(at=at)["p_best"][list(MEANS)], check_names=False)
    assert np.isnan(table.loc[20_000.0, "early"])
    assert table.loc[5000.0, "early"] > 0.8
    assert np.allclose(table.sum(axis=1), 1.0)
    assert fits.best_at([20_000.0], include_inconclusive=True).notna().all(axis=None)


def test_the_range_of_the_chance_to_be_the_best_covers_what_may_come(fits: rl.Fits) -> None:
    table = fits.rank()
    assert (table["lower"] <= table["upper"]).all()
    assert table.loc["early", ["lower", "upper"]].tolist() == [pytest.approx(table.loc["early", "lower"]), 1.0]
    # It has passed low, which cannot become the best any more, whatever its ceiling is.
    assert table.loc["low", "upper"] < 0.01
    known = rl.Fits([fits[name] for name in ("high", "middle", "low")]).rank()
    np.testing.assert_allclose(known["lower"], known["p_best"])
    np.testing.assert_allclose(known["upper"], known["p_best"])


def test_a_single_candidate_gets_no_chance(fits: rl.Fits) -> None:
    lone = rl.Fits([fits["high"], fits["early"]]).rank()
    assert lone["p_best"].isna().all()
    assert lone.loc["high", "conclusive"]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_compute_that_is_not_positive_is_refused(bad: float, fits: rl.Fits) -> None:
    for ask in (
        lambda: fits.chance_higher("high", "low", at=bad),
        lambda: fits.chances(at=bad),
        lambda: fits.rank(at=bad),
        lambda: fits.best_at([bad]),
        lambda: fits.answer(at=bad),
    ):
        with pytest.raises(rl.DataError, match="is not a positive compute; give one in the unit of the runs"):
            ask()


@pytest.mark.parametrize("everyone", [False, True])
def test_rank(everyone: bool, fits: rl.Fits) -> None:
    table = fits.rank(include_inconclusive=everyone)
    ranked = [n for n in MEANS if everyone or n != "early"]
    places = table.loc[ranked, [f"rank_{k + 1}" for k in range(len(ranked))]]
    assert [c for c in table if c.startswith("rank_")] == list(places)
    assert np.allclose(places.sum(axis=0), 1.0)
    assert np.allclose(places.sum(axis=1), 1.0)
    assert np.allclose(table.loc[ranked, "p_best"], places["rank_1"])
    assert np.allclose(table.loc[ranked, "mean_rank"], places @ np.arange(1, len(ranked) + 1))
    assert table["p_best"].dropna().is_monotonic_decreasing
    assert list(table.index[:2]) == (["early", "high"] if everyone else ["high", "middle"])
    assert not table.loc["early", "conclusive"]
    assert table.loc["early", "reason"].startswith(
        "early has a ceiling that the data do not fix (PRE_INFLECTION: run to"
    )
    assert table.loc["high", ["conclusive", "reason"]].tolist() == [True, ""]
    if not everyone:
        assert table.loc["early", ["p_best", "mcse", "mean_rank", "rank_1"]].isna().all()
        assert table.index[-1] == "early"
        # P(best) by quadrature over the value of the ceiling.
        grid = np.linspace(0.4, 0.8, 20_001)
        for name in ranked:
            others = np.prod([norm.cdf(grid, *MEANS[n]) for n in ranked if n != name], axis=0)
            exact = float(np.trapezoid(norm.pdf(grid, *MEANS[name]) * others, grid))
            assert abs(table.loc[name, "p_best"] - exact) < 4 * table.loc[name, "mcse"] < 0.05


def test_rank_of_two_agrees_with_the_chance_and_takes_unequal_numbers_of_draws() -> None:
    pair = rl.Fits([normal_fit("a", 0.61, 0.02), normal_fit("b", 0.60, 0.02, draws=2000)])
    table, chance = pair.rank(), pair.chance_higher("a", "b")
    assert abs(table.loc["a", "p_best"] - chance.probability) < 4 * math.hypot(table.loc["a", "mcse"], chance.mcse)


def test_rank_of_none_that_can_be_ranked() -> None:
    table = rl.Fits([normal_fit("a", 0.6, 0.1, verdict=rl.Verdict.NO_RISE)]).rank()
    assert table["p_best"].isna().all()
    assert not table["conclusive"].any()


ITSELF = "'low' is compared with itself; name two recipes, or runs of one as recipe/run."


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (
            lambda f: f.chance_higher("hihg", "low"),
            "this set of fits has no recipe 'hihg' (did you mean 'high'?); it has: high, middle, low, early.",
        ),
        (lambda f: f.chance_higher("low", "low"), ITSELF),
        (lambda f: f.chance_equal("low", "low", 0.1), ITSELF),
        *(
            (ask, f"margin={bad} is not a finite difference of rewards; give one, such as 0.02.")
            for bad in ("nan", "inf")
            for ask in (
                lambda f, bad=bad: f.chance_higher("high", "low", float(bad)),
                lambda f, bad=bad: f.chance_equal("high", "low", float(bad)),
                lambda f, bad=bad: f.chances(float(bad)),
            )
        ),
        *(
            (
                lambda f, bad=bad: f.chance_equal("high", "low", bad),
                f"margin={bad!r} leaves no room to be equal; give a difference above 0 that does not count.",
            )
            for bad in (0.0, -0.02)
        ),
    ],
)
def test_invalid_comparisons_raise_data_error(ask: object, sentence: str, fits: rl.Fits) -> None:
    with pytest.raises(rl.DataError) as raised:
        ask(fits)  # type: ignore[operator]
    assert str(raised.value) == sentence


def test_other_rewards_are_not_compared() -> None:
    pair = rl.Fits([normal_fit("a", 0.6, 0.1), normal_fit("b", 0.6, 0.1, reward="score")])
    with pytest.raises(rl.DataError) as raised:
        pair.chance_higher("a", "b")
    assert str(raised.value) == (
        "'a' is measured in pass_rate and 'b' in score; compare recipes with the same reward and bounds."
    )


SEEDS = {"1": (0.010, 0.010), "2": (0.000, 0.010), "3": (-0.030, 0.020)}


@pytest.fixture(scope="module")
def seeds() -> rl.Fits:
    """Runs of one recipe whose ceilings are known only together: what they share is five times wider."""
    wide = normal_fit("wide", 0.60, 0.05, runs=SEEDS)
    return rl.Fits([wide, normal_fit("high", *MEANS["high"], runs={"1": (0.0, 0.005), "9": (0.0, 0.005)})])


@pytest.mark.parametrize("margin", [0.0, 0.02, -0.02])
@pytest.mark.parametrize(("a", "b"), [("1", "2"), ("2", "1"), ("3", "2")])
def test_runs_of_one_recipe_are_compared_draw_by_draw(a: str, b: str, margin: float, seeds: rl.Fits) -> None:
    chance = seeds.chance_higher(f"wide/{a}", f"wide/{b}", margin)
    (ma, sa), (mb, sb) = SEEDS[a], SEEDS[b]
    expected = norm.cdf((ma - mb - margin) / math.hypot(sa, sb))
    all_pairs = norm.cdf((ma - mb - margin) / math.hypot(sa, sb, 0.05, 0.05))
    assert abs(expected - all_pairs) > 4 * chance.mcse
    assert abs(chance.probability - expected) < 4 * chance.mcse < 0.04
    one, other = (seeds["wide"].draws_of(run)["A"] for run in (a, b))
    assert chance.probability == (one > other + margin).mean()
    assert chance.conclusive


def test_a_run_is_compared_with_its_own_recipe_draw_by_draw(seeds: rl.Fits) -> None:
    above, below = seeds.chance_higher("wide/1", "wide"), seeds.chance_higher("wide", "wide/1")
    assert abs(above.probability - norm.cdf(1.0)) < 4 * above.mcse < 0.04  # all pairs would give .56
    assert above.probability + below.probability == pytest.approx(1.0, abs=1e-12)
    assert (above.question, below.question) == ("A of wide/1 > A of wide", "A of wide > A of wide/1")


@pytest.mark.parametrize(("a", "b"), [("wide/1", "wide/3"), ("wide/2", "wide"), ("wide", "wide/3")])
def test_equal_within_a_margin_completes_the_other_two_for_runs_too(a: str, b: str, seeds: rl.Fits) -> None:
    equal = seeds.chance_equal(a, b, 0.015)
    either = seeds.chance_higher(a, b, 0.015), seeds.chance_higher(b, a, 0.015)
    assert equal.probability + sum(c.probability for c in either) == pytest.approx(1.0, abs=1e-12)
    (ma, sa), (mb, sb) = (SEEDS.get(name.removeprefix("wide/"), (0.0, 0.0)) for name in (a, b))
    apart, sd = ma - mb, math.hypot(sa, sb)
    expected = norm.cdf((0.015 - apart) / sd) - norm.cdf((-0.015 - apart) / sd)
    assert abs(equal.probability - expected) < 4 * equal.mcse < 0.04


def test_runs_of_two_recipes_are_compared_over_all_pairs(seeds: rl.Fits) -> None:
    chance = seeds.chance_higher("high/9", "wide/3", 0.01)
    a, b = seeds["high"].draws_of("9")["A"], seeds["wide"].draws_of("3")["A"]
    assert (chance.probability, chance.mcse) == chance_of_draws(a, b + 0.01)
    sd = math.hypot(0.010, 0.005, 0.05, 0.02)
    assert abs(chance.probability - norm.cdf((0.62 - 0.57 - 0.01) / sd)) < 4 * chance.mcse < 0.05
    assert seeds.chance_higher("high/9", "wide").probability != seeds.chance_higher("high/1", "wide").probability


def test_mcse_of_paired_draws_matches_replications() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(120):
        fit = normal_fit("a", 0.6, 0.05, draws=250)
        own = [fit.draws["A"] + 0.01 * ar1(rng, 0.8, (4, 250)) + apart for apart in (0.005, 0.0)]
        runs = tuple(Run("a", run, *[np.ones(4)] * 3, None) for run in "12")
        two = dataclasses.replace(fit, runs=runs, unit_draws={"A": np.stack(own, -1)})
        chance = rl.Fits([given(two, verdict=fit.verdict)]).chance_higher("a/1", "a/2")
        found.append((chance.probability, chance.mcse))
    estimates, errors = np.array(found).T
    spread = estimates.std(ddof=1)
    assert 1 / 1.5 < errors.mean() / spread < 1.5
    assert estimates.mean() == pytest.approx(norm.cdf(0.5 / math.sqrt(2.0)), abs=4 * spread / 120**0.5)


def test_ties_of_paired_draws_count_half() -> None:
    fits = rl.Fits([normal_fit("a", 0.6, 0.05, runs={"1": (0.0, 0.0), "2": (0.0, 0.0)})])
    assert fits.chance_higher("a/1", "a/2").probability == fits.chance_higher("a", "a/1").probability == 0.5
    assert fits.chance_equal("a/1", "a/2", 0.01).probability == 1.0


def test_a_reason_that_two_runs_share_is_given_once() -> None:
    fits = rl.Fits([normal_fit("a", 0.6, 0.05, runs=SEEDS, verdict=rl.Verdict.PRE_INFLECTION)])
    chance = fits.chance_higher("a/1", "a/2")
    assert not chance.conclusive
    assert chance.reason == EARLY.replace("early", "a", 1)


def test_recipe_name_takes_precedence_over_run_name(seeds: rl.Fits) -> None:
    slash = normal_fit("wide/1", 0.9, 0.001)
    fits = rl.Fits([seeds["wide"], slash])
    assert fits.chance_higher("wide/1", "wide").probability > 0.99


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("wide/11", "wide"), "recipe 'wide' has no run '11' (did you mean '1'?); it has: 1, 2, 3."),
        (("high", "wide/x"), "recipe 'wide' has no run 'x'; it has: 1, 2, 3."),
        (("wdie/1", "wide"), "this set of fits has no recipe 'wdie/1' (did you mean 'wide'?); it has: wide, high."),
        (
            ("wide/1", "wide/1"),
            "'wide/1' is compared with itself; name two recipes, or runs of one as recipe/run.",
        ),
    ],
)
def test_runs_that_cannot_be_asked_about(names: tuple[str, str], sentence: str, seeds: rl.Fits) -> None:
    for ask in (seeds.chance_higher, lambda a, b: seeds.chance_equal(a, b, 0.02)):
        with pytest.raises(rl.DataError) as raised:
            ask(*names)
        assert str(raised.value) == sentence


def test_chances_table_contains_only_recipes(seeds: rl.Fits) -> None:
    table = seeds.chances()
    assert list(table.index) == list(table.columns) == list(seeds.rank().sort_index(ascending=False).index)
    assert table.loc["high", "wide"] == seeds.chance_higher("high", "wide").probability


def test_clearly_different_scalerl_ceilings_are_distinguished(scalerl_fits: rl.Fits) -> None:
    published = rl.published_fits("scalerl")["A"]
    table = scalerl_fits.chances()
    # .05 is 2.5 times the error margin of the authors.
    pairs = [(a, b) for a in table for b in table if {a, b} <= set(published.index)]
    clear = [
        (a, b)
        for a, b in pairs
        if scalerl_fits[a].verdict is scalerl_fits[b].verdict is rl.Verdict.IDENTIFIED
        and published[a] - published[b] >= 0.05
    ]
    assert len(clear) >= 20
    assert ("ScaleRL", "Magistral") in clear
    assert all(table.loc[a, b] > 0.8 for a, b in clear)
    assert table.loc["ScaleRL", "Magistral"] > 0.9
    assert table.loc["CISPO", "DAPO-baseline"] > 0.9


def test_scalerl_34k_comparison_is_inconclusive(scalerl_fits: rl.Fits) -> None:
    chance = scalerl_fits.chance_higher("ScaleRL", "ScaleRL-34k")
    assert chance.probability < 0.02
    number = "<0.01" if chance.probability < 0.005 else f"{chance.probability:.2f}"
    assert re.fullmatch(
        r"P\(A of ScaleRL > A of ScaleRL-34k\): inconclusive, ScaleRL-34k has a ceiling that the data do not fix "
        r"\(PRE_INFLECTION: run to about \d\d,000 gpu_hours; chance that the ceiling is fixed: 0\.\d\d at 1\.5 x the "
        r"present compute, 0\.\d\d at 2 x, \d\.\d\d at 3 x, \d\.\d\d at 5 x\) "
        rf"\[the number would be {re.escape(number)}\]",
        str(chance),
    )
