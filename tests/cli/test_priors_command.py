"""The command line of learned priors: what it prints and writes, and one sentence where it cannot go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import rlceiling as rl
from handmade import made_recipe
from made_priors import PRIORS
from rlceiling.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_learned_priors_are_shown(tmp_path: Path) -> None:
    PRIORS.save(tmp_path / "history.toml")
    result = run("priors", "show", tmp_path / "history.toml")
    assert result.exit_code == 0
    assert result.stdout.strip() == repr(PRIORS)
    assert run("priors", "show", "reference").stdout.strip() == repr(rl.SigmoidPriors.reference())


def test_priors_are_written_and_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = rl.Fits([made_recipe(name, [ceiling]) for name, ceiling in (("a", 0.6), ("b", 0.62), ("c", 0.58))])
    fits.save(tmp_path / "fits")
    seen = []
    monkeypatch.setattr("rlceiling.fitting.learn_priors.learn_priors", lambda fits: seen.append(list(fits)) or PRIORS)
    result = run("priors", "learn", tmp_path / "fits", "-o", tmp_path / "history.toml")
    assert result.exit_code == 0, result.output
    assert seen == [["a", "b", "c"]]
    assert result.stdout.splitlines()[-1] == f"wrote {tmp_path / 'history.toml'}"
    assert rl.load_priors(tmp_path / "history.toml").to_dict() == PRIORS.to_dict()


def test_each_directory_is_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for study in ("math", "code"):
        fits = rl.Fits([made_recipe(name, [ceiling]) for name, ceiling in (("a", 0.6), ("b", 0.62), ("c", 0.58))])
        fits.save(tmp_path / study)
    seen = []
    monkeypatch.setattr("rlceiling.fitting.learn_priors.learn_priors", lambda fits: seen.append(fits) or PRIORS)
    folders = [tmp_path / "math", tmp_path / "code"]
    assert run("priors", "learn", *folders, "-o", tmp_path / "history.toml").exit_code == 0
    assert {name: list(fits) for name, fits in seen[0].items()} == {str(one): ["a", "b", "c"] for one in folders}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fit", "scalerl", "--priors", "absent.toml"), "'absent.toml' names no priors: it is neither weak, reference"),
        (("fit", "scalerl", "--priors", "one_study.toml", "--pool", "--quiet"), "learned from one study"),
        (("fit", "scalerl", "--select", "ScaleRL", "--select", "GSPO", "--pool", "--quiet"), "at least 3"),
        (("priors", "learn", "absent", "-o", "history.toml"), "absent"),
        (("priors", "learn", "one", "./one", "-o", "history.toml"), "one is given twice"),
        (("priors", "show", "absent.toml"), "'absent.toml' names no priors"),
        (("priors", "show", ""), "'' names no priors"),
    ],
)
def test_one_sentence_where_it_cannot_go_on(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PRIORS.save("one_study.toml")
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.startswith("rlceiling: ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "history.toml").exists()
