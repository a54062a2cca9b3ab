"""Files that are replaced as a whole: unique temporary files, links and devices, locks of folders, names of files."""

from __future__ import annotations

import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from rlceiling.errors import DataError

LOCK = ".lock"
"""File by which a folder is locked for one long-running writer."""

SAVE_LOCK = ".save.lock"
"""File by which a folder is locked while posteriors are saved into it."""

SAVE_PATIENCE = 60.0
"""Seconds to wait for another process that saves into the same folder. A save takes less than a second."""

_LONGEST_NAME = 200
"""Bytes of a name that are repeated in the name of its temporary file, so that no file system finds it too long."""


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of a file as a whole. See `replacing`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to `path` when the block ends without an exception.

    A reader sees the old content or the new one. The temporary file is created in the same folder under a name that no
    other process uses, and is never an existing file or link. A link at `path` is followed: the file that it points to
    is replaced, and the link stays. A file that exists keeps its permissions.

    Raises
    ------
    DataError
        If `path` is a directory, a device, a pipe or a socket.
    OSError
        If the file cannot be written, for example because the disk is full; it names `path`.
    """
    target = check_target(path)
    name = target.name if len(os.fsencode(target.name)) <= _LONGEST_NAME else ""
    partial = target.with_name(f".{name}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            try:
                if target.exists():
                    os.chmod(partial, stat.S_IMODE(target.stat().st_mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def check_target(path: Path) -> Path:
    """Path of the file that writing to `path` replaces, with links followed; raises DataError if it is not a file."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise DataError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, which is not replaced; name a file.")
    return target


def remove_partials(folder: Path, pattern: str = "*") -> None:
    """Delete temporary files of `replacing` that a killed process left; only for folders that the caller has locked."""
    for partial in folder.glob(f".{pattern}.{'[0-9a-f]' * 16}.partial"):
        partial.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, by: str) -> Iterator[None]:
    """Hold the lock of a folder, which only one writer can have; raises DataError if another one has it.

    The operating system releases it when the process ends, also when it is killed.

    Parameters
    ----------
    folder : Path
        The folder.
    by : str
        What writes such folders, for the error message.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{folder} is being written by another {by}; wait for it to end, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def save_lock(folder: Path) -> Iterator[bool]:
    """Wait until no other process saves into a folder, and yield whether that is certain.

    It is not where the file system has no locks, or if the other process does not end. What was sampled is then saved
    nevertheless, but the caller deletes nothing.
    """
    lock = FileLock(folder / SAVE_LOCK)
    try:
        lock.acquire(timeout=SAVE_PATIENCE)
    except (Timeout, NotImplementedError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def file_stem(name: str) -> str:
    """File name that is valid on all file systems; a checksum distinguishes names that differ in special characters."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:60] or "fit"
    return f"{slug}.{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"
