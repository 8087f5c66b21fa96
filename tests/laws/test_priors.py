"""Priors that are learnt, and latents that are not Gaussian: densities, KLs and samplers against slow oracles."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from instances import BOTTLENECKS, DECODER, ENCODER, IMAGE, LIKELIHOODS, LOSSES, SERIES, batch, model
from torch.distributions import Normal

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.categorical import Categorical, Joint, OneHotVariables
from narrows.bottlenecks.gaussian import Gaussian
from narrows.bottlenecks.mixture import GaussianMixture
from narrows.corruptions import NoCorruption
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.divergence import KL, Capacity, posterior_kl
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.models.vamp import VampAutoencoder
from narrows.types import DataSpec, JointLatent, row_sums

SHAPES = [(7,), (7, 4), (7, 2, 3)]
LEARNT = ["gaussian_mixture", "categorical", "joint", "entropy"]


def vamp(spec: DataSpec = IMAGE, bottleneck: str = "gaussian", pseudo_inputs: int = 4) -> VampAutoencoder:
    return VampAutoencoder(
        spec,
        Stages(
            encoder=ENCODER,
            bottleneck=BOTTLENECKS[bottleneck],
            decoder=DECODER,
            likelihood=LIKELIHOODS["gaussian_fixed"],
            corruption=NoCorruption,
        ),
        pseudo_inputs=pseudo_inputs,
    )


def spread(bottleneck: Bottleneck) -> Bottleneck:
    """Away from initialisation, where many wrong formulas agree."""
    with torch.no_grad():
        for parameter in bottleneck.parameters():
            parameter.uniform_(-1, 1)
    return bottleneck


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LEARNT)
def test_kl_against_monte_carlo(name: str, shape: tuple[int, ...]) -> None:
    bottleneck = spread(BOTTLENECKS[name](shape)).eval()
    h = torch.randn(1, *shape)
    with torch.no_grad():
        found = torch.cat([row_sums(posterior_kl(bottleneck(h.expand(500, *shape)))) for _ in range(8)])
        latent = bottleneck(h)
        z = latent.posterior.sample((6000,))
        gap = [p.log_prob(z).reshape(6000, -1).sum(1) for p in (latent.posterior, latent.prior)]
        drawn = gap[0] - gap[1]
    error = (found.var() / len(found) + drawn.var() / len(drawn)).sqrt()
    assert (found.mean() - drawn.mean()).abs() < 5 * error + 1e-5
    assert found.mean() > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mixture_s_density_by_hand_and_its_samples(shape: tuple[int, ...]) -> None:
    bottleneck = spread(GaussianMixture(shape, dim=2, components=3))
    z = torch.randn(5, 2, *shape[1:])
    positions = z.flatten(2) if z.ndim > 2 else z[:, :, None]
    weights = bottleneck.logits.softmax(0)
    expected = torch.zeros(5)
    for b, t in itertools.product(range(5), range(positions.shape[2])):
        apart = Normal(bottleneck.mean, bottleneck.log_scale.exp()).log_prob(positions[b, :, t])
        parts = [weights[k] * apart[k].sum().exp() for k in range(3)]
        expected[b] += torch.stack(parts).sum().log().detach()
    torch.testing.assert_close(bottleneck.prior().log_prob(z), expected, rtol=1e-4, atol=1e-4)
    drawn = bottleneck.sample_prior(20_000)
    assert drawn.shape == (20_000, *bottleneck.out_shape)
    mean = (weights[:, None] * bottleneck.mean).sum(0)
    found = drawn.transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(found, mean.detach(), atol=0.06, rtol=0)


def test_a_mixture_of_one_standard_component_is_the_standard_prior() -> None:
    bottleneck = GaussianMixture((7,), dim=4, components=1)
    torch.nn.init.zeros_(bottleneck.mean)
    z = torch.randn(6, 4)
    expected = Normal(torch.zeros(4), torch.ones(4)).log_prob(z).sum(1)
    torch.testing.assert_close(bottleneck.prior().log_prob(z), expected)


def test_a_prior_that_nothing_trains_is_refused() -> None:
    objective = Objective({"reconstruction": NegativeLogLikelihood()})
    with pytest.raises(UserError, match="bottleneck GaussianMixture has a prior that none of the loss terms"):
        objective.check(Autoencoder, GaussianMixture((4,)), NoCorruption)


# ── VampPrior ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spec", [IMAGE, SERIES])
def test_the_vamp_prior_is_the_mean_of_posteriors_at_its_inputs(spec: DataSpec) -> None:
    net = vamp(spec)
    z = torch.randn(3, 5)
    latent = net.encode(batch(spec, n=3).x)
    apart = net.bottleneck(net.encoder(net.pseudo_inputs())).posterior
    expected = torch.stack([apart.log_prob(row).sum(1).exp().mean().log() for row in z])
    torch.testing.assert_close(latent.prior.log_prob(z), expected, rtol=1e-4, atol=1e-4)
    assert latent.posterior.log_prob(latent.z).shape == (3,)
    torch.testing.assert_close(
        row_sums(posterior_kl(latent)), latent.posterior.log_prob(latent.z) - latent.prior.log_prob(latent.z)
    )


def test_its_inputs_lie_in_the_data_s_range_and_are_learnt() -> None:
    net, objective = vamp(), LOSSES["elbo"]()
    assert net.pseudo_inputs().min() >= 0
    assert net.pseudo_inputs().max() <= 1
    for n in (6, 1):
        net.zero_grad()
        objective(net(batch(n=n)), net).total.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())
    assert net.sample(3).shape == (3, 1, 8, 8)
    x = batch().x
    assert torch.equal(net.embed(x), net.embed(x))
    again = vamp()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.embed(x), net.embed(x))
    with pytest.raises(UserError, match="model vamp: pseudo_inputs must be at least 1"):
        vamp(pseudo_inputs=0)
    with pytest.raises(UserError, match="the posterior must be Gaussian, but bottleneck Categorical"):
        vamp(bottleneck="categorical")


# ── categorical and joint ───────────────────────────────────────────────────────────────────────────────


def test_kl_of_categoricals_is_log_c_minus_the_entropy() -> None:
    latent = spread(Categorical((7,), dim=3, categories=4))(torch.randn(5, 7))
    probs = latent.point.unflatten(1, (3, 4))
    expected = math.log(4) + (probs * probs.log()).sum(2)
    torch.testing.assert_close(posterior_kl(latent), expected)
    torch.testing.assert_close(probs.sum(2), torch.ones(5, 3))


@pytest.mark.parametrize("shape", SHAPES)
def test_draws_are_one_hot_and_follow_the_probabilities(shape: tuple[int, ...]) -> None:
    bottleneck = spread(Categorical(shape, dim=3, categories=4)).eval()
    latent = bottleneck(torch.randn(2, *shape))
    drawn = latent.posterior.sample((4000,))
    hot = drawn.unflatten(2, (3, 4))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert (hot.sum(3) == 1).all()
    torch.testing.assert_close(drawn.mean(0), latent.point, atol=0.05, rtol=0)
    assert set(latent.z.unique().tolist()) == {0.0, 1.0}
    assert bottleneck.sample_prior(5).shape == (5, *bottleneck.out_shape)
    by_hand = (hot * latent.posterior.log_probs).sum(3)
    torch.testing.assert_close(latent.posterior.log_prob(drawn), by_hand)


def test_relaxed_draws_follow_the_concrete_distribution_s_argmax_and_reach_the_encoder() -> None:
    """The largest entry of a Gumbel-softmax draw is category c with probability p_c at any temperature."""
    bottleneck = spread(Categorical((7,), dim=1, categories=4, temperature=0.5))
    h = torch.randn(1, 7)
    latent = bottleneck(h.expand(20_000, 7))
    rate = torch.nn.functional.one_hot(latent.z.argmax(1), 4).float().mean(0)
    torch.testing.assert_close(rate, latent.point[0].detach(), atol=0.02, rtol=0)
    torch.testing.assert_close(latent.z.sum(1), torch.ones(20_000))
    (latent.z * torch.arange(4.0)).sum().backward()
    assert bottleneck.projection.weight.grad.any()


def test_hard_draws_are_one_hot_with_the_relaxed_gradient() -> None:
    soft, hard = (spread(Categorical((7,), dim=2, categories=3, hard=h)) for h in (False, True))
    hard.load_state_dict(soft.state_dict())
    h, grads = torch.randn(4, 7), []
    for bottleneck in (soft, hard):
        torch.manual_seed(3)
        z = bottleneck(h).z
        (z * torch.arange(6.0)).sum().backward()
        grads.append(bottleneck.projection.weight.grad)
        if bottleneck is hard:
            assert ((z.detach() - z.detach().round()).abs() < 1e-5).all()
    torch.testing.assert_close(grads[0], grads[1])


def test_a_colder_relaxation_is_nearer_to_one_hot() -> None:
    h, largest = torch.randn(200, 7), []
    for temperature in (5.0, 0.67, 0.05):
        bottleneck = Categorical((7,), dim=3, categories=4, temperature=temperature)
        largest.append(float(bottleneck(h).z.detach().unflatten(1, (3, 4)).max(2).values.mean()))
    assert largest == sorted(largest)
    assert largest[-1] > 0.97


@pytest.mark.parametrize("shape", SHAPES)
def test_a_joint_latent_is_its_parts(shape: tuple[int, ...]) -> None:
    bottleneck = spread(Joint(shape, dim=4, variables=2, categories=3)).eval()
    latent = bottleneck(torch.randn(2, *shape))
    assert isinstance(latent, JointLatent)
    torch.testing.assert_close(latent.z, torch.cat([part.z for part in latent.parts.values()], 1))
    whole = row_sums(posterior_kl(latent))
    torch.testing.assert_close(whole, sum(row_sums(posterior_kl(part)) for part in latent.parts.values()))
    by_hand = sum(row_sums(part.posterior.log_prob(part.z)) for part in latent.parts.values())
    torch.testing.assert_close(latent.posterior.log_prob(latent.z), by_hand)
    assert latent.posterior.log_prob(latent.posterior.sample((7,))).shape == (7, 2)
    assert bottleneck.sample_prior(3).shape == (3, *bottleneck.out_shape)


def test_capacities_of_parts() -> None:
    net = model(bottleneck=BOTTLENECKS["joint"])
    out = net(batch())
    parts = out.latent.parts
    for name in ("continuous", "discrete"):
        expected = (row_sums(posterior_kl(parts[name])).mean() - 2.0).abs()
        torch.testing.assert_close(Capacity(capacity=2.0, part=name)(out, net), expected)
    both = row_sums(posterior_kl(out.latent)).mean()
    torch.testing.assert_close(Capacity(capacity=0.0)(out, net), both)
    torch.testing.assert_close(KL()(out, net).mean(), both)
    with pytest.raises(UserError, match=r"no part 'middle': .*continuous, discrete"):
        Capacity(part="middle")(out, net)
    with pytest.raises(UserError, match="reads a JointLatent, but bottleneck Gaussian"):
        Objective({"c": Capacity(part="discrete")}).check(Autoencoder, Gaussian((4,)), NoCorruption)


@pytest.mark.parametrize(
    ("bottleneck", "options"),
    [
        (Categorical, {"categories": 1}),
        (Categorical, {"temperature": 0.0}),
        (Joint, {"variables": 0}),
        (GaussianMixture, {"components": 0}),
    ],
)
def test_senseless_options_are_refused(bottleneck: type[Bottleneck], options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"bottleneck \w+: .* must be"):
        bottleneck((7,), **options)


def test_the_two_one_hot_axes_are_kept_apart() -> None:
    """Variables and categories of different counts, at positions: a swapped axis would go unnoticed at N = C."""
    logits = torch.randn(2, 3, 5, 4)
    value = OneHotVariables(logits).sample((6,))
    assert value.shape == (6, 2, 15, 4)
    assert OneHotVariables(logits).log_prob(value).shape == (6, 2, 3, 4)


# torch reads `.grad` of what it is given behind a graph break: it cannot trace a distribution that remembers.
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("name", ["vamp", *LEARNT, "ladder", "flow_posterior"])
def test_a_compiled_model_gives_the_same_loss(name: str) -> None:
    torch.compiler.reset()
    net = vamp() if name == "vamp" else model(bottleneck=BOTTLENECKS[name])
    data, totals = batch(), []
    for compiled in (False, True):
        if compiled:
            net.compile(backend="eager")
        torch.manual_seed(1)
        totals.append(LOSSES["elbo"]()(net(data), net).total)
    torch.testing.assert_close(totals[0], totals[1])
