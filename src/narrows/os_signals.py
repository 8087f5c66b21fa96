"""Operating-system signals that end a run, such as SIGTERM: noted at once, obeyed when the run's state is consistent.

In training the run first finishes the batch and writes a checkpoint; elsewhere there is nothing to save and the process
exits at once. A second signal ends it immediately. The exit code is the conventional 128 + signal number. A signal that
whoever started the process has told it to ignore, as `nohup` does with SIGHUP, stays ignored.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def existing(*names: str) -> tuple[signal.Signals, ...]:
    """The numbers of the signals of these names that the system has; Windows has few."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


ENDING = existing("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


class _State:
    deferred = False
    ignored = False
    noted: int | None = None


def _handle(number: int, frame: Any) -> None:
    if _State.ignored:
        return
    if _State.deferred and _State.noted is None:
        _State.noted = number
    else:
        leave(number)


def leave(number: int) -> None:
    """Exit with the code that is customary for this signal, 128 + its number.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(128 + number)


def noted() -> int | None:
    """The number of the signal that waits for the end of the batch; None if none has come."""
    return _State.noted


def install() -> None:
    """Install the handlers of the ending signals; call it again after Lightning has installed its own."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def ignore() -> None:
    """Let the ending signals pass until the end of `handled`: what is to be done takes seconds and must be whole."""
    _State.ignored = True


@contextmanager
def handled() -> Iterator[None]:
    """Inside this context the ending signals raise `SystemExit`, or wait while `deferred`."""
    previous = {number: signal.getsignal(number) for number in ENDING}
    _State.deferred, _State.noted, _State.ignored = False, None, False
    install()
    try:
        yield
    finally:
        _State.deferred, _State.noted, _State.ignored = False, None, False
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Inside this context the first ending signal is only noted."""
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False
    if _State.noted is not None:
        leave(_State.noted)
