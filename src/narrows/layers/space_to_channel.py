"""Values that go past the halvings and doublings of an image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.types import Shape


class SpaceToChannel(nn.Module):
    """A halving of an image beside which its values go past: `halving(x) + s(x)`, where s lays the 2 x 2 values of each
    place into channels and averages neighbouring channels, `[B, inputs, H, W] -> [B, outputs, H/2, W/2]`.

    "Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models" (Chen et al., 2024,
    https://arxiv.org/abs/2410.10733), section 3.2.

    Raises:
        UserError: 4 x inputs channels cannot be averaged into `outputs`, or a side of `size`, that before, is odd.
    """

    def __init__(self, halving: nn.Module, inputs: int, outputs: int, size: Shape, part: str) -> None:
        super().__init__()
        _require_squares(4 * inputs, outputs, size, part, "space_to_channel")
        self.halving, self.outputs = halving, outputs

    def forward(self, x: Tensor) -> Tensor:
        past: Tensor = F.pixel_unshuffle(x, 2).unflatten(1, (self.outputs, -1)).mean(2)
        halved: Tensor = self.halving(x)
        return past + halved


class ChannelToSpace(nn.Module):
    """A doubling of an image beside which its values go past, the way back of `SpaceToChannel`: channels are repeated
    and laid out as 2 x 2 places, `[B, inputs, H/2, W/2] -> [B, outputs, H, W]`.

    Raises:
        UserError: `inputs` channels cannot be repeated to 4 x outputs, or a side of `size`, that after, is odd.
    """

    def __init__(self, doubling: nn.Module, inputs: int, outputs: int, size: Shape, part: str) -> None:
        super().__init__()
        _require_squares(4 * outputs, inputs, size, part, "channel_to_space")
        self.doubling, self.times = doubling, 4 * outputs // inputs

    def forward(self, x: Tensor) -> Tensor:
        past: Tensor = F.pixel_shuffle(x.repeat_interleave(self.times, dim=1), 2)
        doubled: Tensor = self.doubling(x)
        return past + doubled


def _require_squares(many: int, few: int, size: Shape, part: str, option: str) -> None:
    require(
        len(size) == 2 and all(side % 2 == 0 for side in size),
        f"{part}: {option} needs images whose sides halve evenly, not {' x '.join(map(str, size))}",
    )
    require(
        many % few == 0,
        f"{part}: {option} needs four times the channels of the larger image to be a multiple of those of the smaller "
        f"one, and {many} is none of {few}",
    )
