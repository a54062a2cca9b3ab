"""Every way in, every sentence that refuses, and what `Runs` promises."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from effort import effort
from rlceiling.errors import DataError
from rlceiling.runs import Run, Runs, read_runs

GOOD = """recipe,seed,gpu_hours,pass_rate,n_eval
b,1,100,0.5,1000
b,1,0,0.25,1000
b,0,50,0.4,1000
a,0,10,0.3,
a,0,20,0.35,
a,0,40,0.45,
a,0,80,0.5,500
"""


def frame(**columns):
    """Two good rows of one recipe, with some columns replaced."""
    good = {"recipe": ["a", "a"], "compute": [1.0, 2.0], "reward": [0.1, 0.2]}
    return pd.DataFrame(good | columns)


@pytest.fixture
def write(tmp_path):
    def write(text, name="runs.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def good(write):
    return read_runs(write(GOOD))


def sentence(call, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# ---------------------------------------------------------------- a good table


def test_a_good_table_passes_and_is_put_in_order(good):
    expected = pd.DataFrame(
        {
            "recipe": ["b", "b", "b", "a", "a", "a", "a"],
            "run": ["1", "1", "0", "0", "0", "0", "0"],
            "compute": [0.0, 100, 50, 10, 20, 40, 80],
            "reward": [0.25, 0.5, 0.4, 0.3, 0.35, 0.45, 0.5],
            "n_eval": [1000, 1000, 1000, np.nan, np.nan, np.nan, 500],
        }
    ).astype({"recipe": str, "run": str})
    pd.testing.assert_frame_equal(good.table, expected)
    assert good.recipes == ["b", "a"]
    assert good.runs_of("b") == ["1", "0"]
    assert len(good) == 7
    assert (good.compute_label, good.reward_label) == ("gpu_hours", "pass_rate")
    assert (good.reward_bounds, good.source) == ((0.0, 1.0), "runs.csv")
    assert all(type(name) is str for name in good.recipes + good.runs_of("b"))


def test_repr(good):
    assert repr(good.burn_in(20)) == (
        "Runs: 2 recipes, 3 runs, 6 evaluations (runs.csv)\n"
        "  compute gpu_hours 20 to 100; reward pass_rate 0.25 to 0.5, bounds 0 to 1;"
        " step 0 logged by 1 of 3 runs\n"
        "  columns guessed: compute=gpu_hours, reward=pass_rate, recipe=recipe, run=seed, n_eval=n_eval\n"
        "  burn_in: left out 1 evaluation with 0 < gpu_hours < 20"
    )


def test_every_format_gives_the_same_table(write, tmp_path, good):
    cells = pd.read_csv(write(GOOD))
    records = [{k: v for k, v in row.items() if v == v} for row in cells.to_dict("records")]
    lines = "\n\n".join(json.dumps(row) for row in records)
    cells.to_parquet(tmp_path / "runs.parquet")
    sources = [
        write(GOOD.replace(",", "\t"), "runs.tsv"),
        write(lines, "runs.jsonl"),
        write("\ufeff" + lines, "runs.ndjson"),
        write("\ufeff" + GOOD, "RUNS.CSV"),
        str(write(GOOD.replace("\n", "\r\n"), "crlf.csv")),
        tmp_path / "runs.parquet",
        cells,
        cells.set_index(pd.Index([7, 7, 7, 1, 2, 3, 4])),
        cells.astype({"recipe": "category", "seed": "float32", "n_eval": "Int64"}),
        cells.astype(object),
    ]
    for source in sources:
        pd.testing.assert_frame_equal(read_runs(source).table, good.table, check_exact=True)


def test_the_table_survives_a_round_trip(good):
    again = read_runs(good.table)
    pd.testing.assert_frame_equal(again.table, good.table)
    assert again.source == "DataFrame"


def test_nothing_can_be_changed(good):
    before, copy = good.table.copy(), good.table
    copy.loc[:, "reward"] = 0.0
    good.recipes.clear()
    good.until(50), good.select("a"), good.drop("a"), good.burn_in(20)
    pd.testing.assert_frame_equal(good.table, before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        good.source = "other"
    run = next(good.iter_runs())
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.start = None
    for array in (run.compute, run.reward, run.n_eval):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_users_frame_is_left_alone():
    mine = frame(reward=["0.1", "0.2"])
    before = mine.copy()
    runs = read_runs(mine)
    pd.testing.assert_frame_equal(mine, before)
    mine.loc[0, "compute"] = 99.0
    assert runs.table["compute"].tolist() == [1, 2]


def test_iter_runs(good):
    first, second, third = good.iter_runs()
    assert isinstance(first, Run)
    assert (first.recipe, first.run, first.start) == ("b", "1", (0.25, 1000.0))
    assert (first.compute.tolist(), first.reward.tolist(), first.n_eval.tolist()) == ([100], [0.5], [1000])
    assert (second.run, second.start, second.compute.tolist()) == ("0", None, [50])
    assert (third.recipe, third.compute.tolist()) == ("a", [10, 20, 40, 80])
    assert np.isnan(third.n_eval[:3]).all()


def test_start_without_a_known_size():
    (run,) = read_runs(frame(compute=[0, 5])).iter_runs()
    assert run.start is not None
    assert run.start[0] == 0.1
    assert np.isnan(run.start[1])


@pytest.mark.parametrize(
    ("bounds", "rewards", "scaled"),
    [((-1, 1), [-1.0, 0.5], [0, 0.75]), ((0, 100), [25.0, 100.0], [0.25, 1]), ((0, 1), [0.0, 0.5], [0, 0.5])],
)
def test_scaling(bounds, rewards, scaled):
    runs = read_runs(frame(reward=rewards), reward_bounds=bounds)
    (run,) = runs.iter_runs()
    assert run.reward.tolist() == scaled
    assert runs.table["reward"].tolist() == rewards
    assert runs.scale(rewards).tolist() == scaled
    assert runs.unscale(scaled).tolist() == rewards
    assert runs.reward_bounds == tuple(float(bound) for bound in bounds)


@pytest.mark.parametrize(
    ("seeds", "names"),
    [
        ([3.0, 11.0], ["3", "11"]),
        ([3, 11], ["3", "11"]),
        ([0.5, 1.0], ["0.5", "1.0"]),
        (["007", "7"], ["007", "7"]),
        ([[1, 2], {"lr": 1}], ["[1, 2]", "{'lr': 1}"]),
    ],
)
@pytest.mark.parametrize("role", ["run", "recipe"])
def test_names_that_are_numbers(role, seeds, names):
    assert read_runs(frame(**{role: seeds})).table[role].tolist() == names


def test_seeds_that_were_written_as_floats_are_numbers_and_recipes_are_texts():
    names = ["3.0", "11"]
    assert read_runs(frame(run=names)).table["run"].tolist() == ["3", "11"]
    assert read_runs(frame(recipe=names)).table["recipe"].tolist() == names


def test_names_in_files_are_text(write):
    runs = read_runs(write("seed,step,score\n007,1,0.5\n7,1,0.5\n"))
    assert runs.runs_of("runs") == ["007", "7"]


def long_file(folder, n):
    rng = np.random.default_rng(0)
    long = pd.DataFrame({"recipe": np.arange(n) // 1000, "step": np.arange(n), "score": rng.random(n)})
    long.to_csv(folder / f"{n}.csv", index=False)
    return long


def test_a_large_file_is_read(tmp_path):
    large = long_file(tmp_path, 100_000)
    runs = read_runs(tmp_path / "100000.csv")
    assert (len(runs), len(runs.recipes)) == (100_000, 100)
    np.testing.assert_allclose(runs.table["reward"], large["score"], rtol=1e-12)


def test_reading_a_file_calls_next_to_no_function_for_each_row(tmp_path):
    work = []
    for n in (2000, 4000):
        long_file(tmp_path, n)
        read_runs(tmp_path / f"{n}.csv")  # imports what it needs
        work.append(effort(lambda n=n: read_runs(tmp_path / f"{n}.csv"), rows=False))
    # A method of pandas is tens of calls, so one for each row would show.
    assert work[1] - work[0] < 10 * 2000


# ---------------------------------------------------------------- columns


def test_named_columns_leave_no_note():
    mine = pd.DataFrame({"x": [1, 2], "y": [0.1, 0.2], "who": ["a", "b"], "k": [1, 1], "m": [9, 9]})
    runs = read_runs(mine, compute="x", reward="y", recipe="who", run="k", n_eval="m")
    assert runs.notes == ()
    assert runs.table["n_eval"].tolist() == [9, 9]
    assert (runs.compute_label, runs.reward_label) == ("x", "y")


def test_guesses_are_noted():
    mine = pd.DataFrame({"Step": [1, 2], "Accuracy": [0.1, 0.2], "loss": [3, 3], "Seed": [0, 0]})
    runs = read_runs(mine, run="Seed")
    assert runs.notes == (
        "columns guessed: compute=Step, reward=Accuracy",
        "no recipe column: all rows are one recipe, 'recipe'",
    )


def test_without_a_recipe_column_the_file_names_the_recipe(write):
    runs = read_runs(write("step,reward\n1,0.5\n", "dapo.csv"))
    assert (runs.recipes, runs.runs_of("dapo")) == (["dapo"], ["0"])
    assert runs.notes[-1] == "no recipe column: all rows are one recipe, 'dapo'"
    assert runs.table["n_eval"].isna().all()


def test_a_named_column_is_not_guessed_again():
    runs = read_runs(frame(run=["x", "y"]).drop(columns="recipe"), recipe="run")
    assert runs.recipes == ["x", "y"]
    assert runs.runs_of("x") == ["0"]


@pytest.mark.parametrize(
    ("columns", "asked", "said"),
    [
        (
            ["step", "gpu_hours", "reward"],
            {},
            "DataFrame has 2 columns that could be the compute: step, gpu_hours;"
            ' name one with compute="step" (command line: --compute step).',
        ),
        (
            ["step", "reward", "n_eval", "n_samples"],
            {},
            "DataFrame has 2 columns that could be the n_eval: n_eval, n_samples;"
            ' name one with n_eval="n_eval" (command line: --n-eval n_eval).',
        ),
        (
            ["x", "y"],
            {"compute": "x"},
            "DataFrame has no column with an obvious name for the reward, such as pass_rate;"
            ' name one with reward="..." (command line: --reward ...); it has: x, y.',
        ),
        (
            ["gpu_hours", "reward"],
            {"compute": "GPU-hours"},
            "DataFrame has no column 'GPU-hours' (did you mean 'gpu_hours'?); it has: gpu_hours, reward.",
        ),
        (
            [f"c{i}" for i in range(15)],
            {"compute": "zzz"},
            "DataFrame has no column 'zzz'; it has: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 and 3 more.",
        ),
        (
            ["step", "reward"],
            {"compute": "step", "n_eval": "step"},
            "DataFrame: column 'step' cannot be both compute and n_eval; name two columns.",
        ),
        (
            ["step", "reward", "reward"],
            {"reward": "reward"},
            "DataFrame has 2 columns 'reward'; rename all but one.",
        ),
    ],
)
def test_columns_refused(columns, asked, said):
    assert sentence(read_runs, pd.DataFrame([[1.0] * len(columns)], columns=columns), **asked) == said


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("runs.csv", "", "runs.csv has no rows; give at least one evaluation."),
        ("runs.csv", "step,reward\n", "runs.csv has no rows; give at least one evaluation."),
        ("runs.jsonl", "\n", "runs.jsonl has no rows; give at least one evaluation."),
        (
            "runs.ods",
            "",
            "runs.ods does not end in one of .csv, .tsv, .txt, .jsonl, .ndjson, .parquet, .xlsx; convert or rename it; "
            "logs of trainers and trackers are read by read_log.",
        ),
        (
            "runs.csv",
            "step,reward\n1,0.5\n2,0.5,7\n",
            "runs.csv cannot be read (Expected 2 fields in line 3, saw 3); check or export it again.",
        ),
        (
            "runs.csv",
            "step,reward\n1,0.5,7\n2,0.5,7\n",
            "runs.csv has rows with more cells than its first line, 'step,reward'; give every column a name there,"
            " remove separators at the end of lines, and lines above the names.",
        ),
        ("runs.csv", b"step,reward\n1,\xff\n", "runs.csv is not UTF-8 text; save it as UTF-8."),
        ("runs.jsonl", b'{"a": "\xff"}', "runs.jsonl is not UTF-8 text; save it as UTF-8."),
        (
            "runs.jsonl",
            '{"step": 1, "reward": 0.5}\n\n{"step": 2\n',
            "runs.jsonl, row 3: not valid JSON (Expecting ',' delimiter at character 11);"
            " write one JSON object on each line.",
        ),
        (
            "runs.jsonl",
            "[1, 2]\n",
            "runs.jsonl, row 1: not a JSON object; write one JSON object on each line.",
        ),
    ],
)
def test_files_refused(write, name, content, said):
    assert sentence(read_runs, write(content, name)) == said


def test_other_sources_refused(tmp_path, write):
    assert sentence(read_runs, tmp_path / "gone.csv") == ("there is no file gone.csv; check its folder and spelling.")
    assert sentence(read_runs, [1, 2]) == "read_runs takes a file or a pandas DataFrame, not list."
    assert sentence(read_runs, pd.DataFrame()) == "DataFrame has no rows; give at least one evaluation."
    broken = write("no parquet", "runs.parquet")
    assert sentence(read_runs, broken).startswith("runs.parquet cannot be read (")


# ---------------------------------------------------------------- cells


NO_BOUNDS = "; None (command line: -inf inf) is for a reward without natural bounds, such as a return."


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ["a,1,0.5", ",2,0.5", " ,3,0.5"],
            "runs.csv, row 2, column 'method': the recipe is missing (and 1 more row to correct); name the"
            " recipe or leave the row out.",
        ),
        (
            ["a,1,0.5", "nan,2,0.5"],
            "runs.csv, row 2, column 'method': the recipe is missing; name the recipe or leave the row out.",
        ),
        (
            ["a,1,0.5", "a,2,n.a."],
            "runs.csv, row 2, column 'score' (recipe 'a'): the reward is the text 'n.a.', not a number;"
            " correct the cell or leave the row out.",
        ),
        (
            ["a,1,-", "a,2,0.5", "a,3,", "a,4,x"],
            "runs.csv, row 1, column 'score' (recipe 'a'): the reward is the text '-', not a number"
            " (and 1 more row to correct); correct the cell or leave the row out.",
        ),
        (
            ["a,1,0.5", "a," + 50 * "x" + ",0.5"],
            "runs.csv, row 2, column 'hours' (recipe 'a'): the compute is the text"
            f" '{37 * 'x'}...', not a number; correct the cell or leave the row out.",
        ),
        (
            ["a,1,0.5", "a,NaN,0.5"],
            "runs.csv, row 2, column 'hours' (recipe 'a'): the compute is NaN; correct the cell or leave the row out.",
        ),
        (
            ["a,1,0.5", "a,2,-inf"],
            "runs.csv, row 2, column 'score' (recipe 'a'): the reward is infinite;"
            " correct the cell or leave the row out.",
        ),
        (
            ["a,1,0.5", "a,-5,0.5", "b,-6,0.5", "b,-7,0.5"],
            "runs.csv, row 2, column 'hours' (recipe 'a'): the compute -5 is below zero (and 2 more rows to"
            " correct); correct the cell or leave the row out.",
        ),
        (
            ["a,1,0.5", "a,2,45.2"],
            "runs.csv, row 2, column 'score' (recipe 'a'): the reward 45.2 is outside the bounds 0 to 1;"
            " for percent set reward_bounds=(0, 100) (command line: --reward-bounds 0 100).",
        ),
        (
            ["a,1,-0.5", "a,2,200"],
            "runs.csv, row 1, column 'score' (recipe 'a'): the reward -0.5 is outside the bounds 0 to 1"
            " (and 1 more row to correct); set the bounds with reward_bounds=(low, high) (command line:"
            " --reward-bounds LOW HIGH)" + NO_BOUNDS,
        ),
        (
            ["a,1,0.5", "a,2,200"],
            "runs.csv, row 2, column 'score' (recipe 'a'): the reward 200 is outside the bounds 0 to 1; set"
            " the bounds with reward_bounds=(low, high) (command line: --reward-bounds LOW HIGH)" + NO_BOUNDS,
        ),
        (
            ["a,1,-0.5", "a,2,0.5"],
            "runs.csv, row 1, column 'score' (recipe 'a'): the reward -0.5 is outside the bounds 0 to 1; set"
            " the bounds with reward_bounds=(low, high) (command line: --reward-bounds LOW HIGH)" + NO_BOUNDS,
        ),
        (
            ["ScaleRL,1,0.5", "b,2,0.5", "scalerl,3,0.5"],
            "runs.csv: the recipe names 'ScaleRL' (row 1) and 'scalerl' (row 3) differ only in letter case or"
            " surrounding blanks; spell them alike, or make them clearly different.",
        ),
        (
            ["a,1,0.5", "a ,2,0.5"],
            "runs.csv: the recipe names 'a' (row 1) and 'a ' (row 2) differ only in letter case or"
            " surrounding blanks; spell them alike, or make them clearly different.",
        ),
    ],
)
def test_cells_refused(write, rows, said):
    path = write("\n".join(["method,hours,score", *rows]))
    assert sentence(read_runs, path) == said


def test_rows_of_json_lines_are_lines(write):
    path = write('{"step": 1, "reward": 0.5}\n\n{"step": 2, "reward": "x"}\n', "runs.jsonl")
    assert sentence(read_runs, path) == (
        "runs.jsonl, row 3, column 'reward' (recipe 'runs'): the reward is the text 'x', not a number;"
        " correct the cell or leave the row out."
    )


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (np.inf, "infinite"),
        (pd.Timestamp("2024-01-01"), "the text '2024-01-01 00:00:00', not a number"),
        ([0.5], "the text '[0.5]', not a number"),
    ],
)
def test_cells_of_a_frame_refused(cell, said):
    column = pd.Series([0.5, cell], dtype=object)
    assert sentence(read_runs, frame(reward=column)) == (
        f"DataFrame, row 2, column 'reward' (recipe 'a'): the reward is {said}; correct the cell or leave the row out."
    )


def test_dates_are_not_numbers():
    dates = pd.to_datetime(["2024-01-01", "2024-01-02"])
    assert "the text '2024-01-01 00:00:00', not a number" in sentence(read_runs, frame(compute=dates))


def test_missing_run_name():
    assert sentence(read_runs, frame(seed=[1, None])) == (
        "DataFrame, row 2, column 'seed' (recipe 'a'): the run is missing; name the run or leave the row out."
    )


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("n/a", "is the text 'n/a', not a number"),
        ("0", "0 is not a positive number"),
        ("-3", "-3 is not a positive number"),
        ("inf", "inf is not a positive number"),
    ],
)
def test_n_eval_refused(cell, said):
    assert sentence(read_runs, frame(n_eval=["", cell])) == (
        f"DataFrame, row 2, column 'n_eval' (recipe 'a'): the n_eval {said}; correct the cell, or leave it"
        " blank where the number is unknown."
    )


@pytest.mark.parametrize("none", [None, (-np.inf, np.inf)])
def test_reward_without_bounds(none):
    runs = read_runs(frame(reward=[-300.0, 1200.0], n_eval=[5, 5]), reward_bounds=none)
    low, high = runs.reward_bounds
    assert low < -1e6
    assert high > 1e6
    assert runs.table["n_eval"].isna().all()
    assert "column 'n_eval' is not used, since the reward is not a pass rate" in runs.notes


def test_n_eval_of_a_return_is_refused():
    rows = frame(reward=[-300.0, 1200.0], n_eval=[5, 5])
    assert sentence(read_runs, rows, n_eval="n_eval", reward_bounds=(-1000, 2000)) == (
        "DataFrame, column 'n_eval': n_eval belongs to pass rates, and this reward has no natural bounds; leave n_eval "
        "out."
    )


def test_n_eval_may_be_unknown():
    assert read_runs(frame(n_eval=["", "NaN"])).table["n_eval"].isna().all()
    assert read_runs(frame(n_eval=[None, 5])).table["n_eval"].tolist()[1] == 5


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, float("inf")), (float("-inf"), 1), (0,), "ab"])
def test_bounds_refused(bounds):
    assert sentence(read_runs, frame(), reward_bounds=bounds) == (
        f"reward_bounds must be two finite numbers, low below high, not {bounds!r}."
    )


# ---------------------------------------------------------------- duplicates


def test_duplicates_refused():
    twice = frame(recipe=["a"] * 4, compute=[1, 2, 2, 2], reward=[0.1, 0.2, 0.3, 0.4])
    assert sentence(read_runs, twice) == (
        "DataFrame, rows 2 and 3: run '0' of recipe 'a' is evaluated twice at compute 2 (and 1 more row like"
        ' it); average the rows, or pass duplicates="mean" (command line: --duplicates mean), or name the'
        ' column that tells runs apart with run="..." (command line: --run ...).'
    )
    once = frame(compute=[0, 0], seed=[1, 1])
    assert sentence(read_runs, once) == (
        "DataFrame, rows 1 and 2: run '1' of recipe 'a' is evaluated twice at compute 0;"
        ' average the rows, or pass duplicates="mean" (command line: --duplicates mean).'
    )
    assert sentence(read_runs, once, duplicates="sum") == "duplicates must be 'error' or 'mean', not 'sum'."


def test_the_same_compute_in_two_runs_or_recipes_is_no_duplicate():
    assert len(read_runs(frame(compute=[1, 1], seed=[1, 2]))) == 2
    assert len(read_runs(frame(compute=[1, 1], recipe=["a", "b"]))) == 2


def test_duplicates_averaged():
    rows = [("a", 2, 0.2, 100), ("a", 1, 0.1, 7), ("a", 2, 0.5, 300), ("b", 1, 0.2, 100), ("b", 1, 0.4, None)]
    mine = pd.DataFrame(rows, columns=["recipe", "compute", "reward", "n_eval"])
    runs = read_runs(mine, duplicates="mean")
    np.testing.assert_allclose(runs.table["reward"], [0.1, (0.2 + 3 * 0.5) / 4, 0.3])
    np.testing.assert_array_equal(runs.table["n_eval"], [7, 400, np.nan])
    assert runs.notes[-1] == "duplicates: averaged 4 rows into 2 evaluations"
    assert read_runs(frame(), duplicates="mean").notes == read_runs(frame()).notes


# ---------------------------------------------------------------- keeping a part


def test_keep_takes_a_mask_and_says_why(good):
    late = good.table["compute"] > 10
    kept = good.keep(late, "kept what came late")
    assert (kept.table["compute"] > 10).all()
    assert len(kept) == late.sum() < len(good)
    assert kept.notes == (*good.notes, "kept what came late")
    pd.testing.assert_index_equal(kept.table.index, pd.RangeIndex(len(kept)))


def test_select_and_drop(good):
    assert good.select("a").recipes == ["a"]
    assert good.select("a", "b").recipes == ["b", "a"]
    assert good.drop("b").recipes == ["a"]
    pd.testing.assert_index_equal(good.select("a").table.index, pd.RangeIndex(4))
    assert (good.drop("b").source, good.drop("b").notes) == (good.source, good.notes)


@pytest.mark.parametrize(
    ("verb", "names", "said"),
    [
        ("select", ["A"], "runs.csv has no recipe 'A' (did you mean 'a'?); it has: b, a."),
        ("drop", ["ScaleRL"], "runs.csv has no recipe 'ScaleRL'; it has: b, a."),
        ("select", [], "select needs the name of a recipe; runs.csv has: b, a."),
        ("drop", ["a", "a"], "drop: recipe 'a' is named twice; name it once."),
        ("drop", ["a", "b"], "drop: these are all the recipes of runs.csv; keep at least one."),
        ("runs_of", ["c"], "runs.csv has no recipe 'c'; it has: b, a."),
    ],
)
def test_names_refused(good, verb, names, said):
    assert sentence(getattr(good, verb), *names) == said


def test_until_keeps_the_value_itself_and_step_0(good):
    cut = good.until(50)
    assert cut.table["compute"].tolist() == [50, 10, 20, 40]
    assert cut.notes[-2:] == (
        "until: left out 2 evaluations with gpu_hours > 50",
        "until: left out 1 run whose evaluations above 0 all have gpu_hours > 50: run '1' of recipe 'b'",
    )
    assert read_runs(frame(compute=[0, 5, 9], reward=0.5, recipe="a")).until(5).table["compute"].tolist() == [0, 5]
    assert good.until(100) is good


def test_burn_in_keeps_the_value_itself_and_step_0(good):
    cut = good.burn_in(40)
    assert cut.table["compute"].tolist() == [0, 100, 50, 40, 80]
    assert cut.notes[-1] == "burn_in: left out 2 evaluations with 0 < gpu_hours < 40"
    assert good.burn_in(10) is good
    assert [note.split(":")[0] for note in cut.until(50).notes] == ["columns guessed", "burn_in", "until", "until"]


@pytest.mark.parametrize(
    ("verb", "value", "said"),
    [
        ("until", 0, "until needs a finite compute above 0, not 0."),
        ("burn_in", float("nan"), "burn_in needs a finite compute above 0, not nan."),
        ("until", float("inf"), "until needs a finite compute above 0, not inf."),
        ("until", "50", "until needs a finite compute above 0, not '50'."),
        (
            "until",
            20,
            "until: recipe 'b' would lose all its evaluations, which lie at gpu_hours 50 to 100; choose"
            " another value, or leave the recipe out with runs.drop('b') (command line: --drop 'b').",
        ),
        (
            "burn_in",
            1000,
            "burn_in: recipe 'b' (and 1 more) would lose all its evaluations, which lie at gpu_hours 50 to"
            " 100; choose another value, or leave the recipe out with runs.drop('b') (command line:"
            " --drop 'b').",
        ),
    ],
)
def test_cuts_refused(good, verb, value, said):
    assert sentence(getattr(good, verb), value) == said


def test_check_enough(good):
    assert sentence(good.check_enough) == (
        "runs.csv: run '1' of recipe 'b', the longest of 2, has 1 distinct value of gpu_hours above 0 and a fit"
        " needs 4; log more evaluations, or leave the recipe out with runs.drop('b') (command line: --drop 'b')."
    )
    good.drop("b").check_enough()
    good.check_enough(minimum=1)
    only_start = read_runs(frame(compute=[0, 0], seed=[1, 2]))
    assert "has 0 distinct values" in sentence(only_start.check_enough, 1)
    assert isinstance(only_start, Runs)
    assert "none above 0" in repr(only_start)


def test_rewards_slightly_outside_the_bounds_are_set_to_them_and_said() -> None:
    table = pd.DataFrame({"step": [10, 20, 40, 80], "reward": [-0.004, 0.02, 0.11, 1.0000001]})
    runs = read_runs(table)
    assert runs.table["reward"].tolist() == [0.0, 0.02, 0.11, 1.0]
    assert "2 values of reward slightly outside the bounds 0 to 1, such as -0.004: set to the bound" in runs.notes
    with pytest.raises(DataError, match=r"the reward -0.02 is outside the bounds 0 to 1"):
        read_runs(table.assign(reward=[-0.02, 0.02, 0.11, 1.0000001]))
    percent = read_runs(table.assign(reward=[12.0, 30.0, 60.0, 100.4]), reward_bounds=(0, 100))
    assert percent.table["reward"].tolist() == [12.0, 30.0, 60.0, 100.0]
