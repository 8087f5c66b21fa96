"""The convolutional network's second half."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from narrows.layers.blocks import counts, doubling, first_map, halving_kernel, halvings, norm_activation
from narrows.layers.recomputing import Staged
from narrows.layers.stages import Decoder
from narrows.types import Shape

PART = "decoder conv"


class ConvDecoder(Decoder):
    """Convolutions that double a map once per entry of `channels`, up to an image, a series or a volume.

    A latent vector becomes the first map `[channels[0], *size]` by a linear layer, a latent map by a
    convolution, each with norm and activation; its size is that of the result halved (rounded up) once
    per stage. Stage i doubles it to exactly the size that the encoder had there and goes on to
    `channels[i + 1]`, the last one to the result, without activation. `[B, *in_shape] -> [B, *out_shape]`.

    Args:
        in_shape: of one latent, `(D,)` or a map of the first size.
        out_shape: `(C, H, W)`, `(C, T)`, or `(C, D, H, W)` of volumes and video.
        channels: before each doubling, in the order of flow.
        kernel_size: odd, or even where `transposed`, from a vector and every side doubles evenly.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gdn`, which is the inverse one here.
        norm: `batch`, `group` or None.
        upsample: `transposed` convolution, or `nearest` then convolution (slower, without checkerboards).
        checkpointing: whether backward computes each doubling again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, a shape that is no map, more doublings than it allows,
            or a latent map of another size.

    "Adaptive Deconvolutional Networks for Mid and High Level Feature Learning" (Zeiler et al., 2011);
    "Deconvolution and Checkerboard Artifacts" (Odena et al., 2016, https://distill.pub/2016/deconv-checkerboard/) for
    `nearest`.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        channels: Sequence[int] = (64, 32),
        kernel_size: int = 3,
        activation: str = "relu",
        norm: str | None = None,
        upsample: str = "transposed",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        widths = counts(channels, "channels", PART)
        sizes = halvings(self.out_shape, len(widths), PART)
        strided = upsample == "transposed" and len(self.in_shape) == 1
        kernel = halving_kernel(kernel_size, sizes, PART, strided=strided)
        stages = [[first_map(self.in_shape, widths[0], sizes, norm, PART, kernel=kernel)]]
        for inputs, outputs, size in zip(widths, [*widths[1:], self.out_shape[0]], sizes[-2::-1], strict=True):
            bias = norm != "batch" or size == sizes[0]
            before = norm_activation(norm, inputs, activation, PART, inverse=True)
            stages.append([*before, doubling(upsample, inputs, outputs, size, PART, kernel=kernel, bias=bias)])
        self.layers = Staged(stages, checkpointing=checkpointing)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)
