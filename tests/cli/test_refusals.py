"""What cannot be answered or done is refused in one sentence, with exit code 2, and before anything is sampled."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import rlceiling as rl
from handmade import made_recipe
from rlceiling.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fits of two recipes on disk."""
    folder = tmp_path_factory.mktemp("refusals") / "fits"
    rl.Fits([made_recipe(name, [ceiling]) for name, ceiling in (("ScaleRL", 0.6), ("Magistral", 0.55))]).save(folder)
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    table = rl.load_dataset("scalerl").select("ScaleRL", "Magistral").table
    table["score"] = 100 * table["reward"]
    path = tmp_path / "log.csv"
    table[["recipe", "compute", "score"]].rename(columns={"compute": "hours"}).to_csv(path, index=False)
    return path


NO_COLUMNS = "scalerl is a bundled data set, whose columns are known; leave out "


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("fit nowhere.csv", "there is no file nowhere.csv; check its folder and spelling."),
        ("fit scalrl", "rlceiling has no data set 'scalrl' (did you mean 'scalerl'?); it has: scalerl, qwen_math."),
        (
            "fit scalerl --select scaleRl",
            "scalerl has no recipe 'scaleRl' (did you mean 'ScaleRL'?); it has: ScaleRL, MiniMax, Magistral,"
            " Qwen2.5-DAPO, DeepSeek-GRPO, ScaleRL-34k, ScaleRL-Scout, ScaleRL-bs2048, ScaleRL-bs512,"
            " PPO-off-policy-1, PPO-off-policy-8, CISPO and 11 more.",
        ),
        ("fit scalerl --compute gpu_hours", f"{NO_COLUMNS}--compute."),
        ("fit scalerl --n-eval n --reward-bounds 0 1", f"{NO_COLUMNS}--n-eval, --reward-bounds."),
        ("fit LOG --split all", "log.csv is a file, which is read whole; leave out --split."),
        ("fit scalerl --split al", "scalerl has no split 'al' (did you mean 'all'?); it has: train, extended, all."),
        ("fit scalerl --plot-until 1e5", "--plot-until says where a plot ends; name its file with --plot."),
        ("fit scalerl --plot a.xyz", "a.xyz does not end like a picture; name it .png, .pdf or .svg."),
        (
            "fit scalerl --plot no/a.png",
            "there is no folder no for a.png; make it, or name another one.",
        ),
        ("fit scalerl --out LOG", "LOG: File exists."),
        (
            "fit LOG --compute hours --reward score",
            "the reward 40.04 is outside the bounds 0 to 1",
        ),
        (
            "forecast FITS --at 0",
            "forecast: compute 0 is not positive and finite; give a compute above 0 in the unit of the runs.",
        ),
        ("forecast FITS --at 5 --seed 1", "FITS holds finished fits, which stay as they were made; leave out --seed."),
        (
            "chance FITS ScaleRL",
            "chance compares two recipes; name another one after 'ScaleRL', or none for all pairs.",
        ),
        (
            "forecast FITS --at 5 --new-run --each-run",
            "--new-run, --each-run and --of-recipe are different questions; ask one of them.",
        ),
        ("chance FITS ScaleRL/7 ScaleRL", "recipe 'ScaleRL' has no run '7'; it has: 1."),
        ("chance scalerl ScaleRL/0 ScaleRL/9", "recipe 'ScaleRL' has no run '9'; it has: 0."),
        (
            "fit scalerl --drop CISPO/0 --drop CISPO",
            "drop: recipe 'CISPO' is named and a run of it too; name one of them.",
        ),
        ("chance FITS --equal", "--equal compares two recipes; name them."),
        (
            "chance FITS ScaleRL Magistral --equal",
            "margin=0.0 leaves no room to be equal; give a difference above 0 that does not count.",
        ),
        (
            "chance FITS ScaleRL ScaleRL",
            "'ScaleRL' is compared with itself; name two recipes, or runs of one as recipe/run.",
        ),
        ("chance FITS ScaleRL Mgstral", "no recipe 'Mgstral' (did you mean 'Magistral'?)"),
    ],
)
def test_errors_are_one_sentence(arguments, sentence, kept, log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"LOG": str(log), "FITS": str(kept)}
    result = run(*(places.get(word, word) for word in arguments.split()))
    assert result.exit_code == 2
    for word, place in places.items():
        sentence = sentence.replace(word, place)
    assert result.stderr.startswith("rlceiling: ")
    assert result.stderr.count("\n") == 1
    if sentence.endswith("."):
        assert result.stderr == f"rlceiling: {sentence}\n"
    else:
        assert sentence in result.stderr
    assert result.stdout == ""


BIG = 2**63
TWO = "--select ScaleRL --select Magistral"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "chance scalerl ScaleRL ScaleRL",
            "'ScaleRL' is compared with itself; name two recipes, or runs of one as recipe/run.",
        ),
        (
            "chance scalerl ScaleRL Magistral --equal",
            "margin=0.0 leaves no room to be equal; give a difference above 0 that does not count.",
        ),
        ("chance scalerl ScaleRL GSPO --at -5", "at=-5.0 is not a positive compute; give one in the unit of the runs."),
        ("chance scalerl --select ScaleRL", "scalerl has 1 recipe, and at least 2 are compared; give more."),
        ("best scalerl --at 9000 --select GSPO", "scalerl has 1 recipe, and at least 2 are compared; give more."),
        ("best scalerl --at -5", "at=-5.0 is not a positive compute; give one in the unit of the runs."),
        (
            f"gate scalerl {TWO} --add 9 --gain .1 --against x",
            "scalerl has no recipe 'x'; it has: ScaleRL, Magistral.",
        ),
        (
            "gate scalerl --select GSPO --add 9 --gain .1 --against others",
            "scalerl has 1 recipe, and at least 2 are compared; give more.",
        ),
        (
            "gate scalerl --add 9 --gain .1 --at -5",
            "at=-5.0 is not a positive compute; give one in the unit of the runs.",
        ),
        ("plan scalerl --budget 0", "plan: budget=0.0 is not a positive compute; give one in the unit of the runs."),
        ("plan scalerl --budget 9 --select GSPO", "scalerl has 1 recipe, and at least 2 are compared; give more."),
        ("plan scalerl --budget 9 --at -5", "at=-5.0 is not a positive compute; give one in the unit of the runs."),
        (
            "forecast scalerl --at -5",
            "forecast: compute -5 is not positive and finite; give a compute above 0 in the unit of the runs.",
        ),
        (
            "reach scalerl --target 7",
            "target=7.0 is not inside the bounds of the reward, 0 to 1; give a reward that is.",
        ),
        (
            f"fit scalerl {TWO} --plot a.png --plot-until -5",
            "plot_curves: until=-5 is not beyond the first evaluation of 'ScaleRL', at 1,020 gpu_hours; give a larger "
            "compute.",
        ),
        ("fit scalerl --cores -1", "fit: cores=-1 is not a number of cores; give a whole number from 1 up, or none."),
        ("fit scalerl --cores 0", "fit: cores=0 is not a number of cores; give a whole number from 1 up, or none."),
        (
            "backtest scalerl --cores -1",
            "fit: cores=-1 is not a number of cores; give a whole number from 1 up, or none.",
        ),
        (
            f"fit scalerl --seed {BIG}",
            f"fit: seed={BIG} does not fit into 64 bits; give a whole number from -2^63 to 2^63 - 1.",
        ),
        (
            f"sizes qwen_math --size model_size_b --resource flops --seed {BIG}",
            f"fit_sizes: seed={BIG} does not fit into 64 bits; give a whole number from -2^63 to 2^63 - 1.",
        ),
        (
            "sizes qwen_math --size model_size_b --resource flops --target 7",
            "compute_to_reach: reward 7.0 is not inside the bounds 0 to 1; give one that is.",
        ),
        (
            "sizes qwen_math --size model_size_b --resource flops --at -5",
            "forecast: compute -5 is not positive and finite; give a compute above 0 in the unit of the runs.",
        ),
        *(
            (f"{command} --prob {prob}", f"prob={prob} is not between 0 and 1; give the probability of the interval.")
            for prob in ("0.0", "1.0")
            for command in (
                "fit scalerl",
                "best scalerl --at 9000",
                "gate scalerl --add 9 --gain .1",
                "forecast scalerl --at 9000",
                "reach scalerl --target .5",
                "sizes qwen_math --size model_size_b --resource flops",
            )
        ),
    ],
)
def test_questions_without_an_answer_are_refused_before_sampling(arguments, sentence, tmp_path, monkeypatch):
    def sampled(*_, **__):
        raise AssertionError("it was sampled")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlceiling.fitting.driver.Driver._sample", sampled)
    result = run(*arguments.split(), "--quiet", "--json")
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("rlceiling: ")
    assert result.stderr.endswith(f"{sentence}\n")
    assert (result.stderr.count("\n"), result.stdout) == (1, "")


def test_the_refusals_would_notice_sampling(monkeypatch):
    """Negative control: a question that has an answer gets as far as sampling."""

    def sampled(*_, **__):
        raise rl.DataError("sampled.")

    monkeypatch.setattr("rlceiling.fitting.driver.Driver._sample", sampled)
    for command in (
        ("fit", "scalerl", "--select", "GSPO"),
        ("sizes", "qwen_math", "--size", "model_size_b", "--resource", "flops"),
    ):
        assert run(*command, "--quiet").stderr == "rlceiling: sampled.\n"
