"""Corruptions: changes of the input before the encoder reads it.

Each is built from the `DataSpec` and maps a batch, `x [B, *shape]`, to `(x_in, hidden)`: the corrupted input and a
bool mask of the values that are hidden (None where none is). Random numbers come from torch's default generator,
which the training module seeds.
"""

from __future__ import annotations

from typing import ClassVar, get_args

from torch import Tensor, nn

from narrows.errors import require
from narrows.types import Batch, DataSpec, Kind, within

Corrupted = tuple[Tensor, Tensor | None]


class Corruption(nn.Module):
    """A change of the input before the encoder reads it, `batch -> (x_in, hidden)`; padding stays, and is never hidden.

    Raises:
        UserError: data of a kind that it does not take.
    """

    hides: ClassVar[bool] = False
    """Whether it marks values as hidden."""
    identity: ClassVar[bool] = False
    """Whether it leaves every input as it is."""
    kinds: ClassVar[tuple[Kind, ...]] = (
        "image",
        "volume",
        "video",
        "vector",
        "series",
        "counts",
        "interactions",
        "audio",
        "features",
    )
    """The kinds of data that it takes."""
    takes_variable: ClassVar[bool] = False
    """Whether examples may differ in length."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        name = type(self).__name__
        require(
            spec.kind in self.kinds,
            f"corruption {name} takes data of kind {', '.join(self.kinds)}, not {spec.kind}; use corruption=none",
        )
        self.value_range = spec.value_range

    def forward(self, batch: Batch) -> Corrupted:
        x_in, hidden = self.corrupt(batch.x)
        if batch.length is None:
            return x_in, hidden
        inside = within(batch.length, batch.x)
        return x_in.where(inside, batch.x), None if hidden is None else hidden & inside

    def corrupt(self, x: Tensor) -> Corrupted:
        """The corrupted input of `x [B, *shape]`, and the mask of its hidden values (None where none is)."""
        raise NotImplementedError


class NoCorruption(Corruption):
    """Leaves every input as it is."""

    identity = True
    kinds = get_args(Kind)
    takes_variable = True

    def corrupt(self, x: Tensor) -> Corrupted:
        return x, None
