"""Importance weighted bounds, against brute force and against one another."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from instances import LIKELIHOODS, batch, model
from torch import Tensor

from narrows.errors import UserError
from narrows.losses.divergence import evidence_lower_bound
from narrows.losses.importance import ImportanceWeighted, log_joint, log_posterior
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, Output


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def wide_model() -> Autoencoder:
    """A posterior that is far from the true one, so that weights differ."""
    net = model(likelihood=LIKELIHOODS["bernoulli"])
    with torch.no_grad():
        net.bottleneck.projection.bias.uniform_(-2, 2)
    return net


def seeded(term: ImportanceWeighted, out: Output, net: Autoencoder) -> Tensor:
    torch.manual_seed(5)
    return term(out, net)


def draws(out: Output, count: int) -> Tensor:
    torch.manual_seed(5)
    return out.latent.posterior.rsample((count,))


def slow_log_weights(out: Output, net: Autoencoder, z: Tensor) -> Tensor:
    """One example and one draw at a time."""
    found = torch.empty(z.shape[:2])
    for s in range(z.shape[0]):
        for b in range(z.shape[1]):
            joint = net.decode(z[s, b][None]).log_prob(out.batch.x[b][None]).sum()
            q, p = out.latent.posterior, out.latent.prior
            mean, scale = q.mean[b], q.stddev[b]
            joint = joint + p.log_prob(z[s])[b].sum()
            found[s, b] = joint - torch.distributions.Normal(mean, scale).log_prob(z[s, b]).sum()
    return found


def gradients(value: Tensor, net: Autoencoder) -> dict[str, Tensor]:
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(value, parameters, retain_graph=True), strict=True))


def same(a: dict[str, Tensor], b: dict[str, Tensor], prefix: str = "") -> bool:
    return all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-4) for name in a if name.startswith(prefix))


@pytest.mark.parametrize(("samples", "groups", "share"), [(1, 1, 0.0), (5, 1, 0.0), (3, 4, 0.0), (4, 2, 0.3)])
def test_bound_against_a_brute_force_log_mean_exp(samples: int, groups: int, share: float) -> None:
    """field.md 3: weights with the wrong sign, or normalised over the wrong axis."""
    net = wide_model()
    out = net(batch(n=3))
    weights = slow_log_weights(out, net, draws(out, samples * groups)).detach().double().exp()
    expected = torch.zeros(3)
    for b in range(3):
        for m in range(groups):
            group = weights[m * samples : (m + 1) * samples, b]
            expected[b] += (1 - share) * math.log(float(group.mean())) / groups
            expected[b] += share * float(group.log().mean()) / groups
    term = ImportanceWeighted(samples=samples, groups=groups, elbo_share=share)
    close(seeded(term, out, net), -expected)
    for doubly in (False, True):
        same_value = ImportanceWeighted(samples=samples, groups=groups, elbo_share=share, doubly=doubly)
        close(seeded(same_value, out, net), -expected)


def test_iwae_of_one_is_the_elbo() -> None:
    net = wide_model()
    out = net(batch(n=4))
    z = draws(out, 1)
    sampled = net.decode(z[0]).log_prob(out.batch.x).flatten(1).sum(1)
    sampled = sampled + (out.latent.prior.log_prob(z[0]) - out.latent.posterior.log_prob(z[0])).sum(1)
    close(seeded(ImportanceWeighted(samples=1), out, net), -sampled)
    repeated = net(Batch(x=batch(n=1).x.expand(8000, 1, 8, 8)))
    with torch.no_grad():
        drawn, elbo = -ImportanceWeighted(samples=1)(repeated, net), evidence_lower_bound(repeated)
    error = ((drawn.var() + elbo.var()) / 8000).sqrt()
    assert (drawn.mean() - elbo.mean()).abs() < 5 * error


def test_miwae_of_one_draw_is_the_vae_and_of_one_group_is_iwae() -> None:
    """field.md 3: MIWAE(M,1) = VAE, MIWAE(1,K) = IWAE(K)."""
    net = wide_model()
    out = net(batch(n=3))
    weights = slow_log_weights(out, net, draws(out, 6))
    close(seeded(ImportanceWeighted(samples=1, groups=6), out, net), -weights.mean(0))
    iwae = -(weights.logsumexp(0) - math.log(6))
    close(seeded(ImportanceWeighted(samples=6, groups=1), out, net), iwae)
    close(seeded(ImportanceWeighted(samples=3, groups=2, joined=True), out, net), iwae)
    ends = [ImportanceWeighted(samples=6, elbo_share=share) for share in (0.0, 1.0)]
    close(seeded(ends[0], out, net), iwae)
    close(seeded(ends[1], out, net), -weights.mean(0))


def test_iwae_does_not_decrease_in_k() -> None:
    net = wide_model()
    out = net(batch(n=2))
    with torch.no_grad():
        weights = log_joint(net, out.batch, out.latent, z := out.latent.posterior.sample((32_000,)))
        weights = weights - log_posterior(out.latent, z)
    bounds = [ImportanceWeighted(samples=k, groups=32_000 // k).bound(weights) for k in (1, 2, 5, 20, 100)]
    for looser, tighter in pairwise(bounds):
        assert (tighter > looser).all()


def test_a_shared_pass_gives_the_gradient_of_the_bound() -> None:
    """The path that gives both sides their own weights, where both weights are the same."""
    net = wide_model()
    out = net(batch(n=3))
    direct = ImportanceWeighted(samples=3, groups=2, elbo_share=0.2)
    expected = gradients(seeded(direct, out, net).mean(), net)
    z = draws(out, 6)
    leaf = z.detach().requires_grad_()
    joint, log_q = log_joint(net, out.batch, out.latent, leaf), log_posterior(out.latent, leaf)
    found = gradients(-direct._surrogate(z, leaf, joint, log_q).mean(), net)
    assert same(found, expected)


def test_weights_have_the_right_sign_and_the_best_draw_weighs_most() -> None:
    term = ImportanceWeighted(samples=3)
    log_weights = torch.tensor([[-5.0], [-1.0], [-3.0]], requires_grad=True)
    (share,) = torch.autograd.grad(term.bound(log_weights).sum(), log_weights)
    assert share[1] > share[2] > share[0] > 0
    close(share, log_weights.detach().softmax(0))
    close(term._shares(log_weights.detach(), joined=False, squared=False), share)


def test_piwae_gives_each_side_its_own_bound() -> None:
    """Decoder: the gradient of IWAE(M K); encoder: that of MIWAE(M, K)."""
    net = wide_model()
    out = net(batch(n=3))
    found = gradients(seeded(ImportanceWeighted(samples=3, groups=2, joined=True), out, net).mean(), net)
    generative = gradients(seeded(ImportanceWeighted(samples=6), out, net).mean(), net)
    inference = gradients(seeded(ImportanceWeighted(samples=3, groups=2), out, net).mean(), net)
    assert same(found, generative, "decoder")
    assert same(found, inference, "encoder")
    assert same(found, inference, "bottleneck")
    assert not same(found, generative, "encoder")


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_doubly_reparameterised_gradients_have_the_same_mean(share: float) -> None:
    net = wide_model()
    # One example many times: each row is a draw of the estimator.
    out = net(Batch(x=batch(n=1).x.expand(4000, 1, 8, 8)))
    mean = out.latent.posterior.loc

    def many(doubly: bool) -> Tensor:
        term = ImportanceWeighted(samples=4, doubly=doubly, elbo_share=share)
        return torch.autograd.grad(term(out, net).sum(), mean, retain_graph=True)[0]

    plain, doubly = many(False), many(True)
    error = (plain.var(0) / len(plain) + doubly.var(0) / len(doubly)).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < 5 * error).all()
    assert doubly.var(0).sum() < plain.var(0).sum()


def test_doubly_leaves_the_decoder_s_gradient_alone() -> None:
    net = wide_model()
    out = net(batch(n=3))
    plain = gradients(seeded(ImportanceWeighted(samples=4), out, net).mean(), net)
    doubly = gradients(seeded(ImportanceWeighted(samples=4, doubly=True), out, net).mean(), net)
    assert same(plain, doubly, "decoder")
    assert not same(plain, doubly, "encoder")


def test_doubly_reparameterised_gradient_is_the_squared_weights_own() -> None:
    """By hand: sum_k w_k^2 d log w_k / dz dz / d(mean), with z = mean + sigma eps."""
    net = wide_model()
    out = net(batch(n=1))
    mean = out.latent.posterior.loc
    found = torch.autograd.grad(
        seeded(ImportanceWeighted(samples=3, doubly=True), out, net).sum(), mean, retain_graph=True
    )[0]
    expected = torch.zeros_like(mean)
    z = draws(out, 3).detach()
    weights = slow_log_weights(out, net, z).softmax(0)
    for k in range(3):
        leaf = z[k].clone().requires_grad_()
        slope = torch.autograd.grad(slow_log_weights(out, net, leaf[None]).sum(), leaf)[0]
        expected -= weights[k, 0].detach() ** 2 * slope
    close(found, expected)


def test_missing_values_do_not_count_and_examples_do_not_mix() -> None:
    net, data = wide_model().eval(), batch(n=4)
    data.observed = torch.rand_like(data.x) > 0.4
    whole = net(data)
    z = draws(whole, 5)
    joint = log_joint(net, data, whole.latent, z)
    by_hand = (net.decode(z[2]).log_prob(data.x) * data.observed).flatten(1).sum(1)
    close(joint[2], by_hand + whole.latent.prior.log_prob(z[2]).sum(1))


@pytest.mark.parametrize("options", [{"samples": 0}, {"groups": 0}, {"elbo_share": 1.5}, {"elbo_share": -0.1}])
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"term importance_weighted: .* must be"):
        ImportanceWeighted(**options)
