"""Whether a run should go on: closed forms, both error rates, rivals, and runs that cannot be judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import rlceiling as rl
from handmade import COMPUTE, made_recipe
from recipes import KNOWN, made_fits
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


def test_no_time_brings_no_gain(fits: rl.Fits) -> None:
    """The noise that the level has now does not count as a rise."""
    table = fits.gate(1e-6, 1e-4)
    assert (table["p_gain"].dropna() == 0.0).all()
    assert (table[["gain_lower", "gain_upper"]].abs().dropna() < 1e-4).all(axis=None)


def test_a_run_that_cannot_end_above_the_others_is_stopped(fits: rl.Fits) -> None:
    alone, asked = fits.gate(40_000.0, 1e-6), fits.gate(40_000.0, 1e-6, against="others")
    assert alone["above_upper"].isna().all()
    ranks = fits.rank()
    for name in KNOWN:
        found = row(asked, name)
        assert np.isnan(found.p_above)  # since early may end above all
        assert (found.above_lower, found.above_upper) == pytest.approx(tuple(ranks.loc[name, ["lower", "upper"]]))
    known = rl.Fits([fits[name] for name in KNOWN])
    table, p_best = known.gate(40_000.0, 1e-6, against="others"), known.rank()["p_best"]
    for name in KNOWN:
        assert row(table, name).p_above == row(table, name).above_upper == pytest.approx(p_best[name], abs=1e-9)
    found = row(table, KNOWN[-1])
    assert found.decision == "stop"
    assert "ends above the best of the others with chance below 0.01" in found.why
    # An unfinished recipe may still end above all others, whatever is probable.
    assert row(asked, "early").above_upper == 1.0
    assert row(asked, "early").decision != "stop"
    assert "is above best at 50,000 gpu_hours" in row(known.gate(1e4, 1e-6, against="best", at=5e4), KNOWN[-1]).why


def test_recipes_that_cannot_be_compared_are_refused(fits: rl.Fits) -> None:
    best = fits["best"]
    percent = replace(best, name="p", units=replace(best.units, bounds=(0.0, 100.0)))
    steps = replace(best, name="s", units=replace(best.units, compute="steps"))
    for other, words in ((percent, "another reward"), (steps, "another unit of compute")):
        pair = rl.Fits([best, other])
        for ask in (lambda p: p.gate(10.0, 0.01), lambda p: p.rank(at=5000.0), lambda p: p.best_at(5000.0)):
            with pytest.raises(rl.DataError, match=words):
                ask(pair)
    with pytest.raises(rl.DataError, match="another reward"):
        rl.Fits([best, percent]).rank()
    assert len(rl.Fits([best, steps]).rank()) == 2  # ceilings have no compute


def test_fits_that_cannot_be_judged_give_the_same_columns(fits: rl.Fits) -> None:
    failed = rl.Fits([fits["apart"]]).gate(10.0, 0.01)
    assert list(failed.columns) == list(fits.gate(10.0, 0.01).columns)
    assert failed["p_gain"].isna().all()
    assert list(rl.Fits([]).gate(10.0, 0.01).columns)


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
