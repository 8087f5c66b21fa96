"""Where the optimum is known in closed form, training finds it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from instances import BOTTLENECKS, LIKELIHOODS, model
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor

from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.losses import Objective
from narrows.losses.divergence import KL, evidence_lower_bound
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, DataSpec, Output


def linear(features: int, bottleneck: str, dim: int, likelihood: Any) -> Autoencoder:
    """No hidden layer."""
    torch.manual_seed(0)
    return model(
        DataSpec(shape=(features,), kind="vector", size=1),
        encoder=partial(MLPEncoder, widths=[]),
        decoder=partial(MLPDecoder, widths=[]),
        bottleneck=partial(BOTTLENECKS[bottleneck].func, dim=dim),
        likelihood=likelihood,
    )


def decoder_weight(net: Autoencoder) -> Tensor:
    (weight,) = (p for p in net.decoder.parameters() if p.ndim == 2)
    return weight.detach().double()


def decoder_bias(net: Autoencoder) -> Tensor:
    (bias,) = (p for p in net.decoder.parameters() if p.ndim == 1)
    return bias.detach().double()


def noise_variance(net: Autoencoder) -> float:
    assert isinstance(net.likelihood, GaussianLikelihood)
    return math.exp(2 * net.likelihood.log_sigma.item())


def principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variances, largest first, and the directions `[D, D]` of the maximum-likelihood covariance."""
    centred = x.double() - x.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    return values.flip(0).clamp_min(0), vectors.flip(1)


def largest_angle(a: Tensor, b: Tensor) -> float:
    """Between the column spaces of two `[D, k]` matrices, in degrees."""
    cosines = torch.linalg.svdvals(torch.linalg.qr(a)[0].T @ torch.linalg.qr(b)[0])
    return math.degrees(math.acos(min(1.0, float(cosines.min()))))


def test_a_linear_autoencoder_finds_the_principal_subspace() -> None:
    """ "Neural networks and principal component analysis" (Baldi and Hornik, 1989), on real digits."""
    x, dim = torch.from_numpy(load_digits().data).float() / 16, 6
    net = linear(64, "deterministic", dim, LIKELIHOODS["gaussian_fixed"])
    objective = Objective({"reconstruction": NegativeLogLikelihood()})
    exact = {"tolerance_grad": 0.0, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=400, history_size=20, **exact)

    def closure() -> float:
        optimizer.zero_grad()
        total = objective(net(Batch(x)), net).total
        total.backward()
        return total.item()

    optimizer.step(closure)
    variances, directions = principal(x)
    error, pca = (net.reconstruct(x) - x).square().sum(1).mean().item(), variances[dim:].sum().item()
    assert pca * (1 - 1e-6) <= error <= pca * 1.01
    assert largest_angle(decoder_weight(net), directions[:, :dim]) < 5
    # The angle can tell: the next component is no part of the space.
    assert largest_angle(decoder_weight(net), directions[:, 1 : dim + 1]) > 80


@pytest.fixture(scope="module")
def gaussian() -> Tensor:
    """200 draws of 12 features: three strong directions in noise, turned and moved."""
    source = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=source))[0]
    scale = torch.cat([torch.tensor([3.0, 2.0, 1.2]), torch.full((9,), 0.5)])
    return (torch.randn(200, 12, generator=source) * scale) @ turn.T + torch.randn(12, generator=source)


def ppca_log_likelihood(x: Tensor, dim: int) -> float:
    """Per example, at the maximum ("Probabilistic Principal Component Analysis", Tipping and Bishop, 1999,
    equations 4 and 8)."""
    variances, _ = principal(x)
    noise = variances[dim:].mean()
    log_determinant = variances[:dim].log().sum() + (x.shape[1] - dim) * noise.log()
    return -0.5 * (x.shape[1] * math.log(2 * math.pi) + log_determinant.item() + x.shape[1])


def linear_vae(x: Tensor, kl: KL) -> Autoencoder:
    """Trained on `-log p(x|z) + kl` with one learned sigma: full-batch Adam whose rate falls along a cosine."""
    net = linear(x.shape[1], "gaussian", 3, partial(GaussianLikelihood, scope="shared", sigma=1.0))
    objective = Objective({"reconstruction": NegativeLogLikelihood(), "kl": kl})
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 800)
    for _ in range(800):
        optimizer.zero_grad()
        objective(net(Batch(x)), net).total.backward()
        optimizer.step()
        scheduler.step()
    return net


def elbo(net: Autoencoder, x: Tensor) -> float:
    with torch.no_grad():
        return torch.stack([evidence_lower_bound(net(Batch(x))).mean() for _ in range(50)]).mean().item()


def log_likelihood(net: Autoencoder, x: Tensor) -> float:
    """Exact: under a linear decoder x is normal with covariance W W^T + sigma^2 I."""
    weight = decoder_weight(net)
    covariance = weight @ weight.T + noise_variance(net) * torch.eye(x.shape[1], dtype=torch.double)
    exact = torch.distributions.MultivariateNormal(decoder_bias(net), covariance)
    return exact.log_prob(x.double()).mean().item()


def test_a_linear_vae_reaches_probabilistic_pca(gaussian: Tensor) -> None:
    """Its bound is tight at the optimum ("Don't Blame the ELBO!", Lucas et al., 2019, theorem 1)."""
    best = ppca_log_likelihood(gaussian, 3)
    net = linear_vae(gaussian, KL())
    assert log_likelihood(net, gaussian) <= best + 1e-5
    assert log_likelihood(net, gaussian) == pytest.approx(best, abs=0.02)
    assert elbo(net, gaussian) == pytest.approx(best, abs=0.05)
    variances, directions = principal(gaussian)
    assert largest_angle(decoder_weight(net), directions[:, :3]) < 3
    assert noise_variance(net) == pytest.approx(variances[3:].mean().item(), rel=0.03)


class AveragedKL(KL):
    """The mistake of an average over the data's dimensions beside a sum over them."""

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return super().forward(out, model) / math.prod(out.batch.x.shape[1:])


class DoubledKL(KL):
    """The mistake of a forgotten half."""

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return 2 * super().forward(out, model)


@pytest.mark.parametrize("mistake", [AveragedKL, DoubledKL])
def test_a_mistaken_kl_misses_probabilistic_pca(gaussian: Tensor, mistake: type[KL]) -> None:
    best, net = ppca_log_likelihood(gaussian, 3), linear_vae(gaussian, mistake())
    assert log_likelihood(net, gaussian) < best - 0.2
    assert elbo(net, gaussian) < best - 0.5


def test_the_closed_form_is_scikit_learn_s(gaussian: Tensor) -> None:
    """The oracle itself; scikit-learn divides the covariance by n - 1."""
    assert ppca_log_likelihood(gaussian, 3) == pytest.approx(
        PCA(3).fit(gaussian.numpy()).score(gaussian.numpy()), rel=1e-3
    )
