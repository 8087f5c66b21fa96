"""Gradient checkpointing: memory for time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(layer: nn.Module, *inputs: Any) -> Tensor:
    """`layer(*inputs)`, whose activations are not kept: backward computes them again, with the same random numbers.

    "Training Deep Nets with Sublinear Memory Cost" (Chen et al., 2016), https://arxiv.org/abs/1604.06174.
    """
    if not torch.is_grad_enabled():
        found: Tensor = layer(*inputs)
        return found
    again: Tensor = checkpoint(layer, *inputs, use_reentrant=False)
    return again
