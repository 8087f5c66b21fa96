"""Loggers that can be told to wait until their run has begun."""

from __future__ import annotations

from collections.abc import Callable


class Waiting:
    """A logger that can be told to wait: what it is given is then written at `begin`, in order.

    A resumed run waits until its first step has been taken, so that an attempt that fails before changes no file.
    """

    _waiting: list[Callable[[], object]] | None = None

    def wait(self) -> None:
        """From now on, keep what is logged."""
        self._waiting = []

    def begin(self) -> None:
        """Write what was kept, and from now on write at once."""
        waiting, self._waiting = self._waiting or [], None
        for write in waiting:
            write()

    def _kept(self, write: Callable[[], object]) -> bool:
        """Whether the logger waits; if so, `write` is called at `begin`."""
        if self._waiting is not None:
            self._waiting.append(write)
        return self._waiting is not None
