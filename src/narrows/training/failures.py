"""What processes that train one model together tell each other of a failure, through the store by which they met."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch import distributed
from torch.distributed import distributed_c10d

from narrows.distributed import is_distributed
from narrows.errors import ProcessFailed, first_line

TOLD = "narrows/failed"
"""The key under which the first failure stands in the store."""
PATIENCE = 8.0
"""Seconds that the store may take to answer."""


@dataclass(frozen=True)
class Failure:
    """The end of one process."""

    rank: int | None
    what: str

    def error(self) -> ProcessFailed:
        return ProcessFailed(self.rank, _world(), self.what)


def _store() -> Any:
    """A connection of its own to the store by which the processes met; None before they have met."""
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    store: Any = distributed_c10d._get_default_store()
    store = store.clone()
    store.set_timeout(timedelta(seconds=PATIENCE))
    return store


def tell(failure: Failure) -> None:
    """Tell all processes of the failure, unless another one was told before."""
    with suppress(RuntimeError):  # the first process, which holds the store, may be gone
        store = _store()
        if store is not None:
            store.compare_set(TOLD, "", json.dumps([failure.rank, failure.what]))


def told() -> Failure | None:
    """The first failure that one of the processes has told of."""
    with suppress(RuntimeError):
        store = _store()
        if store is not None and store.check([TOLD]):
            return Failure(*json.loads(store.get(TOLD)))
    return None


def is_lost(error: BaseException | None) -> bool:
    """Whether it says that the connection to another process is lost, or comes of an error that does."""
    chain: list[BaseException] = []  # an error may be the context of its own cause
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return any(isinstance(one, distributed.DistError) or _of_gloo(one) for one in chain)


def _of_gloo(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "gloo" in first_line(error)


def own_rank() -> int:
    return distributed.get_rank() if is_distributed() else int(os.environ.get("LOCAL_RANK", "0"))


def _world() -> int:
    return distributed.get_world_size() if is_distributed() else int(os.environ.get("WORLD_SIZE", "1"))
