"""The column of stages: how it is read, and which tables are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
from rlceiling.runs import Stage
from rlceiling.runs.cuts import cut_runs

COMPUTE = np.arange(0.0, 1001.0, 100.0)


def table(stages: Any, **columns: Any) -> pd.DataFrame:
    """Evaluations at 0, 100, ..., 1000 of one recipe, with these stages."""
    reward = np.linspace(0.2, 0.6, len(COMPUTE))
    return pd.DataFrame({"recipe": "a", "step": COMPUTE, "reward": reward, "stage": stages} | columns)


LABELS = [""] + ["8k"] * 4 + ["16k"] * 6


def sentence(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(rl.DataError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("labels", [LABELS, ["8k", *LABELS[1:]]])
def test_stages_begin_at_the_last_evaluation_of_the_stage_before(labels: list[str]) -> None:
    runs = rl.read_runs(table(labels).sample(frac=1.0, random_state=1))
    (run,) = runs.iter_runs()
    assert run.stages == (Stage("8k", 0.0), Stage("16k", 400.0))
    assert runs.table["stage"].tolist() == ["8k"] * 5 + ["16k"] * 6
    assert any("stage=stage" in note for note in runs.notes)
    assert [run.stage_of(compute) for compute in (0.0, 400.0, 401.0)] == ["8k", "8k", "16k"]
    assert (run.stage_around(400.0), run.stage_around(401.0)) == ((0.0, 400.0), (400.0, np.inf))
    last = run.last_stage()
    np.testing.assert_allclose(last.compute, COMPUTE[5:] - 400.0)
    assert (last.start[0], last.stages) == (pytest.approx(run.reward[3]), ()) if last.start else False
    runs.check_enough()


def test_stages_may_be_numbers_in_a_column_of_any_name() -> None:
    cells = table([np.nan, *[8.0] * 4, *[16.0] * 6]).rename(columns={"stage": "context"})
    (run,) = rl.read_runs(cells, stage="context").iter_runs()
    assert [stage.name for stage in run.stages] == ["8", "16"]


@pytest.mark.parametrize("labels", ["8k", "", np.nan])
def test_one_name_or_none_is_one_stage(labels: Any) -> None:
    (run,) = rl.read_runs(table(labels)).iter_runs()
    assert run.stages == ()
    assert run.last_stage() is run


def test_tables_without_the_column_have_none() -> None:
    assert "stage" not in rl.read_runs(table("").drop(columns="stage")).table


def test_the_untrained_model_may_have_a_name_of_its_own() -> None:
    named = rl.read_runs(table(["base", *LABELS[1:]])).table
    pd.testing.assert_frame_equal(named, rl.read_runs(table(["", *LABELS[1:]])).table)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            ["", *["8k"] * 4, *["16k"] * 3, *["8k"] * 3],
            "row 9, column 'stage' (recipe 'a'): stage '8k' comes back at step 800, after '16k'; give each stage a name"
            " of its own.",
        ),
        (
            ["", *["8k"] * 4, "", *["16k"] * 5],
            "row 6, column 'stage' (recipe 'a'): the stage is missing; name the stage of every evaluation of the run.",
        ),
        (
            ["16k", *LABELS[1:]],
            "row 1, column 'stage' (recipe 'a'): step 0 belongs to the first stage, '8k'; leave its stage empty.",
        ),
    ],
)
def test_stages_that_are_refused(labels: list[str], said: str) -> None:
    assert sentence(rl.read_runs, table(labels)) == f"DataFrame, {said}"


def test_a_last_stage_that_is_too_short_is_refused() -> None:
    runs = rl.read_runs(table(["", *["8k"] * 7, *["16k"] * 3]))
    assert sentence(runs.check_enough) == (
        "DataFrame: stage '16k' of recipe 'a', its last, has 3 distinct values of step and a fit needs 4; log more"
        " evaluations, or leave the stage out with runs.until(750) (command line: --until 750)."
    )
    runs.until(750).check_enough()


def test_stages_of_a_recipe_with_several_runs_are_refused() -> None:
    other = table(LABELS, reward=np.linspace(0.2, 0.7, len(COMPUTE)), run="1")
    runs = rl.read_runs(pd.concat([table(LABELS, run="0"), other]))
    assert sentence(runs.check_enough) == (
        "DataFrame: recipe 'a' has 2 runs, and run '0' has 2 stages; stages are fitted for recipes with one run, so"
        " give each run a recipe name of its own."
    )


def test_burn_in_keeps_a_part_of_every_stage() -> None:
    runs = rl.read_runs(table(LABELS))
    (run,) = runs.burn_in(250).iter_runs()
    assert run.stages[1].begins == 400.0
    assert sentence(runs.burn_in, 450).startswith("burn_in: stage '8k' of recipe 'a' would lose all its evaluations")


def test_cuts_need_enough_evaluations_in_the_stage_in_which_they_lie() -> None:
    runs = rl.read_runs(table(LABELS))
    cuts = cut_runs("test", runs, [0.4, 0.6, 0.9])  # the second leaves two evaluations of the second stage
    assert list(cuts) == [0.4, 0.9]
    assert [len(next(part.iter_runs()).begins) for part in cuts.values()] == [1, 2]
