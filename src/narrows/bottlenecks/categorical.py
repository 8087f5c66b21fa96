"""Bottlenecks of categorical variables, alone or beside Gaussian ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical as Indices
from torch.distributions import Distribution, constraints, kl_divergence, register_kl

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.gaussian import Gaussian
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import JointLatent, Shape, VariationalLatent, at_least_single, row_sums


class OneHotVariables(Distribution):
    """N independent variables of C categories at every position, one-hot beside one another on axis 1.

    `logits [B, N, C, *positions]`, values `[..., B, N C, *positions]`, `log_prob [..., B, N, *positions]`.

    Example:
        >>> uniform = OneHotVariables(torch.zeros(1, 2, 4))
        >>> uniform.log_prob(uniform.sample()).exp()
        tensor([[0.2500, 0.2500]])
    """

    support = constraints.one_hot

    def __init__(self, logits: Tensor) -> None:
        self.log_probs = logits.log_softmax(2)
        self.positions = logits.ndim - 3
        super().__init__(logits.shape[:1], self.log_probs.flatten(1, 2).shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.log_probs.exp().flatten(1, 2)

    def log_prob(self, value: Tensor) -> Tensor:
        axis = -1 - self.positions
        apart = value.unflatten(axis, self.log_probs.shape[1:3])
        log_prob: Tensor = (apart * self.log_probs).sum(axis)
        return log_prob

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        index = Indices(logits=self.log_probs.movedim(2, -1), validate_args=False).sample(torch.Size(sample_shape))
        hot = F.one_hot(index, self.log_probs.shape[2]).to(self.log_probs)
        axis = -1 - self.positions
        return hot.movedim(-1, axis).flatten(axis - 1, axis)


def _kl_one_hot(q: OneHotVariables, p: OneHotVariables) -> Tensor:
    return (q.log_probs.exp() * (q.log_probs - p.log_probs)).sum(2)


register_kl(OneHotVariables, OneHotVariables)(_kl_one_hot)


class Product(Distribution):
    """Independent parts that follow one another on axis 1, of `sizes` channels: `log_prob [..., B]`.

    Example:
        >>> parts = [OneHotVariables(torch.zeros(1, 1, 2)), OneHotVariables(torch.zeros(1, 1, 4))]
        >>> both = Product(parts, sizes=[2, 4], positions=())
        >>> both.log_prob(both.sample()).exp()
        tensor([0.1250])
    """

    support = constraints.real_vector

    def __init__(self, parts: Sequence[Distribution], sizes: Sequence[int], positions: Shape) -> None:
        self.parts, self.sizes = list(parts), list(sizes)
        event = torch.Size((sum(sizes), *positions))
        super().__init__(torch.Size(self.parts[0].mean.shape[:1]), event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.cat([part.mean for part in self.parts], 1)

    def log_prob(self, value: Tensor) -> Tensor:
        pieces = value.split(self.sizes, dim=-len(self.event_shape))
        leading = value.shape[: value.ndim - len(self.event_shape)]
        found = [part.log_prob(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        return torch.stack([values.reshape(*leading, -1).sum(-1) for values in found]).sum(0)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        drawn = [part.sample(torch.Size(sample_shape)) for part in self.parts]
        return torch.cat(drawn, -len(self.event_shape))


def _kl_product(q: Product, p: Product) -> Tensor:
    pairs = zip(q.parts, p.parts, strict=True)
    return torch.stack([row_sums(kl_divergence(a, b)) for a, b in pairs]).sum(0)


register_kl(Product, Product)(_kl_product)


class Categorical(Bottleneck):
    """`dim` variables of `categories` categories at every position, with a uniform prior, one-hot on axis 1.

    In training z is the Gumbel-softmax relaxation at `temperature`; with `hard` its one-hot value, through
    which the relaxation's gradient passes straight. In evaluation z is a draw from the categorical itself, so
    that the ELBO there is a bound. The KL is the categorical one throughout. `point` are the probabilities.

    "Categorical Reparameterization with Gumbel-Softmax" (Jang et al., 2017, https://arxiv.org/abs/1611.01144),
    equation 2; "The Concrete Distribution" (Maddison et al., 2017, https://arxiv.org/abs/1611.00712), whose temperature
    of 2/3 is the default here.

    Raises:
        UserError: `dim` below 1, `categories` below 2, or `temperature` not above 0.

    Example:
        >>> latent = Categorical((5,), dim=2, categories=4).eval()(torch.rand(3, 5))
        >>> latent.z.shape, latent.z.sum(1)
        (torch.Size([3, 8]), tensor([2., 2., 2.]))
    """

    returns = VariationalLatent

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 20,
        categories: int = 10,
        temperature: float = 0.67,
        hard: bool = False,
    ) -> None:
        require(dim >= 1, f"bottleneck categorical: dim must be at least 1, not {dim}")
        require(categories >= 2, f"bottleneck categorical: categories must be at least 2, not {categories}")
        require(temperature > 0, f"bottleneck categorical: temperature must be above 0, not {temperature}")
        super().__init__(in_shape, dim * categories)
        self.variables, self.categories = dim, categories
        self.temperature, self.hard = temperature, hard
        self.projection = AxisLinear(in_shape[0], dim * categories)

    if TYPE_CHECKING:

        def __call__(self, h: Tensor) -> VariationalLatent: ...

    def forward(self, h: Tensor) -> VariationalLatent:
        logits = at_least_single(self.projection(h)).unflatten(1, (self.variables, self.categories))
        posterior, prior = OneHotVariables(logits), OneHotVariables(torch.zeros_like(logits))
        if self.training:
            z = F.gumbel_softmax(posterior.log_probs, self.temperature, self.hard, dim=2).flatten(1, 2)
        else:
            z = posterior.sample()
        return VariationalLatent(z=z, point=posterior.mean, posterior=posterior, prior=prior)

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the uniform prior, `[n, *out_shape]`, on this module's device."""
        shape = (n, self.variables, self.categories, *self.out_shape[1:])
        return OneHotVariables(self.projection.weight.new_zeros(shape)).sample()


class Joint(Bottleneck):
    """`dim` Gaussian latents beside `variables` categorical ones, parts `continuous` and `discrete`.

    The parts are those of `Gaussian` and `Categorical`, independent given x.

    "Learning Disentangled Joint Continuous and Discrete Representations" (Dupont, 2018,
    https://arxiv.org/abs/1804.00104), section 3.

    Raises:
        UserError: `dim` or `variables` below 1, `categories` below 2, or `temperature` not above 0.

    Example:
        >>> latent = Joint((5,), dim=2, variables=1, categories=4)(torch.rand(3, 5))
        >>> {name: part.z.shape for name, part in latent.parts.items()}
        {'continuous': torch.Size([3, 2]), 'discrete': torch.Size([3, 4])}
    """

    returns = JointLatent

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 10,
        variables: int = 1,
        categories: int = 10,
        temperature: float = 0.67,
    ) -> None:
        require(variables >= 1, f"bottleneck joint: variables must be at least 1, not {variables}")
        super().__init__(in_shape, dim + variables * categories)
        self.continuous = Gaussian(in_shape, dim=dim)
        self.discrete = Categorical(in_shape, dim=variables, categories=categories, temperature=temperature)

    def forward(self, h: Tensor) -> JointLatent:
        parts: dict[str, VariationalLatent] = {"continuous": self.continuous(h), "discrete": self.discrete(h)}
        return JointLatent(
            z=torch.cat([part.z for part in parts.values()], 1),
            point=torch.cat([part.point for part in parts.values()], 1),
            posterior=self._product([part.posterior for part in parts.values()]),
            prior=self._product([part.prior for part in parts.values()]),
            parts=parts,
        )

    def _product(self, parts: Sequence[Distribution]) -> Product:
        sizes = [self.continuous.out_shape[0], self.discrete.out_shape[0]]
        return Product(parts, sizes, self.out_shape[1:])

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from both priors, `[n, *out_shape]`, on this module's device."""
        return torch.cat([self.continuous.sample_prior(n), self.discrete.sample_prior(n)], 1)
