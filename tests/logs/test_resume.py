"""Runs that were resumed or restarted, in logs of trainers and in tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from made_logs import lines, text
from rlceiling.errors import DataError
from rlceiling.logs.history import History
from rlceiling.logs.read import read_log
from rlceiling.logs.rows import LoggedRun, Rows
from rlceiling.runs.attempts import settle, steps_back
from rlceiling.runs.readers import read_runs

KEY = "val-core/math/acc/mean@4"
SECONDS = 36.0


def verl(steps: list[int], rewards: dict[int, float]) -> list[dict]:
    """Rows of verl's file logger; a step takes 36 s, and evaluations stand in the rows of their steps."""
    return [
        {
            "step": step,
            "data": {
                **({"timing_s/step": SECONDS, "critic/score/mean": 0.5} if step in steps else {}),
                **({KEY: rewards[step]} if step in rewards else {}),
            },
        }
        for step in sorted({*steps, *rewards})
    ]


FIRST = verl(list(range(1, 26)), {0: 0.2, 10: 0.3, 20: 0.4, 25: 0.1})


def test_abandoned_tail_goes_and_the_checkpoint_that_is_evaluated_again_is_averaged(tmp_path: Path) -> None:
    second = verl(list(range(21, 41)), {20: 0.42, 30: 0.5, 40: 0.55})
    runs = read_log(lines(tmp_path / "run.jsonl", FIRST + second), prompts=100)
    table = runs.table
    assert table["step"].tolist() == [0, 10, 20, 30, 40]
    np.testing.assert_allclose(table["reward"], [0.2, 0.3, 0.41, 0.5, 0.55])
    assert table["n_eval"].tolist() == [400, 400, 800, 400, 400]
    np.testing.assert_allclose(table["compute"], table["step"] * SECONDS / 3600)  # summed over what was kept
    notes = " | ".join(runs.notes)
    assert "resumed: the step goes back from 25 to 20; left out 5 rows of the attempt before, from there on" in notes
    assert "evaluated more than once at step 20: averaged" in notes


def test_an_attempt_without_an_evaluation_first_replaces_its_own_first_step(tmp_path: Path) -> None:
    second = verl(list(range(20, 31)), {20: 0.42, 30: 0.5})
    runs = read_log(lines(tmp_path / "run.jsonl", FIRST + second))
    assert dict(zip(runs.table["step"], runs.table["reward"], strict=True)) == {0: 0.2, 10: 0.3, 20: 0.42, 30: 0.5}


def test_a_counter_that_begins_again_is_refused_or_joined_or_kept(tmp_path: Path) -> None:
    again = verl(list(range(1, 16)), {10: 0.5, 15: 0.52})
    path = lines(tmp_path / "run.jsonl", FIRST[:21] + again)
    with pytest.raises(DataError, match=r'goes back from 20 to 1 .*resume="append" .*resume="keep-last"'):
        read_log(path)
    joined = read_log(path, resume="append").table
    assert joined["step"].tolist() == [0, 10, 20, 30, 35]
    np.testing.assert_allclose(joined["compute"], joined["step"] * SECONDS / 3600)
    last = read_log(path, resume="keep-last").table
    assert last["step"].tolist() == [0, 10, 15]
    assert last["reward"].tolist() == [0.2, 0.5, 0.52]


def test_three_attempts(tmp_path: Path) -> None:
    second = verl(list(range(16, 31)), {20: 0.41, 30: 0.1})
    third = verl(list(range(26, 41)), {30: 0.5, 40: 0.6})
    table = read_log(lines(tmp_path / "run.jsonl", FIRST + second + third)).table
    assert dict(zip(table["step"], table["reward"], strict=True)) == {0: 0.2, 10: 0.3, 20: 0.41, 30: 0.5, 40: 0.6}


def test_evaluations_that_are_logged_late_are_no_new_attempt(tmp_path: Path) -> None:
    """The evaluation of step 20 is written after the training row of step 22."""
    rows = [{"step": step, "time": 100.0 * step, "train/agg/all/agent/reward/mean": 0.5} for step in range(41)]
    for step, reward in ((40, 0.5), (20, 0.4), (0, 0.2)):
        rows.insert(
            min(step + 3, len(rows)), {"step": step, "time": 100.0 * step + 250.0, "eval/x/all/a/avg@4": reward}
        )
    runs = read_log(lines(tmp_path / "metrics.jsonl", rows), compute="step")
    assert runs.table["reward"].tolist() == [0.2, 0.4, 0.5]
    assert not [note for note in runs.notes if "resumed" in note]


def test_verl_erases_the_earlier_part_of_its_file(tmp_path: Path) -> None:
    second = lines(tmp_path / "run.jsonl", verl(list(range(21, 41)), {20: 0.4, 30: 0.5, 40: 0.6}))
    assert read_log(second).compute_label == "step"  # time cannot be counted from the beginning
    with pytest.raises(DataError, match="cannot be counted from the beginning, since the log begins at step 20"):
        read_log(second, compute="wall_hours")
    first = lines(tmp_path / "first.jsonl", FIRST[:21])
    joined = read_log([first, second], run="r1")
    assert joined.compute_label == "wall_hours"
    assert joined.table["step"].tolist() == [0, 10, 20, 30, 40]
    assert any("2 logs joined in their order, as attempts of one run" in note for note in joined.notes)


def test_attempts_and_rotated_files_are_joined_by_their_numbers(tmp_path: Path) -> None:
    rows = [{"step": step, "time": float(step), "eval/x/all/a/avg@4": step / 100} for step in range(0, 50, 10)]
    for place, names in (
        ("a", ["attempt_2/metrics.jsonl", "attempt_10/metrics.jsonl"]),
        ("b", ["m.jsonl.1", "m.jsonl"]),
    ):
        older, newer = names
        lines(tmp_path / place / older, rows[:3])
        lines(tmp_path / place / newer, rows[3:])
        runs = read_log(tmp_path / place, compute="step")
        assert len(runs.recipes) == 1, place
        assert runs.table["compute"].tolist() == [0, 10, 20, 30, 40], place


def test_wall_time_counts_neither_pauses_nor_the_abandoned_tail(tmp_path: Path) -> None:
    """Rows have a time only; the second attempt begins a day later."""
    keys = [(step, 100.0 * step) for step in range(31)] + [(step, 90_000.0 + 100.0 * step) for step in range(21, 41)]
    rows = [
        {"step": step, "time": time, **({"eval/acc": 0.01 * step} if step % 10 == 0 else {}), "train/x": 1.0}
        for step, time in keys
    ]
    table = read_log(lines(tmp_path / "metrics.jsonl", rows)).table
    np.testing.assert_allclose(table["compute"], table["step"] * 100.0 / 3600)


def test_a_count_that_begins_again_in_the_second_attempt_goes_on(tmp_path: Path) -> None:
    rows = [{"step": s, "num_tokens": 10.0 * s, "eval_reward": 0.01 * s} for s in range(0, 21, 5)]
    rows += [{"step": s, "num_tokens": 10.0 * (s - 15), "eval_reward": 0.01 * s} for s in range(16, 41, 4)]
    table = read_log(lines(tmp_path / "metrics.jsonl", rows)).table
    assert table["step"].tolist() == [0, 5, 10, 15, 16, 20, 24, 28, 32, 36, 40]
    np.testing.assert_allclose(table["compute"], 10 * table["step"])


def history(steps: list[float], **keys: list[float]) -> Rows:
    rows = Rows()
    for place, step in enumerate(steps):
        rows.add(step, {key: cells[place] for key, cells in keys.items()})
    return rows


def test_attempts_by_brute_force() -> None:
    """Random logs of a run that fails and goes on from a checkpoint: what stays is what the last attempts wrote."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        steps, last = [], 0
        truth: dict[int, int] = {}
        for attempt in range(rng.integers(1, 5)):
            begin = 1 if attempt == 0 else int(rng.integers(2, last + 1))
            end = begin + int(rng.integers(3, 12))
            truth = {step: by for step, by in truth.items() if step < begin} | dict.fromkeys(range(begin, end), attempt)
            steps += [(step, attempt) for step in range(begin, end)]
            last = end - 1
        if any(later[0] <= 1 for later in steps[1:]):
            continue
        own = History(LoggedRun("r", history([s for s, _ in steps], by=[float(a) for _, a in steps])), None)
        kept, values, _ = own.values("by")
        assert dict(zip(kept.tolist(), values.tolist(), strict=True)) == truth


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("steps", "begins"),
    [
        ([0, 100, 200, 300, 400, 500, 300, 400, 500, 600], [6]),
        ([0, 100, 200, 300, 50, 150, 250], [4]),
        ([300, 200, 100, 0], []),  # descending
        ([100, 200, 300, 400, 0], []),  # step 0 at the end
        ([500, 600, 700, 0, 100, 200], []),  # parts in another order
        ([5, 3, 9, 1, 7, 2], []),  # no order
        ([0, 100, 100, 200, 200], []),
    ],
)
def test_steps_back(steps: list[float], begins: list[int]) -> None:
    assert steps_back(steps) == begins


def test_settle_needs_the_breaks() -> None:
    """Negative control: without the row at which an attempt begins, nothing is left out."""
    steps = [0, 10, 20, 30, 20, 30]
    assert settle(steps, [4], None).keep.tolist() == [True, True, False, False, True, True]
    assert settle(steps, [], None).keep.all()


def csv_of(folder: Path, steps: list[int], name: str = "run.csv") -> Path:
    rows = [f"{step},{0.2 + 0.001 * place}" for place, step in enumerate(steps)]
    return text(folder / name, "step,accuracy", *rows)


def test_overlap_in_a_table_leaves_the_abandoned_rows_out(tmp_path: Path) -> None:
    runs = read_runs(csv_of(tmp_path, [0, 100, 200, 300, 400, 200, 300, 400, 500]))
    assert runs.table["compute"].tolist() == [0, 100, 200, 300, 400, 500]
    assert runs.table["reward"].tolist()[2] == pytest.approx(0.205)
    goes = "step goes back from 400 to 200; left out 3 evaluations of the attempt before"
    said = f"resumed: in run '0' of recipe 'run' {goes}"
    assert any(note.startswith(said) for note in runs.notes)


def test_restart_in_a_table_is_refused_with_both_remedies(tmp_path: Path) -> None:
    path = csv_of(tmp_path, [0, 100, 200, 300, 0, 100, 200, 300])
    with pytest.raises(DataError) as caught:
        read_runs(path)
    for part in (
        "run.csv, row 5, column 'step'",
        "goes back from 300 to 0",
        "--resume append",
        "--resume keep-last",
        "--run",
    ):
        assert part in str(caught.value)
    joined = read_runs(path, resume="append", duplicates="mean")
    assert joined.table["compute"].tolist() == [0, 100, 200, 300, 400, 500, 600]
    assert read_runs(path, resume="keep-last").table["compute"].tolist() == [0, 100, 200, 300]


def test_restart_with_another_name_in_a_column_says_so(tmp_path: Path) -> None:
    rows = [
        f"{step},{metric},0.{step}{place}" for place, metric in enumerate(("mean@8", "pass@8")) for step in (1, 2, 3, 4)
    ]
    path = text(tmp_path / "long.csv", "step,metric,accuracy", *rows)
    with pytest.raises(DataError, match=r"column 'metric' differs between them: .*--where \"metric=mean@8\""):
        read_runs(path)
    assert len(read_runs(path, where=["metric=pass@8"])) == 4


def test_unknown_treatment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='resume must be "keep-last" or "append", not \'first\''):
        read_runs(csv_of(tmp_path, [1, 2]), resume="first")
    with pytest.raises(DataError, match="resume must be"):
        read_log(csv_of(tmp_path, [1, 2]), resume="first")


def test_slime_logs_evaluation_0_before_and_after_the_first_update(tmp_path: Path) -> None:
    printed = ["x - eval 0: {'eval/aime': 0.1}"]
    for rollout in range(4):
        printed.append(f"x - rollout {rollout}: {{'rollout/raw_reward': 0.5}}")
        printed.append(f"x - perf {rollout}: {{'perf/step_time': 3600.0}}")
        printed.append(f"x - eval {rollout}: {{'eval/aime': 0.{rollout + 2}}}")
    table = read_log(text(tmp_path / "slime.log", *printed)).table
    assert table["step"].tolist() == [0, 1, 2, 3, 4]
    assert table["reward"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert table["compute"].tolist() == [0, 1, 2, 3, 4]
