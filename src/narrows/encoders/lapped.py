"""The first half of a codec of sound: a lapped transform, and a network between its frames."""

from __future__ import annotations

from torch import Tensor, nn

from narrows.layers.lapped_transforms import BetweenFrames, LappedAnalysis, require_frames
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder lapped"


class LappedEncoder(Encoder):
    """A learnt lapped transform of sound or a series, which starts as the MDCT, and what a network of dilated
    convolutions between its frames adds, which starts as nothing: `[B, C, T] -> [B, C hop, T / hop]`, or a vector.

    An untrained one is what codecs of sound have had before networks, so that training starts from there and not from
    noise. No norm: what a frame becomes depends on the frames around it alone, so that a sound of any length is read as
    windows are.

    Args:
        in_shape: `(C, T)`; hop must divide T.
        hop: samples from frame to frame, even; a frame reads twice as many.
        width: of the network, channels.
        units: residual units of dilations 1, 3, 9, ...
        kernel_size: of each, odd.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`.
        flatten: whether the frames leave as a vector.

    Raises:
        UserError: an argument out of its range, or a shape that does not fit.

    "Subband/transform coding using filter bank designs based on time domain aliasing cancellation" (Princen et al.,
    1987, https://doi.org/10.1109/ICASSP.1987.1169405); "SoundStream: An End-to-End Neural Audio Codec" (Zeghidour et
    al., 2021, https://arxiv.org/abs/2107.03312).
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        hop: int = 64,
        width: int = 192,
        units: int = 3,
        kernel_size: int = 3,
        activation: str = "elu",
        flatten: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        require_frames(self.in_shape, hop, PART)
        size, frames = self.in_shape[0] * hop, self.in_shape[1] // hop
        self.analysis = LappedAnalysis(self.in_shape[0], hop)
        self.between = BetweenFrames(size, width, units, kernel_size, activation, PART)
        self.end = nn.Flatten() if flatten else nn.Identity()
        self.out_shape = (size * frames,) if flatten else (size, frames)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.end(self.between(self.analysis(x)))
        return found
