"""Tables as people have them: separators, percent, empty columns, compression, workbooks, wide tables, filters."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlceiling.errors import DataError
from rlceiling.runs.plausibility import plausibility_notes
from rlceiling.runs.readers import read_runs

COMPUTE, REWARD = [1000, 2000, 3000, 4000, 6000], [0.273, 0.308, 0.331, 0.340, 0.346]
PERCENT = [27.3, 30.8, 33.1, 34.0, 34.6]


def table(row: str, header: str = "step,accuracy") -> str:
    """A table whose rows are made of a template with c, r (in German: C, R) and p."""
    lines = [header]
    for c, r, p in zip(COMPUTE, REWARD, PERCENT, strict=True):
        lines.append(row.format(c=c, r=r, p=p, C=f"{c:,}".replace(",", "."), R=str(r).replace(".", ",")))
    return "\n".join(lines) + "\n"


PLAIN = table("{c},{r}")


def write(folder: Path, text: str | bytes, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(*args, **options) -> str:
    with pytest.raises(DataError) as caught:
        read_runs(*args, **options)
    return str(caught.value)


DOTS = "column 'step': read dots that separate thousands ('1.000' is 1000)"
WAYS = {
    "byte order mark.csv": ("\ufeff" + PLAIN, ""),
    "utf16.csv": (PLAIN.encode("utf-16"), ""),
    "packed.csv.gz": (gzip.compress(PLAIN.encode()), ""),
    "semicolons.csv": (PLAIN.replace(",", ";"), ""),
    "tabs.csv": (PLAIN.replace(",", "\t"), ""),
    "text.txt": (PLAIN.replace(",", "\t"), ""),
    "empty tail.csv": (table("{c},{r},,", "step,accuracy,,") + ",,,\n", ""),
    "ends of lines.csv": (table("{c},{r},"), ""),
    "thousands.csv": (
        table('"{c:,}",{r}'),
        "column 'step': read commas that separate thousands ('1,000' is 1000)",
    ),
    "percent.csv": (table("{c},{p}%"), "column 'accuracy': read percent ('27.3%' is 0.273)"),
    "remark.csv": (
        table("{c},{r} ± 0.01"),
        "column 'accuracy': read the number at the beginning of the cell, without the rest ('0.273 ± 0.01' is 0.273)",
    ),
    "german.csv": (table("{C};{R}", "step;accuracy"), DOTS),
    "dots.tsv": (table("{C}\t{r}", "step\taccuracy\n500\t0.2"), DOTS),
    "commas.tsv": (table("{c}\t{R}", "step\taccuracy"), "column 'accuracy': read decimal commas ('0,273' is 0.273)"),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_to_write_a_table(name: str, tmp_path: Path) -> None:
    text, note = WAYS[name]
    runs = read_runs(write(tmp_path, text, name))
    own = runs.table[runs.table["compute"] != 500]
    assert own["compute"].tolist() == COMPUTE
    np.testing.assert_allclose(own["reward"], REWARD, rtol=1e-12)
    assert not note or note in runs.notes
    assert set(runs.table) == {"recipe", "run", "compute", "reward", "n_eval"}


def test_numbers_that_might_be_either_are_not_rewritten(tmp_path: Path) -> None:
    """Decimal points with three digits ascend as they are; a cell that fits no pattern is quoted."""
    runs = read_runs(write(tmp_path, "hours,accuracy\n1.000,0.2\n2.500,0.3\n3.125,0.4\n"))
    assert runs.table["compute"].tolist() == [1.0, 2.5, 3.125]
    assert "the reward is the text '31%x', not a number" in refusal(write(tmp_path, "step,accuracy\n1,27%\n2,31%x\n"))
    assert "the text '27%', not a number" in refusal(write(tmp_path, "step,accuracy\n1,0.2\n2,27%\n"))


def test_percent_with_bounds_of_percent_keeps_its_unit(tmp_path: Path) -> None:
    runs = read_runs(write(tmp_path, "step,accuracy\n1,27%\n2,31%\n"), reward_bounds=(0, 100))
    assert runs.table["reward"].tolist() == [27.0, 31.0]


def test_workbook(tmp_path: Path) -> None:
    path = tmp_path / "runs.xlsx"
    try:
        pd.DataFrame({"step": COMPUTE, "accuracy": REWARD}).to_excel(path, index=False)
    except ImportError:
        path.write_bytes(b"PK\x03\x04")
        assert 'install it with `pip install "rlceiling[logs]"`, or save the sheet as CSV' in refusal(path)
        return
    assert read_runs(path).table["reward"].tolist() == REWARD
    path.write_bytes(b"PK\x03\x04")
    assert "runs.xlsx cannot be read" in refusal(path)


MISSING = ("", "NaN", "null", "N/A", "None", "#N/A")


def test_rows_without_an_evaluation_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = "".join(f"{i + 10},{cell}\n" for i, cell in enumerate(MISSING))
    runs = read_runs(write(tmp_path, "step,accuracy\n1,0.2\n" + rows + "20,0.4\n"))
    assert runs.table["compute"].tolist() == [1, 20]
    assert (
        "left out 6 rows without an evaluation (accuracy is empty, null, NaN or N/A), the first is row 2" in runs.notes
    )
    said = refusal(write(tmp_path, "step,accuracy\n" + rows))
    assert "column 'accuracy': no row has an evaluation (all are empty, null, NaN or N/A)" in said
    frame = pd.DataFrame({"step": [1, 2, 3], "accuracy": [0.1, None, np.nan]}, dtype=object)
    assert len(read_runs(frame)) == 1


def test_json_line_that_is_being_written(tmp_path: Path) -> None:
    lines = '{"step": 1, "reward": 0.5}\n{"step": 2, "reward": 0.6}\n{"step": 3, "rew'
    runs = read_runs(write(tmp_path, lines, "runs.jsonl"))
    assert runs.table["compute"].tolist() == [1, 2]
    assert "row 3, the last, is cut in the middle and was left out" in runs.notes


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("columns", "compute", "reward"),
    [
        (("global_step", "val/acc"), "global_step", "val/acc"),
        (("Step", "Value"), "Step", "Value"),
        (("frame", "episode_reward"), "frame", "episode_reward"),
        (("step", "global_step", "acc"), "step", "acc"),
        (("timesteps", "success", "seed"), "timesteps", "success"),
        (("Schritt", "Genauigkeit"), "Schritt", "Genauigkeit"),
        (("step", "normalised_score"), "step", "normalised_score"),
    ],
)
def test_obvious_names(columns: tuple[str, ...], compute: str, reward: str) -> None:
    first, *others = columns
    frame = pd.DataFrame({first: [1000, 2000, 3000, 4000, 5000]})
    for name in others:
        frame[name] = 0 if name == "seed" else [0.1, 0.2, 0.3, 0.4, 0.5]
    runs = read_runs(frame)
    assert (runs.compute_label, runs.reward_label) == (compute, reward)


def test_columns_that_are_not_clear_are_not_guessed() -> None:
    falling = pd.DataFrame({"a": [5, 4, 3, 2, 1], "b": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert "no column with an obvious name for the compute" in refusal(falling)
    three = pd.DataFrame({"step": [1, 2, 3, 4, 5], "x": 0.1, "y": 0.2})
    assert 'give wide="*" (command line: --wide "*")' in refusal(three)
    seeds = three.rename(columns={"x": "seed_1", "y": "seed_2"}).assign(loss=1.0)
    assert 'the columns seed_* is a recipe or a run of its own, give wide="seed_*"' in refusal(seeds)


def test_wide_tables() -> None:
    frame = pd.DataFrame({"step": [1, 2, 3], "GRPO": [0.1, 0.2, 0.3], "DAPO": [0.2, None, 0.4], "note": list("abc")})
    runs = read_runs(frame, wide="GRPO, DAPO")
    assert runs.recipes == ["GRPO", "DAPO"]
    assert runs.select("DAPO").table["reward"].tolist() == [0.2, 0.4]
    assert "wide: each of the columns 'GRPO', 'DAPO' is a recipe" in runs.notes
    seeds = pd.DataFrame({"arm": list("aabb"), "step": [1, 2] * 2, "seed_1": [0.1, 0.2, 0.3, 0.4], "seed_2": 0.5})
    runs = read_runs(seeds, wide="seed_*", recipe="arm")
    pairs = [(one.recipe, one.run) for one in runs.iter_runs()]
    assert pairs == [("a", "seed_1"), ("a", "seed_2"), ("b", "seed_1"), ("b", "seed_2")]
    assert "has no column 'seed-*' (did you mean 'seed_" in refusal(seeds, wide="seed-*", recipe="arm")


LONG = pd.DataFrame(
    {
        "metric": ["mean@8", "pass@8"] * 6,
        "domain": ["math"] * 8 + ["code"] * 4,
        "step": [1, 1, 2, 2, 3, 3, 4, 4, 1, 1, 2, 2],
        "score": np.linspace(0.1, 0.6, 12),
    }
)


def test_filters_and_recipes_of_several_columns() -> None:
    runs = read_runs(LONG, where=["metric=mean@8"], recipe="domain")
    assert (len(runs), runs.recipes) == (6, ["math", "code"])
    assert "where: kept 6 of 12 rows with metric=mean@8" in runs.notes
    for names in ("domain,metric", ["domain", "metric"], "domain, metric"):
        assert read_runs(LONG, recipe=names).recipes == ["math/mean@8", "math/pass@8", "code/mean@8", "code/pass@8"]
    assert "has no value 'mean@4' (did you mean 'mean@8'?)" in refusal(LONG, where=["metric=mean@4"])
    assert "has no column 'metrics'" in refusal(LONG, where=["metrics=mean@8"])
    assert "'metric' has no =; write column=value" in refusal(LONG, where=["metric"])
    assert "column 'metric' differs between them" in refusal(LONG, recipe="domain")


# ---------------------------------------------------------------- plausibility


def notes_of(*rewards: np.ndarray, label: str = "accuracy") -> str:
    runs = [
        pd.DataFrame({"recipe": f"r{i}", "run": "0", "compute": 100.0 * np.arange(1, len(own) + 1), "reward": own})
        for i, own in enumerate(rewards)
    ]
    return " | ".join(plausibility_notes(pd.concat(runs, ignore_index=True), "step", label))


def curve(n: int, seed: int, sd: float = 0.01) -> np.ndarray:
    compute = 100.0 * np.arange(1, n + 1)
    return 0.2 + 0.35 / (1 + (1500 / compute) ** 1.7) + sd * np.random.default_rng(seed).normal(size=n)


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    return pd.Series(values).ewm(alpha=1 - weight, adjust=False).mean().to_numpy()


def test_smoothed_input_is_noticed_and_other_input_is_not() -> None:
    """85% of runs of 50 evaluations that are smoothed with weight 0.9 are noticed; fewer than 12 of 20 has p = .001."""
    raw = [curve(50, seed) for seed in range(20)]
    assert not any("looks smoothed" in notes_of(own) for own in raw)
    assert sum("looks smoothed" in notes_of(smoothed(own, 0.9)) for own in raw) >= 12


def test_only_records() -> None:
    raw = curve(40, 1, 0.02)
    assert "never falls" not in notes_of(raw)
    assert "accuracy of r0 never falls" in notes_of(np.maximum.accumulate(raw))
    assert "never falls" in notes_of(np.unique(np.maximum.accumulate(raw)))
    assert "never falls" not in notes_of(np.minimum(np.linspace(0.2, 1.4, 30), 1.0))  # saturates at 1


def test_falling_metric() -> None:
    assert "accuracy of r0 falls as step grows: if lower is better" in notes_of(1 - curve(20, 1))
    assert notes_of(curve(20, 1)) == ""
    assert "eval/loss is named like something that is to become small" in notes_of(curve(20, 1), label="eval/loss")
    assert notes_of(curve(20, 1), label="eval/losses_won") == ""


def test_the_same_values_in_two_runs() -> None:
    one = curve(12, 1)
    assert "the same values of accuracy stand in two runs, r0 and r1: check" in notes_of(one, one)
    assert "same values" not in notes_of(one, curve(12, 2))
    assert "same values" not in notes_of(np.ones(12), np.ones(12))


def test_a_count_of_steps_is_not_guessed_as_the_reward_and_a_file_without_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("gpu_hours,global_step\n" + "".join(f"{i},{i}\n" for i in range(2, 9)))
    with pytest.raises(DataError, match="no column with an obvious name for the reward"):
        read_runs(path, reward_bounds=(0, 10))
    path.write_text("".join(f"{i},0.{i}\n" for i in range(1, 9)))
    with pytest.raises(DataError, match=r"its first line holds numbers, 1, 0\.1; write a line with a name"):
        read_runs(path)
    path.write_text("# made by hand\nstep,acc\n" + "".join(f"{i},0.{i}\n" for i in range(1, 9)))
    with pytest.raises(DataError, match="more cells than its first line, '# made by hand'"):
        read_runs(path)
