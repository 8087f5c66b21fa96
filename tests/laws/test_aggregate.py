"""Terms on the aggregate posterior: the decomposition of the KL, covariances, discrepancies."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from instances import BOTTLENECKS, TERMS, batch, model
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.aggregate import DIP, DimensionwiseKL, MutualInformation, TotalCorrelation, log_importance
from narrows.losses.discrepancy import MMD, kernel_matrix, squared_mmd
from narrows.models.autoencoder import Autoencoder
from narrows.types import GaussianLatent, Output

PARTS = (MutualInformation, TotalCorrelation, DimensionwiseKL)


def output(net: Autoencoder, mean: Tensor, scale: Tensor) -> Output:
    """An output whose latent is drawn from these posteriors."""
    out = net(batch(n=len(mean)))
    posterior = Normal(mean, scale)
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    out.latent = GaussianLatent(z=posterior.sample(), point=mean, posterior=posterior, prior=prior)
    return out


def correlated(n: int, rho: float = 0.8, noise: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Means from a Gaussian, equal scales: q(z) is a Gaussian of known covariance."""
    covariance = torch.tensor([[1.0, rho, 0.0], [rho, 1.0, 0.0], [0.0, 0.0, 0.5]])
    mean = torch.randn(n, 3) @ torch.linalg.cholesky(covariance).T
    return mean, torch.full((n, 3), noise), covariance + noise**2 * torch.eye(3)


@pytest.mark.parametrize("estimator", ["mss", "mws"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_three_parts_add_up_to_the_kl(estimator: str, n: int) -> None:
    """field.md 3: MI + TC + dimension-wise KL = KL, whatever the estimator."""
    net = model()
    out = net(batch(n=n))
    total = sum(part(estimator=estimator)(out, net) for part in PARTS)
    sampled = (out.latent.posterior.log_prob(out.latent.z) - out.latent.prior.log_prob(out.latent.z)).sum(1)
    torch.testing.assert_close(total, sampled, rtol=1e-4, atol=1e-4)


def test_the_parts_against_closed_form_on_a_gaussian() -> None:
    """field.md 3: the MSS weight enters once, not once per dimension (6.51 became -31.95 at D = 10)."""
    torch.manual_seed(1)
    mean, scale, covariance = correlated(1500)
    net = model()
    net.spec = replace(net.spec, size=1500)
    out = output(net, mean, scale)
    variances = covariance.diagonal()
    correlation = 0.5 * (variances.log().sum() - covariance.logdet())
    information = 0.5 * (covariance.logdet() - 3 * math.log(0.3**2))
    marginal = kl_divergence(Normal(torch.zeros(3), variances.sqrt()), Normal(torch.zeros(3), torch.ones(3))).sum()
    expected = dict(zip(PARTS, (information, correlation, marginal), strict=True))
    for part, value in expected.items():
        assert part(estimator="mss")(out, net).mean().item() == pytest.approx(float(value), abs=0.15)
    # Weighted sampling counts N for every column: each log density is too low by log N at B = N.
    shifted = TotalCorrelation(estimator="mws")(out, net).mean()
    assert shifted.item() - (3 - 1) * math.log(1500) == pytest.approx(float(correlation), abs=0.15)
    kl = (kl_divergence(out.latent.posterior, out.latent.prior)).sum(1).mean()
    assert float(information + correlation + marginal) == pytest.approx(float(kl), abs=0.2)


@pytest.mark.parametrize(("n", "size"), [(2, 50), (5, 50), (50, 50), (9, 4)])
def test_stratified_weights_sum_to_one_and_weighted_ones_to_one_over_n(n: int, size: int) -> None:
    mss = log_importance(n, size, "mss").exp()
    torch.testing.assert_close(mss.sum(1), torch.ones(n))
    if n > 2 and n <= size:
        assert mss[0, 0].item() == pytest.approx(1 / size)
        assert mss[0, 1].item() == pytest.approx((size - n + 1) / (size * (n - 1)))
        assert mss[0, 2].item() == pytest.approx(1 / (n - 1))
    mws = log_importance(n, size, "mws").exp()
    torch.testing.assert_close(mws.sum(1), torch.full((n,), 1 / max(n, size)))


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_total_correlation_by_brute_force(estimator: str) -> None:
    net = model()
    net.spec = replace(net.spec, size=40)
    out = net(batch(n=4))
    q, z = out.latent.posterior, out.latent.z
    weights = log_importance(4, 40, estimator).exp()
    expected = torch.zeros(4)
    for i in range(4):
        densities = [[Normal(q.loc[j, d], q.scale[j, d]).log_prob(z[i, d]).exp() for d in range(5)] for j in range(4)]
        joint = sum(weights[i, j] * math.prod(densities[j]) for j in range(4))
        marginals = [sum(weights[i, j] * densities[j][d] for j in range(4)) for d in range(5)]
        expected[i] = joint.log() - sum(m.log() for m in marginals)
    torch.testing.assert_close(TotalCorrelation(estimator=estimator)(out, net), expected, rtol=1e-4, atol=1e-4)


def test_weighted_sampling_is_the_plain_mean_less_log_n() -> None:
    """A constant, whatever the batch: values of `mws` compare with no others, its gradients are the plain mean's."""
    net, size = model(), 40
    net.spec = replace(net.spec, size=size)
    for n in (4, 16):
        out = net(batch(n=n))
        q, z = out.latent.posterior, out.latent.z
        crossed = Normal(q.loc[None], q.scale[None]).log_prob(z[:, None])
        joint = crossed.sum(2).logsumexp(1) - math.log(n)
        marginals = crossed.logsumexp(1) - math.log(n)
        plain = (
            q.log_prob(z).sum(1) - joint,
            joint - marginals.sum(1),
            (marginals - out.latent.prior.log_prob(z)).sum(1),
        )
        dim = z.shape[1]
        for part, value, offset in zip(PARTS, plain, (1, dim - 1, -dim), strict=True):
            shifted = value + offset * math.log(size)
            torch.testing.assert_close(part(estimator="mws")(out, net), shifted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["total_correlation", "total_correlation_mws", "dip_i", "dip_ii", "mmd", "mmd_rbf"])
def test_a_batch_of_one_is_well_defined(name: str) -> None:
    """field.md 3: a last batch of 1 crashes beta-TC, gives NaN in MMD, and the run is lost."""
    net = model()
    value = TERMS[name]()(net(batch(n=1)), net).mean()
    value.backward()
    assert torch.isfinite(value)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())
    if name.startswith(("total", "mmd")):
        assert value.item() == pytest.approx(0, abs=1e-5)
    if name == "dip_i":
        assert value.item() == pytest.approx(10.0 * 5)


# ── DIP ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("moment", ["mean", "aggregate"])
def test_dip_against_torch_cov(moment: str) -> None:
    net = model()
    mean, scale = torch.randn(9, 4), torch.rand(9, 4) + 0.2
    out = output(net, mean, scale)
    covariance = torch.cov(mean.T) + (scale.square().mean(0).diag() if moment == "aggregate" else 0)
    expected = 0.0
    for i in range(4):
        for j in range(4):
            expected += float((covariance[i, j] - 1) ** 2 * 3.0 if i == j else covariance[i, j] ** 2)
    assert DIP(ratio=3.0, moment=moment)(out, net).item() == pytest.approx(expected, rel=1e-4)


def test_dip_is_zero_at_a_white_aggregate() -> None:
    torch.manual_seed(0)
    net = model()
    mean = torch.randn(4000, 3) * 0.8
    out = output(net, mean, torch.full_like(mean, 0.6))
    assert DIP(moment="aggregate", ratio=1.0)(out, net).item() < 0.02
    assert DIP(moment="mean", ratio=1.0)(out, net).item() == pytest.approx(3 * 0.36**2, abs=0.05)


# ── MMD ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_by_brute_force(kernel: str) -> None:
    a, b, scales = torch.randn(5, 3), torch.randn(5, 3) + 1, (0.5, 2.0)

    def k(x: Tensor, y: Tensor) -> float:
        square = float((x - y).square().sum())
        widths = [2 * 3 * s for s in scales]
        return sum(w / (w + square) if kernel == "imq" else math.exp(-square / w) for w in widths)

    within = [sum(k(s[i], s[j]) for i in range(5) for j in range(5) if i != j) / 20 for s in (a, b)]
    across = sum(k(x, y) for x in a for y in b) / 25
    assert squared_mmd(a, b, kernel, scales).item() == pytest.approx(sum(within) - 2 * across, rel=1e-4)
    assert kernel_matrix(a, a, kernel, scales).diagonal().tolist() == pytest.approx([2.0] * 5)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
@pytest.mark.parametrize("n", [2, 16])
def test_mmd_is_unbiased_at_any_batch_size(kernel: str, n: int) -> None:
    """Zero on average where both are the prior; the mean does not depend on the batch size elsewhere."""
    torch.manual_seed(2)
    equal = torch.stack([squared_mmd(torch.randn(n, 2), torch.randn(n, 2), kernel, [1.0]) for _ in range(800)])
    assert equal.mean().abs() < 5 * equal.std() / math.sqrt(800)
    apart = torch.stack([squared_mmd(torch.randn(n, 2) + 2, torch.randn(n, 2), kernel, [1.0]) for _ in range(800)])
    large = squared_mmd(torch.randn(3000, 2) + 2, torch.randn(3000, 2), kernel, [1.0])
    assert (apart.mean() - large).abs() < 5 * apart.std() / math.sqrt(800) + 0.02
    assert large > 0.2


def test_mmd_moves_the_latents_and_not_the_prior() -> None:
    net = model(bottleneck=BOTTLENECKS["gaussian"])
    out = net(batch(n=8))
    MMD()(out, net).backward()
    assert all(p.grad.abs().sum() > 0 for p in net.encoder.parameters())
    assert all(p.grad is None for p in net.decoder.parameters())


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: TotalCorrelation(estimator="full"), "estimator must be mss or mws, not 'full'"),
        (lambda: DIP(ratio=-1.0), "term dip: ratio must be at least 0"),
        (lambda: DIP(moment="third"), "term dip: moment must be mean or aggregate"),
        (lambda: MMD(kernel="linear"), "term mmd: kernel must be imq or rbf"),
        (lambda: MMD(scales=[]), "term mmd: scales must be numbers above 0"),
        (lambda: MMD(scales=[1.0, 0.0]), "term mmd: scales must be numbers above 0"),
    ],
)
def test_senseless_options_are_refused(build: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build()


def test_a_latent_without_a_gaussian_posterior_is_refused() -> None:
    bottleneck = BOTTLENECKS["categorical"]((4,))
    for term in (TotalCorrelation(), DIP(), TERMS["importance_weighted"]()):
        with pytest.raises(UserError, match=r"reads a (Gaussian|Reparameterised)Latent, but bottleneck Categorical"):
            Objective({"t": term}).check(Autoencoder, bottleneck, type(model().corruption))
