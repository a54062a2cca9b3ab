"""Fits of runs as they stood earlier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rlceiling as rl
from handmade import made_recipe
from rlceiling.calibration.baselines import least_squares

QUICK = {"chains": 2, "tune": 200, "draws": 200, "progress": False}


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    runs = rl.load_dataset("scalerl").select("ScaleRL", "GSPO")
    return rl.fit(runs, seed=3, **QUICK)


@pytest.fixture(scope="module")
def grown(fits: rl.Fits) -> rl.Growth:
    return rl.growth(fits, shares=(0.5, 0.01, 0.5, 0.999), progress=False)


def test_growth_fits_equal_fits_of_truncated_runs(fits: rl.Fits, grown: rl.Growth) -> None:
    assert list(grown.fits) == [0.5, 0.999, 1.0]  # too little data at .01
    runs = rl.load_dataset("scalerl").select("ScaleRL")
    last = runs.table["compute"].max()
    again = rl.fit(runs.until(0.5 * last), seed=3, **QUICK)["ScaleRL"]
    cut = grown.of("ScaleRL")[0.5]
    assert (cut.settings.tune, cut.settings.draws) == (again.settings.tune, again.settings.draws)
    for name, values in again.draws.items():
        np.testing.assert_array_equal(cut.draws[name], values)
    assert grown.fits[1.0] is fits


def test_a_share_that_adds_nothing_is_left_out(fits: rl.Fits) -> None:
    last = fits["ScaleRL"].largest_compute
    before = fits["ScaleRL"].runs[0].compute[-2] / last
    shares = (0.5 * (before + 1.0), 0.75 * before + 0.25)  # both between the last two evaluations
    grown = rl.growth(rl.Fits([fits["ScaleRL"]]), shares, progress=False)
    assert len(grown.of("ScaleRL")) == 2


def test_the_table(grown: rl.Growth) -> None:
    table = grown.table(0.5).set_index(["recipe", "share"])
    for (recipe, share), row in table.iterrows():
        fit = grown.of(recipe)[share]
        assert (row["A_lower"], row["A"], row["A_upper"]) == fit.interval("A", 0.5)
        assert row["verdict"] == fit.verdict.name
        assert row["evaluations"] == len(fit.runs[0].compute)
        assert row["gpu_hours"] == fit.largest_compute
        run = fit.runs[0]
        assert row["A_least_squares"] == least_squares(run, run.reward[:, None]).A[0]


def test_runs_come_back_from_fits() -> None:
    runs = rl.load_dataset("scalerl").select("ScaleRL", "GSPO")
    made = rl.Fits([made_recipe("a", [0.6, 0.62])]).to_runs()
    assert (made.recipes, made.runs_of("a")) == (["a"], ["1", "2"])
    again = [run for _, members in made.iter_recipes() for run in members]
    for one, other in zip(again, made_recipe("a", [0.6, 0.62]).runs, strict=True):
        np.testing.assert_array_equal(one.compute, other.compute)
        np.testing.assert_array_equal(one.reward, other.reward)
        assert one.start is not None
        assert other.start is not None
        np.testing.assert_array_equal(one.start, other.start)
    assert len(runs) > 0


def test_run_without_evaluations_before_cut_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[rl.Runs] = []

    def remember(runs: rl.Runs, *_: object, **__: object) -> rl.Fits:
        seen.append(runs)
        return rl.Fits([])

    fit = made_recipe("a", [0.6, 0.62])
    one, two = fit.runs
    late = type(two)("a", "2", two.compute[-3:] * 1.5, two.reward[-3:], two.n_eval[-3:], two.start)
    monkeypatch.setattr("rlceiling.calibration.growth.fit", remember)
    rl.growth(rl.Fits([replace(fit, runs=(one, late))]), shares=(0.4,))
    assert seen[0].runs_of("a") == ["1"]
    assert seen[0].table["compute"].max() <= 0.4 * one.compute[-1]


def test_an_interruption_keeps_what_is_done(fits: rl.Fits, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([rl.Fits([fits["GSPO"]]), None])

    def stop(*_: object, **__: object) -> rl.Fits:
        done = next(answers)
        if done is None:
            raise rl.FitInterrupted(rl.Fits([fits["ScaleRL"]]), 2)
        return done

    monkeypatch.setattr("rlceiling.calibration.growth.fit", stop)
    with pytest.raises(rl.GrowthInterrupted) as stopped:
        rl.growth(fits, shares=(0.4, 0.6, 0.8))
    assert {share: list(one) for share, one in stopped.value.growth.fits.items()} == {
        0.4: ["GSPO"],
        0.6: ["ScaleRL"],
        1.0: ["ScaleRL", "GSPO"],
    }


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan"), "half"])
def test_bad_shares(fits: rl.Fits, share: object) -> None:
    with pytest.raises(rl.DataError, match=r"growth: share .* of a run is not between 0 and 1; give one that is"):
        rl.growth(fits, shares=(0.5, share))  # type: ignore[arg-type]


def test_unknown_recipe(grown: rl.Growth) -> None:
    with pytest.raises(rl.DataError, match="did you mean 'GSPO'"):
        grown.of("GSPo")
