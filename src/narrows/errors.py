"""What narrows says when the user, not the program, made the mistake."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator
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


@contextmanager
def explained(shown: Callable[[str], str] = str) -> Iterator[None]:
    """A user's mistake, or a file that cannot be used, ends with one sentence and exit code 2.

    Args:
        shown: applied to the sentence before it is printed.
    """
    try:
        yield
    except UserError as error:
        stop(shown(str(error)))
    except OSError as error:
        if error.filename is None:
            raise
        stop(shown(f"cannot use {error.filename}: {error.strerror}"))


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
