"""Which jobs a sweep has: listed by a grid, or proposed one after the other by Optuna's study."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from narrows.sweeps.plan import Plan


class State(StrEnum):
    """What has become of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PRUNED = "pruned"
    INTERRUPTED = "interrupted"


ENDED = (State.COMPLETED, State.PRUNED)
"""Jobs in these states are never run again."""


@dataclass(frozen=True)
class Proposal:
    """A job: its number, what it varies, and the state that the proposer knows of (None: look at its run)."""

    number: int
    overrides: tuple[str, ...]
    state: State | None = None
    trial: int | None = None
    """Optuna's id of it."""
    values: tuple[float, ...] | None = None


class Proposer(Protocol):
    """Where jobs come from, and who is told how they ended."""

    def known(self) -> list[Proposal]:
        """The jobs that there are already, in the order of their numbers."""

    def propose(self) -> Proposal | None:
        """One more job; None when there is none."""

    def tell(self, proposal: Proposal, state: State, values: Sequence[float] | None) -> bool:
        """Take note of how a job ended; whether its figures are of use."""

    def retry(self, proposal: Proposal) -> None:
        """A failed job is started again."""

    def report_to(self, proposal: Proposal) -> dict[str, Any] | None:
        """What the job must know to be pruned."""


class Grid:
    """Every combination; nothing needs to be remembered, because the list is the same each time."""

    def __init__(self, plan: Plan) -> None:
        self._all = [Proposal(number, overrides) for number, overrides in enumerate(plan.jobs())]

    def known(self) -> list[Proposal]:
        return self._all

    def propose(self) -> Proposal | None:
        return None

    def tell(self, proposal: Proposal, state: State, values: Sequence[float] | None) -> bool:
        return True

    def retry(self, proposal: Proposal) -> None:
        """A job of a grid has no other record than its run."""

    def report_to(self, proposal: Proposal) -> dict[str, Any] | None:
        return None


def dominated(values: Mapping[int, Sequence[float]], directions: Sequence[str]) -> set[int]:
    """The jobs that another one beats or equals in every objective, and beats in one."""
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    costs = {number: [s * v for s, v in zip(signs, row, strict=True)] for number, row in values.items()}
    return {
        one
        for one, other in itertools.permutations(costs, 2)
        if all(b <= a for a, b in zip(costs[one], costs[other], strict=True)) and costs[other] != costs[one]
    }


def ranked(values: Mapping[int, Sequence[float]], directions: Sequence[str]) -> Iterator[int]:
    """Job numbers, the best first: by the first objective, those on the front before those that are not."""
    worse = dominated(values, directions) if len(directions) > 1 else set()
    sign = 1 if directions[0] == "minimize" else -1
    yield from sorted(values, key=lambda number: (number in worse, sign * values[number][0], number))
