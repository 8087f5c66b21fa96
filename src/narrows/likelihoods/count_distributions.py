"""Distributions of counts, elementwise over `[B, D]`, from logarithms that stay finite where rates underflow.

Legend for shapes: B examples, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma
from torch.nn.functional import logsigmoid, softplus

Size = torch.Size | list[int] | tuple[int, ...]
LARGE = 30.0
"""An inverse dispersion above this goes by Stirling's series, which is a difference of large numbers below it."""
LARGEST = 1e20
"""The inverse dispersion that stands for an infinite one: the negative binomial is then a Poisson to every digit."""


class MultinomialCounts(Distribution):
    """`log p(x) = log n! + sum_d (x_d log pi_d - log x_d!)` with n the sum of x, spread over the values of x.

    `log_prob [B, D]` sums over an example to the multinomial's: each value has the share `x_d / n` of `log n!`. Without
    the coefficient it is `x_d log pi_d`, which ranks models alike and is no probability of x.

    Args:
        logits: `[B, D]`, any; `pi = softmax(logits)`.
        log_rate: `[B, D]`, of the mean: the library size times pi.
        coefficient: whether the terms that do not depend on pi are counted.

    Example:
        >>> p = MultinomialCounts(torch.zeros(1, 2), torch.zeros(1, 2))
        >>> p.log_prob(torch.tensor([[1.0, 1.0]])).sum().exp()
        tensor(0.5000)
    """

    has_enumerate_support = False

    def __init__(self, logits: Tensor, log_rate: Tensor, *, coefficient: bool = True) -> None:
        self.logits, self.log_rate, self.coefficient = logits, log_rate, coefficient
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_judged(value, None)

    def log_prob_judged(self, value: Tensor, judged: Tensor | None) -> Tensor:
        """`log_prob` of the `judged` values (bool; None: all) given their sum: a multinomial over these alone."""
        nats = value * (self.logits - log_total(self.logits, judged))
        if not self.coefficient:
            return nats
        n = value.sum(-1, keepdim=True)
        return nats + torch.lgamma(n + 1) / n.clamp_min(1e-30) * value - torch.lgamma(value + 1)

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.logits.softmax(-1))

    def sample(self, sample_shape: Size = ()) -> Tensor:
        """`[*sample_shape, B, D]`: the rounded library size, dealt out by halves."""
        with torch.no_grad():
            total = self.mean.sum(-1, keepdim=True).round()
            probs = self.logits.softmax(-1).expand(*sample_shape, *self.logits.shape)
            return deal(total.expand(*probs.shape[:-1], 1), probs)


class PoissonCounts(Distribution):
    """`log p(x) = x log mu - mu - log x!`.

    Args:
        log_rate: log mu, `[B, D]`.

    Example:
        >>> PoissonCounts(torch.zeros(1, 1)).log_prob(torch.tensor([[2.0]])).exp()
        tensor([[0.1839]])
    """

    has_enumerate_support = False

    def __init__(self, log_rate: Tensor) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return value * self.log_rate - self.log_rate.exp() - torch.lgamma(value + 1)

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean

    def sample(self, sample_shape: Size = ()) -> Tensor:
        with torch.no_grad():
            return torch.poisson(self.mean.expand(*sample_shape, *self.batch_shape).contiguous())


class NegativeBinomialCounts(Distribution):
    """Counts of mean mu and variance `mu + mu^2 / r`; r is the inverse dispersion:

    `p(x) = Gamma(x + r) / (Gamma(r) x!) (r / (r + mu))^r (mu / (r + mu))^x`, a Poisson at infinite r.

    Args:
        log_rate: log mu, `[B, D]`.
        inverse_dispersion: r, above 0, of a shape that broadcasts to `[B, D]`; may be infinite.

    Example:
        >>> p = NegativeBinomialCounts(torch.zeros(1, 1), torch.ones(1))
        >>> p.log_prob(torch.tensor([[2.0]])).exp(), p.variance
        (tensor([[0.1250]]), tensor([[2.]]))
    """

    has_enumerate_support = False

    def __init__(self, log_rate: Tensor, inverse_dispersion: Tensor) -> None:
        self.log_rate = log_rate
        self._r = inverse_dispersion.clamp(1e-8, LARGEST)
        self.r = self._r.expand_as(log_rate)
        super().__init__(log_rate.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Most counts are 0, and then all that is left is `-r log(1 + mu / r)`: on the CPU the rest, which costs ten
        times as much, is computed of the others alone. Elsewhere that would wait for the device at every call."""
        value, log_rate = torch.broadcast_tensors(value, self.log_rate)
        zero = -self._r * torch.log1p(log_rate.exp() / self._r)
        if value.device.type != "cpu" or torch.compiler.is_compiling():
            return zero + _log_ratio(value, log_rate, self._r)
        at = value.nonzero(as_tuple=True)
        r = self._r.expand_as(value)[at]
        return zero.index_put(at, _log_ratio(value[at], log_rate[at], r), accumulate=True)

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean + self.mean.square() / self.r

    def sample(self, sample_shape: Size = ()) -> Tensor:
        with torch.no_grad():
            shares = Gamma(self.r, self.r, validate_args=False).sample(torch.Size(sample_shape))
            return torch.poisson(shares * self.mean)


class ZeroInflatedCounts(Distribution):
    """Counts that are 0 with probability pi, and otherwise follow `base`: `p(0) = pi + (1 - pi) base(0)`.

    Args:
        base: a distribution of counts over `[B, D]`.
        gate: the logit of pi, `[B, D]`.

    Example:
        >>> p = ZeroInflatedCounts(PoissonCounts(torch.zeros(1, 1)), torch.zeros(1, 1))
        >>> p.log_prob(torch.zeros(1, 1)).exp(), p.mean
        (tensor([[0.6839]]), tensor([[0.5000]]))
    """

    has_enumerate_support = False

    def __init__(self, base: Distribution, gate: Tensor) -> None:
        self.base, self.gate = base, gate
        super().__init__(gate.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        counted = self.base.log_prob(value) - softplus(self.gate)  # log(1 - pi) is -softplus(gate)
        return torch.where(value == 0, torch.logaddexp(logsigmoid(self.gate), counted), counted)

    @property
    def mean(self) -> Tensor:
        return self.gate.neg().sigmoid() * self.base.mean

    @property
    def variance(self) -> Tensor:
        kept = self.gate.neg().sigmoid()
        return kept * (self.base.variance + (1 - kept) * self.base.mean.square())

    def sample(self, sample_shape: Size = ()) -> Tensor:
        with torch.no_grad():
            drawn = self.base.sample(torch.Size(sample_shape))
            return drawn.masked_fill(torch.rand_like(drawn) < self.gate.sigmoid(), 0.0)


def _log_ratio(value: Tensor, log_rate: Tensor, r: Tensor) -> Tensor:
    """`log p(value) - log p(0)` of negative binomial counts, elementwise."""
    mean, large = log_rate.exp(), r > LARGE
    # A branch that is not taken must have a finite gradient too.
    small_r, large_r = r.masked_fill(large, 1.0), r.masked_fill(~large, LARGE)
    rising = torch.lgamma(value + small_r) - torch.lgamma(small_r) - value * (small_r.log() + torch.log1p(mean / r))
    series = (
        (large_r - 0.5) * torch.log1p(value / large_r)
        - value
        + value * torch.log1p((value - mean) / (large_r + mean))
        + _remainder(value + large_r)
        - _remainder(large_r)
    )
    return torch.where(large, series, rising) + value * log_rate - torch.lgamma(value + 1)


def log_total(logits: Tensor, judged: Tensor | None) -> Tensor:
    """`log sum_d exp(logits_d)` over the judged features, `[B, 1]`; over all, of an example without any."""
    if judged is None:
        return logits.logsumexp(-1, keepdim=True)
    left_out = ~judged & judged.any(-1, keepdim=True)
    return logits.masked_fill(left_out, -math.inf).logsumexp(-1, keepdim=True)


def deal(total: Tensor, probs: Tensor) -> Tensor:
    """Multinomial draws of `total [..., 1]` with `probs [..., D]`, by binomial draws of how many go to each half."""
    width = probs.shape[-1]
    sums = [torch.nn.functional.pad(probs, (0, (1 << (width - 1).bit_length()) - width))]
    while sums[-1].shape[-1] > 1:
        sums.append(sums[-1].unflatten(-1, (-1, 2)).sum(-1))
    drawn = total
    for halves in reversed(sums[:-1]):
        left, right = halves[..., 0::2], halves[..., 1::2]
        share = (left / (left + right)).nan_to_num(0.0).clamp(0, 1)
        first = torch.binomial(drawn.contiguous(), share.contiguous())
        drawn = torch.stack([first, drawn - first], -1).flatten(-2)
    return drawn[..., :width]


def _remainder(z: Tensor) -> Tensor:
    """`lgamma(z) - (z - 1/2) log z + z - log(2 pi) / 2`, of z above `LARGE`."""
    inverse = z.reciprocal()
    square = inverse.square()
    return inverse * (1 / 12 - square * (1 / 360 - square / 1260))
