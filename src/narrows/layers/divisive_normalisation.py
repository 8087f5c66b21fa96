"""Generalised divisive normalisation: every channel divided by what all channels hold at its position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.layers.bounds import at_least
from narrows.types import at_least_single

PEDESTAL = 2.0**-18
"""Of the reparametrisation, as published: it keeps the gradient of a parameter at 0 from being 0."""
LEAST_BETA = 1e-6
START_GAMMA = 0.1
"""Of every channel's own weight; those of other channels start at 0, beta at 1."""


class GDN(nn.Module):
    """`y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)` over axis 1 at every position, `[B, C, *size]` to the same;
    with `inverse`, IGDN: `y_i = x_i sqrt(beta_i + sum_j gamma_ij x_j^2)`, one step of the fixed-point iteration that
    inverts it.

    beta and gamma stay at least 1e-6 and 0: what is learnt is `sqrt(value + 2^-36)`, bounded below (`at_least`).

    "End-to-end Optimized Image Compression" (Balle et al., 2017, https://arxiv.org/abs/1611.01704), equations 3 and 6
    and appendix 6.3, whose gamma is symmetric, which later work of the authors dropped; "Density Modeling of Images
    using a Generalized Normalization Transformation" (Balle et al., 2016, https://arxiv.org/abs/1511.06281) for the
    inverse. The starting values are those of the authors' published code.

    Args:
        channels: C.
        inverse: whether it multiplies.

    Example:
        >>> GDN(2)(torch.tensor([[3.0, 4.0]]) * 10**0.5 / 10).square().round(decimals=3)
        tensor([[0.8260, 1.3790]])
    """

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.root_beta = nn.Parameter((torch.ones(channels) + PEDESTAL**2).sqrt())
        self.root_gamma = nn.Parameter((START_GAMMA * torch.eye(channels) + PEDESTAL**2).sqrt())

    @property
    def beta(self) -> Tensor:
        """`[C]`, at least 1e-6."""
        return _bounded(self.root_beta, LEAST_BETA)

    @property
    def gamma(self) -> Tensor:
        """`[C, C]`, at least 0."""
        return _bounded(self.root_gamma, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        # Squares and their sums need more than half precision holds.
        with torch.autocast(x.device.type, enabled=False):
            power = at_least_single(x).square().reshape(*x.shape[:2], -1)
            energy = (self.gamma.to(power) @ power + self.beta.to(power)[:, None]).reshape(x.shape)
            factor = energy.sqrt() if self.inverse else energy.rsqrt()
            return (at_least_single(x) * factor).to(x.dtype)


def _bounded(root: Tensor, least: float) -> Tensor:
    """The parameter of which `root` is `sqrt(value + 2^-36)`, at least `least`."""
    return at_least(root, (least + PEDESTAL**2) ** 0.5).square() - PEDESTAL**2
