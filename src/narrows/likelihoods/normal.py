"""Normal likelihoods: sigma fixed, learned, given by the decoder, or optimal for the batch."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from narrows.distributed import is_distributed, sum_over_processes
from narrows.errors import require
from narrows.likelihoods.elementwise import Likelihood
from narrows.types import DataSpec, Given, at_least_single


class GaussianLikelihood(Likelihood):
    """Normal with mean from the decoder and a standard deviation that is fixed or learned.

    `scope="fixed"`: `sigma` everywhere (sigma = sqrt(1/2) makes the negative log-likelihood the sum of
    squared errors plus a constant). `scope="shared"`: one learned sigma, starting at `sigma`.
    `scope="value"`: the decoder gives every value its own r, `sigma = log(1 + e^r) + minimum`.

    Raises:
        UserError: `sigma` or `minimum` not above 0, or an unknown scope.

    Example:
        >>> spec = DataSpec((2,), "vector", 10, value_range=(0.0, 1.0))
        >>> GaussianLikelihood(spec, scope="value").out_shape
        (4,)
        >>> GaussianLikelihood(spec, sigma=0.5)(torch.zeros(1, 2)).stddev
        tensor([[0.5000, 0.5000]])
    """

    takes_variable = True
    spread = 0.5

    def __init__(
        self,
        spec: DataSpec,
        *,
        scope: Literal["fixed", "shared", "value"] = "fixed",
        sigma: float = 1.0,
        minimum: float = 1e-3,
    ) -> None:
        super().__init__(spec)
        require(
            scope in ("fixed", "shared", "value"),
            f"likelihood gaussian: scope must be fixed, shared or value, not '{scope}'",
        )
        require(sigma > 0, f"likelihood gaussian: sigma must be above 0, not {sigma}")
        require(minimum > 0, f"likelihood gaussian: minimum must be above 0, not {minimum}")
        self.scope, self.sigma, self.minimum = scope, sigma, minimum
        self.parameters_per_value = 2 if scope == "value" else 1
        if scope == "shared":
            self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        params = at_least_single(params)
        if self.scope == "value":
            mean, raw = params.chunk(2, dim=1)
            return Normal(mean, nn.functional.softplus(raw) + self.minimum, validate_args=False)
        if self.scope == "shared":
            return Normal(params, self.log_sigma.exp().clamp_min(self.minimum).expand_as(params), validate_args=False)
        return Normal(params, torch.full_like(params, self.sigma), validate_args=False)

    def bits_name(self, truth: Tensor) -> str | None:
        return "density_bits_per_dim"

    def params_of_mean(self, mean: Tensor) -> Tensor | None:
        return None if self.scope == "value" else mean

    @torch.no_grad()
    def expect_error(self, square: float) -> None:
        if self.scope == "shared":
            self.log_sigma.fill_(math.log(max(math.sqrt(square), self.minimum)))


def _mean_over_processes(values: Tensor) -> Tensor:
    """The mean over all processes, without a gradient: at its optimum, sigma has none over the global batch."""
    sums = sum_over_processes(torch.stack([values.detach().sum(), values.new_tensor(float(values.numel()))]))
    return sums[0] / sums[1]


def _log_prob(normal: Normal, value: Tensor) -> Tensor:
    nats: Tensor = Normal.log_prob(normal, value)
    return nats


class _OptimalNormal(Normal):
    """A Normal whose sigma is the one that makes the observed batch likeliest."""

    def __init__(self, mean: Tensor, owner: OptimalGaussianLikelihood) -> None:
        super().__init__(mean, owner.sigma.expand_as(mean), validate_args=False)
        self.owner = owner

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_judged(value, None)

    def log_prob_judged(self, value: Tensor, judged: Tensor | None) -> Tensor:
        """`log_prob` with the sigma that makes the `judged` values (bool; None: all) likeliest."""
        if not self.owner.training:
            return _log_prob(self, value)
        sigma = self.owner.fit(self.loc, value, judged)
        return _log_prob(Normal(self.loc, sigma.expand_as(self.loc), validate_args=False), value)


class OptimalGaussianLikelihood(Likelihood):
    """Normal with the analytically optimal shared variance, `sigma^2 = MSE` of the batch while training.

    A density must not look at the test data: evaluation uses the exponential average of the training
    batches' variances, kept in the buffer `sigma` and saved with the weights.

    "Simple and Effective VAE Training with Calibrated Decoders" (Rybkin et al., 2021,
    https://arxiv.org/abs/2006.13202), equation 6.

    Raises:
        UserError: `minimum` not above 0, or `momentum` outside (0, 1].

    Example:
        >>> spec = DataSpec((2,), "vector", 10, value_range=(0.0, 1.0))
        >>> likelihood = OptimalGaussianLikelihood(spec)
        >>> likelihood.fit(mean=torch.zeros(1, 2), value=torch.full((1, 2), 3.0))
        tensor(3.)
    """

    takes_variable = True
    spread = 0.5
    sigma: Tensor

    def __init__(self, spec: DataSpec, *, minimum: float = 1e-3, momentum: float = 0.05) -> None:
        super().__init__(spec)
        require(minimum > 0, f"likelihood gaussian_optimal: minimum must be above 0, not {minimum}")
        require(0 < momentum <= 1, f"likelihood gaussian_optimal: momentum must be in (0, 1], not {momentum}")
        self.minimum, self.momentum = minimum, momentum
        self.register_buffer("sigma", torch.tensor(1.0))

    def fit(self, mean: Tensor, value: Tensor, judged: Tensor | None = None) -> Tensor:
        """The optimal sigma of the batch (of its `judged` values) over all processes, towards which the stored average
        moves."""
        square = (value - mean).square()
        square = square if judged is None else square[judged]
        if square.numel() == 0 and not is_distributed():
            return self.sigma
        square = _mean_over_processes(square) if is_distributed() else square.mean()
        sigma = square.sqrt().clamp_min(self.minimum)
        with torch.no_grad():
            self.sigma.lerp_(sigma.detach(), self.momentum)
        return sigma

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return _OptimalNormal(at_least_single(params), self)

    def bits_name(self, truth: Tensor) -> str | None:
        return "density_bits_per_dim"

    def params_of_mean(self, mean: Tensor) -> Tensor:
        return mean

    def expect_error(self, square: float) -> None:
        self.sigma.fill_(max(math.sqrt(square), self.minimum))
