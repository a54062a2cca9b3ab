"""The command line: what it prints, what it writes, and one sentence where it cannot go on."""

import inspect
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import handmade
import rlceiling as rl
from handmade import COMPUTE, made_recipe, made_run
from rlceiling.cli import app
from rlceiling.cli.options import number_of
from rlceiling.settings import RECIPE_SAMPLER, SIZE_SAMPLER
from rlceiling.text import number, probability

COMMANDS = [name for name in get_command(app).commands if name != "priors"]
"""All commands but the group of those of priors."""
THREE = ("--select", "ScaleRL", "--select", "Magistral", "--select", "ScaleRL-34k")


def run(*arguments, columns=None):
    environment = {"COLUMNS": None if columns is None else str(columns)}
    return CliRunner().invoke(app, [str(a) for a in arguments], env=environment)


def python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """What a fit of three bundled runs said, and where it was written."""
    folder = tmp_path_factory.mktemp("cli")
    result = run("fit", "scalerl", *THREE, "--out", folder / "fits", "--plot", folder / "curves.png")
    assert result.exit_code == 0, result.output
    return result, folder / "fits"


@pytest.fixture
def log(tmp_path):
    table = rl.load_dataset("scalerl").select("ScaleRL", "Magistral").table
    table["score"] = 100 * table["reward"]
    path = tmp_path / "log.csv"
    table[["recipe", "compute", "score"]].rename(columns={"compute": "hours"}).to_csv(path, index=False)
    return path


# fit ------------------------------------------------------------------------------------------------------------------


def test_fit_writes_posteriors_tables_and_plot(fitted):
    result, folder = fitted
    fits = rl.load_fits(folder)
    assert list(fits) == ["ScaleRL", "Magistral", "ScaleRL-34k"]
    summary = pd.read_csv(folder / "summary.csv", index_col="recipe").fillna({"reasons": ""})
    pd.testing.assert_frame_equal(summary, fits.summary(), check_dtype=False)
    chances = pd.read_csv(folder / "chances.csv", index_col="recipe")
    pd.testing.assert_frame_equal(chances, fits.chances(), check_dtype=False)
    assert (folder.parent / "curves.png").read_bytes().startswith(b"\x89PNG")
    last = result.stdout.splitlines()[-1]
    assert last == (
        f"wrote {folder / 'summary.csv'}, {folder / 'chances.csv'}, 3 posteriors in {folder},"
        f" {folder.parent / 'curves.png'}"
    )


def test_fit_prints_a_table(fitted):
    result, folder = fitted
    assert "Runs: 3 recipes, 3 runs" in result.stderr
    fit = rl.load_fits(folder)["ScaleRL"]
    lower, median, upper = fit.interval("A")
    header, first, _, third, *_ = result.stdout.splitlines()
    assert header.split() == ["recipe", "A", "B", "C_mid", "(gpu_hours)", "verdict", "advice"]
    assert first.startswith(f"ScaleRL      {median:.3f} [{lower:.3f}, {upper:.3f}]  ")
    assert first.endswith("IDENTIFIED")
    lower, _, upper = rl.load_fits(folder)["ScaleRL-34k"].interval("A")
    assert third.startswith(f"ScaleRL-34k  ({lower:.3f} to {upper:.3f})  ")
    assert third.split("PRE_INFLECTION  ")[1].startswith("run to about ")
    assert "3 recipes: 2 IDENTIFIED, 1 PRE_INFLECTION; medians and 90% intervals" in result.stdout


def test_a_file_in_other_units(log, tmp_path):
    out = tmp_path / "deep" / "fits"
    columns = ("--compute", "hours", "--reward", "score", "--reward-bounds", "0", "100", "--burn-in", "1500")
    result = run("fit", log, *columns, "--drop", "Magistral", "--until", "7000", "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    fits = rl.load_fits(out)
    assert list(fits) == ["ScaleRL"]
    (only,) = fits["ScaleRL"].runs
    compute = only.compute
    assert compute.min() >= 1500
    assert compute.max() <= 7000
    assert fits.units.bounds == (0.0, 100.0)
    assert (fits["ScaleRL"].settings.seed, fits["ScaleRL"].settings.chains) == (0, 4)
    assert "C_mid (hours)" in result.stdout


def test_sampling_options_are_passed_to_fit():
    options = ("--chains", "2", "--tune", "150", "--draws", "120", "--seed", "7", "--cores", "1", "--quiet")
    seen = {}

    def fake(runs, **settings):
        seen.update(settings)
        raise rl.DataError("enough.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlceiling.fitting.fit_recipes.fit", fake)
        result = run("fit", "scalerl", *options)
    assert (result.exit_code, result.stderr) == (2, "rlceiling: enough.\n")
    assert seen == {"chains": 2, "tune": 150, "draws": 120, "seed": 7, "cores": 1, "progress": False}


def test_seed_zero_is_passed_to_fit():
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "rlceiling.fitting.fit_recipes.fit", lambda runs, **settings: seen.update(settings) or rl.Fits([])
        )
        run("fit", "scalerl", "--seed", "0")
    assert seen == {"seed": 0, "progress": None}


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_tables_fit_terminal_width_without_truncation(fitted, columns, monkeypatch):
    from rlceiling.report import terminal

    _, folder = fitted
    fits = rl.load_fits(folder)
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (("chance", folder), ("forecast", folder, "--at", "16000", "--at", "100000")):
        out = run(*command, columns=columns).stdout
        assert "…" not in out
        assert max(map(len, out.splitlines()[:12])) <= columns
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(terminal.typer, "echo", lambda text="", **_: said.append(text))
        terminal.show_fits(fits)
    out = "\n".join(said)
    assert "…" not in out
    assert max(map(len, out.splitlines()[:-1])) <= columns
    for row in fits.summary().itertuples():
        assert row.Index in out
        assert f"{row.A_lower:.3f}" in out
        assert f"{row.A_upper:.3f}" in out
    words = " ".join(out.split())
    assert fits["ScaleRL-34k"].advice() in words
    assert words.count("IDENTIFIED") == 2 + 1
    if columns == 80:
        assert out.splitlines()[2].split()[:2] == ["IDENTIFIED", f"[{fits['ScaleRL'].interval('A')[0]:.3f},"]


# Interruption ---------------------------------------------------------------------------------------------------------

INTERRUPT = f"""
import os, signal, sys, time, tqdm
class Bar(tqdm.tqdm):
    def update(self, n=1):
        os.kill(os.getpid(), signal.SIGINT)  # a real Ctrl-C, right after the first run
        return super().update(n)
tqdm.tqdm = Bar
sys.path.insert(0, {str(Path(handmade.__file__).parent)!r})
import rlceiling.fitting.driver
from handmade import made_fit
def fit_batch(_, batch):  # `fit` is interrupted with its sampler in test_fit
    time.sleep(0.2)
    return [made_fit([unit.runs[0] for unit in one.units], [0.6] * len(one.units)) for one in batch]
rlceiling.fitting.driver.Driver.fit = fit_batch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
from rlceiling.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_keeps_what_is_done(tmp_path):
    out = tmp_path / "fits"
    done = python(INTERRUPT, "fit", "scalerl", "--cores", 1, "--out", out)
    fits = rl.load_fits(out)
    assert 1 <= len(fits) < 23
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == (
        f"rlceiling: stopped after {len(fits)} of 23 recipes; what is done is in {out}"
    )
    assert "Traceback" not in done.stderr
    assert len(pd.read_csv(out / "summary.csv")) == len(fits)


# chance and forecast --------------------------------------------------------------------------------------------------


def test_chance_of_two(fitted):
    _, folder = fitted
    fits = rl.load_fits(folder)
    result = run("chance", folder, "ScaleRL", "Magistral", "--margin", "0.05")
    assert result.exit_code == 0
    told = fits.chance_higher("ScaleRL", "Magistral", margin=0.05)
    assert result.stdout == f"{told}\n{told.sentence()}\n"
    result = run("chance", folder, "ScaleRL", "Magistral", "--margin", "0.05", "--equal")
    told = fits.chance_equal("ScaleRL", "Magistral", 0.05)
    assert result.stdout == f"{told}\n{told.sentence()}\n"
    result = run("chance", folder, "ScaleRL", "ScaleRL-34k")
    assert result.exit_code == 0
    assert "inconclusive, ScaleRL-34k has a ceiling that the data do not fix (PRE_INFLECTION: " in result.stdout


def test_chance_and_best_at_budgets(fitted, tmp_path):
    _, folder = fitted
    fits = rl.load_fits(folder)
    result = run("chance", folder, "ScaleRL", "Magistral", "--at", "9000")
    assert result.stdout.splitlines()[0] == str(fits.chance_higher("ScaleRL", "Magistral", at=9000.0))
    everyone = run("chance", folder, "--at", "9000").stdout.splitlines()
    assert everyone[0] == "chance that the curve at 9,000 gpu_hours of the row is higher than that of the column"
    picture = tmp_path / "best.png"
    result = run("best", folder, "--at", "5000", "--at", "20000", "--plot", picture)
    lines, table = result.stdout.splitlines(), fits.best_at([5000.0, 20_000.0])
    shown = {line.split()[0]: line.split()[1:] for line in lines[3 : 3 + len(fits)]}
    for name, cells in table.items():
        assert shown[name][:2] == [probability(p) for p in cells]
    assert [line for line in lines if line.startswith("At 20,000 gpu_hours")]
    assert picture.stat().st_size > 10_000
    for bad in (("chance", folder, "--at", "-5"), ("best", folder, "--at", "0")):
        failed = run(*bad)
        assert failed.exit_code == 2
        assert "is not a positive compute" in failed.stderr


def test_gate(fitted):
    _, folder = fitted
    table = rl.load_fits(folder).gate(2000.0, 0.01, against="others").set_index("recipe")
    result = run("gate", folder, "--add", "2000", "--gain", "0.01", "--against", "others", columns=200)
    lines = result.stdout.splitlines()
    assert lines[0] == "2,000 more gpu_hours for a rise of 0.01; rise: median and 90% interval"
    for line in lines[3 : 3 + len(table)]:
        assert f" {table.loc[line.split()[0], 'decision']} " in line
        assert f"{table.loc[line.split()[0], 'gain']:+.3f}" in line
    assert run("gate", folder, "--add", "-1", "--gain", "0.01").stderr.startswith("rlceiling: gate: add=-1.0 is not")
    assert "no recipe 'x'" in run("gate", folder, "--add", "1", "--gain", "0.01", "--against", "x").stderr


def test_reach(fitted):
    _, folder = fitted
    fits = rl.load_fits(folder)
    table = fits.compute_to_reach(0.55)
    lines = run("reach", folder, "--target", "0.55", columns=160).stdout.splitlines()
    for line in lines[1 : 1 + len(table)]:
        row = table.loc[line.split()[0]]
        middle, low = ("never" if row[of] == float("inf") else number(row[of]) for of in ("gpu_hours", "lower"))
        assert (f" {middle} [{low}, " if row["supported"] else " ? ") in line
    assert f"gpu_hours at which the curve reaches {fits.units.show(0.55)}: median and 90% interval" in lines
    assert "is not inside the bounds" in run("reach", "scalerl", "--target", "1.5").stderr


@pytest.mark.parametrize(
    ("text", "value"), [("20k", 2e4), ("1.5M", 1.5e6), ("20,000", 2e4), ("2e22", 2e22), ("7", 7.0), ("3B", 3e9)]
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert number_of(text) == value


def test_a_word_is_not_taken_for_a_number(fitted):
    _, folder = fitted
    for word in ("soon", "1,5"):
        assert f"'{word}' is not a number; write 20000, 20k or 2e4" in run("best", folder, "--at", word).output


def test_fits_of_other_recipes_are_not_replaced_unasked(kept):
    before = sorted((path.name, path.read_bytes()) for path in kept.iterdir())
    refused = run("fit", "scalerl", "--select", "ScaleRL", "--out", kept)
    assert refused.exit_code == 2
    assert "which would be lost; name another directory, or give --overwrite" in refused.stderr
    assert sorted((path.name, path.read_bytes()) for path in kept.iterdir()) == before


def test_chance_fits_only_what_is_asked():
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlceiling.fitting.fit_recipes.fit", lambda runs, **_: seen.extend(runs.recipes) or rl.Fits([]))
        run("chance", "scalerl", "MiniMax", "ScaleRL")
    assert seen == ["ScaleRL", "MiniMax"]


def test_all_chances(fitted):
    _, folder = fitted
    result = run("chance", folder)
    lines = result.stdout.splitlines()
    assert lines[0] == "chance that the ceiling of the row is higher than that of the column"
    assert [line.split() for line in lines[2:6]] == [
        ["recipe", "1", "2"],
        ["1", "ScaleRL", "-", lines[3].split()[-1]],
        ["2", "Magistral", lines[4].split()[2], "-"],
        ["3", "ScaleRL-34k", "?", "?"],
    ]
    table = rl.load_fits(folder).chances()
    assert float(lines[3].split()[-1].lstrip("<>")) == pytest.approx(table.loc["ScaleRL", "Magistral"], abs=0.006)
    assert float(lines[4].split()[2].lstrip("<>")) == pytest.approx(table.loc["Magistral", "ScaleRL"], abs=0.006)
    assert lines[-2] == "? inconclusive, and not ranked:"
    assert lines[-1].startswith("  ScaleRL-34k has a ceiling that the data do not fix (PRE_INFLECTION: run to about ")
    ranked = [line.split()[0] for line in lines[8:11]]
    assert ranked == list(rl.load_fits(folder).rank().index)


def test_forecast(fitted):
    _, folder = fitted
    result = run("forecast", folder, "--at", "16000", "--at", "1e5", "--prob", "0.5")
    lines = result.stdout.splitlines()
    table = rl.load_fits(folder).forecast([16000, 1e5], prob=0.5)
    assert len(lines) == 1 + len(table) + 2
    row = table.iloc[1]
    assert lines[2].split() == [
        *("ScaleRL", "100,000", f"{row['mean']:.3f}", f"[{row['lower']:.3f},", f"{row['upper']:.3f}]"),
        *(f"{row['new_mean']:.3f}", f"[{row['new_lower']:.3f},", f"{row['new_upper']:.3f}]", "IDENTIFIED"),
    ]
    assert lines[-1] == "pass_rate: the run that goes on: mean and 50% interval"


# Several runs of a recipe ---------------------------------------------------------------------------------------------

STRAYS = (0.60, 0.61, 0.605, 0.595, 0.80)


@pytest.fixture(scope="module")
def several():
    """Recipes with two runs, one run, and five of which the last strays."""
    made = {"twice": (0.60, 0.62), "once": (0.55,), "strays": STRAYS}
    return rl.Fits([made_recipe(name, ceilings) for name, ceilings in made.items()])


@pytest.fixture(scope="module")
def kept(several, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    several.save(folder)
    return folder


@pytest.fixture
def seeds(tmp_path):
    """A file with three runs of one recipe and one of another."""
    names = [("a", "1", 0.60), ("a", "2", 0.61), ("a", "3", 0.59), ("b", "1", 0.55)]
    runs = [made_run(recipe, run, ceiling) for recipe, run, ceiling in names]
    rows = [pd.DataFrame({"recipe": r.recipe, "seed": r.run, "hours": COMPUTE, "score": r.reward}) for r in runs]
    path = tmp_path / "seeds.csv"
    pd.concat(rows).to_csv(path, index=False)
    return path


COLUMNS = ("--compute", "hours", "--reward", "score", "--recipe", "recipe", "--run", "seed")


def runs_fitted(*arguments):
    """Recipes and runs that a command would fit."""
    seen = {}

    def fake(runs, **_):
        seen.update({recipe: [run.run for run in own] for recipe, own in runs.iter_recipes()})
        raise rl.DataError("enough.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlceiling.fitting.fit_recipes.fit", fake)
        result = run(*arguments, "--quiet")
    assert seen or result.exit_code == 2
    return seen or result.stderr


def shown(several, *arguments, columns=None):
    """What `fit` prints of these fits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlceiling.fitting.fit_recipes.fit", lambda runs, **_: several)
        result = run("fit", "scalerl", "--quiet", *arguments, columns=columns)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_of_recipes_says_how_many_runs_and_how_far_apart(several):
    header, twice, once, strays, *rest = shown(several).splitlines()
    assert header.split("  ")[:2] == ["recipe", "runs"]
    assert "  sd of A between runs  " in header
    lower, median, upper = several["twice"].interval("A")
    row = several.summary().loc["twice"]
    spread = f"{row['A_spread']:.3f} [{row['A_spread_lower']:.3f}, {row['A_spread_upper']:.3f}]"
    assert twice.startswith(f"twice   2     {median:.3f} [{lower:.3f}, {upper:.3f}]  ")
    assert twice.endswith(f"  {spread}  IDENTIFIED")
    assert once.split()[:2] == ["once", "1"]
    assert once.split()[-2:] == ["-", "IDENTIFIED"]  # of one run it would be the prior's
    assert strays.split()[:2] == ["strays", "5"]
    assert strays.endswith(several["strays"].advice())
    assert "3 recipes: 3 IDENTIFIED; medians" in "\n".join(rest)
    odd, *answer = [line for line in rest if line.startswith("strays: run 5 ")]
    assert odd == "strays: run 5 has its ceiling at 0.800, where its siblings have 0.595 to 0.610"
    assert answer == [f"{odd}."]
    assert "\n".join(several.answer()) in "\n".join(rest)


def test_table_has_no_runs_column_if_all_recipes_have_one_run(several):
    out = shown(rl.Fits([several["once"]]))
    assert out.splitlines()[0].split() == ["recipe", "A", "B", "C_mid", "(gpu_hours)", "verdict"]


def test_each_run_has_a_row_where_asked(several):
    assert "recipe  run  " not in shown(several)
    lines = shown(several, "--each-run").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("recipe  run  A "))
    rows = [line.split()[:2] for line in lines[start + 1 : start + 9]]
    assert rows == [["twice", "1"], ["twice", "2"], ["once", "1"], *(["strays", str(i)] for i in range(1, 6))]
    lower, median, upper = several["twice"].interval("A", run="2")
    assert lines[start + 2].startswith(f"twice   2    {median:.3f} [{lower:.3f}, {upper:.3f}]  ")
    assert lines[start + 2].endswith("IDENTIFIED")
    assert lines[start + 9] == ""
    assert lines[start + 10] == several.answer()[0]


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_tables_of_runs_fit_terminal_width_without_truncation(several, columns):
    unsure = made_recipe("unsure", (0.6, 0.61), verdict=rl.Verdict.PRE_INFLECTION)
    void = made_recipe("void", (0.6, 0.61), verdict=rl.Verdict.NOT_CONVERGED)
    fits = rl.Fits([*several.values(), unsure, void])
    out = shown(fits, "--each-run", columns=columns)
    assert "…" not in out
    tables = out.split("\n5 recipes: ")[0], out.split("recipe  ")[-1]
    assert max(len(line) for table in tables for line in table.splitlines() if "nothing was" not in line) <= columns
    for (recipe, name), row in fits.summary(of="runs").iterrows():
        if recipe != "void":
            assert f"{row['A_lower']:.3f}" in out, (recipe, name)
    for recipe, row in fits.summary().iterrows():
        for table in tables:
            assert recipe in table.split()
            assert row["verdict"] in table.split()
        if recipe != "void":
            assert f"{row['A_lower']:.3f}" in out
        if recipe in ("twice", "strays", "unsure"):
            assert f"{row['A_spread_upper']:.3f}]" in out
    assert "sd of A between runs" in out
    assert " ".join(fits["strays"].advice().split()) in " ".join(out.split())


def test_chance_of_runs(kept, several):
    result = run("chance", kept, "twice/1", "twice/2", "--margin", "0.005")
    assert result.stdout.splitlines()[0] == str(several.chance_higher("twice/1", "twice/2", 0.005))
    assert result.stdout.startswith("P(A of twice/1 > A of twice/2 + 0.005) = ")
    result = run("chance", kept, "strays/5", "strays")
    assert result.stdout.splitlines()[0] == str(several.chance_higher("strays/5", "strays"))
    result = run("chance", kept, "twice/2", "once", "--margin", "0.05", "--equal")
    assert result.stdout.splitlines()[0] == str(several.chance_equal("twice/2", "once", 0.05))


def test_forecast_of_recipes_new_runs_and_runs(kept, several):
    for flags, of in (((), None), (("--of-recipe",), "recipe"), (("--new-run",), "new run"), (("--each-run",), "runs")):
        result = run("forecast", kept, "--at", "16000", "--at", "1e5", *flags)
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        table = several.forecast([16000, 1e5], of=of)
        assert len(lines) == 1 + len(table) + 2
        for line, row in zip(lines[1:], table.to_dict("records"), strict=False):
            assert line.split() == [
                *([row["recipe"], row["run"]] if of == "runs" else [row["recipe"]]),
                f"{row['gpu_hours']:,.0f}",
                *(f"{row['mean']:.3f}", f"[{row['lower']:.3f},", f"{row['upper']:.3f}]"),
                *(f"{row['new_mean']:.3f}", f"[{row['new_lower']:.3f},", f"{row['new_upper']:.3f}]", "IDENTIFIED"),
            ]
        whose = {
            None: ": the run that goes on or, where it has several runs, the curve of the recipe",
            "recipe": " of the recipe",
            "new run": " of one more run",
            "runs": " of each run",
        }[of]
        assert lines[-1] == f"pass_rate{whose}: mean and 90% interval"
    assert lines[0].split()[:2] == ["recipe", "run"]


def test_select_and_drop_take_runs(seeds):
    assert runs_fitted("fit", seeds, *COLUMNS) == {"a": ["1", "2", "3"], "b": ["1"]}
    assert runs_fitted("fit", seeds, *COLUMNS, "--drop", "a/2") == {"a": ["1", "3"], "b": ["1"]}
    assert runs_fitted("fit", seeds, *COLUMNS, "--select", "a", "--drop", "a/1") == {"a": ["2", "3"]}
    assert runs_fitted("fit", seeds, *COLUMNS, "--select", "a/3", "--select", "b") == {"a": ["3"], "b": ["1"]}
    dropped = runs_fitted("forecast", seeds, "--at", "1000", *COLUMNS, "--drop", "b", "--drop", "a/3")
    assert dropped == {"a": ["1", "2"]}
    assert runs_fitted("chance", seeds, *COLUMNS, "--drop", "a/3") == {"a": ["1", "2"], "b": ["1"]}
    said = runs_fitted("fit", seeds, *COLUMNS, "--drop", "a/22")
    assert said == "rlceiling: recipe 'a' has no run '22' (did you mean '2'?); it has: 1, 2, 3.\n"


def test_dropped_run_is_noted_on_stderr(seeds):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlceiling.fitting.fit_recipes.fit", lambda runs, **_: rl.Fits([]))
        result = run("fit", seeds, *COLUMNS, "--drop", "a/2")
    assert "Runs: 2 recipes, 3 runs, " in result.stderr
    assert "\n  drop: left out run '2' of recipe 'a'\n" in result.stderr


def test_a_chance_of_runs_fits_them_with_their_siblings(seeds):
    assert runs_fitted("chance", seeds, "a/1", "a/2", *COLUMNS) == {"a": ["1", "2", "3"]}
    assert runs_fitted("chance", seeds, "b/1", "a/2", *COLUMNS) == {"a": ["1", "2", "3"], "b": ["1"]}
    said = runs_fitted("chance", seeds, "a/1", "a/7", *COLUMNS)
    assert said == "rlceiling: recipe 'a' has no run '7'; it has: 1, 2, 3.\n"


# The rest -------------------------------------------------------------------------------------------------------------


def test_no_traceback():
    done = python("from rlceiling.cli import main; main()", "fit", "nowhere.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rlceiling: there is no file nowhere.csv; check its folder and spelling.\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    result = run(command, "--help", columns=120)
    assert result.exit_code == 0
    assert f"Example: rlceiling {command}" in result.stdout


def test_datasets():
    for columns in (None, 80):
        result = run("datasets", columns=columns)
        assert result.stdout.startswith("scalerl  pass rate of 8B and 17Bx16 models")
        words = " ".join(result.stdout.split())
        assert "23 recipes, 523 evaluations, GB200 GPU-hours, CC BY 4.0" in words
        assert f"Cite: {rl.datasets().loc[0, 'citation']}" in words


def test_version():
    assert run("--version").stdout == f"rlceiling {version('rlceiling')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_defaults_in_one_form(command):
    words = " ".join(run(command, "--help", columns=200).stdout.split())
    assert "unless told" not in words
    assert "\\[" not in words


@pytest.mark.parametrize(("command", "defaults"), [("fit", RECIPE_SAMPLER), ("sizes", SIZE_SAMPLER)])
def test_help_has_the_defaults_of_the_settings(command, defaults):
    lines = run(command, "--help", columns=200).stdout.splitlines()
    for name in ("chains", "tune", "draws", "seed"):
        (line,) = [line for line in lines if f" --{name} " in line]
        assert f"[default: {getattr(defaults, name)}]" in line


def test_signatures_have_the_defaults_of_the_settings():
    for function, defaults in (
        (rl.fit, RECIPE_SAMPLER),
        (rl.iter_fits, RECIPE_SAMPLER),
        (rl.backtest, RECIPE_SAMPLER),
        (rl.fit_sizes, SIZE_SAMPLER),
    ):
        parameters = inspect.signature(function).parameters
        for name in ("chains", "tune", "draws", "seed"):
            assert parameters[name].default == getattr(defaults, name)


# ArviZ puts empty stand-ins for JAX and NumPyro among the modules, so modules within them are looked for as well.
LOADED = """
import json, sys
heavy = ("jax", "jax.numpy", "numpyro", "numpyro.infer", "matplotlib", "arviz_stats", "xarray")
from rlceiling.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    print("loaded after", code, *(name for name in heavy if name in sys.modules))
"""


def loaded(*commands):
    """Exit code of each of these commands, and the heavy modules that one process has loaded after it."""
    done = python(LOADED, json.dumps([[str(argument) for argument in command] for command in commands]))
    assert done.returncode == 0, done.stderr
    ends = [line.split()[2:] for line in done.stdout.splitlines() if line.startswith("loaded after ")]
    return [(int(code), set(modules)) for code, *modules in ends]


def test_light_commands_do_not_import_jax_or_matplotlib():
    commands = [["--help"], *([name, "--help"] for name in COMMANDS), ["datasets"], ["--version"]]
    assert loaded(*commands) == [(0, set())] * len(commands)


def test_a_chance_of_saved_recipes_needs_no_sampler(kept):
    unknown, chance, forecast = loaded(
        ["chance", kept, "twice", "nobody"],
        ["chance", kept, "twice", "strays/1"],
        ["forecast", kept, "--at", "1000"],  # negative control
    )
    assert unknown == (2, set())
    assert chance[0] == forecast[0] == 0
    assert "arviz_stats" in chance[1]  # for the Monte Carlo error
    assert {"jax.numpy", "numpyro.infer"}.isdisjoint(chance[1])  # ArviZ for Python 3.11 imports matplotlib
    assert {"jax.numpy", "numpyro.infer"} <= forecast[1]
