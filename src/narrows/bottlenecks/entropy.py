"""A bottleneck whose latents are trained to be rounded."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Uniform, constraints

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import LearntPriorLatent, Shape, at_least_single


class SmoothedLogistics(Distribution):
    """The density of `m + u` for every latent: m from a mixture of logistic distributions, u uniform in [-1/2, 1/2];
    `log p(z) = log sum_k pi_k (F((z - m_k + 1/2) / s_k) - F((z - m_k - 1/2) / s_k))`, F the logistic
    function. At a whole number it is the probability that m rounds to it.

    Elementwise over `[..., D, *positions]`; `logits`, `mean` and `scale` are `[D, K]`.

    Example:
        >>> law = SmoothedLogistics(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1), positions=())
        >>> law.log_prob(torch.arange(-50.0, 51.0)[:, None]).exp().sum().round(decimals=4)
        tensor(1.)
    """

    support = constraints.real

    def __init__(self, logits: Tensor, mean: Tensor, scale: Tensor, positions: Shape) -> None:
        self.logits, self.centre, self.scale, self.positions = logits, mean, scale, torch.Size(positions)
        super().__init__(torch.Size((len(logits), *positions)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        # Components last: [..., *positions, D, K].
        offset = value.movedim(-1 - len(self.positions), -1).unsqueeze(-1) - self.centre
        upper, lower = (offset + 0.5) / self.scale, (offset - 0.5) / self.scale
        # F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)), without cancellation in the tails.
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + (-torch.expm1(-1 / self.scale)).log()
        mixed = (self.logits.log_softmax(-1) + inside).logsumexp(-1)
        return mixed.movedim(-1, -1 - len(self.positions))

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.positions
        chosen = Categorical(logits=self.logits, validate_args=False).sample(shape)
        latent = torch.arange(len(self.logits), device=chosen.device)
        centre, scale = self.centre[latent, chosen], self.scale[latent, chosen]
        quantile = torch.rand_like(centre).clamp(1e-7, 1 - 1e-7)
        drawn = centre + scale * quantile.logit() + torch.rand_like(centre) - 0.5
        return drawn.movedim(-1, -1 - len(self.positions))


def uniform_noise(y: Tensor) -> tuple[Uniform, Tensor]:
    """The density of `y + u` with u uniform in [-1/2, 1/2], and a draw."""
    posterior = Uniform(y - 0.5, y + 0.5, validate_args=False)
    # Rounding may put a draw on the open end, where its density would be 0.
    inside = torch.nextafter(posterior.high, posterior.low).detach()
    return posterior, torch.minimum(posterior.rsample(), inside)


class EntropyBottleneck(Bottleneck):
    """`z = y + u` with `y = gain (W h + b)` and u uniform in [-1/2, 1/2] for every value, under a learnt factorised
    density: the noise stands for rounding to whole numbers, so that the KL is the rate in nats of the rounded latents.

    `point` is y; `step` says that compression rounds it to multiples of 1. The density is a mixture of logistics for
    every entry of axis 1 (`SmoothedLogistics`), the same at all positions; its KL needs `loss=elbo` or another term
    that trains the prior. Rate against distortion is `loss.kl.weight`, or `likelihood.sigma`.

    "End-to-end Optimized Image Compression" (Balle et al., 2017, https://arxiv.org/abs/1611.01704), sections 3 and 4:
    equations 8 to 10, whose density is piecewise linear and whose transforms are GDN; the box around the density is
    appendix 6.2 of "Variational Image Compression with a Scale Hyperprior" (Balle et al., 2018,
    https://arxiv.org/abs/1802.01436).

    Args:
        dim: of y.
        components: logistics of each density.
        spread: standard deviation at which the densities start, in steps.
        gain: constant factor; at 1 the latents start far smaller than the noise, and take long to grow out of it.

    Raises:
        UserError: a value out of its range.

    Example:
        >>> latent = EntropyBottleneck((5,), dim=2)(torch.rand(3, 5))
        >>> latent.z.shape, latent.divergence().shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    returns = LearntPriorLatent
    step = 1.0

    def __init__(
        self, in_shape: Shape, *, dim: int = 16, components: int = 3, spread: float = 2.0, gain: float = 10.0
    ) -> None:
        require(dim >= 1, f"bottleneck entropy: dim must be at least 1, not {dim}")
        require(components >= 1, f"bottleneck entropy: components must be at least 1, not {components}")
        require(spread > 0, f"bottleneck entropy: spread must be above 0, not {spread}")
        require(gain > 0, f"bottleneck entropy: gain must be above 0, not {gain}")
        super().__init__(in_shape, dim)
        self.gain = gain
        self.projection = AxisLinear(in_shape[0], dim)
        self.logits = nn.Parameter(torch.zeros(dim, components))
        # Apart, or all components would move alike.
        self.mean = nn.Parameter(spread * torch.linspace(-1, 1, components + 2)[1:-1].repeat(dim, 1))
        # A logistic of scale s has the standard deviation s pi / sqrt(3).
        start = math.log(spread * math.sqrt(3) / math.pi)
        self.log_scale = nn.Parameter(torch.full((dim, components), start))

    def prior(self) -> SmoothedLogistics:
        """Elementwise over `out_shape`."""
        return SmoothedLogistics(self.logits, self.mean, self.log_scale.exp(), self.out_shape[1:])

    def forward(self, h: Tensor) -> LearntPriorLatent:
        y = self.gain * at_least_single(self.projection(h))
        posterior, z = uniform_noise(y)
        return LearntPriorLatent(z=z, point=y, posterior=posterior, prior=self.prior())

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the learnt density, `[n, *out_shape]`."""
        return self.prior().sample((n,))
