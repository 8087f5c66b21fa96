"""Standard output and standard error that fail no command: closed, of another encoding, or read by nobody any more.

What cannot be encoded is written as its escape sequence. What nobody reads (a closed pipe, a terminal that has hung up)
is discarded, and so is all that standard error cannot take. Only a disk that is full under standard output is an error.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import Any

NAMES = {1: "standard output", 2: "standard error"}


class _Stream(io.FileIO):
    """One of the two, without a buffer."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            number = self.fileno()
            unread = number == 2 or error.errno == errno.EPIPE or (error.errno == errno.EIO and _is_device(number))
            # Also after an error, because what is left in the buffer is written once more when the interpreter exits.
            _open_nowhere(number)
            if not unread:
                raise OSError(error.errno, error.strerror, NAMES[number]) from error
            return memoryview(data).nbytes


def make_dependable() -> None:
    """Put streams that fail no command in the place of `sys.stdout` and `sys.stderr`, and open what is closed."""
    for number in (0, 1, 2):
        # Otherwise the next file that is opened takes its place, and gets all that is printed.
        if not _is_open(number):
            _open_nowhere(number)
    sys.stdout = _dependable(sys.stdout, 1)
    sys.stderr = _dependable(sys.stderr, 2)


def _dependable(stream: Any, number: int) -> Any:
    if stream is None:  # it was closed when the interpreter started
        return _opened(number, "utf-8", line_buffering=True, write_through=False)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # Python's option -u leaves the buffer out
    if not isinstance(raw, io.FileIO) or isinstance(raw, _Stream) or raw.fileno() != number:
        return stream  # a test or a notebook has put its own there
    stream.flush()
    return _opened(number, stream.encoding, stream.line_buffering, stream.write_through)


def _opened(number: int, encoding: str, line_buffering: bool, write_through: bool) -> io.TextIOWrapper:
    raw: Any = _Stream(number, "w", closefd=False)
    buffer = raw if write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer, encoding, "backslashreplace", line_buffering=line_buffering, write_through=write_through
    )


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _is_device(number: int) -> bool:
    return stat.S_ISCHR(os.fstat(number).st_mode)


def _open_nowhere(number: int) -> None:
    """Make the stream of this number one that discards what is written to it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
