"""A likelihood is a normalised density over its support, whatever the decoder gives."""

from __future__ import annotations

import math

import pytest
import torch
from instances import IMAGE, LIKELIHOODS

from narrows.errors import UserError
from narrows.likelihoods.elementwise import GaussianLikelihood
from narrows.types import DataSpec

SCALAR = DataSpec(shape=(1, 1, 1), kind="image", size=1, value_range=(0.0, 1.0))


def params(name: str, n: int = 7) -> torch.Tensor:
    likelihood = LIKELIHOODS[name](SCALAR)
    return torch.randn(n, *likelihood.out_shape)


@pytest.mark.parametrize(
    "name", ["continuous_bernoulli", "gaussian_fixed", "gaussian_shared", "gaussian_value", "laplace"]
)
def test_densities_integrate_to_one(name: str) -> None:
    p = LIKELIHOODS[name](SCALAR)(params(name).double())
    low, high = (0.0, 1.0) if name == "continuous_bernoulli" else (-40.0, 40.0)
    grid = torch.linspace(low, high, 200_001, dtype=torch.float64)
    for i in range(7):
        density = p.log_prob(grid.reshape(-1, 1, 1, 1, 1))[:, i].flatten().exp()
        assert torch.trapezoid(density.double(), grid).item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_masses_sum_to_one(name: str) -> None:
    p = LIKELIHOODS[name](SCALAR)(params(name))
    values = torch.linspace(0, 1, 2 if name == "bernoulli" else 8)
    total = sum(p.log_prob(torch.full((7, 1, 1, 1), float(v))).exp() for v in values)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_shapes_and_the_mean(name: str) -> None:
    likelihood = LIKELIHOODS[name](IMAGE).eval()
    p = likelihood(torch.randn(3, *likelihood.out_shape))
    x = torch.rand(3, *IMAGE.shape)
    assert p.mean.shape == p.log_prob(x).shape == x.shape
    draws = torch.stack([p.sample() for _ in range(400)])
    torch.testing.assert_close(draws.mean(0), p.mean, atol=0.35, rtol=0)
    assert draws.shape[1:] == x.shape


def test_gaussian_with_half_variance_is_the_sum_of_squares_and_a_constant() -> None:
    likelihood = LIKELIHOODS["gaussian_fixed"].func(IMAGE, sigma=math.sqrt(0.5))
    mean, x = torch.randn(2, 4, *IMAGE.shape)
    nats = -likelihood(mean).log_prob(x)
    torch.testing.assert_close(nats, (x - mean).square() + 0.5 * math.log(math.pi))


def test_bernoulli_is_binary_cross_entropy() -> None:
    logits, x = torch.randn(4, *IMAGE.shape), torch.rand(4, *IMAGE.shape)
    p = LIKELIHOODS["bernoulli"](IMAGE)(logits)
    expected = torch.nn.functional.binary_cross_entropy(logits.sigmoid(), x, reduction="none")
    torch.testing.assert_close(-p.log_prob(x), expected, rtol=1e-4, atol=1e-5)


def test_optimal_sigma_is_the_best_one_in_training_and_fixed_in_evaluation() -> None:
    likelihood = LIKELIHOODS["gaussian_optimal"](IMAGE)
    mean, x = torch.randn(2, 64, *IMAGE.shape)
    best = -likelihood(mean).log_prob(x).sum()
    for factor in (0.9, 1.1):
        sigma = (x - mean).square().mean().sqrt() * factor
        assert -torch.distributions.Normal(mean, sigma).log_prob(x).sum() > best
    for _ in range(200):
        likelihood(mean).log_prob(x)
    likelihood.eval()
    before = likelihood.sigma.clone()
    torch.testing.assert_close(before, (x - mean).square().mean().sqrt(), rtol=1e-3, atol=0)
    one = likelihood(mean[:1]).log_prob(x[:1])
    torch.testing.assert_close(one, likelihood(mean).log_prob(x)[:1])
    assert torch.equal(before, likelihood.sigma)


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli"])
@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0), None])
def test_data_outside_the_support_are_refused(name: str, value_range: tuple[float, float] | None) -> None:
    spec = DataSpec(shape=(1, 8, 8), kind="image", size=1, value_range=value_range)
    with pytest.raises(UserError, match=r"needs data inside \[0, 1\]"):
        LIKELIHOODS[name](spec)


def test_categorical_needs_a_range() -> None:
    with pytest.raises(UserError, match="smallest and a largest"):
        LIKELIHOODS["categorical"](DataSpec(shape=(2, 9), kind="series", size=1))


def test_a_sigma_for_every_value_is_the_decoder_s_softplus_above_the_minimum() -> None:
    likelihood = GaussianLikelihood(SCALAR, scope="value", minimum=0.25)
    raw = torch.tensor([-100.0, 0.0, 3.0]).reshape(3, 1, 1, 1)
    sigma = likelihood(torch.cat([torch.zeros_like(raw), raw], 1)).stddev
    torch.testing.assert_close(sigma, 0.25 + (1 + raw.exp()).log())
