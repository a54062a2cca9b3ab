"""Sentences a person could paste into a message, what notebooks show, and the compute that a reward needs."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
from handmade import made_recipe
from recipes import KNOWN, made_fits
from rlceiling.curves import sigmoid_compute, sigmoid_curve
from rlceiling.text import in_words, number, probability, shortened, two_digits


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    return made_fits()


# Sentences ------------------------------------------------------------------------------------------------------------


def test_sentence_of_identified_fit_has_ceiling_interval_and_end(fits: rl.Fits) -> None:
    fit = fits["best"]
    lower, median, upper = fit.interval("A")
    reached = fits.forecast(40_000, of="runs").set_index("recipe").loc["best"]
    assert fit.reached == pytest.approx(reached["mean"], abs=3e-4)
    assert fit.sentence() == (
        f"best: the ceiling is {median:.3f} (90% interval {lower:.3f} to {upper:.3f}); where the run stops, at 40,000 "
        f"gpu_hours, the curve is at {fit.reached:.3f}."
    )


def test_sentence_uses_units_of_the_reward() -> None:
    units = replace(made_recipe("a", [0.6]).units, bounds=(0.0, 100.0))
    said = made_recipe("a", [0.6], units=units).sentence()
    assert said.startswith("a: the ceiling is 60.")
    assert re.search(r"\(90% interval 5\d\.\d to 6\d\.\d\)", said)


@pytest.mark.parametrize(
    ("margin", "equal", "claim"),
    [
        (0.0, False, "a ends above b"),
        (0.02, False, "a ends more than 0.02 above b"),
        (-0.02, False, "a ends above b, or at most 0.02 below it,"),
        (0.02, True, "a and b end within 0.02 of each other"),
    ],
)
def test_chance_sentence_conclusive_and_inconclusive(margin: float, equal: bool, claim: str) -> None:
    chance = rl.Chance("a", "b", margin, equal, 0.834, 0.0123, True, "")
    assert chance.sentence() == f"{claim} with chance 0.83 (Monte Carlo error 0.01)."
    open_ = replace(chance, conclusive=False, reason="b does not rise")
    assert open_.sentence() == f"Whether {claim} cannot be said yet: b does not rise."


def test_the_answer_names_the_best_and_its_closest_rival(fits: rl.Fits) -> None:
    best, ceiling, rival, *others = fits.answer()
    p = fits.rank()["p_best"]["best"]
    assert best == f"With chance {in_words(p)}, best has the highest ceiling of the 3 recipes that can be compared."
    assert ceiling == fits["best"].sentence()
    assert rival == fits.chance_higher("best", "close").sentence()
    assert others == [
        f"{name} {fits[name].verdict.phrase} and cannot be judged yet: {fits[name].advice()}."
        for name in ("early", "flat", "apart")
    ]
    assert fits.answer(0.02)[2] == fits.chance_higher("best", "close", 0.02).sentence()


def test_answer_lists_probabilities_when_no_recipe_is_likely_best() -> None:
    alike = rl.Fits([made_recipe(name, [0.6]) for name in ("a", "b", "c", "d", "e", "f")])
    p = alike.rank()["p_best"]
    assert p.max() < 0.5
    first = alike.answer()[0]
    assert first.startswith("None of 6 recipes stands out; chance of the highest ceiling: ")
    assert f"{p.index[0]} {in_words(p.iloc[0])}" in first


def test_answer_with_no_or_one_identified_ceiling(fits: rl.Fits) -> None:
    assert rl.Fits([fits["early"], fits["flat"]]).answer()[0] == "No ceiling can be told yet."
    assert rl.Fits([fits["early"]]).answer()[0] == "The ceiling cannot be told yet."
    only = rl.Fits([fits["low"], fits["early"]]).answer()
    assert only[0] == f"low is the only one of 2 whose ceiling is known. {fits['low'].sentence()}"
    assert rl.Fits([fits["low"]]).answer() == [fits["low"].sentence()]


def test_answer_counts_recipes_not_identified() -> None:
    rules = rl.VerdictRules(min_p_reach=1.1)
    many = rl.Fits([replace(made_recipe(f"r{i}", [0.6]), rules=rules) for i in range(10)])
    said = many.answer()
    assert said[1:] == [
        "10 recipes cannot be judged yet (PRE_INFLECTION: each has a ceiling that the data do not fix): r0, r1, r2, "
        "r3, r4, r5, r6, r7 and 2 more; what each needs stands in the table."
    ]


def test_odd_runs_are_in_the_answer() -> None:
    strays = rl.Fits([made_recipe("a", [0.6, 0.605, 0.595, 0.61, 0.8], spread=0.05)])
    assert strays.odd_runs
    assert strays.answer()[-1] == f"{strays.odd_runs[0]}."


def test_names_are_shortened_in_the_middle() -> None:
    assert shortened("a" * 40) == "a" * 40
    assert shortened("a" * 30 + "b" * 30, 10) == "aaaaaa…bbb"
    assert len(shortened("x" * 200, 28)) == 28


def test_numbers() -> None:
    assert [two_digits(v) for v in (9432.0, 0.352, 2.14e20)] == ["9,400", "0.35", "2.1e+20"]
    assert (number(12_812.0), in_words(0.999), in_words(0.001), in_words(0.5)) == (
        "12,800",
        "above 0.99",
        "below 0.01",
        "0.50",
    )


def test_fits_select_and_drop(fits: rl.Fits) -> None:
    noted = rl.Fits(list(fits.values()), ["burn_in: left out 3 evaluations"])
    assert list(noted.select("close", "low")) == ["low", "close"]
    assert list(noted.drop("apart", "flat")) == ["low", "best", "close", "early"]
    assert noted.select("low").table_notes == noted.drop("low").table_notes == ("burn_in: left out 3 evaluations",)
    for part in (noted.select, noted.drop):
        with pytest.raises(rl.DataError, match="did you mean 'low'"):
            part("low", "lov")


# Compute to reach a reward --------------------------------------------------------------------------------------------


def test_compute_is_the_inverse_of_the_curve() -> None:
    theta = {"A": 0.7, "B": np.array([0.8, 2.0]), "C_mid": np.array([900.0, 4000.0]), "R0": 0.3}
    for reward in (0.31, 0.5, 0.69):
        for tail in (0.01, 0.3, 1.0, 4.0, np.array([0.5, 30.0])):
            compute = sigmoid_compute(reward, **theta, tail=tail)
            np.testing.assert_allclose(sigmoid_curve(compute, **theta, tail=tail), reward)
    for tail in (0.3, 1.0, 4.0):
        outside = sigmoid_compute(np.array([0.2, 0.3, 0.7, 0.9]), 0.7, 2.0, 900.0, 0.3, tail)
        np.testing.assert_array_equal(outside, [0, 0, np.inf, np.inf])


def test_the_median_curve_reaches_the_target_at_the_median_compute(fits: rl.Fits) -> None:
    table = fits.compute_to_reach(0.55, prob=0.8)
    for name in KNOWN:
        row = table.loc[name]
        A, B, C_mid, R0, tail = (fits[name].draws[k].reshape(-1) for k in ("A", "B", "C_mid", "R0", "tail"))
        for column, share in (("lower", 0.1), ("gpu_hours", 0.5), ("upper", 0.9)):
            reached = np.mean(sigmoid_curve(row[column], A, B, C_mid, R0, tail) >= 0.55)
            assert reached == pytest.approx(share, abs=0.01)
        assert (row["p_never"], row["supported"], row["reason"]) == (0.0, True, "")


def test_p_never_is_probability_of_ceiling_below_target(fits: rl.Fits) -> None:
    table = fits.compute_to_reach(0.645)
    assert table.loc["close", "p_never"] == np.mean(fits["close"].draws["A"] <= 0.645)
    assert table.loc["low", "gpu_hours"] == np.inf


def test_compute_to_reach_unsupported_targets_have_reasons(fits: rl.Fits) -> None:
    within, beyond = fits.compute_to_reach(0.5), fits.compute_to_reach(0.699)
    assert within.loc["early", "supported"]
    assert not beyond.loc["early", "supported"]
    assert beyond.loc["early", "reason"] == fits["early"].reason
    assert np.isnan(beyond.loc["apart", "gpu_hours"])
    assert beyond.loc["flat", "reason"].startswith("flat shows no rise (NO_RISE: ")


@pytest.mark.parametrize("target", [0.0, 1.0, 1.2, float("nan"), "0.5"])
def test_bad_targets(fits: rl.Fits, target: object) -> None:
    with pytest.raises(rl.DataError, match="is not inside the bounds of the reward, 0 to 1"):
        fits.compute_to_reach(target)  # type: ignore[arg-type]


# What notebooks show --------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Tags and texts of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def test_fits_html_table(fits: rl.Fits) -> None:
    read = Reader(fits._repr_html_())
    assert read.texts[0] == repr(fits).split("\n")[0]
    rows = read.texts[read.texts.index("recipe") :]
    median, interval = fits["best"].quoted_ceiling()
    assert f"{median} {interval}" in rows
    assert fits["early"].quoted_ceiling()[1] in rows  # in parentheses
    assert read.tags.count("tr") == 1 + len(fits)


def test_fit_html_table(fits: rl.Fits) -> None:
    read = Reader(fits["early"]._repr_html_())
    assert read.texts[0] == fits["early"].sentence()
    place = read.texts.index("ceiling A (pass_rate)")
    assert read.texts[place + 1] == fits["early"].quoted_ceiling()[1]
    lower, middle, upper = np.quantile(fits["early"].prior_draws()["A"], [0.05, 0.5, 0.95])
    assert read.texts[place + 2] == f"{middle:.3f} [{lower:.3f}, {upper:.3f}]"
    apart = Reader(fits["apart"]._repr_html_()).texts
    assert apart[apart.index("efficiency B") + 1] == "-"


def test_chance_html(fits: rl.Fits) -> None:
    known, open_ = fits.chance_higher("best", "low"), fits.chance_higher("best", "early")
    assert Reader(known._repr_html_()).texts == [known.sentence()]
    assert f"width: {100 * known.probability:.1f}%" in known._repr_html_()
    assert Reader(open_._repr_html_()).texts == [open_.sentence()]
    assert "width" not in open_._repr_html_()


def test_runs_html_table() -> None:
    runs = rl.load_dataset("scalerl")
    read = Reader(runs._repr_html_())
    assert read.texts[0] == repr(runs).split("\n")[0]
    assert read.tags.count("tr") == 1 + 23
    place = read.texts.index("ScaleRL")
    own = runs.select("ScaleRL").table
    assert read.texts[place + 1 : place + 3] == ["1", str((own["compute"] > 0).sum())]


def test_long_tables_are_cut_and_say_so() -> None:
    table = rl.load_dataset("scalerl").select("ScaleRL").table
    many = pd.concat([table.assign(recipe=f"r{i:03}", reward=table["reward"] + i / 1e4) for i in range(50)])
    runs = rl.read_runs(many, compute="compute", reward="reward", recipe="recipe")
    read = Reader(runs._repr_html_())
    assert read.tags.count("tr") == 1 + 40
    assert read.texts[-1] == "and 10 more rows"


def test_names_are_escaped_in_html() -> None:
    fits = rl.Fits([made_recipe("<script>alert(1)</script>", [0.6]), made_recipe("a&b", [0.6])])
    for piece in (fits, fits["<script>alert(1)</script>"], fits.to_runs(), fits.chance_higher(*fits)):
        read = Reader(piece._repr_html_())
        assert "script" not in read.tags
        assert any("<script>alert(1)</script>" in text for text in read.texts)
    assert probability(0.5) == "0.50"


# At a budget ----------------------------------------------------------------------------------------------------------


def test_answer_at_a_budget_says_who_leads_there_first(fits: rl.Fits) -> None:
    near, far = fits.answer(at=5000.0), fits.answer(at=100_000.0)
    ranks = fits.rank(at=5000.0)
    leader, number_of = ranks.index[0], int(ranks["conclusive"].sum())
    assert near[0].startswith("At 5,000 gpu_hours ")
    assert f"among the {number_of} recipes that can be compared there" in near[0]
    if ranks["p_best"].iloc[0] >= 0.5:
        assert f"{leader} leads with chance {in_words(ranks['p_best'].iloc[0])}" in near[0]
    assert f"{leader} is above" in near[1]
    left = [name for name in fits if not ranks.loc[name, "conclusive"]]
    assert near[2] == f"At 5,000 gpu_hours these cannot be compared yet: {', '.join(left)}."
    assert "early" not in near[2]
    assert "early" in far[2]
    assert near[3:] == far[3:] == fits.answer()
    alone = rl.Fits([fits["best"], fits["flat"]]).answer(at=5000.0)
    assert alone[0] == (
        "At 5,000 gpu_hours only the curve of best is known well enough, so there is nothing to compare it with; for "
        "good it is open, since the ceiling of flat cannot be told yet."
    )
    assert rl.Fits([fits["best"]]).answer(at=5000.0)[0].endswith("so there is nothing to compare it with.")


def test_answer_says_who_gets_the_next_compute(fits: rl.Fits) -> None:
    two = fits.select("best", "close")
    (said,) = set(two.answer(budget=9000.0)) - set(two.answer())
    assert said == two.plan(9000.0).attrs["sentence"]
    assert "9,000 gpu_hours" in said
    with pytest.raises(rl.DataError, match=r"budget=-1 is not a positive compute"):
        two.answer(budget=-1)


@pytest.mark.parametrize(
    ("names", "for_good"),
    [
        (("best", "close", "open"), "for good it is open, since open has not bent."),
        (
            ("best", "open", "flat"),
            "for good it is open, since open has not bent and the ceiling of flat cannot be told yet.",
        ),
        (("best", "open", "wide"), "for good it is open, since open and wide have not bent."),
        (("best", "close", "early"), "for good, early leads with chance above 0.99, whatever the prior."),
        (("best", "close", "low"), "for good, with chance {}, best has the highest ceiling of 3 recipes."),
    ],
)
def test_first_sentence_at_a_budget_says_what_keeps_the_ceilings_open(
    fits: rl.Fits, names: tuple[str, ...], for_good: str
) -> None:
    """`early` has already passed what the others may reach; `open` and `wide` have not, and may end anywhere."""
    unbent = [made_recipe(name, [0.6], verdict=rl.Verdict.PRE_INFLECTION) for name in ("open", "wide")]
    asked = rl.Fits([*fits.values(), *unbent]).select(*names)
    ranks = asked.rank(at=5000.0)
    first, *others = asked.answer(at=5000.0)
    leader, p = ranks.index[0], ranks["p_best"].iloc[0]
    assert first.startswith(f"At 5,000 gpu_hours {leader} leads with chance {in_words(p)} among ")
    assert first.endswith(f"; {for_good.format(in_words(asked.rank()['p_best'].iloc[0]))}")
    # A comparison of ceilings that stands in the first sentence is not repeated.
    assert sum("highest ceiling of" in sentence for sentence in (first, *others)) <= 1


def test_recipes_share_the_first_sentence_if_none_is_likely_to_lead() -> None:
    alike = rl.Fits([made_recipe(name, [0.6]) for name in ("a", "b", "c")])
    p = alike.rank(at=5000.0)["p_best"]
    assert p.iloc[0] < 0.5
    one, two, three = (f"{name} with {in_words(p[name])}" for name in p.index)
    head = (
        f"At 5,000 gpu_hours {one.replace(' with', ' leads with chance')}, {two} and {three}, among 3 recipes; for good"
    )
    assert alike.answer(at=5000.0)[0].startswith(head)


def test_a_recipe_that_begins_elsewhere_is_pointed_out() -> None:
    usual, other = [made_recipe(name, [0.6]) for name in "abc"], made_recipe("other", [0.7])
    shifted = replace(other, draws=other.draws | {"R0": other.draws["R0"] + 0.15})
    said = rl.Fits([*usual, shifted]).answer()
    (pointed,) = [sentence for sentence in said if "begins at" in sentence]
    assert pointed == (
        "other begins at 0.550, where most others begin at 0.400: compare them with care if they have different base "
        "models or prompts."
    )
    (two,) = [sentence for sentence in rl.Fits([usual[0], shifted]).answer() if "begins at" in sentence]
    assert two.startswith("a begins at 0.400 and other at 0.550: compare them with care")
    assert not [sentence for sentence in rl.Fits(usual).answer() if "begins at" in sentence]
