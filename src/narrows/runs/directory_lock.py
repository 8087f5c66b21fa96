"""A lock that lets one process at a time write the directory of a run or sweep."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from narrows.errors import UserError
from narrows.runs.file_names import LOCK

_held: dict[Path, int] = {}
"""Directories whose lock this process holds, with the lock's open file.

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
    handle = _open(folder, os.O_CREAT | os.O_RDWR | (os.O_EXCL if new else 0))
    if not _lock_soon(handle):
        owner = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        raise UserError(f"another process ({owner}) {work} {folder}: wait for it, or stop it first")
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}@{socket.gethostname()}\n".encode(), 0)
    _held[folder] = handle


def release(folder: Path) -> None:
    """Release the lock; the end of the process releases it too."""
    if (handle := _held.pop(folder.resolve(), None)) is not None:
        os.close(handle)


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
