"""Multi-modal models for tests: small ones, and a linear Gaussian one whose evidence is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from instances import CORRUPTIONS, INPUTS
from torch import Tensor

from narrows.bottlenecks.experts import MixtureOfExperts, MixtureOfProductsOfExperts, ProductOfExperts
from narrows.decoders.mlp import MLPDecoder
from narrows.decoders.parts import PartsDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.encoders.parts import PartsEncoder
from narrows.likelihoods.elementwise import BernoulliLikelihood
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.likelihoods.parts import PartsLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, NamedPart

PARTS = [
    NamedPart("image", (1, 4, 4), "image", (0.0, 1.0)),
    NamedPart("sound", (2, 6), "series"),
    NamedPart("words", (3,), "vector"),
]
BOTTLENECKS: dict[str, Callable[..., Any]] = {
    "poe": partial(ProductOfExperts, dim=5),
    "poe_without_prior": partial(ProductOfExperts, dim=5, prior=False),
    "moe": partial(MixtureOfExperts, dim=5),
    "mopoe": partial(MixtureOfProductsOfExperts, dim=5),
    "mopoe_with_prior": partial(MixtureOfProductsOfExperts, dim=5, prior=True, log_variance=[-6, 2]),
}


def spec_of(parts: Sequence[NamedPart] = PARTS) -> DataSpec:
    size = sum(part.size for part in parts)
    return DataSpec((size,), "vector", 100, num_classes=3, parts=list(parts))


def network(
    bottleneck: str | Callable[..., Any] = "poe", parts: Sequence[NamedPart] = PARTS, **stages: Any
) -> Autoencoder:
    """A small model of these parts; stages can be exchanged."""
    chosen: dict[str, Any] = {
        "encoder": partial(PartsEncoder, default=partial(MLPEncoder, widths=[7, 6])),
        "bottleneck": BOTTLENECKS[bottleneck] if isinstance(bottleneck, str) else bottleneck,
        "decoder": partial(PartsDecoder, default=partial(MLPDecoder, widths=[6, 7])),
        "likelihood": partial(PartsLikelihood, each={"image": BernoulliLikelihood} if PARTS[0] in parts else {}),
        "corruption": CORRUPTIONS["none"],
        "input": INPUTS["identity"],
    }
    return Autoencoder(spec_of(parts), Stages(**(chosen | stages)))


def examples(spec: DataSpec, n: int = 6, missing: dict[str, Sequence[int]] | None = None) -> Batch:
    """`n` examples, without a part in the rows named for it."""
    x = torch.rand(n, *spec.shape)
    observed = torch.ones_like(x, dtype=torch.bool)
    for name, rows in (missing or {}).items():
        observed[list(rows), spec.slices[name]] = False
    return Batch(x, observed=None if missing is None else observed, label=torch.arange(n) % 3)


SIGMA = 0.7
LINEAR = [NamedPart("a", (2,), "vector"), NamedPart("b", (3,), "vector")]


class Linear:
    """`z ~ N(0, 1)`, `x_k = W_k z + N(0, SIGMA^2 I)`: one latent, two parts, each of whose experts is the posterior of
    its part under a flat prior, so that their product with the prior is the posterior of both."""

    def __init__(self, bottleneck: Callable[..., Any]) -> None:
        self.model = network(
            parts=LINEAR,
            encoder=partial(PartsEncoder, default=partial(MLPEncoder, widths=[])),
            bottleneck=partial(bottleneck, dim=1),
            decoder=partial(PartsDecoder, default=partial(MLPDecoder, widths=[])),
            likelihood=partial(PartsLikelihood, default=partial(GaussianLikelihood, sigma=SIGMA)),
        ).double()
        self.slices = self.model.spec.slices
        self.weight = torch.tensor([0.8, -1.1, 0.5, 0.9, -0.4], dtype=torch.float64)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.zero_()
            for place, (name, where) in enumerate(self.slices.items()):
                own = self.weight[where]
                square = own.square().sum()
                projection: Any = self.model.bottleneck.projections[place]  # type: ignore[index]
                projection.weight[0, : len(own)] = own / square
                projection.bias[1] = (SIGMA**2 / square).log()
                layers: Any = self.model.decoder.parts[name]  # type: ignore[index]
                next(p for p in layers.parameters() if p.ndim == 2).copy_(own[:, None])

    def evidence(self, x: Tensor, names: Sequence[str] = ("a", "b")) -> Tensor:
        """`log p` of these parts of `x [B, 5]`, `[B]`."""
        places = torch.cat([torch.arange(5)[self.slices[name]] for name in names])
        weight = self.weight[places]
        covariance = weight[:, None] * weight + SIGMA**2 * torch.eye(len(places), dtype=torch.float64)
        law = torch.distributions.MultivariateNormal(torch.zeros_like(weight), covariance)
        found: Tensor = law.log_prob(x[:, places])
        return found

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """`log p(x|z) + log p(z)` on a grid `z [G]`, `[G, B]`."""
        mean = z[:, None, None] * self.weight
        nats = torch.distributions.Normal(mean, SIGMA).log_prob(x).sum(2)
        return nats + torch.distributions.Normal(0.0, 1.0).log_prob(z)[:, None]
