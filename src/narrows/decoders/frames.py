"""A network over time, and one that draws the frames of a video: the second half."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from narrows.decoders.conv import ConvDecoder
from narrows.decoders.gru import GRUDecoder
from narrows.encoders.frames import require_video
from narrows.errors import require
from narrows.layers.stages import Decoder
from narrows.types import Shape


class FrameDecoder(Decoder):
    """One decoder writes a series of `features` values, another draws a frame of each step alone.

    `[B, *in_shape]` to a series `[B, F, T]`, and each step's F values to `[n, H, W]`: `[B, n, T, H, W]`.

    Args:
        in_shape: of one latent, whatever the decoder over time reads.
        out_shape: `(n, T, H, W)`.
        time: `time(in_shape, (F, T))`, a decoder of series.
        frame: `frame((F,), (n, H, W))`, a decoder of pictures.
        features: F, what a frame is drawn from.

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
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        require_video(self.out_shape, "decoder frames")
        require(features >= 1, f"decoder frames: features must be at least 1, not {features}")
        outputs, steps, height, width = self.out_shape
        self.time = time(self.in_shape, (features, steps))
        self.frame = frame((features,), (outputs, height, width))

    def forward(self, z: Tensor) -> Tensor:
        series = self.time(z).transpose(1, 2)
        drawn = self.frame(series.flatten(0, 1))
        return drawn.unflatten(0, (len(z), -1)).transpose(1, 2)
