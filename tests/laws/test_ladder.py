"""A ladder's densities and divergences level by level, against the product of Gaussians by hand."""

from __future__ import annotations

import pytest
import torch
from instances import batch, model
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from narrows.bottlenecks.gaussian import Gaussian
from narrows.bottlenecks.ladder import Ladder
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.divergence import KL, posterior_kl
from narrows.losses.importance import ImportanceWeighted
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.types import row_sums

SHAPES = [(7,), (7, 4), (7, 2, 3)]


def ladder(shape: tuple[int, ...] = (7,), dims: tuple[int, ...] = (4, 3, 2)) -> Ladder:
    """Away from initialisation, where many wrong formulas agree."""
    found = Ladder(shape, dims=dims, hidden=[6])
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.uniform_(-0.6, 0.6)
    return found


def gaussian(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance."""
    mean, log_variance = parameters.chunk(2, -1)
    return mean, log_variance.exp()


def by_hand(net: Ladder, h: Tensor, z: Tensor) -> list[tuple[Normal, Normal]]:
    """Posterior and prior of the three levels, top first, for one example `[7]` and one z `[9]`."""
    d2 = net.rises[0](h)
    d3 = net.rises[1](d2)
    low, middle, high = z.split([4, 3, 2])
    del low
    mean, variance = gaussian(net.guesses[2](d3))
    found = [(Normal(mean, variance.sqrt()), Normal(torch.zeros(2), torch.ones(2)))]
    for guess, fall, features, above in ((1, 0, d2, high), (0, 1, h, middle)):
        m1, v1 = gaussian(net.guesses[guess](features))
        m2, v2 = gaussian(net.falls[fall](above))
        variance = 1 / (1 / v1 + 1 / v2)
        found.append((Normal((m1 / v1 + m2 / v2) * variance, variance.sqrt()), Normal(m2, v2.sqrt())))
    return found


def test_densities_and_divergences_level_by_level() -> None:
    net, h = ladder(), torch.randn(5, 7)
    latent = net(h)
    z = latent.posterior.rsample((3,))
    found = [law.log_prob(z) for law in (latent.posterior, latent.prior)]
    assert found[0].shape == found[1].shape == (3, 5)
    for s in range(3):
        for b in range(5):
            pieces = z[s, b].split([4, 3, 2])[::-1]
            laws = by_hand(net, h[b], z[s, b])
            for which in (0, 1):
                parts = [pair[which].log_prob(piece).sum() for pair, piece in zip(laws, pieces, strict=True)]
                torch.testing.assert_close(found[which][s, b], torch.stack(parts).sum(), rtol=1e-4, atol=1e-4)
    kl = posterior_kl(latent)
    assert kl.shape == latent.z.shape
    for b in range(5):
        levels = [kl_divergence(*pair) for pair in by_hand(net, h[b], latent.z[b])]
        torch.testing.assert_close(kl[b], torch.cat(levels[::-1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kl_is_unbiased_and_steadier_than_the_draw(shape: tuple[int, ...]) -> None:
    net, h = ladder(shape), torch.randn(1, *shape)
    with torch.no_grad():
        latent = net(h.expand(6000, *shape))
        kl = row_sums(posterior_kl(latent))
        drawn = row_sums(latent.posterior.log_prob(latent.z) - latent.prior.log_prob(latent.z))
        other = net(h)
        z = other.posterior.sample((6000,))
        fresh = (other.posterior.log_prob(z) - other.prior.log_prob(z)).reshape(6000, -1).sum(1)
    for values in (drawn, fresh):
        error = ((kl.var() + values.var()) / 6000).sqrt()
        assert (kl.mean() - values.mean()).abs() < 5 * error
        assert kl.var() < 0.5 * values.var()


@pytest.mark.parametrize("shape", SHAPES)
def test_one_level_is_the_gaussian_bottleneck(shape: tuple[int, ...]) -> None:
    one, plain = Ladder(shape, dims=[5]), Gaussian(shape, dim=5)
    plain.projection.load_state_dict(one.guesses[0].state_dict())
    h, found = torch.randn(3, *shape), []
    for bottleneck in (one, plain):
        torch.manual_seed(2)
        latent = bottleneck(h)
        values = latent.posterior.log_prob(latent.z).reshape(3, -1).sum(1)
        found.append((row_sums(posterior_kl(latent)), values, latent.point))
        # The noise is laid out channels last there, so positions get others' draws.
        if len(shape) == 1:
            found[-1] = (*found[-1], latent.z)
    kinds = list(zip(*found, strict=True))
    for number, (a, b) in enumerate(kinds):
        if number != 1 or len(shape) == 1:
            torch.testing.assert_close(a, b)


def test_draws_of_the_prior_follow_it() -> None:
    net = ladder()
    z = net.sample_prior(20_000)
    assert z.shape == (20_000, 9)
    with torch.no_grad():
        above = z[:, 4:7]
        mean, variance = gaussian(net.falls[1](above))
        standard = (z[:, :4] - mean) / variance.sqrt()
    assert standard.mean(0).abs().max() < 0.05
    torch.testing.assert_close(standard.T @ standard / len(z), torch.eye(4), atol=0.05, rtol=0)
    torch.testing.assert_close(z[:, 7:].std(0), torch.ones(2), atol=0.05, rtol=0)
    assert ladder((7, 2, 3)).sample_prior(4).shape == (4, 9, 2, 3)


def test_the_point_follows_the_means_down() -> None:
    net, h = ladder(), torch.randn(1, 7)
    point = net(h).point[0]
    means = [pair[0].mean for pair in by_hand(net, h[0], point)]
    torch.testing.assert_close(point, torch.cat(means[::-1]))
    assert torch.equal(net(h).point, net(h).point)


@pytest.mark.parametrize("term", [KL(), KL(free_bits=0.05), ImportanceWeighted(samples=3, doubly=True)])
def test_every_parameter_learns(term: torch.nn.Module) -> None:
    net = model(bottleneck=lambda s: Ladder(s, dims=[4, 3, 2], hidden=[]))
    Objective({"reconstruction": NegativeLogLikelihood(), "other": term})(net(batch()), net).total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


def test_no_level_is_refused() -> None:
    for dims in ([], [4, 0], [4.5]):
        with pytest.raises(UserError, match="bottleneck ladder needs dims as a list of whole positive numbers"):
            Ladder((7,), dims=dims)  # type: ignore[arg-type]
