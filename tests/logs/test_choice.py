"""Which metric and which compute are used, what is said of them, and what is refused with the option to choose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from made_logs import STEPS, lines, prime_rl, trl, trl_history, verl_file, wandb_chart
from rlceiling.errors import DataError
from rlceiling.logs.contents import log_contents
from rlceiling.logs.conventions import answers_per_prompt, held_out_keys
from rlceiling.logs.read import read_log


def refusal(*args, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_log(*args, **options)
    return str(caught.value)


def metrics(folder: Path, **keys: float) -> Path:
    """A log with the same keys at each step, growing from their value by 0.01 a step."""
    rows = ({"step": step, **{key: value + 0.01 * step for key, value in keys.items()}} for step in range(5))
    return lines(folder / "metrics.jsonl", rows)


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (["critic/score/mean", "val-aux/m/acc/mean@4", "val-core/m/acc/mean@8"], ["val-core/m/acc/mean@8"]),
        (["val-core/m/acc/best@8/mean", "val-core/m/acc/mean@8"], ["val-core/m/acc/mean@8"]),
        (["val-core/m/acc/maj@8/mean"], ["val-core/m/acc/maj@8/mean"]),
        (["val/test_score/openai/gsm8k", "critic/score/mean"], ["val/test_score/openai/gsm8k"]),
        (["eval/m/all/agent/avg@4", "eval/m/effective/agent/avg@4"], ["eval/m/effective/agent/avg@4"]),
        (["eval/all/avg_score", "eval/gsm8k/avg_score"], ["eval/gsm8k/avg_score"]),
        (["eval/all/avg_score", "eval/a/avg_score", "eval/b/avg_score"],) * 2,
        (["eval/eval_math_pass1", "eval/eval_math_pass8", "train/reward"], ["eval/eval_math_pass1"]),
        (["validation/accuracy", "validation/pass_k", "train/reward"], ["validation/accuracy"]),
        (["val_correct/all/mean"], ["val_correct/all/mean"]),
        (["test/env/all/correct", "test/env/all/reward/total"], ["test/env/all/correct"]),
        (["eval_reward", "eval_rewards/acc/mean", "reward"], ["eval_rewards/acc/mean"]),
        (["eval_math_reward", "eval_math_rewards/acc/mean", "eval_math_reward_std"], ["eval_math_rewards/acc/mean"]),
        (["eval_math_reward", "eval_code_reward", "reward"], ["eval_math_reward", "eval_code_reward"]),
        (["eval_rewards/a/mean", "eval_rewards/b/mean", "eval_reward"], ["eval_rewards/a/mean", "eval_rewards/b/mean"]),
        (["eval_reward", "eval_loss", "eval_runtime"], ["eval_reward"]),
        (["eval/aime", "eval/aime-pass@4", "rollout/raw_reward"], ["eval/aime"]),
        (["eval/aime"], []),  # only the keys of its rollouts say that this is slime
        (["eval/mean_reward", "rollout/ep_rew_mean"], ["eval/mean_reward"]),
        (["evaluation/episode_return_mean", "env_runners/episode_return_mean"], ["evaluation/episode_return_mean"]),
        (["eval/math/accuracy", "eval/loss", "eval/math/accuracy_std"], ["eval/math/accuracy"]),
        (["reward", "rewards/acc/mean", "critic/score/mean"], []),
    ],
)
def test_order_of_held_out_keys(keys: list[str], chosen: list[str]) -> None:
    assert held_out_keys(keys) == chosen


@pytest.mark.parametrize(
    ("key", "n"),
    [("val-core/m/acc/mean@16", 16), ("eval/m/avg@4", 4), ("val-core/m/acc/best@16/mean", 1), ("eval_reward", None)],
)
def test_answers_of_a_key(key: str, n: int | None) -> None:
    assert answers_per_prompt(key) == n


def test_several_metrics_are_listed_and_refused_with_the_option(tmp_path: Path) -> None:
    path = metrics(tmp_path, **{"val-core/gsm8k/acc/mean@8": 0.5, "val-core/math/acc/mean@8": 0.3})
    assert refusal(path) == (
        "metrics.jsonl has 2 metrics of held-out evaluations: val-core/gsm8k/acc/mean@8 (5 rows), "
        "val-core/math/acc/mean@8"
        ' (5 rows); choose one with metric="val-core/gsm8k/acc/mean@8" (command line: --metric '
        "val-core/gsm8k/acc/mean@8)."
    )
    for metric in ("val-core/math/acc/mean@8", "*math*", "math"):
        assert read_log(path, metric).reward_label == "val-core/math/acc/mean@8"
    assert "has 2 metrics that match 'acc'" in refusal(path, "acc")
    assert "has no metric 'aime'" in refusal(path, "aime")


def test_training_rewards_are_used_on_request_only(tmp_path: Path) -> None:
    path = metrics(tmp_path, **{"train/reward": 0.3, "train/loss": 0.1})
    assert refusal(path) == (
        "metrics.jsonl has no evaluation of held-out prompts; its training rewards are train/reward (5 rows); to "
        "use one, "
        'choose it with metric="train/reward" (command line: --metric train/reward).'
    )
    runs = read_log(path, "train/reward")
    assert any("train/reward is a training reward" in note for note in runs.notes)


def test_training_scores_of_verl_belong_to_the_weights_before_their_update(tmp_path: Path) -> None:
    runs = read_log(verl_file(tmp_path), metric="critic/score/mean", compute="step")
    assert runs.table["compute"].tolist() == list(range(40))
    assert any("from the weights before its update" in note for note in runs.notes)


def test_few_evaluations_name_the_training_rewards(tmp_path: Path) -> None:
    rows = [{"step": step, "reward": 0.1, **({"eval_reward": 0.5} if step == 9 else {})} for step in range(10)]
    runs = read_log(lines(tmp_path / "metrics.jsonl", rows))
    assert any(
        "eval_reward has only 1 evaluation; training rewards are reward (10 rows)" in note for note in runs.notes
    )


def test_a_file_in_which_no_row_has_an_evaluation_is_refused(tmp_path: Path) -> None:
    rows = [{"step": step, "eval_reward": cell} for step, cell in enumerate([None, float("nan"), "N/A", ""])]
    assert "no row has a number under eval_reward (all are null, NaN or N/A)" in refusal(
        lines(tmp_path / "a.jsonl", rows)
    )
    rows.append({"step": 9, "eval_reward": "0.25"})
    runs = read_log(lines(tmp_path / "b.jsonl", rows))
    assert runs.table["reward"].tolist() == [0.25]
    assert any("left out 4 rows without a number under eval_reward" in note for note in runs.notes)


# ---------------------------------------------------------------- compute


def test_gpus_make_gpu_hours_of_wall_time(tmp_path: Path) -> None:
    path = trl(tmp_path)
    wall = read_log(path)
    assert any("wall time becomes GPU-hours with gpus=... (command line: --gpus N)" in note for note in wall.notes)
    runs = read_log(path, gpus=16)
    assert runs.compute_label == "gpu_hours"
    np.testing.assert_allclose(runs.table["compute"], 16 * wall.table["compute"])
    assert "give the number of GPUs with gpus=... (command line: --gpus N)" in refusal(path, compute="gpu_hours")
    for gpus in (0, -1, "x"):
        assert f"gpus must be a positive number, not {gpus!r}" in refusal(path, gpus=gpus)


def test_gpu_hours_of_verl_need_no_number_of_gpus(tmp_path: Path) -> None:
    runs = read_log(verl_file(tmp_path), gpus=3)  # tokens / throughput is already in GPU-seconds
    np.testing.assert_allclose(runs.table["compute"], np.array(STEPS) * 0.2)
    assert "the number of GPUs is not used, since compute is gpu_hours" in runs.notes


@pytest.mark.parametrize(
    ("compute", "each"), [("tokens", 1000.0), ("step", 1.0), ("num_tokens", 1000.0), ("hours", 0.025), ("steps", 1.0)]
)
def test_compute_that_is_asked_for(compute: str, each: float, tmp_path: Path) -> None:
    table = read_log(trl(tmp_path), compute=compute).table
    np.testing.assert_allclose(table["compute"], np.array(STEPS) * each)


def test_compute_that_is_not_logged_or_falls(tmp_path: Path) -> None:
    path = trl(tmp_path)
    assert "rollouts is not logged; compute can be wall_hours, tokens, step" in refusal(path, compute="rollouts")
    falling = lines(tmp_path / "m.jsonl", ({"step": s, "left": 10 - s, "eval_reward": 0.1} for s in range(5)))
    assert "left is not logged" not in refusal(falling, compute="left")
    assert "left does not count from the beginning, since it falls" in refusal(falling, compute="left")


def test_runs_on_different_resources_are_not_compared_silently(tmp_path: Path) -> None:
    """One run logs time, the other does not: both are placed on what both have, and it is said."""
    lines(
        tmp_path / "a.jsonl",
        ({"step": s, "time/step": 36.0, "num_tokens": 5.0 * s, "eval_reward": 0.1} for s in range(5)),
    )
    lines(tmp_path / "b.jsonl", ({"step": s, "num_tokens": 5.0 * s, "eval_reward": 0.2} for s in range(5)))
    runs = read_log(tmp_path)
    assert runs.compute_label == "tokens"
    assert "compute: wall_hours is not used, since it cannot be counted in b" in runs.notes
    assert "b: wall_hours is not logged" in refusal(tmp_path, compute="wall_hours").replace("run ", "")


def test_runs_on_steps_are_compared_with_a_note(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lines(tmp_path / f"{name}.jsonl", ({"step": s, "eval_reward": 0.1} for s in range(5)))
    assert any("compared at equal steps, which may cost different amounts" in note for note in read_log(tmp_path).notes)


def test_the_untrained_model_stands_at_zero_and_steps_between_logs_are_interpolated(tmp_path: Path) -> None:
    rows = [{"step": s, "_runtime": 3600.0 * s + 60, "x/y": 1} for s in range(0, 50, 10)]
    rows += [{"step": s, "eval_reward": 0.1} for s in (0, 15, 45)]
    table = read_log(lines(tmp_path / "m.jsonl", sorted(rows, key=lambda row: row["step"]))).table
    np.testing.assert_allclose(table["compute"], [0.0, 15 + 1 / 60, 45 + 1 / 60])


def test_an_evaluation_before_a_step_does_not_pay_for_it(tmp_path: Path) -> None:
    """prime-rl evaluates before the step of the same number; TRL after it."""
    table = read_log(prime_rl(tmp_path), compute="tokens").table
    np.testing.assert_allclose(table["compute"], np.array(STEPS) * 1000.0)


# ---------------------------------------------------------------- several runs, and names


def test_folder_of_runs(tmp_path: Path) -> None:
    for place, name in enumerate(("grpo/seed_1", "grpo/seed_2", "dapo")):
        trl_state(tmp_path / name / "checkpoint-40", 0.01 * place)
    (tmp_path / "grpo" / "config.json").write_text("{}")
    runs = read_log(tmp_path)
    assert runs.recipes == ["dapo", "grpo"]
    assert runs.runs_of("grpo") == ["1", "2"]
    one = read_log(tmp_path / "grpo", recipe="mine")
    assert (one.recipes, one.runs_of("mine")) == (["mine"], ["seed_1", "seed_2"])


def trl_state(folder: Path, more: float) -> None:
    key = "eval_rewards/accuracy_reward/mean"
    history = [{**row, **({key: row[key] + more} if key in row else {})} for row in trl_history()]
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 40, "log_history": history}))


def test_pattern_and_several_paths(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lines(tmp_path / f"{name}.jsonl", ({"step": s, "eval_reward": 0.1} for s in range(5)))
    assert read_log(str(tmp_path / "*.jsonl")).recipes == ["a", "b"]
    assert read_log([tmp_path / "b.jsonl", tmp_path / "a.jsonl"]).recipes == ["b", "a"]
    assert "no file matches" in refusal(str(tmp_path / "*.log"))
    assert "there is no file gone" in refusal(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "empty is an empty folder; give one with a log" in refusal(tmp_path / "empty")


def test_other_formats_in_a_folder_are_named(tmp_path: Path) -> None:
    trl(tmp_path / "run")
    wandb_chart(tmp_path / "run")
    assert len(read_log(tmp_path / "run")) == len(STEPS)
    (tmp_path / "both").mkdir()
    verl_file(tmp_path / "both")
    wandb_chart(tmp_path / "both")
    notes = read_log(tmp_path / "both").notes
    assert "also there and not read: W&B chart CSV (1 file, such as wandb_export.csv); name it to read it" in notes


def test_charts_of_groups_and_of_several_runs(tmp_path: Path) -> None:
    """A chart of two runs at steps of their own, of which one is a mean of a group."""
    path = tmp_path / "chart.csv"
    pd.DataFrame(
        {
            "global_step": [0, 10, 12, 20, 24],
            "a - b - eval/acc": [0.2, 0.3, None, 0.4, None],
            "a - b - eval/acc__MIN": [0.2, 0.3, None, 0.4, None],
            "a - b - eval/acc__MAX": [0.2, 0.3, None, 0.4, None],
            "group - eval/acc": [0.2, None, 0.35, None, 0.45],
            "group - eval/acc__MIN": [0.2, None, 0.30, None, 0.40],
            "group - eval/acc__MAX": [0.2, None, 0.40, None, 0.50],
        }
    ).to_csv(path, index=False)
    runs = read_log(path)
    assert runs.recipes == ["a - b", "group"]
    assert runs.select("group").table["compute"].tolist() == [0, 12, 24]
    (note,) = [note for note in runs.notes if "__MIN and __MAX differ" in note]
    assert "at 2 points of group" in note


def test_contents_of_tables_and_logs(tmp_path: Path) -> None:
    contents = log_contents(verl_file(tmp_path))
    assert list(contents) == ["run", "key", "kind", "rows", "first_step", "last_step", "lowest", "highest"]
    kinds = dict(zip(contents["key"], contents["kind"], strict=True))
    assert kinds["critic/score/mean"] == "training"
    assert kinds["timing_s/step"] == "other"
    assert contents.attrs["compute"] == {"grpo": ["gpu_hours", "wall_hours", "tokens", "step"]}


def test_prompts_give_the_number_of_answers(tmp_path: Path) -> None:
    runs = read_log(verl_file(tmp_path), prompts=500)
    assert runs.table["n_eval"].unique().tolist() == [4000.0]
    assert "n_eval: 8 x 500 prompts" in runs.notes
    path = metrics(tmp_path, eval_reward=0.2)
    runs = read_log(path, prompts=500)
    assert runs.table["n_eval"].unique().tolist() == [500.0]
    assert any(
        "one answer to each of 500 prompts, since eval_reward does not say how many" in note for note in runs.notes
    )


def test_options_of_tables_and_logs_are_kept_apart(tmp_path: Path) -> None:
    from rlceiling.logs.read import read_any

    table = tmp_path / "runs.csv"
    table.write_text("step,accuracy\n1,0.2\n2,0.3\n")
    assert read_log(table, metric="accuracy").reward_label == "accuracy"
    with pytest.raises(DataError, match=r"runs\.csv is a table, and these belong to logs: leave out gpus"):
        read_log(table, gpus=8)
    with pytest.raises(DataError, match="these belong to tables: leave out n_eval"):
        read_any(trl(tmp_path / "trl"), {"n_eval": "n"})


def test_json_lines_are_a_table_where_columns_are_named(tmp_path: Path) -> None:
    from rlceiling.logs.read import read_any

    rows = ({"global_step": s, "eval/acc": 0.1 * s, "n": 100} for s in range(5))
    path = lines(tmp_path / "m.jsonl", rows)
    assert read_any(path, {}).table["n_eval"].isna().all()
    runs = read_any(path, {"reward": "eval/acc", "n_eval": "n"})
    assert (runs.compute_label, runs.table["n_eval"].tolist()) == ("global_step", [100.0] * 5)


def test_several_tables(tmp_path: Path) -> None:
    for name, label in (("a", "accuracy"), ("b", "accuracy"), ("c", "score")):
        (tmp_path / f"{name}.csv").write_text(f"step,{label}\n1,0.2\n2,0.3\n3,0.35\n")
    runs = read_log([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert (runs.recipes, runs.compute_label, runs.reward_label) == (["a", "b"], "step", "accuracy")
    assert "a.csv has accuracy against step and c.csv has score against step" in refusal(tmp_path)


def test_a_manifest_names_logs_like_files(tmp_path: Path) -> None:
    from rlceiling.jobs.manifest import plan

    for name in ("a", "b"):
        rows = ({"step": s, "eval/x/reward": 0.1 * s, "eval/y/reward": 0.2 * s} for s in range(6))
        lines(tmp_path / f"{name}.jsonl", rows)
    manifest = tmp_path / "jobs.toml"
    manifest.write_text(
        '[[source]]\nfiles = ["*.jsonl"]\nmetric = "eval/x/reward"\nreward_bounds = [0, 2]\nprompts = 50\n'
    )
    planned = plan(manifest)
    assert planned.unreadable == []
    assert sorted(job.name for job in planned.jobs) == ["a", "b"]
    assert all(job.units.reward == "eval/x/reward" for job in planned.jobs)


def test_charts_over_time_and_downloads_of_several_runs(tmp_path: Path) -> None:
    name = "grpo - eval/acc"
    chart = pd.DataFrame({"Relative Time (Process)": [0, 1800, 3600], name: [0.1, 0.2, 0.3], "grpo - _step": [0, 5, 9]})
    chart.to_csv(tmp_path / "chart.csv", index=False)
    runs = read_log(tmp_path / "chart.csv")
    assert (runs.compute_label, runs.table["compute"].tolist()) == ("wall_hours", [0, 0.5, 1])
    (tmp_path / "tb").mkdir()
    for place, run in enumerate(("grpo", "dapo")):
        download = pd.DataFrame(
            {"Wall time": [0.0, 100, 200], "Step": [0, 10, 20], "Value": [0.1, 0.2, 0.3 + 0.1 * place]}
        )
        download.to_csv(tmp_path / "tb" / f"run-{run}-tag-eval_acc.csv", index=False)
    assert read_log(tmp_path / "tb").recipes == ["dapo", "grpo"]


def test_list_of_rows_in_one_document(tmp_path: Path) -> None:
    path = tmp_path / "log_history.json"
    path.write_text(json.dumps(trl_history(), indent=1))
    assert len(read_log(path)) == len(STEPS)


def test_special_files_and_links(tmp_path: Path) -> None:
    import os

    run = tmp_path / "runs" / "grpo"
    trl_state(run, 0.0)
    (tmp_path / "runs" / "latest").symlink_to(run)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "runs" / "pipe")
        assert "is neither a file nor a folder; pipe it in and give - for it" in refusal(tmp_path / "runs" / "pipe")
    assert read_log(tmp_path / "runs").recipes == ["grpo"]
