"""What narrows says when the user, not the program, made the mistake."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class UserError(ValueError):
    """A user's mistake: commands print its one sentence, without a traceback, and exit with code 2.

    The sentence names what was wrong, where, and what would be right.
    """


class NonFiniteError(UserError):
    """A loss term left the finite numbers during training."""


class Pruned(Exception):
    """A sweep gave up on this run: an end of its own, neither a failure nor an interruption."""


def stop(sentence: str) -> NoReturn:
    """End the command as a user's mistake ends it.

    Raises:
        SystemExit: always.
    """
    print(f"narrows: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def printable(text: str) -> str:
    """`text` without control characters, which could write to a terminal what no run said."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


@functools.singledispatch
def sentence(error: Exception) -> str | None:
    """What a command says of an error that is the user's to mend; None where it is the program's.

    A library's errors are registered by the room that explains them (`narrows.config.overrides`).
    """
    return None


@sentence.register
def _(error: UserError) -> str:
    return str(error)


@sentence.register
def _(error: OSError) -> str | None:
    return None if error.filename is None else f"cannot use {error.filename}: {error.strerror}"


@contextmanager
def explained() -> Iterator[None]:
    """A user's mistake, or a file that cannot be used, ends with one sentence and exit code 2; a run that its sweep
    gave up ends with 0."""
    try:
        yield
    except Pruned as error:
        print(f"narrows: {error}", file=sys.stderr)
        raise SystemExit(0) from error
    except Exception as error:
        if (said := sentence(error)) is None:
            raise
        stop(printable(" ".join(said.splitlines())))


def nearest(name: str, choices: Iterable[str]) -> str:
    """A clause for the end of an error message: the nearest valid name and all of them."""
    valid = sorted(choices)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}valid: {', '.join(valid)}" if valid else hint.strip()


def require(condition: bool, message: str) -> None:
    """Raise `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def require_at_least(least: int, where: str, **values: float | None) -> None:
    """Raise `UserError` unless each value that is not None is at least so much."""
    for name, value in values.items():
        require(value is None or value >= least, f"{where} {name} must be at least {least}, not {value}")
