"""The U-Net's first half."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from narrows.layers.attention import MapAttention
from narrows.layers.blocks import convolution, counts, double_convolution, halvings, map_or_vector
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder unet"


class UNetEncoder(Encoder):
    """Per entry of `channels`, two convolutions and a halving; two more convolutions at the last size.

    Each convolution has its norm and activation; halvings are convolutions of stride 2 and take a side s to
    ceil(s / 2). `[B, C, *size]` to `[B, channels[-1] * prod(small size)]`, or to the map itself. It hands the
    decoder nothing but its output: `UNetDecoder` makes its skips from the latent.

    Args:
        in_shape: `(C, H, W)` or `(C, T)`.
        channels: at each size, from the largest; the last one also at the smallest.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gdn` (generalised divisive normalisation).
        norm: `batch`, `group` or None.
        attention: whether the positions of the smallest map attend to each other.
        flatten: whether the map leaves as a vector.
        checkpointing: whether backward computes each pair of convolutions again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, a shape that is no map, or more halvings than it allows.

    "U-Net: Convolutional Networks for Biomedical Image Segmentation" (Ronneberger et al., 2015),
    https://arxiv.org/abs/1505.04597; attention as in "High-Resolution Image Synthesis with Latent Diffusion Models"
    (Rombach et al., 2022, https://arxiv.org/abs/2112.10752), appendix E.1.
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        channels: Sequence[int] = (32, 64),
        activation: str = "silu",
        norm: str | None = "group",
        attention: bool = False,
        flatten: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        widths = [self.in_shape[0], *counts(channels, "channels", PART)]
        size = halvings(self.in_shape, len(widths) - 1, PART)[-1]
        dims, stages = len(size), list[list[nn.Module]]()
        for inputs, outputs in itertools.pairwise(widths):
            stages.append(double_convolution(dims, inputs, outputs, norm, activation, PART))
            stages[-1].append(convolution(dims, outputs, outputs, stride=2))
        if attention:
            stages.append([MapAttention(widths[-1], norm, PART)])
        stages.append(double_convolution(dims, widths[-1], widths[-1], norm, activation, PART))
        self.layers, self.out_shape = map_or_vector(
            stages, widths[-1], size, flatten=flatten, checkpointing=checkpointing
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
