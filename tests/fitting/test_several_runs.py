"""Several runs of a recipe: listed twice, in different units, from different starts, too short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from effort import effort
from rlceiling.errors import DataError
from rlceiling.runs import Run, Runs, load_dataset, read_runs

PODS = Path(__file__).parents[3] / "shared" / "data"
HOURS = (1.0, 2.0, 4.0, 8.0, 16.0)
RISE = (0.3, 0.4, 0.5, 0.55, 0.6)


def rows(recipe="a", run="1", compute=HOURS, reward=RISE, start=None, n_eval=np.nan):
    """Evaluations of one run; `start` is its reward at compute 0."""
    if start is not None:
        compute, reward = (0.0, *compute), (start, *np.broadcast_to(reward, len(compute)))
    return pd.DataFrame({"recipe": recipe, "run": run, "gpu_hours": compute, "reward": reward, "n_eval": n_eval})


def other(shift=0.01, **columns):
    """Another run, whose rewards above 0 are a little higher."""
    return rows(reward=tuple(np.add(RISE, shift)), **columns)


def read(*tables, **options) -> Runs:
    named = {"compute": "gpu_hours", "reward": "reward", "recipe": "recipe", "run": "run", "n_eval": "n_eval"}
    return read_runs(pd.concat(tables), **named, **options)


def sentence(call, *args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# ---------------------------------------------------------------- one run listed twice


@pytest.mark.parametrize("second", [("b", "1"), ("a", "2"), ("b", "7")])
def test_a_run_listed_twice_is_refused(second):
    recipe, run = second
    assert sentence(read, rows(), rows(recipe, run)) == (
        f"DataFrame: run '1' of recipe 'a' and run {run!r} of recipe {recipe!r} hold the same 5 evaluations with"
        " gpu_hours above 0; that is one run counted twice, so leave the rows of one of them out."
    )


def test_neither_the_order_of_rows_nor_step_0_nor_n_eval_hides_it():
    again = rows("b", start=0.1, n_eval=500.0)[::-1]
    assert "run '1' of recipe 'a' and run '1' of recipe 'b' hold the same 5" in sentence(read, rows(start=0.2), again)
    assert "hold the same 5" in sentence(read, rows(reward=(0.0, *RISE[1:])), rows("b", reward=(-0.0, *RISE[1:])))


def test_the_other_runs_listed_again_are_counted():
    said = sentence(read, rows(), other(run="2"), rows("b"), other(recipe="b", run="2"), rows("c"))
    assert "run '1' of recipe 'a' and run '1' of recipe 'b' hold" in said
    assert "above 0 (and 2 more runs listed again); that" in said


@pytest.mark.parametrize(
    "second",
    [
        pd.concat([other(recipe="b"), other(0.02, recipe="b", run="2")]),  # seeds have the same names everywhere
        other(recipe="b", start=0.2),  # step 0 is shared
        rows("b", reward=(*RISE[:4], 0.6001)),
        rows("b", compute=(*HOURS[:4], 17.0)),
        rows("b", HOURS[:4], HOURS[:4], RISE[:4]),  # the beginning of the other run
    ],
)
def test_runs_that_differ_are_not_one(second):
    assert read(rows(start=0.2), second).notes == ()


def test_runs_too_short_or_too_flat_to_tell_are_not_one():
    assert read(*(rows(run=run, compute=HOURS[:3], reward=RISE[:3]) for run in "12")).notes == ()
    assert read(*(rows(run=run, reward=0.0) for run in "12")).notes == ()
    assert "hold the same 4" in sentence(read, *(rows(run=run, compute=HOURS[:4], reward=RISE[:4]) for run in "12"))


def many_runs(runs: int) -> pd.DataFrame:
    """Ten runs of each recipe."""
    length = 6
    number = np.repeat(np.arange(runs), length)
    columns = {
        "recipe": number // 10,
        "run": number % 10,
        "gpu_hours": np.tile(np.arange(length), runs),
        "reward": np.random.default_rng(0).uniform(0.4, 0.41, runs * length),
        "n_eval": 1000,
    }
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def ten_thousand() -> pd.DataFrame:
    return many_runs(10_000)


def prepared(table: pd.DataFrame) -> list[tuple[str, list[Run]]]:
    """What is done with evaluations before they are fitted."""
    runs = read(table)
    runs.check_enough()
    runs.until(3)
    return list(runs.iter_recipes())


def is_proportional(task: Callable[[int], object]) -> bool:
    """Whether a task of twice as many runs is at most twice the work, and not four times."""
    task(100)  # imports what it needs
    some, more = (effort(lambda runs=runs: task(runs)) for runs in (300, 600))
    return more < 2.1 * some


def test_work_is_proportional_to_the_number_of_runs():
    assert is_proportional(lambda runs: prepared(many_runs(runs)))


def test_work_check_detects_table_search_per_recipe():
    """Negative control."""

    def searched(number: int) -> None:
        runs = read(many_runs(number))
        for recipe in runs.recipes:
            runs.runs_of(recipe)

    assert not is_proportional(searched)


def test_ten_thousand_runs_are_checked(ten_thousand):
    runs = read(ten_thousand)
    recipes = prepared(ten_thousand)
    assert (len(recipes), {len(own) for _, own in recipes}, runs.notes) == (1000, {10}, ())
    last = ten_thousand.iloc[-6:].assign(recipe="again")
    assert "run '9' of recipe '999' and run '9' of recipe 'again'" in sentence(read, ten_thousand, last)


# ---------------------------------------------------------------- different units of compute


def scaled(factor, **columns):
    return other(compute=tuple(factor * np.array(HOURS)), **columns)


def test_runs_that_do_not_overlap_are_noted():
    runs = read(rows(), scaled(3600, run="2"), scaled(60, run="3", shift=0.02), other(0.03, recipe="b"))
    assert runs.notes == (
        "compute: the runs of recipe 'a' do not overlap in gpu_hours, 1 to 16 in run '1' and 3,600 to 57,600 in run"
        " '2'; check that all count in one unit and from the start of training",
    )


def test_runs_that_overlap_but_end_far_apart_are_noted():
    long = tuple(np.geomspace(10, 1700, 5))
    runs = read(rows("0"), other(0.02, recipe="0", run="2"), rows("z", "1", long), other(recipe="z", run="2"))
    assert runs.notes == (
        "compute: the runs of recipe 'z' end more than a factor of 100 apart in gpu_hours, 1 to 16 in run '2' and 10"
        " to 1,700 in run '1'; check that all count in one unit and from the start of training",
    )
    assert (
        "factor of 100 apart in gpu_hours, 3 in run '2' and 1 to 301"
        in (read(rows(compute=(1.0, 20.0, 90.0, 100.0, 301.0)), rows(run="2", compute=[3.0], reward=[0.1])).notes[0])
    )


@pytest.mark.parametrize(
    "second",
    [
        scaled(16, run="2"),  # 16 to 256: they touch
        other(run="2", compute=(*HOURS[:4], 1600.0)),  # exactly 100 times as long
        rows(run="2", compute=[200.0], reward=[0.7]),  # one evaluation is no range
        rows(run="2", compute=(1.0, 1.5), reward=(0.2, 0.3)),  # unequal lengths
        scaled(3600, recipe="b"),  # another recipe may have another unit
    ],
)
def test_runs_of_about_the_same_compute_are_not_noted(second):
    assert read(rows(), second).notes == ()


def test_every_recipe_with_mixed_units_has_its_note():
    tables = []
    for i, name in enumerate("bca"):
        tables += [other(i / 100, recipe=name), scaled(3600, recipe=name, run="2", shift=0.2 + i / 100)]
    assert [note.split("'")[1] for note in read(*tables).notes] == ["b", "c", "a"]


# ---------------------------------------------------------------- different starts


def starts(*logged, **options) -> tuple[str, ...]:
    """Notes on runs of one recipe that log these rewards and sizes at step 0."""
    low, high = options.get("reward_bounds", (0, 1))
    tables = []
    for i, (start, n_eval) in enumerate(logged):
        table = other(i / 1000, run=str(i), start=(start - low) / (high - low), n_eval=n_eval)
        tables.append(table.assign(reward=low + (high - low) * table["reward"]))
    return read(*tables, **options).notes


def test_starts_further_apart_than_chance_are_noted():
    # Pooled 0.62: standard error sqrt(0.62 * 0.38 * 2 / 1000) = 0.0217, times 4 = 0.0868.
    (note,) = starts((0.62, 1000), (0.575, 1000), (0.665, 1000))
    assert note == (
        "step 0: recipe 'a' starts at reward 0.575 in run '1' and at 0.665 in run '2', too far apart for one model;"
        " check that its runs start from the same model and are evaluated alike, or name them as two recipes"
    )
    assert starts((0.62, 1000), (0.577, 1000), (0.663, 1000)) == ()


@pytest.mark.parametrize("sizes", [(np.nan, np.nan), (1000, np.nan), (np.nan, 1e6)])
def test_starts_of_unknown_size_may_differ_by_a_fiftieth_of_the_range(sizes):
    n, m = sizes
    assert starts((0.3, n), (0.319, m)) == ()
    assert "starts at reward 0.3 in run '0' and at 0.321 in run '1'" in starts((0.3, n), (0.321, m))[0]
    assert starts((30, n), (31.9, m), reward_bounds=(0, 100)) == ()
    assert len(starts((30, n), (32.1, m), reward_bounds=(0, 100))) == 1
    assert starts((-0.3, n), (-0.262, m), reward_bounds=(-1, 1)) == ()
    assert len(starts((-0.3, n), (-0.258, m), reward_bounds=(-1, 1))) == 1


def test_starts_at_the_bounds():
    assert starts((0, 10), (0, 10_000)) == starts((1, 10), (1, 10_000)) == ()
    assert starts((0, 1), (1, 1)) == ()  # one answer each
    assert len(starts((0, 100), (1, 100))) == 1


def test_consistent_or_missing_starts_give_no_note():
    assert starts(*[(0.6, 1000)] * 5) == starts(*[(0.6, np.nan)] * 5) == starts((0.6, 1000), (0.6, 50)) == ()
    assert read(rows(start=0.1), other(run="2"), other(0.02, run="3", start=0.1)).notes == ()
    assert read(rows(start=0.1), other(recipe="b", start=0.5)).notes == ()


def test_every_recipe_with_two_starts_has_its_note():
    tables = [rows("b", start=0.1), other(recipe="b", run="2", start=0.2), other(0.02, recipe="c", start=0.1)]
    tables += [other(0.03, recipe="a", start=0.1), other(0.04, recipe="a", run="2", start=0.2)]
    assert [note.split("'")[1] for note in read(*tables).notes] == ["b", "a"]


# ---------------------------------------------------------------- enough, and cuts


def test_one_long_run_is_enough_for_a_recipe():
    short = rows(run="2", compute=[3.0], reward=[0.4], start=0.2)
    read(rows(), short).check_enough()
    read(short, rows()).check_enough()
    assert sentence(read(rows(), short).check_enough, 6) == (
        "DataFrame: run '1' of recipe 'a', the longest of 2, has 5 distinct values of gpu_hours above 0 and a fit"
        " needs 6; log more evaluations, or leave the recipe out with runs.drop('a') (command line: --drop 'a')."
    )


def test_short_runs_do_not_add_up():
    three = [rows("b", run, HOURS[:3], RISE[:3]) for run in "12"]
    said = sentence(read(rows(), *three, other(recipe="c").head(2)).check_enough)
    assert said.startswith("DataFrame: run '1' of recipe 'b', the longest of 2, has 3 distinct values")
    assert "needs 4 (and 1 more recipe too short); log" in said


def test_a_run_with_only_step_0_is_named():
    stubs = [rows(run=run, compute=(), reward=(), start=0.2) for run in "23"]
    assert sentence(read(rows(), *stubs).check_enough) == (
        "DataFrame: run '2' of recipe 'a' has no evaluation with gpu_hours above 0 (and 1 more run like it); log more"
        " evaluations, or leave the run out with runs.drop('a/2') (command line: --drop 'a/2')."
    )
    read(rows(), *stubs).drop("a/2", "a/3").check_enough()


def early_and_late() -> Runs:
    early = rows(run="early", compute=(0.5, 1.0), reward=(0.3, 0.4), start=0.2)
    late = [rows(run=run, compute=(0.9, 10.0, 20.0), reward=(0.3, 0.5, 0.6), start=0.2) for run in ("x", "y")]
    stub = rows(run="stub", compute=(), reward=(), start=0.2)
    return read(early, *late, stub, other(recipe="b", run="early", start=0.2))


def test_a_run_that_a_cut_empties_is_left_out_and_named():
    runs = early_and_late()
    cut = runs.burn_in(2)
    assert cut.runs_of("a") == ["x", "y", "stub"]  # the stub was none of its doing
    assert cut.runs_of("b") == ["early"]
    assert cut.table["compute"].tolist() == [0, 10, 20, 0, 10, 20, 0, 0, 2, 4, 8, 16]
    assert cut.notes == (
        "burn_in: left out 5 evaluations with 0 < gpu_hours < 2",
        "burn_in: left out 1 run whose evaluations above 0 all have 0 < gpu_hours < 2: run 'early' of recipe 'a'",
    )
    pd.testing.assert_index_equal(cut.table.index, pd.RangeIndex(len(cut)))


def test_until_names_every_run_it_empties():
    late = [rows(run=run, compute=(10.0, 20.0), reward=(0.5, 0.6)) for run in "23"]
    cut = read(rows(start=0.2), *late).until(9)
    assert cut.runs_of("a") == ["1"]
    assert cut.notes[-1] == (
        "until: left out 2 runs whose evaluations above 0 all have gpu_hours > 9: run '2' of recipe 'a', run '3' of"
        " recipe 'a'"
    )


def test_a_cut_that_empties_no_run_or_a_whole_recipe():
    runs = early_and_late()
    assert runs.until(16).notes == ("until: left out 2 evaluations with gpu_hours > 16",)
    assert runs.until(16).runs_of("a") == ["early", "x", "y", "stub"]
    assert "until: recipe 'a' (and 1 more) would lose all its evaluations" in sentence(runs.until, 0.1)


# ---------------------------------------------------------------- names of seeds, and the runs one by one


@pytest.mark.parametrize(
    ("seeds", "names"),
    [
        ([1.0, 2.0], ["1", "2"]),
        (["1.0", "2.0"], ["1", "2"]),
        (["1.0", "1"], ["1.0", "1"]),
        ([0.5, 1.0], ["0.5", "1.0"]),
        ([1, 1.5], ["1.0", "1.5"]),
    ],
)
def test_seeds_read_as_floats(seeds, names, tmp_path):
    table = pd.concat([rows(run=seeds[0]), other(run=seeds[1])])
    assert read(table).runs_of("a") == names
    table.to_csv(tmp_path / "runs.csv", index=False)
    assert read_runs(tmp_path / "runs.csv").runs_of("a") == names


def test_a_seed_that_is_nan_is_refused(tmp_path):
    table = pd.concat([rows(run=1.0), other(run=np.nan)], ignore_index=True)
    said = "row 6, column 'run' (recipe 'a'): the run is missing (and 4 more rows to correct);"
    assert sentence(read, table).startswith(f"DataFrame, {said}")
    table.to_csv(tmp_path / "runs.csv", index=False, na_rep="nan")
    assert sentence(read_runs, tmp_path / "runs.csv").startswith(f"runs.csv, {said}")


def test_iter_recipes():
    runs = read(rows("b", "2", start=0.2), rows("a", "1", reward=RISE[::-1]), other(recipe="b", run="1"))
    found = list(runs.iter_recipes())
    assert [(recipe, [run.run for run in own]) for recipe, own in found] == [("b", ["2", "1"]), ("a", ["1"])]
    assert all(isinstance(run, Run) and type(run.run) is str for _, own in found for run in own)
    first = found[0][1][0]
    assert (first.recipe, first.start[0]) == ("b", 0.2)
    assert (first.compute.tolist(), first.reward.tolist()) == (list(HOURS), list(RISE))
    one_by_one = [(run.recipe, run.run, run.reward.tolist()) for run in runs.iter_runs()]
    assert one_by_one == [(run.recipe, run.run, run.reward.tolist()) for _, own in found for run in own]


# ---------------------------------------------------------------- one run named, kept or left out


def grid(**runs_of) -> Runs:
    """Recipes with runs of these names; underscores in the name of a recipe are slashes."""
    named = [(recipe.replace("_", "/"), run) for recipe, runs in runs_of.items() for run in runs]
    return read(*(other(i / 1000, recipe=recipe, run=run) for i, (recipe, run) in enumerate(named)))


def held(runs) -> dict[str, list[str]]:
    return {recipe: runs.runs_of(recipe) for recipe in runs.recipes}


@pytest.mark.parametrize(
    ("names", "selected", "said"),
    [
        (["b/1"], {"b": ["1"]}, "left out run '2' of recipe 'b', run '3' of recipe 'b'"),
        (["b/3", "a/1"], {"b": ["3"], "a": ["1"]}, "left out run '2' of recipe 'b', run '1' of recipe 'b'"),
        (["b/1", "b/2", "b/3"], {"b": ["2", "1", "3"]}, None),
        (["a", "b/2"], {"b": ["2"], "a": ["1"]}, "left out run '1' of recipe 'b', run '3' of recipe 'b'"),
        (["a"], {"a": ["1"]}, None),
    ],
)
def test_select_takes_runs_beside_recipes(names, selected, said):
    runs = grid(b=["2", "1", "3"], a=["1"])
    part = runs.select(*names)
    assert held(part) == selected
    assert part.notes == (() if said is None else (f"select: {said}",))
    pd.testing.assert_index_equal(part.table.index, pd.RangeIndex(len(part)))


@pytest.mark.parametrize(
    ("names", "left", "said"),
    [
        (["b/1"], {"b": ["2", "3"], "a": ["1"]}, "left out run '1' of recipe 'b'"),
        (["b/3", "b/2"], {"b": ["1"], "a": ["1"]}, "left out run '2' of recipe 'b', run '3' of recipe 'b'"),
        (["b/1", "b/2", "b/3"], {"a": ["1"]}, None),
        (["a", "b/2"], {"b": ["1", "3"]}, "left out run '2' of recipe 'b'"),
        (["a/1"], {"b": ["2", "1", "3"]}, None),
    ],
)
def test_drop_takes_runs_beside_recipes(names, left, said):
    runs = grid(b=["2", "1", "3"], a=["1"])
    part = runs.drop(*names)
    assert held(part) == left
    assert part.notes == (() if said is None else (f"drop: {said}",))
    assert held(runs) == {"b": ["2", "1", "3"], "a": ["1"]}
    assert len(part) == 5 * sum(map(len, left.values()))


def test_a_run_is_dropped_with_its_step_0():
    runs = read(rows(start=0.2), other(run="2", start=0.2))
    assert runs.drop("a/2").table["run"].unique().tolist() == ["1"]
    assert len(runs.drop("a/2")) == 6


def test_the_name_of_a_recipe_wins():
    runs = grid(a=["b", "c", "b/c"], a_b=["c", "d"])
    assert runs.find("a/b") == ("a/b", None)
    assert held(runs.drop("a/b")) == {"a": ["b", "c", "b/c"]}
    assert runs.find("a/c") == ("a", "c")
    # Then the longest recipe that has such a run.
    assert runs.find("a/b/c") == ("a/b", "c")
    assert runs.find("a/b/d") == ("a/b", "d")
    assert grid(a=["b/c"], a_b=["d"]).find("a/b/c") == ("a", "b/c")
    assert grid(a=["1"]).find("a") == ("a", None)


@pytest.mark.parametrize(
    ("verb", "names", "said"),
    [
        ("drop", ["b/4"], "recipe 'b' has no run '4'; it has: 2, 1, 13."),
        ("select", ["b/31"], "recipe 'b' has no run '31' (did you mean '1'?); it has: 2, 1, 13."),
        ("drop", ["c/1"], "DataFrame has no recipe 'c/1'; it has: b, long, a."),
        ("drop", ["logn/1"], "DataFrame has no recipe 'logn/1' (did you mean 'long'?); it has: b, long, a."),
        ("drop", ["b/"], "recipe 'b' has no run ''; it has: 2, 1, 13."),
        ("drop", ["b/1", "b/1"], "drop: run 'b/1' is named twice; name it once."),
        ("select", ["b/1", "b"], "select: recipe 'b' is named and a run of it too; name one of them."),
        ("drop", ["b", "b/1"], "drop: recipe 'b' is named and a run of it too; name one of them."),
        (
            "drop",
            ["a", "long", "b/1", "b/2", "b/13"],
            "drop: these are all the runs of DataFrame; keep at least one.",
        ),
        ("drop", ["a", "b", "long"], "drop: these are all the recipes of DataFrame; keep at least one."),
        ("find", ["b/4"], "recipe 'b' has no run '4'; it has: 2, 1, 13."),
    ],
)
def test_runs_refused(verb, names, said):
    assert sentence(getattr(grid(b=["2", "1", "13"], long=["1"], a=["1"]), verb), *names) == said


def test_work_is_proportional_to_the_number_of_names():
    known = {number: read(many_runs(number)) for number in (100, 300, 600)}
    assert is_proportional(lambda number: known[number].drop(*(f"{recipe}/0" for recipe in range(number // 10))))


def test_many_names_are_found(ten_thousand):
    runs = read(ten_thousand)
    left = runs.drop(*(f"{recipe}/0" for recipe in range(1000)))
    assert len(list(left.iter_runs())) == 9000
    (note,) = left.notes
    assert note.endswith("run '0' of recipe '11' and 988 more")


def test_inconsistency_note_is_removed_with_dropped_run():
    runs = read(rows(start=0.1), scaled(3600, run="2", start=0.1), other(0.02, run="3", start=0.5))
    assert [note.split(":")[0] for note in runs.notes] == ["compute", "step 0"]
    assert [note.split(":")[0] for note in runs.drop("a/2").notes] == ["step 0", "drop"]
    assert [note.split(":")[0] for note in runs.drop("a/3").notes] == ["compute", "drop"]
    assert runs.drop("a/2").drop("a/3").notes == (
        "drop: left out run '2' of recipe 'a'",
        "drop: left out run '3' of recipe 'a'",
    )
    # What stays odd is said with the numbers that are left.
    cut = runs.until(8 * 3600)
    assert "1 to 16 in run '1' and 3,600 to 28,800 in run '2'" in cut.notes[0]
    assert [note.split(":")[0] for note in cut.notes] == ["compute", "step 0", "until"]


# ---------------------------------------------------------------- real runs


@pytest.mark.parametrize(
    ("name", "compute", "sizes"),
    [("pods_l40s_gsm8k", "gpu_hours", (10, 100)), ("pods_multigpu", "wall_hours", (4, 20))],
)
def test_real_seeds_pass_without_a_note(name, compute, sizes):
    path = PODS / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not part of the repository")
    named = {"recipe": "recipe", "run": "seed", "n_eval": "n_eval"}
    runs = read_runs(path, compute=compute, reward="accuracy", **named)
    runs.check_enough()
    assert runs.notes == ()
    assert (len(runs.recipes), len(list(runs.iter_runs()))) == sizes


@pytest.mark.parametrize("split", ["train", "extended", "all"])
def test_bundled_runs_pass_without_a_note(split):
    assert all(note.startswith("split ") for note in load_dataset("scalerl", split).notes)
