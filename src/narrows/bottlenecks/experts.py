"""Gaussian posteriors of several parts, an expert each, joined by products and mixtures.

Legend for shapes: B examples, K parts, S subsets of parts, F features, D latents.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.types import GaussianLatent, ReparameterisedLatent, Shape, at_least_single

MOST_PARTS = 8
"""Of which all subsets are taken."""


class MixtureOfProducts(MixtureSameFamily):
    """A mixture of Gaussians `[B, S, D]` whose draws have gradients: which one a draw is of has none, and the mixture's
    weights are fixed.

    Example:
        >>> parts = Independent(Normal(torch.zeros(3, 2, 5), 1.0), 1)
        >>> law = MixtureOfProducts(Categorical(logits=torch.zeros(3, 2)), parts)
        >>> law.rsample((4,)).shape, law.log_prob(torch.zeros(3, 5)).shape
        (torch.Size([4, 3, 5]), torch.Size([3]))
    """

    has_rsample = True

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        chosen = self.mixture_distribution.sample(shape)
        drawn: Tensor = self.component_distribution.rsample(shape)
        places = chosen[..., None, None].expand(*chosen.shape, 1, drawn.shape[-1])
        return drawn.gather(-2, places).squeeze(-2)


@dataclass
class ExpertsLatent(ReparameterisedLatent):
    """A latent of which every part of the data has an expert, `N(mean_k, exp(log_variance_k))`.

    Example:
        >>> latent = MixtureOfExperts((5, 2), dim=3)(torch.ones(4, 5, 2))
        >>> first = latent.product(torch.tensor([True, False]).expand(4, 2))
        >>> torch.allclose(first.mean, latent.mean[:, 0]), latent.of_subsets().mean.shape
        (True, torch.Size([2, 4, 3]))
    """

    mean: Tensor
    """`[B, K, D]`."""
    log_variance: Tensor
    """`[B, K, D]`."""
    present: Tensor
    """bool, `[B, K]`: whether the part is there. The expert of one that is missing is never read."""
    subsets: Tensor
    """bool, `[S, K]`: the subsets whose products are mixed; of a product alone, the one of all parts."""
    with_prior: bool
    """Whether the prior is an expert in every product."""

    def product(self, chosen: Tensor) -> Normal:
        """`prod_k N(mean_k, v_k)` over the parts that are `chosen` (bool, `[..., B, K]`) and present, normalised, over
        `[..., B, D]`: precisions add up, and means are weighted by them. Without any part it is the prior."""
        taken = (chosen & self.present)[..., None]
        precision = (-self.log_variance).exp().masked_fill(~taken, 0.0)
        weighted = (precision * self.mean).masked_fill(~taken, 0.0)
        total = precision.sum(-2)
        prior = 1.0 if self.with_prior else (~taken.any(-2)).to(total)
        total = total + prior
        return Normal(weighted.sum(-2) / total, total.rsqrt(), validate_args=False)

    def of_subsets(self) -> Normal:
        """The product of each subset, over `[S, B, D]`."""
        return self.product(self.subsets[:, None].expand(-1, self.present.shape[0], -1))

    @property
    def shares(self) -> Tensor:
        """The weight of each subset's product in the posterior, `[S, B]`: equal for those whose parts are all there, 0
        for others; equal for all, which are then the prior, where no part is there."""
        whole = (~self.subsets[:, None] | self.present).all(2)
        whole = whole | ~whole.any(0)
        return whole / whole.sum(0)


@dataclass
class ProductLatent(ExpertsLatent, GaussianLatent):
    """A latent whose posterior is one product of experts, a diagonal Gaussian.

    Example:
        >>> latent = ProductOfExperts((5, 2), dim=3)(torch.ones(4, 5, 2))
        >>> torch.allclose(latent.posterior.mean, latent.product(torch.ones(4, 2, dtype=torch.bool)).mean)
        True
    """


class _OfParts(Bottleneck):
    """What bottlenecks share that read `[B, F + 1, K]` of an encoder of parts, whose last row says which are there."""

    reads_parts = True
    trial_shape: ClassVar[Shape] = (5, 2)
    with_prior = False

    def __init__(self, in_shape: Shape, dim: int, log_variance: Sequence[float] | None, name: str) -> None:
        require(dim >= 1, f"bottleneck {name}: dim must be at least 1, not {dim}")
        require(
            len(in_shape) == 2 and in_shape[0] >= 2,
            f"bottleneck {name} joins the experts of several parts, and the encoder gives {list(in_shape)}: use "
            "encoder=parts",
        )
        bounds = None if log_variance is None else list(log_variance)
        require(
            bounds is None or (len(bounds) == 2 and bounds[0] < bounds[1]),
            f"bottleneck {name}: log_variance must be null or [least, largest], such as [-6, 2], not {bounds}",
        )
        super().__init__((in_shape[0],), dim)
        self.in_shape, self.bounds = tuple(in_shape), bounds
        features, parts = in_shape[0] - 1, in_shape[1]
        self.projections = nn.ModuleList(nn.Linear(features, 2 * dim) for _ in range(parts))

    def experts(self, h: Tensor) -> dict[str, Any]:
        """Mean and log variance of each part's expert, `[B, K, D]`, and which parts are there, `[B, K]`."""
        found = [projection(h[:, :-1, place]) for place, projection in enumerate(self.projections)]
        mean, log_variance = at_least_single(torch.stack(found, 1)).chunk(2, dim=2)
        if self.bounds is not None:
            log_variance = log_variance.clamp(*self.bounds)
        return {"mean": mean, "log_variance": log_variance, "present": h[:, -1] > 0.5, "with_prior": self.with_prior}

    def mixed(self, h: Tensor, subsets: Tensor) -> ExpertsLatent:
        """The latent whose posterior is the mixture of the products of these subsets; `point` is its mean."""
        experts = self.experts(h)
        empty = experts["mean"][:, 0]
        law = Normal(torch.zeros_like(empty), torch.ones_like(empty), validate_args=False)
        prior = Independent(law, 1, validate_args=False)
        made = ExpertsLatent(z=empty, point=empty, posterior=prior, prior=prior, subsets=subsets, **experts)
        products, shares = made.of_subsets(), made.shares.to(empty)
        parts = Normal(products.mean.movedim(0, 1), products.stddev.movedim(0, 1), validate_args=False)
        weights = Categorical(logits=shares.T.log(), validate_args=False)
        posterior = MixtureOfProducts(weights, Independent(parts, 1, validate_args=False), validate_args=False)
        made.posterior, made.z = posterior, posterior.rsample()
        made.point = (shares[..., None] * products.mean).sum(0)
        return made

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from N(0, I), `[n, D]`, on this module's device."""
        return self.standard_normal(n)


class ProductOfExperts(_OfParts):
    """`q(z|x) = N(0, I) prod_k q_k(z|x_k)`, normalised, over the parts that are there, with prior `N(0, I)`: a Gaussian
    whose precisions add up. Without any part it is the prior.

    "Multimodal Generative Models for Scalable Weakly-Supervised Learning" (Wu and Goodman, 2018,
    https://arxiv.org/abs/1802.05335), section 2.2.

    Args:
        in_shape: `(F + 1, K)`, of an encoder of parts.
        dim: latents.
        prior: whether the prior is an expert; otherwise the posterior of one part is that part's expert.
        log_variance: as that of `Gaussian`, of each expert.

    Raises:
        UserError: `dim` below 1, bounds that are none, or an encoder of no parts.

    Example:
        >>> latent = ProductOfExperts((5, 2), dim=3)(torch.ones(4, 5, 2))
        >>> latent.z.shape, latent.mean.shape, latent.divergence().shape
        (torch.Size([4, 3]), torch.Size([4, 2, 3]), torch.Size([4, 3]))
    """

    returns = ProductLatent

    def __init__(
        self, in_shape: Shape, *, dim: int = 16, prior: bool = True, log_variance: Sequence[float] | None = None
    ) -> None:
        super().__init__(in_shape, dim, log_variance, "poe")
        self.with_prior = prior

    def forward(self, h: Tensor) -> ProductLatent:
        experts = self.experts(h)
        empty = experts["mean"][:, 0]
        prior = Normal(torch.zeros_like(empty), torch.ones_like(empty), validate_args=False)
        subsets = torch.ones_like(experts["present"][:1])
        made = ProductLatent(z=empty, point=empty, posterior=prior, prior=prior, subsets=subsets, **experts)
        made.posterior = made.product(torch.ones_like(made.present))
        made.z, made.point = made.posterior.rsample(), made.posterior.mean
        return made


class MixtureOfExperts(_OfParts):
    """`q(z|x) = 1/K sum_k q_k(z|x_k)` over the parts that are there, with prior `N(0, I)`; without any part it is the
    prior. `point` is the mean of the experts' means.

    The KL has no closed form: terms take the draw `log q(z|x) - log p(z)`.

    "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models" (Shi et al., 2019,
    https://arxiv.org/abs/1911.03393), section 3.1; there experts and prior are Laplace distributions.

    Args:
        in_shape: `(F + 1, K)`, of an encoder of parts.
        dim: latents.
        log_variance: as that of `Gaussian`, of each expert.

    Raises:
        UserError: `dim` below 1, bounds that are none, or an encoder of no parts.

    Example:
        >>> latent = MixtureOfExperts((5, 2), dim=3)(torch.ones(4, 5, 2))
        >>> latent.z.shape, latent.shares[:, 0], latent.divergence().shape
        (torch.Size([4, 3]), tensor([0.5000, 0.5000]), torch.Size([4]))
    """

    returns = ExpertsLatent

    def __init__(self, in_shape: Shape, *, dim: int = 16, log_variance: Sequence[float] | None = None) -> None:
        super().__init__(in_shape, dim, log_variance, "moe")

    def forward(self, h: Tensor) -> ExpertsLatent:
        parts = h.shape[2]
        return self.mixed(h, torch.eye(parts, dtype=torch.bool, device=h.device))


class MixtureOfProductsOfExperts(_OfParts):
    """`q(z|x)` is the mean of the products of experts of all subsets of the parts that are there, but the empty one,
    with prior `N(0, I)`; without any part it is the prior. `point` is the mean of the product of all parts.

    "Generalized Multimodal ELBO" (Sutter et al., 2021, https://arxiv.org/abs/2105.02470), definition 1. Its authors'
    code has the prior as an expert in the product of all parts alone; here it is in all products or in none.

    Args:
        in_shape: `(F + 1, K)`, of an encoder of parts.
        dim: latents.
        prior: whether the prior is an expert in every product.
        log_variance: as that of `Gaussian`, of each expert.

    Raises:
        UserError: `dim` below 1, bounds that are none, more than eight parts, or an encoder of no parts.

    Example:
        >>> latent = MixtureOfProductsOfExperts((5, 2), dim=3)(torch.ones(4, 5, 2))
        >>> latent.z.shape, latent.subsets.tolist()
        (torch.Size([4, 3]), [[False, True], [True, False], [True, True]])
    """

    returns = ExpertsLatent
    subsets: Tensor

    def __init__(
        self, in_shape: Shape, *, dim: int = 16, prior: bool = False, log_variance: Sequence[float] | None = None
    ) -> None:
        super().__init__(in_shape, dim, log_variance, "mopoe")
        require(
            in_shape[1] <= MOST_PARTS,
            f"bottleneck mopoe takes all subsets of the parts, of {in_shape[1]} too many: use moe or poe",
        )
        self.with_prior = prior
        every = list(itertools.product([False, True], repeat=in_shape[1]))[1:]
        self.register_buffer("subsets", torch.tensor(every), persistent=False)

    def forward(self, h: Tensor) -> ExpertsLatent:
        made = self.mixed(h, self.subsets)
        made.point = made.product(torch.ones_like(made.present)).mean
        return made
