"""The residual network's second half."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from narrows.layers.blocks import ResidualBlock, counts, doubling, first_map, halvings, norm_activation
from narrows.layers.recomputing import Staged
from narrows.layers.space_to_channel import ChannelToSpace
from narrows.layers.stages import Decoder
from narrows.types import Shape

PART = "decoder resnet"


class ResNetDecoder(Decoder):
    """Per entry of `channels`, `blocks` residual blocks and a doubling of the map.

    The mirror image of `ResNetEncoder`: the first map comes from a vector by a linear layer, from a map
    by a convolution, and has the size of the result halved (rounded up) once per stage; norm and
    activation precede the last doubling, which gives the result. `[B, *in_shape] -> [B, *out_shape]`.

    Args:
        in_shape: of one latent, `(D,)` or a map of the first size.
        out_shape: `(C, H, W)` or `(C, T)`.
        channels: of each stage, in the order of flow.
        blocks: per stage.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gdn`, which is the inverse one here.
        norm: `batch`, `group` or None.
        upsample: `transposed` convolution, or `nearest` then convolution (slower, without checkerboards).
        channel_to_space: whether the values of an image go past each doubling but the last (`ChannelToSpace`).
        checkpointing: whether backward computes each block and doubling again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, a shape that is no map, more doublings than it allows,
            or a latent map of another size.

    "Identity Mappings in Deep Residual Networks" (He et al., 2016), https://arxiv.org/abs/1603.05027.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        channels: Sequence[int] = (64, 32),
        blocks: int = 2,
        activation: str = "relu",
        norm: str | None = "group",
        upsample: str = "transposed",
        channel_to_space: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        widths = counts(channels, "channels", PART)
        counts([blocks], "blocks", PART)
        sizes = halvings(self.out_shape, len(widths), PART)
        dims = len(sizes[0])

        def residual(width: int) -> list[list[nn.Module]]:
            return [[ResidualBlock(dims, width, norm, activation, PART, inverse=True)] for _ in range(blocks)]

        stages = [[first_map(self.in_shape, widths[0], sizes, norm, PART)]]
        for inputs, outputs, size in zip(widths, widths[1:], sizes[-2:0:-1], strict=False):
            stages += residual(inputs)
            up = doubling(upsample, inputs, outputs, size, PART, bias=norm != "batch")
            stages.append([ChannelToSpace(up, inputs, outputs, size, PART) if channel_to_space else up])
        stages += [*residual(widths[-1]), norm_activation(norm, widths[-1], activation, PART, inverse=True)]
        stages[-1].append(doubling(upsample, widths[-1], self.out_shape[0], sizes[0], PART))
        self.layers = Staged(stages, checkpointing=checkpointing)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)
