"""How the weights of linear and convolutional layers are drawn before training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeGuard

import torch
from torch import nn

Init = Literal["torch", "glorot", "he"]


@torch.no_grad()
def _glorot(layer: nn.Module) -> None:
    if _is_linear(layer):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _he(layer: nn.Module) -> None:
    if _is_linear(layer):
        nn.init.kaiming_normal_(layer.weight)


def _is_linear(layer: nn.Module) -> TypeGuard[nn.Linear | nn.modules.conv._ConvNd]:
    # By kind and not by name: recurrent layers keep torch's draw, which is made for them.
    return isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))


INITS: dict[Init, Callable[[nn.Module], None]] = {"glorot": _glorot, "he": _he}
"""By name what is applied to every layer; `torch` leaves the weights as each layer draws them."""
