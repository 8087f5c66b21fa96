"""A Gaussian posterior under a learnt mixture of Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal, constraints

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.gaussian import Gaussian
from narrows.errors import require
from narrows.types import LearntPriorLatent, Shape, VariationalLatent


class MixtureAtEveryPosition(Distribution):
    """Independent draws from one mixture over `[D]` at every position: events are `[D, *positions]`.

    Example:
        >>> mixture = mixture_of_normals(torch.zeros(3), torch.zeros(3, 2), torch.ones(3, 2))
        >>> law = MixtureAtEveryPosition(mixture, positions=(4,))
        >>> law.sample((5,)).shape, law.log_prob(torch.zeros(5, 2, 4)).shape
        (torch.Size([5, 2, 4]), torch.Size([5]))
    """

    support = constraints.real_vector

    def __init__(self, mixture: MixtureSameFamily, positions: Shape) -> None:
        self.mixture, self.positions = mixture, torch.Size(positions)
        super().__init__(event_shape=mixture.event_shape + self.positions, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob: Tensor = self.mixture.log_prob(value.movedim(-1 - len(self.positions), -1))
        return log_prob.flatten(-len(self.positions)).sum(-1) if self.positions else log_prob

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        drawn: Tensor = self.mixture.sample(torch.Size(sample_shape) + self.positions)
        return drawn.movedim(-1, -1 - len(self.positions))


def mixture_of_normals(logits: Tensor, mean: Tensor, scale: Tensor) -> MixtureSameFamily:
    """`sum_k softmax(logits)_k N(mean_k, diag(scale_k^2))`, `[K], [K, *shape], [K, *shape]`."""
    parts = Independent(Normal(mean, scale, validate_args=False), mean.ndim - 1, validate_args=False)
    return MixtureSameFamily(Categorical(logits=logits, validate_args=False), parts, validate_args=False)


def under_prior(latent: VariationalLatent, prior: Distribution) -> LearntPriorLatent:
    """The same elementwise posterior, each example one event, judged against a prior of such events."""
    posterior = Independent(latent.posterior, latent.z.ndim - 1, validate_args=False)
    return LearntPriorLatent(z=latent.z, point=latent.point, posterior=posterior, prior=prior)


class GaussianMixture(Bottleneck):
    """`q(z|x) = N(mu(h), diag(sigma(h)^2))` with the prior `sum_k pi_k N(m_k, diag(s_k^2))`, whose weights, means
    and scales are learnt; at every position of a map the same mixture.

    The KL has no closed form: terms take the draw `log q(z|x) - log p(z)`. Without a term that reads the prior
    it would not be learnt, which is refused.

    "Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders" (Dilokthanakul et al., 2016,
    https://arxiv.org/abs/1611.02648); as here, the prior "MoG" of "VAE with a VampPrior" (Tomczak and Welling, 2018,
    https://arxiv.org/abs/1705.07120), section 5.

    Raises:
        UserError: `dim` or `components` below 1.

    Example:
        >>> bottleneck = GaussianMixture((5,), dim=2, components=3)
        >>> bottleneck(torch.rand(3, 5)).divergence().shape, bottleneck.sample_prior(4).shape
        (torch.Size([3]), torch.Size([4, 2]))
    """

    returns = LearntPriorLatent

    def __init__(self, in_shape: Shape, *, dim: int = 8, components: int = 10) -> None:
        require(components >= 1, f"bottleneck gaussian_mixture: components must be at least 1, not {components}")
        require(dim >= 1, f"bottleneck gaussian_mixture: dim must be at least 1, not {dim}")
        super().__init__(in_shape, dim)
        self.gaussian = Gaussian(in_shape, dim=dim)
        self.logits = nn.Parameter(torch.zeros(components))
        # Apart, or all components would move alike.
        self.mean = nn.Parameter(torch.randn(components, dim))
        self.log_scale = nn.Parameter(torch.zeros(components, dim))

    def prior(self) -> MixtureAtEveryPosition:
        """Over `out_shape`."""
        mixture = mixture_of_normals(self.logits, self.mean, self.log_scale.exp())
        return MixtureAtEveryPosition(mixture, self.out_shape[1:])

    def forward(self, h: Tensor) -> LearntPriorLatent:
        return under_prior(self.gaussian(h), self.prior())

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the mixture, `[n, *out_shape]`."""
        return self.prior().sample((n,))
