"""The likelihood of tables, which treats each column by its kind."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Normal, OneHotCategorical

from narrows.errors import UserError, require
from narrows.likelihoods.elementwise import Likelihood
from narrows.types import Column, DataSpec, Given, at_least_single


class MixedDistribution(Distribution):
    """Independent columns along the last axis: numeric ones Normal, binary ones Bernoulli, one-hot groups Categorical.

    `log_prob` is elementwise, `[..., D]`, in nats: of a one-hot group the entry that is 1 carries the group's whole
    log-probability and the others 0, so that sums over columns, and masks over whole columns, are exact. `mean` is
    the expected value: of a one-hot group its probabilities.

    Args:
        params: `[B, D]`: means, and logits of binary and one-hot values.
        sigma: `[D]`, read at numeric values.

    Example:
        >>> numeric = torch.tensor([True, False, False])
        >>> p_x = MixedDistribution(torch.zeros(1, 3), torch.ones(3), numeric, groups=[slice(1, 3)])
        >>> p_x.mean
        tensor([[0.0000, 0.5000, 0.5000]])
    """

    has_enumerate_support = False

    def __init__(self, params: Tensor, sigma: Tensor, numeric: Tensor, groups: list[slice]) -> None:
        self.params, self.sigma, self.numeric, self.groups = params, sigma, numeric, groups
        self.log_shares = params.clone()
        for group in groups:
            self.log_shares[..., group] = params[..., group].log_softmax(-1)
        self.grouped = torch.zeros_like(numeric)
        for group in groups:
            self.grouped[group] = True
        super().__init__(params.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        normal = Normal(self.params, self.sigma, validate_args=False).log_prob(value)
        binary = Bernoulli(logits=self.params, validate_args=False).log_prob(value)
        return torch.where(self.numeric, normal, torch.where(self.grouped, value * self.log_shares, binary))

    @property
    def mean(self) -> Tensor:
        shares = torch.where(self.grouped, self.log_shares.exp(), self.params.sigmoid())
        return torch.where(self.numeric, self.params, shares)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            normal = Normal(self.params, self.sigma, validate_args=False).sample(shape)
            binary = Bernoulli(logits=self.params, validate_args=False).sample(shape)
            drawn = torch.where(self.numeric, normal, binary)
            for group in self.groups:
                drawn[..., group] = OneHotCategorical(logits=self.log_shares[..., group]).sample(shape)
        return drawn


class MixedLikelihood(Likelihood):
    """Normal for numeric columns, Bernoulli for binary ones, Categorical for those of categories; one parameter for
    every value. As in "Handling Incomplete Heterogeneous Data using VAEs" (Nazabal et al., 2020,
    https://arxiv.org/abs/1807.03653), section 3.1.

    `scope="column"`: every numeric column has a learned sigma, starting at `sigma`, never below `minimum`.
    `scope="fixed"`: `sigma` in all of them.

    Raises:
        UserError: data that are not a table, an unknown scope, `sigma` or `minimum` not above 0.

    Example:
        >>> columns = [Column("height", "numeric"), Column("colour", "categorical", 4)]
        >>> likelihood = MixedLikelihood(DataSpec((5,), "vector", 10, columns=columns))
        >>> likelihood(torch.zeros(1, 5)).mean
        tensor([[0.0000, 0.2500, 0.2500, 0.2500, 0.2500]])
    """

    numeric: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        scope: Literal["column", "fixed"] = "column",
        sigma: float = 0.3,
        minimum: float = 0.01,
    ) -> None:
        super().__init__(spec)
        if spec.columns is None:
            raise UserError(
                "likelihood mixed needs to know the columns of the data, and only a table has some: use "
                "datamodule=table, or likelihood=gaussian"
            )
        require(scope in ("column", "fixed"), f"likelihood mixed: scope must be column or fixed, not '{scope}'")
        require(sigma > 0, f"likelihood mixed: sigma must be above 0, not {sigma}")
        require(minimum > 0, f"likelihood mixed: minimum must be above 0, not {minimum}")
        self.minimum = minimum
        self.groups = _groups(spec.columns)
        kinds = [column.kind == "numeric" for column in spec.columns for _ in range(column.width)]
        self.register_buffer("numeric", torch.tensor(kinds), persistent=False)
        # A learned sigma below its minimum has no gradient.
        start = torch.full((sum(kinds),), math.log(max(sigma, 1.01 * minimum) if scope == "column" else sigma))
        self.log_sigma = nn.Parameter(start, requires_grad=scope == "column")

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        params = at_least_single(params)
        sigma = torch.ones_like(params[0]).masked_scatter(
            self.numeric, self.log_sigma.exp().clamp_min(self.minimum).to(params)
        )
        return MixedDistribution(params, sigma, self.numeric, self.groups)

    def draw(self, params: Tensor, given: Given | None = None, temperature: float = 1.0) -> Tensor:
        """See `Likelihood.draw`. No draw is of a category that no training row has, which has no text to be written
        as."""
        require(temperature > 0, f"temperature must be above 0, not {temperature}")
        params = at_least_single(params).clone()
        for group in self.groups:
            if group.stop - group.start > 1:
                params[..., group.stop - 1] = -math.inf
        p_x = self(torch.where(self.numeric, params, params / temperature), given)
        assert isinstance(p_x, MixedDistribution)
        p_x.sigma = p_x.sigma * math.sqrt(temperature)
        return p_x.sample()


def _groups(columns: list[Column]) -> list[slice]:
    """Where the one-hot groups lie among the values."""
    found, start = [], 0
    for column in columns:
        if column.kind == "categorical":
            found.append(slice(start, start + column.width))
        start += column.width
    return found
