"""Outputs of a batch: they agree with the store, and are rewritten only if it has changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rlceiling as rl
from handmade import CHAINS, DRAWS, made_fit, made_recipe, made_run
from rlceiling.jobs.job import Job, Label, RecipeJob, row_of
from rlceiling.jobs.manifest import Outputs
from rlceiling.jobs.outputs import write_outputs
from rlceiling.posterior.files import netcdf_bytes
from rlceiling.settings import SamplerSettings

ALL = Outputs(summary=True, draws=True, plots=True, report=True)
PLOTS = Outputs(plots=True)


def put(store: rl.Store, fit: rl.Fit, *labels: Label, batch: int = 1) -> Job:
    """Put a posterior that was made by hand into a store, and return its job."""
    sampler = SamplerSettings(**fit.settings.sampler())
    job = RecipeJob(labels=labels, runs=fit.runs, units=fit.units, priors=fit.priors.to_dict(), sampler=sampler)
    store.put(job.key, netcdf_bytes(fit), row_of(fit, 0.1), labels, batch)
    return job


def fill(folder: Path) -> tuple[rl.Store, list[Job]]:
    """Make a store of a recipe with a cut, another recipe, and one that is in no job of the manifest."""
    store = rl.open_store(folder / "store", create=True)
    whole = made_recipe("grown", [0.6])
    early = made_run("grown", "1", 0.6, whole.runs[0].compute[:8])
    jobs = [
        put(store, whole, Label("a.csv")),
        put(store, made_fit([early], [0.6]), Label("a.csv", 0.5)),
        put(store, made_recipe("other", [0.7, 0.71]), Label("a.csv"), Label("copy.csv")),
    ]
    put(store, made_recipe("unasked", [0.65]), Label("old.csv"))
    return store, jobs


@pytest.fixture
def filled(tmp_path: Path) -> tuple[rl.Store, list[Job]]:
    return fill(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[rl.Store, list[Job], list[str]]:
    """The same store with all outputs, and the sentences about them."""
    store, jobs = fill(tmp_path_factory.mktemp("outputs"))
    return store, jobs, list(write_outputs(ALL, jobs, store))


def test_outputs_agree_with_the_store(written: tuple[rl.Store, list[Job], list[str]]) -> None:
    store, jobs, said = written
    folder = store.folder
    assert said == [
        *[f"wrote {folder / name}" for name in ("summary.csv", "draws.parquet", "report.html")],
        f"drew 4 new pictures of 4 in {folder / 'plots'}",
    ]
    summary = pd.read_csv(folder / "summary.csv")
    assert list(zip(summary["source"], summary["recipe"], summary["share"], strict=True)) == [
        ("a.csv", "grown", 0.5),
        ("a.csv", "grown", 1.0),
        ("a.csv", "other", 1.0),
        ("copy.csv", "other", 1.0),
    ]
    draws = pd.read_parquet(folder / "draws.parquet")
    assert len(draws) == 3 * CHAINS * DRAWS  # a posterior with two labels is written once
    for job in jobs:
        fit, own = store.fit(job.key), draws[draws["key"] == job.key]
        for name, values in fit.draws.items():
            np.testing.assert_array_equal(own.pivot(index="chain", columns="draw", values=name), values)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "other (copy.csv)" in page
    assert "unasked" not in page
    pictures = sorted(path.name.split(".")[-3] for path in (folder / "plots").glob("*.png"))
    assert pictures == ["curve", "curve", "curve", "growth"]


def test_outputs_are_not_rewritten_without_a_change(written: tuple[rl.Store, list[Job], list[str]]) -> None:
    store, jobs, _ = written
    files = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}
    said = list(write_outputs(ALL, jobs, store))
    assert [sentence.endswith(" is up to date") for sentence in said] == [True, True, True, False]
    assert said[-1].startswith("drew 0 new pictures of 4 in ")
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()} == files
    (store.folder / "summary.csv").unlink()
    (store.folder / "outputs.json").write_text("[")
    only = Outputs(summary=True, draws=True)
    assert all(sentence.startswith("wrote ") for sentence in write_outputs(only, jobs, store))


def test_pictures_are_drawn_again_for_new_posteriors(filled: tuple[rl.Store, list[Job]]) -> None:
    store, jobs = filled
    list(write_outputs(PLOTS, jobs, store))
    before = {path.name for path in (store.folder / "plots").glob("*.png")}
    longer = made_run("grown", "1", 0.6, np.geomspace(250.0, 80_000.0, 16))
    jobs[0] = put(store, made_fit([longer], [0.6]), Label("a.csv"), batch=2)  # the log has grown
    assert list(write_outputs(PLOTS, jobs, store)) == [f"drew 2 new pictures of 4 in {store.folder / 'plots'}"]
    after = {path.name for path in (store.folder / "plots").glob("*.png")}
    assert sorted(name.split(".")[-3] for name in after - before) == ["curve", "growth"]
    assert len(after) == 4  # pictures of the shorter log are deleted


def test_no_report_of_several_kinds_of_compute(filled: tuple[rl.Store, list[Job]]) -> None:
    store, jobs = filled
    units = rl.Fits([store.fit(jobs[0].key)]).units
    steps = type(units)("steps", units.reward, units.bounds)
    jobs.append(put(store, made_recipe("elsewhere", [0.6], units=steps), Label("b.csv")))
    said = list(write_outputs(Outputs(summary=True, report=True), jobs, store))
    assert said[1].startswith("no report.html: ")
    assert said[1].endswith(
        "several kinds of compute (gpu_hours, steps), which cannot be compared; choose among them with where."
    )
    assert not (store.folder / "report.html").exists()
