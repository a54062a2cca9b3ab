"""What a manifest means, and what it says of mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import rlceiling as rl
from manifests import MANIFEST, write_logs
from rlceiling.jobs.manifest import plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two logs and a manifest beside them."""
    write_logs(tmp_path)
    return tmp_path


def test_jobs_of_a_manifest(folder: Path) -> None:
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert unreadable == []
    assert [(job.labels[0].source, job.recipe, job.labels[0].share) for job in jobs] == [
        *[("logs/a.csv", recipe, 0.5) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/a.csv", recipe, 1.0) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/b.csv", "Magistral", share) for share in (0.5, 1.0)],
    ]
    cut, whole = jobs[0].runs[0], jobs[2].runs[0]
    np.testing.assert_array_equal(cut.compute, whole.compute[whole.compute <= 0.5 * whole.compute[-1]])
    assert {(job.chains, job.tune, job.draws, job.seed) for job in jobs} == {(2, 100, 100, 3)}


def test_an_address_is_the_content(folder: Path) -> None:
    keys = [job.key for job in plan(folder / "jobs.toml").jobs]
    assert len(set(keys)) == len(keys)
    assert keys == [job.key for job in plan(folder / "jobs.toml").jobs]
    os.rename(folder / "logs" / "b.csv", folder / "logs" / "c.csv")  # the same evaluations elsewhere
    assert keys == [job.key for job in plan(folder / "jobs.toml").jobs]
    text = (folder / "logs" / "c.csv").read_text().splitlines()
    (folder / "logs" / "c.csv").write_text("\n".join([*text, "Magistral,90000,0.53"]))
    grown = [job.key for job in plan(folder / "jobs.toml").jobs]
    assert [old == new for old, new in zip(keys, grown, strict=True)] == [True, True, True, True, False, False]
    for last in ("Magistral,90000,0.54", "Magistral,90001,0.53"):  # one number corrected
        (folder / "logs" / "c.csv").write_text("\n".join([*text, last]))
        assert plan(folder / "jobs.toml").jobs[-1].key not in {*keys, *grown}
    (folder / "logs" / "c.csv").write_text("\n".join([*text, "Magistral,90000,0.53"]))
    for old, new in (("seed = 3", "seed = 4"), ("draws = 100", "draws = 101"), ("[sampler]", "[priors]\n[sampler]")):
        (folder / "jobs.toml").write_text(MANIFEST.replace(old, new))
        changed = [job.key for job in plan(folder / "jobs.toml").jobs]
        assert (changed == grown) == (old == "[sampler]")
    priors = '[priors]\nB = {distribution = "LogNormal", loc = 0.5, scale = 0.3}\n'
    (folder / "jobs.toml").write_text(MANIFEST + priors)
    assert not set(grown) & {job.key for job in plan(folder / "jobs.toml").jobs}


def test_what_cannot_be_fitted_is_told_and_stops_nothing(folder: Path) -> None:
    (folder / "logs" / "broken.csv").write_text("recipe,gpu_hours,pass_rate\na,1,zero\n")
    (folder / "logs" / "short.csv").write_text("recipe,gpu_hours,pass_rate\na,1,0.1\na,2,0.2\n")
    (folder / "jobs.toml").write_text(MANIFEST.replace('"logs/*.csv"', '"logs/*.csv", "nothing/*.csv"'))
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert len(jobs) == 6
    reasons = {one.label.source: one.reason for one in unreadable}
    assert set(reasons) == {"logs/broken.csv", "logs/short.csv", "nothing/*.csv"}
    assert "'zero'" in reasons["logs/broken.csv"]
    assert "a fit needs 4" in reasons["logs/short.csv"]
    assert reasons["nothing/*.csv"] == "no file is called 'nothing/*.csv'; correct it."


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seed = 3", "sead = 3", "jobs.toml, line 13: sampler.sead (3) is not known; correct it."),
        ("chains = 2", "chains = 1", "line 10: sampler.chains (1) input should be greater than or equal to 2"),
        ("shares = [0.5]", "shares = 0.5", "line 7: source.shares (0.5) input should be a valid list"),
        ("[[source]]", "[[sources]]", "source is missing; correct it."),
        ('files = ["logs/*.csv"]', "", "line 2: a source names either files or a dataset; give one of them."),
        ("[sampler]", "[sampler", "jobs.toml is no TOML: "),
        ("[sampler]", "[priors]\nD = 3\n[sampler]", "line 10: priors: D is no prior; there are R0, headroom, B,"),
        ("[sampler]", "[priors]\nB = 3\n[sampler]", "jobs.toml, line 10: priors: prior of B is 3"),
    ],
)
def test_mistakes_name_their_line(folder: Path, old: str, new: str, sentence: str) -> None:
    (folder / "jobs.toml").write_text(MANIFEST.replace(old, new))
    with pytest.raises(rl.DataError) as error:
        plan(folder / "jobs.toml")
    assert sentence in str(error.value)


def test_the_line_is_that_of_the_right_table(folder: Path) -> None:
    second = '[[source]]\ndataset = "scalerl"\nsplit = 3\n'
    (folder / "jobs.toml").write_text(MANIFEST.replace("[sampler]", f"{second}\n[sampler]"))
    with pytest.raises(rl.DataError, match=r"^jobs.toml, line 11: source.split \(3\) input should be a valid string"):
        plan(folder / "jobs.toml")


def test_cuts_at_a_compute(folder: Path) -> None:
    text = MANIFEST.replace("shares = [0.5]", "cut_compute = [4000, 100000, 1]")
    (folder / "jobs.toml").write_text(text)
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert unreadable == []
    # Nobody got to 100,000, and up to 1 there is nothing to fit.
    assert [(*job.labels[0], job.recipe) for job in jobs] == [
        *[("logs/a.csv", 1.0, 4000.0, recipe) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/a.csv", 1.0, None, recipe) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/b.csv", 1.0, cut, "Magistral") for cut in (4000.0, None)],
    ]
    for job in jobs:
        last = job.runs[0].compute[-1]
        assert (last <= 4000.0) == (job.labels[0].cut_compute == 4000.0)


def test_the_same_evaluations_are_one_job(folder: Path) -> None:
    """A cut at a share and at a compute that leave the same evaluations, and a copy of a log."""
    table = rl.load_dataset("scalerl").select("Magistral").table["compute"]
    half = 0.5 * table.max()
    (folder / "logs" / "copy.csv").write_bytes((folder / "logs" / "b.csv").read_bytes())
    (folder / "jobs.toml").write_text(
        MANIFEST.replace("shares = [0.5]", f"shares = [0.5]\ncut_compute = [{half}]").replace("logs/*", "logs/[bc]*")
    )
    jobs, _, _ = plan(folder / "jobs.toml")
    files = ("logs/b.csv", "logs/copy.csv")
    assert [set(job.labels) for job in jobs] == [
        {(name, *cut) for name in files for cut in ((0.5, None), (1.0, half))},
        {(name, 1.0, None) for name in files},
    ]
