"""The residual network's first half."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from narrows.layers.blocks import (
    ResidualBlock,
    convolution,
    counts,
    halvings,
    map_or_vector,
    norm_activation,
)
from narrows.layers.space_to_channel import SpaceToChannel
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder resnet"


class ResNetEncoder(Encoder):
    """Per entry of `channels`, a convolution of stride 2 and `blocks` residual blocks.

    A block is x + conv(act(norm(conv(act(norm(x)))))); norm and activation follow the last block. A side
    s becomes ceil(s / 2) per stage. `[B, C, *size]` to `[B, channels[-1] * prod(small size)]`, or to the
    map itself.

    Args:
        in_shape: `(C, H, W)` or `(C, T)`.
        channels: of each stage.
        blocks: per stage.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gdn` (generalised divisive normalisation).
        norm: `batch`, `group` or None.
        flatten: whether the map leaves as a vector.
        space_to_channel: whether the values of an image go past each halving but the first (`SpaceToChannel`).
        checkpointing: whether backward computes each halving and block again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, a shape that is no map, or more halvings than it allows.

    "Identity Mappings in Deep Residual Networks" (He et al., 2016), https://arxiv.org/abs/1603.05027.
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        channels: Sequence[int] = (32, 64),
        blocks: int = 2,
        activation: str = "relu",
        norm: str | None = "group",
        flatten: bool = True,
        space_to_channel: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        widths = [self.in_shape[0], *counts(channels, "channels", PART)]
        counts([blocks], "blocks", PART)
        sizes = halvings(self.in_shape, len(widths) - 1, PART)
        size, dims = sizes[-1], len(sizes[-1])
        stages: list[list[nn.Module]] = []
        for stage, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            halving = convolution(dims, inputs, outputs, stride=2, bias=norm != "batch")
            past = space_to_channel and stage > 0
            stages.append([SpaceToChannel(halving, inputs, outputs, sizes[stage], PART) if past else halving])
            stages += [[ResidualBlock(dims, outputs, norm, activation, PART)] for _ in range(blocks)]
        stages.append(norm_activation(norm, widths[-1], activation, PART))
        self.layers, self.out_shape = map_or_vector(
            stages, widths[-1], size, flatten=flatten, checkpointing=checkpointing
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
