"""Fits written to a directory and read back."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import rlceiling as rl
import several
from rlceiling.curves import sigmoid_curve
from rlceiling.posterior.files import _tree, netcdf_bytes
from rlceiling.writing import SAVE_LOCK

QUICK = {"chains": 2, "tune": 200, "draws": 300, "rules": several.LENIENT}
NASTY = ["a/b:c <x> ☃", "a_b_c _x_", "../../etc", ".hidden", "CON", "☃", "☂", "ü" * 200, "ü" * 199 + "u", "x" * 200]

RUN_NAMES = ["0", "../a/b:c <x> ☃", " ", "ü" * 200]


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    compute = np.r_[0.0, np.geomspace(300.0, 16_000.0, 16)]
    wiggle = 0.4 * np.sin(3.0 * np.arange(17.0))
    rows = [
        pd.DataFrame({"recipe": name, "gpu_hours": compute, "score": 100 * curve + wiggle, "n_eval": n_eval})
        for name, curve, n_eval in (
            ("bent", sigmoid_curve(compute, 0.6, 1.8, 2000.0, 0.4), 16_000.0),
            ("a/b:c <x> ☃", sigmoid_curve(compute, 0.7, 1.5, 60_000.0, 0.3), np.nan),
        )
    ]
    runs = rl.read_runs(pd.concat(rows), reward="score", reward_bounds=(0, 100)).until(15_999)
    fits = rl.fit(runs, rl.SigmoidPriors(C_mid=dist.LogNormal(0.0, 1.0), C_mid_origin=3000.0), seed=3, **QUICK)
    bent, uneven = fits["bent"], several.fits()["uneven"]
    unlogged = dataclasses.replace(
        bent,
        name="no start",
        runs=(dataclasses.replace(bent.runs[0], recipe="no start", start=None),),
        priors=rl.SigmoidPriors(B=dist.Gamma(4.0, 2.0), headroom_spread=dist.HalfCauchy(0.2), evaluation_error=1.0),
    )
    # Its runs log the same step 0; here one logs none and one does not know how many answers are behind it.
    starts = (None, (0.41, np.nan), *(run.start for run in uneven.runs[2:]))
    renamed = zip(uneven.runs, RUN_NAMES, starts, strict=True)
    seeds = dataclasses.replace(
        uneven, runs=tuple(dataclasses.replace(run, run=name, start=start) for run, name, start in renamed)
    )
    return rl.Fits([*fits.values(), unlogged, seeds], runs.notes)


@pytest.fixture
def saved(fits: rl.Fits, tmp_path: Path) -> Path:
    fits.save(tmp_path / "new" / "fits")
    return tmp_path / "new" / "fits"


def test_a_file_is_what_xarray_would_write(fits: rl.Fits, saved: Path, tmp_path: Path) -> None:
    for name, fit in fits.items():
        tree = _tree(fit)
        tree.to_netcdf(tmp_path / "its.nc", engine="h5netcdf")
        (tmp_path / "ours.nc").write_bytes(netcdf_bytes(fit))
        with xr.open_datatree(tmp_path / "its.nc") as its, xr.open_datatree(tmp_path / "ours.nc") as ours:
            assert ours.identical(its), name
            assert ours.identical(tree), name
            for group in tree.children:  # a flag is identical to a number in its place
                assert ours[group].to_dataset().dtypes == its[group].to_dataset().dtypes
        assert netcdf_bytes(fit) == (tmp_path / "ours.nc").read_bytes()


def test_everything_comes_back(fits: rl.Fits, saved: Path) -> None:
    loaded = rl.load_fits(saved)
    assert list(loaded) == list(fits)
    assert loaded.notes == fits.notes
    assert any(note.startswith("until: left out 2 evaluations") for note in loaded.notes)
    assert fits.verdicts == loaded.verdicts
    assert len(set(fits.verdicts.values())) == 2
    for name, fit in fits.items():
        other = loaded[name]
        for group in ("draws", "run_draws", "sample_stats"):
            before, after = getattr(fit, group), getattr(other, group)
            assert list(before) == list(after)
            for key, values in before.items():
                assert values.dtype == after[key].dtype
                assert values.shape == after[key].shape
                assert values.tobytes() == after[key].tobytes()
        assert (fit.units, fit.settings, fit.rules) == (other.units, other.settings, other.rules)
        assert fit.priors.to_dict() == other.priors.to_dict()
        assert fit.run_names == other.run_names
        for run, again in zip(fit.runs, other.runs, strict=True):
            assert (run.recipe, run.run) == (again.recipe, again.run)
            assert np.array_equal(run.compute, again.compute)
            assert np.array_equal(run.n_eval, again.n_eval, equal_nan=True)
            assert np.allclose(run.reward, again.reward, rtol=1e-15, atol=0)
            assert np.array_equal(np.array(run.start, float), np.array(again.start, float), equal_nan=True)
        assert fit.sentence() == other.sentence()
    assert loaded["no start"].runs[0].start is None
    assert loaded["uneven"].run_names == RUN_NAMES
    assert [len(run.compute) for run in loaded["uneven"].runs] == [n for _, n in several.UNEVEN.values()]
    assert [run.start is None for run in loaded["uneven"].runs] == [True, False, False, False]
    pd.testing.assert_frame_equal(fits.summary(of="runs"), loaded.summary(of="runs"), check_exact=True)
    pd.testing.assert_frame_equal(fits.summary(), loaded.summary(), check_exact=True)
    for of in ("recipe", "new run", "runs"):
        before, after = (some.forecast([100.0, 1e5], of=of) for some in (fits, loaded))
        pd.testing.assert_frame_equal(before, after, rtol=1e-12)
    pd.testing.assert_frame_equal(
        fits.chances(1.0, include_inconclusive=True), loaded.chances(1.0, include_inconclusive=True), check_exact=True
    )


def test_a_loaded_fit_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    rl.load_fits(saved).save(tmp_path / "again")
    first, second = rl.load_fits(saved), rl.load_fits(tmp_path / "again")
    assert first.notes == second.notes
    assert all(np.array_equal(first[n].draws["A"], second[n].draws["A"]) for n in first)
    assert all(np.array_equal(first[n].run_draws["A"], second[n].run_draws["A"]) for n in first)


def test_notes_are_not_told_twice(fits: rl.Fits, tmp_path: Path) -> None:
    bent = fits["bent"]
    compute = np.geomspace(300.0, 16_000.0, 200)
    long = dataclasses.replace(bent.runs[0], compute=compute, reward=np.full(200, 0.5), n_eval=np.full(200, np.nan))
    rl.Fits([dataclasses.replace(bent, runs=(long,))], ["of the table"]).save(tmp_path)
    rl.load_fits(tmp_path).save(tmp_path)
    assert rl.load_fits(tmp_path).notes == ("of the table", "bent: 200 evaluations were averaged into 64 bins of ln C")


def test_files_are_hdf5_and_json_and_nothing_else(saved: Path) -> None:
    files = sorted(path for path in saved.iterdir() if path.name != SAVE_LOCK)
    assert len(files) == 5
    assert [f.suffix for f in files].count(".nc") == 4
    for file in files:
        if file.name == "fits.json":
            json.loads(file.read_text(encoding="utf-8"))
        else:
            assert file.read_bytes().startswith(b"\x89HDF\r\n\x1a\n")
            assert b"numpy.core" not in file.read_bytes()
            assert b"_reconstruct" not in file.read_bytes()


def test_xarray_alone_reads_a_file_in_the_users_units(fits: rl.Fits, saved: Path) -> None:
    with xr.open_datatree(next(saved.glob("bent.*.nc")), engine="h5netcdf") as tree:
        assert {"posterior", "sample_stats", "observed_data"} <= set(tree.children)
        assert tree["posterior"]["A"].dims == ("chain", "draw")
        assert float(tree["posterior"]["A"].median()) == pytest.approx(60.0, abs=2.0)
        assert np.array_equal(tree["posterior"]["A"].values, fits["bent"].draws["A"])
        assert float(tree["observed_data"]["reward"].max()) == pytest.approx(59, abs=1.5)
        assert float(tree["observed_data"]["compute"].min()) == 300.0
    uneven = fits["uneven"]
    with xr.open_datatree(next(saved.glob("uneven.*.nc")), engine="h5netcdf") as tree:
        assert tree["posterior"]["run_A"].dims == ("chain", "draw", "run")
        assert np.array_equal(tree["posterior"]["run_A"].sel(run=RUN_NAMES[1]), uneven.draws_of(RUN_NAMES[1])["A"])
        observed = tree["observed_data"].to_dataset()
        for place, run in enumerate(uneven.runs):
            own = observed.isel(evaluation=np.flatnonzero(observed["run"] == place))
            assert np.array_equal(own["compute"], run.compute)
            assert np.allclose(own["reward"], 100 * run.reward, rtol=1e-15, atol=0)


def test_names_with_special_characters_are_saved(fits: rl.Fits, tmp_path: Path) -> None:
    draws = fits["bent"].draws
    many = rl.Fits(
        [
            dataclasses.replace(fits["bent"], name=name, draws={**draws, "A": draws["A"] + 0.01 * i})
            for i, name in enumerate(NASTY)
        ]
    )
    many.save(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.nc"))) == len(NASTY)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    for file in (tmp_path / "out").glob("*.nc"):
        assert file.name.isascii()
        assert len(file.name) < 100
    # A disk that does not tell capitals apart must keep them apart too.
    assert len({p.name.casefold() for p in (tmp_path / "out").glob("*.nc")}) == len(NASTY)
    loaded = rl.load_fits(tmp_path / "out")
    assert list(loaded) == NASTY
    for i, name in enumerate(NASTY):
        assert np.array_equal(loaded[name].draws["A"], fits["bent"].draws["A"] + 0.01 * i)


def test_names_that_differ_in_capitals_do_not_collide(fits: rl.Fits, tmp_path: Path) -> None:
    rl.Fits([dataclasses.replace(fits["bent"], name=n) for n in ("grpo", "GRPO")]).save(tmp_path)
    assert len({p.name.casefold() for p in tmp_path.glob("*.nc")}) == 2


def test_saving_again_replaces_the_index_and_leaves_nothing_behind(fits: rl.Fits, saved: Path) -> None:
    draws = fits["bent"].draws
    changed = dataclasses.replace(fits["bent"], draws={**draws, "A": draws["A"] + 1.0})
    rl.Fits([changed], ["second"]).save(saved)
    loaded = rl.load_fits(saved)
    assert list(loaded) == ["bent"]
    assert loaded.notes == ("second",)
    assert np.array_equal(loaded["bent"].draws["A"], fits["bent"].draws["A"] + 1.0)
    assert not [p for p in saved.iterdir() if "partial" in p.name]


def test_a_crash_while_writing_leaves_the_old_fits(fits: rl.Fits, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def crash(_: int) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(OSError, match=r"disk full.*\.nc"):
        fits.save(saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_fits_of_another_version_load(fits: rl.Fits, tmp_path: Path) -> None:
    versions = {"rlceiling": "0.0.1", "jax": "0.4.0", "numpyro": "0.15.0", "backend": "gpu"}
    old = dataclasses.replace(fits["bent"], settings=dataclasses.replace(fits["bent"].settings, versions=versions))
    rl.Fits([old]).save(tmp_path)
    loaded = rl.load_fits(tmp_path)["bent"]
    assert loaded.settings.versions == versions
    assert loaded.verdict is fits["bent"].verdict


def edit_index(folder: Path, change: Callable[[dict], object]) -> None:
    index = json.loads((folder / "fits.json").read_text(encoding="utf-8"))
    change(index)
    index.pop("sha256")  # as in an index of an earlier version
    (folder / "fits.json").write_text(json.dumps(index), encoding="utf-8")


def edit_file(folder: Path, change: Callable[[dict], object]) -> None:
    with h5py.File(next(folder.glob("bent.*.nc")), "r+") as file:
        described = json.loads(file.attrs["rlceiling"])
        change(described)
        file.attrs["rlceiling"] = json.dumps(described)


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


UPDATE = " has schema 6 and this rlceiling reads up to 5; update it with pip install --upgrade rlceiling."
OLD = (
    " has schema 2, from before the runs of a recipe were fitted together, and this rlceiling reads 3 to 5; fit again."
)
NO_INDEX = "{0} holds no fits.json; name a directory written by fits.save or rlceiling fit --out."
MISMATCH = " is damaged: its content does not match its digest; write the fits again."
DAMAGED = "{0}/fits.json is damaged; write the fits again."


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda d, f: edit_index(d, lambda i: i.update(schema=6)), "{0}/fits.json" + UPDATE),
        (lambda d, f: edit_file(d, lambda i: i.update(schema=6)), "{1}" + UPDATE),
        (lambda d, f: edit_index(d, lambda i: i.update(schema=2)), "{0}/fits.json" + OLD),
        (lambda d, f: edit_index(d, lambda i: i.update(schema=1)), "{0}/fits.json" + OLD.replace("2", "1")),
        (lambda d, f: edit_file(d, lambda i: i.update(schema=2)), "{1}" + OLD),
        (lambda d, f: (d / "fits.json").unlink(), NO_INDEX),
        (lambda d, f: (d / "fits.json").write_text("{"), DAMAGED),
        (lambda d, f: (d / "fits.json").write_text("[]"), DAMAGED),
        (lambda d, f: (d / "fits.json").write_bytes(b'{"fits": "\xff"}'), DAMAGED),
        (lambda d, f: edit_index(d, lambda i: i.pop("schema")), DAMAGED),
        (lambda d, f: edit_index(d, lambda i: i.pop("fits")), DAMAGED),
        (lambda d, f: f.unlink(), "{1} is missing though the index names it; write the fits again."),
        (lambda d, f: f.write_bytes(b""), "{1}" + MISMATCH),
        (lambda d, f: half(f), "{1}" + MISMATCH),
        (
            lambda d, f: edit_file(d, lambda i: i.pop("units")),
            "{1} cannot be read (KeyError); write the fits again.",
        ),
    ],
)
def test_damaged_files_raise_data_error(damage: Callable[[Path, Path], object], sentence: str, saved: Path) -> None:
    file = next(saved.glob("bent.*.nc"))
    rl.load_fits(saved)
    damage(saved, file)
    with pytest.raises(rl.DataError) as raised:
        list(rl.load_fits(saved).values())  # a file is read when its recipe is asked for
    assert str(raised.value) == sentence.format(saved, file)


def test_a_file_from_before_the_tail_is_a_sigmoid(fits: rl.Fits, saved: Path) -> None:
    edit_index(saved, lambda i: i.update(schema=3))
    edit_file(saved, lambda i: (i.update(schema=3), i["priors"].pop("tail"), i.pop("checks"), i.pop("convergence")))
    edit_file(saved, lambda i: i["priors"].pop("form_error"))
    with h5py.File(next(saved.glob("bent.*.nc")), "r+") as file:
        del file["posterior/tail"]
    old, bent = rl.load_fits(saved)["bent"], fits["bent"]
    assert (old.draws["tail"] == 1.0).all()
    assert old.draws["tail"].shape == bent.draws["A"].shape
    A, B, C_mid, R0 = (bent.draws[name].reshape(-1, 1) for name in ("A", "B", "C_mid", "R0"))
    where = np.array([1e3, 1e5])
    curves = sigmoid_curve(where, A, B, C_mid, R0)
    table = rl.Fits([old]).forecast(where, of="recipe")
    np.testing.assert_allclose(table["mean"], curves.mean(axis=0), rtol=1e-12)
    # Its tail was not sampled and does not count in the diagnosis; what was sampled does.
    assert old.convergence.r_hat <= bent.convergence.r_hat
    assert np.isfinite(old.convergence.r_hat)
    assert np.allclose(np.median(old.prior_draws()["tail"]), 1.0, atol=0.01)
    assert old.priors.B is not None
    again = saved / "again"
    rl.Fits([old]).save(again)
    assert (rl.load_fits(again)["bent"].draws["tail"] == 1.0).all()
    # Negative control: the posterior with its tail forecasts something else.
    assert np.abs(rl.Fits([bent]).forecast(where, of="recipe")["mean"] - table["mean"]).max() > 0.01


def test_fits_that_are_not_read_yet_can_be_pickled_and_selected(saved: Path) -> None:
    fits = rl.load_fits(saved)
    names = list(fits)
    again = pickle.loads(pickle.dumps(fits.select(*names[:2])))
    assert list(again) == names[:2]
    np.testing.assert_array_equal(again[names[0]].draws["A"], fits[names[0]].draws["A"])
    assert list(fits.drop(names[0])) == names[1:]


def test_a_recipe_is_read_when_it_is_asked_for(saved: Path) -> None:
    fits = rl.load_fits(saved)
    index = json.loads((saved / "fits.json").read_text(encoding="utf-8"))
    files = {name: saved / index["fits"][name] for name in list(fits)[:2]}
    first, second = files
    kept = fits[first]
    for file in files.values():
        file.unlink()
    assert fits[first] is kept
    with pytest.raises(rl.DataError, match="is missing; write the fits again"):
        fits[second]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(rl.DataError) as raised:
        rl.load_fits(tmp_path / "nowhere")
    assert str(raised.value) == NO_INDEX.format(tmp_path / "nowhere")
