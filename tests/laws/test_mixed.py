"""The likelihood of tables equals torch's own distributions, column by column."""

from __future__ import annotations

import math

import pytest
import torch
from instances import COLUMN_LIKELIHOODS, DECODER, ENCODER, LIKELIHOODS, TABLE, model
from torch.distributions import Bernoulli, Normal, OneHotCategorical

from narrows.errors import UserError
from narrows.likelihoods.table_row import MixedDistribution, MixedLikelihood
from narrows.types import Batch, Column, DataSpec, Output

# What `TABLE` has: a number, a category of three, a truth value, a number, a category of two.
GROUPS = (slice(1, 4), slice(6, 8))


def rows(n: int = 50) -> torch.Tensor:
    x = torch.randn(n, 8)
    x[:, 4] = torch.randint(2, (n,)).float()
    for group in GROUPS:
        width = group.stop - group.start
        x[:, group] = torch.eye(width)[torch.randint(width, (n,))]
    return x


@pytest.mark.parametrize("name", COLUMN_LIKELIHOODS)
def test_log_probabilities_are_those_of_torch(name: str) -> None:
    likelihood = COLUMN_LIKELIHOODS[name](TABLE)
    with torch.no_grad():
        likelihood.log_sigma.copy_(torch.tensor([-0.7, 0.4]))
    params, x = torch.randn(50, 8), rows()
    sigma = likelihood.log_sigma.exp()
    expected = (
        Normal(params[:, 0], sigma[0]).log_prob(x[:, 0])
        + Normal(params[:, 5], sigma[1]).log_prob(x[:, 5])
        + Bernoulli(logits=params[:, 4]).log_prob(x[:, 4])
        + sum(OneHotCategorical(logits=params[:, group]).log_prob(x[:, group]) for group in GROUPS)
    )
    torch.testing.assert_close(likelihood(params).log_prob(x).sum(1), expected)


@pytest.mark.parametrize("scale", [0.0, 3.0, 30.0, 60.0])
def test_every_column_is_a_normalised_distribution(scale: float) -> None:
    params = scale * torch.randn(1, 8).double()
    p = COLUMN_LIKELIHOODS["mixed"](TABLE)(params)
    for group in GROUPS:
        width = group.stop - group.start
        x = torch.zeros(width, 8)
        x[:, group] = torch.eye(width)
        assert p.log_prob(x)[:, group].sum(1).exp().sum().item() == pytest.approx(1, abs=1e-6)
    truths = torch.zeros(2, 8)
    truths[1, 4] = 1
    assert p.log_prob(truths)[:, 4].exp().sum().item() == pytest.approx(1, abs=1e-6)
    grid = params[0, 0] + torch.linspace(-60, 60, 100_001).double()
    values = torch.zeros(len(grid), 8).double()
    values[:, 0] = grid
    assert torch.trapezoid(p.log_prob(values)[:, 0].exp(), grid).item() == pytest.approx(1, abs=1e-6)


def test_missing_columns_contribute_nothing() -> None:
    network = model(TABLE, likelihood=COLUMN_LIKELIHOODS["mixed"], encoder=ENCODER, decoder=DECODER)
    x, observed = rows(4), torch.ones(4, 8, dtype=torch.bool)
    observed[:, GROUPS[0]] = False
    observed[:, 5] = False
    out = network(Batch(x=x, observed=observed))
    by_value = out.p_x.log_prob(x)
    kept = by_value[:, [0, 4, 6, 7]].sum(1)
    torch.testing.assert_close(out.log_likelihood, kept)
    other = x.clone()
    other[:, GROUPS[0]], other[:, 5] = 0.25, 9.0
    told = Output(Batch(x=other, observed=observed), out.seen, out.latent, out.p_x)
    torch.testing.assert_close(told.log_likelihood, kept)


def test_the_mean_and_draws() -> None:
    params = torch.randn(3, 8)
    p = COLUMN_LIKELIHOODS["mixed"](TABLE)(params)
    torch.testing.assert_close(p.mean[:, GROUPS[0]], params[:, GROUPS[0]].softmax(1))
    torch.testing.assert_close(p.mean[:, 4], params[:, 4].sigmoid())
    torch.testing.assert_close(p.mean[:, [0, 5]], params[:, [0, 5]])
    draws = p.sample((4000,))
    torch.testing.assert_close(draws.mean(0), p.mean, atol=0.1, rtol=0)
    for group in GROUPS:
        assert torch.equal(draws[..., group].sum(-1), torch.ones(4000, 3))


def test_it_trains_every_sigma_and_stays_above_the_minimum() -> None:
    likelihood = MixedLikelihood(TABLE, minimum=0.5)
    p = likelihood(torch.randn(6, 8))
    (-p.log_prob(rows(6)).sum()).backward()
    assert likelihood.log_sigma.grad is not None
    assert likelihood.log_sigma.grad.ne(0).all()
    with torch.no_grad():
        likelihood.log_sigma.fill_(-9.0)
    p = likelihood(torch.zeros(1, 8))
    assert isinstance(p, MixedDistribution)
    assert p.log_prob(torch.zeros(1, 8))[0, 0].item() == pytest.approx(-math.log(0.5) - 0.5 * math.log(2 * math.pi))


def test_a_table_of_numbers_alone_is_gaussian() -> None:
    spec = DataSpec(shape=(3,), kind="vector", size=9, columns=[Column(name, "numeric") for name in "abc"])
    params, x = torch.randn(2, 5, 3)
    found = MixedLikelihood(spec, scope="fixed", sigma=0.7)(params).log_prob(x)
    torch.testing.assert_close(found, LIKELIHOODS["gaussian_fixed"](spec)(params).log_prob(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "value"}, "scope must be column or fixed, not 'value'"),
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"minimum": 0.0}, "minimum must be above 0"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MixedLikelihood(TABLE, **options)  # type: ignore[arg-type]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UserError, match="only a table has some: use datamodule=table"):
        MixedLikelihood(DataSpec(shape=(3,), kind="vector", size=9))
