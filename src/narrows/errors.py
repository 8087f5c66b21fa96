"""What narrows says when the user, not the program, made the mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake: commands print its one sentence, without a traceback, and exit with code 2.

    The sentence names what was wrong, where, and what would be right.
    """


class NonFiniteError(UserError):
    """A loss term left the finite numbers during training."""


class Pruned(Exception):
    """A sweep gave up on this run: an end of its own, neither a failure nor an interruption."""


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
