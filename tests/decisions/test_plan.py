"""How to split compute: closed forms of what more compute teaches and of the chance to name the best; what is said."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

import rlceiling as rl
from handmade import COMPUTE, made_recipe, rules_of
from recipes import KNOWN, made_fits
from rlceiling.curves import sigmoid_curve
from rlceiling.decisions.compared import Compared
from rlceiling.decisions.plan import COLUMNS
from rlceiling.decisions.prospects import Naming, prospect
from rlceiling.posterior.continuation import simulated

LAST = float(COMPUTE[-1])


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    return made_fits()


def of_one_unknown(sd: float, ceiling: float = 0.6, name: str = "a") -> rl.Fit:
    """A posterior in which only the ceiling is unknown, and normal: a linear model with normal errors."""
    fit = made_recipe(name, [ceiling])
    rng = np.random.default_rng([5, *map(ord, name)])  # draws of two recipes are independent
    A = ceiling + sd * rng.standard_normal(fit.draws["A"].shape)

    def known(values: np.ndarray) -> np.ndarray:
        """All but one number: chains of one number have no diagnostics."""
        return np.median(values) * (1.0 + 1e-9 * rng.standard_normal(values.shape))

    same = {key: known(values) for key, values in fit.draws.items()} | {"A": A, "share": known(np.full_like(A, 0.1))}
    own = {key: known(values) for key, values in fit.run_draws.items()} | {"A": A[..., None]}
    priors = rl.SigmoidPriors(bad_share=0.0)
    return replace(fit, priors=priors, rules=rules_of(rl.Verdict.IDENTIFIED), draws=same, unit_draws=own)


def sd_after(fit: rl.Fit, sd: float, amounts: np.ndarray, often: float = 1.0) -> float:
    """Standard deviation of the ceiling after evaluations at amounts of compute, by linear algebra."""
    B, C_mid, sigma, share, length = (
        float(fit.draws[name].flat[0]) for name in ("B", "C_mid", "sigma", "share", "length")
    )
    ahead = LAST + amounts
    spacing = (COMPUTE[-1] - COMPUTE[len(COMPUTE) // 2]) / (len(COMPUTE) - 1 - len(COMPUTE) // 2)
    count = np.r_[np.ones(len(COMPUTE)), often * np.diff(amounts, prepend=0.0) / spacing]
    compute = np.r_[COMPUTE, ahead]
    rise = sigmoid_curve(compute, 1.0, B, C_mid, 0.0)
    x = np.log(compute)
    covariance = share * sigma**2 * np.exp(-np.abs(x[:, None] - x) / length)
    covariance += np.diag((1.0 - share) * sigma**2 / count)
    old, new = slice(None, len(COMPUTE)), slice(len(COMPUTE), None)
    from_old = np.linalg.solve(covariance[old, old], covariance[old, new]).T
    design = rise[new] - from_old @ rise[old]
    left = covariance[new, new] - from_old @ covariance[old, new]
    return float((1.0 / sd**2 + design @ np.linalg.solve(left, design)) ** -0.5)


def test_what_more_compute_teaches_of_a_ceiling_agrees_with_linear_algebra() -> None:
    sd = 0.004
    fit = of_one_unknown(sd)
    amounts = np.array([10_000.0, 20_000.0, 80_000.0])
    places = 0.6 + sd * np.linspace(-4.0, 4.0, 60)
    found = prospect(fit, Compared(), amounts, places)
    expected = [sd_after(fit, sd, amounts[:number]) for number in (1, 2, 3)]
    np.testing.assert_allclose(found.sd, [sd, *expected], rtol=0.06)
    # Twice as many evaluations would teach more than the tolerance hides.
    assert sd_after(fit, sd, amounts, 2.0) < 0.9 * expected[-1]
    # On average nothing is learned: the mean of what will be believed is what is believed now.
    np.testing.assert_allclose(found.cdf.mean(axis=1), np.broadcast_to(found.cdf[0, 0], (4, 60)), atol=0.05)
    truth = np.array([3, 5])
    for _, weight in simulated(fit, (1.5,), truth):
        assert (weight[[0, 1], truth] == 0.0).all()
        np.testing.assert_allclose(weight.sum(axis=1), 1.0)
    assert np.ptp(found.cdf[0], axis=0).max() == 0.0
    assert np.ptp(found.cdf[-1], axis=0).max() > 0.5


def test_the_error_of_the_form_is_seen_as_far_as_the_run_goes() -> None:
    fit = of_one_unknown(1e-6)
    at, amounts = 4.0 * LAST, np.array([LAST, 3.0 * LAST])
    found = prospect(fit, Compared(at), amounts, np.linspace(0.5, 0.7, 80))
    form = fit.priors.form_error * (0.6 - float(fit.draws["R0"].flat[0]))
    np.testing.assert_allclose(found.sd, form * np.sqrt([np.log(4.0), np.log(2.0), 0.0]), atol=2e-5)
    np.testing.assert_allclose(found.cdf.mean(axis=1), np.broadcast_to(found.cdf[0, 0], (3, 80)), atol=0.02)


def normals(mean: float, sd: float, learned: list[float], places: np.ndarray, number: int = 400) -> np.ndarray:
    """Distribution functions of a normal quantity of whose variance shares are learned."""
    even = norm.ppf((np.arange(number) + 0.5) / number)
    rows = [
        norm.cdf((places - mean - sd * share**0.5 * even[:, None]) / (sd * (1.0 - share) ** 0.5)) for share in learned
    ]
    return np.stack(rows)


PLACES = np.linspace(-4.0, 4.0, 100)


def test_chance_to_name_the_best_of_two_agrees_with_quadrature() -> None:
    learned = [0.0, 0.5, 0.9]
    cdf = np.stack([normals(0.3, 1.0, learned, PLACES), normals(0.0, 0.5, learned, PLACES)])
    naming = Naming(cdf, np.random.default_rng(1), pairings=6)
    grid = np.linspace(-8.0, 8.0, 4001)
    for first, second in product(range(3), repeat=2):
        seen = learned[first] + 0.25 * learned[second]
        left = 1.25 - seen
        known = norm.cdf((0.3 + seen**0.5 * grid) / left**0.5)
        exact = float(np.trapezoid(norm.pdf(grid) * np.maximum(known, 1.0 - known), grid))
        assert naming.chance([first, second]) == pytest.approx(exact, abs=0.01)


def test_plan_of_recipes_of_every_verdict(fits: rl.Fits) -> None:
    budget = 30_000.0
    table = fits.plan(budget)
    assert table["give"].sum() == pytest.approx(budget)
    assert set(table.index) == set(fits)
    assert table["give"].is_monotonic_decreasing
    assert table["gpu_hours"].to_dict() == {name: fit.largest_compute for name, fit in fits.items()}
    apart = table.loc["apart"]
    assert apart["give"] == 0.0
    assert np.isnan(apart["p_best"])
    assert "cannot be judged" in apart["why"]
    assert fits["apart"].reason in apart["why"]
    judged = table.drop(index="apart")
    assert judged["p_best"].sum() == pytest.approx(1.0, abs=0.01)
    ranks = fits.drop("apart").rank(include_inconclusive=True)
    np.testing.assert_array_equal(judged["p_best"], ranks["p_best"][judged.index])
    assert judged["p_named"].iloc[0] == ranks["p_best"].max()
    assert (judged["sd_then"] <= judged["sd"] * 1.05).all()
    assert (judged.loc[judged["give"] == 0.0, "sd_then"] == judged.loc[judged["give"] == 0.0, "sd"]).all()
    assert "leave its ceiling open" in table.loc["early", "why"]
    np.testing.assert_array_equal(table[["lower", "upper"]], fits.rank().loc[table.index, ["lower", "upper"]])
    again = made_fits().plan(budget)
    assert again.equals(table)
    assert again.attrs == table.attrs


def test_compute_goes_to_close_rivals_and_the_sentence_names_them() -> None:
    wide = {"up": 0.62, "near": 0.618, "far": 0.5}
    fits = rl.Fits([of_one_unknown(0.004, ceiling, name) for name, ceiling in wide.items()])
    table = fits.plan(400_000.0)
    row = table.loc["up"]
    assert table.loc["far", "give"] == 0.0
    assert row["p_named"] < row["p_named_plan"] - 0.03
    assert row["p_named_plan"] >= row["p_named_equal"] - 0.01
    assert row["give"] == table.loc["near", "give"] == 200_000.0
    first = table.index[0]
    words = table.attrs["sentence"]
    assert words.startswith(f"Give the next 400,000 gpu_hours to {first} (")
    assert f"rises from {row['p_named']:.2f} to {row['p_named_plan']:.2f}" in words
    assert f"equal shares would make it {row['p_named_equal']:.2f}" in words
    decided = rl.Fits([of_one_unknown(0.004, 0.62, "up"), of_one_unknown(0.004, 0.5, "far")]).plan(10_000.0)
    assert "would hardly change which recipe is named: up is the best" in decided.attrs["sentence"]


def test_plan_at_a_budget(fits: rl.Fits) -> None:
    table = fits.select(*KNOWN).plan(20_000.0, at=50_000.0)
    assert table["give"].sum() == pytest.approx(20_000.0)
    assert "curve at 50,000 gpu_hours" in table["why"].iloc[0]


def test_nothing_to_choose_between(fits: rl.Fits) -> None:
    for chosen in ((), ("apart",), ("best", "apart")):
        table = fits.select(*chosen).plan(100.0)
        assert (table["give"] == 0.0).all()
        assert list(table.columns)[1:] == [*COLUMNS, "why"]
        assert "nothing to choose between" in table.attrs["sentence"]


def test_invalid_plans_are_refused(fits: rl.Fits) -> None:
    best = fits["best"]
    with pytest.raises(rl.DataError, match="another unit of compute"):
        rl.Fits([best, replace(best, name="s", units=replace(best.units, compute="steps"))]).plan(10.0)
    with pytest.raises(rl.DataError, match="another reward"):
        rl.Fits([best, replace(best, name="p", units=replace(best.units, bounds=(0.0, 100.0)))]).plan(10.0)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(rl.DataError, match=f"budget={bad!r} is not a positive compute"):
            fits.plan(bad)
    with pytest.raises(rl.DataError, match=r"at=-1\.0 is not a positive compute"):
        fits.plan(10.0, at=-1.0)
