"""Processes that train one model together and were started side by side: by torchrun, by srun, or one a node by hand.

Each reads the command by itself. What one makes up, such as the time in the name of its run, the others cannot know:
they ask the first one, through the store by which torch lets processes meet. (Those that training itself starts are
told all by the command that starts them.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from narrows.errors import UserError, first_line, require

PATIENCE = timedelta(minutes=5)
"""How long the others wait for the first process, which may be on a slower node."""
KEY = "narrows/agreed"


@dataclass(frozen=True)
class MeetingPlace:
    """Where the processes find the store by which they meet."""

    host: str
    port: int
    hosts: bool
    """Whether this process keeps the store for all."""
    attempt: str
    """Tells a restart from the start before it."""


@dataclass(frozen=True)
class Started:
    """The processes that were started side by side."""

    by: str
    """torchrun or srun."""
    each: int
    """How many on each node."""
    nodes: int
    rank: int
    """That of this one."""

    @property
    def world(self) -> int:
        """How many they are."""
        return self.each * self.nodes


class _State:
    store: Any = None
    """Kept for as long as the process lives, because the others may come late."""
    found: str | None = None


def is_main_process() -> bool:
    """Whether this process is rank zero and so writes files; works before and after Lightning has assigned ranks."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))


def agreed(make: Callable[[], str]) -> str:
    """What the first process makes when it asks for the first time, the same in all that were started beside it and
    whenever they ask; alone, what this one makes.

    Raises:
        UserError: the first process cannot be reached, or has not made it within five minutes.
    """
    place = meeting_place()
    if place is None:
        return make()
    if _State.found is None:
        _State.found = _asked(place, make)
    return _State.found


def _asked(place: MeetingPlace, make: Callable[[], str]) -> str:
    store, key = connection(place), f"{KEY}/{place.attempt}"
    if is_main_process():
        store.set(key, make())
    with _explained(place, "learn the name of the run from the first one"):
        found: str = store.get(key).decode()
    return found


def connection(place: MeetingPlace) -> Any:
    """This process' connection to the store by which the processes meet, a `torch.distributed.TCPStore`.

    Raises:
        UserError: the first process cannot be reached, or its port is taken.
    """
    if _State.store is None:
        # Only here, because torch is slow to import.
        from torch.distributed import TCPStore

        with _explained(place, "keep the store by which they meet" if place.hosts else "reach the first one"):
            _State.store = TCPStore(
                place.host,
                place.port,
                is_master=place.hosts,
                timeout=PATIENCE,
                wait_for_workers=False,
                multi_tenant=True,
            )
    return _State.store


@contextmanager
def _explained(place: MeetingPlace, what: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # those of torch's stores among them
        where = f"MASTER_ADDR={place.host} MASTER_PORT={place.port}"
        raise UserError(f"this process, one of several, could not {what} at {where}: {first_line(error)}") from error


def meeting_place() -> MeetingPlace | None:
    """As torchrun, Slurm or the user says by environment variables; None where this process was started alone."""
    if _is_of_torchrun():
        return _of_torchrun()
    if _is_of_slurm():
        return _of_slurm()
    # Those of one node, which have a LOCAL_RANK, are told by the one that started them.
    if {"NODE_RANK", "MASTER_ADDR"} <= set(os.environ) and "LOCAL_RANK" not in os.environ:
        require(
            "MASTER_PORT" in os.environ,
            "MASTER_ADDR and NODE_RANK are given: MASTER_PORT must be too, and the same on all nodes",
        )
        return MeetingPlace(os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0), is_main_process(), "0")
    return None


def started() -> Started | None:
    """The processes that torchrun or srun has started; None where neither has started several."""
    if _is_of_torchrun():
        world = _number("WORLD_SIZE", 1)
        each = _number("LOCAL_WORLD_SIZE", world)
        nodes = _number("GROUP_WORLD_SIZE", max(1, world // max(1, each)))
        return Started("torchrun", each, nodes, _number("RANK", 0))
    if _is_of_slurm():
        nodes = _number("SLURM_NNODES", 1)
        each = _number("SLURM_NTASKS_PER_NODE", _number("SLURM_NTASKS", 1) // max(1, nodes))
        return Started("srun", each, nodes, _number("SLURM_PROCID", 0))
    return None


def _is_of_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and _number("WORLD_SIZE", 1) > 1


def _is_of_slurm() -> bool:
    """Whether srun has started it beside others; the script of a job and an interactive shell are no step of it."""
    step = os.environ.get("SLURM_STEP_ID", "batch").isdigit()
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return step and not interactive and _number("SLURM_NTASKS", 1) > 1


def _of_torchrun() -> MeetingPlace:
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun keeps the store itself
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    host, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), _number("MASTER_PORT", 12910)
    return MeetingPlace(host, port, is_main_process() and not kept, attempt)


def _of_slurm() -> MeetingPlace:
    # Where Lightning lets the processes meet under Slurm.
    from lightning.fabric.plugins.environments import SLURMEnvironment

    place = SLURMEnvironment()
    attempt = f"{os.environ.get('SLURM_STEP_ID')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return MeetingPlace(place.main_address, place.main_port, is_main_process(), attempt)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    require(text.isdigit(), f"the environment variable {name} must be a whole number, not '{text}'")
    return int(text)
