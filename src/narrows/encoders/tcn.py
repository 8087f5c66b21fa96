"""The temporal convolutional network's first half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from narrows.encoders.recurrent import require_series
from narrows.layers.clock import Clock
from narrows.layers.pooling import Pooling, inside
from narrows.layers.stages import Encoder
from narrows.layers.temporal import TemporalConvolutions
from narrows.types import Shape

PART = "encoder tcn"


class TCNEncoder(Encoder):
    """Dilated convolutions over a series, whose steps are then pooled: `[B, C, T] -> [B, channels[-1]]`, for any T.

    Given `length [B]`, what lies behind an example's end is as good as the zeros that stand behind the longest.

    Args:
        in_shape: `(C, T)`.
        channels: width of each residual block of two convolutions; the i-th has a dilation of 2^i.
        kernel_size: odd.
        causal: whether no step reads those behind it.
        dropout: probability of a value of a block's branch to be dropped in training.
        time_features: sines and cosines of the step beside the series, even; 0 for none.
        pool: `attention`, `mean` or `last`; `steps` keeps them all, `[B, T * width]`, for at most T.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling" (Bai et al., 2018),
    https://arxiv.org/abs/1803.01271.
    """

    reads_length: ClassVar[bool] = True

    def __init__(
        self,
        in_shape: Shape,
        *,
        channels: Sequence[int] = (64, 64, 64, 64, 64),
        kernel_size: int = 3,
        causal: bool = False,
        dropout: float = 0.0,
        time_features: int = 8,
        pool: str = "attention",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        require_series(self.in_shape, PART)
        self.clock = Clock(self.in_shape[1], time_features, PART)
        self.convolutions = TemporalConvolutions(
            self.in_shape[0] + time_features,
            channels,
            kernel_size,
            causal=causal,
            dropout=dropout,
            checkpointing=checkpointing,
            part=PART,
        )
        self.pool = Pooling(pool, self.convolutions.width, PART, steps=self.in_shape[1])
        self.out_shape = (self.pool.width,)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        told = torch.cat([x, self.clock(x)], 1)
        if length is None:
            return self.pool(self.convolutions(told).transpose(1, 2))
        within = inside(length, x.shape[2], x.device)[:, None]
        # Whatever stands behind the end, NaN included, must not be read.
        steps = self.convolutions(told.masked_fill(~within, 0), within)
        return self.pool(steps.transpose(1, 2), length)
