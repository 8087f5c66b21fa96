"""A network over the frames of a video, and one over time: the first half."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from narrows.encoders.conv import ConvEncoder
from narrows.encoders.gru import GRUEncoder
from narrows.errors import require
from narrows.layers.stages import Encoder
from narrows.types import Shape


class FrameEncoder(Encoder):
    """One encoder sees every frame alone, another what it says of them in their order.

    `[B, C, T, H, W]`: each frame `[C, H, W]` to F values, the series `[B, F, T]` of them to `[B, *out_shape]` of the
    encoder over time.

    Args:
        in_shape: `(C, T, H, W)`.
        frame: `frame((C, H, W))`, an encoder of pictures.
        time: `time((F, T))`, an encoder of series.

    Raises:
        UserError: data that are no video, or what the two encoders refuse.

    "Unsupervised Learning of Video Representations using LSTMs" (Srivastava et al., 2015),
    https://arxiv.org/abs/1502.04681, section 2.2, for the recurrence over what a network says of frames.
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        frame: Callable[[Shape], Encoder] = ConvEncoder,
        time: Callable[[Shape], Encoder] = GRUEncoder,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        require_video(self.in_shape, "encoder frames")
        channels, steps, height, width = self.in_shape
        self.frame = frame((channels, height, width))
        self.time = time((math.prod(self.frame.out_shape), steps))
        self.out_shape = self.time.out_shape

    def forward(self, x: Tensor) -> Tensor:
        seen = self.frame(x.transpose(1, 2).flatten(0, 1))
        return self.time(seen.flatten(1).unflatten(0, (len(x), -1)).transpose(1, 2))


def require_video(shape: Shape, part: str) -> None:
    """Refuse data that are no video `(C, T, H, W)`.

    Raises:
        UserError: says what they are.
    """
    require(
        len(shape) == 4,
        f"{part} works on video (C, T, H, W), not on data of shape {list(shape)}; use conv for pictures and gru for "
        "series",
    )
