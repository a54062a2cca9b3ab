"""The bundled data against what is known about them."""

import pytest

from rlceiling.errors import DataError
from rlceiling.runs import datasets, load_dataset, published_fits


def test_scalerl():
    runs = load_dataset("scalerl")
    assert len(runs.recipes) == 23
    assert (runs.source, runs.compute_label, runs.reward_label) == ("scalerl", "gpu_hours", "pass_rate")
    assert set(runs.table["n_eval"]) == {16000}
    table = runs.select("ScaleRL").table
    assert len(table) == 22 + 1
    assert table["compute"].is_monotonic_increasing
    (run,) = runs.select("ScaleRL").iter_runs()
    assert run.start == (0.4004, 16000)
    assert len(run.compute) == 22
    runs.check_enough()


def test_every_recipe_has_its_start():
    assert all(run.start is not None for run in load_dataset("scalerl").iter_runs())


def test_splits_add_up():
    train, extended, everything = (load_dataset("scalerl", split) for split in ("train", "extended", "all"))
    assert len(train) + len(extended) == len(everything) == 523
    assert len(extended.recipes) == 9
    assert all(run.start is None for run in extended.iter_runs())
    for name in extended.recipes:  # they continue where the training points end
        seen, later = (part.select(name).table["compute"] for part in (train, extended))
        assert later.min() > seen.max() * 0.9
    assert train.notes == ("split train: left out 72 evaluations marked extended",)
    assert extended.notes == ("split extended: left out 451 evaluations marked start, train",)
    assert everything.notes == ()


def test_published_fits():
    fits = published_fits("scalerl")
    assert list(fits.columns) == ["R0", "A", "B", "C_mid", "legend_A", "legend_B", "figure"]
    assert list(fits.index) == load_dataset("scalerl").recipes
    assert fits.loc["ScaleRL", "A"] == 0.6101
    assert ((fits["A"] - fits["legend_A"]).abs() < 0.001).all()


def test_published_starts_are_the_bundled_ones():
    starts = {run.recipe: run.start[0] for run in load_dataset("scalerl").iter_runs()}
    assert published_fits("scalerl")["R0"].to_dict() == starts


def test_listing():
    row, sizes = datasets().to_dict("records")
    assert (row["name"], row["recipes"], row["evaluations"]) == ("scalerl", 23, 523)
    assert (row["compute_unit"], row["licence"]) == ("GB200 GPU-hours", "CC BY 4.0")
    assert "arXiv 2510.13786" in row["citation"]
    assert "read off the figures" in row["citation"]
    assert (sizes["name"], sizes["recipes"], sizes["evaluations"]) == ("qwen_math", 7, 732)
    assert (sizes["compute_unit"], sizes["licence"]) == ("FLOPs", "Apache-2.0")
    assert "arXiv 2509.25300" in sizes["citation"]


def test_qwen_math():
    runs = load_dataset("qwen_math")
    assert (runs.compute_label, runs.reward_label, runs.notes) == ("flops", "pass_rate", ())
    table = runs.table
    assert sorted(table["model_size_b"].unique()) == [0.5, 1.5, 3.0, 7.0, 14.0, 32.0, 72.0]
    last = 1.0 - table.sort_values("step").groupby("model_size_b")["reward"].last()
    published = {0.5: 0.9419, 1.5: 0.9129, 3.0: 0.8582, 7.0: 0.7148, 14.0: 0.6051, 32.0: 0.4937, 72.0: 0.4359}
    assert last.round(4).to_dict() == published
    assert (table["samples"] == 512 * table["step"]).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: load_dataset("ScaleRL"),
            "rlceiling has no data set 'ScaleRL' (did you mean 'scalerl'?); it has: scalerl, qwen_math.",
        ),
        (
            lambda: published_fits("qwen_math"),
            "no curves were published for qwen_math; there are some for: scalerl.",
        ),
        (lambda: published_fits("misra"), "rlceiling has no data set 'misra'; it has: scalerl, qwen_math."),
        (
            lambda: load_dataset("scalerl", "extend"),
            "scalerl has no split 'extend' (did you mean 'extended'?); it has: train, extended, all.",
        ),
    ],
)
def test_refused(call, said):
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value) == said
