"""Verdicts on runs whose answer is known, each with its words; convergence numbers against ArviZ."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import arviz_stats
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import rlceiling as rl
import several
from handmade import given
from rlceiling.curves import sigmoid_curve
from rlceiling.inference.convergence import diagnose
from rlceiling.posterior.continuation import CEILING_ODDS
from rlceiling.posterior.verdicts import Reason
from rlceiling.runs import Runs
from several import LENIENT

COMPUTE = np.geomspace(500.0, 16_000.0, 24)
NOISE = 0.003 * np.random.default_rng(1).standard_normal(24)
SOUND = sigmoid_curve(COMPUTE, 0.6, 1.8, 2500.0, 0.4)


def late(start: float, per_e_fold: float) -> np.ndarray:
    return per_e_fold * np.clip(np.log(COMPUTE / start), 0.0, None)


def spike(at: int, to: float) -> np.ndarray:
    return np.where(np.arange(24) == at, to - SOUND, 0.0)


RUNS: dict[str, np.ndarray] = {
    "sound": SOUND + NOISE,
    "constant": np.full(24, 0.4),
    "noise only": 0.4 + NOISE,
    "decreasing": 0.4 - late(500.0, 0.03) + NOISE,
    "decline": SOUND - late(5000.0, 0.08) + NOISE,
    "collapse": np.where(COMPUTE > 9000.0, 0.42, SOUND) + NOISE,
    "outlier": SOUND + NOISE + spike(12, 0.95),
    "outliers": SOUND + NOISE + sum(spike(at, to) for at, to in ((5, 0.1), (9, 0.9), (14, 0.2), (19, 0.95))),
    "sudden fall": SOUND + NOISE - np.where(np.arange(24) >= 22, 0.15, 0.0),
    "two rises": sigmoid_curve(COMPUTE, 0.55, 3.0, 1200.0, 0.4) + 0.15 * expit(4.0 * np.log(COMPUTE / 8000.0)) + NOISE,
    "steep": sigmoid_curve(COMPUTE, 0.6, 8.7, 11_000.0, 0.4) + NOISE,
    "line": 0.4 + 0.045 * np.log1p(COMPUTE / 300.0) + NOISE,
    "early stop": sigmoid_curve(COMPUTE, 0.6, 1.8, 40_000.0, 0.4) + NOISE,
}


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    rows = [
        pd.DataFrame({"recipe": name, "gpu_hours": np.r_[0.0, COMPUTE], "reward": np.r_[0.4, y], "n_eval": 16_000})
        for name, y in RUNS.items()
    ]
    # Whatever the chains say: convergence, which flat runs seldom miss, has tests of its own.
    return rl.fit(rl.read_runs(pd.concat(rows)), rules=LENIENT)


EXPECTED = {
    "sound": rl.Verdict.IDENTIFIED,
    "constant": rl.Verdict.NO_RISE,
    "noise only": rl.Verdict.NO_RISE,
    "decreasing": rl.Verdict.NOT_A_SIGMOID,
    "decline": rl.Verdict.NOT_A_SIGMOID,
    "collapse": rl.Verdict.NOT_A_SIGMOID,
    "outlier": rl.Verdict.IDENTIFIED,
    "outliers": rl.Verdict.NOT_A_SIGMOID,
    "sudden fall": rl.Verdict.NOT_A_SIGMOID,
    "two rises": rl.Verdict.NOT_A_SIGMOID,
    "steep": rl.Verdict.IDENTIFIED,
    "line": rl.Verdict.PRE_INFLECTION,
    "early stop": rl.Verdict.PRE_INFLECTION,
}

REASONS = {
    "sound": [],
    "constant": ["CONSTANT"],
    "noise only": ["RISE_UNCLEAR"],
    "decreasing": ["FALLS_BELOW_START", "DECLINES"],
    "decline": ["DECLINES"],
    "collapse": ["DECLINES"],
    "outlier": [],
    "outliers": ["OUTLIER"],
    "sudden fall": ["DECLINES"],
    "two rises": ["RISES_TWICE"],
    "steep": [],
    "line": ["NO_CEILING_SHOWN"],
    "early stop": ["NOT_BENT"],
}
"""Reasons that must be given, among others."""


@pytest.mark.parametrize("name", RUNS)
def test_verdict(name: str, fits: rl.Fits) -> None:
    assert fits[name].verdict is EXPECTED[name], fits[name].checks


@pytest.mark.parametrize("name", RUNS)
def test_reasons(name: str, fits: rl.Fits) -> None:
    fit = fits[name]
    assert set(REASONS[name]) <= {reason.name for reason in fit.reasons}
    assert bool(REASONS[name]) == bool(fit.reasons)
    assert all(reason.verdict is fit.verdict for reason in fit.reasons)
    assert fits.summary().loc[name, "reasons"].split() == [reason.name for reason in fit.reasons]


def test_reasons_have_stable_names() -> None:
    assert [reason.name for reason in Reason] == [
        *("CHAINS_DISAGREE", "CONSTANT", "FALLS_BELOW_START", "DECLINES", "RISE_UNCLEAR", "OUTLIER", "RISES_TWICE"),
        *("FORM_UNSURE", "NOT_BENT", "WIDE", "LEANS_ON_OTHERS", "NO_CEILING_SHOWN"),
    ]


def test_constant_runs_are_not_sampled_again(fits: rl.Fits) -> None:
    strict = dataclasses.replace(fits["constant"], rules=rl.VerdictRules(min_ess=1e9))
    assert not strict.worth_a_retry
    assert strict.verdict is rl.Verdict.NO_RISE
    assert dataclasses.replace(fits["sound"], rules=rl.VerdictRules(min_ess=1e9)).worth_a_retry


def test_decline_that_all_seeds_share_is_that_of_the_recipe(fits: rl.Fits) -> None:
    """None of the runs declines clearly on its own; together they do."""
    (sound,) = fits["sound"].checks.values()
    together = [dataclasses.replace(sound, p_decline=0.7, p_shared_decline=0.97)] * 3
    assert rl.VerdictRules().judge(fits["sound"].convergence, together) is rl.Verdict.NOT_A_SIGMOID
    alone = [dataclasses.replace(sound, p_decline=0.7, p_shared_decline=0.7)] * 3
    assert rl.VerdictRules().judge(fits["sound"].convergence, alone) is rl.Verdict.IDENTIFIED


def test_few_divergences_are_accepted(fits: rl.Fits) -> None:
    sound = fits["sound"].convergence
    rules = rl.VerdictRules()
    assert rules.converged(dataclasses.replace(sound, divergences=1, transitions=4000))
    many = dataclasses.replace(sound, divergences=80, transitions=4000)
    assert rules.sentence(many) == (
        "80 of 4,000 transitions diverged (a share of 0.005 is accepted): nothing can be read off."
    )


class TestContinuation:
    """Chance that the ceiling is identified after a longer run."""

    def test_chance_grows_with_the_run(self, fits: rl.Fits) -> None:
        chances = fits["early stop"].chance_identified
        assert list(chances) == [1.5, 2.0, 3.0, 5.0]
        assert all(0.0 <= chance <= 1.0 for chance in chances.values())
        # The run stops at 0.4 of its midpoint, so that five times its compute is twice the midpoint.
        assert chances[1.5] < 0.1
        assert chances[5.0] > chances[1.5] + 0.2

    def test_sound_run_stays_identified(self, fits: rl.Fits) -> None:
        assert min(fits["sound"].chance_identified.values()) > 0.8

    def test_straight_line_is_promised_no_ceiling(self, fits: rl.Fits) -> None:
        (checks,) = fits["line"].checks.values()
        assert checks.ceiling_log_ratio < 0.0
        # However long the run, the chance is at most the probability that there is a ceiling.
        bound = expit(np.log(CEILING_ODDS) + checks.ceiling_log_ratio)
        assert max(fits["line"].chance_identified.values()) <= bound < 0.75

    def test_creep_is_told_that_no_plateau_shows(self, fits: rl.Fits) -> None:
        (checks,) = fits["line"].checks.values()
        creep = given(
            fits["line"],
            verdict=rl.Verdict.PRE_INFLECTION,
            checks={"0": dataclasses.replace(checks, ceiling_log_ratio=-2.0)},
            chance_identified={1.5: 0.02, 5.0: 0.1},
        )
        assert creep.advice() == (
            "no plateau shows in 1.5 decades of compute, and there may be none; chance that the ceiling is fixed: 0.02 "
            "at 1.5 x the present compute, 0.10 at 5 x"
        )

    def test_chances_are_saved(self, fits: rl.Fits, tmp_path: Path) -> None:
        fits.select("early stop").save(tmp_path)
        loaded = rl.load_fits(tmp_path)["early stop"]
        assert loaded.recorded is not None
        assert loaded.recorded.outlook == fits["early stop"].chance_identified
        assert loaded.advice() == fits["early stop"].advice()


def test_bounds_of_a_reward_without_natural_bounds_change_nothing() -> None:
    """Bounds four decades apart, or none: the draws are the same in the user's unit, within rounding."""
    rng = np.random.default_rng(3)
    returns = 20.0 + 900.0 / (1.0 + (3000.0 / COMPUTE) ** 1.8) + 8.0 * rng.standard_normal(24)
    table = pd.DataFrame({"compute": np.r_[0.0, COMPUTE], "reward": np.r_[20.0, returns]})
    found = [
        rl.fit(rl.read_runs(table, reward_bounds=bounds), chains=2, tune=200, draws=300, rules=LENIENT)["recipe"]
        for bounds in ((0, 1000), (-1e7, 1e7), None)
    ]
    first = found[0]
    lower, _, upper = first.interval("A")
    assert lower < 920.0 < upper
    for other in found[1:]:
        assert other.verdict is first.verdict
        for name, values in first.draws.items():
            np.testing.assert_allclose(other.draws[name], values, rtol=1e-6)
    # Negative control: bounds of a score are bounds, and the ceiling stays below them.
    score = rl.fit(rl.read_runs(table.assign(reward=table["reward"] / 1000.0)), chains=2, tune=200, draws=300)
    assert score["recipe"].units.data_span is None
    assert score["recipe"].draws["A"].max() < 1.0
    assert first.units.data_span is not None


def test_sentences_say_what_happened_and_advice_says_what_to_do(fits: rl.Fits) -> None:
    said = {name: (fit.sentence(), fit.advice()) for name, fit in fits.items()}
    assert said["decreasing"][0].startswith("decreasing: the run has fallen below its start, from 0.400 to 0.3")
    assert said["constant"][0] == (
        "constant: all evaluations of the run are equal (0.400), so there is no curve to fit."
    )
    assert said["noise only"][0].startswith("noise only: no rise is shown (rise ")
    assert said["constant"][1] == "run longer, evaluate on more answers, or check that it learns"
    assert said["outlier"][0].endswith(" Set aside as bad: 1 evaluation, at 3,050 gpu_hours.")
    assert said["outliers"][1] == "check these evaluations, and leave out those that are wrong"
    assert re.fullmatch(
        r"outliers: the run has 4 of 24 evaluations far off the curve \(up to [\d.]+ standard deviations\), "
        r"at 1,060, 1,940, 4,120, 8,760 gpu_hours\.",
        said["outliers"][0],
    )
    assert said["decline"][0].startswith("decline: the run has lost ")
    assert re.fullmatch(
        r"look at what happened after [\d,]+ gpu_hours, or use the run until there \(until=[\d.]+\)", said["decline"][1]
    )
    assert said["early stop"][0].startswith("early stop: the data do not fix the ceiling (90% interval ")
    assert "at 16,000 gpu_hours, the curve has reached " in said["early stop"][0]
    assert "; chance that the ceiling is fixed: " in said["early stop"][1]
    assert said["sound"][0].startswith("sound: the ceiling is 0.")


def test_a_bad_evaluation_changes_nothing_and_without_the_mixture_much(fits: rl.Fits) -> None:
    """The interval is that of the run without it; a model that trusts every evaluation has another one."""
    width = fits["sound"].interval("A", run="0")[2] - fits["sound"].interval("A", run="0")[0]
    spiked = pd.DataFrame({"gpu_hours": np.r_[0.0, COMPUTE], "reward": np.r_[0.4, RUNS["outlier"]], "n_eval": 16_000})
    trusting = rl.SigmoidPriors(bad_share=0.0)
    without = rl.fit(rl.read_runs(spiked.drop(index=13)), rules=LENIENT)["recipe"].interval("A", run="0")
    trusted = rl.fit(rl.read_runs(spiked), trusting, rules=LENIENT)["recipe"].interval("A", run="0")
    np.testing.assert_allclose(fits["outlier"].interval("A", run="0"), without, atol=0.1 * width)
    assert trusted[2] - trusted[0] > 2.0 * width


def test_members_carry_words() -> None:
    for verdict in rl.Verdict:
        assert verdict.sentence.endswith(".")
        assert verdict.advice.endswith(".")


def test_rules_are_applied_in_order(fits: rl.Fits) -> None:
    sound = fits["sound"]
    judge = {
        rl.Verdict.NOT_CONVERGED: rl.VerdictRules(max_r_hat=1.0),
        rl.Verdict.NO_RISE: rl.VerdictRules(min_p_rise=1.1),
        rl.Verdict.NOT_A_SIGMOID: rl.VerdictRules(max_second_rise=-1.0),
        rl.Verdict.PRE_INFLECTION: rl.VerdictRules(max_width=0.0),
        rl.Verdict.IDENTIFIED: rl.VerdictRules(),
    }
    assert {rules.judge(sound.convergence, list(sound.checks.values())): rules for rules in judge.values()} == judge


@pytest.mark.parametrize(
    "limits", [{"min_ess": 1e9}, {"max_divergences": -1}, {"min_e_bfmi": 9.0}, {"max_r_hat": 1.0}], ids=str
)
def test_every_convergence_limit_counts(limits: dict[str, float], fits: rl.Fits) -> None:
    sound = fits["sound"]
    checks = list(sound.checks.values())
    assert rl.VerdictRules().judge(sound.convergence, checks) is rl.Verdict.IDENTIFIED
    assert rl.VerdictRules(**limits).judge(sound.convergence, checks) is rl.Verdict.NOT_CONVERGED


FLAT = {"p_rise": 0.2}
DECLINING = {"p_decline": 0.99}
WANDERING = {"p_wander": 0.99}
SPIKED = {"bad_computes": (1000.0, 2000.0, 3000.0, 4000.0)}
SHORT = {"p_reach": 0.3}


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ([{}, {}, {}], rl.Verdict.IDENTIFIED),
        # Half of the runs must fail.
        ([{}, FLAT], rl.Verdict.NO_RISE),
        ([FLAT, {}, {}], rl.Verdict.IDENTIFIED),
        ([FLAT, {}, FLAT], rl.Verdict.NO_RISE),
        ([{}, FLAT, {}, FLAT], rl.Verdict.NO_RISE),
        ([{}, FLAT, {}, FLAT, {}], rl.Verdict.IDENTIFIED),
        ([WANDERING, {}], rl.Verdict.NOT_A_SIGMOID),
        ([{}, {}, SPIKED], rl.Verdict.IDENTIFIED),
        ([DECLINING, WANDERING, SPIKED, {}, {}, {}], rl.Verdict.NOT_A_SIGMOID),
        ([DECLINING, WANDERING, {}, {}, {}], rl.Verdict.IDENTIFIED),
        # A run that does neither counts with each; the first rule that fails gives the verdict.
        ([FLAT | WANDERING, WANDERING, {}], rl.Verdict.NOT_A_SIGMOID),
        ([FLAT | WANDERING, FLAT, WANDERING], rl.Verdict.NO_RISE),
        ([FLAT, WANDERING, {}], rl.Verdict.IDENTIFIED),
        # One that has gone far enough is enough, wherever it stands.
        ([SHORT, SHORT, {}], rl.Verdict.IDENTIFIED),
        ([{}, SHORT, SHORT], rl.Verdict.IDENTIFIED),
        ([SHORT, SHORT | {"p_reach": 0.79}], rl.Verdict.PRE_INFLECTION),
        ([SHORT, {"width": 1.1}], rl.Verdict.PRE_INFLECTION),
        ([SHORT, WANDERING], rl.Verdict.NOT_A_SIGMOID),
    ],
    ids=str,
)
def test_several_runs_are_judged_together(runs: list[dict[str, float]], verdict: rl.Verdict, fits: rl.Fits) -> None:
    (sound,) = fits["sound"].checks.values()
    checks = [dataclasses.replace(sound, **changed) for changed in runs]
    assert rl.VerdictRules().judge(fits["sound"].convergence, checks) is verdict


class TestOddRuns:
    """Seeds that are not like their siblings, among five; the sampler's few steps leave the checks alone to decide."""

    def test_a_seed_that_ends_far_lower_is_named(self) -> None:
        fit = several.fits()["low"]
        assert fit.verdict is rl.Verdict.IDENTIFIED
        assert list(fit.odd_runs) == ["1"]
        assert all(fit.rules.is_sigmoid(checks) for checks in fit.checks.values())
        others = [fit.interval("A", run=run)[1] for run in several.SEEDS if run != "1"]
        assert fit.odd_runs["1"] == (
            f"has its ceiling at {fit.interval('A', run='1')[1]:.3g}, where its siblings have {min(others):.3g} to "
            f"{max(others):.3g}"
        )
        assert fit.interval("A", run="1")[1] == pytest.approx(40.0, abs=1.0)
        assert fit.sentence().endswith(f" Run 1 {fit.odd_runs['1']}.")
        assert fit.advice() == (
            "look at run 1; if it was broken by accident, leave it out with runs.drop('low/1') (command line: "
            "--drop 'low/1')"
        )

    def test_consistent_siblings_are_not_flagged(self) -> None:
        fit = several.fits()["uneven"]
        assert fit.verdict is rl.Verdict.IDENTIFIED
        assert fit.odd_runs == {}
        assert fit.advice() == "none needed"
        assert ", from 4 runs); where the longest run stops, at 16,000 gpu_hours, the curve is at " in fit.sentence()

    def test_fits_report_odd_runs(self) -> None:
        fits = several.fits()
        told = [f"low: run 1 {fits['low'].odd_runs['1']}"]
        assert fits.odd_runs == told
        assert repr(fits).splitlines()[0] == "Fits: 3 recipes of 13 runs (3 IDENTIFIED)"
        assert [line.strip() for line in repr(fits).splitlines()[-1:]] == told
        odd = fits.summary(of="runs")["odd"]
        assert odd[odd != ""].to_dict() == {("low", "1"): fits["low"].odd_runs["1"]}

    def test_no_odd_runs_without_usable_verdict(self) -> None:
        for rules in (rl.VerdictRules(), dataclasses.replace(several.LENIENT, min_p_rise=1.1)):
            fit = dataclasses.replace(several.fits()["low"], rules=rules)
            assert fit.verdict in (rl.Verdict.NOT_CONVERGED, rl.Verdict.NO_RISE)
            assert fit.odd_runs == {}


def test_convergence_is_what_arviz_says(scalerl_fits: rl.Fits) -> None:
    fit = scalerl_fits["ScaleRL"]
    tree = fit.to_datatree()
    assert fit.convergence.r_hat == pytest.approx(float(arviz_stats.rhat(tree).to_dataset().to_array().max()))
    bulk = arviz_stats.ess(tree, method="bulk")
    tail = arviz_stats.ess(tree, method="tail", prob=(0.05, 0.95))
    assert fit.convergence.ess_bulk == pytest.approx(float(bulk.to_dataset().to_array().min()))
    assert fit.convergence.ess_tail == pytest.approx(float(tail.to_dataset().to_array().min()))


def test_chains_that_disagree_or_never_move_are_noticed() -> None:
    rng = np.random.default_rng(0)
    energy, none = rng.standard_normal((4, 1000)), np.zeros((4, 1000), bool)
    good = diagnose({"A": rng.standard_normal((4, 1000))}, none, energy)
    assert rl.VerdictRules().converged(good)
    apart = rng.standard_normal((4, 1000)) + np.array([[0.0], [0.0], [0.0], [1.0]])
    assert not rl.VerdictRules().converged(diagnose({"A": apart}, none, energy))
    stuck = np.ones((4, 1000))
    assert not rl.VerdictRules().converged(diagnose({"A": stuck}, none, energy))


class TestRealRuns:
    """The bundled recipes: what the design saw on them must come out."""

    def test_all_converge(self, scalerl_fits: rl.Fits) -> None:
        table = scalerl_fits.summary()
        assert len(table) == 23
        assert table["divergences"].max() <= 4  # of 4,000 transitions
        assert (table["r_hat"] < 1.01).all()
        assert (table[["ess_bulk", "ess_tail"]] > 400).all(axis=None)

    def test_the_run_cut_before_twice_its_midpoint_is_not_identified(self, scalerl_fits: rl.Fits) -> None:
        assert scalerl_fits["ScaleRL-34k"].verdict is rl.Verdict.PRE_INFLECTION
        assert scalerl_fits["ScaleRL"].verdict is rl.Verdict.IDENTIFIED

    def test_runs_cut_below_their_midpoint_are_never_identified(self, scalerl: Runs) -> None:
        published = rl.published_fits("scalerl")["C_mid"]
        long = ["ScaleRL-34k", "ScaleRL-Scout", "ScaleRL-bs2048"]
        for name in long:
            cut = scalerl.select(name).until(0.8 * published[name])
            assert rl.fit(cut)[name].verdict is not rl.Verdict.IDENTIFIED

    def test_the_recipe_that_declines_later_is_noticed(self) -> None:
        whole = rl.load_dataset("scalerl", split="all").select("DeepSeek-GRPO")
        assert rl.fit(whole, rules=LENIENT)["DeepSeek-GRPO"].verdict is rl.Verdict.NOT_A_SIGMOID
