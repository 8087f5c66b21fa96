"""The history of loss terms by step, recorded without slowing the step down.

Each step writes one row of term values into a buffer on the device. Every `interval` steps the rows are copied to the
host: their means are logged, and a row that is not finite raises an error that names the step and the term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from narrows.errors import NonFiniteError
from narrows.losses import Losses
from narrows.types import at_least_single


def names_of(losses: Losses) -> list[str]:
    """The names of the columns: the total and every term."""
    return ["loss", *losses.terms]


def as_row(total: Tensor, losses: Losses) -> Tensor:
    """The values of `names_of`, `[n]`, detached; `total` is one of the two that `losses` has."""
    return at_least_single(torch.stack([total.detach(), *(value.detach() for value in losses.terms.values())]))


@dataclass
class StepHistory:
    """Holds the rows of the steps since the last flush."""

    interval: int = 1
    names: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    rows: Tensor | None = None

    def record(self, step: int, losses: Losses, share: float = 1.0) -> None:
        """Write one step's row; `share` weighs it in the mean over processes."""
        row = as_row(losses.total, losses)
        if self.rows is None or len(self.rows) < self.interval or self.rows.device != row.device:
            self.names = names_of(losses)
            self.rows = self._room(row)
        self.rows[len(self.steps)] = row if share == 1.0 else row * share
        self.steps.append(step)

    def _room(self, row: Tensor) -> Tensor:
        """A new buffer for a whole interval on `row`'s device, which begins with the restored rows."""
        room = row.new_zeros(self.interval, len(row))
        if self.rows is not None:
            room[: len(self.steps)] = self.rows[: len(self.steps)]
        return room

    @property
    def full(self) -> bool:
        return len(self.steps) >= self.interval

    def state(self, share: Callable[[Tensor], Tensor] = lambda rows: rows) -> dict[str, Any]:
        """The recorded rows as plain values, averaged over the processes by `share`.

        Raises:
            NonFiniteError: as `take`.
        """
        rows = self._checked(share)
        return {"names": list(self.names), "steps": list(self.steps), "rows": None if rows is None else rows.clone()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.names, self.steps, self.rows = list(state["names"]), list(state["steps"]), state["rows"]

    def take(self, share: Callable[[Tensor], Tensor] = lambda rows: rows) -> Tensor | None:
        """Remove the recorded rows and return their mean, `[n]`, on the host.

        `share` averages rows over the processes before they are checked, so that all processes stop together.

        Raises:
            NonFiniteError: a row is not finite; the sentence names step and term.
        """
        rows = self._checked(share)
        self.steps = []
        return None if rows is None else rows.mean(0)

    def _checked(self, share: Callable[[Tensor], Tensor]) -> Tensor | None:
        if self.rows is None or not self.steps:
            return None
        rows = share(self.rows[: len(self.steps)]).cpu()
        refuse_non_finite(rows, self.names, [f"at step {step}" for step in self.steps])
        return rows


def refuse_non_finite(rows: Tensor, names: list[str], where: list[str]) -> None:
    """Raise at the first row of `rows [k, n]` with a value that is not finite.

    Raises:
        NonFiniteError: names the term (the total only when every term is finite) and the place.
    """
    bad = ~torch.isfinite(rows)
    if not bad.any():
        return
    row = int(bad.any(1).nonzero()[0])
    columns = bad[row].nonzero().flatten().tolist()
    column = next((c for c in columns if names[c] != "loss"), columns[0])
    raise NonFiniteError(
        f"the term '{names[column]}' became {rows[row, column].item()} {where[row]}; checkpoints already written "
        "are kept. A lower learning rate (optimizer.lr) or gradient clipping (module.clip_norm) usually helps"
    )
