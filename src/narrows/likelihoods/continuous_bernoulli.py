"""The continuous Bernoulli distribution, from logits of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

Size = torch.Size | list[int] | tuple[int, ...]
NEAR = 0.5
"""Below this size of the logit a series is used: the closed forms are differences of large numbers there."""
NEAR_INVERSE = 0.02
"""The same limit of the quantile function."""
S = (1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600)
"""Coefficients of `s(l) = log(sinh(l/2) / (l/2))` in powers of l^2, from the first: B_2k / (2k (2k)!)."""


class ContinuousBernoulli(Distribution):
    """`p(x) = l e^{l x} / (e^l - 1)` on [0, 1], elementwise; uniform at l = 0.

    `log p = (x - 1/2) l - s(l)` with the even function `s(l) = log(sinh(l/2) / (l/2))`, whose derivatives give mean,
    `1/2 + s'(l) = 1/(1 - e^{-l}) - 1/l`, and variance, `s''(l) = 1/l^2 - 1/(4 sinh^2(l/2))`. torch's class of that name
    clamps the probability, so that beyond |l| = 16 it is no density and has no gradient.

    "The continuous Bernoulli: fixing a pervasive error in variational autoencoders" (Loaiza-Ganem and Cunningham,
    2019), equation 4; https://arxiv.org/abs/1907.06845.

    Args:
        logits: l, of any shape.

    Example:
        >>> uniform = ContinuousBernoulli(logits=torch.zeros(2))
        >>> uniform.mean, uniform.log_prob(torch.tensor([0.1, 0.7])).exp()
        (tensor([0.5000, 0.5000]), tensor([1., 1.]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        small, far = self._parts()
        series = (value - 0.5) * small - small.square() * _polynomial(small.square(), S)
        # From the end where the density is highest: no difference of large numbers.
        away = torch.where(self.logits < 0, value, 1 - value)
        return torch.where(self._near(), series, far.log() - torch.log1p(-torch.exp(-far)) - away * far)

    @property
    def mean(self) -> Tensor:
        small, far = self._parts()
        # Of -|l|: small, and to be known to as many digits as its neighbours at the other end.
        low = 1 / far - _odds(far)
        closed = torch.where(self.logits < 0, low, 1 - low)
        slope = [2 * (k + 1) * s for k, s in enumerate(S)]
        return torch.where(self._near(), 0.5 + small * _polynomial(small.square(), slope), closed)

    @property
    def variance(self) -> Tensor:
        small, far = self._parts()
        closed = far.square().reciprocal() - _odds(far) * (1 + _odds(far))
        bend = [2 * (k + 1) * (2 * k + 1) * s for k, s in enumerate(S)]
        return torch.where(self._near(), _polynomial(small.square(), bend), closed)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile function, of `value` in [0, 1]."""
        near = self.logits.abs() < NEAR_INVERSE
        small = torch.where(near, self.logits, torch.zeros_like(self.logits))
        length = torch.where(near, torch.ones_like(self.logits), self.logits.abs())
        # Where the density rises, that of 1 - x, which falls: no exponential is large.
        mirrored = torch.where(self.logits < 0, value, 1 - value)
        falling = -torch.log1p(mirrored * torch.expm1(-length)) / length
        closed = torch.where(self.logits < 0, falling, 1 - falling)
        series = value + small * value * (1 - value) * (0.5 + small * (1 - 2 * value) / 6)
        return torch.where(near, series, closed).clamp(0, 1)

    def rsample(self, sample_shape: Size = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        return self.icdf(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def _near(self) -> Tensor:
        return self.logits.abs() < NEAR

    def _parts(self) -> tuple[Tensor, Tensor]:
        """l where it is near 0, else 0; and |l| where it is far from 0, else 1. A branch that is not taken must have a
        finite gradient too."""
        near = self._near()
        small = torch.where(near, self.logits, torch.zeros_like(self.logits))
        return small, torch.where(near, torch.ones_like(self.logits), self.logits.abs())


def _odds(length: Tensor) -> Tensor:
    """`1 / (e^a - 1)` for a above 0."""
    return torch.exp(-length) / -torch.expm1(-length)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
