"""Posteriors of laws across sizes: stored and read back, handed to ArviZ, and checked against their runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import arviz_stats
import jax
import numpy as np
import pytest
import xarray as xr
from numpyro.infer.util import log_density
from scipy import stats

import known_sizes
import rlceiling as rl
from handmade import made_recipe
from known_sizes import LENIENT, SHORT, SIZES, read, table
from rlceiling.models.family import NUMPYRO_LOCK
from rlceiling.posterior.files import netcdf_bytes

POSTERIORS = {"power law": known_sizes.power, "ceiling": known_sizes.ceiling}


@cache
def tree_of(law: str) -> xr.DataTree:
    """Everything that ArviZ asks for about the posterior of a law."""
    return POSTERIORS[law]().to_datatree()


@pytest.fixture(params=list(POSTERIORS))
def sizes(request: pytest.FixtureRequest) -> rl.Sizes:
    return POSTERIORS[request.param]()


# Stored and read back


def test_a_posterior_is_read_back_as_it_was(sizes: rl.Sizes, tmp_path: Path) -> None:
    file = sizes.save(tmp_path / "kept")
    again = rl.load_sizes(tmp_path / "kept")
    for one, other in ((sizes.draws, again.draws), (sizes.unit_draws, again.unit_draws)):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    for name, values in sizes.sample_stats.items():
        np.testing.assert_array_equal(values, again.sample_stats[name])
        assert values.dtype == again.sample_stats[name].dtype
    assert (again.law, again.sizes, again.units, again.rules) == (sizes.law, sizes.sizes, sizes.units, sizes.rules)
    assert (again.settings, again.table_notes) == (sizes.settings, sizes.table_notes)
    assert repr(again.priors) == repr(sizes.priors)
    assert repr(again) == repr(sizes)
    # The same file again, byte for byte, and from the file itself.
    assert netcdf_bytes(again) == file.read_bytes()
    assert rl.load_sizes(file).sentence() == sizes.sentence()


def test_questions_have_the_same_answers_after_reading(sizes: rl.Sizes, tmp_path: Path) -> None:
    sizes.save(tmp_path)
    again = rl.load_sizes(tmp_path)
    for ask in (
        lambda s: s.summary(),
        lambda s: s.forecast([4, 60], [1e19, 1e20]),
        lambda s: s.best_size([1e18, 1e20]),
        lambda s: s.compute_to_reach(0.4),
        lambda s: s.saturation().to_frame(),
    ):
        assert ask(again).equals(ask(sizes))
    assert str(again.crossover(4, 40)) == str(sizes.crossover(4, 40))


def test_stored_checks_are_those_of_the_draws(sizes: rl.Sizes, tmp_path: Path) -> None:
    sizes.save(tmp_path)
    again = rl.load_sizes(tmp_path)
    assert again.recorded is not None
    assert (again.convergence, again.checks) == (sizes.convergence, sizes.checks)
    # Checks that depend on a threshold are made again when it is another one.
    other = replace(again, rules=replace(LENIENT, max_wander=1e-9))
    assert {check.p_wander for check in other.checks.values()} == {1.0}


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(rl.DataError) as raised:
        rl.load_sizes(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path} holds no sizes.nc; name a directory written by sizes.save or rlceiling sizes --out."
    )
    recipe = made_recipe("a", [0.6])
    (tmp_path / "sizes.nc").write_bytes(netcdf_bytes(recipe))
    with pytest.raises(rl.DataError, match=r"holds the posterior of a recipe and not of a law across sizes; read it"):
        rl.load_sizes(tmp_path)
    file = known_sizes.power().save(tmp_path / "law")
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(rl.DataError, match=r"sizes\.nc is damaged: .* its digest; write the fits again"):
        rl.load_sizes(tmp_path / "law")


# ArviZ


def test_the_tree_has_the_groups_that_arviz_asks_for(sizes: rl.Sizes) -> None:
    tree = tree_of(sizes.law)
    shape = next(iter(sizes.draws.values())).shape
    evaluations = sum(len(run.compute) for own in sizes.runs for run in own)
    for group in ("prior_predictive", "posterior_predictive", "log_likelihood"):
        assert tree[group]["reward"].shape == (*shape, evaluations)
        assert np.isfinite(tree[group]["reward"]).all()
    assert set(tree["posterior"].data_vars) == {*sizes.draws, *sizes.unit_draws}
    assert tree["posterior"]["ln_sigma"].dims == ("chain", "draw", "size")
    assert list(tree["posterior"]["size"].values) == ["0.5", "1.5", "4", "12", "40"]
    assert set(tree["log_prior"].data_vars) == {*sizes.draws, "sizes"}
    np.testing.assert_allclose(tree["observed_data"]["evaluation"][:14], sizes.runs[0][0].compute, rtol=1e-8)
    assert tree.attrs["law"] == sizes.law


def test_densities_add_up_to_that_of_the_model(sizes: rl.Sizes) -> None:
    """Each draw's log prior densities and log likelihoods are the log density of the NumPyro model at that draw."""
    tree = tree_of(sizes.law)
    total = sum(values for values in tree["log_prior"].data_vars.values()) + tree["log_likelihood"]["reward"].sum(
        "evaluation"
    )
    family, data, priors = sizes.family, sizes.data, dict(sizes.priors.distributions())
    with jax.enable_x64(True), NUMPYRO_LOCK:
        draws, unit_draws = sizes.model_draws()
        sites = family.sites_of_draws(draws, unit_draws, data, priors)
        for place in (0, 57):
            at = {name: values[place] for name, values in sites.items()}
            expected, _ = log_density(family.model, (data, priors), {}, at)
            np.testing.assert_allclose(np.asarray(total).reshape(-1)[place], expected, rtol=1e-7)


def test_prior_draws_follow_the_priors() -> None:
    drawn = tree_of("power law")["prior"]
    for name, cdf in (("N0", stats.lognorm(1.5).cdf), ("share", stats.beta(2.0, 1.0).cdf)):
        assert stats.kstest(drawn[name].to_numpy().ravel(), cdf).pvalue > 1e-3


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution:UserWarning")  # of 600 draws
def test_loo_and_prior_sensitivity_work(sizes: rl.Sizes) -> None:
    tree = tree_of(sizes.law)
    loo = arviz_stats.loo(tree)
    assert np.isfinite(loo.elpd)
    assert loo.n_data_points == tree["observed_data"]["reward"].size
    names = list(sizes.draws)
    table = arviz_stats.psense_summary(tree, var_names=names, prior_var_names=names)
    assert list(table.index) == names
    assert np.isfinite(table[["prior", "likelihood"]].to_numpy(float)).all()


# Posterior predictive checks


def test_sound_runs_follow_the_curves_of_their_sizes(sizes: rl.Sizes) -> None:
    assert sizes.odd_runs == {}
    assert set(sizes.checks) == {f"{size}/0" for size in ("0.5", "1.5", "4.0", "12.0", "40.0")}
    assert all(check.outlier_p > 0.001 and check.p_wander < 0.9 for check in sizes.checks.values())


def test_an_evaluation_far_off_is_named() -> None:
    frame = table(n=30)
    frame.loc[40, "pass_rate"] += 0.2
    sizes = rl.fit_sizes(read(frame), **SHORT)
    (run, how), *others = sizes.odd_runs.items()
    assert not others
    assert run == "1.5/0"
    place = f"{float(frame.loc[40, 'flops']):.3g}"
    assert how.startswith(f"has an evaluation at {place} flops that lies ")
    assert how.endswith("standard deviations off the curve")
    assert f"run {run} {how}" in sizes.notes
    # One run of five decides nothing about the law.
    assert sizes.verdict is not rl.SizeVerdict.NOT_THE_LAW


def test_runs_of_another_form_are_not_read_off_the_law() -> None:
    """Steep sigmoids, which no power law follows."""
    frame = table()
    share = 1.0 / (1.0 + (2e18 / frame["flops"]) ** 4.0)
    gain = 0.5 + 0.05 * np.log(frame["model_size"])
    sizes = rl.fit_sizes(read(frame.assign(pass_rate=0.1 + gain * share)), **SHORT)
    assert sizes.verdict is rl.SizeVerdict.NOT_THE_LAW
    assert "runs do not follow the learning curves of the power law; run " in sizes.sentence()
    assert not sizes.forecast(4, 1e20)["supported"].any()
    assert sizes.forecast(4, 1e20)["reason"].iloc[0] == "the runs do not follow the law"


# Notebooks, devices


def test_notebooks_show_a_row_for_every_size(sizes: rl.Sizes) -> None:
    html = sizes._repr_html_()
    assert html.count("<tr>") == len(SIZES) + 1
    assert sizes.law_in_words in html
    for symbol in sizes.size_law.table(sizes.columns):
        assert f">{symbol}</th>" in html


@pytest.mark.skipif(any(device.platform == "gpu" for device in jax.devices()), reason="this machine has a GPU")
def test_a_backend_that_is_not_there_is_refused() -> None:
    with pytest.raises(rl.DataError, match="fit_sizes: backend='gpu' and JAX finds no GPU here"):
        rl.fit_sizes(read(table()), backend="gpu")
    with pytest.raises(rl.DataError, match="fit_sizes: backend='tpu' is neither 'cpu' nor 'gpu'"):
        rl.fit_sizes(read(table()), backend="tpu")
