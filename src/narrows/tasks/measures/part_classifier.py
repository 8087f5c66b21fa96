"""A classifier of one part of multi-modal data, which judges what a model makes of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from narrows.random import seed_default
from narrows.tasks.measures.classifier import descend
from narrows.types import Shape

STEPS, RATE = 600, 1e-3
CHUNK = 1000


def network(shape: Shape, classes: int) -> nn.Module:
    """Two convolutions of stride 2 over pictures and series, or a hidden layer over vectors; then a linear one."""
    if len(shape) == 1:
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], 128), nn.ReLU(), nn.Linear(128, classes))
    convolution = nn.Conv2d if len(shape) == 3 else nn.Conv1d
    small = math.prod(-(-side // 4) for side in shape[1:])
    return nn.Sequential(
        convolution(shape[0], 16, 3, stride=2, padding=1),
        nn.ReLU(),
        convolution(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * small, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


class PartClassifier:
    """A classifier of examples `[N, *shape]`, trained on real ones and then left as it is.

    Args:
        name: of the part, which with `seed` decides its first weights and its batches.
    """

    def __init__(self, x: Tensor, label: Tensor, classes: int, seed: int, name: str) -> None:
        seed_default(seed, "multimodal classifier", name)
        self.network = network(tuple(x.shape[1:]), classes)
        self.network.train()
        descend(
            self.network.__call__,
            self.network.parameters(),
            (x, label),
            "multimodal",
            name,
            steps=STEPS,
            rate=RATE,
            seed=seed,
        )
        self.network.eval()

    @torch.no_grad()
    def labels(self, x: Tensor) -> Tensor:
        """int64 `[N]`."""
        return torch.cat([self.network(part).argmax(1) for part in x.float().split(CHUNK)])
