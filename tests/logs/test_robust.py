"""Logs that are being written, cut, compressed, hostile or large."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from pathlib import Path

import pytest

from made_logs import EVALUATED, inspect_zip, lines, slime_console, text, trackio_store, trl, verl_console, verl_file
from rlceiling.errors import DataError
from rlceiling.logs.contents import log_contents
from rlceiling.logs.read import read_log
from rlceiling.logs.rows import LoggedRun, Rows, flat, number_in


def test_last_line_that_is_cut_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = verl_file(tmp_path)
    whole = path.read_text()
    path.write_text(whole[:-20])  # within the row of step 40
    runs = read_log(path)
    assert runs.table["step"].tolist() == [0, 10, 20, 30]
    assert "grpo.jsonl: line 41, the last, is cut in the middle and was left out" in runs.notes
    path.write_text(whole.rstrip("\n"))  # the last line lacks its end only
    assert len(read_log(path)) == 5


def test_broken_line_in_the_middle_as_where_a_process_died(tmp_path: Path) -> None:
    path = verl_file(tmp_path)
    rows = path.read_text().splitlines()
    rows[7] = rows[7][:30] + rows[8]
    runs = read_log(text(path, *rows))
    assert len(runs) == 5
    assert "grpo.jsonl: left out 1 line without a JSON object (the first is line 8)" in runs.notes


def test_state_that_is_being_written(tmp_path: Path) -> None:
    last = trl(tmp_path) / "checkpoint-40" / "trainer_state.json"
    last.write_text(last.read_text()[:-200])
    runs = read_log(tmp_path)
    assert runs.table["step"].tolist() == [0, 10, 20]
    assert "checkpoint-40/trainer_state.json is cut in the middle and was left out" in runs.notes
    with pytest.raises(DataError, match="is not a whole JSON document, as while a trainer writes it"):
        read_log(last)


@pytest.mark.parametrize("write", [verl_file, verl_console, slime_console], ids=lambda write: write.__name__)
def test_compressed_logs(write, tmp_path: Path) -> None:
    path = write(tmp_path)
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read_log(packed)) == 5


def test_compressed_log_that_is_cut(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [
        {"step": step, "data": {"val-core/m/acc/mean@8": draw.random(), "x": draw.random()}} for step in range(3000)
    ]
    path = lines(tmp_path / "grpo.jsonl", rows)
    packed = gzip.compress(path.read_bytes())
    path = tmp_path / "grpo.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    runs = read_log(path)
    assert 1000 < len(runs) < 2000
    assert any("the last, is cut in the middle" in note for note in runs.notes)


def test_console_whose_metrics_follow_a_long_start(tmp_path: Path) -> None:
    path = verl_console(tmp_path)
    start = "".join(f"(WorkerDict pid=1) loading shard {i} of a large model\n" for i in range(5000))
    path.write_text(start + path.read_text())
    assert len(read_log(path)) == 5
    assert len(read_log(tmp_path)) == 5


def test_console_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = verl_console(tmp_path)
    path.write_bytes(path.read_bytes() + b"\xff\xfe broken emoji \xf0\x9f\n")
    assert len(read_log(path)) == 5


def test_printed_dictionary_on_several_lines_that_is_cut(tmp_path: Path) -> None:
    rows = [
        f"Step {step}: {{'eval/a/avg_score': '{reward}',\n 'timing/step': 'nan'}}" for step, reward in EVALUATED.items()
    ]
    path = text(tmp_path / "skyrl.log", *rows, "Step 50: {'eval/a/avg_score': '0.9',")
    assert read_log(path).table["reward"].tolist() == list(EVALUATED.values())


HOSTILE = {
    "__class__": 1.0,
    "a" * 5000 + "/eval/acc": 0.5,
    "eval/" * 2000 + "acc": 0.5,
    "recipe": 2.0,
    "reward\0": 1.0,
    "\0time": 3.0,
    "=cmd()": 1.0,
    "": 1.0,
    "run": 7.0,
    "[bold]x[/bold]": 1.0,
    "eval/{}/%s/acc": 1.0,
    "huge": 10**400,
    "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1.0}}}}}}}},
    "list": [1.0, 2.0],
    "flag": True,
}


def test_hostile_keys(tmp_path: Path) -> None:
    rows = [{"step": step, **HOSTILE, "val-core/x/acc/mean@8": 0.1 * step} for step in range(5)]
    path = lines(tmp_path / "m.jsonl", rows)
    runs = read_log(path, compute="step")
    assert runs.table["reward"].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert set(log_contents(path)["kind"]) == {"held-out", "other"}
    assert read_log(path, metric="recipe", reward_bounds=None).table["reward"].tolist() == [2.0] * 5


def test_json_that_is_nested_too_deeply_is_left_out(tmp_path: Path) -> None:
    path = lines(tmp_path / "m.jsonl", [{"step": step, "eval_reward": 0.1 * step} for step in range(5)])
    path.write_text(
        path.read_text() + '{"a":' * 100_000 + "1" + "}" * 100_000 + "\n" + '{"step": 1' + "0" * 5000 + "}\n"
    )
    runs = read_log(path)
    assert len(runs) == 5
    assert any("left out 2 lines" in note for note in runs.notes)


def test_a_log_with_too_many_keys_is_refused() -> None:
    rows = Rows()
    with pytest.raises(DataError, match="more than 20,000 different keys, such as 'key20000'"):
        rows.add(1.0, {f"key{i}": 1.0 for i in range(20_001)})


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (1, 1.0),
        ("0.25", 0.25),
        (" 1e-3 ", 1e-3),
        ("N/A", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        ("inf", None),
    ],
)
def test_numbers_in_cells(cell: object, value: float | None) -> None:
    assert number_in(cell) == value


def test_nested_objects_are_keys_with_slashes() -> None:
    assert dict(flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}})) == {"a": 1, "b/c": 2, "b/d/e": 3}


def test_memory_of_a_long_log_is_a_fraction_of_its_size(tmp_path: Path) -> None:
    """12 bytes a number are kept; a log of 4 MB of JSON peaks below its own size, so that 1 GB does below 1 GB."""
    row = {f"actor/some_long_metric_name_{i}": 0.123456789012345 for i in range(100)}
    path = lines(tmp_path / "m.jsonl", ({"step": s, **row, "eval/acc": 0.5} for s in range(900)))
    size = path.stat().st_size
    assert size > 4e6
    read_log(path, compute="step")  # imports
    tracemalloc.start()
    read_log(path, compute="step")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.75 * size


def test_a_store_that_is_open_for_writing_is_read(tmp_path: Path) -> None:
    import sqlite3

    path = trackio_store(tmp_path)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode=WAL")
    line = (
        "r",
        "2026-06-01T02:00:00+00:00",
        "grpo-7b",
        99,
        json.dumps({"train/global_step": 50, "eval/rewards/accuracy_reward/mean": 0.5}),
    )
    writer.execute("INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)", line)
    writer.commit()
    assert read_log(path, compute="step").table["compute"].tolist() == [0, 10, 20, 30, 40, 50]
    writer.close()


def test_evaluations_of_a_checkpoint_that_is_made_again(tmp_path: Path) -> None:
    import zipfile

    from made_logs import inspect_log

    inspect_zip(tmp_path)
    again = inspect_log(40, 0.9)
    again["eval"]["created"] = "2026-07-01T00:00:00+00:00"
    with zipfile.ZipFile(tmp_path / "2026-07-01_40.eval", "w") as archive:
        archive.writestr("header.json", json.dumps(again))
    nameless = inspect_log(0, 0.1)
    nameless["eval"]["model"] = "vllm/base"
    with zipfile.ZipFile(tmp_path / "base.eval", "w") as archive:
        archive.writestr("header.json", json.dumps(nameless))
    runs = read_log(tmp_path)
    assert runs.table["reward"].tolist()[-1] == 0.9
    notes = " | ".join(runs.notes)
    assert "1 evaluation of a checkpoint that was evaluated again later not used" in notes
    assert "left out 1 evaluation of models without a step in their name" in notes


def test_binary_files_of_wandb_name_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "offline-run-1"
    folder.mkdir()
    (folder / "run-abc.wandb").write_bytes(b":W&B\xbe\xe1\x00" + b"\0" * 64)
    with pytest.raises(DataError, match="upload it with `wandb sync offline-run-1`"):
        read_log(folder)


def test_rows_of_two_logs_are_joined_in_their_order() -> None:
    one, other = Rows(), Rows()
    one.add(1.0, {"a": 1.0})
    other.add(2.0, {"a": 2.0, "b": None})
    one.extend(other)
    rows, values = one.series("a")
    assert (rows.tolist(), values.tolist(), one.steps.tolist()) == ([0, 1], [1.0, 2.0], [1.0, 2.0])
    assert one.empty["b"] == 1
    assert LoggedRun("x", one).rows.count("a") == 2


def test_console_whose_last_number_may_be_cut(tmp_path: Path) -> None:
    path = verl_console(tmp_path)
    whole = path.read_text().replace("np.float64(0.44)", "0.44")
    of_40 = whole.index("val-core", whole.index("step:40 "))
    path.write_text(whole[: whole.index(":0.44", of_40) + len(":0.4")])
    runs = read_log(path)
    assert runs.table["reward"].tolist() == [0.20, 0.31, 0.38, 0.42]
    said = "the last line has no line end, so that its last number may be cut and was left out"
    assert f"train.log: {said}" in runs.notes
    path.write_text(whole[: whole.index(":0.44", of_40) + len(":0.44 - cri")])
    assert read_log(path).table["reward"].tolist() == [0.20, 0.31, 0.38, 0.42, 0.44]
    nemo = text(
        tmp_path / "nemo.log", "=== Step 3/9 ===", "Validation Results:", "  • Accuracy: 0.5", "=== Step 4/9 ==="
    )
    nemo.write_text(nemo.read_text() + "Validation Results:\n  • Accuracy: 0.")
    runs = read_log(nemo)
    assert runs.table["reward"].tolist() == [0.5]
    assert f"nemo.log: {said}" in runs.notes


def test_short_console_with_colours_within_its_words(tmp_path: Path) -> None:
    path = verl_console(tmp_path)
    path.write_text(path.read_text().replace("step:", "\x1b[1mstep:\x1b[0m"))
    assert len(read_log(path)) == 5


def test_other_keys_and_another_order_in_the_file_of_verl(tmp_path: Path) -> None:
    rows = map(json.loads, verl_file(tmp_path).read_text().splitlines())
    path = lines(tmp_path / "m.jsonl", ({"data": row["data"], "step": row["step"], "host": "a"} for row in rows))
    assert read_log(path).notes[0] == "read as verl file logger"


def test_nested_evaluations_and_a_count_of_gpu_hours(tmp_path: Path) -> None:
    rows = [{"global_step": s, "eval": {"accuracy": r}, "gpu_hours": 0.5 * s} for s, r in EVALUATED.items()]
    runs = read_log(lines(tmp_path / "m.jsonl", rows))
    assert runs.reward_label == "eval/accuracy"
    assert runs.compute_label == "gpu_hours"
    assert runs.table["compute"].tolist() == [0.5 * s for s in EVALUATED]
    table = [{"step": s, "accuracy": r, "config": {"lr": 0.1}} for s, r in EVALUATED.items()]
    assert read_log(lines(tmp_path / "t.jsonl", table)).reward_label == "accuracy"


def test_empty_files_and_folders_are_called_empty(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none is an empty folder"):
        read_log(tmp_path / "none")
    (tmp_path / "train.log").write_text("\n\n")
    with pytest.raises(DataError, match=r"train\.log is empty; give a file with evaluations"):
        read_log(tmp_path / "train.log")
    (tmp_path / "runs.csv").touch()
    assert log_contents(tmp_path / "runs.csv").attrs["notes"] == ["runs.csv has no rows"]


def test_infinite_and_missing_numbers_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "chart.csv"
    rows = [f"{step},{reward},{reward}" for step, reward in EVALUATED.items()]
    text(path, '"Step","a - eval/acc","b - eval/acc"', *rows, "50,NaN,0.5", "60,Infinity,", "70,,0.5")
    notes = read_log(path).notes
    assert "a: left out 2 rows without a number under eval/acc (null, NaN, infinite or N/A)" in notes
    assert not any("b: left out" in note for note in notes)
    path = lines(tmp_path / "m.jsonl", ({"step": step, "eval/acc": reward} for step, reward in EVALUATED.items()))
    path.write_text(path.read_text() + '{"step": 50, "eval/acc": Infinity}\n')
    assert "left out 1 row without a number under eval/acc (null, NaN, infinite or N/A)" in read_log(path).notes
