"""The input beside signals that are read and not rebuilt."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import UserError, require
from narrows.inputs.base import Input
from narrows.types import Batch, DataSpec


class Covariates(Input):
    """x and the covariates of the data, one after the other on axis 1: `[B, C, T] -> [B, C + K, T]`.

    The likelihood judges x alone, so what only explains the signals (the hour, the weather, a set point) costs the
    latent nothing. Data without covariates are read as they are.

    Raises:
        UserError: a batch without the covariates of the data.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.names = list(spec.covariates or [])
        channels, *rest = spec.shape
        require(
            not self.names or len(rest) == 1, f"input covariates reads series, not data of shape {list(spec.shape)}"
        )
        self.out_shape = (channels + len(self.names), *rest)

    def forward(self, batch: Batch) -> Tensor:
        if not self.names:
            return batch.x
        if batch.covariates is None:
            raise UserError(f"this model reads {', '.join(self.names)} beside x: give it a Batch with covariates")
        return torch.cat([batch.x, batch.covariates.to(batch.x.dtype)], 1)

    def mask(self, unseen: Tensor) -> Tensor:
        shape = (unseen.shape[0], len(self.names), *unseen.shape[2:])
        return torch.cat([unseen, unseen.new_zeros(shape)], 1) if self.names else unseen
