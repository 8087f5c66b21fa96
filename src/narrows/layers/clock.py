"""Sines and cosines that tell one step of a sequence from another."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from narrows.errors import require


def time_encoding(steps: int, features: int, usual: int | None = None) -> Tensor:
    """Sines and cosines of the step, `[steps, features]`: angular frequencies in geometric progression from pi / usual
    (half a turn over the series, so that no two steps look alike) to pi / 2 (four steps a turn).

    Args:
        steps: how many.
        features: even.
        usual: steps of a series; None: `steps`.
    """
    half = features // 2
    low, high = math.pi / (usual or steps), math.pi / 2
    powers = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * (low * (high / low) ** powers)
    return torch.cat([angles.sin(), angles.cos()], 1).to(torch.get_default_dtype())


def even(time_features: Any, part: str) -> int:
    """The number of time features, if it is even and not negative.

    Raises:
        UserError: it is not.
    """
    right = isinstance(time_features, int) and time_features >= 0 and time_features % 2 == 0
    require(right, f"{part} needs time_features to be even and not negative, not {time_features}")
    return int(time_features)


class Clock(nn.Module):
    """`time_encoding` beside a series `[B, C, T]`, `[B, features, T]`; its turns are those of the `usual` number of
    steps, so that it is right at any T.

    Raises:
        UserError: `features` is not even, or below 0.
    """

    values: Tensor

    def __init__(self, usual: int, features: int, part: str) -> None:
        super().__init__()
        self.usual, self.features = usual, even(features, part)
        # Not persistent: it follows from the arguments.
        self.register_buffer("values", time_encoding(usual, features).T, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[2]
        values = self.values
        if steps > values.shape[1]:
            values = time_encoding(steps, self.features, self.usual).T
        return values[:, :steps].to(x).expand(x.shape[0], -1, -1)
