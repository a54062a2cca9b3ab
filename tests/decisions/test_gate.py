"""Whether a run should go on: closed forms, both error rates, rivals, and runs that cannot be judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import rlceiling as rl
from handmade import COMPUTE, made_recipe
from recipes import made_fits
from rlceiling.decisions.gate import outlook


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    return made_fits()


def row(table: object, recipe: str) -> object:
    return table.set_index("recipe").loc[recipe]  # type: ignore[attr-defined]


def test_the_chance_of_a_gain_is_that_of_the_curve_the_noise_and_the_form() -> None:
    """Of one curve without uncertainty, the rise is normal: the error of the form, and noise that moves on."""
    fit = made_recipe("a", [0.6])
    same = {name: np.full_like(values, np.median(values)) for name, values in fit.draws.items()}
    own = {name: np.full_like(values, np.median(values)) for name, values in fit.run_draws.items()}
    fit = replace(fit, draws=same, unit_draws=own)
    last, add = float(COMPUTE[-1]), 40_000.0
    ahead = outlook(fit, fit.run_names[0], add, 0.004)
    at = {c: float(fit.curve_at(np.array([c]), run=fit.run_names[0])[1][0]) for c in (last, last + add)}
    A, R0, sigma, share, length = (float(same[name].flat[0]) for name in ("A", "R0", "sigma", "share", "length"))
    decay = np.exp(-np.log1p(add / last) / length)
    form = fit.priors.form_error * (A - R0) * np.sqrt(np.log1p(add / last))
    moves = np.sqrt(share * sigma**2 * (1.0 - decay**2) + form**2)
    low, middle, high = ahead.gain
    wander = middle - (at[last + add] - at[last])  # what is left of the noise decays
    assert abs(wander) < sigma
    assert (high - low) / 2.0 / norm.ppf(0.95) == pytest.approx(moves, rel=0.15)
    assert ahead.p_gain == pytest.approx(norm.sf((0.004 - middle) / moves), abs=0.04)


def test_decisions_follow_from_the_error_rates(fits: rl.Fits) -> None:
    for gain in (0.001, 0.01, 0.3):
        table = fits.gate(40_000.0, gain)
        assert list(table["recipe"]) == list(fits)
        for found in table.itertuples():
            if fits[found.recipe].verdict in (rl.Verdict.NOT_CONVERGED, rl.Verdict.NOT_A_SIGMOID):
                assert found.decision == "unknown"
                assert found.why == fits[found.recipe].reason
                continue
            expected = "stop" if found.p_gain <= 0.1 else "go" if found.p_gain >= 0.9 else "unknown"
            assert found.decision == expected
            assert found.gain_lower <= found.gain <= found.gain_upper
            assert found.width_then <= found.width
    assert row(fits.gate(40_000.0, 0.3), "best").decision == "stop"
    careful, bold = (fits.gate(40_000.0, 0.01, max_wrong_stop=rate, max_wrong_go=rate) for rate in (0.01, 0.49))
    assert (careful["decision"] == "unknown").sum() >= (bold["decision"] == "unknown").sum()
    assert set(bold.loc[bold["p_gain"].notna(), "decision"]) <= {"go", "stop", "unknown"}


def test_a_run_that_cannot_end_above_the_others_is_stopped(fits: rl.Fits) -> None:
    alone, asked = fits.gate(40_000.0, 1e-6), fits.gate(40_000.0, 1e-6, against="others")
    p_best = fits.rank(include_inconclusive=True)["p_best"]
    for name in fits:
        if np.isfinite(row(asked, name).p_above):
            assert row(asked, name).p_above == pytest.approx(p_best[name], abs=0.03)
    np.testing.assert_array_equal(alone["p_above"], asked["p_above"])
    assert (alone["decision"] != "stop").sum() > (asked["decision"] != "stop").sum()
    known = rl.Fits([fits[name] for name in ("best", "close", "low") if name in fits])
    lowest = known.rank().index[-1]
    found = row(known.gate(40_000.0, 1e-6, against="others"), lowest)
    assert found.decision == "stop"
    assert "ends above the best of the others with chance at most" in found.why
    # An unfinished recipe may still end above all others, whatever is probable.
    assert row(fits.gate(40_000.0, 1e-6, against="others"), "early").decision != "stop"
    assert "is above best at 50,000 gpu_hours" in row(known.gate(1e4, 1e-6, against="best", at=5e4), lowest).why


def test_every_run_of_a_recipe_is_asked_about() -> None:
    fits = rl.Fits([made_recipe("seeds", [0.6, 0.61, 0.59])])
    assert list(fits.gate(1000.0, 0.01)["run"]) == fits["seeds"].run_names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"add": 0.0, "gain": 0.01}, "add=0.0 is not a positive number"),
        ({"add": 10.0, "gain": float("nan")}, "gain=nan is not a positive number"),
        ({"add": 10.0, "gain": 0.01, "max_wrong_stop": 0.5}, "max_wrong_stop=0.5 is not a probability below 0.5"),
        ({"add": 10.0, "gain": 0.01, "max_wrong_go": 0.0}, "max_wrong_go=0.0 is not a probability below 0.5"),
        ({"add": 10.0, "gain": 0.01, "against": "bset"}, "no recipe 'bset' .did you mean 'best'"),
        ({"add": 10.0, "gain": 0.01, "at": -1.0}, "is not a positive compute"),
    ],
)
def test_invalid_questions_are_refused(arguments: dict[str, object], words: str, fits: rl.Fits) -> None:
    with pytest.raises(rl.DataError, match=words):
        fits.gate(**arguments)  # type: ignore[arg-type]
