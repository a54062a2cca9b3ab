"""The posterior of a run that was trained in stages: its last stage is judged, forecast, described and stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
from once import once
from rlceiling.calibration.simulate import simulate_rewards
from rlceiling.curves.stages import staged_compute, staged_curve
from rlceiling.posterior.verdicts import Reason
from several import LENIENT

BEGINS = np.array([0.0, 1500.0])
COMPUTE = np.arange(100.0, 4001.0, 125.0)
TRUTH = {"R0_1": 0.3, "A_1": 0.43, "C_mid_1": 300.0, "A": 0.57, "C_mid": 700.0, "B": 2.5, "tail": 1.0}
NOISE = {"sigma": 0.006, "share": 0.5, "length": 0.3}


def staged_table(stages: bool = True) -> pd.DataFrame:
    """A run of two stages; the first has levelled off where the second begins."""
    truth = TRUTH | {"R0": 0.0} | NOISE
    truth["R0"] = float(staged_curve(BEGINS[1], truth, BEGINS))
    reward = simulate_rewards(COMPUTE, truth, np.random.default_rng(5), begins=BEGINS)
    table = pd.DataFrame({"recipe": "r1", "step": COMPUTE, "reward": reward})
    if stages:
        table["stage"] = np.where(BEGINS[1] < COMPUTE, "24k", "8k")
    return table


@pytest.fixture(scope="module")
def staged() -> rl.Fits:
    return once("staged_fits", lambda: rl.fit(rl.read_runs(staged_table()), chains=2, rules=LENIENT, progress=False))


@pytest.fixture(scope="module")
def ignored() -> rl.Fits:
    """The same run without its column of stages."""
    table = staged_table(stages=False)
    return once("staged_fits_without", lambda: rl.fit(rl.read_runs(table), chains=2, rules=LENIENT, progress=False))


def test_the_ceiling_of_the_last_stage_is_found(staged: rl.Fits) -> None:
    fit = staged["r1"]
    lower, _, upper = fit.interval("A")
    assert lower < TRUTH["A"] < upper
    assert upper - lower < 0.15
    assert fit.interval("A_1")[0] < TRUTH["A_1"] < fit.interval("A_1")[2]
    assert fit.verdict is rl.Verdict.IDENTIFIED
    assert (fit.convergence.divergences, fit.convergence.r_hat < 1.02) == (0, True)


def test_checks_are_those_of_the_last_stage(staged: rl.Fits) -> None:
    (checks,) = staged["r1"].checks.values()
    begins = float(staged["r1"].begins[-1])
    assert checks.evaluations == np.count_nonzero(begins < COMPUTE)
    assert checks.first_compute == pytest.approx(COMPUTE[begins < COMPUTE][0])
    assert checks.start == pytest.approx(staged["r1"].interval("R0")[1], abs=0.005)
    assert checks.rise == pytest.approx(0.13, abs=0.04)
    assert checks.second_rise == 0.0


def test_without_the_column_it_rises_twice_and_the_remedy_is_named(ignored: rl.Fits) -> None:
    fit = ignored["r1"]
    assert fit.reasons[0] is Reason.RISES_TWICE
    assert "name the stage of each evaluation in a column named stage; otherwise use the run until there" in fit.to_do
    assert ", in its last stage" not in fit.sentence()
    several = dataclasses.replace(fit)
    several.__dict__["checks"] = {"0": fit.checks["0"], "1": fit.checks["0"]}
    assert "a column named stage, and give each run a recipe name of its own; otherwise" in several.to_do


def test_sentences_and_tables_name_the_last_stage(staged: rl.Fits, ignored: rl.Fits) -> None:
    fit = staged["r1"]
    assert fit.sentence().startswith("r1, in its last stage, 24k, since 1,480 step: the ceiling is 0.5")
    assert fit.notes[0].startswith("r1: ceiling, midpoint and verdict are those of stage '24k', the last of 2, and")
    for of in ("recipe", "runs"):
        summary = staged.summary(of=of).iloc[0]
        assert (summary["stage"], summary["stage_begins"]) == ("24k", 1475.0)
    assert "stage" not in ignored.summary()
    labels = [label for label, *_ in fit.parameter_rows()]
    assert "midpoint C_mid, from the beginning of the last stage (step)" in labels


def test_computes_count_from_the_beginning_of_the_run(staged: rl.Fits) -> None:
    fit = staged["r1"]
    _, median, _ = fit.curve_at(COMPUTE)
    np.testing.assert_allclose(median, [fit.units.unscale(r) for r in fit.runs[0].reward], atol=0.03)
    forecast = staged.forecast([600.0, 3975.0, 20_000.0])
    assert forecast["mean"].to_numpy() == pytest.approx([0.41, 0.545, fit.interval("A")[1]], abs=0.03)
    reached = staged.compute_to_reach(0.5)["step"].item()
    truth = TRUTH | {"R0": 0.43}
    assert reached == pytest.approx(float(staged_compute(0.5, truth, BEGINS)), rel=0.1)
    assert staged.compute_to_reach(0.35)["step"].item() < BEGINS[1]


def test_a_saved_fit_comes_back_with_its_stages(staged: rl.Fits, ignored: rl.Fits, tmp_path: Path) -> None:
    staged.save(tmp_path)
    fit, loaded = staged["r1"], rl.load_fits(tmp_path)["r1"]
    assert loaded.stages == fit.stages
    assert loaded.sentence() == fit.sentence()
    assert set(loaded.draws) == set(fit.draws) >= {"A_1", "C_mid_1", "R0_1", "headroom_1"}
    assert all((loaded.draws[name] == values).all() for name, values in fit.draws.items())
    again = loaded.run_paths(0).log_prob.sum(axis=1)
    np.testing.assert_array_equal(again, fit.run_paths(0).log_prob.sum(axis=1))
    pd.testing.assert_frame_equal(rl.Fits([loaded]).to_runs().table, staged.to_runs().table)
    assert staged.to_runs().table["stage"].tolist() == staged_table()["stage"].tolist()
    assert "stage" not in ignored.to_runs().table


def test_datatree_has_the_densities_and_replicates_of_all_stages(staged: rl.Fits) -> None:
    fit, tree = staged["r1"], staged["r1"].to_datatree()
    np.testing.assert_allclose(tree["observed_data"]["evaluation"], COMPUTE, rtol=1e-6)
    replicated = tree["posterior_predictive"]["reward"].median(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(replicated, fit.runs[0].reward, atol=0.03)
    assert {"headroom_1", "C_mid_1", "R0_1"} <= set(tree["log_prior"].data_vars)
    assert not {"R0", "A_1"} & set(tree["log_prior"].data_vars)
    prior = fit.prior_draws()
    for name in ("R0", "A", "A_1"):
        assert prior[name].mean() == pytest.approx(float(tree["prior"][name].mean()), abs=0.03)


def test_plots_and_page_show_all_evaluations(staged: rl.Fits, tmp_path: Path) -> None:
    rl.write_report(staged, tmp_path / "report.html", target=0.5, progress=False)
    assert "in its last stage, 24k, since 1,480 step" in (tmp_path / "report.html").read_text(encoding="utf-8")
