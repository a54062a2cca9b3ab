"""Watching growing logs: what is fitted again, what survives a restart, and what happens when a run should stop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlceiling as rl
from handmade import made_fit
from rlceiling.curves import sigmoid_curve
from rlceiling.live.refits import GateRule
from rlceiling.live.watch import stop_variables, watch
from rlceiling.live.watch_round import Watched
from rlceiling.live.watch_state import HISTORY, STATUS, Journal, Status
from rlceiling.runs.growing import snapshot
from rlceiling.runs.units import Units

LATE, EARLY = 40_000.0, 4_000.0
"""Compute of the last evaluation: at LATE the next 2,000 add nothing to the curves of `handmade`, at EARLY a lot."""


def rows(n: int, until: float = EARLY, ceiling: float = 0.6, recipe: str = "") -> str:
    """Lines of the first `n` of twenty evaluations, the last of which lies at `until`."""
    compute = np.linspace(until / 20.0, until, 20)[:n]
    reward = sigmoid_curve(compute, ceiling, 1.8, 2000.0, 0.4)
    return "".join(f"{recipe}{',' if recipe else ''}{c:g},{r:.4f}\n" for c, r in zip(compute, reward, strict=True))


class Bench:
    """A watch of logs in a folder whose refits are posteriors made by hand, with everything that it says and does."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.logs = [folder / name for name in names or ("a.csv",)]
        self.out = folder / "out"
        self.out.mkdir()
        self.lines: list[str] = []
        self.fitted: list[str] = []
        self.ceiling, self.verdict = 0.6, rl.Verdict.IDENTIFIED
        self.settings: dict[str, Any] = {"seed": 0}
        self.broken: dict[str, Exception] = {}
        self.failed: dict[str, str] = {}
        self.cut: Callable[[rl.Runs], rl.Runs] = lambda runs: runs

    @staticmethod
    def read(log: str) -> tuple[rl.Runs, str]:
        with snapshot(Path(log)) as (copy, note):
            return rl.read_runs(copy), note

    def refit(self, runs: rl.Runs) -> rl.Fit:
        ((name, members),) = runs.iter_recipes()
        self.fitted.append(name)
        if name in self.broken:
            raise self.broken[name]
        units = Units(runs.compute_label, runs.reward_label, runs.reward_bounds)
        healthy = [run for run in members if run.run not in self.failed]
        made = made_fit(healthy, [self.ceiling] * len(healthy), units=units, verdict=self.verdict)
        return replace(made, failed_runs=self.failed)

    def __call__(self, *between: Callable[[], object], rounds: int | None = None, on_stop: str | None = None) -> Status:
        """Make rounds, beginning as a new process does; each function is called while the watch waits."""
        waits, watched = (
            iter(between),
            Watched(
                [str(log) for log in self.logs], self.read, self.cut, self.refit, GateRule(2000.0, 0.01), self.settings
            ),
        )
        self.lines.clear()
        self.fitted.clear()
        return watch(
            watched,
            Journal(self.out),
            every=600.0,
            rounds=len(between) + 1 if rounds is None else rounds,
            on_stop=on_stop,
            show=self.record,
            now=lambda: "now",
            clock=lambda: 0.0,
            sleep=lambda seconds: self.wait(seconds, waits),
        )

    def record(self, line: str) -> None:
        self.lines.append(line)
        Status.model_validate_json((self.out / STATUS).read_bytes())  # whole whenever somebody looks

    @staticmethod
    def wait(seconds: float, waits: Any) -> None:
        assert seconds == 600.0
        next(waits)()

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / HISTORY).read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def append(path: Path, text: str) -> Callable[[], object]:
    return lambda: path.write_text((path.read_text() if path.exists() else "") + text)


HEADER = "hours,reward\n"


def test_a_log_that_grows_is_fitted_again_when_it_has_new_evaluations(bench: Bench) -> None:
    (log,) = bench.logs
    whole = rows(20)
    lines = whole.splitlines(keepends=True)
    status = bench(
        append(log, HEADER + "".join(lines[:5])),
        append(log, "".join(lines[5:10]) + lines[10][:4]),  # a line that is cut
        append(log, ""),
        append(log, lines[10][4:]),
    )
    assert [row["evaluations"] for row in bench.history] == [10, 11]
    assert bench.fitted == ["a", "a"]
    said = [line.removeprefix("now  ") for line in bench.lines]
    assert said[0] == "a.csv is not read: there is no file a.csv; check its folder and spelling; it is tried again"
    assert "a  5 evaluations to 1,000 hours  5 of the 8 evaluations that a decision needs" in said
    assert said.count("a.csv: the last line has no line end yet and is left out until it has") == 1
    ends = bench.history[0]
    shown = f"A {ends['A']:.3f} [{ends['A_lower']:.3f}, {ends['A_upper']:.3f}]  IDENTIFIED  go (chance above 0.99)"
    assert f"a  10 evaluations (+5) to 2,000 hours  {shown}" in said
    assert f"a  10 evaluations to 2,000 hours  {shown}" in said  # nothing new
    assert said[-1].startswith("a  11 evaluations (+1) to 2,200 hours")
    (entry,) = status.recipes
    assert (entry.refits, entry.evaluations, entry.compute) == (2, 11, 2200.0)
    assert not status.all_stopped


def test_only_recipes_with_new_evaluations_are_fitted_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "a.csv", "b.csv")
    first, second = bench.logs
    append(first, "recipe,hours,reward\n" + rows(9, recipe="x") + rows(9, recipe="y", ceiling=0.7))()
    append(second, "recipe,hours,reward\n" + rows(9, recipe="x"))()
    new = rows(10, recipe="y", ceiling=0.7).splitlines(keepends=True)[-1]
    bench(append(first, new))
    assert bench.fitted == ["x", "y", "x", "y"]
    labels = [line.split("  ")[1] for line in bench.lines if "evaluations" in line]
    assert labels == ["x", "y", "b.csv: x", "a.csv: x", "y", "b.csv: x"]


def test_a_restart_continues_and_fits_nothing_twice(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(10))()
    before = bench()
    with (bench.out / HISTORY).open("a") as file:
        file.write('{"time": "now", "lo')  # a process that was killed while it wrote
    after = bench()
    assert bench.fitted == []
    assert len(bench.history) == 1
    assert after.model_copy(update={"rounds": 1}) == before
    bench.settings = {"seed": 1}
    assert bench().recipes[0].refits == 2
    assert len(bench.history) == 2
    # Killed between the history and the status: the refit is made again, and its row is there once.
    (bench.out / STATUS).write_text(before.model_dump_json(by_alias=True))
    assert bench().recipes[0].refits == 2
    assert len(bench.history) == 2


def test_what_cannot_be_read_or_fitted_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "a.csv", "b.csv")
    first, second = bench.logs
    good = HEADER + rows(10)
    append(first, good)()
    append(second, good.replace("0.4", "0.5"))()
    status = bench(lambda: first.write_text(good + "not a number,0.5\n"))
    assert [bool(log.problem) for log in status.logs] == [True, False]
    assert status.troubled
    assert status.recipes[0].refits == 1  # what was known stays
    (said,) = (line for line in bench.lines if "is not read" in line)
    assert "row 11, column 'hours'" in said
    assert said.endswith("; it is tried again")
    first.write_bytes(b"\xff\xfe\n")
    assert "is not UTF-8" in bench().logs[0].problem
    first.write_text(good + rows(11).splitlines()[-1] + "\n")
    bench.broken = {"a": RuntimeError("out of\nmemory")}
    status = bench(bench.broken.clear)
    assert bench.fitted == ["a", "a"]
    assert "now  a  is not fitted: RuntimeError: out of memory; it is tried again" in bench.lines
    assert (status.recipes[0].evaluations, status.recipes[0].problem, status.troubled) == (11, "", False)


def test_a_command_is_run_once_for_each_run_that_should_stop(bench: Bench, tmp_path: Path) -> None:
    (log,) = bench.logs
    append(log, "run,hours,reward\n" + rows(20, LATE, recipe="s1") + rows(20, LATE, 0.61, recipe="s2"))()
    told = tmp_path / "told"
    command = f'echo "$RLCEILING_RECIPE/$RLCEILING_RUN: $RLCEILING_REASON" >> {told}; test $RLCEILING_RUN = s2'
    status = bench(rounds=5, on_stop=command)
    assert status.all_stopped
    assert status.rounds == 1
    why = "chance below 0.01 that 2,000 more hours add 0.01"
    both = [f"a/s1: {why}", f"a/s2: {why}"]
    assert told.read_text().splitlines() == both
    assert [run.on_stop.exit_code for run in status.recipes[0].runs if run.on_stop] == [1, 0]
    assert "now  a/s1  --on-stop: the command ended with exit code 1; it is not run again" in bench.lines
    values = stop_variables(status.recipes[0], status.recipes[0].runs[0])
    assert float(values["RLCEILING_CEILING_LOWER"]) < float(values["RLCEILING_CEILING"])
    assert (values["RLCEILING_COMPUTE"], values["RLCEILING_LOG"]) == ("40000.0", str(log))
    # Neither a restart nor new evaluations run it again; a run that is new gets its own.
    bench.settings = {"seed": 1}
    third = rows(20, LATE, 0.62, recipe="s3").splitlines(keepends=True)
    append(log, "".join(third[:3]))()
    assert not bench(rounds=1, on_stop=command).all_stopped
    assert bench.fitted == ["a"]
    append(log, "".join(third[3:]))()
    bench(rounds=1, on_stop=command)
    assert told.read_text().splitlines() == [*both, f"a/s3: {why}"]


def test_a_command_that_was_cut_short_is_told_and_not_run_again(bench: Bench, tmp_path: Path) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(20, LATE))()
    status = bench(on_stop="true")
    text = status.model_dump_json(by_alias=True).replace('"exit_code":0', '"exit_code":null')
    assert text != status.model_dump_json(by_alias=True)
    (bench.out / STATUS).write_text(text)
    bench(on_stop=f"touch {tmp_path}/again")
    assert "now  a  --on-stop: the watch ended before the command did; it is not run again" in bench.lines
    assert not (tmp_path / "again").exists()
    bench(on_stop=f"touch {tmp_path}/again")
    assert not any("--on-stop" in line for line in bench.lines)


# Python warns where the object of a process that still runs is deleted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_command_that_does_not_end_is_not_waited_for_forever(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(20, LATE))()
    os.mkfifo(tmp_path / "never")
    monkeypatch.setattr("rlceiling.live.watch.ON_STOP_SECONDS", 0.01)
    (entry,) = bench(on_stop=f"exec cat {tmp_path}/never").recipes
    found = entry.runs[0].on_stop
    assert found is not None
    assert (found.exit_code, found.problem) == (None, "the command still runs after 0.01 s")
    with (tmp_path / "never").open("w"):
        pass  # which ends it


def test_a_run_that_failed_is_neither_fitted_nor_waited_for(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, "run,hours,reward\n" + "".join(rows(20, LATE, 0.6 + 0.01 * i, recipe=f"s{i}") for i in range(3)))()
    bench.failed = {"s1": "never rose"}
    status = bench()
    assert status.all_stopped
    assert [run.left_out for run in status.recipes[0].runs] == [False, True, False]
    assert "; run s1: failed, never rose; run s2: stop (chance " in bench.lines[-1]


def test_a_run_that_has_just_begun_keeps_the_watch_going(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, "run,hours,reward\n" + rows(20, LATE, recipe="s1"))()
    assert bench().all_stopped
    append(log, "s2,0,0.4\n")()
    status = bench()
    assert bench.fitted == []
    assert not status.all_stopped
    assert status.recipes[0].runs[1].why == "0 of the 8 evaluations that a decision needs"


def test_an_old_stop_is_not_acted_upon_when_the_log_cannot_be_read(bench: Bench, tmp_path: Path) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(20, LATE))()
    assert bench().all_stopped
    log.write_text("hours\n")
    status = bench(on_stop=f"touch {tmp_path}/told")
    assert not status.all_stopped
    assert not (tmp_path / "told").exists()


def test_a_change_of_regime_is_noticed_across_a_restart(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(10))()
    bench()
    bench.ceiling = 0.602
    append(log, "2300,0.53\n")()
    assert not bench().recipes[0].moved
    bench.verdict = rl.Verdict.NOT_CONVERGED  # nothing can be read off, so that nothing has moved
    bench.ceiling = 0.7
    append(log, "2400,0.54\n")()
    (entry,) = bench().recipes
    assert (entry.moved, entry.ceiling, entry.shown) == (False, None, "")
    assert bench.lines[-2].endswith("  A -  NOT_CONVERGED  unknown")
    assert bench.lines[-1].startswith("now  a  has chains that do not agree (NOT_CONVERGED: ")
    bench()
    assert bench.lines[-1].endswith("  A -  NOT_CONVERGED  unknown")
    bench.verdict = rl.Verdict.IDENTIFIED
    append(log, "2500,0.55\n")()
    (entry,) = bench().recipes
    assert (entry.moved, entry.moved_at) == (True, "now")
    assert "a  the regime has changed: the median of the ceiling is 0.7" in bench.lines[-1]
    assert [row["moved"] for row in bench.history] == [False, False, False, True]
    assert bench.history[2]["A"] is None


def test_a_log_that_is_begun_anew_and_one_that_is_watched_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "a.csv", "b.csv")
    first, second = bench.logs
    append(first, HEADER + rows(10))()
    append(second, "recipe,hours,reward\n" + rows(10, recipe="x") + rows(10, ceiling=0.7, recipe="y"))()
    bench()
    first.write_text(HEADER + rows(3, ceiling=0.7))
    second.write_text("recipe,hours,reward\n" + rows(10, recipe="x"))
    status = bench()
    assert bench.fitted == []
    assert "now  a  3 evaluations (-7) to 600 hours  3 of the 8 evaluations that a decision needs" in bench.lines
    assert "now  b.csv no longer holds the recipe y" in bench.lines
    a, x, y = status.recipes
    assert (a.ceiling, a.compared_with, a.key) == (None, None, "")
    assert (x.watched, y.watched) == (True, False)
    bench.logs = [second]
    assert [one.watched for one in bench().recipes] == [False, True, False]


def test_a_recipe_that_cuts_leave_empty_does_not_hold_up_the_others(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, "recipe,hours,reward\n" + rows(10, recipe="x") + "y,10,0.4\n")()
    bench.cut = lambda runs: runs.burn_in(100.0)
    x, y = bench().recipes
    assert bench.fitted == ["x"]
    assert "would lose all its evaluations" in y.problem
    assert not x.problem


def test_the_status_is_replaced_as_a_whole_and_has_the_documented_fields(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(10))()
    bench()
    with (bench.out / STATUS).open() as old:
        bench()
        assert json.load(old)["rounds"] == 1  # whoever has it open reads the old one to its end
    found = json.loads((bench.out / STATUS).read_text())
    assert list(found) == ["schema", "rounds", "updated", "gate", "logs", "recipes", "all_stopped"]
    assert found["gate"] == {"add": 2000.0, "gain": 0.01, "first": 8, "max_wrong_stop": 0.1, "max_wrong_go": 0.1}
    assert ",".join(found["logs"][0]) == "log,problem,notes"
    (entry,) = found["recipes"]
    names = "log,recipe,watched,evaluations,compute,compute_unit,reward,key,refits,fitted,verdict,reasons,ceiling"
    assert ",".join(entry) == f"{names},shown,compared_with,moved,moved_at,problem,runs"
    assert ",".join(entry["runs"][0]) == "run,evaluations,compute,decision,p_gain,why,left_out,on_stop"
    assert entry["ceiling"]["lower"] < entry["ceiling"]["median"] < entry["ceiling"]["upper"]
    assert not list(bench.out.glob(".*.partial"))


def test_files_of_a_watch_that_cannot_be_used_are_refused(bench: Bench) -> None:
    (bench.out / STATUS).write_text('{"schema": 2}')
    with pytest.raises(rl.DataError, match=r"status\.json is damaged or of another version"):
        Journal(bench.out)


def test_a_full_disk_is_told_and_nothing_is_lost(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(10))()
    journal = Journal(bench.out)
    (bench.out / HISTORY).mkdir()  # cannot be opened as a file
    row = {"log": "a", "recipe": "a", "key": "1"}
    assert "history.jsonl" in journal.write(Status(rounds=1), row)
    (bench.out / HISTORY).rmdir()
    assert journal.write(Status(rounds=2)) == ""
    assert bench.history == [row]


def test_ctrl_c_loses_nothing_that_was_found(bench: Bench) -> None:
    (log,) = bench.logs
    append(log, HEADER + rows(10))()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(interrupt)
    assert len(bench.history) == 1
    bench()
    assert bench.fitted == []
