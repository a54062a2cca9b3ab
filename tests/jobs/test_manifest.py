"""Manifests: the jobs they make, and the sentences about mistakes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rlceiling as rl
from made_priors import PRIORS
from manifests import MANIFEST, write_logs
from rlceiling.jobs.job import Label, RecipeJob
from rlceiling.jobs.manifest import plan
from rlceiling.models.recipe_priors import restored_priors
from rlceiling.runs import Run
from rlceiling.runs.units import Units
from rlceiling.settings import SamplerSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two logs and a manifest beside them."""
    write_logs(tmp_path)
    return tmp_path


def test_jobs_of_a_manifest(folder: Path) -> None:
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert unreadable == []
    assert [(job.labels[0].source, job.name, job.labels[0].share) for job in jobs] == [
        *[("logs/a.csv", recipe, 0.5) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/a.csv", recipe, 1.0) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/b.csv", "Magistral", share) for share in (0.5, 1.0)],
    ]
    cut, whole = jobs[0].runs[0], jobs[2].runs[0]
    np.testing.assert_array_equal(cut.compute, whole.compute[whole.compute <= 0.5 * whole.compute[-1]])
    assert {job.sampler for job in jobs} == {SamplerSettings(2, 100, 100, 3)}


def test_key_depends_on_evaluations_and_settings_alone(folder: Path) -> None:
    keys = [job.key for job in plan(folder / "jobs.toml").jobs]
    assert len(set(keys)) == len(keys)
    assert keys == [job.key for job in plan(folder / "jobs.toml").jobs]
    os.rename(folder / "logs" / "b.csv", folder / "logs" / "c.csv")  # the same evaluations in another file
    assert keys == [job.key for job in plan(folder / "jobs.toml").jobs]
    text = (folder / "logs" / "c.csv").read_text().splitlines()
    (folder / "logs" / "c.csv").write_text("\n".join([*text, "Magistral,90000,0.53"]))
    grown = [job.key for job in plan(folder / "jobs.toml").jobs]
    assert [old == new for old, new in zip(keys, grown, strict=True)] == [True, True, True, True, False, False]
    for last in ("Magistral,90000,0.54", "Magistral,90001,0.53"):  # one number is changed
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


def test_keys_of_recipe_jobs_are_those_of_older_versions() -> None:
    """A key that changed would make every posterior of existing stores be sampled again.

    The keys were computed before laws across sizes could be jobs. They may change with the schema of the files alone.
    """
    priors = {"R0": {"distribution": "Beta", "concentration1": 1.0, "concentration0": 1.0}, "evaluation_error": 0.5}
    compute, reward = np.array([1.0, 2.0, 4.0, 8.5]), np.array([0.1, 0.2, 0.25, 0.3])
    known, unknown = np.array([100.0, 100.0, 100.0, 50.0]), np.full(4, np.nan)
    runs = (
        Run("recipe é", "0", compute, reward, known, (0.05, 200.0)),
        Run("recipe é", "1", compute, reward, unknown, None),
        Run("recipe é", "2", compute, reward, known, (0.05, np.nan)),
    )
    labels, units = (Label("a.csv"),), Units("gpu_hours", "pass_rate", (0.0, 1.0))
    job = RecipeJob(labels=labels, runs=runs, units=units, priors=priors, sampler=SamplerSettings(2, 100, 150, 7))
    assert job.key == "445b1ed66c625df5e34f6378a68d14fa"
    other = SamplerSettings(2, 100, 150, 8)
    assert replace(job, sampler=other).key != job.key


def test_keys_of_recipe_jobs_with_default_priors(tmp_path: Path) -> None:
    """They also change with the default priors, the default sampler settings and the bundled data."""
    manifest = tmp_path / "jobs.toml"
    manifest.write_text('[[source]]\ndataset = "scalerl"\nselect = ["GSPO"]\nshares = [0.5]\n')
    keys = ["b0debec358686af07138152ceac34ac0", "1401df4ac2c67d79e2943e4cc504e9f5"]
    assert [job.key for job in plan(manifest).jobs] == keys


def test_unreadable_sources_are_reported_and_others_are_fitted(folder: Path) -> None:
    (folder / "logs" / "broken.csv").write_text("recipe,gpu_hours,pass_rate\na,1,zero\n")
    (folder / "logs" / "short.csv").write_text("recipe,gpu_hours,pass_rate\na,1,0.1\na,2,0.2\n")
    (folder / "jobs.toml").write_text(MANIFEST.replace('"logs/*.csv"', '"logs/*.csv", "nothing/*.csv"'))
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert len(jobs) == 6
    reasons = {one.label.source: one.reason for one in unreadable}
    assert set(reasons) == {"logs/broken.csv", "logs/short.csv", "nothing/*.csv"}
    assert "'zero'" in reasons["logs/broken.csv"]
    assert "a fit needs 4" in reasons["logs/short.csv"]
    assert reasons["nothing/*.csv"] == "no file matches 'nothing/*.csv'; correct it."


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seed = 3", "sead = 3", "jobs.toml, line 13: sampler.sead (3) is not known; correct it."),
        ("chains = 2", "chains = 1", "line 10: sampler.chains (1) input should be greater than or equal to 2"),
        ("shares = [0.5]", "shares = 0.5", "line 7: source.shares (0.5) input should be a valid list"),
        ("[[source]]", "[[sources]]", "source is missing; correct it."),
        ('files = ["logs/*.csv"]', "", "line 2: a source names either files or a dataset; give one of them."),
        ("[sampler]", "[sampler", "jobs.toml is not TOML: "),
        ("[sampler]", "[priors]\nD = 3\n[sampler]", "line 10: priors: D is not a prior; there are R0, headroom, B,"),
        ("[sampler]", "[priors]\nB = 3\n[sampler]", "jobs.toml, line 10: priors: prior of B is 3"),
        (
            "[sampler]",
            '[priors]\nshare = {distribution = "Beta"}\nB = {distribution = "Bta"}\n[sampler]',
            "jobs.toml, line 10: priors: share = {'distribution': 'Beta'} is not a distribution of NumPyro; write",
        ),
        ('recipe = "recipe"', 'size = "params"', "jobs.toml, line 6: source.size belongs to a law across model sizes;"),
    ],
)
def test_manifest_errors_give_line_number(folder: Path, old: str, new: str, sentence: str) -> None:
    (folder / "jobs.toml").write_text(MANIFEST.replace(old, new))
    with pytest.raises(rl.DataError) as error:
        plan(folder / "jobs.toml")
    assert sentence in str(error.value)


def test_line_of_a_mistake_in_the_second_source(folder: Path) -> None:
    second = '[[source]]\ndataset = "scalerl"\nsplit = 3\n'
    (folder / "jobs.toml").write_text(MANIFEST.replace("[sampler]", f"{second}\n[sampler]"))
    with pytest.raises(rl.DataError, match=r"^jobs.toml, line 11: source.split \(3\) input should be a valid string"):
        plan(folder / "jobs.toml")


def test_cuts_at_a_compute(folder: Path) -> None:
    text = MANIFEST.replace("shares = [0.5]", "cut_compute = [4000, 100000, 1]")
    (folder / "jobs.toml").write_text(text)
    jobs, unreadable, _ = plan(folder / "jobs.toml")
    assert unreadable == []
    # No run reaches 100,000, and none has evaluations up to 1.
    assert [(*job.labels[0], job.name) for job in jobs] == [
        *[("logs/a.csv", 1.0, 4000.0, recipe) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/a.csv", 1.0, None, recipe) for recipe in ("ScaleRL", "GSPO")],
        *[("logs/b.csv", 1.0, cut, "Magistral") for cut in (4000.0, None)],
    ]
    for job in jobs:
        last = job.runs[0].compute[-1]
        assert (last <= 4000.0) == (job.labels[0].cut_compute == 4000.0)


def test_same_evaluations_make_one_job(folder: Path) -> None:
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


def test_priors_of_a_manifest_are_learned_ones_by_name_or_file(folder: Path) -> None:
    plain = {job.key for job in plan(folder / "jobs.toml").jobs}
    PRIORS.save(folder / "history.toml")

    def priors_with(first_line: str) -> dict[str, rl.SigmoidPriors]:
        (folder / "jobs.toml").write_text(f"{first_line}\n{MANIFEST}")
        jobs = plan(folder / "jobs.toml").jobs
        assert plain.isdisjoint(job.key for job in jobs) == ("weak" not in first_line)
        return {job.name: restored_priors(job.priors) for job in jobs}

    assert all(type(own) is rl.SigmoidPriors for own in priors_with('priors = "weak"').values())
    reference = rl.SigmoidPriors.reference()
    assert all(own.to_dict() == reference.to_dict() for own in priors_with('priors = "reference"').values())
    of_file = priors_with('priors = "history.toml"')  # relative to the manifest
    assert all(isinstance(own, rl.LearnedPriors) for own in of_file.values())
    assert all("C_mid" in own.learned for own in of_file.values())
    (folder / "jobs.toml").write_text(f'priors = "absent.toml"\n{MANIFEST}')
    with pytest.raises(rl.DataError, match=r"jobs.toml, line 1: priors: 'absent.toml' names no priors"):
        plan(folder / "jobs.toml")
    (folder / "jobs.toml").write_text(f"priors = 3\n{MANIFEST}")
    with pytest.raises(
        rl.DataError, match=r"jobs.toml, line 1: priors \(3\) .*is neither a table of priors nor a name"
    ):
        plan(folder / "jobs.toml")
