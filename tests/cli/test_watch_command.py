"""`rlceiling watch`: its options, exit codes, and real refits of a log that grows."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rlceiling.cli import app
from rlceiling.cli.watch_command import question_of, seconds_of
from rlceiling.curves import sigmoid_curve
from rlceiling.live.watch import watch
from rlceiling.writing import locked

GATE = ("--gate", "gain=0.02 in 2k")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["watch", *map(str, arguments)], env={"COLUMNS": "200"})


def lines(n: int) -> str:
    """The first evaluations of a run whose curve is flat after a while."""
    compute = np.arange(1000.0, 12_001.0, 1000.0)
    noise = 0.004 * np.random.default_rng(1).standard_normal(12)
    reward = sigmoid_curve(compute, 0.65, 2.0, 800.0, 0.3) + noise
    return "".join(f"{c:g},{r:.4f}\n" for c, r in zip(compute[:n], reward, strict=False))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    path = tmp_path / "grpo.csv"
    path.write_text("gpu_hours,pass_rate\n0,0.3\n" + lines(4))
    return path


def test_a_log_that_grows_until_its_run_is_told_to_stop(log: Path) -> None:
    young = run("grpo.csv", *GATE, "--once")
    assert young.exit_code == 0, young.output
    assert "4 of the 8 evaluations that a decision needs" in young.stdout
    log.write_text("gpu_hours,pass_rate\n0,0.3\n" + lines(12) + "12500,0.6")
    stopped = run(log, *GATE, "--rounds", 5, "--on-stop", "echo $RLCEILING_RECIPE $RLCEILING_P_GAIN > told; exit 4")
    assert stopped.exit_code == 3, stopped.output
    assert stopped.stdout.endswith("every run was told to stop\n")
    assert "12 evaluations (+8) to 12,000 gpu_hours  A 0.6" in stopped.stdout
    status = json.loads(Path("watch/status.json").read_text())
    (recipe,) = status["recipes"]
    assert recipe["ceiling"]["lower"] < 0.65 < recipe["ceiling"]["upper"]
    assert Path("told").read_text().split() == ["grpo", str(recipe["runs"][0]["p_gain"])]
    assert recipe["runs"][0]["p_gain"] <= 0.1
    Path("told").unlink()
    again = run("./grpo.csv", *GATE, "--rounds", 5, "--on-stop", "touch told")
    assert again.exit_code == 3
    assert not Path("told").exists()
    assert len(Path("watch/history.jsonl").read_text().splitlines()) == 1
    other = run("grpo.csv", *GATE, "--once", "--seed", 1)
    assert other.exit_code == 3
    assert len(Path("watch/history.jsonl").read_text().splitlines()) == 2


def test_a_log_that_is_not_there_is_waited_for_and_told_by_the_exit_code(log: Path) -> None:
    result = run(log, "later.csv", *GATE, "--once", "--out", "w", "--json")
    assert result.exit_code == 1
    assert "later.csv is not read: the file does not exist yet; it is tried again" in result.stderr
    said = json.loads(result.stdout)
    assert said["asked"]["gate"]["add"] == 2000.0
    assert said["status"] == json.loads(Path("w/status.json").read_text())
    assert run(log, *GATE, "--once", "--out", "w").exit_code == 0


def test_folders_and_patterns_of_tables_that_are_being_written(log: Path) -> None:
    Path("more").mkdir()
    Path("more/dapo.csv").write_text(log.read_text() + "12500,0.6")
    result = run("more", "*.csv", "later/*.csv", "outputs/none", *GATE, "--once", "--first", 60)
    assert result.exit_code == 1, result.output
    assert "more: the last line has no line end yet and is left out until it has" in result.stdout
    for recipe in ("dapo", "grpo"):
        assert f"{recipe}  4 evaluations to 4,000 gpu_hours  4 of the 60" in result.stdout
    assert result.stdout.count("is not read") == 2
    assert "no file matches it yet; it is tried again" in result.stdout
    Path("later").mkdir()
    Path("later/gspo.csv").write_text(log.read_text())
    again = run("later/*.csv", *GATE, "--once", "--first", 60)
    assert again.exit_code == 0, again.output
    assert "after 1 earlier round:" in again.stderr


@pytest.fixture
def handled_ctrl_c() -> Iterator[None]:
    """Ctrl-C as in the foreground: a process that a shell began in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handled_ctrl_c")
def test_ctrl_c_ends_quietly(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        assert 80.0 < seconds <= 90.0
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the watch goes on after Ctrl-C")

    monkeypatch.setitem(watch.__kwdefaults__, "sleep", interrupt)
    result = run(log, *GATE, "--every", "1.5m")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "rlceiling: stopped; the same command continues from watch"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("grpo.csv",), "Missing option '--gate'"),
        (
            ("grpo.csv", "--gate", "0.01 in 2000"),
            'a gain and the compute it may take; write "gain=0.01 in 2000"',
        ),
        (("grpo.csv", "--gate", "gain=0.01"), "is not a gain and the compute it may take"),
        (("grpo.csv", "--gate", "gain=x in 2000"), "'x' is not a number"),
        (("grpo.csv", "--gate", "gain=-0.01 in 2000"), "the gain -0.01 is not a positive number"),
        (("grpo.csv", "--gate", "gain=0.01 in 0"), "the compute 0 is not a positive number"),
        (("grpo.csv", *GATE, "--every", "10"), "'10' is not a time between rounds; write 30s, 10m or 2h."),
        (("grpo.csv", *GATE, "--every", "0s"), "is not a time between rounds"),
        (("grpo.csv", *GATE, "--once", "--rounds", "2"), "--once is the same as --rounds 1"),
        (("grpo.csv", "./grpo.csv", *GATE), "grpo.csv is given twice; give each log once"),
        (("grpo.ods", *GATE), "grpo.ods does not end in one of"),
        (("nothing", *GATE), "nothing"),
        (("-", *GATE), "which standard input does not allow; name a file"),
        (("grpo.csv", *GATE, "--compute", "gpu_hour"), "no column 'gpu_hour' (did you mean 'gpu_hours'?)"),
        (("later.csv", *GATE, "--split", "train"), "later.csv is a file, which is read whole; leave out --split"),
        (("later.csv", *GATE, "--duplicates", "first"), "duplicates must be 'error' or 'mean', not 'first'"),
        (("later.csv", *GATE, "--reward-bounds", "1", "0"), "reward_bounds must be two finite numbers"),
        (("later.csv", *GATE, "--burn-in", "-1"), "burn_in needs a finite compute above 0, not -1.0"),
        (("later.csv", *GATE, "--priors", "none.toml"), "'none.toml' names no priors"),
        (("later.csv", *GATE, "--chains", "1"), "watch: chains=1 is too few for a diagnosis"),
        (("later.csv", *GATE, "--cores", "2"), "leave out --cores"),
        (("later.csv", *GATE, "--backend", "tpu"), "watch: backend='tpu' is neither 'cpu' nor 'gpu'"),
        (("later.csv", *GATE, "--first", "3"), "watch: first=3 is not a number of evaluations from 4 up"),
        (("later.csv", *GATE, "--wrong-stop", "0.7"), "max_wrong_stop=0.7 is not a probability below 0.5"),
    ],
)
def test_options_that_cannot_work_are_refused_before_the_first_fit(
    log: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run(*arguments, "--out", "none")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not Path("none").exists()


def test_two_watches_do_not_write_one_folder(log: Path, tmp_path: Path) -> None:
    (tmp_path / "watch").mkdir()
    with locked(tmp_path / "watch", "watch"):
        result = run(log, *GATE, "--once")
    assert result.exit_code == 2
    assert "watch is being written by another watch" in result.stderr


def test_times_and_questions_are_read_as_people_write_them() -> None:
    assert [seconds_of(text) for text in ("30s", "10m", "2h", " 1.5 h ", "1d")] == [
        30.0,
        600.0,
        7200.0,
        5400.0,
        86_400.0,
    ]
    for text in ("gain=0.01 in 2000", " gain = 0.01 in 2k", "gain=1e-2 in 2,000"):
        assert question_of(text) == (0.01, 2000.0)
    with pytest.raises(typer.BadParameter):
        question_of("gain=inf in 2000")
