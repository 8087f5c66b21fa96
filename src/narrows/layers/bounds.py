"""Bounds that a value is held within, and that it can leave again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def at_least(x: Tensor, bound: float) -> Tensor:
    """`max(x, bound)`. Below the bound a gradient passes only where following it raises x: a plain maximum would give
    none there, and x would never come back.

    "End-to-end Optimized Image Compression" (Balle et al., 2017, https://arxiv.org/abs/1611.01704), appendix 6.3,
    projects after every step; the rule for gradients is that of the authors' published code.
    """
    # Without a gradient there is nothing to pass, and exported graphs know the clamp.
    if not torch.is_grad_enabled():
        return x.clamp_min(bound)
    found: Tensor = _AtLeast.apply(x, bound)  # type: ignore[no-untyped-call]
    return found


def between(x: Tensor, low: float, high: float) -> Tensor:
    """`x` in [low, high], see `at_least`."""
    return -at_least(-at_least(x, low), -high)


class _AtLeast(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bound: float) -> Tensor:
        return x.clamp_min(bound)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, bound = inputs
        ctx.save_for_backward(x >= bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), (inside,) = gradients, ctx.saved_tensors
        return gradient * (inside | (gradient < 0)), None
