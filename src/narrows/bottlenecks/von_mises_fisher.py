"""Distributions on the unit sphere S^{m-1} of R^m, m >= 2; densities are with respect to its surface."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta, Distribution, constraints, register_kl

from narrows.bottlenecks._bessel import bessel

NODES = 40
"""Number of nodes of the Gauss-Legendre quadrature: the derivative of a draw is exact to 1e-10 of its size."""
AT_ONCE = 2**15
"""Draws whose derivatives are computed at once: bounds memory."""


class HypersphericalUniform(Distribution):
    """The uniform distribution on S^{m-1}, `[*batch, m]`: `p(z) = Gamma(m/2) / (2 pi^{m/2})`.

    Example:
        >>> HypersphericalUniform(torch.zeros(3)).log_prob(torch.tensor([0.0, 0.0, 1.0])).exp()  # 1 / (4 pi)
        tensor(0.0796)
    """

    has_rsample = True
    support = constraints.real_vector

    def __init__(self, like: Tensor) -> None:
        """`like [*batch, m]` gives shape, type and device."""
        self.like = like
        super().__init__(like.shape[:-1], like.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.zeros_like(self.like)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return F.normalize(torch.randn(shape, dtype=self.like.dtype, device=self.like.device), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return self.like.new_full(shape, -log_area(value.shape[-1]))


def log_area(m: int) -> float:
    """Logarithm of the area of S^{m-1}."""
    return math.log(2) + m / 2 * math.log(math.pi) - math.lgamma(m / 2)


class VonMisesFisher(Distribution):
    """`q(z) = C_m(kappa) exp(kappa mu.z)` on S^{m-1}, `C_m = kappa^nu / ((2 pi)^{m/2} I_nu(kappa))`, nu = m/2 - 1.

    `z = w mu + sqrt(1 - w^2) v`, where v is uniform among the unit vectors orthogonal to mu and w in [-1, 1] has the
    density `exp(kappa w) (1 - w^2)^{(m-3)/2}` up to a constant, drawn by rejection. The derivative of a draw by kappa
    is that of the quantile, `dw/dkappa = -(dF/dkappa) / (dF/dw)` ("Implicit Reparameterization Gradients", Figurnov
    et al., 2018, https://arxiv.org/abs/1805.08498), so that it needs no correction for what was rejected.

    "Simulation of the von Mises Fisher distribution" (Wood, 1994); "Hyperspherical Variational Auto-Encoders" (Davidson
    et al., 2018, https://arxiv.org/abs/1804.00891), appendix A.

    Args:
        direction: mu, unit vectors, `[*batch, m]`.
        concentration: kappa >= 0, `[*batch]`.

    Example:
        >>> law = VonMisesFisher(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([100.0]))
        >>> law.sample().shape, law.mean
        (torch.Size([1, 3]), tensor([[0.0000, 0.0000, 0.9900]]))
    """

    has_rsample = True
    support = constraints.real_vector

    def __init__(self, direction: Tensor, concentration: Tensor) -> None:
        self.direction, self.concentration = direction, concentration
        self.m = direction.shape[-1]
        self._log_bessel, self._ratio = bessel(self.m / 2 - 1, concentration)
        super().__init__(direction.shape[:-1], direction.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._ratio.to(self.direction).unsqueeze(-1) * self.direction

    @property
    def mode(self) -> Tensor:
        return self.direction

    def log_prob(self, value: Tensor) -> Tensor:
        # kappa (mu.z - 1) from the distance, which float32 keeps where the product is all but 1.
        apart = (value - self.direction).square().sum(-1).double() / 2
        return (self._log_normaliser() + self.concentration.double() * (1 - apart)).to(value.dtype)

    def _log_normaliser(self) -> Tensor:
        """`log C_m(kappa)`, float64."""
        return -self._log_bessel - self.m / 2 * math.log(2 * math.pi)

    def divergence_from_uniform(self) -> Tensor:
        """`kappa A_m(kappa) + log C_m(kappa) + log |S^{m-1}|`, where `A_m = I_{nu+1} / I_nu` (Davidson et al., 2018,
        equation 5)."""
        kl = self.concentration.double() * self._ratio + self._log_normaliser() + log_area(self.m)
        return kl.to(self.direction.dtype)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        kappa = self.concentration.double().expand(shape[:-1])
        along = _Along.apply(kappa, self._ratio.expand(shape[:-1]), self.m)[..., None]
        noise = torch.randn(shape, dtype=self.direction.dtype, device=self.direction.device)
        tangent = noise - (noise * self.direction).sum(-1, keepdim=True) * self.direction
        aside = (1 - along.square()).clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        z = along * self.direction.double() + aside * F.normalize(tangent.double(), dim=-1)
        return F.normalize(z, dim=-1).to(self.direction.dtype)


def _kl_uniform(q: VonMisesFisher, p: HypersphericalUniform) -> Tensor:
    return q.divergence_from_uniform()


register_kl(VonMisesFisher, HypersphericalUniform)(_kl_uniform)


class _Along(torch.autograd.Function):
    """`w = mu.z`, drawn given kappa (float64); `ratio` is `A_m(kappa) = E[w]`."""

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, kappa: Tensor, ratio: Tensor, m: int) -> Tensor: ...

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, ratio: Tensor, m: int) -> Tensor:
        w = _draw(kappa.reshape(-1), m).reshape(kappa.shape)
        ctx.save_for_backward(kappa, ratio, w)
        ctx.m = m
        return w

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        kappa, ratio, w = (saved.reshape(-1).split(AT_ONCE) for saved in ctx.saved_tensors)
        slopes = [quantile_slope(*part, ctx.m) for part in zip(kappa, ratio, w, strict=True)]
        return gradient * torch.cat(slopes).reshape(gradient.shape), None, None


def _draw(kappa: Tensor, m: int) -> Tensor:
    """Wood's rejection, `[N] -> [N]`: at least two of three proposals are accepted whatever kappa and m."""
    b = (m - 1) / (2 * kappa + (4 * kappa.square() + (m - 1) ** 2).sqrt())
    x = (1 - b) / (1 + b)
    bound = kappa * x + (m - 1) * (1 - x.square()).log()
    w, waiting = torch.empty_like(kappa), torch.arange(len(kappa), device=kappa.device)
    half = kappa.new_tensor((m - 1) / 2)
    while len(waiting):
        share = Beta(half, half, validate_args=False).sample(waiting.shape)
        here = b[waiting]
        proposal = (1 - (1 + here) * share) / (1 - (1 - here) * share)
        height = kappa[waiting] * proposal + (m - 1) * (1 - x[waiting] * proposal).log() - bound[waiting]
        w[waiting] = proposal
        waiting = waiting[height < torch.rand_like(height).log()]
    return w.clamp(-1, 1)


_NODES, _WEIGHTS = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(NODES))


def quantile_slope(kappa: Tensor, ratio: Tensor, w: Tensor, m: int) -> Tensor:
    """`dw/dkappa` at a fixed value of the distribution function, `[N]`, for `ratio` = E[w].

    It is `1/f(w) int_w^1 (t - E[w]) f(t) dt`, or minus the integral from -1. In the angle, t = cos(s), the integrand is
    smooth at every m; the tail that lies beyond E[w] has one sign, so nothing cancels.
    """
    angle = torch.arccos(w)
    right = w > ratio
    # Beyond this the density has fallen by more than exp(-50).
    far = (torch.maximum(angle, torch.arccos(ratio)) + 10 / (kappa + m).sqrt()).clamp(max=math.pi)
    start, width = torch.where(right, 0.0, angle), torch.where(right, angle, far - angle)
    s = start[:, None] + width[:, None] * (1 + _NODES.to(w)) / 2
    sine = angle.sin().clamp_min(1e-150)[:, None]
    # cos(s) - cos(angle), without cancellation.
    rise = 2 * ((angle[:, None] + s) / 2).sin() * ((angle[:, None] - s) / 2).sin()
    density = (kappa[:, None] * rise + (m - 2) * (s.sin().clamp_min(1e-150) / sine).log()).exp() * sine
    integral = ((s.cos() - ratio[:, None]) * density * _WEIGHTS.to(w)).sum(1) * width / 2
    return torch.where(right, integral, -integral)
