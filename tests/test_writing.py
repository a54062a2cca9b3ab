"""Files are replaced as a whole, through links and under kills, and two processes may save into one folder."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import rlceiling as rl
from handmade import made_recipe
from rlceiling.writing import check_target, file_stem, replace_file, replacing


def test_a_temporary_file_that_somebody_planted_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    (tmp_path / f".a.txt.{'0' * 16}.partial").symlink_to(victim)
    with pytest.raises(FileExistsError, match=r"a\.txt"):
        replace_file(tmp_path / "a.txt", b"new")
    assert victim.read_bytes() == b"kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".a.txt.{'0' * 16}.partial", "victim"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "real" / "target.txt"
    link.symlink_to(Path("real") / "target.txt")
    for content in (b"first", b"second"):  # the target is missing at first
        replace_file(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["target.txt"]


def test_a_loop_of_links_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="links"):
        replace_file(tmp_path / "a", b"x")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    kinds = {"pipe": "a pipe", "folder": "a directory", "link": "a device"}
    for name, kind in kinds.items():
        with pytest.raises(rl.DataError) as raised:
            replace_file(tmp_path / name, b"x")
        assert str(raised.value) == f"{tmp_path / name} is {kind}, which is not replaced; name a file."
    with pytest.raises(rl.DataError, match=r"^/dev/full is a device"):
        check_target(Path("/dev/full"))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_permissions_are_kept_and_new_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        replace_file(tmp_path / "new", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    replace_file(tmp_path / "new", b"y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_names_as_long_as_a_file_system_allows(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        replace_file(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"
    assert file_stem("\ud800") != file_stem("\ud801")


def test_a_failure_or_a_stop_leaves_the_old_content(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", b"old")

    def write(failure: BaseException) -> None:
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise failure

    for failure in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(failure)):
            write(failure)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[float, rl.Fits]:
    """Two sets, read from files so that a forked process computes nothing to save them."""
    found = {}
    for ceiling in (0.6, 0.7):
        folder = tmp_path_factory.mktemp("set")
        rl.Fits([made_recipe("one", [ceiling]), made_recipe(f"at {ceiling}", [ceiling])]).save(folder)
        found[ceiling] = rl.load_fits(folder)
        assert len(list(found[ceiling].values())) == 2
    return found


def in_a_child(action: Callable[[], object]) -> int:
    """Begin a process that does something and ends with 0, or with 1 if it raises; returns its number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return child


def same_draws(folder: Path, expected: rl.Fits) -> None:
    """What a folder holds is this set, whole."""
    loaded = rl.load_fits(folder)
    assert list(loaded) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(loaded[name].draws["A"], expected[name].draws["A"])


FORK = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")


@FORK
def test_two_processes_save_into_one_folder(sets: dict[float, rl.Fits], tmp_path: Path) -> None:
    """None of them raises, and what stays is the set of one of them, without files of the other."""

    def save_often(fits: rl.Fits) -> None:
        for _ in range(20):
            fits.save(tmp_path)

    children = [in_a_child(partial(save_often, fits)) for fits in sets.values()]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    (ceiling,) = (c for c in sets if f"at {c}" in rl.load_fits(tmp_path))
    same_draws(tmp_path, sets[ceiling])
    assert len(list(tmp_path.iterdir())) == 4  # two posteriors, the index and the lock


@FORK
def test_a_save_that_is_killed_leaves_the_old_set_whole_and_the_next_one_cleans_up(
    sets: dict[float, rl.Fits], tmp_path: Path
) -> None:
    """Two posteriors and their index are written with three syncs and three renames, the last of which counts."""
    old, new = sets.values()

    def save_and_die(calls: int) -> None:
        left = iter(range(calls))

        def dying(real: Callable[..., object], *arguments: object) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*arguments)

        for name in ("fsync", "replace"):
            setattr(os, name, partial(dying, getattr(os, name)))
        new.save(tmp_path)

    most = 0
    for calls in range(7):
        old.save(tmp_path)
        _, status = os.waitpid(in_a_child(partial(save_and_die, calls)), 0)
        assert os.WIFSIGNALED(status) == (calls < 6)
        same_draws(tmp_path, old if calls < 6 else new)
        most = max(most, len(list(tmp_path.iterdir())))
        old.save(tmp_path)
        assert len(list(tmp_path.iterdir())) == 4  # two posteriors, the index and the lock
    assert most == 7  # what a kill before the last rename leaves: the new posteriors and a temporary index
