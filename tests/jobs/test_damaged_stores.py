"""Stores whose files are damaged, and manifests that nothing can satisfy: one sentence each, and nothing is silent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rlceiling as rl
from handmade import made_recipe
from manifests import MANIFEST, write_logs
from rlceiling.jobs.job import Label, RecipeJob, row_of
from rlceiling.jobs.manifest import plan
from rlceiling.posterior.files import _SEAL, netcdf_bytes
from rlceiling.settings import SamplerSettings
from rlceiling.writing import remove_partials


@pytest.fixture(scope="module")
def fits() -> dict[str, rl.Fit]:
    return {name: made_recipe(name, [0.6]) for name in ("one", "two")}


@pytest.fixture
def store(fits: dict[str, rl.Fit], tmp_path: Path) -> rl.Store:
    store = rl.open_store(tmp_path / "store", create=True)
    for fit in fits.values():
        label = Label("a.csv")
        sampler = SamplerSettings(**fit.settings.sampler())
        job = RecipeJob(labels=(label,), runs=fit.runs, units=fit.units, priors=fit.priors.to_dict(), sampler=sampler)
        store.put(job.key, netcdf_bytes(fit), row_of(fit, 0.1), [label], 1)
    return store


def file_of(store: rl.Store, name: str = "one") -> Path:
    index = store.index()
    return store._path(str(index.index[index["recipe"] == name][0]))


def test_damage_that_keeps_the_length_is_noticed_when_a_posterior_is_read(store: rl.Store) -> None:
    file = file_of(store)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said = (
        f"{file} is damaged: its content does not match its digest; run the batch again with --check, which makes it "
        "again."
    )
    for read in (lambda: store.fit(file.stem), store.fits):
        with pytest.raises(rl.DataError) as raised:
            read()
        assert str(raised.value) == said
    assert list(store.fits(lambda rows: rows["recipe"] == "two")) == ["two"]
    assert store.damaged() == [file.stem]


def test_a_posterior_of_an_earlier_version_has_its_digest_in_the_sidecar(store: rl.Store) -> None:
    """Its file ends without a digest; what the sidecar holds is compared nevertheless."""
    file = file_of(store)
    content = file.read_bytes()
    content = content[: content.rindex(_SEAL)]
    row, labels = json.loads(file.with_suffix(".json").read_text())["row"], [Label("a.csv")]
    store.put(file.stem, content, row, labels, 1)
    assert store.fit(file.stem).name == "one"
    at = content.index(np.float64(store.fit(file.stem).draws["A"][0, 0]).tobytes())
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(rl.DataError, match="does not match its digest"):
        store.fit(file.stem)


@pytest.mark.parametrize("lost", ["row", "labels", "sha256", "bytes"])
def test_a_sidecar_that_lacks_an_entry_is_noted(lost: str, store: rl.Store) -> None:
    sidecar = file_of(store).with_suffix(".json")
    plain = json.loads(sidecar.read_text())
    del plain[lost]
    sidecar.write_text(json.dumps(plain))
    note = f"damaged: {sidecar}; its posterior is left out; run the batch again with --check, which makes it again"
    assert list(store.index()["recipe"]) == ["two"]
    fits = store.fits()
    assert list(fits) == ["two"]
    assert note in fits.table_notes
    assert note in repr(store)
    assert store.damaged() == [sidecar.stem]
    assert not store.has(sidecar.stem)
    with pytest.raises(rl.DataError, match="has no complete posterior"):
        store.fit(sidecar.stem)


def test_a_store_that_was_killed_at_its_beginning_is_begun_again(tmp_path: Path) -> None:
    for left in (".store.json.partial", f".store.json.{'0' * 16}.partial", ".lock"):
        folder = tmp_path / left
        folder.mkdir()
        (folder / left).write_text("{")
        assert len(rl.open_store(folder, create=True).index()) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(rl.DataError, match="holds other files"):
        rl.open_store(tmp_path / "other", create=True)


def test_a_batch_deletes_temporary_files_of_one_that_was_killed(store: rl.Store) -> None:
    file = file_of(store)
    left = [file.with_name(f".{file.name}.{'a' * 16}.partial"), store.folder / f".index.parquet.{'b' * 16}.partial"]
    kept = store.folder / f".notes.txt.{'c' * 16}.partial"  # of another program
    for path in (*left, kept):
        path.write_bytes(b"x")
    with store.lock():
        assert [path.exists() for path in (*left, kept)] == [False, False, True]
    remove_partials(store.folder)
    assert not kept.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_logs(tmp_path)
    return tmp_path


def refused(folder: Path, source: str) -> str:
    (folder / "jobs.toml").write_text(f"[[source]]\n{source}\n")
    with pytest.raises(rl.DataError) as raised:
        plan(folder / "jobs.toml")
    return str(raised.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('files = ["*"]\ncut_compute = [-1]', "source.cut_compute has -1, which is not a compute above 0; correct it."),
        ('files = ["*"]\nshares = [1.5]', "source.shares has 1.5, which is not a share of a run; give numbers between"),
        ('files = ["*"]\nreward_bounds = [1, 0]', "source.reward_bounds [1.0, 0.0] are not two finite numbers, low be"),
        ('files = ["*"]\nuntil = -1', "source.until (-1) is not a compute; give a number of 0 or more."),
        ('dataset = "scalerl"\ncompute = "x"', "source.compute says how a file is read, and a data set is read alrea"),
    ],
)
def test_sources_that_nothing_can_satisfy_are_refused_with_their_line(source: str, said: str, folder: Path) -> None:
    assert refused(folder, source).startswith(f"jobs.toml, line 3: {said}")


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ('{distribution = "LogNormal", loc = 0, scale = -1}', "cannot be used (Normal distribution got invalid scale"),
        ('{distribution = "LogNormal", loc = 0, scale = nan}', "cannot be used (Normal distribution got invalid scale"),
        ('{distribution = "LogNormal", loc = 0, scale = "x"}', "is not a distribution of NumPyro"),
        ('{distribution = "kl_divergence"}', "is not a distribution of NumPyro"),
    ],
)
def test_priors_that_cannot_be_made_are_refused(prior: str, said: str, folder: Path) -> None:
    (folder / "jobs.toml").write_text(f"{MANIFEST}\n[priors]\nB = {prior}\n")
    with pytest.raises(rl.DataError) as raised:
        plan(folder / "jobs.toml")
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"jobs.toml, line {len(MANIFEST.splitlines()) + 3}: priors: B = ")


def test_manifests_that_are_no_text_or_nested_are_sentences(folder: Path) -> None:
    (folder / "jobs.toml").write_bytes("[[source]]\nfiles = ['café.csv']\n".encode("latin-1"))
    with pytest.raises(rl.DataError, match=r"^jobs\.toml, line 2: is not UTF-8 text; save it as UTF-8\.$"):
        plan(folder / "jobs.toml")
    assert refused(folder, "files = " + "[" * 100_000) == "jobs.toml is nested too deeply; correct it."


def test_the_name_of_a_folder_is_no_pattern(folder: Path) -> None:
    odd = folder / "we[i]rd"
    odd.mkdir()
    write_logs(odd)
    (odd / "logs" / "c[1].csv").write_bytes((odd / "logs" / "a.csv").read_bytes())
    whole = MANIFEST.replace("logs/*.csv", "logs/?.csv")
    assert whole != MANIFEST
    (odd / "jobs.toml").write_text(whole)
    jobs, unreadable, _ = plan(odd / "jobs.toml")
    assert unreadable == []
    assert {job.labels[0].source for job in jobs} == {"logs/a.csv", "logs/b.csv"}
    (odd / "jobs.toml").write_text(MANIFEST.replace("logs/*.csv", "logs/c[1].csv"))
    assert {job.labels[0].source for job in plan(odd / "jobs.toml").jobs} == {"logs/c[1].csv"}
