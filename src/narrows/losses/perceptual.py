"""The term that compares pictures as a pretrained network sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import require
from narrows.layers.feature_networks import FeatureNetwork
from narrows.layers.weight_files import read_weights
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import DataSpec, Output, at_least_single

LEARNED = "vgg16"
"""The network for whose layers the package lpips has weights."""


def perceptual_distance(seen: Sequence[Tensor], other: Sequence[Tensor], weights: Sequence[Tensor] = ()) -> Tensor:
    """`[B]`: how far apart two pictures are in the activations `[B, C_k, H_k, W_k]` of a network's layers.

    At each position the channels are scaled to length 1; their squared distance is averaged over positions. Without
    `weights` it is between 0 and 4 in each layer, and the mean over layers is taken; with weights of the channels,
    `[C_k]` for each layer, their weighted sum, and the sum over layers.

    "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (Zhang et al., 2018,
    https://arxiv.org/abs/1801.03924), equation 1.
    """
    layers = []
    for number, (a, b) in enumerate(zip(seen, other, strict=True)):
        gap = (F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)).square()
        if weights:
            gap = gap * weights[number][:, None, None]
        layers.append(gap.sum(1).flatten(1).mean(1))
    together = torch.stack(layers)
    return together.sum(0) if weights else together.mean(0)


def in_unit_range(x: Tensor, spec: DataSpec) -> Tensor:
    """`[B, *shape]` scaled from the data's own range to [0, 1]."""
    assert spec.bounds is not None
    low, high = spec.bounds
    return x if (low, high) == (0.0, 1.0) else (x - low) / (high - low)


def require_pictures(spec: DataSpec, part: str) -> None:
    """Refuse data that feature networks cannot read.

    Raises:
        UserError: the data are no pictures of one or three channels, or have no smallest and largest value.
    """
    shape = list(spec.shape)
    require(
        spec.kind == "image" and len(shape) == 3 and shape[0] in (1, 3),
        f"{part} compares images (C, H, W) of one or three channels, but the data are a {spec.kind} of shape {shape}",
    )
    require(
        spec.bounds is not None,
        f"{part} needs data with a smallest and a largest value, but these are unbounded; scale them to [0, 1]",
    )


class Perceptual(Term):
    """`D d(x, x')`, `[B]`, where d is the `perceptual_distance` between the data and the mean of p(x|z), and D the
    number of values of an example.

    It has no unit. A weight of 1 lets a distance of d cost as much as an absolute error of d at every value does under
    a Laplace likelihood of scale 1: the balance of VQGAN. The network is frozen, and the gradient reaches the
    reconstruction alone. Missing values are 0 in both.

    "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (Zhang et al., 2018,
    https://arxiv.org/abs/1801.03924).

    Args:
        weight: of d, for each value of the data.
        features: `features()`, the network, and which of its layers are compared.
        linear: whether channels have the weights that were learned from people's judgements, which the package lpips
            brings for the five layers of vgg16; otherwise all channels and layers count alike.

    Raises:
        UserError: a negative weight; data that are no pictures, are of other than one or three channels or without
            bounds; `linear` with another network or without lpips; or what the network refuses.

    Example:
        >>> image = torch.rand(2, 3, 32, 32)
        >>> out = Output(Batch(image), Batch(image), Latent(image, image), p_x=Normal(image, 1.0))
        >>> term = Perceptual()
        >>> term.build(DataSpec((3, 32, 32), "image", 10, value_range=(0.0, 1.0)))
        >>> term(out, None)
        tensor([0., 0.])
    """

    needs_mean = True
    spec: DataSpec
    network: FeatureNetwork

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        features: Callable[[], FeatureNetwork] = FeatureNetwork,
        linear: bool = False,
    ) -> None:
        super().__init__(weight)
        self._make_network, self.linear = features, linear
        self._weights: list[Tensor] = []

    def attach(self, model: Autoencoder) -> None:
        self.build(model.spec)

    def build(self, spec: DataSpec) -> None:
        """Load the network that compares pictures of this kind."""
        require_pictures(spec, "term perceptual")
        self.spec, self.network = spec, self._make_network()
        self._weights = learned_weights(self.network) if self.linear else []

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        data, mean = (in_unit_range(at_least_single(x), self.spec) for x in (out.batch.truth, out.p_x.mean))
        if out.batch.observed is not None:
            data, mean = (image.masked_fill(~out.batch.observed, 0.0) for image in (data, mean))
        with torch.no_grad():
            wanted = self.network(data)
        weights = [weight.to(wanted[0]) for weight in self._weights]
        return mean[0].numel() * perceptual_distance(wanted, self.network(mean), weights)


def learned_weights(network: FeatureNetwork) -> list[Tensor]:
    """LPIPS's weights of the channels of each layer, `[C_k]`.

    Raises:
        UserError: the network has none, or the package lpips, whose file they are in, is not installed.
    """
    usual = FeatureNetwork.usual_layers(LEARNED)
    require(
        network.name == LEARNED and network.layers == usual,
        f"term perceptual: linear weights exist for the layers {', '.join(usual)} of features={LEARNED}, not for "
        f"{', '.join(network.layers)} of {network.name}; use linear=false",
    )
    spec = find_spec("lpips")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [path for place in places if (path := Path(place, "weights", "v0.1", "vgg.pth")).is_file()]
    require(len(files) > 0, "term perceptual: linear=true needs the package lpips: pip install lpips")
    state = read_weights(files[0], "term perceptual")
    names = [f"lin{number}.model.1.weight" for number in range(len(usual))]
    found = [state[name].flatten() for name in names if name in state]
    require(
        [len(weight) for weight in found] == list(network.channels),
        f"term perceptual: {files[0]} does not hold {', '.join(names)} for {list(network.channels)} channels",
    )
    return found
