"""Every term against a slow oracle."""

from __future__ import annotations

import math

import pytest
import torch
from instances import BOTTLENECKS, CORRUPTIONS, IMAGE, LIKELIHOODS, TERMS, batch, model
from torch.distributions import Normal, kl_divergence

from narrows.errors import UserError
from narrows.losses.divergence import KL, Capacity, evidence_lower_bound
from narrows.losses.geometry import Contraction
from narrows.losses.reconstruction import HiddenNegativeLogLikelihood, NegativeLogLikelihood
from narrows.losses.sparsity import L1, SparseKL
from narrows.schedules import Linear
from narrows.types import FINAL_STEP, Batch, DataSpec, GaussianLatent, Output


def test_kl_is_the_closed_form_and_agrees_with_monte_carlo() -> None:
    net = model()
    out = net(batch())
    mean, sigma = out.latent.posterior.loc, out.latent.posterior.scale
    closed = 0.5 * (mean.square() + sigma.square() - 1 - 2 * sigma.log()).sum(1)
    torch.testing.assert_close(KL()(out, net), closed, rtol=1e-4, atol=1e-5)
    z = out.latent.posterior.sample((200_000,))
    drawn = (out.latent.posterior.log_prob(z) - out.latent.prior.log_prob(z)).sum(2)
    standard_error = drawn.std(0) / math.sqrt(len(drawn))
    assert ((drawn.mean(0) - closed).abs() < 5 * standard_error).all()


def test_kl_of_broadened_and_shifted_gaussians() -> None:
    """Not only near initialisation, where mean and log-variance are near 0 and many wrong formulas agree."""
    q, p = Normal(torch.tensor([3.0, -1.0]), torch.tensor([0.2, 4.0])), Normal(torch.zeros(2), torch.ones(2))
    expected = torch.tensor([0.5 * (9 + 0.04 - 1) - math.log(0.2), 0.5 * (1 + 16 - 1) - math.log(4.0)])
    torch.testing.assert_close(kl_divergence(q, p), expected)


def test_free_bits_cost_at_least_the_bits_and_carry_no_gradient_below_them() -> None:
    net = model()
    out = net(batch())
    assert KL(free_bits=0.0)(out, net).mean() < 5 * 10
    term = KL(free_bits=10.0)(out, net)
    assert term.item() == pytest.approx(5 * 10)
    term.backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in net.parameters())


def test_free_bits_are_for_the_batch_s_mean_of_each_latent() -> None:
    """Of kl `[B, D]`, with examples on both sides of the floor."""
    kl = torch.tensor([[0.1, 3.0, 0.2], [1.5, 0.4, 0.3]])
    mean = (2 * kl).sqrt().requires_grad_()
    ones = torch.ones_like(kl)
    posterior, prior = Normal(mean, ones), Normal(torch.zeros_like(kl), ones)
    latent = GaussianLatent(z=mean, point=mean, posterior=posterior, prior=prior)
    out = Output(Batch(kl), Batch(kl), latent, posterior)
    term = KL(free_bits=0.5)(out, model())
    assert term.item() == pytest.approx(0.8 + 1.7 + 0.5, rel=1e-5)
    (gradient,) = torch.autograd.grad(term, mean)
    torch.testing.assert_close(gradient, mean.detach() / 2 * torch.tensor([1.0, 1.0, 0.0]))


def test_capacity_is_the_distance_from_the_target() -> None:
    net = model()
    out = net(batch())
    kl = KL()(out, net).mean()
    term = Capacity(capacity=Linear(0, 8, steps=4))
    for step, target in [(0, 0.0), (2, 4.0), (4, 8.0), (FINAL_STEP, 8.0)]:
        out.step = step
        torch.testing.assert_close(term(out, net), (kl - target).abs())


def test_elbo_is_minus_reconstruction_minus_kl() -> None:
    net = model()
    out = net(batch())
    torch.testing.assert_close(evidence_lower_bound(out), -NegativeLogLikelihood()(out, net) - KL()(out, net))


def test_reconstruction_is_summed_over_values_and_skips_the_missing() -> None:
    net, data = model(likelihood=LIKELIHOODS["gaussian_fixed"]), batch()
    data.observed = torch.rand_like(data.x) > 0.3
    out = net(data)
    by_hand = torch.stack(
        [
            sum(-out.p_x.log_prob(data.x)[i].flatten()[j] for j in range(64) if data.observed[i].flatten()[j])
            for i in range(len(data))
        ]
    )
    torch.testing.assert_close(NegativeLogLikelihood()(out, net), by_hand)


def test_masked_reconstruction_reads_hidden_values_alone() -> None:
    net = model(corruption=CORRUPTIONS["masking"])
    out = net(batch())
    assert out.seen.hidden is not None
    expected = (-out.p_x.log_prob(out.batch.x) * out.seen.hidden).flatten(1).sum(1)
    torch.testing.assert_close(HiddenNegativeLogLikelihood()(out, net), expected)
    assert (out.seen.x[out.seen.hidden] == 0).all()
    assert torch.equal(out.seen.x[~out.seen.hidden], out.batch.x[~out.seen.hidden])


@pytest.mark.parametrize("with_observed", [False, True])
def test_normalised_targets_against_a_loop(with_observed: bool) -> None:
    spec = DataSpec(shape=(2, 4, 6), kind="image", size=9)
    term = HiddenNegativeLogLikelihood(patch=2)
    net = model(spec, corruption=CORRUPTIONS["masking"], likelihood=LIKELIHOODS["gaussian_fixed"])
    term.attach(net)
    examples = batch(spec, n=3)
    observed = torch.rand_like(examples.x) < 0.8 if with_observed else torch.ones_like(examples.x, dtype=torch.bool)
    examples.observed = observed if with_observed else None
    out = net(examples)
    expected = []
    for i, x in enumerate(examples.x):
        nats = 0.0
        for row in range(0, 4, 2):
            for column in range(0, 6, 2):
                place = (i, slice(None), slice(row, row + 2), slice(column, column + 2))
                known = examples.x[place][observed[place]]
                target = (x[place[1:]] - known.mean()) / (known.var() + 1e-6).sqrt()
                judged = out.seen.hidden[place] & observed[place]
                nats -= (torch.distributions.Normal(out.p_x.mean[place], 0.7).log_prob(target))[judged].sum()
        expected.append(nats)
    torch.testing.assert_close(term(out, net), torch.stack(expected))


def test_a_flat_patch_has_a_finite_normalised_target() -> None:
    net = model(corruption=CORRUPTIONS["patches"], likelihood=LIKELIHOODS["gaussian_fixed"])
    assert TERMS["hidden_nll_normalised"]()(net(Batch(x=torch.zeros(2, *IMAGE.shape))), net).isfinite().all()


def test_normalised_targets_are_refused_by_a_likelihood_that_is_bounded() -> None:
    for name, likelihood in LIKELIHOODS.items():
        net = model(corruption=CORRUPTIONS["patches"], likelihood=likelihood)
        if name.startswith(("gaussian", "laplace")):
            TERMS["hidden_nll_normalised"]().attach(net)
            continue
        with pytest.raises(
            UserError, match=f"patch=2 asks for normalised values, which {type(net.likelihood).__name__}"
        ):
            TERMS["hidden_nll_normalised"]().attach(net)
    with pytest.raises(UserError, match="term hidden_nll has patches of side 3"):
        HiddenNegativeLogLikelihood(patch=3).attach(net)


def test_the_optimal_sigma_of_hidden_values_is_theirs_alone() -> None:
    net = model(corruption=CORRUPTIONS["patches"], likelihood=LIKELIHOODS["gaussian_optimal"])
    out = net(batch())
    square = (out.batch.x - out.p_x.mean).square()[out.seen.hidden]
    expected = torch.distributions.Normal(out.p_x.mean, square.mean().sqrt()).log_prob(out.batch.x)
    found = HiddenNegativeLogLikelihood()(out, net)
    torch.testing.assert_close(found, -(expected * out.seen.hidden).flatten(1).sum(1))
    (gradient,) = torch.autograd.grad(found.sum(), out.p_x.mean)
    assert not gradient[~out.seen.hidden].any(), "visible values are not judged, not even by way of sigma"


def test_l1_is_the_sum_of_absolute_latents() -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic"])
    out = net(batch())
    torch.testing.assert_close(L1()(out, net), out.latent.z.abs().sum(1))


def test_sparse_kl_is_zero_at_rho_and_matches_bernoulli_kl() -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic_sigmoid"])
    out = net(batch())
    rate = out.latent.point.mean(0)
    expected = kl_divergence(
        torch.distributions.Bernoulli(torch.full_like(rate, 0.1)), torch.distributions.Bernoulli(rate)
    ).sum()
    torch.testing.assert_close(SparseKL(rho=0.1)(out, net), expected)
    out.latent.point = torch.full_like(out.latent.point, 0.1)
    assert SparseKL(rho=0.1)(out, net).item() == pytest.approx(0, abs=1e-5)


def exact_squared_jacobian(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    def point(one: torch.Tensor) -> torch.Tensor:
        return net.encode(one[None]).point[0]

    rows = [torch.autograd.functional.jacobian(point, one).square().sum() for one in x]
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["deterministic", "deterministic_sigmoid", "gaussian"])
def test_contraction_is_the_jacobian_exactly_and_on_average(name: str) -> None:
    net = model(bottleneck=BOTTLENECKS[name])
    out = net(batch())
    expected = exact_squared_jacobian(net, out.seen.x)
    torch.testing.assert_close(Contraction(method="exact")(out, net), expected)
    draws = torch.stack([Contraction(samples=20)(out, net).detach() for _ in range(200)])
    standard_error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() < 5 * standard_error + 1e-7).all()


def test_contraction_has_gradients_in_training_and_works_without_them() -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic_sigmoid"])
    out = net(batch())
    Contraction()(out, net).mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.encoder.parameters())
    with torch.no_grad():
        value = Contraction(method="exact")(net(batch()), net)
    assert not value.requires_grad
    assert (value > 0).all()


@pytest.mark.parametrize("term", [NegativeLogLikelihood(), KL(), L1(), Contraction(method="exact")])
def test_terms_do_not_depend_on_the_batch_size(term: torch.nn.Module) -> None:
    net = model().eval()
    data = batch(IMAGE, 8)

    def value(rows: slice) -> torch.Tensor:
        part = batch(IMAGE, 8).to("cpu")
        part.x = data.x[rows]
        torch.manual_seed(1)
        out = net(part)
        out.latent.z = out.latent.point
        out.p_x = net.decode(out.latent.point)
        return term(out, net).detach()

    whole = value(slice(0, 8))
    torch.testing.assert_close(whole, torch.cat([value(slice(i, i + 1)) for i in range(8)]), rtol=1e-4, atol=1e-5)
