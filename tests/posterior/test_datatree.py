"""The DataTree of a fit: what ArviZ makes of it, and its densities against scipy."""

from __future__ import annotations

import dataclasses
from typing import Any

import arviz_plots
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logit

import rlceiling as rl
import several
from rlceiling.curves import sigmoid_curve
from rlceiling.models.noise import BAD_SCALE
from rlceiling.models.pooling import CORE
from rlceiling.models.recipe_family import RECIPE
from rlceiling.runs import Run

SPREADS = ("headroom_spread", "C_mid_spread", "B_spread", "sigma_spread")
OF_RUNS = ("run_A", "run_B", "run_C_mid", "run_sigma")
WITH_PRIOR = ("R0", "headroom", "B", "C_mid", "sigma", "share", "length", "tail", *SPREADS)
TRUSTING = rl.SigmoidPriors(bad_share=0.0)
"""Without bad evaluations the density of a run is that of a dense normal."""
N_EVAL = np.r_[16_000.0, np.full(9, 500.0), np.full(9, 4000.0)]


@pytest.fixture(scope="module")
def fit() -> rl.Fit:
    """In percent, with evaluation errors that differ."""
    compute = np.r_[0.0, np.geomspace(300.0, 16_000.0, 18)]
    wiggle = np.r_[0.0, 0.6 * np.random.default_rng(4).standard_normal(18)]
    score = 100 * sigmoid_curve(compute, 0.6, 1.8, 2000.0, 0.4) + wiggle
    table = pd.DataFrame({"recipe": "a", "gpu_hours": compute, "score": score, "n_eval": N_EVAL})
    runs = rl.read_runs(table, reward="score", reward_bounds=(0, 100))
    return rl.fit(runs, TRUSTING, chains=2, tune=200, draws=300, rules=several.LENIENT)["a"]


@pytest.fixture(scope="module")
def tree(fit: rl.Fit) -> xr.DataTree:
    return fit.to_datatree()


def test_groups_and_dimensions(fit: rl.Fit, tree: xr.DataTree) -> None:
    draws, runs = {"chain": 2, "draw": 300}, {"chain": 2, "draw": 300, "evaluation": 18}
    assert tree["posterior"].sizes == {**draws, "run": 1}
    assert tree["posterior"]["run"].values.tolist() == ["0"]
    assert set(tree["posterior"].data_vars) == {*RECIPE.parameters, *OF_RUNS}
    for name in OF_RUNS:
        assert tree["posterior"][name].dims == ("chain", "draw", "run")
    expected = {
        "sample_stats": (("diverging", "energy", "acceptance_rate", "n_steps", "step_size"), draws),
        "prior": (RECIPE.parameters, draws),
        "log_prior": ((*WITH_PRIOR, "runs"), draws),
        **dict.fromkeys(("posterior_predictive", "prior_predictive", "log_likelihood"), (("reward",), runs)),
        "observed_data": (("reward",), {"evaluation": 18}),
        "constant_data": (("n_eval",), {"evaluation": 18}),
    }
    assert set(tree.children) == {"posterior", *expected}
    for group, (names, sizes) in expected.items():
        assert set(tree[group].data_vars) == set(names)
        assert dict(tree[group].sizes) == sizes
        for name in names:
            assert tree[group][name].dims == tuple(sizes)
            assert np.isfinite(tree[group][name].values).all()
    assert np.allclose(tree["observed_data"]["evaluation"], fit.runs[0].compute, rtol=1e-8)
    assert tree["observed_data"]["run_of_evaluation"].values.tolist() == ["0"] * 18
    assert np.array_equal(tree["constant_data"]["n_eval"], N_EVAL[1:])
    assert tree.attrs["name"] == "a"
    assert (tree.attrs["compute"], tree.attrs["reward"]) == ("gpu_hours", "score")


def test_rewards_are_in_the_users_units(fit: rl.Fit, tree: xr.DataTree) -> None:
    assert all(np.array_equal(tree["posterior"][p], fit.draws[p]) for p in RECIPE.parameters)
    assert all(np.array_equal(tree["posterior"][p], fit.run_draws[p.removeprefix("run_")]) for p in OF_RUNS)
    assert float(tree["posterior"]["A"].median()) == pytest.approx(60.0, abs=3.0)
    assert np.allclose(tree["observed_data"]["reward"], 100 * fit.runs[0].reward)
    assert float(tree["prior"]["R0"].mean()) == pytest.approx(40.0, abs=0.1)
    assert 1.0 < float(tree["prior"]["sigma"].mean()) < 2.2  # 100 * .02 * sqrt(2 / pi) = 1.6
    assert 40.0 < float(tree["prior_predictive"]["reward"].mean()) < 80.0


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")  # advice on the data
def test_arviz_reads_it(fit: rl.Fit, tree: xr.DataTree) -> None:
    summary = arviz_stats.summary(tree, ci_kind="eti", ci_prob=0.9, round_to="none")
    assert list(summary.index) == [*RECIPE.parameters, *(f"{name}[0]" for name in OF_RUNS)]
    assert summary.loc["A", "mean"] == pytest.approx(fit.draws["A"].mean())
    lower, _, upper = fit.interval("A")
    assert summary.loc["A", ["eti90_lb", "eti90_ub"]].tolist() == pytest.approx([lower, upper], rel=1e-3)
    loo = arviz_stats.loo(tree)
    assert loo.n_data_points == 18
    assert np.isfinite(loo.elpd)
    assert loo.elpd < float(tree["log_likelihood"]["reward"].sum("evaluation").mean())
    sensitivity = arviz_stats.psense_summary(tree)
    assert set(sensitivity.index) == {*RECIPE.parameters, *(f"{name}[0]" for name in OF_RUNS)}
    assert np.isfinite(sensitivity[["prior", "likelihood"]].to_numpy(float)).all()
    arviz_plots.plot_forest(tree, backend="matplotlib", var_names=["A", "B"])
    plt.close("all")


def curve_by_scipy(compute: np.ndarray, d: dict[str, Any]) -> np.ndarray:
    """Curve of draws, rewards on [0, 1]: the share of its rise is a Burr XII distribution function of compute."""
    A, R0, tail = d["A"] / 100, d["R0"] / 100, d["tail"]
    power = d["B"] * tail / (2.0 * (1.0 - 2.0**-tail))
    return R0 + (A - R0) * stats.burr12(power, 1.0 / tail, scale=d["C_mid"] / (2.0**tail - 1) ** (1 / power)).cdf(
        compute
    )


def error_var(run: Run) -> np.ndarray:
    """Variance of the error of each evaluation of a run."""
    p = (run.reward * run.n_eval + 0.5) / (run.n_eval + 1.0)
    return 0.25 * p * (1.0 - p) / run.n_eval + 1e-8


def log_density(run: Run, d: dict[str, float], n: int) -> float:
    """Of the first evaluations of a run, by scipy; the draw is the run's own."""
    x, sigma, error = np.log(run.compute[:n]), d["sigma"] / 100, error_var(run)[:n]
    curve = curve_by_scipy(run.compute[:n], d)
    correlated = d["share"] * sigma**2 * np.exp(-np.abs(x[:, None] - x) / d["length"])
    covariance = correlated + np.diag((1 - d["share"]) * sigma**2 + error)
    return float(stats.multivariate_normal.logpdf(run.reward[:n], curve, covariance))


def test_log_likelihood_sums_to_the_dense_normal_density(fit: rl.Fit, tree: xr.DataTree) -> None:
    (run,) = fit.runs
    for chain, draw in [(0, 0), (0, 299), (1, 123), (1, 200)]:
        d = {k: float(v[chain, draw]) for k, v in fit.draws_of("0").items()}
        pointwise = tree["log_likelihood"]["reward"].isel(chain=chain, draw=draw)
        for n in (1, 7, 18):  # the factors come in order, so every beginning of the run has its own density
            assert float(pointwise[:n].sum()) == pytest.approx(log_density(run, d, n), abs=1e-6)


def logits(draws: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """What runs differ in: logit of headroom, ln C_mid, ln B, ln sigma."""
    headroom = (draws["A"] - draws["R0"]) / (100 - draws["R0"])
    return logit(headroom), np.log(draws["C_mid"]), np.log(draws["B"]), np.log(draws["sigma"])


def log_prior_of_runs(fit: rl.Fit) -> np.ndarray:
    """Log density of the runs around their recipe, by scipy."""
    total = np.zeros(fit.draws["A"].shape)
    for run in fit.run_names:
        for spread, own, recipe in zip(SPREADS, logits(fit.draws_of(run)), logits(fit.draws), strict=True):
            total += stats.t(4.0, 0.0, CORE * fit.draws[spread]).logpdf(own - recipe)
    return total


def test_log_prior_is_scipys(fit: rl.Fit, tree: xr.DataTree) -> None:
    p = (0.4 * 16_000 + 0.5) / 16_001
    sd = np.sqrt(0.25 * p * (1 - p) / 16_000 + 1e-8)
    d = fit.draws
    expected = {
        "R0": stats.truncnorm(-0.4 / sd, 0.6 / sd, 0.4, sd).logpdf(d["R0"] / 100),
        "headroom": stats.beta(1.5, 1.5).logpdf(d["headroom"]),
        "B": stats.lognorm(0.6, scale=1.7).logpdf(d["B"]),
        # The midpoint's prior is that of its ratio to the geometric mean of compute.
        "C_mid": stats.lognorm(2.0).logpdf(d["C_mid"] / np.exp(np.log(fit.runs[0].compute).mean())),
        "sigma": stats.halfnorm(scale=0.02).logpdf(d["sigma"] / 100),
        "share": stats.beta(2.0, 1.0).logpdf(d["share"]),
        "length": stats.lognorm(1.0, scale=0.5).logpdf(d["length"]),
        "tail": stats.lognorm(1.0).logpdf(d["tail"]),
        "headroom_spread": stats.halfnorm(scale=0.1).logpdf(d["headroom_spread"]),
        "C_mid_spread": stats.halfnorm(scale=0.2).logpdf(d["C_mid_spread"]),
        "B_spread": stats.halfnorm(scale=0.1).logpdf(d["B_spread"]),
        "sigma_spread": stats.halfnorm(scale=0.3).logpdf(d["sigma_spread"]),
        "runs": log_prior_of_runs(fit),
    }
    assert set(expected) == {*WITH_PRIOR, "runs"}
    for name, values in expected.items():
        assert np.allclose(tree["log_prior"][name], values, atol=1e-5), name


def test_prior_group_is_the_prior(fit: rl.Fit, tree: xr.DataTree) -> None:
    origin = np.exp(np.log(fit.runs[0].compute).mean())
    expected = {
        "headroom": stats.beta(1.5, 1.5),
        "B": stats.lognorm(0.6, scale=1.7),
        "C_mid": stats.lognorm(2.0, scale=origin),
        "sigma": stats.halfnorm(scale=2.0),
        "share": stats.beta(2.0, 1.0),
        "length": stats.lognorm(1.0, scale=0.5),
        "tail": stats.lognorm(1.0),
        "headroom_spread": stats.halfnorm(scale=0.1),
        "C_mid_spread": stats.halfnorm(scale=0.2),
        "B_spread": stats.halfnorm(scale=0.1),
        "sigma_spread": stats.halfnorm(scale=0.3),
    }
    for name, prior in expected.items():
        assert stats.kstest(tree["prior"][name].values.ravel(), prior.cdf).pvalue > 1e-3, name
    prior = tree["prior"]
    assert np.allclose(prior["A"], prior["R0"] + (100 - prior["R0"]) * prior["headroom"])


def test_replicated_runs_scatter_as_the_model_says(fit: rl.Fit, tree: xr.DataTree) -> None:
    (run,) = fit.runs
    d = {k: v.reshape(-1, 1) for k, v in fit.draws_of("0").items()}
    curves = sigmoid_curve(run.compute, d["A"], d["B"], d["C_mid"], d["R0"], d["tail"])
    error = 100**2 * 0.25 * run.reward * (1 - run.reward) / run.n_eval
    sd = np.sqrt((d["sigma"] ** 2).mean() + error + curves.var(axis=0))
    replicated = tree["posterior_predictive"]["reward"].values.reshape(-1, 18)
    assert (np.abs(replicated.mean(axis=0) - curves.mean(axis=0)) < 5 * sd / 600**0.5).all()
    assert np.allclose(replicated.std(axis=0), sd, rtol=0.2)
    assert (replicated.std(axis=0) / sd).mean() == pytest.approx(1.0, rel=0.06)
    observed = tree["observed_data"]["reward"].values
    assert (np.abs(observed - replicated.mean(axis=0)) < 4 * sd).all()
    # The noise of one replicate is its own: it does not follow that of the data.
    residual = (observed - curves.mean(axis=0)) / sd
    follows = (replicated - curves) @ residual
    assert abs(follows.mean()) < 5 * follows.std() / 600**0.5


def test_the_same_fit_gives_the_same_tree(fit: rl.Fit, tree: xr.DataTree) -> None:
    again = fit.to_datatree()
    for group in ("prior", "posterior_predictive", "log_prior", "log_likelihood"):
        assert tree[group].to_dataset().equals(again[group].to_dataset())


def test_a_binned_run_shows_its_bins(fit: rl.Fit) -> None:
    compute = np.geomspace(300.0, 16_000.0, 200)
    reward = sigmoid_curve(compute, 0.6, 1.8, 2000.0, 0.4)
    run = dataclasses.replace(fit.runs[0], compute=compute, reward=reward, n_eval=np.full(200, 500.0))
    tree = dataclasses.replace(fit, runs=(run,)).to_datatree()
    assert "constant_data" not in tree.children
    assert tree["log_likelihood"].sizes["evaluation"] == tree["observed_data"].sizes["evaluation"] == 64
    assert tree["observed_data"]["run_of_evaluation"].values.tolist() == ["0"] * 64
    where = tree["observed_data"]["evaluation"].values
    expected = 100 * sigmoid_curve(where, 0.6, 1.8, 2000.0, 0.4)
    assert np.allclose(tree["observed_data"]["reward"], expected, atol=0.01)


@pytest.fixture(scope="module")
def seeds() -> rl.Fit:
    """Draws as they were fitted, with densities and replicates in which every evaluation is trusted."""
    return dataclasses.replace(several.fits()["uneven"], priors=TRUSTING)


@pytest.fixture(scope="module")
def seeds_tree(seeds: rl.Fit) -> xr.DataTree:
    return seeds.to_datatree()


PLACES = {"short": slice(0, 8), "one": slice(8, 9), "middle": slice(9, 19), "long": slice(19, 33)}


class TestSeveralRuns:
    """The longest of four runs, which is the model's first, is the last of the user's."""

    def test_evaluations_of_runs_are_concatenated(self, seeds: rl.Fit, seeds_tree: xr.DataTree) -> None:
        assert dict(seeds_tree["posterior"].sizes) == {"chain": 2, "draw": 100, "run": 4}
        assert seeds_tree["posterior"]["run"].values.tolist() == ["short", "one", "middle", "long"]
        for name in OF_RUNS:
            assert seeds_tree["posterior"][name].dims == ("chain", "draw", "run")
            assert np.array_equal(seeds_tree["posterior"][name], seeds.run_draws[name.removeprefix("run_")])
        for group in ("posterior_predictive", "prior_predictive", "log_likelihood"):
            assert dict(seeds_tree[group].sizes) == {"chain": 2, "draw": 100, "evaluation": 33}
            assert np.isfinite(seeds_tree[group]["reward"].values).all()
        for group in ("log_likelihood", "posterior_predictive", "observed_data", "constant_data"):
            for run in seeds.runs:
                here = seeds_tree[group].to_dataset().isel(evaluation=PLACES[run.run])
                assert set(here["run_of_evaluation"].values) == {run.run}
                assert np.allclose(here["evaluation"], run.compute, rtol=1e-8)
        for run in seeds.runs:
            assert np.allclose(seeds_tree["observed_data"]["reward"][PLACES[run.run]], 100 * run.reward)
            assert np.array_equal(seeds_tree["constant_data"]["n_eval"][PLACES[run.run]], run.n_eval)

    def test_log_likelihood_sums_to_the_dense_normal_density(self, seeds: rl.Fit, seeds_tree: xr.DataTree) -> None:
        for chain, draw in [(0, 0), (0, 99), (1, 23)]:
            pointwise = seeds_tree["log_likelihood"]["reward"].isel(chain=chain, draw=draw)
            total = 0.0
            for run in seeds.runs:
                d = {k: float(v[chain, draw]) for k, v in seeds.draws_of(run.run).items()}
                expected = log_density(run, d, len(run.compute))
                assert float(pointwise[PLACES[run.run]].sum()) == pytest.approx(expected, abs=1e-6)
                total += expected
            assert float(pointwise.sum()) == pytest.approx(total, abs=1e-6)

    def test_log_prior_of_the_runs_is_scipys(self, seeds: rl.Fit, seeds_tree: xr.DataTree) -> None:
        assert set(seeds_tree["log_prior"].data_vars) == {*WITH_PRIOR, "runs"}
        assert seeds_tree["log_prior"]["runs"].dims == ("chain", "draw")
        assert np.allclose(seeds_tree["log_prior"]["runs"], log_prior_of_runs(seeds), atol=1e-5)
        headroom = stats.beta(1.5, 1.5).logpdf(seeds.draws["headroom"])
        assert np.allclose(seeds_tree["log_prior"]["headroom"], headroom, atol=1e-5)

    def test_each_run_is_replicated_around_its_own_curve(self, seeds: rl.Fit, seeds_tree: xr.DataTree) -> None:
        for run in seeds.runs:
            d = {k: v.reshape(-1, 1) for k, v in seeds.draws_of(run.run).items()}
            off = sigmoid_curve(run.compute, d["A"], d["B"], d["C_mid"], d["R0"], d["tail"])
            off -= seeds_tree["posterior_predictive"]["reward"].values.reshape(200, 33)[:, PLACES[run.run]]
            error = 100**2 * 0.25 * run.reward * (1 - run.reward) / run.n_eval
            sd = np.sqrt((d["sigma"] ** 2).mean() + error)
            assert (np.abs(off.mean(axis=0)) < 5 * sd / 200**0.5).all()
            assert np.allclose(off.std(axis=0), sd, rtol=0.3)

    @pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")  # advice on the data
    def test_arviz_reads_it(self, seeds: rl.Fit, seeds_tree: xr.DataTree) -> None:
        summary = arviz_stats.summary(seeds_tree, ci_kind="eti", ci_prob=0.9, round_to="none")
        assert list(summary.index)[-3:] == ["run_sigma[one]", "run_sigma[middle]", "run_sigma[long]"]
        assert summary.loc["run_A[long]", "mean"] == pytest.approx(seeds.draws_of("long")["A"].mean())
        assert arviz_stats.loo(seeds_tree).n_data_points == 33
        assert "run_A[middle]" in arviz_stats.psense_summary(seeds_tree).index


SPIKE = 13
"""Place among all evaluations of one that lies far off, in the middle run."""


@pytest.fixture(scope="module")
def white() -> rl.Fit:
    """Several runs with white noise, one evaluation of which lies far off, under the usual prior of bad evaluations."""
    fit = several.fits()["uneven"]
    assert fit.priors.bad_share == 0.01
    runs = []
    for run in fit.runs:
        reward = run.reward.copy()
        if run.run == "middle":
            reward[SPIKE - PLACES["middle"].start] += 0.1
        runs.append(dataclasses.replace(run, reward=reward))
    draws = fit.draws | {"share": np.full_like(fit.draws["share"], 1e-12)}
    return dataclasses.replace(fit, runs=tuple(runs), draws=draws)


@pytest.fixture(scope="module")
def white_tree(white: rl.Fit) -> xr.DataTree:
    return white.to_datatree()


class TestBadEvaluations:
    """The noise is white here, so that evaluations are independent and the density of each is a mixture of two."""

    def around(self, white: rl.Fit, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rewards, in percent, around the curves of the runs in standard deviations of a sound one; these on [0, 1]."""
        off, sd = [], []
        for run in white.runs:
            d = {k: v.reshape(-1, 1) for k, v in white.draws_of(run.run).items()}
            sd.append(np.sqrt((d["sigma"] / 100) ** 2 + error_var(run)))
            off.append((rewards[..., PLACES[run.run]] / 100 - curve_by_scipy(run.compute, d)) / sd[-1])
        return np.concatenate(off, axis=1), np.concatenate(sd, axis=1)

    def test_log_likelihood_is_a_mixture_of_sound_and_bad(self, white: rl.Fit, white_tree: xr.DataTree) -> None:
        off, sd = self.around(white, white_tree["observed_data"]["reward"].values)
        found = white_tree["log_likelihood"]["reward"].values.reshape(200, 33)
        sound, bad = stats.norm.logpdf(off) - np.log(sd), stats.cauchy(0.0, BAD_SCALE).logpdf(off) - np.log(sd)
        np.testing.assert_allclose(found, np.logaddexp(np.log(0.99) + sound, np.log(0.01) + bad), rtol=0.0, atol=1e-6)
        # The one far off counts as bad, and no other does.
        probable = np.median(np.log(0.01) + bad - found, axis=0) > np.log(0.5)
        assert np.flatnonzero(probable).tolist() == [SPIKE]

    def test_replicates_have_the_share_of_bad_evaluations(self, white: rl.Fit, white_tree: xr.DataTree) -> None:
        off, _ = self.around(white, white_tree["posterior_predictive"]["reward"].values.reshape(200, 33))
        sound, bad = stats.norm, stats.cauchy(0.0, BAD_SCALE)
        assert stats.kstest(off.ravel(), lambda at: 0.99 * sound.cdf(at) + 0.01 * bad.cdf(at)).pvalue > 1e-3
        far = 0.01 * 2.0 * bad.sf(5.0)  # no sound one lies there
        assert 0.001 < stats.binom(off.size, far).cdf(int((np.abs(off) > 5.0).sum())) < 0.999

    def test_without_bad_evaluations_the_one_far_off_weighs(self, white: rl.Fit, white_tree: xr.DataTree) -> None:
        """Negative control: densities differ there by far, and elsewhere by little more than the prior log odds."""
        trusting = dataclasses.replace(white, priors=TRUSTING).to_datatree()
        change = (white_tree["log_likelihood"]["reward"] - trusting["log_likelihood"]["reward"]).values.reshape(200, 33)
        assert (change >= np.log(0.99) - 1e-9).all()
        assert np.median(change[:, SPIKE]) > 50.0
        assert np.median(np.delete(change, SPIKE, axis=1), axis=0).max() < 1.0
