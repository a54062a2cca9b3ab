"""Input that was once read wrongly without a word: it is refused, or a note says what was done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
from rlceiling.runs.names import lookalike_notes

COMPUTE = (10, 20, 30, 40, 50, 60)
REWARD = (0.1, 0.2, 0.35, 0.41, 0.52, 0.587)


def text(*recipes: str, header: str = "recipe,step,reward", end: str = "\n") -> str:
    """A table with rewards of its own for each recipe."""
    rows = [f"{r},{c},{w + i / 100:.3f}" for i, r in enumerate(recipes) for c, w in zip(COMPUTE, REWARD, strict=True)]
    return "\n".join([header, *rows]) + end


def read(folder: Path, content: str | bytes, name: str = "a.csv") -> rl.Runs:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return rl.read_runs(path)


def refused(folder: Path, content: str | bytes, name: str = "a.csv") -> str:
    with pytest.raises(rl.DataError) as raised:
        read(folder, content, name)
    return str(raised.value)


def lines(**last: object) -> str:
    """JSON lines, the last of which has other cells."""
    rows = [{"recipe": "a", "step": c, "reward": w} for c, w in zip(COMPUTE, REWARD, strict=True)]
    return "".join(json.dumps(row) + "\n" for row in [*rows[:-1], rows[-1] | last])


def test_numbers_that_name_recipes_stay_as_they_are_written(tmp_path: Path) -> None:
    runs = read(tmp_path, text("1.0", "1", "01"))
    assert runs.recipes == ["1.0", "1", "01"]
    assert sum("look alike" in note for note in runs.notes) == 1
    assert read(tmp_path, text("1.0", "2.0")).recipes == ["1.0", "2.0"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    said = refused(tmp_path, "step,reward,reward\n1,0.1,0.9\n2,0.2,0.8\n")
    assert said == "a.csv has 2 columns 'reward'; rename all but one."
    assert "2 columns 'x'" in refused(tmp_path, "step;x;reward;x\n1;;0.1;9\n2;;0.2;8\n")
    pytest.importorskip("openpyxl")
    sheet = pd.DataFrame([[1, 0.1, 0.9], [2, 0.2, 0.8]], columns=["step", "reward", "reward"])
    sheet.to_excel(tmp_path / "a.xlsx", index=False)
    with pytest.raises(rl.DataError, match=r"a\.xlsx has 2 columns 'reward'; rename all but one"):
        rl.read_runs(tmp_path / "a.xlsx")


def test_truth_values_are_no_numbers_in_any_format(tmp_path: Path) -> None:
    frame = pd.DataFrame({"step": COMPUTE, "reward": [True, False] * 3})
    frame.to_parquet(tmp_path / "a.parquet")
    for source in (frame, tmp_path / "a.parquet"):
        with pytest.raises(rl.DataError, match=r"row 1, column 'reward'.*is the truth value True, not a number"):
            rl.read_runs(source)
    for role in ("reward", "step"):
        said = refused(tmp_path, lines(**{role: True}), "a.jsonl")
        assert "row 6" in said
        assert "the truth value True, not a number" in said
    frame = pd.DataFrame({"step": COMPUTE, "reward": REWARD, "n_eval": [8, 8, True, 8, 8, 8]})
    with pytest.raises(rl.DataError, match=r"row 3, column 'n_eval'.*the truth value True"):
        rl.read_runs(frame)


def test_a_key_twice_in_a_json_object_is_refused(tmp_path: Path) -> None:
    content = lines() + '{"recipe": "a", "step": 70, "reward": 0.6, "reward": 0.1}\n'
    assert refused(tmp_path, content, "a.jsonl") == "a.jsonl, row 7: the key 'reward' stands twice in it; keep one."


def test_json_that_is_nested_or_long_beyond_reason_is_a_sentence(tmp_path: Path) -> None:
    assert "row 1: nested too deeply" in refused(tmp_path, "[" * 100_000 + "\n", "a.jsonl")
    for digits in (400, 5000):
        content = lines().replace(": 60,", f": {'1' + '0' * digits},")
        assert "a.jsonl" in refused(tmp_path, content, "a.jsonl")


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ("a,70,0.", 6),
        ("a,70,", 6),
        ("a,70", 6),
        ("a,7", 6),
        ("a", 6),
        ("a,70,1e-", 6),
        ("a,70,0.6\n", 7),
        ("a,70,0.612", 7),
        ("a,70,0.612\r\n", 7),
    ],
)
def test_a_last_line_that_is_being_written_is_left_out(end: str, kept: int, tmp_path: Path) -> None:
    runs = read(tmp_path, text("a") + end)
    assert len(runs.table) == kept
    note = "row 7, the last, has no line end and is cut in the middle; it was left out"
    assert (note in runs.notes) == (kept == 6)
    assert not any("may be cut" in other for other in runs.notes)


def test_a_last_line_that_may_be_cut_is_noted(tmp_path: Path) -> None:
    """With few rows a short number may be whole; where each of ten others has more decimals, it is left out."""
    runs = read(tmp_path, text("a") + "a,70,0.6")
    assert len(runs.table) == 7
    note = "row 7, the last, has no line end: if it is still being written, its last cell, '0.6', may be cut; end the "
    assert any(other.startswith(note) for other in runs.notes)
    assert len(read(tmp_path, text("a", "b") + "b,70,0.6").table) == 12
    assert len(read(tmp_path, text("a", "b") + "b,70,0.612").table) == 13


def test_a_name_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    content = "step,reward,recipe\n" + "".join(f"{c},{w},GRPO\n" for c, w in zip(COMPUTE, REWARD, strict=True))
    assert read(tmp_path, content + "70,0.6,GR").recipes == ["GRPO"]
    assert len(read(tmp_path, content + "70,0.6,GRPO").table) == 7
    assert read(tmp_path, content + "70,0.6,DAPO").recipes == ["GRPO", "DAPO"]


def test_last_lines_in_other_encodings(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-8-sig"):
        assert len(read(tmp_path, text("a").encode(encoding)).table) == 6
        assert len(read(tmp_path, (text("a") + "a,70,0.").encode(encoding)).table) == 6


def test_dots_beside_whole_numbers_are_noticed(tmp_path: Path) -> None:
    """In two runs the numbers do not ascend as a whole, so that nothing decides what the dots are."""
    rows = [f"{r},{c},0.{i}{j}" for j, r in enumerate("ab") for i, c in enumerate(("400", "500", "1.000"))]
    runs = read(tmp_path, "\n".join(["recipe,step,reward", *rows]) + "\n")
    assert any(
        note == "column 'step': '1.000' is read as 1, beside '400'; if dots separate thousands in it, write numbers "
        "without them"
        for note in runs.notes
    )
    assert not any("thousands" in note for note in read(tmp_path, text("a").replace(",10,", ",1.125,")).notes)


@pytest.mark.parametrize(
    "names",
    [
        ("GRPO", "GRPO\u200b"),
        ("café", "cafe\u0301"),
        ("big  run", "big run"),
        ("big\u00a0run", "big run"),
        ("1", "1.00"),
    ],
)
def test_names_that_look_alike_are_noted(names: tuple[str, str], tmp_path: Path) -> None:
    runs = read(tmp_path, text(*names))
    assert runs.recipes == list(names)
    note = f"the names {names[0]!a} and {names[1]!a} of two recipes look alike; spell them alike if they are one"
    assert note in runs.notes
    both = lookalike_notes(["r", "r", "other"], [*names, names[0]])
    assert both == [note.replace("two recipes", "two runs of recipe 'r'")]


def test_names_that_differ_are_not_noted() -> None:
    assert lookalike_notes(["grpo-1", "grpo-2", "1.5", "1", "10", "a.0"], ["0", "1", "0", "0", "1.5", "a"]) == []


@pytest.mark.parametrize("hidden", ["\x1b[31m", "\x00", "\x07", "\u202e", "\x85", "\u2028"])
def test_names_with_characters_that_cannot_be_shown_are_refused(hidden: str, tmp_path: Path) -> None:
    said = f"holds the character U+{ord(hidden[0]):04X}, which cannot be shown; remove it."
    frame = pd.DataFrame({"recipe": "a", "run": "b", "step": COMPUTE, "reward": REWARD})
    for role in ("recipe", "run"):
        with pytest.raises(rl.DataError) as raised:
            rl.read_runs(frame.assign(**{role: f"x{hidden}y"}))
        assert str(raised.value) == f"DataFrame: the name of the {role} {f'x{hidden}y'!r} {said}"
    with pytest.raises(rl.DataError) as raised:
        rl.read_runs(frame.rename(columns={"reward": f"r{hidden}"}), reward=f"r{hidden}")
    assert str(raised.value) == f"DataFrame: the name of the reward column {f'r{hidden}'!r} {said}"
    assert hidden not in str(raised.value)


def test_half_a_surrogate_pair_in_json_is_refused(tmp_path: Path) -> None:
    assert "half of a surrogate pair" in refused(tmp_path, lines(recipe="a\ud800"), "a.jsonl")


def test_emoji_and_joiners_are_names(tmp_path: Path) -> None:
    assert read(tmp_path, text("👩‍🔬 big", "🚀")).recipes == ["👩‍🔬 big", "🚀"]


def test_computes_near_the_largest_number_need_no_warning() -> None:
    """Warnings are errors here; two runs are compared by their ends."""
    compute = np.geomspace(1e306, 1.7e308, 6)
    frame = pd.DataFrame({"run": ["1"] * 6 + ["2"] * 6, "step": [*compute, *compute / 2], "reward": [*REWARD, *REWARD]})
    frame["reward"] += 0.01 * (frame["run"] == "2")
    assert len(rl.read_runs(frame).table) == 12
