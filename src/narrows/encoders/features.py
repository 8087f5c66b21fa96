"""A frozen, pretrained network as an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import require
from narrows.layers.feature_networks import FeatureNetwork
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder features"


class FeatureEncoder(Encoder):
    """What a frozen, pretrained network sees in pictures, `[B, C, H, W]` in [0, 1] to the map `[B, sum of C_k, h, w]`.

    Its layers' maps are normalised at every position, brought to one size by bilinear interpolation, and stacked. It
    has nothing to train: the network stays in evaluation mode, its running statistics too, though gradients flow
    through it to x. Its weights are in no checkpoint, because whoever loads the run reads them where training did; a
    checkpoint holds their checksum, and is refused beside others.

    Args:
        in_shape: `(C, H, W)`, of one or three channels.
        network: builds the network; its own layers are those that are stacked.
        halvings: how many times smaller by two the map's sides are than the pictures', rounded up, whatever the layers'
            own are: as many as the entries of the decoder's `channels`.
        normalise: whether each position's features of a layer are brought to mean 0 and deviation 1.

    Raises:
        UserError: data that are no pictures of one or three channels, a negative number of halvings, or weights that
            are not at hand.

    "Diffusion Transformers with Representation Autoencoders" (Zheng et al., 2025), https://arxiv.org/abs/2510.11690: a
    decoder is trained on a frozen encoder, whose last norm has no scale and shift of its own.
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        network: Callable[[], FeatureNetwork],
        halvings: int = 2,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        require(
            len(self.in_shape) == 3 and self.in_shape[0] in (1, 3),
            f"{PART} reads pictures of one or three channels, not data of shape {list(self.in_shape)}",
        )
        require(halvings >= 0, f"{PART} needs halvings of at least 0, not {halvings}")
        self.network, self.halvings, self.normalise = network(), halvings, normalise
        self.out_shape = (sum(self.network.channels), *self._size(self.in_shape[1:]))
        self._checksum = _checksum(self.network)

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = self.network(x)
        size = self._size(x.shape[2:])
        return torch.cat([self._brought(found, size) for found in maps], 1).contiguous()

    def _size(self, sides: Shape) -> Shape:
        return tuple(-(-side // 2**self.halvings) for side in sides)

    def _brought(self, found: Tensor, size: Shape) -> Tensor:
        if self.normalise:
            found = F.layer_norm(found.movedim(1, -1), found.shape[1:2]).movedim(-1, 1)
        if tuple(found.shape[2:]) == size:
            return found
        return F.interpolate(found, size, mode="bilinear", align_corners=False)

    # No buffer, which another run's weights could overwrite.

    def get_extra_state(self) -> Tensor:
        """uint8 `[32]`, SHA-256 of the network's weights and options, which a checkpoint holds."""
        return self._checksum.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse a checkpoint beside another network.

        Raises:
            UserError: its checksum is another one.
        """
        require(
            torch.equal(state.cpu(), self._checksum),
            f"the weights of {self.network.name} here are not those that this checkpoint was trained beside, or its "
            "layers and size are others: encoder.network.weights= names their file",
        )


def _checksum(network: FeatureNetwork) -> Tensor:
    digest = hashlib.sha256(network.extra_repr().encode())
    for values in network.tensors():
        digest.update(values.detach().cpu().float().contiguous().numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
