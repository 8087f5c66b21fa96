"""The second half of a codec of sound: a network between frames, and the inverse of a lapped transform."""

from __future__ import annotations

from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.lapped_transforms import BetweenFrames, LappedSynthesis, require_frames
from narrows.layers.stages import AxisLinear, Decoder
from narrows.types import Shape

PART = "decoder lapped"


class LappedDecoder(Decoder):
    """Frames, what a network of dilated convolutions between them adds, which starts as nothing, and a learnt lapped
    transform, which starts as the inverse MDCT: `[B, D, T / hop] -> [B, *out_shape]`.

    A latent of D = C hop is read as the frames of `encoder=lapped`, another one through a linear map of every frame, a
    vector through one of all.

    Args:
        in_shape: of one latent, `(D,)` or `(D, T / hop)`.
        out_shape: `(C, T)`; hop must divide T.
        hop: samples from frame to frame, even: the encoder's.
        width: of the network, channels.
        units: residual units of dilations 1, 3, 9, ...
        kernel_size: of each, odd.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`.

    Raises:
        UserError: an argument out of its range, a shape that does not fit, or latents of another number of frames.

    "Subband/transform coding using filter bank designs based on time domain aliasing cancellation" (Princen et al.,
    1987, https://doi.org/10.1109/ICASSP.1987.1169405); "SoundStream: An End-to-End Neural Audio Codec" (Zeghidour et
    al., 2021, https://arxiv.org/abs/2107.03312).
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        hop: int = 64,
        width: int = 192,
        units: int = 3,
        kernel_size: int = 3,
        activation: str = "elu",
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        require_frames(self.out_shape, hop, PART)
        size, frames = self.out_shape[0] * hop, self.out_shape[1] // hop
        self.first = _frames(self.in_shape, size, frames)
        self.between = BetweenFrames(size, width, units, kernel_size, activation, PART)
        self.synthesis = LappedSynthesis(self.out_shape[0], hop)

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.synthesis(self.between(self.first(z)))
        return found


def _frames(in_shape: Shape, size: int, frames: int) -> nn.Module:
    """What turns a latent into frames `[B, size, frames]`."""
    if len(in_shape) == 1:
        return nn.Sequential(nn.Linear(in_shape[0], size * frames), nn.Unflatten(1, (size, frames)))
    require(
        in_shape[1:] == (frames,),
        f"{PART} makes its sound of {frames} frames, and the bottleneck gives {list(in_shape)}: choose encoder=lapped "
        "with the same hop",
    )
    return nn.Identity() if in_shape[0] == size else AxisLinear(in_shape[0], size)
