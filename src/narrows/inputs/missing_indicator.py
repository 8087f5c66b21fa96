"""The input beside a mask of the values that are seen."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import require
from narrows.inputs.base import Input
from narrows.types import Batch, DataSpec


class MissingIndicator(Input):
    """x and an indicator of seen values, one after the other on axis 1: `[B, C, *any] -> [B, 2 C, *any]`.

    The indicator is 1 where a value is seen and 0 where it is missing or hidden, so that the encoder can tell a missing
    value from what stands in its place.

    It suits data with missing values and corruptions that hide (`corruption=masking`). "Variational Autoencoder with
    Arbitrary Conditioning" (Ivanov et al., 2019), section 4.2, https://arxiv.org/abs/1806.02382.

    Raises:
        UserError: data of tokens, beside which 0 and 1 would be tokens too.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        require(
            spec.kind != "tokens",
            "input missing_indicator puts 0 and 1 beside numbers, which tokens are not; use input=identity",
        )
        channels, *rest = spec.shape
        self.out_shape = (2 * channels, *rest)

    def forward(self, batch: Batch) -> Tensor:
        x, unseen = batch.x, batch.unseen
        seen = torch.ones_like(x) if unseen is None else (~unseen).to(x.dtype)
        return torch.cat([x, seen], 1)

    def mask(self, unseen: Tensor) -> Tensor:
        # Which values are unseen is itself never hidden.
        return torch.cat([unseen, torch.zeros_like(unseen)], 1)
