"""A lock that lets one process at a time write the directory of a run or sweep."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from narrows.errors import UserError
from narrows.runs.file_names import LOCK


@dataclass
class _Held:
    handle: int
    """The open lock file."""
    before: bytes | None
    """What the file held before; None if it was not there."""


_held: dict[Path, _Held] = {}
"""Directories whose lock this process holds.

A POSIX lock ends with its process, however that ends, and is not inherited by loader workers. Closing any other handle
of the file would release it, so a held lock file is never opened again here.
"""


def hold(folder: Path, work: str, new: bool = False) -> None:
    """Lock the directory until `release`; the lock ends with this process, however that ends.

    Args:
        work: what the process that holds it does, for the error message: `is writing`.
        new: refuse a directory that was ever locked.

    Raises:
        UserError: another process holds it, or the lock is a link, which could lead to any file.
        OSError: it cannot be written (`FileExistsError`: `new`, but it was locked before).
    """
    folder = folder.resolve()
    if folder in _held:
        raise UserError(f"this process {work} {folder} already")
    there = (folder / LOCK).exists()
    handle = _open(folder, os.O_CREAT | os.O_RDWR | (os.O_EXCL if new else 0))
    if not _lock_soon(handle) or not _is_in_place(handle, folder):
        owner = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        raise UserError(f"another process ({owner}) {work} {folder}: wait for it, or stop it first")
    before = os.pread(handle, 1000, 0) if there else None
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}@{socket.gethostname()}\n".encode(), 0)
    except OSError:
        os.close(handle)
        raise
    _held[folder] = _Held(handle, before)


def keep_room(folder: Path, size: int) -> None:
    """Make the lock file of a held directory longer by so many bytes of disk, which `give_room` can give back.

    So the status of a run can be written when the disk is full.

    Raises:
        OSError: there is not that much.
    """
    give_room(folder)
    with open(_held[folder.resolve()].handle, "ab", closefd=False) as file:
        file.write(b"\n" * size)


def give_room(folder: Path) -> None:
    """Give back to the disk what `keep_room` took."""
    handle = _held[folder.resolve()].handle
    os.ftruncate(handle, len(os.pread(handle, 200, 0).rstrip()) + 1)


def release(folder: Path, unused: bool = False) -> None:
    """Release the lock; the end of the process releases it too.

    Args:
        unused: nothing was written in the directory: leave the lock file as it was found.
    """
    folder = folder.resolve()
    if folder not in _held:
        return
    give_room(folder)
    held = _held.pop(folder)
    if unused and held.before is None:
        (folder / LOCK).unlink(missing_ok=True)
    elif unused and held.before is not None:
        os.ftruncate(held.handle, 0)
        os.pwrite(held.handle, held.before, 0)
    os.close(held.handle)


def is_held(folder: Path) -> bool:
    """Whether another live process holds the directory."""
    folder = folder.resolve()
    if folder in _held:
        return False
    try:
        handle = _open(folder, os.O_RDWR)
    except (OSError, UserError):
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _is_in_place(handle: int, folder: Path) -> bool:
    """Whether the open file is still the directory's lock: another process may have removed it when it released it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(folder / LOCK))
    except FileNotFoundError:
        return False


def _open(folder: Path, flags: int) -> int:
    try:
        return os.open(folder / LOCK, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{folder / LOCK} is a link, and a lock must be a file: take it away") from error
        raise


def _lock(handle: int) -> bool:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _lock_soon(handle: int) -> bool:
    """Try to lock for up to a second, because `is_held` of another process takes the lock for a moment."""
    for _ in range(20):
        if _lock(handle):
            return True
        time.sleep(0.05)
    return False
