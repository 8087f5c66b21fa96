"""The U-Net's second half, whose skips come from the latent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from narrows.layers.attention import MapAttention
from narrows.layers.blocks import (
    Nearest,
    convolution,
    counts,
    double_convolution,
    doubling,
    first_map,
    halvings,
)
from narrows.layers.recomputing import Staged, recomputed
from narrows.layers.stages import Decoder
from narrows.types import Shape

PART = "decoder unet"


class UNetDecoder(Decoder):
    """Two convolutions at the smallest size, then per entry of `channels` a doubling and two convolutions.

    A U-Net's decoder reads the encoder's maps at every size, past the bottleneck: an autoencoder would copy its
    input. Here the skip at a size is a map of the latent's own (linear from a vector, a convolution from a map)
    at the smallest size, whose values are repeated up to that size; so p(x|z) depends on x through z alone.
    `[B, *in_shape] -> [B, *out_shape]`.

    Args:
        in_shape: of one latent, `(D,)` or a map of the smallest size.
        out_shape: `(C, H, W)` or `(C, T)`.
        channels: at each size, in the order of flow; the first one also at the smallest.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gdn`, which is the inverse one here.
        norm: `batch`, `group` or None.
        attention: whether the positions of the smallest map attend to each other.
        upsample: `transposed` convolution, or `nearest` then convolution (slower, without checkerboards).
        checkpointing: whether backward computes each pair of convolutions again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, a shape that is no map, more doublings than it allows,
            or a latent map of another size.

    The papers are those of `UNetEncoder`; latents at every size as in "Very Deep
    VAEs" (Child, 2021, https://arxiv.org/abs/2011.10650), here of the one latent.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        channels: Sequence[int] = (64, 32),
        activation: str = "silu",
        norm: str | None = "group",
        attention: bool = False,
        upsample: str = "transposed",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        widths = counts(channels, "channels", PART)
        sizes = halvings(self.out_shape, len(widths), PART)
        dims, first = len(sizes[0]), widths[0]
        lowest: list[list[nn.Module]] = [[first_map(self.in_shape, first, sizes, norm, PART)]]
        if attention:
            lowest.append([MapAttention(first, norm, PART)])
        lowest.append(double_convolution(dims, first, first, norm, activation, PART, inverse=True))
        self.checkpointing, self.lowest = checkpointing, Staged(lowest, checkpointing=checkpointing)
        self.up, self.skips, self.blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for before, width, size in zip([first, *widths], widths, sizes[-2::-1], strict=False):
            skip = first_map(self.in_shape, width, sizes, norm, PART)
            self.up.append(doubling(upsample, before, width, size, PART))
            self.skips.append(nn.Sequential(skip, Nearest(size)))
            self.blocks.append(
                nn.Sequential(*double_convolution(dims, 2 * width, width, norm, activation, PART, inverse=True))
            )
        self.last = convolution(dims, widths[-1], self.out_shape[0])

    def forward(self, z: Tensor) -> Tensor:
        h = self.lowest(z)
        for parts in zip(self.up, self.skips, self.blocks, strict=True):
            joined = partial(_joined, *parts)
            h = recomputed(joined, h, z, parts=parts) if self.checkpointing else joined(h, z)
        return self.last(h)


def _joined(up: nn.Module, skip: nn.Module, block: nn.Module, h: Tensor, z: Tensor) -> Tensor:
    """The map at the next size, from the map `h` before and the latent."""
    made: Tensor = block(torch.cat([up(h), skip(z)], 1))
    return made
