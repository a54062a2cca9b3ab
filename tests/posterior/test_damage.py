"""Damaged posteriors and indexes: every read compares a digest, and one sentence names the file and what to do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import rlceiling as rl
from handmade import made_recipe
from handmade_sizes import made_sizes
from rlceiling.posterior.files import _SEAL, netcdf_bytes, read_fit

DRAWS = 20
"""Draws per chain that are kept of the posteriors by hand, so that files are small."""


def short(fit: rl.Fit) -> rl.Fit:
    """The same posterior with few draws."""
    few = {group: {k: v[:, :DRAWS] for k, v in getattr(fit, group).items()} for group in GROUPS}
    return dataclasses.replace(fit, **few)


GROUPS = ("draws", "unit_draws", "sample_stats")


@pytest.fixture(scope="module")
def fits() -> rl.Fits:
    return rl.Fits([short(made_recipe("one", [0.6, 0.65])), short(made_recipe("two", [0.7]))], ["a note"])


@pytest.fixture
def saved(fits: rl.Fits, tmp_path: Path) -> Path:
    fits.save(tmp_path / "fits")
    return tmp_path / "fits"


def file_of(folder: Path, name: str = "one") -> Path:
    (file,) = folder.glob(f"{name}.*.nc")
    return file


def flipped(content: bytes, rng: np.random.Generator, bits: int) -> bytes:
    """Content in which some bits are flipped."""
    damaged = bytearray(content)
    for place in rng.integers(8 * len(content), size=bits):
        damaged[place // 8] ^= 1 << (place % 8)
    return bytes(damaged)


def test_every_flipped_bit_is_noticed(saved: Path) -> None:
    file = file_of(saved)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    places = [flipped(whole, rng, bits) for bits in (1, 1, 1, 8) for _ in range(40)]
    # The superblock and the digest are where a damaged file could look like one of an earlier version.
    ends = [*range(64), *range(len(whole) - 90, len(whole))]
    places += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in ends]
    for damaged in places:
        assert damaged != whole
        file.write_bytes(damaged)
        with pytest.raises(rl.DataError) as raised:
            rl.load_fits(saved)["one"]
        assert str(raised.value) == (f"{file} is damaged: its content does not match its digest; write the fits again.")
    file.write_bytes(whole)
    assert rl.load_fits(saved)["one"].name == "one"


def test_every_truncation_is_noticed_or_loses_nothing(fits: rl.Fits, saved: Path) -> None:
    file = file_of(saved)
    whole = file.read_bytes()
    unsealed = whole.rindex(_SEAL)
    for end in [*range(0, len(whole), 997), *range(len(whole) - 90, len(whole))]:
        file.write_bytes(whole[:end])
        if end == unsealed:  # a whole file of an earlier version
            np.testing.assert_array_equal(rl.load_fits(saved)["one"].draws["A"], fits["one"].draws["A"])
            continue
        with pytest.raises(rl.DataError, match=rf"^{re.escape(str(file))} .*; write the fits again\.$"):
            rl.load_fits(saved)["one"]


def test_files_of_earlier_versions_load(fits: rl.Fits, saved: Path) -> None:
    """They have no digests, and are named after the recipe only."""
    index = json.loads((saved / "fits.json").read_text())
    del index["sha256"]
    for name, file in index["fits"].items():
        old = re.sub(r"\.[0-9a-f]{16}\.nc$", ".nc", file)
        content = (saved / file).read_bytes()
        (saved / old).write_bytes(content[: content.rindex(_SEAL)])
        (saved / file).unlink()
        index["fits"][name] = old
    (saved / "fits.json").write_text(json.dumps(index, indent=1))
    loaded = rl.load_fits(saved)
    assert loaded.table_notes == ("a note",)
    for name, fit in fits.items():
        np.testing.assert_array_equal(loaded[name].draws["A"], fit.draws["A"])
    old_files = {path.name for path in saved.glob("*.nc")}
    loaded.save(saved)
    assert not old_files & {path.name for path in saved.glob("*.nc")}
    assert list(rl.load_fits(saved)) == ["one", "two"]


def test_a_file_of_an_earlier_version_that_holds_anything_is_a_sentence(tmp_path: Path) -> None:
    """Without a digest there is only what HDF5 and the reader notice; whatever they raise is one sentence."""
    content = netcdf_bytes(short(made_recipe("one", [0.6])))
    path = tmp_path / "old.nc"
    path.write_bytes(content[: content.rindex(_SEAL)])
    for damage in (
        lambda file: file.__delitem__("sample_stats"),
        lambda file: file.__delitem__("observed_data/run"),
        lambda file: file.attrs.pop("rlceiling"),
        lambda file: file.attrs.__setitem__("rlceiling", "[" * 100_000),
        lambda file: file.attrs.__setitem__("rlceiling", "[]"),
        lambda file: file.attrs.__setitem__("rlceiling", '{"schema": "4"}'),
        lambda file: file.attrs.__setitem__("rlceiling", '{"schema": 4, "units": 7}'),
    ):
        path.write_bytes(content[: content.rindex(_SEAL)])
        assert read_fit(path).name == "one"
        with h5py.File(path, "r+") as file:
            damage(file)
        with pytest.raises(rl.DataError, match=rf"^{re.escape(str(path))} .*write the fits again\.$"):
            read_fit(path)


def test_files_that_were_swapped_are_noticed(saved: Path) -> None:
    one, two = file_of(saved), file_of(saved, "two")
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    with pytest.raises(rl.DataError) as raised:
        rl.load_fits(saved)["one"]
    assert str(raised.value) == f"{one} holds the posterior of 'two', and its index says 'one'; write the fits again."


def test_every_flipped_bit_of_the_index_is_noticed(saved: Path) -> None:
    index = saved / "fits.json"
    whole = index.read_bytes()
    told = 0
    for at in range(len(whole)):
        index.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            same = rl.load_fits(saved)
        except rl.DataError as error:
            told += str(index) in str(error)
        else:  # a blank between entries that became another one, or the key of the digest, which is then missing
            assert {name: list(fit.run_names) for name, fit in same.items()} == {"one": ["1", "2"], "two": ["1"]}
            assert same.table_notes == ("a note",)
    assert told > 0.9 * (len(whole) - 12)


BROKEN: dict[str, Callable[[dict], object]] = {
    "a list": lambda index: [index],
    "files as a list": lambda index: index | {"fits": ["one.nc"]},
    "a number as a file": lambda index: index | {"fits": {"one": 1}},
    "a file elsewhere": lambda index: index | {"fits": {"one": "../one.nc"}},
    "an absolute file": lambda index: index | {"fits": {"one": "/one.nc"}},
    "runs as a list": lambda index: index | {"runs": ["1"]},
    "a run as a text": lambda index: index | {"runs": {"one": "12"}},
    "no runs of a recipe": lambda index: index | {"runs": {"one": []}},
    "a number as a note": lambda index: index | {"notes": [1]},
    "notes as a text": lambda index: index | {"notes": "abc"},
    "schema as a text": lambda index: index | {"schema": "4"},
    "schema as a flag": lambda index: index | {"schema": True},
    "no schema": lambda index: {k: v for k, v in index.items() if k != "schema"},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_malformed_index_is_a_sentence(what: str, saved: Path) -> None:
    index = json.loads((saved / "fits.json").read_text())
    del index["sha256"]
    (saved / "fits.json").write_text(json.dumps(index))
    assert list(rl.load_fits(saved)) == ["one", "two"]
    (saved / "fits.json").write_text(json.dumps(BROKEN[what](index)))
    with pytest.raises(rl.DataError, match=rf"^{re.escape(str(saved / 'fits.json'))} is damaged.*; write the fits aga"):
        rl.load_fits(saved)


def test_a_deeply_nested_index_and_a_folder_in_its_place_are_sentences(saved: Path) -> None:
    (saved / "fits.json").write_text("[" * 100_000)
    with pytest.raises(rl.DataError, match="is damaged; write the fits again"):
        rl.load_fits(saved)
    (saved / "fits.json").unlink()
    (saved / "fits.json").mkdir()
    with pytest.raises(rl.DataError, match="cannot be read"):
        rl.load_fits(saved)


def test_a_damaged_law_is_a_sentence(tmp_path: Path) -> None:
    file = made_sizes().save(tmp_path)
    whole = file.read_bytes()
    assert rl.load_sizes(tmp_path).law == "power law"
    rng = np.random.default_rng(1)
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", *(flipped(whole, rng, 1) for _ in range(10))):
        file.write_bytes(damaged)
        with pytest.raises(rl.DataError) as raised:
            rl.load_sizes(tmp_path)
        assert str(raised.value) == f"{file} is damaged: its content does not match its digest; write the fits again."


def test_a_file_ends_with_the_digest_of_what_stands_before(fits: rl.Fits, saved: Path) -> None:
    content = file_of(saved).read_bytes()
    assert content == netcdf_bytes(fits["one"])
    hdf5, seal = content[:-83], content[-83:]
    assert seal == b"\nrlceiling sha256 " + hashlib.sha256(hdf5).hexdigest().encode() + b"\n"
