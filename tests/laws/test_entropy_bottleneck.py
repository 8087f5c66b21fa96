"""Latents made to be rounded: their density, their noise, and that the KL is what rounded latents cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic

from narrows.bottlenecks.entropy import EntropyBottleneck, SmoothedLogistics
from narrows.coding.ans_entropy_coder import encode, fit_table
from narrows.corruptions import NoCorruption
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder

SHAPES = [(7,), (7, 4), (7, 2, 3)]


def density(shape: tuple[int, ...] = ()) -> SmoothedLogistics:
    """Two latents of three logistics, narrow and wide."""
    logits = torch.tensor([[0.3, -1.0, 0.5], [2.0, 0.0, 0.1]], dtype=torch.float64)
    mean = torch.tensor([[-3.0, 0.2, 5.0], [0.0, 0.5, -0.4]], dtype=torch.float64)
    scale = torch.tensor([[0.05, 1.0, 2.5], [0.3, 0.01, 4.0]], dtype=torch.float64)
    return SmoothedLogistics(logits, mean, scale, shape)


def test_the_density_is_a_box_around_a_mixture_of_logistics() -> None:
    p, z = density(), torch.linspace(-9, 9, 37, dtype=torch.float64).repeat(2, 1).t()
    shares = p.logits.softmax(1).numpy()
    for latent in range(2):
        ends = [logistic.cdf(z[:, :1].numpy() + side, p.centre[latent], p.scale[latent]) for side in (0.5, -0.5)]
        expected = ((ends[0] - ends[1]) * shares[latent]).sum(1)
        np.testing.assert_allclose(p.log_prob(z).exp()[:, latent], expected, rtol=1e-9, atol=1e-15)


def test_it_sums_to_one_at_the_whole_numbers_and_integrates_to_one_between() -> None:
    p = density()
    for shift in (0.0, 0.3):
        whole = (torch.arange(-400, 401, dtype=torch.float64) + shift).repeat(2, 1).t()
        torch.testing.assert_close(p.log_prob(whole).exp().sum(0), torch.ones(2, dtype=torch.float64))


def test_far_from_everything_it_is_small_and_finite_and_has_a_gradient() -> None:
    far = torch.tensor([[3000.0, -3000.0]], requires_grad=True)
    log_prob = SmoothedLogistics(*(part.float() for part in vars_of(density())), ()).log_prob(far)
    assert (log_prob < -500).all()
    (slope,) = torch.autograd.grad(log_prob.sum(), far)
    # As an exponential of the widest logistic falls.
    torch.testing.assert_close(slope, torch.tensor([[-1 / 2.5, 1 / 4.0]]))


def vars_of(p: SmoothedLogistics) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return p.logits, p.centre, p.scale


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_follow_the_density_at_every_position(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    p = density(shape[1:])
    drawn = p.sample((40_000,))
    assert drawn.shape == (40_000, 2, *shape[1:])
    assert p.log_prob(drawn).shape == drawn.shape
    cells = torch.arange(-8, 9, dtype=torch.float64)
    expected = density().log_prob(cells.repeat(2, 1).t()).exp()
    at_first = drawn.flatten(2)[:, :, 0] if len(shape) > 1 else drawn
    found = torch.stack([(at_first.round() == cell).double().mean(0) for cell in cells])
    # A whole number's density is the chance of its cell before the box, so count what lies under the triangle of both.
    fine = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    inside = torch.stack([density().log_prob((cell + fine).repeat(2, 1).t()).exp().mean(0) for cell in cells])
    torch.testing.assert_close(found, inside, atol=0.012, rtol=0)
    assert not torch.allclose(found, expected, atol=0.012, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_noise_is_less_than_half_a_step_and_the_kl_is_minus_log_p(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    bottleneck = EntropyBottleneck(shape, dim=3)
    h = 1e4 * torch.randn(500, *shape)
    latent = bottleneck(h)
    assert ((latent.z - latent.point).abs() <= 0.5 + 1e-2).all()
    assert torch.isfinite(latent.divergence()).all()
    latent = bottleneck(torch.randn(500, *shape))
    noise = (latent.z - latent.point).flatten()
    torch.testing.assert_close(noise.var().item(), 1 / 12, atol=0.004, rtol=0)
    torch.testing.assert_close(latent.divergence(), -latent.prior.log_prob(latent.z), atol=1e-4, rtol=0)


def test_the_kl_is_what_the_rounded_latents_cost_in_a_file() -> None:
    """At the density that makes the latents likeliest: within a few percent, for the noise is not the rounding."""
    torch.manual_seed(0)
    bottleneck = EntropyBottleneck((2,), dim=2, components=2)
    h = torch.randn(4000, 2)
    prior = [bottleneck.logits, bottleneck.mean, bottleneck.log_scale]
    optimizer = torch.optim.Adam(prior, lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        bottleneck(h).divergence().mean().backward()
        optimizer.step()
    latent = bottleneck(h)
    bits = latent.divergence().sum().item() / math.log(2)
    streams = [values.numpy().astype(np.int64) for values in latent.point.detach().round().t()]
    code = encode(streams, [fit_table(values) for values in streams])
    assert 8 * len(code) == pytest.approx(bits, rel=0.03)


@pytest.mark.parametrize("options", [{"dim": 0}, {"components": 0}, {"spread": 0.0}, {"gain": 0.0}])
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"bottleneck entropy: {next(iter(options))} must be"):
        EntropyBottleneck((7,), **options)  # type: ignore[arg-type]


def test_a_density_that_nothing_trains_is_refused() -> None:
    with pytest.raises(UserError, match="bottleneck EntropyBottleneck has a prior that none of the loss terms"):
        Objective({"reconstruction": NegativeLogLikelihood()}).check(Autoencoder, EntropyBottleneck((4,)), NoCorruption)
