"""Writing files whole or not at all, the JSON files of runs, and locks on files."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from narrows.errors import UserError, require

TEMPORARIES = ".*.tmp"
"""What `replacing` calls a file until it is complete."""
POSIX = os.name == "posix"
POLL = 0.1


class _Output(io.RawIOBase):
    """Passes bytes on to a file, and keeps the error when writing fails, because numpy, Pillow and torch raise another
    one that does not say why."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def write(self, data: Any) -> int:
        try:
            self._file.write(data)
        except OSError as error:
            self.failure = error
            raise
        return memoryview(data).nbytes

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """An open file that replaces `path` once it is complete; if writing fails, `path` stays as it was.

    `/dev/stdout`, a pipe, and anything else that is not a regular file is written directly.

    Raises:
        OSError: writing failed; the error carries the name of `path`.
    """
    target = path.resolve()  # follow a symbolic link, so that the link itself stays
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file, _written(file) as output:
                yield output
            return
        try:
            with temporary.open("wb") as file:
                with _written(file) as output:
                    yield output
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A new folder that is called `folder` once it is complete; if writing fails, nothing is left of it.

    Raises:
        UserError: `folder` is a file, or holds something already.
    """
    free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    require(free, f"{folder} is there already, and would be overwritten: name a new folder for the result")
    target = folder.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.is_dir():
            target.rmdir()
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _written(file: BinaryIO) -> Iterator[BinaryIO]:
    """What writes into `file`, which holds all of it afterwards; the cause of a failure is raised itself."""
    output = _Output(file)
    try:
        yield cast(BinaryIO, output)
    except Exception:
        if output.failure is not None:
            raise output.failure from None
        raise
    file.flush()


def clear_temporaries(folder: Path) -> None:
    """Remove what processes that were killed while writing left in this folder, which nobody else may be writing."""
    for path in folder.glob(TEMPORARIES):
        path.unlink()


def require_other(target: Path, *read: Path) -> None:
    """Refuse to write a file that is read too, or that is part of a folder that is read.

    Raises:
        UserError: names both.
    """
    for source in read:
        same = source.exists() and target.exists() and target.samefile(source)
        require(not same, f"{target} is what is read, and would be overwritten: name another file for the result")
        inside = source.is_dir() and target.is_file() and target.resolve().is_relative_to(source.resolve())
        require(not inside, f"{target} is a file of {source}, which is read: name another file for the result")


def require_no_pipe(path: Path) -> None:
    """Refuse a pipe, a socket or a device, for which a reader would wait.

    Raises:
        UserError: names it.
    """
    plain = not path.exists() or path.is_file() or path.is_dir()
    require(plain, f"{path} is a pipe or a device, not a file: write what it gives to a file, and name that")


def require_file(path: Path) -> None:
    """Refuse what is no file that can be read to its end.

    Raises:
        UserError: there is no such file, or it is a pipe, a socket or a device.
    """
    require_no_pipe(path)
    require(path.is_file(), f"there is no file {path}")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside the target and rename over it: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: writing failed; the error carries the name of `path`.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, values: Any) -> None:
    write_atomically(path, json.dumps(values, indent=2, sort_keys=False, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file in a run directory.

    Raises:
        UserError: it is missing or not JSON.
    """
    require_no_pipe(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run directory: it has no {path.name}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # the first also of a number of thousands of digits
        raise UserError(f"{path} is not valid JSON ({error})") from error


def shortest(path: Path) -> str:
    """`path` relative to the current directory if it lies below it, otherwise unchanged."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def lock(handle: int, inherited: bool = False) -> bool:
    """Lock an open file, unless another process has locked it; whether it is locked now.

    Args:
        inherited: the lock belongs to the open file, so that a child that inherits it keeps the lock even if its parent
            ends (`flock`). Else it belongs to this process alone, and closing any handle of the file frees it. Windows
            knows only locks of a handle, and hands none to a child.

    Raises:
        OSError: the file system has no locks.
    """
    # Here, because commands that lock nothing would start slower by it.
    from portalocker import AlreadyLocked, LockException, LockFlags, portalocker

    lockers: Any = portalocker  # which knows how POSIX and Windows lock
    kind = ("FlockLocker" if inherited else "LockfLocker") if POSIX else "MsvcrtLocker"
    try:
        getattr(lockers, kind)().lock(handle, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
    except AlreadyLocked:
        return False
    except LockException as error:
        raise OSError(f"cannot be locked ({error})") from error
    return True


def wait_for_lock(handle: int) -> None:
    """Lock an open file for as long as it is open here or in a child; wait while another process has locked it.

    Raises:
        OSError: the file system has no locks.
    """
    while not lock(handle, inherited=True):
        time.sleep(POLL)
