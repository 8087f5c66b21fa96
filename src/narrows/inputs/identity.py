"""The input as it is."""

from __future__ import annotations

from torch import Tensor

from narrows.inputs.base import Input
from narrows.types import Batch


class Identity(Input):
    """x itself, with whatever the data and the corruption have put in the place of unseen values."""

    takes_variable = True

    def forward(self, batch: Batch) -> Tensor:
        return batch.x

    def mask(self, unseen: Tensor) -> Tensor:
        return unseen
