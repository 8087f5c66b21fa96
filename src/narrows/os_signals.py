"""Signals that end a run: noted at once, acted upon where its state is whole.

In training, a checkpoint is written first, at the end of the batch; elsewhere there is nothing to save and the
process leaves at once. A second signal does not wait. The exit code is the conventional 128 + number.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class _State:
    deferred = False
    noted: int | None = None


def _handle(number: int, frame: Any) -> None:
    if _State.deferred and _State.noted is None:
        _State.noted = number
    else:
        leave(number)


def leave(number: int) -> None:
    """End the process as this signal does by convention.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(128 + number)


def noted() -> int | None:
    """The signal that waits for the end of the batch."""
    return _State.noted


def install() -> None:
    """Handle the ending signals here; again after Lightning has put a handler of its own in the way."""
    for number in ENDING:
        signal.signal(number, _handle)


@contextmanager
def handled() -> Iterator[None]:
    """Within, the ending signals raise `SystemExit`, or wait while `deferred`."""
    previous = {number: signal.getsignal(number) for number in ENDING}
    _State.deferred, _State.noted = False, None
    install()
    try:
        yield
    finally:
        _State.deferred, _State.noted = False, None
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Within, the first ending signal is only noted."""
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False
    if _State.noted is not None:
        leave(_State.noted)
