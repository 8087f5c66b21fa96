"""The logarithm of counts as input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.inputs.base import Input, require_numbers
from narrows.layers.blocks import probability
from narrows.types import Batch, DataSpec


class Log1p(Input):
    """`log(1 + x)`, and `-log(1 - x)` of what noise or a learnt input puts below 0: counts of any size within reach of
    an encoder.

    As of the encoders of "Deep generative modeling for single-cell transcriptomics" (Lopez et al., 2018,
    https://doi.org/10.1038/s41592-018-0229-2).

    Args:
        dropout: probability of a value to be dropped in training, where the others grow by `1 / (1 - dropout)`.

    Raises:
        UserError: data of tokens, or a `dropout` outside [0, 1).

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")))
        >>> Log1p(spec)(Batch(torch.tensor([[0.0, 9.0]])))
        tensor([[0.0000, 2.3026]])
    """

    takes_variable = True

    def __init__(self, spec: DataSpec, *, dropout: float = 0.0) -> None:
        super().__init__(spec)
        require_numbers(spec, "log1p")
        self.dropout = nn.Dropout(probability(dropout, "dropout", "input log1p"))

    def forward(self, batch: Batch) -> Tensor:
        x = batch.x
        # Each side by its own values: a branch that is not taken must have a finite gradient too.
        logarithms = torch.where(x < 0, -torch.log1p(-x.clamp_max(0)), torch.log1p(x.clamp_min(0)))
        dropped: Tensor = self.dropout(logarithms)
        return dropped

    def mask(self, unseen: Tensor) -> Tensor:
        return unseen
