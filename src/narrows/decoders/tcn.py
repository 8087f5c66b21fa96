"""The temporal convolutional network's second halves: free of the target, and autoregressive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from narrows.decoders.autoregressive import AutoregressiveDecoder, series_of
from narrows.layers.clock import Clock
from narrows.layers.stages import AxisLinear, Decoder
from narrows.layers.temporal import Past, TemporalConvolutions
from narrows.types import DataSpec, Shape

PART = "decoder tcn"
PART_AR = "decoder tcn_ar"
State = tuple[Tensor, list[tuple[Past, Past]] | None]
"""z, and what the convolutions have read, where steps are given one by one."""


class TCNDecoder(Decoder):
    """Dilated convolutions turn the latent, the same at every step, and a clock into a series without ever seeing it.

    `[B, *in_shape] -> [B, n, T]`.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        channels: width of each residual block of two convolutions; the i-th has a dilation of 2^i.
        kernel_size: odd.
        causal: whether no step reads those behind it.
        dropout: probability of a value of a block's branch to be dropped in training.
        time_features: sines and cosines of the step beside the latent, even; with 0 only the ends tell where it is.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling" (Bai et al., 2018),
    https://arxiv.org/abs/1803.01271, for the network.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        channels: Sequence[int] = (64, 64, 64, 64, 64),
        kernel_size: int = 3,
        causal: bool = False,
        dropout: float = 0.0,
        time_features: int = 32,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        outputs, steps = series_of(self.out_shape, PART)
        self.clock = Clock(steps, time_features, PART)
        self.convolutions = TemporalConvolutions(
            math.prod(self.in_shape) + time_features,
            channels,
            kernel_size,
            causal=causal,
            dropout=dropout,
            checkpointing=checkpointing,
            part=PART,
        )
        self.readout = AxisLinear(self.convolutions.width, outputs)

    def forward(self, z: Tensor) -> Tensor:
        constant = z.flatten(1)[..., None].expand(-1, -1, self.out_shape[1])
        params: Tensor = self.readout(self.convolutions(torch.cat([constant, self.clock(constant)], 1)))
        return params


class AutoregressiveTCNDecoder(AutoregressiveDecoder):
    """Causal dilated convolutions predict each step of a series from the latent, which they read at every step, and the
    steps before as far as they reach; see `AutoregressiveDecoder`.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        spec: of the data, whose examples are `(C, T)`, or tokens `(T,)`.
        channels: width of each residual block of two convolutions; the i-th has a dilation of 2^i.
        kernel_size: odd.
        dropout: probability of a value of a block's branch to be dropped in training.
        embedding: values that a token is read as; numbers are read as they are.
        input_dropout: probability, in training, that a step's fed-back values are zeroed.
        scheduled_sampling: probability, in training, that they are the decoder's own guess.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Improved Variational Autoencoders for Text Modeling using Dilated Convolutions" (Yang et al., 2017),
    https://arxiv.org/abs/1702.08139.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        spec: DataSpec,
        channels: Sequence[int] = (64, 64, 64, 64, 64),
        kernel_size: int = 3,
        dropout: float = 0.0,
        embedding: int = 64,
        input_dropout: float = 0.0,
        scheduled_sampling: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            in_shape,
            out_shape,
            spec=spec,
            part=PART_AR,
            embedding=embedding,
            input_dropout=input_dropout,
            scheduled_sampling=scheduled_sampling,
        )
        self.convolutions = TemporalConvolutions(
            self.inputs + self.latent,
            channels,
            kernel_size,
            causal=True,
            dropout=dropout,
            checkpointing=checkpointing,
            part=PART_AR,
        )
        self.readout = AxisLinear(self.convolutions.width, self.outputs)

    def begin(self, z: Tensor, running: bool) -> State:
        return z, self.convolutions.pasts() if running else None

    def unroll(self, fed: Tensor, state: State) -> tuple[Tensor, State]:
        z, pasts = state
        told = torch.cat([fed, z[:, None].expand(-1, fed.shape[1], -1)], 2)
        return self.readout(self.convolutions(told.transpose(1, 2), pasts=pasts)), state
