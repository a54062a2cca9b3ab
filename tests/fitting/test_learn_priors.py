"""Priors learned from finished recipes: posteriors under them, robustness, pooling, and files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from arviz_stats.base import array_stats

import rlceiling as rl
from handmade import given
from made_priors import PRIORS
from once import once
from rlceiling.fitting.fit_recipes import pooling_notes, priors_of
from rlceiling.fitting.learn_priors import usable_fits
from rlceiling.fitting.study import Study
from rlceiling.models.likeness import log_likeness
from rlceiling.models.population import LEAST_SPREAD
from rlceiling.runs import Stage
from small_study import CEILINGS, QUICK, alone, pooled, study, table


def learned() -> rl.LearnedPriors:
    return once("learned_priors", lambda: rl.learn_priors(alone()))


def early(priors: rl.SigmoidPriors | None, name: str = "new", start: float = 0.4, ceiling: float = 0.6) -> rl.Fit:
    """Fit of the first seven evaluations of one more recipe."""
    runs = rl.read_runs(table(name, ceiling, 9, start=start, evaluations=7))
    return rl.fit(runs, priors, **QUICK)[name]


def test_the_posterior_is_that_of_reweighted_draws() -> None:
    """Draws under the weak priors, weighted by the ratio of the priors, are draws under the learned ones."""
    wide = {name: dist.StudentT(one.df, one.loc, 3.0 * one.scale) for name, one in PRIORS.learned.items()}
    learned, runs = replace(PRIORS, learned=wide), study().select("b")
    weak, direct = (rl.fit(runs, priors, **QUICK | {"draws": 1000})["b"] for priors in (None, learned))
    flat = {name: values.reshape(-1) for name, values in weak.scaled_draws.items()}
    origin = weak.log_origin
    values = flat | {"C_mid": flat["C_mid"] / np.exp(origin)}
    with jax.enable_x64(True):
        terms = log_likeness(values, dict(learned.distributions()), origin, start_known=True)
    log_ratio = sum(np.logaddexp(*map(np.asarray, pair)) for pair in terms.values())
    log_weight, pareto = array_stats.psislw(-log_ratio)  # which takes the logarithm of inverse weights
    assert pareto < 0.7
    weight = np.exp(log_weight)
    effective = min(weight.sum() ** 2 / (weight**2).sum(), 400.0)
    for name in ("A", "B", "C_mid", "tail", "sigma", "length"):
        order = np.argsort(flat[name])
        cumulative = np.cumsum(weight[order]) / weight.sum()
        for p in (0.1, 0.5, 0.9):
            at = flat[name][order][np.searchsorted(cumulative, p)]
            share = float((direct.scaled_draws[name] < at).mean())
            assert abs(share - p) < 4.0 * np.sqrt(2.0 * p * (1.0 - p) / effective), name


def test_learned_priors_make_an_early_run_sharper_and_lean_on_others() -> None:
    mild, leaning = early(None), early(learned())
    low, _, high = leaning.interval("A")
    assert high - low < 0.5 * np.subtract(*mild.interval("A")[::-2])
    assert low < 0.6 < high
    assert leaning.unlike["curve"] < 0.3
    assert leaning.own_share < 0.9
    assert mild.own_share == 1.0
    assert mild.unlike == {}
    if leaning.reasons == (rl.Reason.LEANS_ON_OTHERS,):
        assert "other recipes" in leaning.sentence()


def test_a_recipe_of_another_task_keeps_its_own_answer() -> None:
    """It begins elsewhere, which shows that it is unlike the others."""
    mild, robust = early(None, start=0.1, ceiling=0.8), early(learned(), start=0.1, ceiling=0.8)
    certain = replace(learned(), like=dict.fromkeys(learned().like, 1.0 - 1e-9))
    believing = early(certain, start=0.1, ceiling=0.8)
    assert robust.unlike["curve"] > 0.9
    assert robust.own_share == 1.0
    width = np.subtract(*mild.interval("A")[::-2])
    for found, expected in zip(robust.interval("A"), mild.interval("A"), strict=True):
        assert abs(found - expected) < 0.2 * width
    assert abs(believing.interval("A")[1] - mild.interval("A")[1]) > 0.25 * width  # so that the mixture matters


def test_of_curves_that_cannot_be_compared_only_the_noise_was_learned() -> None:
    priors = learned()
    assert "C_mid" in priors.learned
    (run,) = rl.read_runs(table("new", 0.6, 9)).iter_runs()
    assert priors_of("new", [run], priors, "gpu_hours") is priors
    staged = replace(run, stages=(Stage("8k", 0.0), Stage("16k", 2000.0)))
    for members, unit in (([run], "step"), ([staged], "gpu_hours")):
        other = priors_of("new", members, priors, unit)
        assert isinstance(other, rl.LearnedPriors)
        assert set(other.learned) == {"sigma", "share", "length"}
    fit = replace(alone()["a"], priors=other)
    assert set(fit.unlike) == {"noise"}
    assert fit.own_share == 1.0


def test_pooled_recipes_are_sampled_together() -> None:
    fits = pooled()
    assert list(fits) == list(CEILINGS)
    for name, fit in fits.items():
        assert isinstance(fit.priors, rl.LearnedPriors)
        assert sorted(fit.priors.recipes) == sorted(other for other in CEILINGS if other != name)
        assert fit.interval("A")[0] < CEILINGS[name] < fit.interval("A")[2]
    widths = [np.subtract(*one.interval("A")[::-2]) for one in (fits["a"], alone()["a"])]
    assert widths[0] < widths[1]
    a, b = (fits[name] for name in ("a", "b"))
    assert a.sampled_with(b)
    assert not a.sampled_with(alone()["b"])
    together = float((a.draws["A"] > b.draws["A"]).mean())
    assert fits.chance_higher("a", "b").probability == pytest.approx(together)
    assert a.convergence.r_hat < 1.02
    assert not any("pooled" in note for note in fits.notes)  # some ceilings are identified alone


def test_pooled_recipes_that_all_stop_early_are_noted() -> None:
    unfinished = [given(fit, verdict=rl.Verdict.PRE_INFLECTION) for fit in alone().values()]
    (note,) = pooling_notes(unfinished)
    assert "alone, none has a ceiling that its data fix" in note
    assert pooling_notes([*unfinished, given(alone()["a"], verdict=rl.Verdict.IDENTIFIED)]) == []


def test_several_studies_teach_about_a_recipe_of_another_one() -> None:
    one = learned()
    assert one.studies == ()
    several_studies = once("priors_of_studies", lambda: rl.learn_priors({"first": alone(), "second": alone()}))
    assert several_studies.studies == ("first", "second")
    assert {"R0", "C_mid"}.isdisjoint(several_studies.learned)
    assert "2 studies" in repr(several_studies)
    # Two studies that are alike leave much open: one more study may differ.
    for name in ("headroom", "B", "sigma"):
        assert several_studies.learned[name].scale > 1.2 * one.learned[name].scale
    # In any unit of compute, since nothing is said about C_mid, but not for the last of several stages.
    assert several_studies.suited_to("step", staged=False) is several_studies
    assert set(several_studies.suited_to("step", staged=True).learned) == {"sigma", "share", "length"}


def test_studies_and_fits_are_not_mixed() -> None:
    with pytest.raises(rl.DataError, match="a, b, c, d are fits, and other is a study"):
        rl.learn_priors({**alone(), "other": alone()})
    with pytest.raises(rl.DataError, match=r"one study .only. cannot show how studies differ"):
        rl.learn_priors({"only": alone()})
    with pytest.raises(rl.DataError, match="'x' is of type int; give fits"):
        rl.learn_priors({"x": 3, "y": alone()})
    with pytest.raises(rl.DataError, match=r"study few: .* 2 recipes of 2 can be used"):
        rl.learn_priors({"first": alone(), "few": alone().select("a", "b")})
    other = {name: replace(fit, priors=rl.SigmoidPriors(bad_share=0.0)) for name, fit in alone().items()}
    with pytest.raises(rl.DataError, match="different weak priors"):  # of two studies, each of which has one kind
        rl.learn_priors({"first": alone(), "second": other})


def test_damaged_studies_and_hyperparameters_are_refused(tmp_path: Path) -> None:
    rl.SigmoidPriors.reference().save(tmp_path / "good.toml")
    text = (tmp_path / "good.toml").read_text()
    for damaged in (
        re.sub(r"studies = \[[^]]*\]", 'studies = "scalerl"', text),
        text + "\n[hyperparameters.x]\nspread = 1",
    ):
        assert damaged != text
        (tmp_path / "bad.toml").write_text(damaged)
        with pytest.raises(rl.DataError, match=r"bad.toml is damaged"):
            rl.load_priors(tmp_path / "bad.toml")


def test_the_reference_is_loaded_and_can_be_the_start_of_pooling() -> None:
    reference = rl.SigmoidPriors.reference()
    assert isinstance(reference, rl.LearnedPriors)
    assert len(reference.studies) == 5
    assert reference.suited_to("any unit", staged=False) is reference
    assert rl.LearnedPriors.from_dict(reference.to_dict()).to_dict() == reference.to_dict()
    weakly, known = Study(usable_fits(alone())), Study(usable_fits(alone()), reference=reference)
    place = weakly.names.index("sigma")
    low, _, high = reference.hyperparameters["sigma"]["centre"]
    assert known.prior.scale[place] == pytest.approx((high - low) / 3.29, rel=0.01)
    assert known.prior.scale[place] < weakly.prior.scale[place]
    own = np.sqrt(np.square(reference.hyperparameters["sigma"]["spread"][1]) - LEAST_SPREAD**2)
    assert np.exp(known.prior.log_spread[place]) == pytest.approx(own)  # the model adds LEAST_SPREAD itself
    assert known.prior.centre[weakly.names.index("C_mid")] == weakly.prior.centre[weakly.names.index("C_mid")]
    with pytest.raises(rl.DataError, match="learned from one study"):
        rl.fit(study(), learned(), pool=True)


def test_the_datatree_holds_the_learned_part_of_the_prior() -> None:
    tree = early(learned()).to_datatree()
    ratio = tree["log_prior"]["learned"].to_numpy()
    assert np.isfinite(ratio).all()
    assert ratio.std() > 0.1
    assert np.log(tree["prior"]["headroom"]).to_numpy().std() < 0.9  # of the weak prior it is 1.0
    assert "learned" not in alone()["a"].to_datatree()["log_prior"]


def test_priors_are_saved_and_loaded(tmp_path: Path) -> None:
    priors = learned()
    priors.save(tmp_path / "history.toml")
    again = rl.load_priors(tmp_path / "history.toml")
    assert again.to_dict() == priors.to_dict()
    assert repr(again) == repr(priors)
    assert "4 recipes" in repr(priors)
    fit = early(priors)
    rl.Fits([fit]).save(tmp_path / "fits")
    loaded = rl.load_fits(tmp_path / "fits")["new"]
    assert loaded.own_share == fit.own_share
    assert loaded.unlike == fit.unlike
    assert loaded.reasons == fit.reasons
    assert loaded.priors.to_dict() == priors.to_dict()
    summary = rl.Fits([loaded]).summary()
    assert summary.loc["new", "own_share"] == fit.own_share
    assert "own_share" not in alone().summary()
    prior = fit.prior_draws()["A"]
    assert np.quantile(prior, 0.5) == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("x = [", "not a TOML file"), ("x = 1", "no learned priors"), ("", "no learned priors")],
)
def test_a_file_that_holds_no_priors_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "history.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(rl.DataError, match=words):
        rl.load_priors(path)


@pytest.mark.parametrize(("sound", "broken"), [("StudentT", "StudentX"), ("StudentT", "Normal"), ("[like]", "[lik]")])
def test_a_damaged_file_is_refused(tmp_path: Path, sound: str, broken: str) -> None:
    PRIORS.save(tmp_path / "history.toml")
    text = (tmp_path / "history.toml").read_text()
    (tmp_path / "history.toml").write_text(text.replace(sound, broken))
    with pytest.raises(rl.DataError, match="damaged"):
        rl.load_priors(tmp_path / "history.toml")


def test_too_few_recipes_and_different_bounds_are_refused() -> None:
    with pytest.raises(rl.DataError, match="2 recipes of 2"):
        rl.learn_priors(alone().select("a", "b"))
    with pytest.raises(rl.DataError, match="no recipe 'b'"):
        rl.fit(study(), {"a": rl.SigmoidPriors()}, progress=False)
    with pytest.raises(rl.DataError, match="at least 3"):
        rl.fit(study().select("a", "b"), pool=True, progress=False)
    with pytest.raises(rl.DataError, match="learned from one study"):
        rl.fit(study(), PRIORS, pool=True, progress=False)
    fits = alone()
    with pytest.raises(rl.DataError, match="several fits are named 'a'"):
        rl.learn_priors({**fits, "again": fits["a"]})
    other = replace(fits["a"], priors=rl.SigmoidPriors(bad_share=0.0))
    with pytest.raises(rl.DataError, match="different weak priors"):
        rl.learn_priors({**fits, "a": other})
    unbounded = {**fits, "a": replace(fits["a"], units=replace(fits["a"].units, data_span=(0.0, 2.0)))}
    with pytest.raises(rl.DataError, match="rewards of a have no natural bounds"):
        rl.learn_priors(unbounded)
    percent = {**fits, "a": replace(fits["a"], units=replace(fits["a"].units, bounds=(0.0, 100.0)))}
    with pytest.raises(rl.DataError, match="different bounds"):
        rl.learn_priors(percent)
