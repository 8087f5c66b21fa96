"""How far a picture is from another's style and from its own content, as a pretrained network sees them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.layers.feature_networks import FeatureNetwork
from narrows.losses.perceptual import in_unit_range, perceptual_distance
from narrows.tasks.measures.frechet_distance import frechet
from narrows.types import DataSpec

AT_ONCE = 16
"""Pictures that pass through the network together."""

Values = NDArray[np.float64]


def gram(maps: Tensor) -> Tensor:
    """`[B, C, C]`: the mean over positions of the products of every two channels of `[B, C, H, W]`, in double
    precision."""
    values = maps.double().flatten(2)
    return values @ values.mT / values.shape[2]


def gram_distance(seen: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
    """`[B]`: the mean over layers of `||G - G_style||^2 / ||G_style||^2` between Gram matrices of activations
    `[B, C_k, H_k, W_k]`; 0 where they are equal, 1 of a picture that the layers do not see at all.

    "Image Style Transfer Using Convolutional Neural Networks" (Gatys et al., 2016,
    https://doi.org/10.1109/CVPR.2016.265), equations 3 to 5, where each layer is divided by its number of values; here
    it is divided by the style's own square, so that no layer decides alone.
    """
    pairs = [(gram(a), gram(b)) for a, b in zip(seen, style, strict=True)]
    return torch.stack([_relative(own, wanted) for own, wanted in pairs]).mean(0)


def content_mse(seen: Tensor, content: Tensor) -> Tensor:
    """`[B]`: the squared error of activations `[B, C, H, W]`, over the mean square of the content's.

    The squared error is equation 1 of Gatys et al. (2016), see `gram_distance`.
    """
    return _relative(seen.double(), content.double())


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    gap, size = ((part.flatten(1).square().sum(1)) for part in (found - wanted, wanted))
    return gap / size.clamp_min(torch.finfo(size.dtype).tiny)


def gram_at(error: float, curve: Sequence[tuple[float, float]]) -> float:
    """The least Gram distance at a content error of at most `error` on the line through points (content error, Gram
    distance); NaN where all of it has a larger one."""
    reached = [distance for own, distance in curve if own <= error]
    for (own, distance), (other, next_distance) in itertools.pairwise(curve):
        if min(own, other) < error < max(own, other):
            share = (error - own) / (other - own)
            reached.append((1 - share) * distance + share * next_distance)
    return min(reached, default=float("nan"))


class SeenStyle:
    """What the network sees of pairs of content and style, `[N, C, H, W]`, and the figures of answers to them.

    Args:
        network: whose layers' Gram matrices are compared; the last of them is where the content is.
        spec: of the pictures.
    """

    def __init__(self, network: FeatureNetwork, spec: DataSpec, content: Tensor, style: Tensor) -> None:
        self.network, self.spec, self.content, self.style = network, spec, content, style

    def values(self, pictures: Tensor) -> Mapping[str, Values]:
        """`gram_distance`, `content_mse` and the perceptual distance to the content, of each picture `[N, C, H, W]`;
        values are held to the data's range."""
        found: dict[str, list[Tensor]] = {"gram_distance": [], "content_mse": [], "perceptual": []}
        for start in range(0, len(pictures), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            seen, content, style = (self._seen(x[rows]) for x in (pictures, self.content, self.style))
            found["gram_distance"].append(gram_distance(seen, style))
            found["content_mse"].append(content_mse(seen[-1], content[-1]))
            found["perceptual"].append(perceptual_distance(seen, content))
        return {name: torch.cat(parts).double().cpu().numpy() for name, parts in found.items()}

    def artfid(self, pictures: Tensor, perceptual: Values) -> float:
        """`(1 + perceptual distance to the content) (1 + Fréchet distance to the styles)`, the latter between the last
        layer's means over positions; both in this network and of few pictures, so that it compares with no other.

        "ArtFID: Quantitative Evaluation of Neural Style Transfer" (Wright and Ommer, 2022,
        https://arxiv.org/abs/2207.12280).
        """
        styles, found = (self._means(x) for x in (self.style, pictures))
        return (1 + float(perceptual.mean())) * (1 + frechet(styles, found))

    def _means(self, pictures: Tensor) -> Tensor:
        parts = [self._seen(part)[-1].flatten(2).mean(2) for part in pictures.split(AT_ONCE)]
        return torch.cat(parts).double().cpu()

    @torch.no_grad()
    def _seen(self, x: Tensor) -> list[Tensor]:
        seen: list[Tensor] = self.network(in_unit_range(x, self.spec).clamp(0, 1))
        return seen
