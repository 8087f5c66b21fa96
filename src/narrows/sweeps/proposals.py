"""Proposals of jobs: listed by a grid, or made one after the other by an Optuna study."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from narrows.sweeps.sweep_plan import Plan


class State(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PRUNED = "pruned"
    INTERRUPTED = "interrupted"


ENDED = (State.COMPLETED, State.PRUNED)
"""States of jobs that are not run again."""


@dataclass(frozen=True)
class Proposal:
    """A proposed job: its number, its overrides, and its state, or None if that must be read from the run."""

    number: int
    overrides: tuple[str, ...]
    state: State | None = None
    trial: int | None = None
    """The id of the trial in Optuna."""
    values: tuple[float, ...] | None = None


class Proposer(Protocol):
    """The protocol of proposers, which propose jobs and are told how they ended."""

    def known(self) -> list[Proposal]:
        """The jobs proposed so far, in the order of their numbers."""

    def propose(self) -> Proposal | None:
        """The next job; None if there is none."""

    def tell(self, proposal: Proposal, state: State, values: Sequence[float] | None) -> bool:
        """Record how a job ended; returns whether its figures can be used."""

    def retry(self, proposal: Proposal) -> None:
        """Record that a failed job is started again."""

    def report_to(self, proposal: Proposal) -> dict[str, Any] | None:
        """What the job needs to report to a pruner; None if it is not pruned."""


class Grid:
    """Proposes every combination of a grid; it keeps no record, because the list is always the same."""

    def __init__(self, plan: Plan) -> None:
        self._all = [Proposal(number, overrides) for number, overrides in enumerate(plan.jobs())]

    def known(self) -> list[Proposal]:
        return self._all

    def propose(self) -> Proposal | None:
        return None

    def tell(self, proposal: Proposal, state: State, values: Sequence[float] | None) -> bool:
        return True

    def retry(self, proposal: Proposal) -> None:
        """Do nothing: the run is the only record of a grid's job."""

    def report_to(self, proposal: Proposal) -> dict[str, Any] | None:
        return None


def dominated(values: Mapping[int, Sequence[float]], directions: Sequence[str]) -> set[int]:
    """The dominated jobs: another one is at least as good in every objective, and better in one."""
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    costs = {number: [s * v for s, v in zip(signs, row, strict=True)] for number, row in values.items()}
    return {
        one
        for one, other in itertools.permutations(costs, 2)
        if all(b <= a for a, b in zip(costs[one], costs[other], strict=True)) and costs[other] != costs[one]
    }


def ranked(values: Mapping[int, Sequence[float]], directions: Sequence[str]) -> Iterator[int]:
    """Job numbers, best first: those on the Pareto front before the others, each by the first objective."""
    worse = dominated(values, directions) if len(directions) > 1 else set()
    sign = 1 if directions[0] == "minimize" else -1
    yield from sorted(values, key=lambda number: (number in worse, sign * values[number][0], number))
