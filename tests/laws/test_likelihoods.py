"""A likelihood is a normalised density over its support, whatever the decoder gives."""

from __future__ import annotations

import math

import pytest
import torch
from instances import IMAGE, LIKELIHOODS

from narrows.errors import UserError
from narrows.likelihoods.continuous_bernoulli import ContinuousBernoulli
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.types import DataSpec

SCALAR = DataSpec(shape=(1, 1, 1), kind="image", size=1, value_range=(0.0, 1.0))


MASSES = {"bernoulli", "categorical"}


def far_out(name: str, *further: float) -> torch.Tensor:
    """What a decoder may give: what it begins with, and what it is driven to by black and white pixels."""
    shape = LIKELIHOODS[name](SCALAR).out_shape
    scales = torch.tensor([0.0, 1e-4, 0.3, 1.0, 5.0, 17.0, 30.0, 60.0, *further])
    signs = torch.cat([torch.ones(1, *shape), -torch.ones(1, *shape), torch.randn(2, *shape).sign()])
    return (scales[:, None, None, None, None] * signs).flatten(0, 1)


@pytest.mark.parametrize("name", sorted(set(LIKELIHOODS) - MASSES))
def test_densities_integrate_to_one(name: str) -> None:
    likelihood = LIKELIHOODS[name](SCALAR).eval()
    for raw in far_out(name):
        p = likelihood(raw[None])
        grid = torch.linspace(0, 1, 200_001, dtype=torch.float64)
        if not likelihood.within_unit:
            # Of the outermost, whose tails fall as exp(-|x|), less than exp(-28) is left out.
            grid = p.mean.double().flatten() + (2 * grid - 1) * 20 * p.stddev.double().flatten()
        density = p.log_prob(grid.reshape(-1, 1, 1, 1)).flatten().double().exp()
        assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=2e-3), raw.flatten()


@pytest.mark.parametrize("name", sorted(MASSES))
def test_masses_sum_to_one(name: str) -> None:
    raw = far_out(name)
    p = LIKELIHOODS[name](SCALAR)(raw)
    values = torch.linspace(0, 1, 2 if name == "bernoulli" else 8)
    total = sum(p.log_prob(torch.full((len(raw), 1, 1, 1), float(v))).exp() for v in values)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_are_finite_however_far_out(name: str) -> None:
    raw = torch.cat([far_out(name), far_out(name, 1e6)]).requires_grad_()
    for value in (0.0, 0.3, 1.0):
        p = LIKELIHOODS[name](SCALAR).eval()(raw)
        nats = p.log_prob(torch.full((len(raw), 1, 1, 1), value))
        (gradient,) = torch.autograd.grad(nats.sum() + p.mean.sum(), raw)
        assert torch.isfinite(nats).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_shapes_and_the_mean(name: str) -> None:
    likelihood = LIKELIHOODS[name](IMAGE).eval()
    p = likelihood(torch.randn(3, *likelihood.out_shape))
    x = torch.rand(3, *IMAGE.shape)
    assert p.mean.shape == p.log_prob(x).shape == x.shape
    draws = torch.stack([p.sample() for _ in range(400)])
    torch.testing.assert_close(draws.mean(0), p.mean, atol=0.35, rtol=0)
    assert draws.shape[1:] == x.shape


LOGITS = (0.0, 1e-4, 0.0041, 0.019, 0.021, 0.4999, 0.5001, 3.0, 17.0, 30.0, 60.0, 300.0)


@pytest.mark.parametrize("logit", [sign * logit for logit in LOGITS for sign in (1, -1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_continuous_bernoulli_s_moments_are_its_density_s(logit: float, dtype: torch.dtype) -> None:
    raw = torch.tensor(logit, dtype=dtype, requires_grad=True)
    p = ContinuousBernoulli(raw)
    grid = torch.linspace(0, 1, 400_001, dtype=torch.float64)
    density = ContinuousBernoulli(raw.detach().double()).log_prob(grid).exp()
    mean = torch.trapezoid(grid * density, grid)
    variance = torch.trapezoid((grid - mean).square() * density, grid)
    near = {"rtol": 1e-5, "atol": 0.0, "check_dtype": False}
    torch.testing.assert_close(p.mean, mean, **near)
    torch.testing.assert_close(p.variance, variance, **near)
    for x in (0.0, 0.3, 1.0):
        (slope,) = torch.autograd.grad(p.log_prob(torch.tensor(x, dtype=dtype)), raw)
        torch.testing.assert_close(slope, x - mean, rtol=1e-5, atol=1e-6, check_dtype=False)
    (slope,) = torch.autograd.grad(p.mean, raw)
    torch.testing.assert_close(slope, variance, rtol=1e-4, atol=1e-6, check_dtype=False)
    below = torch.cumulative_trapezoid(density, grid)
    for share in (0.01, 0.5, 0.9):
        place = grid[1:][torch.searchsorted(below, torch.tensor(share, dtype=torch.float64))]
        found = p.icdf(torch.tensor(share, dtype=dtype))
        torch.testing.assert_close(found, place, rtol=1e-4, atol=1e-5, check_dtype=False)
    draws = p.sample((20_000,))
    assert abs(draws.double().mean() - mean) < 5 * (variance / 20_000).sqrt()


def test_the_continuous_bernoulli_is_torch_s_where_that_is_right() -> None:
    logits, x = 10 * torch.rand(1000).double() - 5, torch.rand(1000).double()
    logits = torch.where(logits.abs() < 0.1, torch.ones_like(logits), logits)
    expected = torch.distributions.ContinuousBernoulli(logits=logits).log_prob(x)
    torch.testing.assert_close(ContinuousBernoulli(logits).log_prob(x), expected)


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


def test_the_stored_sigma_is_an_average_over_batches() -> None:
    likelihood = LIKELIHOODS["gaussian_optimal"].func(IMAGE, momentum=0.25)
    mean = torch.zeros(4, *IMAGE.shape)
    expected = 1.0
    for sigma in (3.0, 0.5, 2.0):
        likelihood(mean).log_prob(mean + sigma)
        expected += 0.25 * (sigma - expected)
    assert likelihood.sigma.item() == pytest.approx(expected, rel=1e-5)


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
