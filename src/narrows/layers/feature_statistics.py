"""Matching the statistics of feature maps: the style of one picture on what is where in another.

Maps are `[B, C, H, W]`; those of style have one batch entry or B, and a height and width of their own. Statistics are
over the positions of each map, in double precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from narrows.errors import nearest, require

Match = Callable[[Tensor, Tensor], Tensor]
LEAST = 1e-10
"""Share of the largest eigenvalue of a covariance below which a direction counts as constant: it is rounding."""


def adain(content: Tensor, style: Tensor) -> Tensor:
    """The content with the mean and the standard deviation that each channel of the style has, `content`'s shape. A
    channel that is constant in the content takes the mean alone.

    "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization" (Huang and Belongie, 2017,
    https://arxiv.org/abs/1703.06868), equation 8.
    """
    values, wanted = content.double(), style.double()
    mean, target = (part.mean((2, 3), keepdim=True) for part in (values, wanted))
    deviation, width = (part.std((2, 3), correction=0, keepdim=True) for part in (values, wanted))
    constant = deviation <= LEAST * mean.abs()
    scale = torch.where(constant, 0.0, width / deviation.where(~constant, torch.ones_like(deviation)))
    return ((values - mean) * scale + target).to(content)


def wct(content: Tensor, style: Tensor) -> Tensor:
    """The content, whitened, with the covariance of the style's channels and their means, `content`'s shape.

    "Universal Style Transfer via Feature Transforms" (Li et al., 2017, https://arxiv.org/abs/1705.08086), section 3.2.
    """
    return _mapped(content, style, lambda own, wanted: _power(wanted, 0.5) @ _power(own, -0.5))


def transport(content: Tensor, style: Tensor) -> Tensor:
    """As `wct`, by that one of all linear maps which moves the content least, `content`'s shape: the optimal transport
    between two Gaussians.

    "A Closed-form Solution to Universal Style Transfer" (Lu et al., 2019, https://arxiv.org/abs/1906.00668).
    """

    def least(own: Tensor, wanted: Tensor) -> Tensor:
        root, inverse = _power(own, 0.5), _power(own, -0.5)
        return inverse @ _power(root @ wanted @ root, 0.5) @ inverse

    return _mapped(content, style, least)


METHODS: dict[str, Match] = {"adain": adain, "wct": wct, "transport": transport}
"""The ways to match statistics, by name."""


def matching(name: str) -> Match:
    """The way of that name.

    Raises:
        UserError: the name is none of `METHODS`.
    """
    require(name in METHODS, f"unknown method '{name}': {nearest(str(name), METHODS)}")
    return METHODS[name]


def _mapped(content: Tensor, style: Tensor, linear: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    values, wanted = (part.double().flatten(2) for part in (content, style))
    mean, target = values.mean(2, keepdim=True), wanted.mean(2, keepdim=True)
    moved = linear(_covariance(values - mean), _covariance(wanted - target)) @ (values - mean) + target
    return moved.to(content).reshape(content.shape)


def _covariance(centred: Tensor) -> Tensor:
    """`[B, C, C]` of values `[B, C, N]` whose mean over N is 0."""
    return centred @ centred.mT / centred.shape[2]


def _power(covariance: Tensor, exponent: float) -> Tensor:
    """A power of symmetric matrices `[B, C, C]`, 0 in directions without variance."""
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    kept = values > LEAST * values.amax(1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    raised = torch.where(kept, values.where(kept, torch.ones_like(values)) ** exponent, 0.0)
    power: Tensor = vectors * raised[:, None] @ vectors.mT
    return power
