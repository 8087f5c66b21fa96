"""A network over time, and one that draws the frames of a video: the second half."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from narrows.decoders.conv import ConvDecoder
from narrows.decoders.gru import GRUDecoder
from narrows.encoders.frames import require_video
from narrows.errors import require
from narrows.layers.stages import Decoder
from narrows.types import Shape


class FrameDecoder(Decoder):
    """One decoder writes a series of `features` values, another draws a frame of each step alone.

    `[B, *in_shape]` to a series `[B, F, T]`, and each step's F values to `[n, H, W]`: `[B, n, T, H, W]`. With the
    shortcut, what a frame is drawn from is the sum of the series' step and of a linear map of z, one for each step.
    Without, the first steps of training, in which all weights drive the output to the data's mean together, may
    saturate a recurrent network for good before z tells any example from another.

    Args:
        in_shape: of one latent, whatever the decoder over time reads.
        out_shape: `(n, T, H, W)`.
        time: `time(in_shape, (F, T))`, a decoder of series.
        frame: `frame((F,), (n, H, W))`, a decoder of pictures.
        features: F, what a frame is drawn from.
        shortcut: whether z reaches every step past the decoder over time, too.

    Raises:
        UserError: data that are no video, `features` below 1, or what the two decoders refuse.

    "Unsupervised Learning of Video Representations using LSTMs" (Srivastava et al., 2015),
    https://arxiv.org/abs/1502.04681.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        time: Callable[[Shape, Shape], Decoder] = GRUDecoder,
        frame: Callable[[Shape, Shape], Decoder] = ConvDecoder,
        features: int = 64,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        require_video(self.out_shape, "decoder frames")
        require(features >= 1, f"decoder frames: features must be at least 1, not {features}")
        outputs, steps, height, width = self.out_shape
        self.time = time(self.in_shape, (features, steps))
        self.frame = frame((features,), (outputs, height, width))
        self.shortcut = nn.Linear(math.prod(self.in_shape), features * steps) if shortcut else None

    def forward(self, z: Tensor) -> Tensor:
        series = self.time(z)
        if self.shortcut is not None:
            series = series + self.shortcut(z.flatten(1)).unflatten(1, series.shape[1:])
        drawn = self.frame(series.transpose(1, 2).flatten(0, 1))
        return drawn.unflatten(0, (len(z), -1)).transpose(1, 2)
