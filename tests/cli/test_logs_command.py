"""Logs on the command line: where RUNS stands, several files, patterns, standard input, and `rlceiling logs`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from made_logs import LOGS, lines, trl, verl_file, wandb_chart
from rlceiling.cli import app
from rlceiling.cli.options import Reading, holds_fits
from rlceiling.errors import DataError


def run(*words: object, **options: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words], **options)
    return done.exit_code, done.output


def test_logs_lists_what_is_in_there(tmp_path: Path) -> None:
    code, out = run("logs", verl_file(tmp_path))
    assert code == 0
    head, table = out.split("\n\n")
    assert head == "read as verl file logger"
    first, header, *rows = table.splitlines()
    assert first == "grpo: compute can be gpu_hours, wall_hours, tokens, step"
    assert header.split() == ["key", "kind", "rows", "steps", "values"]
    assert rows[0].split() == ["val-core/gsm8k/acc/mean@8", "held-out", "5", "0", "to", "40", "0.2", "to", "0.44"]
    assert rows[1].split()[:3] == ["critic/score/mean", "training", "40"]


def test_logs_lists_few_other_keys_unless_all_are_asked_for(tmp_path: Path) -> None:
    row = {f"actor/m{i}": 1.0 for i in range(20)}
    path = lines(tmp_path / "m.jsonl", ({"step": step, **row, "eval/acc": 0.1} for step in range(3)))
    assert "and 9 other keys; --all lists them" in run("logs", path)[1]
    code, out = run("logs", path, "--all")
    assert code == 0
    assert "actor/m19" in out
    assert "other keys" not in out


def test_logs_as_json(tmp_path: Path) -> None:
    code, out = run("logs", verl_file(tmp_path), "--json")
    assert code == 0
    said = json.loads(out)
    assert said["resources"] == {"grpo": ["gpu_hours", "wall_hours", "tokens", "step"]}
    assert said["notes"] == ["read as verl file logger"]
    first = {"run": "grpo", "key": "val-core/gsm8k/acc/mean@8", "kind": "held-out", "rows": 5, "first_step": 0.0}
    assert first.items() <= next(row for row in said["log_contents"] if row["key"] == first["key"]).items()


def test_logs_of_markup_and_of_nothing(tmp_path: Path) -> None:
    path = lines(tmp_path / "m.jsonl", ({"step": step, "[red]x/y": 1.0} for step in range(3)))
    assert "[red]x/y" in run("logs", path)[1]
    code, out = run("logs", tmp_path / "gone")
    assert (code, out) == (2, "rlceiling: there is no file gone; check its folder and spelling.\n")


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = verl_file(tmp_path).read_bytes()
    code, out = run("logs", "-", input=written)
    assert code == 0
    assert "read as verl file logger" in out
    for content, reward in ((written, "val-core/gsm8k/acc/mean@8"), (b"step,acc\n1,0.2\n2,0.3\n", "acc")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        runs = Reading().read("-")
        assert (runs.reward_label, runs.source) == (reward, "standard input")


@pytest.mark.parametrize("made", [LOGS[0], LOGS[1]], ids=lambda made: made.name)
def test_runs_may_be_a_log_or_folder(made, tmp_path: Path) -> None:
    runs = Reading(prompts=100).read(str(made.write(tmp_path)))
    assert (runs.reward_label, runs.compute_label, len(runs)) == (made.metric, made.compute, 5)


def test_options_of_logs(tmp_path: Path) -> None:
    path = str(trl(tmp_path))
    assert Reading(gpus=8).read(path).compute_label == "gpu_hours"
    assert Reading(metric="eval_reward", reward_bounds=(0, 2)).read(path).reward_label == "eval_reward"
    assert Reading(reward="eval_reward", compute="tokens").read(path).compute_label == "tokens"
    with pytest.raises(DataError, match="these belong to tables: leave out n_eval"):
        Reading(n_eval="n").read(path)


def test_several_files_and_patterns(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lines(tmp_path / f"{name}.jsonl", ({"step": s, "eval_reward": 0.1 * s + (name == "b")} for s in range(5)))
    both = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert Reading(reward_bounds=(0, 2)).read(both).recipes == ["a", "b"]
    assert Reading(reward_bounds=(0, 2)).read(str(tmp_path / "*.jsonl")).recipes == ["a", "b"]
    assert "Runs: 2 recipes, 2 runs" in run("backtest", *both, "--reward-bounds", 0, 2, "--cut", 0.9)[1]


def test_what_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    sources = ("scalerl", "-", "a.csv", "outputs", "logs/a", "x*")
    assert [Reading.is_data_set(one) for one in sources] == [True, *[False] * 5]


def test_a_folder_of_logs_is_no_directory_of_fits(tmp_path: Path) -> None:
    trl(tmp_path / "outputs")
    (tmp_path / "fits").mkdir()
    (tmp_path / "fits" / "fits.json").write_text("{}")
    assert not holds_fits(str(tmp_path / "outputs"))
    assert holds_fits(str(tmp_path / "fits"))
    code, out = run("forecast", tmp_path / "outputs", "--at", 0, "--quiet")
    assert code == 2
    assert "fits.json" not in out


def test_a_chart_is_refused_with_the_option_to_choose(tmp_path: Path) -> None:
    chart = wandb_chart(tmp_path)
    text = chart.read_text(encoding="utf-8-sig").replace('"grpo-7b - eval/accuracy__MAX"', '"grpo-7b - eval/other"')
    chart.write_text(text)
    code, out = run("fit", chart, "--quiet")
    assert code == 2
    assert out.startswith("rlceiling: wandb_export.csv has 2 metrics of held-out evaluations: eval/accuracy (5 rows), ")
    assert "(command line: --metric eval/accuracy)." in out


def test_watch_reads_logs_that_are_being_written(tmp_path: Path) -> None:
    """A log that does not exist yet is waited for, a cut line is left out, and the folder names the recipe."""
    (tmp_path / "grpo").mkdir()
    path = tmp_path / "grpo" / "metrics.jsonl"
    lines(path, ({"step": s, "eval_reward": 0.1 * s} for s in range(3)))
    path.write_text(path.read_text() + '{"step": 3, "eval_rew')
    gate = ("--gate", "gain=0.01 in 20", "--once", "--out", tmp_path / "watch", "--first", 10)
    code, out = run("watch", path, tmp_path / "trainer_state.json", *gate)
    assert code == 1
    assert "grpo" in out
    assert "line 4, the last, is cut in the middle and was left out" in out
    assert "the file does not exist yet" in out
