"""Flows in posterior and prior: inverses, determinants and densities against slow oracles, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from instances import batch, model
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.func import jacrev, vmap

from narrows.bottlenecks._flows import STEEPEST, Planar, chain
from narrows.bottlenecks._pushforward import Pushforward
from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.flow import FlowPosterior, FlowPrior
from narrows.errors import UserError
from narrows.losses.divergence import posterior_kl
from narrows.losses.importance import ImportanceWeighted
from narrows.types import ReparameterisedLatent, VariationalLatent

FLOWS = ("iaf", "maf", "nsf", "planar")
SHAPES = [(7,), (7, 4), (7, 2, 3)]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def spread(module: torch.nn.Module, width: float = 0.5) -> torch.nn.Module:
    """Away from initialisation, where the maps are near the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-width, width)
    return module


def posterior(flow: str, shape: tuple[int, ...] = (7,), dim: int = 3, width: float = 0.5) -> FlowPosterior:
    found = FlowPosterior(shape, dim=dim, flow=flow, hidden=[8])  # type: ignore[arg-type]
    return spread(found, width)  # type: ignore[return-value]


def _parameters(found: FlowPosterior | FlowPrior, h: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = found.gaussian.projection(h).chunk(2, 1)
    return mean, (0.5 * log_variance).exp()


def prior(flow: str, shape: tuple[int, ...] = (7,), dim: int = 3) -> FlowPrior:
    found = FlowPrior(shape, dim=dim, flow=flow, hidden=[] if flow == "planar" else [8])  # type: ignore[arg-type]
    return spread(found)  # type: ignore[return-value]


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_chain_is_invertible_and_its_determinant_is_the_jacobian_s(flow: str, dim: int, context: int) -> None:
    widths = [] if flow == "planar" and not context else [8]
    net = spread(chain(flow, dim, context, 3, widths, "here"))  # type: ignore[arg-type]
    given = torch.randn(6, context)
    transform = net(given) if context else net()
    x = 2 * torch.randn(6, dim)
    y, log_det = transform.call_and_ladj(x)
    torch.testing.assert_close(transform.inv(y), x, rtol=0, atol=1e-7)
    torch.testing.assert_close(transform.inv.call_and_ladj(y)[1], -log_det, rtol=1e-6, atol=1e-6)
    for row in range(6):
        alone = net(given[row]) if context else net()
        found = torch.linalg.slogdet(jacrev(alone)(x[row])).logabsdet
        torch.testing.assert_close(log_det[row], found)
    assert log_det.abs().max() > 1e-3


@pytest.mark.parametrize("flow", FLOWS)
def test_the_inverse_has_the_inverse_s_derivative(flow: str) -> None:
    """By value and by every parameter: of planar maps the root is found without a graph."""
    net = spread(chain(flow, 3, 4, 2, [8], "here"))  # type: ignore[arg-type]
    given, y = torch.randn(4), torch.randn(3)
    at = net(given).inv(y).detach()
    jacobian = jacrev(lambda x: net(given)(x))(at)
    torch.testing.assert_close(jacrev(lambda v: net(given).inv(v))(y), jacobian.inverse(), rtol=1e-5, atol=1e-6)
    loss = net(given).inv(y).sum()
    found = torch.autograd.grad(loss, list(net.parameters()))
    # x = f^-1(y): dx = -J^-1 (df at x).
    implicit = -(jacobian.inverse().T @ torch.ones(3))
    expected = torch.autograd.grad((net(given)(at) * implicit.detach()).sum(), list(net.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_planar_maps_stay_invertible_whatever_u_is() -> None:
    w = torch.randn(1000, 3)
    u, b = -50 * w + torch.randn(1000, 3), torch.randn(1000, 1)
    planar = Planar(u, w, b)
    inner = (w * planar.u).sum(-1)
    assert (inner > -1).all()
    torch.testing.assert_close(planar.slope.squeeze(-1), 1 + inner, atol=1e-9, rtol=0)
    assert planar.slope.min() >= STEEPEST
    away = torch.linalg.cross(w, planar.u - u)
    assert away.abs().max() < 1e-9 * u.abs().max()
    x = torch.randn(1000, 3)
    assert torch.isfinite(planar.log_abs_det_jacobian(x, planar(x))).all()
    torch.testing.assert_close(planar.inv(planar(x)), x, atol=1e-5, rtol=0)
    assert torch.isfinite(Planar(u, 0 * w, b)(x)).all()


@pytest.mark.parametrize("flow", FLOWS)
def test_the_density_of_own_draws_is_that_of_the_same_values(flow: str) -> None:
    for shape in SHAPES:
        latent = posterior(flow, shape)(torch.randn(2, *shape))
        z = latent.posterior.rsample((3,))
        found = latent.posterior.log_prob(z)
        assert found.shape == (3, 2)
        torch.testing.assert_close(found, latent.posterior.log_prob(z.clone()), rtol=1e-6, atol=1e-6)
        own = latent.posterior.log_prob(latent.z)
        torch.testing.assert_close(own, latent.posterior.log_prob(latent.z.clone()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flow", FLOWS)
def test_the_density_by_hand(flow: str) -> None:
    bottleneck, h = posterior(flow), torch.randn(1, 7)
    mean, scale = _parameters(bottleneck, h)
    z = torch.randn(5, 1, 3)
    transform = bottleneck.flow(h)
    to_z = transform.inv if flow == "maf" else transform
    for row in z:
        u = to_z.inv(row)
        jacobian = jacrev(lambda v: to_z(v))(u).reshape(3, 3)
        expected = Normal(mean, scale).log_prob(u).sum() - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(bottleneck(h).posterior.log_prob(row)[0], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bottleneck(h).point, to_z(mean))


@pytest.mark.parametrize("kind", ["posterior", "prior"])
@pytest.mark.parametrize("flow", FLOWS)
def test_densities_integrate_to_one(flow: str, kind: str) -> None:
    """By importance sampling from a wide Gaussian, and the draws have the moments that the density says."""
    law = prior(flow, dim=2).prior() if kind == "prior" else posterior(flow, dim=2)(torch.randn(1, 7)).posterior
    shape = (2,) if kind == "prior" else (1, 2)
    with torch.no_grad():
        drawn = law.sample((20_000,))
        proposal = Independent(Normal(drawn.mean(0), 2 * drawn.std(0) + 0.1), len(shape))
        z = proposal.sample((30_000,))
        weights = (law.log_prob(z).reshape(-1) - proposal.log_prob(z)).exp()
    assert drawn.shape == (20_000, *shape)
    error = float(weights.std()) / math.sqrt(len(weights))
    assert abs(float(weights.mean()) - 1) < 5 * error + 1e-3
    assert error < 0.08
    z, drawn = z.reshape(-1, 2), drawn.reshape(-1, 2)
    weighted = weights[:, None] * (z - drawn.mean(0))
    error = (weighted.var(0) / len(z) + drawn.var(0) / len(drawn)).sqrt()
    assert (weighted.mean(0).abs() < 5 * error).all()


@pytest.mark.parametrize("kind", ["posterior", "prior"])
@pytest.mark.parametrize("flow", FLOWS)
def test_the_kl_against_a_grid(flow: str, kind: str) -> None:
    """`int q (log q - log p)` in one dimension, where both densities are functions on a line."""
    h = torch.randn(1, 7)
    bottleneck: Bottleneck = posterior(flow, dim=1) if kind == "posterior" else prior(flow, dim=1)
    z = torch.linspace(-60, 60, 120_001)
    with torch.no_grad():
        found = posterior_kl(bottleneck(h.expand(4000, 7)))
        latent = bottleneck(h)
        log_q, log_p = (law.log_prob(z[:, None, None]).reshape(-1) for law in (latent.posterior, latent.prior))
    torch.testing.assert_close(torch.trapezoid(log_q.exp(), z), torch.tensor(1.0), atol=1e-4, rtol=0)
    expected = torch.trapezoid(log_q.exp() * (log_q - log_p), z)
    assert found.shape == (4000,)
    assert (found.mean() - expected).abs() < 5 * found.std() / math.sqrt(len(found))
    assert expected > 0.01


@pytest.mark.parametrize("flow", FLOWS)
def test_remembered_densities_have_the_gradient_of_recomputed_ones(flow: str) -> None:
    bottleneck, h = posterior(flow), torch.randn(2, 7)
    found = []
    for copy in (lambda z: z, torch.clone):
        bottleneck.zero_grad()
        torch.manual_seed(1)
        latent = bottleneck(h)
        latent.posterior.log_prob(copy(latent.z)).sum().backward()
        found.append([p.grad.clone() for p in bottleneck.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_a_draw_without_gradients_is_not_remembered_for_those_who_want_them() -> None:
    latent = posterior("iaf")(torch.randn(2, 7))
    z = latent.posterior.sample((3,))
    assert latent.posterior.log_prob(z).requires_grad
    with torch.no_grad():
        assert not latent.posterior.log_prob(latent.z.clone()).requires_grad


@pytest.mark.parametrize(("flow", "passes"), [("iaf", 2), ("nsf", 4), ("maf", 2 * 6)])
def test_how_often_the_networks_are_asked_for_a_draw(flow: str, passes: int) -> None:
    """Two maps in five dimensions: an inverse autoregressive draw is one pass each, and its density none."""
    bottleneck = posterior(flow, dim=5)
    calls = []
    for module in bottleneck.flow.modules():
        if type(module).__name__ == "MaskedMLP":
            module.register_forward_hook(lambda *_: calls.append(1))
    latent = bottleneck(torch.randn(2, 7))
    calls.clear()
    z = latent.posterior.rsample((4,))
    drawn = len(calls)
    latent.posterior.log_prob(z)
    latent.posterior.log_prob(latent.z)
    assert len(calls) == drawn <= passes


@pytest.mark.parametrize("name", ["iaf", "maf", "nsf", "planar"])
def test_large_features_stay_finite_in_float32(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    bottleneck = FlowPosterior((7,), dim=4, flow=name, hidden=[8])  # type: ignore[arg-type]
    latent = bottleneck(20 * torch.randn(64, 7))
    kl = posterior_kl(latent)
    kl.mean().backward()
    assert latent.z.dtype == torch.float32
    assert torch.isfinite(kl).all()
    assert all(torch.isfinite(p.grad).all() for p in bottleneck.parameters())


@pytest.mark.parametrize("flow", FLOWS)
def test_the_importance_weighted_bounds_read_them(flow: str) -> None:
    torch.set_default_dtype(torch.float32)
    for bottleneck in (FlowPosterior, FlowPrior):
        hidden = [] if flow == "planar" and bottleneck is FlowPrior else [8]
        net = model(bottleneck=lambda s, b=bottleneck, w=hidden: b(s, dim=4, flow=flow, hidden=w))
        out = net(batch())
        for term in (ImportanceWeighted(samples=3), ImportanceWeighted(samples=3, groups=2, doubly=True)):
            net.zero_grad()
            term(out, net).mean().backward(retain_graph=True)
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_kinds_and_refusals() -> None:
    latent = prior("maf")(torch.randn(2, 7))
    assert isinstance(latent, VariationalLatent)
    assert isinstance(posterior("iaf")(torch.randn(2, 7)), ReparameterisedLatent)
    with pytest.raises(UserError, match="bottleneck flow_posterior has no flow 'ifa': did you mean 'iaf'"):
        FlowPosterior((7,), flow="ifa")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="planar maps of a prior have no network, so hidden must be"):
        FlowPrior((7,), flow="planar")
    with pytest.raises(UserError, match="transforms must be at least 1"):
        FlowPrior((7,), transforms=0)
    with pytest.raises(UserError, match="flow nsf needs hidden"):
        FlowPosterior((7,), flow="nsf", hidden=[])


def test_a_pushforward_of_a_known_map() -> None:
    """Log-normal variables."""

    def forward(u: Tensor) -> tuple[Tensor, Tensor]:
        return u.exp(), u.sum(-1)

    def inverse(z: Tensor) -> tuple[Tensor, Tensor]:
        return z.log(), -z.log().sum(-1)

    base = Normal(torch.randn(4, 3), torch.rand(4, 3) + 0.5)
    law = Pushforward(base, forward, inverse, (-1,))
    z = law.rsample((5,))
    expected = torch.distributions.LogNormal(base.loc, base.scale).log_prob(z).sum(-1)
    torch.testing.assert_close(law.log_prob(z), expected)
    torch.testing.assert_close(law.log_prob(z.clone()), expected)
    assert law.batch_shape == (4,)
    assert law.event_shape == (3,)
    assert vmap(torch.sum)(z).shape == (5,)
