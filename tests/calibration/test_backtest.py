"""Backtests: what is fitted, what is forecast, how it is scored, shown and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import rlceiling as rl
import several
from handmade import COMPUTE, made_fit, made_run
from rlceiling.calibration import backtest as module
from rlceiling.calibration.backtest import METHODS, MODEL
from rlceiling.cli import app
from rlceiling.curves import sigmoid_curve

SAMPLER = {"chains": 2, "tune": 200, "draws": 300, "rules": rl.VerdictRules(min_ess=100, max_r_hat=1.05)}
"""Enough for two digits, which these tests are about."""

RECIPES = ("ScaleRL", "Magistral", "DeepSeek-GRPO")


@pytest.fixture(scope="module")
def runs() -> rl.Runs:
    return rl.load_dataset("scalerl", split="all").select(*RECIPES)


@pytest.fixture(scope="module")
def tested(runs: rl.Runs) -> rl.Backtest:
    return rl.backtest(runs, cut=(0.3, 0.5), **SAMPLER)


@pytest.fixture(scope="module")
def finished() -> rl.Backtest:
    """A run that keeps to its curve, one that goes on to a second rise, and one cut before it bends."""
    compute = np.geomspace(500.0, 60_000.0, 30)
    noise = 0.003 * np.random.default_rng(2).standard_normal(30)
    curves = {
        "true": sigmoid_curve(compute, 0.6, 1.8, 2500.0, 0.4),
        "second rise": sigmoid_curve(compute, 0.55, 1.8, 2500.0, 0.4)
        + np.where(compute > 30_000.0, 0.4 * np.log(np.maximum(compute / 30_000.0, 1.0)), 0.0),
        "early": sigmoid_curve(compute, 0.7, 1.5, 50_000.0, 0.4),
    }
    tables = [
        pd.DataFrame({"recipe": name, "compute": np.r_[0.0, compute], "reward": np.r_[0.4, curve + noise]})
        for name, curve in curves.items()
    ]
    return rl.backtest(rl.read_runs(pd.concat(tables)), cut=(0.05, 0.5), methods=(MODEL,), **SAMPLER)


class TestWhatIsForecast:
    def test_every_later_evaluation_once_by_every_method(self, runs: rl.Runs, tested: rl.Backtest) -> None:
        table = runs.table
        last = table.groupby("recipe")["compute"].transform("max")
        for share, label in ((0.3, "30%"), (0.5, "50%")):
            later = table[table["compute"] > share * last]
            for method in METHODS:
                own = tested.points[(tested.points["cut"] == label) & (tested.points["method"] == method)]
                assert own["compute"].tolist() == later["compute"].tolist()
                assert own["reward"].to_numpy() == pytest.approx(later["reward"].to_numpy())
        assert (tested.points["horizon"] > 1.0).all()

    def test_only_what_came_before_the_cut_is_fitted(self, tested: rl.Backtest) -> None:
        for label in ("30%", "50%"):
            for fit in tested.fits[label].values():
                later = tested.points[(tested.points["cut"] == label) & (tested.points["recipe"] == fit.name)]
                assert fit.largest_compute < later["compute"].min()

    def test_held_out_evaluations_do_not_affect_fits(self, runs: rl.Runs, tested: rl.Backtest) -> None:
        table = runs.select("Magistral").table
        late = table["compute"] > 0.5 * table["compute"].max()
        table.loc[late, "reward"] = 0.9
        other = rl.backtest(rl.read_runs(table), cut=0.5, **SAMPLER)
        mine = tested.points[(tested.points["cut"] == "50%") & (tested.points["recipe"] == "Magistral")]
        forecast = ["method", "compute", "mean", "lower", "upper"]
        pd.testing.assert_frame_equal(
            other.points[forecast], mine[forecast].reset_index(drop=True), check_exact=True
        )  # alone or with others, to the last bit
        assert (other.points["crps"].to_numpy() > 3 * mine["crps"].to_numpy()).all()

    def test_the_model_forecasts_as_forecast_does(self, tested: rl.Backtest) -> None:
        own = tested.points[(tested.points["method"] == MODEL) & (tested.points["cut"] == "50%")]
        own = own[own["recipe"] == "ScaleRL"]
        told = tested.fits["50%"].forecast(own["compute"].tolist(), of="runs")
        told = told[told["recipe"] == "ScaleRL"]
        for column in ("mean", "lower", "upper"):
            assert own[column].to_numpy() == pytest.approx(told[f"new_{column}"].to_numpy(), abs=0.004)

    def test_cuts_at_a_compute_and_at_each_recipes_own(self, runs: rl.Runs) -> None:
        options = {**SAMPLER, "methods": (MODEL,)}
        given = rl.backtest(runs.select("ScaleRL"), cut_compute=8000, **options)
        assert list(given.fits) == ["8,000 gpu_hours"]
        assert given.points["compute"].min() > 8000
        own = rl.backtest(runs.select("ScaleRL"), cut_compute={"ScaleRL": 8000}, **options)
        pd.testing.assert_frame_equal(own.points.drop(columns="cut"), given.points.drop(columns="cut"))

    def test_other_units_of_reward_scale_the_scores(self, runs: rl.Runs) -> None:
        options = {**SAMPLER, "cut": 0.5, "methods": (MODEL, "least squares", "last value")}
        other = runs.select("Magistral").table
        other["reward"] *= 8  # a power of two keeps every bit of a reward, and with them the chains
        one = rl.backtest(runs.select("Magistral"), **options).scores()
        many = rl.backtest(rl.read_runs(other, reward_bounds=(0, 8)), **options).scores()
        for method in options["methods"]:
            for column in ("crps", "bias", "width"):
                assert many.loc[method, column] == pytest.approx(8 * one.loc[method, column], rel=1e-6)
            log_score = one.loc[method, "log_score"] + np.log(8)
            assert many.loc[method, "log_score"] == pytest.approx(log_score, rel=1e-6)


class TestScoresOfABacktest:
    def test_scores_match_points(self, tested: rl.Backtest) -> None:
        scores = tested.scores("cut")
        for (cut, method), points in tested.points.groupby(["cut", "method"]):
            row = scores.loc[cut, method]
            inside = (points["pit"] - 0.5).abs() <= 0.45
            assert row["in 90%"] == inside.mean()
            # The ends of the interval are those of a finite ensemble, so points on the very edge may fall either way.
            edge = ((points["pit"] - 0.5).abs() - 0.45).abs() < 0.01
            assert (inside == points["reward"].between(points["lower"], points["upper"]))[~edge].all()
            assert row["bias"] == pytest.approx((points["mean"] - points["reward"]).mean())
            assert row["width"] == pytest.approx((points["upper"] - points["lower"]).mean())
            assert row["evaluations"] == len(points)
            assert row["runs"] == 3

    def test_groups(self, tested: rl.Backtest) -> None:
        assert list(tested.scores().index) == list(METHODS)
        assert tested.scores("recipe", "horizon").index.names == ["recipe", "horizon", "method"]
        by_horizon = tested.scores("horizon")
        assert by_horizon["evaluations"].groupby("method").sum().eq(tested.scores()["evaluations"].iloc[0]).all()
        assert by_horizon.index.get_level_values("horizon")[0] == "1 to 1.5 x"

    def test_coverage_at_any_level(self, tested: rl.Backtest) -> None:
        table = tested.coverage()
        for level in (0.5, 0.8, 0.9, 0.95):
            assert table.loc[level].tolist() == pytest.approx(tested.scores()[f"in {level:.0%}"].tolist())
        assert (table.diff().dropna() >= 0).all(axis=None)

    def test_the_run_that_declines_later_is_the_worst_at_half_its_compute(self, tested: rl.Backtest) -> None:
        worst = tested.worst(6)
        assert worst["log_score"].is_monotonic_decreasing
        assert worst.iloc[0]["recipe"] == "DeepSeek-GRPO"
        assert worst.iloc[0]["in 90%"] < 0.5

    def test_repr_names_every_method(self, tested: rl.Backtest) -> None:
        said = repr(tested)
        assert said.startswith("Backtest: ")
        assert all(method in said for method in METHODS)


class TestCeilings:
    def test_held_is_none_unless_both_fits_are_identified(self, finished: rl.Backtest) -> None:
        table = finished.ceilings.set_index(["cut", "recipe"])
        assert table.loc[("50%", "true"), "held"] is True
        assert table.loc[("50%", "second rise"), "verdict"] == "IDENTIFIED"
        assert table.loc[("50%", "second rise"), "final_verdict"] != "IDENTIFIED"
        assert table.loc[("50%", "second rise"), "held"] is None
        assert table.loc[("5%", "early"), "verdict"] != "IDENTIFIED"
        assert pd.isna(table.loc[("5%", "early"), "final_verdict"])

    def test_verdicts_are_counted(self, finished: rl.Backtest) -> None:
        table = finished.verdicts()
        assert list(table.index) == ["5%", "50%"]
        assert (table[[v.name for v in rl.Verdict]].sum(axis=1) == 3).all()
        assert table.loc["50%", "judged"] == 1
        assert table.loc["50%", "held"] == 1


CEILINGS = {("a", "low"): 0.55, ("a", "high"): 0.65, ("a", "late"): 0.60, ("b", "1"): 0.60}
LENGTHS = {"low": COMPUTE, "high": COMPUTE[:12], "late": COMPUTE[9:], "1": COMPUTE}


@pytest.fixture(scope="module")
def seeds() -> rl.Runs:
    made = [made_run(recipe, run, ceiling, LENGTHS[run]) for (recipe, run), ceiling in CEILINGS.items()]
    columns = ("recipe", "run", "compute", "reward")
    return rl.read_runs(pd.concat([pd.DataFrame({c: getattr(run, c) for c in columns}) for run in made]))


@pytest.fixture(scope="module")
def told(seeds: rl.Runs) -> tuple[rl.Backtest, list[dict[tuple[str, str], np.ndarray]]]:
    """A backtest at a quarter, and the compute of each run in each call of `fit`."""
    calls = []

    def made(part: rl.Runs, *_: object, **__: object) -> rl.Fits:
        calls.append({(run.recipe, run.run): run.compute for run in part.iter_runs()})
        fits = [
            made_fit(own, [CEILINGS[recipe, run.run] for run in own], verdict=rl.Verdict.IDENTIFIED)
            for recipe, own in part.iter_recipes()
        ]
        return rl.Fits(fits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit", made)
        return rl.backtest(seeds, cut=0.25), calls


class TestSeveralRuns:
    """Posteriors are made by hand here: what a run is told by, not how well it is fitted."""

    def test_runs_are_fitted_together_each_up_to_its_own_cut(self, told: tuple) -> None:
        _, (model, independent, finals) = told
        assert list(model) == list(independent) == [("a", "low"), ("a", "high"), ("b", "1")]
        for (_, run), compute in model.items():
            whole = LENGTHS[run]
            assert compute.tolist() == whole[whole <= 0.25 * whole[-1]].tolist()
        # A run too short to be cut counts when all evaluations are in.
        assert {name: len(compute) for name, compute in finals.items()} == {n: len(LENGTHS[n[1]]) for n in CEILINGS}

    def test_a_short_run_is_skipped_without_its_siblings(self, told: tuple) -> None:
        skipped = told[0].skipped
        assert skipped.to_numpy().tolist() == [
            ["25%", "a", "late", "1 evaluation before the cut, where a fit needs 4"],
        ]

    def test_each_run_is_forecast_from_its_own_past(self, told: tuple) -> None:
        points = told[0].points
        for recipe, run in (("a", "low"), ("a", "high"), ("b", "1")):
            whole = LENGTHS[run]
            cut = whole[whole <= 0.25 * whole[-1]][-1]
            later = whole[whole > cut]
            for method in METHODS:
                own = points[(points["recipe"] == recipe) & (points["run"] == run) & (points["method"] == method)]
                assert own["compute"].tolist() == later.tolist()
                assert own["horizon"].to_numpy() == pytest.approx(later / cut)
                if method in (MODEL, "independent noise"):
                    truth = sigmoid_curve(later, CEILINGS[recipe, run], 1.8, 2000.0, 0.4)
                    assert np.abs(own["mean"] - truth).max() < 0.01  # .05 from the curve of the recipe
        assert len(points) == len(METHODS) * sum(
            (LENGTHS[run] > 0.25 * LENGTHS[run][-1]).sum() for run in ("low", "high", "1")
        )

    def test_the_ceiling_of_a_run_is_its_own(self, told: tuple) -> None:
        tested = told[0]
        table = tested.ceilings.set_index(["recipe", "run"])
        assert list(table.index) == [("a", "low"), ("a", "high"), ("b", "1")]
        for (recipe, run), row in table.iterrows():
            lower, median, upper = tested.fit_of("25%", recipe).interval("A", run=run)
            assert (row["A_lower"], row["A"], row["A_upper"]) == (lower, median, upper)
            assert row["A"] == pytest.approx(CEILINGS[recipe, run], abs=0.001)
            assert row["A_final"] == pytest.approx(CEILINGS[recipe, run], abs=0.001)
            assert row["held"] is True
        assert tested.verdicts().loc["25%", ["IDENTIFIED", "judged", "held"]].tolist() == [3, 3, 3]

    def test_scores_and_repr_count_runs(self, told: tuple) -> None:
        tested = told[0]
        assert tested.scores("recipe")["runs"].groupby("recipe").first().to_dict() == {"a": 2, "b": 1}
        worst = tested.worst(10)
        assert sorted(zip(worst["recipe"], worst["run"], strict=True)) == [("a", "high"), ("a", "low"), ("b", "1")]
        assert repr(tested).startswith("Backtest: 12 later evaluations of 3 cut runs (DataFrame)\nskipped 1 cut run;")

    def test_backtest_plot_shows_worst_runs(self, told: tuple) -> None:
        tested = told[0]
        _, *fans = rl.plot_backtest(tested, worst=3).axes
        for ax, case in zip(fans, tested.worst(3).to_dict("records"), strict=True):
            recipe, run = case["recipe"], case["run"]
            name = "a/" + run if recipe == "a" else "b"
            assert ax.get_title(loc="left").startswith(f"{name}, cut at 25%\n")
            median, _, fitted, later = ax.lines
            whole = LENGTHS[run]
            assert [*fitted.get_xdata(), *later.get_xdata()] == whole.tolist()
            assert median.get_xdata()[-1] == pytest.approx(whole[-1])
            truth = sigmoid_curve(whole[-1:], CEILINGS[recipe, run], 1.8, 2000.0, 0.4)
            assert median.get_ydata()[-1] == pytest.approx(truth[0], abs=0.01)


class TestWhatCannotBeUsed:
    def test_short_runs_are_skipped_by_name(self, runs: rl.Runs) -> None:
        tested = rl.backtest(runs, cut=(0.05, 0.5), methods=(MODEL,), **SAMPLER)
        assert set(tested.points["cut"]) == {"50%"}
        assert tested.skipped["recipe"].tolist() == list(RECIPES)
        assert tested.skipped["reason"].iloc[0] == "0 evaluations before the cut, where a fit needs 4"
        assert "skipped 3 cut runs" in repr(tested)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"cut": 1.5}, "backtest: cut=1.5 is not a share of a run"),
            ({"cut": 0.0}, "backtest: cut=0.0 is not a share"),
            ({"cut": "half"}, "backtest: cut='half' is not a share"),
            ({"cut": ()}, "there is no cut"),
            ({"cut_compute": -3}, "cut_compute=-3 is not a positive compute"),
            ({"cut_compute": {"ScaleRL": 8000}}, "cut_compute names no compute for Magistral, DeepSeek-GRPO"),
            ({"cut_compute": {"Scale": 8000}}, "no recipe 'Scale'"),
            ({"methods": ("guess",)}, "backtest has no method 'guess'"),
            ({"cut": 0.01}, "no run of scalerl can be used at 1%; recipe 'ScaleRL', run '0' has 0 evaluations"),
            ({"cut_compute": 1e6}, "no evaluation after the cut"),
            ({"cut": 0.5, "chains": 1}, "chains=1"),
        ],
        ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
    )
    def test_invalid_arguments_raise_one_sentence(self, options: dict, sentence: str, runs: rl.Runs) -> None:
        with pytest.raises(rl.DataError, match=r"^(?!.*\n)") as error:
            rl.backtest(runs, **options)
        assert sentence in str(error.value)

    def test_unknown_group_and_cut_run(self, tested: rl.Backtest) -> None:
        with pytest.raises(rl.DataError, match=r"no group 'recipes' .did you mean 'recipe'"):
            tested.scores("recipes")
        with pytest.raises(rl.DataError, match="no cut recipe '50%/Other'"):
            tested.fit_of("50%", "Other")
        with pytest.raises(rl.DataError, match=r"no cut recipe '5%/ScaleRL' .did you mean '50%/ScaleRL'"):
            tested.fit_of("5%", "ScaleRL")
        assert tested.fit_of("50%", "ScaleRL") is tested.fits["50%"]["ScaleRL"]

    def test_an_interruption_keeps_what_is_done(self, runs: rl.Runs, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C within `fit` is tested there; here it comes in the fourth of five calls, after one of its runs."""
        inner, calls = module.fit, []

        def interrupted(part: rl.Runs, *priors: rl.SigmoidPriors, **options: object) -> rl.Fits:
            calls.append(part)
            if len(calls) < 4:
                return inner(part, *priors, **options)
            raise rl.FitInterrupted(inner(part.select("ScaleRL"), *priors, **options), 3)

        monkeypatch.setattr(module, "fit", interrupted)
        with pytest.raises(rl.BacktestInterrupted) as stop:
            rl.backtest(runs, cut=(0.3, 0.5), **SAMPLER)
        assert len(calls) == 4
        assert stop.value.backtest is not None
        found = stop.value.backtest.points.groupby(["cut", "method"])["recipe"].nunique()
        assert found["30%"].tolist() == [3] * len(METHODS)
        assert found["50%"][MODEL] == 3
        assert found["50%"]["independent noise"] == 1
        assert stop.value.backtest.ceilings["held"].isna().all()


class TestPicture:
    def test_it_shows_coverage_of_every_method_and_the_worst_cases(self, tested: rl.Backtest, tmp_path: Path) -> None:
        figure = rl.plot_backtest(tested, worst=2)
        coverage, *fans = figure.axes
        assert [text.get_text() for text in coverage.get_legend().get_texts()] == list(METHODS)
        own = next(line for line in coverage.lines if line.get_label() == MODEL)
        assert own.get_ydata() == pytest.approx(tested.coverage()[MODEL].to_numpy())
        assert len(fans) == 2
        for ax, case in zip(fans, tested.worst(2).to_dict("records"), strict=True):
            assert case["recipe"] in ax.get_title(loc="left")
            later = tested.points[(tested.points["cut"] == case["cut"]) & (tested.points["recipe"] == case["recipe"])]
            drawn = ax.lines[-1].get_ydata()
            assert drawn == pytest.approx(later.loc[later["method"] == MODEL, "reward"].to_numpy())
        figure.savefig(tmp_path / "backtest.png")
        assert (tmp_path / "backtest.png").read_bytes().startswith(b"\x89PNG")


class TestCommandLine:
    quick = ("--chains", "2", "--tune", "200", "--draws", "300", "--quiet")

    def test_command_writes_tables_files_and_plot(self, tmp_path: Path) -> None:
        arguments = ["backtest", "scalerl", "--split", "all", "--select", "ScaleRL", "--select", "PPO-off-policy-8"]
        arguments += ["--cut", "0.3", *self.quick, "--out", str(tmp_path), "--plot", str(tmp_path / "b.png")]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": None})
        assert result.exit_code == 0, result.output
        assert "cut at 30%: forecasts of 18 later evaluations of 1 run\n" in result.stdout
        for method in METHODS:
            assert f"\n{method} " in result.stdout
        assert "verdicts at 30%: 1 " in result.stdout
        assert "PPO-off-policy-8, run 0, cut at 30%: " in result.stdout
        points = pd.read_csv(tmp_path / "points.csv")
        assert len(points) == 18 * len(METHODS)
        scores = pd.read_csv(tmp_path / "scores.csv")
        assert scores["method"].tolist() == list(METHODS)
        assert (tmp_path / "ceilings.csv").exists()
        assert len(pd.read_csv(tmp_path / "skipped.csv")) == 1
        assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--cut", "2"), "cut=2.0 is not a share of a run"),
            (("--cut", "0.5", "--cut-compute", "8000"), "give one of them"),
            (("--plot", "b.xyz"), "does not end like a picture"),
        ],
    )
    def test_command_line_errors_are_one_sentence(self, arguments: tuple[str, ...], sentence: str) -> None:
        result = CliRunner().invoke(app, ["backtest", "scalerl", *arguments, "--quiet"])
        assert result.exit_code == 2
        assert sentence in result.stderr
        assert "Traceback" not in result.output


def test_a_seed_that_failed_before_the_cut_is_listed() -> None:
    simulated = several.simulated().select("collapsed")  # run 1 falls at 2,620 gpu_hours
    late = rl.backtest(simulated, cut_compute=6000.0, methods=(MODEL,), **several.SHORT)
    assert late.skipped[["recipe", "run"]].to_numpy().tolist() == [["collapsed", "1"]]
    assert late.skipped["reason"][0].startswith("failed before the cut: collapsed after ")
    assert "1" not in set(late.points["run"])


def test_a_seed_that_fails_after_the_cut_has_no_final_ceiling() -> None:
    at_cut = several.fits()["low"]
    finals = rl.Fits([several.fits()["collapsed"].renamed("low")])  # its run 1 failed
    row = module._ceiling(at_cut, "1", finals)
    assert (row["final_verdict"], row["held"]) == (None, None)
    assert module._ceiling(at_cut, "2", finals)["held"] is not None
