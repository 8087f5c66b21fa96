"""The processes of this host that torchrun or srun has started beside this one: who they are, and how they ended.

Whoever started them sees their end, not narrows. So each says its process number in the store by which they meet, and
says there that it leaves, and because of which error. One that is gone without that was killed.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import Any

from narrows.launching import Started, connection, meeting_place, started
from narrows.training.failures import Failure

PLACE = "narrows/process"
LEFT = "narrows/left"


def neighbours() -> Neighbours | None:
    """Those of this process, to which it is introduced; None where nobody has started several."""
    group, place = started(), meeting_place()
    if group is None or place is None:
        return None
    return Neighbours(group, connection(place).clone(), place.attempt)


class Neighbours:
    """The other processes of this host, which the store knows by their ranks.

    Args:
        store: a connection of its own, because it is asked from another thread.
        attempt: tells these processes from those of a start before.
    """

    def __init__(self, group: Started, store: Any, attempt: str) -> None:
        self.group, self.store, self.attempt = group, store, attempt
        self.host = socket.gethostname()
        self._numbers: dict[int, int | None] = {group.rank: None}
        """Process numbers by rank of those that have introduced themselves; None of one that need not be watched."""
        store.set(self._key(PLACE, group.rank), json.dumps([self.host, os.getpid()]))

    def _key(self, what: str, rank: int) -> str:
        return f"{what}/{self.attempt}/{rank}"

    def failure(self, also_agreed: bool = False) -> Failure | None:
        """The end of one that has failed or was killed; of the first process `first_is_gone` tells."""
        for rank, number in dict(self._introduced()).items():
            if rank and number is not None and _is_gone(number):
                with suppress(RuntimeError):
                    found = self._end_of(rank, number)
                    if found is not None:
                        return found
                    self._numbers[rank] = None
        return None

    @property
    def first(self) -> int | None:
        """The number of the first process, where it is another one of this host and has introduced itself."""
        return self._introduced().get(0)

    def first_is_gone(self) -> bool:
        return self.first is not None and _is_gone(self.first)

    def _introduced(self) -> dict[int, int | None]:
        with suppress(RuntimeError):  # the store may be gone, with the process that kept it
            for rank in range(self.group.world):
                key = self._key(PLACE, rank)
                if rank not in self._numbers and self.store.check([key]):
                    host, number = json.loads(self.store.get(key))
                    self._numbers[rank] = number if host == self.host else None
        return self._numbers

    def _end_of(self, rank: int, number: int) -> Failure | None:
        """Why a process that is gone has failed; None where it left because it had ended, or another one had failed."""
        key = self._key(LEFT, rank)
        if not self.store.check([key]):
            return Failure(rank, f"process {number} was killed")
        said = json.loads(self.store.get(key))
        return None if said is None else Failure(rank, said)

    def leave(self, failure: Failure | None) -> None:
        """Say that this process ends, and because of which failure of its own."""
        with suppress(RuntimeError):
            self.store.set(self._key(LEFT, self.group.rank), json.dumps(failure and failure.what))

    def end(self, patience: float) -> None:
        """Leave the others to whoever has started them."""


def _is_gone(number: int) -> bool:
    if os.name != "posix":  # Windows would end it by this
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, and is another user's
        pass
    return False
