"""The convolutional network's first half."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from narrows.layers.blocks import (
    POOLINGS,
    choose,
    convolution,
    counts,
    halving_kernel,
    halvings,
    map_or_vector,
    norm_activation,
)
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder conv"


class ConvEncoder(Encoder):
    """Convolutions that halve an image, a series or a volume once per entry of `channels`.

    `strided`: convolution of stride 2, norm, activation. `maxpool`: convolution of stride 1, norm,
    activation, maximum of 2 values a side. Both take a side s to ceil(s / 2). `[B, C, *size]` to
    `[B, channels[-1] * prod(small size)]`, or to the map itself.

    Args:
        in_shape: `(C, H, W)`, `(C, T)`, or `(C, D, H, W)` of volumes and video.
        channels: after each halving.
        kernel_size: odd, or even where `strided` and every side halves evenly.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gdn` (generalised divisive normalisation).
        norm: `batch`, `group` or None.
        downsample: `strided` or `maxpool`.
        flatten: whether the map leaves as a vector.
        checkpointing: whether backward computes each halving again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, a shape that is no map, or more halvings than it allows.

    "Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction" (Masci et al., 2011).
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        channels: Sequence[int] = (32, 64),
        kernel_size: int = 3,
        activation: str = "relu",
        norm: str | None = None,
        downsample: str = "strided",
        flatten: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        widths = [self.in_shape[0], *counts(channels, "channels", PART)]
        choose(downsample, ("strided", "maxpool"), "downsample", PART)
        sizes, pooled = halvings(self.in_shape, len(widths) - 1, PART), downsample == "maxpool"
        kernel, size = halving_kernel(kernel_size, sizes, PART, strided=not pooled), sizes[-1]
        dims = len(size)
        stages: list[list[nn.Module]] = []
        for inputs, outputs in itertools.pairwise(widths):
            stride, bias = 1 if pooled else 2, norm != "batch"
            halving = convolution(dims, inputs, outputs, kernel, stride=stride, bias=bias)
            stages.append([halving, *norm_activation(norm, outputs, activation, PART)])
            if pooled:
                stages[-1].append(POOLINGS[dims](2, ceil_mode=True))
        self.layers, self.out_shape = map_or_vector(
            stages, widths[-1], size, flatten=flatten, checkpointing=checkpointing
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
