"""What a frozen network sees in pictures, as one map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import require
from narrows.layers.feature_networks import FeatureNetwork
from narrows.types import Shape

PIXELS = 2**21
"""Pixels of the pictures that go through the network at once, which bounds the memory of its first layers."""


class FeatureMap:
    """Pictures `[B, C, H, W]` in [0, 1] as the features of a frozen network, `[B, sum of C_k, h, w]`.

    The map of each layer is averaged over its `patch x patch` neighbours, so that a position knows what is around it,
    brought to one side by bilinear interpolation, and stacked on the others: "Towards Total Recall in Industrial
    Anomaly Detection" (Roth et al., 2022, https://arxiv.org/abs/2106.08265), section 3.1.

    It is no module: no checkpoint, optimiser or count of parameters holds any of it.

    Args:
        network: builds the network; its own layers are those that are stacked.
        side: height and width of the map; None for those of the first layer.
        patch: side of the neighbourhood, odd; 1 averages nothing.
        memory_limit_mb: a split whose features fit in is computed once, and a larger one batch by batch; the former are
            also the same to the bit in batches of any size.
        standardise: whether the datamodule brings every feature to mean 0 and deviation 1 over training pictures, so
            that none decides a squared error alone.

    Raises:
        UserError: a side below 1, an even patch, or a limit below 0.
    """

    def __init__(
        self,
        network: Callable[[], FeatureNetwork],
        *,
        side: int | None = None,
        patch: int = 3,
        memory_limit_mb: float = 2048,
        standardise: bool = True,
    ) -> None:
        require(side is None or side >= 1, f"datamodule.features.side={side} must be at least 1, or null")
        odd = patch >= 1 and patch % 2 == 1
        require(odd, f"datamodule.features.patch={patch} must be odd: a position and its neighbours on every side")
        require(memory_limit_mb >= 0, f"datamodule.features.memory_limit_mb={memory_limit_mb} must be at least 0")
        self.network, self.side, self.patch = network(), side, patch
        self.memory_limit_mb, self.standardise = memory_limit_mb, standardise

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that changes a value: weights, layers, sizes."""
        sides = f"side={self.side}, patch={self.patch}, standardise={self.standardise}"
        digest = hashlib.sha256(f"{self.network.extra_repr()}, {sides}".encode())
        for tensor in self.network.tensors():
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def out_shape(self, shape: Shape) -> Shape:
        """The shape of the map of a picture of this shape.

        Raises:
            UserError: a shape that is no picture.
        """
        return tuple(self(torch.zeros(1, *shape)).shape[1:])

    def __call__(self, x: Tensor) -> Tensor:
        self.network.to(x.device)
        rows = max(1, PIXELS // (self.network.size or x.shape[-1]) ** 2)
        with torch.no_grad():
            return torch.cat([self._stacked(part) for part in x.split(rows)])

    def _stacked(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = self.network(x.float())
        size = maps[0].shape[2:] if self.side is None else (self.side, self.side)
        return torch.cat([self._brought(found, size) for found in maps], 1).contiguous()

    def _brought(self, found: Tensor, size: tuple[int, ...]) -> Tensor:
        if self.patch > 1:
            found = F.avg_pool2d(found, self.patch, 1, self.patch // 2, count_include_pad=False)
        if tuple(found.shape[2:]) == tuple(size):
            return found
        return F.interpolate(found, size, mode="bilinear", align_corners=False)
