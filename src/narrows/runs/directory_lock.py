"""A lock that lets one process at a time write the directory of a run or sweep."""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from narrows.errors import UserError
from narrows.files import POSIX, lock
from narrows.runs.file_names import LOCK


@dataclass
class _Held:
    handle: int
    """The open lock file."""
    before: bytes | None
    """What the file held before; None if it was not there."""


_held: dict[Path, _Held] = {}
"""Directories whose lock this process holds.

A lock ends with its process, however that ends, and is not inherited by loader workers. Closing any other handle of
the file would release it, so a held lock file is never opened again here.
"""
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags by which neither a link nor a pipe is opened, where the system has them."""


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
        owner = _owner(handle)
        os.close(handle)
        raise UserError(f"another process ({owner}) {work} {folder}: wait for it, or stop it first")
    before = _read(handle, 1000) if there else None
    try:
        _write(handle, f"{os.getpid()}@{socket.gethostname()}\n".encode())
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
    os.ftruncate(handle, len(_read(handle, 200).rstrip()) + 1)


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
    if unused and held.before is not None:
        _write(held.handle, held.before)
    if not POSIX:  # Windows removes no open file
        os.close(held.handle)
    if unused and held.before is None:
        (folder / LOCK).unlink(missing_ok=True)
    if POSIX:
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
        return not lock(handle)
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
        return os.open(folder / LOCK, flags | NO_LINK, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{folder / LOCK} is a link, and a lock must be a file: take it away") from error
        raise


def _read(handle: int, most: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, most)


def _write(handle: int, content: bytes) -> None:
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, content)


def _owner(handle: int) -> str:
    try:
        return _read(handle, 200).decode(errors="replace").strip()
    except OSError:  # Windows lets no other process read what is locked
        return "which cannot be asked for its number"


def _lock_soon(handle: int) -> bool:
    """Try to lock for up to a second, because `is_held` of another process takes the lock for a moment."""
    for _ in range(20):
        if lock(handle):
            return True
        time.sleep(0.05)
    return False
