"""Documents of ``--json``: they hold what the methods of Python return, and nothing else is on standard output."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import rlceiling as rl
from handmade_sizes import LENIENT, made_sizes
from made_priors import PRIORS
from manifests import write_logs
from recipes import made_fits
from rlceiling.cli import app
from rlceiling.cli.output import SCHEMA, plain

SAMPLE = "rlceiling.fitting.fit_recipes.fit"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": None})
    assert result.exit_code == 0, result.output
    return result.stdout


def not_json(word: str) -> NoReturn:
    raise AssertionError(f"{word} is not JSON")


def document(*arguments: object) -> dict[str, Any]:
    """The document that a command prints, which must be the only thing on standard output."""
    said: dict[str, Any] = json.loads(run(*arguments, "--json"), parse_constant=not_json)
    assert said["schema"] == SCHEMA
    assert said["versions"] == {"rlceiling": version("rlceiling")}
    assert all(isinstance(note, str) for note in said["notes"])
    return said


def same(rows: list[dict[str, Any]], table: pd.DataFrame) -> None:
    """Check that rows of a document hold this table, with NaN as null and infinite numbers as text."""
    table = table.reset_index() if table.index.names != [None] else table
    assert len(rows) == len(table)
    for row, own in zip(rows, table.to_dict("records"), strict=True):
        assert list(row) == [str(name) for name in own]
        for name, value in own.items():
            same_value(row[str(name)], value)


def same_value(said: Any, value: Any) -> None:
    if not isinstance(value, float | np.floating):
        assert said == value
    elif math.isnan(value):
        assert said is None
    elif math.isinf(value):
        assert isinstance(said, str)
        assert float(said) == value
    else:
        assert said == value


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    """Recipes of all verdicts but NOT_A_SIGMOID."""
    return made_fits()


@pytest.fixture(scope="module")
def kept(fits: rl.Fits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json") / "fits"
    fits.save(folder)
    return folder


def test_fit(fits: rl.Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SAMPLE, lambda runs, **_: fits)
    said = document("fit", "scalerl", "--prob", "0.5", "--each-run", "--out", tmp_path / "fits")
    same(said["summary"], fits.summary(0.5))
    same(said["runs"], fits.summary(0.5, of="runs"))
    assert said["asked"] == {"prob": 0.5}
    assert said["units"] == {"compute": "gpu_hours", "reward": "pass_rate", "bounds": [0.0, 1.0]}
    assert {one["recipe"]: (one["verdict"], one["reasons"]) for one in said["recipes"]} == {
        name: (fit.verdict.name, [reason.name for reason in fit.reasons]) for name, fit in fits.items()
    }
    assert {one["verdict"] for one in said["recipes"]} >= {"IDENTIFIED", "PRE_INFLECTION", "NO_RISE", "NOT_CONVERGED"}
    assert said["answer"] == fits.answer(prob=0.5)
    assert said["written"] == [str(tmp_path / "fits")]
    assert list(rl.load_fits(tmp_path / "fits")) == list(fits)


def test_intervals_of_fit_have_the_probability_that_was_asked_for(
    fits: rl.Fits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SAMPLE, lambda runs, **_: fits)
    for prob, words in (("0.5", "50%"), ("0.99", "99%")):
        lower, median, upper = fits["best"].interval("A", float(prob))
        text = run("fit", "scalerl", "--prob", prob)
        assert f"{median:.3f} [{lower:.3f}, {upper:.3f}]" in text
        assert f"medians and {words} intervals" in text
        assert f"best: the ceiling is {median:.3f} ({words} interval {lower:.3f} to {upper:.3f})" in text


def test_chance(fits: rl.Fits, kept: Path) -> None:
    one = fits.chance_higher("best", "early", 0.01, at=9000.0)
    said = document("chance", kept, "best", "early", "--margin", "0.01", "--at", "9000")
    assert {name: said["chance_higher"][name] for name in vars(one)} == vars(one)
    assert said["sentence"] == one.sentence()
    assert [recipe["recipe"] for recipe in said["recipes"]] == ["best", "early"]
    open_ = document("chance", kept, "best", "flat")["chance_higher"]
    assert (open_["conclusive"], open_["upper"]) == (False, 1.0)
    equal = document("chance", kept, "best", "close", "--equal", "--margin", "0.02")
    assert equal["chance_equal"]["probability"] == fits.chance_equal("best", "close", 0.02).probability
    everyone = document("chance", kept, "--at", "9000")
    same(everyone["rank"], fits.rank(at=9000.0))
    table = fits.chances(at=9000.0)
    for row, columns in everyone["chances"].items():
        for column, value in columns.items():
            same_value(value, table.loc[row, column])
    assert list(everyone["chances"]) == list(fits)


def test_best(fits: rl.Fits, kept: Path) -> None:
    said = document("best", kept, "--at", "9000", "--at", "90000", "--prob", "0.8")
    tables = [fits.rank(at=at).reset_index().assign(gpu_hours=at) for at in (9000.0, 90_000.0)]
    rows = [{name: row[name] for name in ("recipe", "p_best", "lower", "upper", "conclusive")} for row in said["rank"]]
    same(rows, pd.concat(tables)[list(rows[0])])
    assert [row["gpu_hours"] for row in said["rank"]] == [9000.0] * len(fits) + [90_000.0] * len(fits)
    assert said["answer"] == fits.answer(at=90_000.0, prob=0.8)


def test_gate_forecast_and_reach(fits: rl.Fits, kept: Path) -> None:
    gate = document("gate", kept, "--add", "2k", "--gain", "0.01", "--against", "others", "--prob", "0.5")
    same(gate["gate"], fits.gate(2000.0, 0.01, against="others", prob=0.5))
    assert gate["asked"]["prob"] == 0.5
    wide = fits.gate(2000.0, 0.01, against="others")
    assert (np.array([row["gain_lower"] or -1.0 for row in gate["gate"]]) >= wide["gain_lower"].fillna(-1.0)).all()
    forecast = document("forecast", kept, "--at", "1e5", "--prob", "0.5")
    same(forecast["forecast"], fits.forecast(1e5, 0.5))
    reach = document("reach", kept, "--target", "0.645", "--prob", "0.8")
    same(reach["compute_to_reach"], fits.compute_to_reach(0.645, 0.8))
    shown = {row["recipe"]: row["upper"] for row in reach["compute_to_reach"]}
    assert shown["low"] == "Infinity"
    assert shown["apart"] is None


def test_plan(fits: rl.Fits, kept: Path) -> None:
    said = document("plan", kept, "--budget", "20k", "--at", "5e4")
    table = fits.plan(20_000.0, at=50_000.0)
    same(said["plan"], table)
    assert said["sentence"] == table.attrs["sentence"]
    assert said["asked"] == {"budget": 20_000.0, "at": 50_000.0}
    lines = run("plan", kept, "--budget", "20k", "--at", "5e4").splitlines()
    assert lines[0] == table.attrs["sentence"]
    assert [line.split()[0] for line in lines[3 : 3 + len(table)]] == list(table.index)
    assert lines[3 + len(table) :] == [f"  {name}: {why}" for name, why in table["why"].items()]


def test_sizes(tmp_path: Path) -> None:
    law = made_sizes(rules=LENIENT)
    law.save(tmp_path)
    asked = ("--add", "60", "--at", "1e19", "--budget", "1e19", "--target", "0.5", "--crossover", "4", "12")
    said = document("sizes", tmp_path, *asked, "--prob", "0.5")
    everyone = sorted((*law.sizes, 60.0))
    same(said["sizes"], law.summary(0.5))
    same(said["forecast"], law.forecast(everyone, 1e19, 0.5))
    same(said["compute_to_reach"], law.compute_to_reach(0.5, everyone, 0.5))
    same(said["best_size"], law.best_size([1e19], everyone))
    same(said["saturation"], law.saturation(prob=0.5).to_frame().T)
    crossover = law.crossover("4", "12", prob=0.5)
    assert said["crossover"]["question"] == crossover.question
    same_value(said["crossover"]["lower"], crossover.lower)
    assert said["fit"]["verdict"] == law.verdict.name
    assert said["written"] == []
    assert "medians and 50% intervals" in run("sizes", tmp_path, "--prob", "0.5")


def test_datasets_and_priors(tmp_path: Path) -> None:
    same(document("datasets")["datasets"], rl.datasets())
    PRIORS.save(tmp_path / "history.toml")
    shown = document("priors", "show", tmp_path / "history.toml")
    assert shown["priors"] == json.loads(json.dumps(PRIORS.to_dict()))


def test_batch_that_is_only_planned(tmp_path: Path) -> None:
    manifest = write_logs(tmp_path)
    (tmp_path / "logs" / "empty.csv").write_text("")
    said = document("batch", manifest, "--store", tmp_path / "store", "--dry-run")
    assert said["progress"] == {"total": 7, "n_cached": 0}
    (failed,) = said["failures"]
    assert failed["source"].endswith("empty.csv")
    assert failed["reason"]
    assert not (tmp_path / "store").exists()


def test_every_command_has_json() -> None:
    """A new command must be given ``--json`` too."""
    commands: Mapping[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    flat = {**commands, **commands["priors"].commands}
    del flat["priors"]
    without = [name for name, command in flat.items() if "--json" not in {o for p in command.params for o in p.opts}]
    assert without == []


def test_plain_values() -> None:
    given = {"a": np.float64("nan"), 2: (np.int64(3), np.bool_(True)), "inf": -math.inf, "verdict": rl.Verdict.NO_RISE}
    assert plain(given) == {"a": None, "2": [3, True], "inf": "-Infinity", "verdict": "NO_RISE"}
    with pytest.raises(TypeError):
        plain(object())
