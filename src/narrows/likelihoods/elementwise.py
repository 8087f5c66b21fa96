"""Likelihoods: decoder output to p(x|z), elementwise over x's shape.

Each is built from the `DataSpec`, says how many parameters per value it needs (`out_shape` stacks them on
axis 1: `[B, C * n, ...]`), and refuses data outside its support. Distributions are not reduced: log p(x|z)
of an example is the sum of `log_prob` over its values, in nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Laplace

from narrows.errors import UserError, require
from narrows.likelihoods.continuous_bernoulli import ContinuousBernoulli
from narrows.likelihoods.token_categorical import TokenCategorical
from narrows.types import COUNTED, DataSpec, Given, Shape, at_least_single


class Likelihood(nn.Module):
    """`params [B, C * n, ...] -> p(x|z)` over `[B, C, ...]`.

    `given` is what p(x|z) depends on besides z (`narrows.types.Given`): counts need each example's library size.

    Raises:
        UserError: data outside its support, or of examples that differ in length where it does not take them.

    Example:
        >>> class Fixed(Likelihood):
        ...     def forward(self, params, given=None):
        ...         return Normal(params, 1.0)
        >>> likelihood = Fixed(DataSpec((2,), "vector", 10))
        >>> likelihood.out_shape, likelihood.point(likelihood(torch.ones(1, 2)))
        ((2,), tensor([[1., 1.]]))
    """

    parameters_per_value: int = 1
    within_unit: ClassVar[bool] = False
    has_mean: bool = True
    """Whether `p(x|z).mean` is a possible value of the data; tokens have no such mean."""
    takes_variable: ClassVar[bool] = False
    """Whether examples may differ in length."""
    takes_tokens: ClassVar[bool] = False
    """Whether it judges tokens, which are names and no numbers."""
    writes_logits: ClassVar[bool] = False
    """Whether the parameters are the logarithms of probabilities up to a constant."""
    spread: ClassVar[float | None] = None
    """The power of the temperature by which draws spread about the mean, where p(x|z) has a mean and a scale."""
    remark: str | None = None
    """What must be known to read its nats, if anything; a run says it."""

    if TYPE_CHECKING:

        def __call__(self, params: Tensor, given: Given | None = None) -> Distribution: ...

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        require(
            spec.kind != "tokens" or self.takes_tokens,
            f"likelihood {type(self).__name__} judges numbers, which tokens are not; use likelihood=categorical",
        )
        if self.within_unit and not _inside_unit(spec):
            raise UserError(
                f"likelihood {type(self).__name__} needs data inside [0, 1], but these lie in "
                f"{_range_text(spec)}; {_remedy(spec)}"
            )
        self.data_shape: Shape = spec.shape

    @property
    def out_shape(self) -> Shape:
        """Shape of the decoder's output, without the batch axis."""
        channels, *rest = self.data_shape
        return (channels * self.parameters_per_value, *rest)

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        raise NotImplementedError

    def point(self, p_x: Distribution) -> Tensor:
        """One value for p(x|z), `[B, *shape]`: its mean, where that is a possible value of the data."""
        return p_x.mean

    def draw(self, params: Tensor, given: Given | None = None, temperature: float = 1.0) -> Tensor:
        """A draw of p(x|z) at `params`, `[B, *shape]`; at a temperature T of `p(x|z)^(1/T)`, elementwise.

        Raises:
            UserError: a temperature not above 0, or other than 1 where the family has no such distribution.
        """
        require(temperature > 0, f"temperature must be above 0, not {temperature}")
        if temperature == 1:
            return self(params, given).sample()
        if self.writes_logits:
            return self(at_least_single(params) / temperature, given).sample()
        name = type(self).__name__
        require(self.spread is not None, f"likelihood {name} has no temperature other than 1: draw at 1")
        assert self.spread is not None
        p_x = self(params, given)
        scale: float = temperature**self.spread
        return p_x.mean + scale * (p_x.sample() - p_x.mean)

    def bits_name(self, truth: Tensor) -> str | None:
        """Name of the figure `nats / (ln 2 * number of values)`, or None.

        `bits_per_dim` of a probability mass, never below 0; `density_bits_per_dim` of a density, which depends on the
        data's units. None where p is no distribution over such data (a Bernoulli of grey values), or is a mass for some
        values and a density for others."""
        return None

    def params_of_mean(self, mean: Tensor) -> Tensor | None:
        """Parameters, in `mean`'s shape, at which p(x|z) has that mean; None where the mean does not determine them."""
        return None

    def expect_error(self, square: float) -> None:
        """Start with the noise at which errors of this mean square are likeliest; nothing happens where it is fixed,
        or comes from the decoder."""


def _inside_unit(spec: DataSpec) -> bool:
    return spec.value_range is not None and spec.value_range[0] >= 0 and spec.value_range[1] <= 1


def _remedy(spec: DataSpec) -> str:
    counts = "use one of counts, such as likelihood=multinomial or likelihood=negative_binomial"
    return counts if spec.kind in COUNTED else "use likelihood=gaussian, or scale the data"


def _range_text(spec: DataSpec) -> str:
    if spec.value_range is None:
        return "an unbounded range"
    return f"[{spec.value_range[0]:g}, {spec.value_range[1]:g}]"


class BernoulliLikelihood(Likelihood):
    """Binary values, `log p = x log p + (1 - x) log(1 - p)`: the textbooks' binary cross-entropy, also
    for grey values in [0, 1] (where it is no normalised density: see `ContinuousBernoulliLikelihood`).

    Example:
        >>> spec = DataSpec((2,), "vector", 10, value_range=(0.0, 1.0))
        >>> p_x = BernoulliLikelihood(spec)(torch.zeros(1, 2))
        >>> p_x.log_prob(torch.ones(1, 2)).exp()
        tensor([[0.5000, 0.5000]])
    """

    within_unit = True
    takes_variable = True
    writes_logits = True

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return Bernoulli(logits=at_least_single(params), validate_args=False)

    def bits_name(self, truth: Tensor) -> str | None:
        return "bits_per_dim" if bool(((truth == 0) | (truth == 1)).all()) else None

    def params_of_mean(self, mean: Tensor) -> Tensor:
        """Logits, no further from 0 than those of 0.001 and 0.999."""
        return mean.clamp(1e-3, 1 - 1e-3).logit()


class ContinuousBernoulliLikelihood(Likelihood):
    """The Bernoulli form, normalised over [0, 1].

    "The continuous Bernoulli: fixing a pervasive error in variational autoencoders" (Loaiza-Ganem and Cunningham, 2019,
    https://arxiv.org/abs/1907.06845), equation 4.

    Example:
        >>> spec = DataSpec((2,), "vector", 10, value_range=(0.0, 1.0))
        >>> p_x = ContinuousBernoulliLikelihood(spec)(torch.zeros(1, 2))
        >>> p_x.mean
        tensor([[0.5000, 0.5000]])
    """

    within_unit = True
    takes_variable = True
    writes_logits = True

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return ContinuousBernoulli(at_least_single(params))

    def bits_name(self, truth: Tensor) -> str | None:
        return "density_bits_per_dim" if bool(((truth >= 0) & (truth <= 1)).all()) else None


class LaplaceLikelihood(Likelihood):
    """Laplace with mean from the decoder and fixed `scale`: absolute error in nats.

    Raises:
        UserError: `scale` is not above 0.

    Example:
        >>> spec = DataSpec((2,), "vector", 10, value_range=(0.0, 1.0))
        >>> p_x = LaplaceLikelihood(spec, scale=0.5)(torch.zeros(1, 2))
        >>> -p_x.log_prob(torch.ones(1, 2))
        tensor([[2., 2.]])
    """

    takes_variable = True
    spread = 1.0

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

    Example:
        >>> p_x = LevelCategorical(torch.zeros(1, 1, 5), low=0.0, high=1.0)
        >>> p_x.levels, p_x.mean
        (tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000]), tensor([[0.5000]]))
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
    """One of `levels` equally spaced values for every value of x, as in "Pixel Recurrent Neural Networks" (van den Oord
    et al., 2016, https://arxiv.org/abs/1601.06759); of tokens one of the vocabulary, `params [B, V, T]`.

    Raises:
        UserError: fewer than two levels, data without a range, or tokens without a vocabulary.

    Example:
        >>> spec = DataSpec((2,), "vector", 10, value_range=(0.0, 1.0))
        >>> likelihood = CategoricalLikelihood(spec, levels=4)
        >>> likelihood.out_shape
        (8,)
        >>> likelihood(torch.zeros(1, 8)).log_prob(torch.ones(1, 2)).exp()
        tensor([[0.2500, 0.2500]])
    """

    takes_variable = True
    takes_tokens = True
    writes_logits = True

    def __init__(self, spec: DataSpec, *, levels: int = 256) -> None:
        super().__init__(spec)
        self.tokens = spec.kind == "tokens"
        if self.tokens:
            words = len(spec.vocabulary or [])
            require(words > 0, "likelihood categorical needs the vocabulary of tokens, which these data do not tell")
            self.has_mean, self.parameters_per_value = False, words
            return
        require(levels >= 2, f"likelihood categorical: levels must be at least 2, not {levels}")
        if spec.bounds is None:
            raise UserError(f"likelihood categorical needs data with a smallest and a largest value; {_remedy(spec)}")
        self.low, self.high = spec.bounds
        self.parameters_per_value = levels

    @property
    def out_shape(self) -> Shape:
        return (self.parameters_per_value, *self.data_shape) if self.tokens else super().out_shape

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        if self.tokens:
            return TokenCategorical(at_least_single(params))
        channels, *_rest = self.data_shape
        logits = at_least_single(params).unflatten(1, (channels, self.parameters_per_value))
        return LevelCategorical(logits, self.low, self.high)

    def point(self, p_x: Distribution) -> Tensor:
        return p_x.likeliest if isinstance(p_x, TokenCategorical) else p_x.mean

    def bits_name(self, truth: Tensor) -> str | None:
        return "bits_per_dim"
