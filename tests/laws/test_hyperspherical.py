"""The sphere: Bessel functions, the von Mises-Fisher distribution and its derivatives against slow oracles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from instances import LOSSES, batch, model
from scipy import integrate, special
from torch import Tensor
from torch.distributions import kl_divergence

from narrows.bottlenecks._bessel import bessel
from narrows.bottlenecks._positions import AtPositions
from narrows.bottlenecks.hyperspherical import Hyperspherical
from narrows.bottlenecks.von_mises_fisher import HypersphericalUniform, VonMisesFisher, log_area, quantile_slope
from narrows.losses.divergence import posterior_kl

DIMS = (2, 3, 4, 11, 50)


def vmf(m: int, kappa: float | Tensor, dtype: torch.dtype = torch.float64) -> VonMisesFisher:
    concentration = torch.as_tensor(kappa, dtype=dtype)
    direction = F.normalize(torch.randn(*concentration.shape, m, dtype=dtype), dim=-1)
    return VonMisesFisher(direction, concentration)


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0, 4.5, 11.9, 12.0, 24.0, 60.5])
def test_bessel_functions_against_scipy(nu: float) -> None:
    k = torch.tensor([1e-3, 0.1, 1.0, 5.0, 30.0, 200.0, 1e4], dtype=torch.float64, requires_grad=True)
    log, ratio = bessel(nu, k)
    scaled, above = special.ive(nu, k.detach().numpy()), special.ive(nu + 1, k.detach().numpy())
    sound = torch.from_numpy(scaled) > 1e-200  # below, scipy's own underflows
    expected = torch.from_numpy(scaled).log() + k - nu * k.log()
    torch.testing.assert_close(log[sound], expected[sound], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ratio[sound], torch.from_numpy(above / scaled)[sound], rtol=1e-10, atol=0)
    (slope,) = torch.autograd.grad(log.sum(), k, create_graph=True)
    torch.testing.assert_close(slope, ratio)
    moved = [bessel(nu, k.detach() * (1 + sign * 1e-4))[1] for sign in (1, -1)]
    second = (moved[0] - moved[1]) / (2e-4 * k.detach())
    torch.testing.assert_close(torch.autograd.grad(slope.sum(), k)[0], second, rtol=1e-4, atol=1e-12)
    (third,) = torch.autograd.grad(bessel(nu, k)[1].sum(), k)
    torch.testing.assert_close(third, second, rtol=1e-4, atol=1e-12)


# By mpmath 1.3 with 40 digits: log I_nu(k) and I_{nu+1}(k) / I_nu(k), where scipy's functions are 0 or infinite.
MPMATH = [
    (300.0, 1e-2, -3004.40105982642251, 0.0000166112956764946606),
    (150.0, 1e-3, -1745.15547477908041, 3.31125827810962822e-6),
    (40.0, 1e6, 999992.172506312413, 0.9999595007998758),
    (9.0, 1e5, 99993.3241949822917, 0.999905004037540367),
]


@pytest.mark.parametrize(("nu", "k", "log", "ratio"), MPMATH)
def test_bessel_functions_where_scipy_has_none(nu: float, k: float, log: float, ratio: float) -> None:
    found = bessel(nu, torch.tensor(k, dtype=torch.float64))
    assert float(found[0]) + nu * math.log(k) == pytest.approx(log, rel=1e-12)
    assert float(found[1]) == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize("m", DIMS)
def test_densities_integrate_to_one_over_the_sphere(m: int) -> None:
    """`|S^{m-2}| int p(w) (1 - w^2)^{(m-3)/2} dw`, in the angle."""
    for kappa in (0.0, 0.5, 20.0):
        law = vmf(m, kappa)
        aside = F.normalize(torch.randn(m, dtype=torch.float64), dim=0)
        aside = F.normalize(aside - (aside @ law.direction) * law.direction, dim=0)

        def over(angle: float, law: VonMisesFisher = law, aside: Tensor = aside) -> float:
            z = math.cos(angle) * law.direction + math.sin(angle) * aside
            return math.exp(float(law.log_prob(z))) * math.sin(angle) ** (m - 2)

        ring = log_area(m - 1) if m > 2 else math.log(2)
        total = integrate.quad(over, 0, math.pi, epsabs=0, epsrel=1e-9)[0] * math.exp(ring)
        assert total == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("m", DIMS)
def test_draws_have_the_moments_of_the_distribution(m: int, kappa: float) -> None:
    law, n = vmf(m, kappa), 20_000
    z = law.rsample((n,))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(n, dtype=torch.float64))
    w = z @ law.direction
    nu, k = m / 2 - 1, torch.tensor(kappa, dtype=torch.float64)
    mean = bessel(nu, k)[1]
    variance = 1 - mean**2 - (m - 1) * (mean / k if kappa else torch.tensor(1.0 / m))
    assert (w.mean() - mean).abs() < 5 * w.std() / math.sqrt(n)
    fourth = ((w - w.mean()) ** 2).std() / math.sqrt(n)
    assert (w.var() - variance).abs() < 5 * fourth + 1e-12
    torch.testing.assert_close(law.mean, mean * law.direction)
    tangent = F.normalize(z - w[:, None] * law.direction, dim=-1)
    if m > 2:
        # Uniform among the directions orthogonal to mu: zero mean, covariance (I - mu mu^T) / (m - 1).
        projector = torch.eye(m, dtype=torch.float64) - torch.outer(law.direction, law.direction)
        torch.testing.assert_close(tangent.T @ tangent / n, projector / (m - 1), atol=6 / math.sqrt(n * m), rtol=0)
    assert tangent.mean(0).norm() < 5 / math.sqrt(n)


@pytest.mark.parametrize("m", DIMS)
def test_kl_against_monte_carlo_and_without_concentration(m: int) -> None:
    for kappa in (0.01, 3.0, 100.0):
        law = vmf(m, kappa)
        uniform = HypersphericalUniform(law.direction)
        z = law.rsample((20_000,))
        drawn = law.log_prob(z) - uniform.log_prob(z)
        kl = kl_divergence(law, uniform)
        assert (kl - drawn.mean()).abs() < 5 * drawn.std() / math.sqrt(len(z)) + 1e-12
        assert kl > 0
    nothing = vmf(m, 0.0)
    uniform = HypersphericalUniform(nothing.direction)
    assert float(kl_divergence(nothing, uniform)) == pytest.approx(0, abs=1e-12)
    z = uniform.sample((5,))
    torch.testing.assert_close(nothing.log_prob(z), uniform.log_prob(z))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(5, dtype=torch.float64))


def _parts(density: Callable[..., float], angle: float, mean: float, spread: float, kappa: float) -> list[float]:
    """The integrals on both sides of the angle."""
    ends = [(0, angle), (angle, min(max(angle, math.acos(mean)) + 12 * spread, math.pi))]
    return [integrate.quad(density, *end, args=(kappa,), epsabs=0, epsrel=1e-12, limit=200)[0] for end in ends]


@pytest.mark.parametrize(("m", "kappa"), list(itertools.product((2, 3, 4, 11, 50), (0.1, 5.0, 300.0))))
def test_the_derivative_of_a_draw_is_that_of_its_quantile(m: int, kappa: float) -> None:
    """`dw/dkappa = -(dF/dkappa) / f` by adaptive quadrature and differences of the distribution function."""
    k = torch.tensor([kappa], dtype=torch.float64)
    mean = bessel(m / 2 - 1, k)[1]
    spread = 1 / math.sqrt(kappa + m)
    for w in (float(mean) - spread, float(mean), min(float(mean) + spread / 2, 1 - 1e-4)):
        w = max(w, -0.99)
        angle = math.acos(w)

        def density(s: float, kappa: float, w: float = w) -> float:
            return math.exp(kappa * (math.cos(s) - w)) * math.sin(s) ** (m - 2)

        def above(kappa: float, angle: float = angle, density: Callable[..., float] = density) -> float:
            right, left = _parts(density, angle, float(mean), spread, kappa)
            return right / (right + left)

        step = 1e-4 * kappa
        sums = [above(kappa + sign * step) for sign in (1, -1)]
        total = sum(_parts(density, angle, float(mean), spread, kappa))
        # dF/dkappa = -d above / dkappa, and f(w) = density(angle) / sin(angle) / total.
        expected = (sums[0] - sums[1]) / (2 * step) * total * math.sin(angle) / density(angle, kappa)
        found = quantile_slope(k, mean, torch.tensor([w], dtype=torch.float64), m)
        assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("m", "kappa"), [(2, 1.0), (3, 5.0), (11, 30.0), (50, 100.0)])
def test_gradients_of_expectations_by_kappa(m: int, kappa: float) -> None:
    """`d/dkappa E[w] = A'(kappa)` and `d/dkappa E[w^2]`, from draws; rejected proposals must leave no trace."""
    k = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
    direction = F.normalize(torch.randn(m, dtype=torch.float64), dim=0)
    kappas = k.expand(20_000).clone()
    w = VonMisesFisher(direction.expand(20_000, m), kappas).rsample() @ direction
    mean = bessel(m / 2 - 1, k)[1]
    second = 1 - (m - 1) * mean / k
    for values, exact in ((w, mean), (w.square(), second)):
        (slopes,) = torch.autograd.grad(values.sum(), kappas, retain_graph=True)
        (expected,) = torch.autograd.grad(exact, k, retain_graph=True)
        assert (slopes.mean() - expected).abs() < 5 * slopes.std() / math.sqrt(20_000)
        assert slopes.std() / math.sqrt(20_000) < 0.05 * expected.abs()


def test_gradients_of_expectations_by_the_direction() -> None:
    """`E[a.z] = A a.mu`."""
    raw = torch.randn(5, dtype=torch.float64, requires_grad=True)
    a = torch.randn(5, dtype=torch.float64)
    direction = F.normalize(raw, dim=0)
    law = VonMisesFisher(direction, torch.tensor(4.0, dtype=torch.float64))
    (found,) = torch.autograd.grad((law.rsample((50_000,)) @ a).mean(), raw, retain_graph=True)
    (expected,) = torch.autograd.grad(law.mean @ a, raw)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("kappa", [1e-6, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("m", [2, 11, 50])
def test_float32_is_enough_at_every_concentration(m: int, kappa: float) -> None:
    concentration = torch.full((64,), kappa, requires_grad=True)
    law = VonMisesFisher(F.normalize(torch.randn(64, m), dim=-1), concentration)
    uniform = HypersphericalUniform(law.direction)
    z, kl = law.rsample(), kl_divergence(law, uniform)
    assert z.dtype == kl.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(64), atol=1e-5, rtol=0)
    drawn = law.log_prob(z) - uniform.log_prob(z)
    # log q of a draw is the mode's less about a chi-square of m - 1.
    assert ((drawn - kl).abs() < 6 * math.sqrt(m) + 0.05 * kl).all()
    (z.sum() + kl.sum()).backward()
    assert torch.isfinite(concentration.grad).all()


@pytest.mark.parametrize("shape", [(7,), (7, 4), (7, 2, 3)])
def test_a_map_has_a_sphere_at_every_position(shape: tuple[int, ...]) -> None:
    bottleneck = Hyperspherical(shape, dim=3)
    latent = bottleneck(torch.randn(2, *shape))
    assert isinstance(latent.posterior, AtPositions)
    ones = torch.ones(2, *shape[1:])
    for values in (latent.z, latent.point, latent.posterior.rsample((4,))[3]):
        torch.testing.assert_close(values.norm(dim=1), ones)
    assert posterior_kl(latent).shape == ones.shape
    torch.testing.assert_close(latent.point, latent.posterior.laid_out(latent.posterior.vectors.mode))
    draws = bottleneck.sample_prior(5)
    assert draws.shape == (5, *bottleneck.out_shape)
    torch.testing.assert_close(draws.norm(dim=1), torch.ones(5, *shape[1:]))
    assert latent.posterior.log_prob(latent.posterior.sample((4,))).shape == (4, *ones.shape)


def test_the_same_seed_gives_the_same_draws_and_every_parameter_learns() -> None:
    net, data, drawn = model(bottleneck=lambda s: Hyperspherical(s, dim=3)), batch(), []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(net(data).latent.z)
    assert torch.equal(*drawn)
    LOSSES["elbo"]()(net(data), net).total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("shape", [(7,), (7, 4)])
def test_near_the_uniform_distribution_the_projection_is_the_mean_of_z(shape: tuple[int, ...]) -> None:
    """So a collapsed posterior can come back."""
    bottleneck = Hyperspherical(shape, dim=6)
    with torch.no_grad():
        for parameter in bottleneck.parameters():
            parameter.mul_(0.01)
    h = torch.randn(3, *shape)
    latent = bottleneck(h)
    torch.testing.assert_close(latent.posterior.mean, bottleneck.projection(h), rtol=1e-2, atol=1e-5)
    slopes = torch.autograd.grad(latent.posterior.mean.sum(), bottleneck.projection.bias)[0]
    torch.testing.assert_close(slopes, torch.full((6,), 3.0 * math.prod(shape[1:])), rtol=1e-2, atol=0)
    with torch.no_grad():
        for parameter in bottleneck.parameters():
            parameter.zero_()
    nothing = bottleneck(h)
    (nothing.z.sum() + posterior_kl(nothing).sum()).backward()
    assert float(posterior_kl(nothing).detach().abs().max()) < 1e-6
    torch.testing.assert_close(nothing.z.norm(dim=1), torch.ones(3, *shape[1:]))
    assert all(torch.isfinite(p.grad).all() for p in bottleneck.parameters())
