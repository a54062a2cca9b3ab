"""Seeds that collapsed or never rose are found from their evaluations, left out, counted and named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
import several
from rlceiling.curves import sigmoid_curve
from rlceiling.fitting import failed_runs as module
from rlceiling.fitting.failed_runs import failed_runs
from rlceiling.runs import Run
from rlceiling.runs.units import Units

UNITS = Units("gpu_hours", "pass_rate", (0.0, 1.0))
COMPUTE = np.linspace(300.0, 6000.0, 20)
PODS = Path(__file__).parents[3] / "shared" / "data"


def run(name: str, reward: np.ndarray, compute: np.ndarray = COMPUTE) -> Run:
    return Run("a", name, compute, reward, np.full(len(compute), np.nan), (0.4, np.nan))


def healthy(name: str, ceiling: float = 0.6) -> Run:
    noise = 0.004 * np.random.default_rng([ord(c) for c in name]).standard_normal(20)
    return run(name, sigmoid_curve(COMPUTE, ceiling, 1.8, 1200.0, 0.4) + noise)


def collapsed(name: str, to: float = 0.4) -> Run:
    one = healthy(name)
    return run(name, np.where(COMPUTE > 3000.0, to + 0.004 * np.sin(COMPUTE), one.reward))


def flat(name: str) -> Run:
    return run(name, 0.4 + 0.004 * np.cos(COMPUTE))


@pytest.mark.parametrize("to", [0.4, 0.12, 0.0], ids=["to its start", "below its start", "to zero"])
def test_a_collapsed_seed_is_found(to: float) -> None:
    found = failed_runs([healthy("0"), collapsed("1", to), healthy("2")], UNITS)
    assert found == {"1": "collapsed after 3,000 gpu_hours"}


def test_seeds_that_never_rose_are_found() -> None:
    """Two of five: the recipe is a mixture, of which three succeed."""
    found = failed_runs([healthy("0"), flat("1"), healthy("2"), flat("3"), healthy("4")], UNITS)
    assert found == {"1": "never rose", "3": "never rose"}


@pytest.mark.parametrize(
    "runs",
    [
        [healthy("0"), collapsed("1")],  # with two runs it is not known which one is the recipe
        [healthy("0"), collapsed("1"), collapsed("2"), healthy("3")],
        [flat("0"), flat("1"), flat("2")],
        [healthy("0"), healthy("1", 0.55), healthy("2", 0.65)],
        # A short run that has not risen yet is compared with what its siblings had gained by then.
        [healthy("0"), run("1", healthy("1").reward[:5], COMPUTE[:5] / 20.0), healthy("2")],
        # A dip from which the run recovers.
        [healthy("0"), run("1", np.where(np.abs(COMPUTE - 3000) < 500, 0.45, healthy("1").reward)), healthy("2")],
    ],
    ids=["two runs", "half of them", "no seed rises", "other ceilings", "short", "dip"],
)
def test_other_seeds_are_kept(runs: Sequence[Run]) -> None:
    assert failed_runs(runs, UNITS) == {}


@pytest.mark.skipif(not PODS.exists(), reason="the curves of the ten seeds are not part of the repository")
def test_no_seed_of_real_recipes_is_taken_for_failed() -> None:
    table = pd.read_csv(PODS / "pods_l40s_gsm8k.csv")
    runs = rl.read_runs(table, compute="gpu_hours", reward="accuracy", run="seed")
    assert len(runs) > 1000
    assert [failed_runs(members, UNITS) for _, members in runs.iter_recipes()] == [{}] * 10


def test_posterior_is_that_of_the_healthy_seeds() -> None:
    fit = several.fits()["collapsed"]
    simulated = several.simulated()
    without = rl.fit(simulated.select("collapsed").drop("collapsed/1"), **several.SHORT)["collapsed"]
    assert list(fit.failed_runs) == ["1"]
    assert fit.run_names == without.run_names == ["7", "3", "2", "5"]
    for name, values in without.draws.items():
        np.testing.assert_array_equal(fit.draws[name], values)
    assert fit.verdict is rl.Verdict.IDENTIFIED
    assert fit.sentence().endswith(f" 1 of 5 runs failed and was left out: run 1 {fit.failed_runs['1']}.")
    assert several.fits().summary()["failed_runs"].to_dict() == {"collapsed": 1, "low": 0, "uneven": 0}


def test_fitted_with_its_siblings_a_collapsed_seed_would_change_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(module, "BEHIND", -np.inf)
    dragged = rl.fit(several.simulated().select("collapsed"), **several.SHORT)["collapsed"]
    assert dragged.failed_runs == {}
    lower, _, upper = several.fits()["collapsed"].interval("A")
    dragged_lower, _, dragged_upper = dragged.interval("A")
    assert dragged_upper - dragged_lower > 1.3 * (upper - lower)


def test_failed_seeds_are_kept_in_files(tmp_path: Path) -> None:
    several.fits().save(tmp_path)
    loaded = rl.load_fits(tmp_path)
    assert loaded["collapsed"].failed_runs == several.fits()["collapsed"].failed_runs
    assert loaded["collapsed"].sentence() == several.fits()["collapsed"].sentence()
