"""A small network computed in whole numbers, so that every machine, and any number of threads, gives the same answer.

Numbers are multiples of 2^-12 and weights of 2^-16, or coarser where they are large. Products and their sums stay below
2^53, so that a double holds each of them exactly, in whatever order they are added up.

"Integer Networks for Data Compression with Latent-Variable Models" (Balle et al., 2019,
https://openreview.net/forum?id=S1zz2i0cY7) says why a decoder must not depend on rounding; it trains such networks,
and here a trained one is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require

FRACTION = 12
"""Bits behind the point of every number."""
LARGEST = 2**24
"""Of the multiples: numbers beyond 4,096 are cut off."""
WEIGHT_FRACTION = 16
"""Bits behind the point of every weight, at most."""
SLOPE_BITS = 3
"""The slope of `leaky` below 0 is 2^-3, which is a shift."""
EXACT = 52
"""Bits of the largest sum."""

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d}
TRANSPOSED: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
}


def leaky() -> nn.LeakyReLU:
    """The activation between the layers."""
    return nn.LeakyReLU(2.0**-SLOPE_BITS)


@torch.no_grad()
def whole_number_output(network: nn.Sequential, x: Tensor) -> Tensor:
    """What a chain of linear layers, convolutions and `leaky` makes of whole numbers, in multiples of `2^-FRACTION`.

    Args:
        network: see above.
        x: int64 `[B, C, *positions]`; computed on the CPU.

    Raises:
        UserError: a weight that is no finite number.
    """
    limit = LARGEST >> FRACTION
    found = x.cpu().clamp(-limit, limit) << FRACTION
    for layer in network:
        leaks = isinstance(layer, nn.LeakyReLU)
        found = torch.where(found < 0, found >> SLOPE_BITS, found) if leaks else _applied(layer, found)
    return found


def _applied(layer: Any, x: Tensor) -> Tensor:
    weight, bias = (value.detach().cpu().double() for value in (layer.weight, layer.bias))
    finite = bool(weight.isfinite().all()) and bool(bias.isfinite().all())
    require(finite, "this run cannot compress: weights of its hyperprior are not finite numbers")
    transposed = type(layer) in TRANSPOSED
    summands = weight.numel() // weight.shape[1 if transposed else 0]
    # All weights are below 2^exponent; `frexp` is exact, so that every machine takes the same bits.
    exponent = math.frexp(float(weight.abs().max()))[1]
    bits = min(WEIGHT_FRACTION, EXACT - LARGEST.bit_length() - summands.bit_length() - exponent)
    scaled = (weight * 2.0**bits).round()
    total: Tensor = _product(layer, x.double(), scaled).to(torch.int64)
    shift: Tensor = (bias * 2.0 ** (bits + FRACTION)).round().clamp(-(2.0**EXACT), 2.0**EXACT).to(torch.int64)
    total = total + shift.reshape(-1, *[1] * (total.ndim - 2))
    rounding, coarser = max(bits, 0), min(max(-bits, 0), 60)
    total = (total + ((1 << rounding) >> 1)) >> rounding
    # Where weights are so large that bits before the point are dropped.
    most = LARGEST >> coarser
    return torch.bitwise_left_shift(total.clamp(-most, most), coarser)


def _product(layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    """The layer without its bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    options = {"stride": layer.stride, "padding": layer.padding}
    if type(layer) in TRANSPOSED:
        return TRANSPOSED[type(layer)](x, weight, output_padding=layer.output_padding, **options)
    return CONVOLUTIONS[type(layer)](x, weight, **options)
