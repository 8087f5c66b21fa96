"""Likelihoods: decoder output to p(x|z), elementwise over x's shape.

Each is built from the `DataSpec`, says how many parameters per value it needs (`out_shape` stacks them on
axis 1: `[B, C * n, ...]`), and refuses data outside its support. Distributions are not reduced: log p(x|z)
of an example is the sum of `log_prob` over its values, in nats.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Laplace, Normal

from narrows.distributed import is_distributed, sum_over_processes
from narrows.errors import UserError, require
from narrows.likelihoods.continuous_bernoulli import ContinuousBernoulli
from narrows.types import DataSpec, Given, Shape, at_least_single


class Likelihood(nn.Module):
    """`params [B, C * n, ...] -> p(x|z)` over `[B, C, ...]`.

    `given` is what it may be told besides (`narrows.types.Given`): counts need the library size of each example.

    Raises:
        UserError: data outside its support, or of examples that differ in length where it does not take them.
    """

    parameters_per_value: int = 1
    within_unit: ClassVar[bool] = False
    has_mean: ClassVar[bool] = True
    """Whether `p(x|z).mean` is a value of the data: of tokens it is none."""
    takes_variable: ClassVar[bool] = False
    """Whether examples may differ in length."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        if self.within_unit and not _inside_unit(spec):
            raise UserError(
                f"likelihood {type(self).__name__} needs data inside [0, 1], but these lie in "
                f"{_range_text(spec)}; use likelihood=gaussian, or scale the data"
            )
        self.data_shape: Shape = spec.shape

    @property
    def out_shape(self) -> Shape:
        """What the decoder must give, without the batch axis."""
        channels, *rest = self.data_shape
        return (channels * self.parameters_per_value, *rest)

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        raise NotImplementedError

    def point(self, p_x: Distribution) -> Tensor:
        """The one value that stands for p(x|z), `[B, *shape]`: its mean, unless a mean is no value of such data."""
        return p_x.mean

    def bits_name(self, truth: Tensor) -> str | None:
        """What nats over `ln 2` and the number of values are called: `bits_per_dim` of a probability mass, whose values
        are at least 0; `density_bits_per_dim` of a density in the data's units, which another scale shifts; None where
        p is no distribution over such data (a Bernoulli of grey values), or has some of each."""
        return None

    def params_of_mean(self, mean: Tensor) -> Tensor | None:
        """The parameters, `mean`'s shape, at which p(x|z) has that mean; None where they are not its alone."""
        return None


def _inside_unit(spec: DataSpec) -> bool:
    return spec.value_range is not None and spec.value_range[0] >= 0 and spec.value_range[1] <= 1


def _range_text(spec: DataSpec) -> str:
    if spec.value_range is None:
        return "an unbounded range"
    return f"[{spec.value_range[0]:g}, {spec.value_range[1]:g}]"


class BernoulliLikelihood(Likelihood):
    """Binary values, `log p = x log p + (1 - x) log(1 - p)`: the textbooks' binary cross-entropy, also
    for grey values in [0, 1] (where it is no normalised density: see `ContinuousBernoulliLikelihood`)."""

    within_unit = True
    takes_variable = True

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return Bernoulli(logits=at_least_single(params), validate_args=False)

    def bits_name(self, truth: Tensor) -> str | None:
        return "bits_per_dim" if bool(((truth == 0) | (truth == 1)).all()) else None

    def params_of_mean(self, mean: Tensor) -> Tensor:
        """Logits, no further from 0 than those of 0.001 and 0.999."""
        return mean.clamp(1e-3, 1 - 1e-3).logit()


class ContinuousBernoulliLikelihood(Likelihood):
    """The Bernoulli form, normalised over [0, 1].

    "The continuous Bernoulli: fixing a pervasive error in variational autoencoders" (Loaiza-Ganem and
    Cunningham, 2019), equation 4.
    """

    within_unit = True
    takes_variable = True

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return ContinuousBernoulli(at_least_single(params))

    def bits_name(self, truth: Tensor) -> str | None:
        return "density_bits_per_dim" if bool(((truth >= 0) & (truth <= 1)).all()) else None


class GaussianLikelihood(Likelihood):
    """Normal with mean from the decoder and a standard deviation that is fixed or learned.

    `scope="fixed"`: `sigma` everywhere (sigma = sqrt(1/2) makes the negative log-likelihood the sum of
    squared errors plus a constant). `scope="shared"`: one learned sigma, starting at `sigma`.
    `scope="value"`: the decoder gives every value its own r, `sigma = log(1 + e^r) + minimum`.

    Raises:
        UserError: `sigma` or `minimum` not above 0, or an unknown scope.
    """

    takes_variable = True

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


def _mean_over_processes(values: Tensor) -> Tensor:
    """Without a gradient: that of the likelihood by its optimal sigma is zero over the global batch."""
    sums = sum_over_processes(torch.stack([values.detach().sum(), values.new_tensor(float(values.numel()))]))
    return sums[0] / sums[1]


class _OptimalNormal(Normal):
    """A Normal whose sigma is the one that makes the observed batch likeliest."""

    def __init__(self, mean: Tensor, owner: OptimalGaussianLikelihood) -> None:
        super().__init__(mean, owner.sigma.expand_as(mean), validate_args=False)
        self.owner = owner

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_judged(value, None)

    def log_prob_judged(self, value: Tensor, judged: Tensor | None) -> Tensor:
        """`judged`: bool, the values that sigma is to make likeliest; None for all."""
        if not self.owner.training:
            return super().log_prob(value)
        sigma = self.owner.fit(self.loc, value, judged)
        return Normal(self.loc, sigma.expand_as(self.loc), validate_args=False).log_prob(value)


class OptimalGaussianLikelihood(Likelihood):
    """Normal with the analytically optimal shared variance, `sigma^2 = MSE` of the batch while training.

    A density must not look at the test data: evaluation uses the exponential average of the training
    batches' variances, kept in the buffer `sigma` and saved with the weights.

    "Simple and Effective VAE Training with Calibrated Decoders" (Rybkin et al., 2021), equation 6.

    Raises:
        UserError: `minimum` not above 0, or `momentum` outside (0, 1].
    """

    takes_variable = True
    sigma: Tensor

    def __init__(self, spec: DataSpec, *, minimum: float = 1e-3, momentum: float = 0.05) -> None:
        super().__init__(spec)
        require(minimum > 0, f"likelihood gaussian_optimal: minimum must be above 0, not {minimum}")
        require(0 < momentum <= 1, f"likelihood gaussian_optimal: momentum must be in (0, 1], not {momentum}")
        self.minimum, self.momentum = minimum, momentum
        self.register_buffer("sigma", torch.tensor(1.0))

    def fit(self, mean: Tensor, value: Tensor, judged: Tensor | None = None) -> Tensor:
        """The optimal sigma of the batch (of its `judged` values), over all processes; moves the stored average
        towards it."""
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


class LaplaceLikelihood(Likelihood):
    """Laplace with mean from the decoder and fixed `scale`: absolute error in nats.

    Raises:
        UserError: `scale` is not above 0.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec, *, scale: float = 1.0) -> None:
        super().__init__(spec)
        require(scale > 0, f"likelihood laplace: scale must be above 0, not {scale}")
        self.scale = scale

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        params = at_least_single(params)
        return Laplace(params, torch.full_like(params, self.scale), validate_args=False)

    def bits_name(self, truth: Tensor) -> str | None:
        return "density_bits_per_dim"

    def params_of_mean(self, mean: Tensor) -> Tensor:
        return mean


class LevelCategorical(Distribution):
    """A categorical over K equally spaced values of [low, high]; `log_prob` rounds to the nearest.

    `logits: [B, C, K, ...]`, events `[B, C, ...]`.
    """

    has_enumerate_support = False

    def __init__(self, logits: Tensor, low: float, high: float) -> None:
        self.log_probs = logits.log_softmax(dim=2)
        self.levels = torch.linspace(low, high, logits.shape[2], device=logits.device)
        self.low, self.high = low, high
        super().__init__(self.log_probs.select(2, 0).shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        scaled = (value - self.low) / (self.high - self.low) * (len(self.levels) - 1)
        index = scaled.round().long().clamp(0, len(self.levels) - 1)
        return self.log_probs.gather(2, index.unsqueeze(2)).squeeze(2)

    @property
    def mean(self) -> Tensor:
        return torch.movedim(self.log_probs.exp(), 2, -1) @ self.levels

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        probs = torch.movedim(self.log_probs.exp(), 2, -1)
        return self.levels[torch.distributions.Categorical(probs, validate_args=False).sample(torch.Size(sample_shape))]


class CategoricalLikelihood(Likelihood):
    """One of `levels` equally spaced values for every value of x, as in PixelRNN (van den Oord et al., 2016).

    Raises:
        UserError: fewer than two levels, or data without a range.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec, *, levels: int = 256) -> None:
        super().__init__(spec)
        require(levels >= 2, f"likelihood categorical: levels must be at least 2, not {levels}")
        if spec.bounds is None:
            raise UserError(
                "likelihood categorical needs data with a smallest and a largest value; use likelihood=gaussian"
            )
        self.low, self.high = spec.bounds
        self.parameters_per_value = levels

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        channels, *_rest = self.data_shape
        logits = at_least_single(params).unflatten(1, (channels, self.parameters_per_value))
        return LevelCategorical(logits, self.low, self.high)

    def bits_name(self, truth: Tensor) -> str | None:
        return "bits_per_dim"
