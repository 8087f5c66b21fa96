"""Errors that a user can mend, and the one sentence in which a command reports each."""

from __future__ import annotations

import difflib
import errno
import functools
import logging
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to a disk fails with when it is full or broken."""
OWN_CLASSES = 'see "Your own classes" in CONTRIBUTING.md'
"""Where it is written what a class of the user must be, and what it is called with, for error messages."""
MANY = 40
"""More names than this are not listed in a sentence."""
TRACEBACK = "NARROWS_TRACEBACK"
"""The environment variable that shows, before the one sentence, where the error came from: for those who write
components of their own."""
LONGEST = 800
"""Most letters of a sentence."""
PACKAGE = os.path.dirname(os.path.abspath(__file__))


class UserError(ValueError):
    """A user's mistake: commands print its one sentence, without a traceback, and exit with code 2.

    The sentence names what was wrong, where, and what would be right. It stands on one line and has no control
    characters, because what it quotes (a key, a value, a file's name) may be a stranger's.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(" ".join(sentence.splitlines())))


class NonFiniteError(UserError):
    """A loss term became NaN or infinite during training."""


class Pruned(Exception):
    """A sweep ended this run early: neither a failure nor an interruption."""


class ProcessFailed(Exception):
    """Another of the processes that train one model together has failed, and the run with it.

    Args:
        rank: which; None where it cannot be known.
        world: how many they are.
        what: its error, or the signal that ended it.
    """

    def __init__(self, rank: int | None, world: int, what: str) -> None:
        super().__init__(f"{'one' if rank is None else f'rank {rank}'} of {world}: {what}")
        self.rank, self.world, self.what = rank, world, what


def stop(sentence: str) -> NoReturn:
    """Print one sentence and exit with code 2, as after a user's mistake.

    Raises:
        SystemExit: always.
    """
    print(f"narrows: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def printable(text: str) -> str:
    """`text` without control characters, which could take over the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class PrintableFormatter(logging.Formatter):
    """The formatter of every log line: what it quotes may be a stranger's, so control characters are replaced."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def shortened(text: str) -> str:
    """`text` without its middle where it is too long to be read: what it begins and ends with says most."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 200]} ... {text[-200:]}"


@functools.singledispatch
def sentence(error: Exception) -> str | None:
    """The sentence for an error that the user can mend; None for an error of the program.

    Errors of a library are registered by the module that explains them (`narrows.config.overrides`).
    """
    return None


@sentence.register
def _(error: UserError) -> str:
    return str(error)


@sentence.register
def _(error: ProcessFailed) -> str:
    which = "one" if error.rank is None else f"rank {error.rank}"
    return f"{which} of {error.world} processes failed, and the run with it: {error.what}"


@sentence.register
def _(error: OSError) -> str | None:
    if error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}"
    if error.errno in FULL:
        return f"cannot write: {error.strerror}"
    # The end of a pipe is no mistake: commands end quietly.
    known = error.strerror is not None and not isinstance(error, BrokenPipeError)
    return f"the system refused to read or write: {error.strerror}" if known else None


@contextmanager
def naming(place: object) -> Iterator[None]:
    """Name `place`, into which is written, in the error of a full disk, which says of itself no file.

    Raises:
        OSError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error


@sentence.register(MemoryError)
@sentence.register(RuntimeError)
def _(error: Exception) -> str | None:
    if not is_out_of_memory(error):
        return None
    return f"out of memory ({first_line(error) or 'no more is free'}): this asks for more than the machine has"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the host ran out of memory for a tensor or an array."""
    # torch's own exception is known by its name, because importing torch takes seconds.
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or any(words in str(error) for words in ("can't allocate memory", "not enough memory", "bad_alloc"))


def first_line(error: BaseException) -> str:
    """The message of an error in one line of at most 400 characters."""
    text = " ".join(str(error).split())
    return text if len(text) < 400 else text[:400] + " ..."


def _of_users_code(error: BaseException) -> str | None:
    """The sentence for an error that arose in code which is neither narrows' nor installed; None for any other.

    A bug of narrows keeps its traceback, and so does an assertion that does not hold. Whoever wrote a component gets
    the line, and the traceback on demand.
    """
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    known = (*libraries, PACKAGE, "<")
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        frame for frame in frames if not frame.filename.startswith(known) and "site-packages" not in frame.filename
    ]
    if not theirs or isinstance(error, AssertionError):
        return None
    place = f"{theirs[-1].filename}, line {theirs[-1].lineno}"
    return f"{place}, raised {type(error).__name__}: {first_line(error)} ({TRACEBACK}=1 shows where it was called)"


@contextmanager
def explained() -> Iterator[None]:
    """End with one sentence and exit code 2 after a user's mistake or an unusable file, and with 0 after pruning."""
    try:
        yield
    except Pruned as error:
        print(f"narrows: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(0) from error
    except Exception as error:
        if (said := sentence(error) or _of_users_code(error)) is None:
            raise
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        stop(shortened(printable(" ".join(said.splitlines()))))


def nearest(name: str, choices: Iterable[str], listed: str = "") -> str:
    """The end of an error message about an unknown name: the nearest valid name, and all valid names; of very many, the
    three nearest alone, and where the others are `listed`, such as `by narrows train --help`."""
    valid = sorted(choices)
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    if len(valid) > MANY:
        near = difflib.get_close_matches(str(name), valid, n=3, cutoff=0.3)
        told = f"nearest of {len(valid)}: {', '.join(near)}" if near else f"none of {len(valid)} is like it"
        return f"{hint}{told}{f' (all are listed {listed})' if listed else ''}"
    return f"{hint}valid: {', '.join(valid)}" if valid else hint.strip()


def require(condition: bool, message: str) -> None:
    """Raise `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def require_at_least(least: int, where: str, **values: float | None) -> None:
    """Raise `UserError` unless each value that is not None is at least so much."""
    for name, value in values.items():
        require(value is None or value >= least, f"{where} {name} must be at least {least}, not {value}")
