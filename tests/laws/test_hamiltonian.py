"""Hamiltonian dynamics: steps that can be undone, volumes, energy, and the bound they give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from instances import BOTTLENECKS, CORRUPTIONS, DECODER, ENCODER, IMAGE, LIKELIHOODS, LOSSES, SERIES, batch, model
from torch.distributions import Normal
from torch.func import jacrev

from narrows.decoders.conv import ConvDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.losses.discrepancy import MMD
from narrows.losses.divergence import evidence_lower_bound, posterior_kl
from narrows.losses.importance import ImportanceWeighted, log_joint, log_posterior
from narrows.models.hamiltonian import HamiltonianAutoencoder, _Leapfrog
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, GaussianLatent, MomentumLatent

TEMPERINGS = ("none", "fixed", "quadratic")


@pytest.fixture
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def hamiltonian(spec: DataSpec = IMAGE, **options: Any) -> HamiltonianAutoencoder:
    stages = Stages(
        encoder=ENCODER,
        bottleneck=BOTTLENECKS["gaussian"],
        decoder=DECODER,
        likelihood=LIKELIHOODS["gaussian_fixed"],
        corruption=CORRUPTIONS["none"],
    )
    exchanged = {name: options.pop(name) for name in vars(stages) if name in options}
    found = HamiltonianAutoencoder(spec, replace(stages, **exchanged), **options)
    # Smooth, so that energy errors have the order that the theory says.
    for module in list(found.decoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.ReLU):
                setattr(module, name, torch.nn.Tanh())
    return found


def flow(net: HamiltonianAutoencoder, n: int = 3) -> _Leapfrog:
    return _Leapfrog(net, Batch(torch.rand(n, *net.spec.shape)))


def with_step(net: HamiltonianAutoencoder, size: float) -> HamiltonianAutoencoder:
    torch.nn.init.constant_(net.raw_step, math.log(size / (net.largest_step - size)))
    return net


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("tempering", TEMPERINGS)
def test_the_steps_can_be_undone_and_scale_volume_by_the_tempering_alone(tempering: str) -> None:
    net = with_step(hamiltonian(tempering=tempering, likelihood=LIKELIHOODS["gaussian_shared"]), 0.3)
    steps, state = flow(net, 1), torch.randn(1, 10)
    end, log_det = steps.forward(state)
    assert (end - state).abs().max() > 0.1
    torch.testing.assert_close(steps.inverse(end)[0], state)
    torch.testing.assert_close(steps.inverse(end)[1], -log_det)
    jacobian: Any = torch.autograd.functional.jacobian(lambda s: steps.forward(s)[0][0], state)[:, 0]
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det.detach())
    torch.testing.assert_close(log_det, 2.5 * net.log_beta())
    assert (log_det == 0) == (tempering == "none")
    many = torch.randn(4, 1, 10)
    torch.testing.assert_close(steps.forward(many)[0][2], steps.forward(many[2])[0])


@pytest.mark.usefixtures("_double")
def test_the_force_is_the_gradient_of_log_p_x_z() -> None:
    net = hamiltonian()
    steps, z = flow(net, 2), torch.randn(2, 5)

    def log_p(z: torch.Tensor, i: int) -> torch.Tensor:
        p_x = Normal(net.decoder(z[None])[0], 0.7).log_prob(steps.seen.x[i]).sum()
        return p_x + Normal(torch.zeros(5), torch.ones(5)).log_prob(z).sum()

    expected = torch.stack([jacrev(log_p)(z[i], i) for i in range(2)])
    torch.testing.assert_close(steps._force(z), expected)


@pytest.mark.usefixtures("_double")
def test_energy_is_kept_to_the_second_order_in_the_step() -> None:
    net = hamiltonian(tempering="none", steps=4, largest_step=1.0)
    errors = []
    for split in (1, 2, 4):
        net.steps = 4 * split
        steps, state = (
            _Leapfrog(with_step(net, 0.2 / split), Batch(torch.ones(6, 1, 8, 8) / 2)),
            torch.randn(6, 10),
        )
        torch.manual_seed(1)
        state = torch.randn(6, 10)

        def energy(state: torch.Tensor, steps: _Leapfrog = steps) -> torch.Tensor:
            z, _ = state.chunk(2, 1)
            return -steps._log_likelihood(z) + 0.5 * state.square().sum(1)

        errors.append(float((energy(steps.forward(state)[0]) - energy(state)).detach().abs().mean()))
    assert errors[0] > 0
    for coarse, fine in pairwise(errors):
        assert 3 < coarse / fine < 5.5


@pytest.mark.parametrize("tempering", TEMPERINGS)
def test_coolings(tempering: str) -> None:
    net = hamiltonian(tempering=tempering, steps=4)
    product = torch.stack(net.coolings()).prod()
    torch.testing.assert_close(product, (0.5 * net.log_beta()).exp())
    if tempering == "quadratic":
        hot = 2**0.5
        roots = [1 / ((1 - hot) * k**2 / 16 + hot) for k in range(5)]
        expected = [a / b for a, b in pairwise(roots)]
        torch.testing.assert_close(torch.stack(net.coolings()), torch.tensor(expected))


@pytest.mark.parametrize("tempering", TEMPERINGS)
def test_the_bound_by_hand(tempering: str) -> None:
    """Algorithm 1 of the paper: `log p(x, z_K) + log N(rho_K) - log q_0(z_0) - log N(gamma_0)`."""
    net, data = hamiltonian(tempering=tempering), batch()
    torch.manual_seed(4)
    out = net(data)
    latent = out.latent
    assert isinstance(latent, MomentumLatent)
    base = latent.posterior.base
    torch.manual_seed(4)
    net.bottleneck.posterior(net.encoder(data.x)).rsample()  # the Gaussian bottleneck's own draw
    start = base.rsample()
    z_0, rho_0 = start.chunk(2, 1)
    end, _ = _Leapfrog(net, data).forward(start)
    z, _ = end.chunk(2, 1)
    torch.testing.assert_close(latent.z, z)
    standard = Normal(0.0, 1.0)
    gamma = rho_0 * (0.5 * net.log_beta()).exp()
    q_0 = net.bottleneck.posterior(net.encoder(data.x))
    expected = net.decode(z).log_prob(data.x).flatten(1).sum(1) + standard.log_prob(end).sum(1)
    expected = expected - q_0.log_prob(z_0).sum(1) - standard.log_prob(gamma).sum(1)
    torch.testing.assert_close(evidence_lower_bound(out), expected, rtol=1e-4, atol=1e-3)
    again = latent.posterior.log_prob(latent.state.clone())
    torch.testing.assert_close(again, latent.posterior.log_prob(latent.state), rtol=1e-4, atol=1e-3)


def test_without_steps_it_is_the_vae() -> None:
    net, plain, data = hamiltonian(steps=0, tempering="none"), model(likelihood=LIKELIHOODS["gaussian_fixed"]), batch()
    missing = net.load_state_dict(plain.state_dict())
    assert not missing.missing_keys
    torch.manual_seed(0)
    drawn = torch.stack([evidence_lower_bound(net(data)) for _ in range(200)])
    latent, ours = plain.encode(data.x), net.encode(data.x)
    torch.testing.assert_close(latent.point, ours.point)
    z = ours.posterior.rsample((5,))
    gap = log_joint(net, data, ours, z) - log_posterior(ours, z)
    plain.decoder.load_state_dict(net.decoder.state_dict())
    assert isinstance(latent, GaussianLatent)
    here = z.chunk(2, 2)[0]
    p_x = torch.stack([net.decode(part).log_prob(data.x).flatten(1).sum(1) for part in here])
    expected = p_x + (latent.prior.log_prob(here) - latent.posterior.log_prob(here)).sum(2)
    torch.testing.assert_close(gap, expected, rtol=1e-4, atol=1e-3)
    means = -posterior_kl(latent).sum(1)
    p_x = torch.stack([net.decode(latent.posterior.sample()).log_prob(data.x).flatten(1).sum(1) for _ in range(200)])
    error = (drawn.var(0) / 200 + p_x.var(0) / 200).sqrt()
    assert ((drawn.mean(0) - p_x.mean(0) - means).abs() < 5 * error).all()


@pytest.mark.parametrize("tempering", ["none", "quadratic"])
def test_tempering_is_what_tightens_the_bound(tempering: str) -> None:
    """Steps that keep the energy keep the bound, draw for draw; cooled ones bring a wide q_0 nearer to p(z|x)."""
    data, bounds = batch(n=40), []
    for steps in (0, 10):
        torch.manual_seed(0)
        net = hamiltonian(steps=steps, tempering=tempering if steps else "none")
        with torch.no_grad():
            for p in net.decoder.parameters():
                p.mul_(2)
            net.bottleneck.projection.weight.zero_()
            net.bottleneck.projection.bias.zero_()
            if steps:
                with_step(net, 0.1 if tempering == "quadratic" else 0.02)
            bounds.append(float(torch.stack([evidence_lower_bound(net(data)) for _ in range(25)]).mean()))
    if tempering == "none":
        assert abs(bounds[1] - bounds[0]) < 1.0
    else:
        assert bounds[1] > bounds[0] + 1


CONV = {
    "encoder": lambda s: ConvEncoder(s, channels=[4, 6], norm="batch"),
    "decoder": lambda a, b: ConvDecoder(a, b, channels=[6, 4], norm="batch"),
}


@pytest.mark.parametrize("options", [{}, CONV, {"corruption": CORRUPTIONS["masking"]}, {"tempering": "fixed"}])
@pytest.mark.parametrize("spec", [IMAGE, SERIES])
def test_it_trains_evaluates_and_loads(spec: DataSpec, options: dict[str, Any]) -> None:
    net, data, objective = hamiltonian(spec, **options), batch(spec), LOSSES["elbo"]()
    for n in (6, 1):
        net.zero_grad()
        objective(net(batch(spec, n=n)), net).total.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
        if n > 1:
            assert all(p.grad.any() for p in net.parameters())
    net.eval()
    with torch.no_grad():
        assert torch.isfinite(objective(net(data), net).total)
        assert torch.equal(net.embed(data.x), net.embed(data.x))
        torch.testing.assert_close(net.embed(data.x[:1]), net.embed(data.x)[:1], rtol=1e-4, atol=1e-5)
    assert net.embed(data.x).shape == (6, 5)
    assert net.sample(3).shape == (3, *spec.shape)
    again = hamiltonian(spec, **options).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.reconstruct(data.x), net.reconstruct(data.x))


@pytest.mark.parametrize("mode", [True, False])
def test_examples_do_not_mix_and_a_pass_moves_no_statistic(mode: bool) -> None:
    net = hamiltonian(**CONV).train(mode)
    with torch.no_grad():
        for buffer in net.decoder.buffers():
            if buffer.dtype.is_floating_point:
                buffer.uniform_(0.5, 1.5)
    steps = flow(net)
    before = {name: buffer.clone() for name, buffer in net.decoder.named_buffers()}
    state = torch.randn(3, 10)
    alone = _Leapfrog(net, Batch(steps.seen.x[:1])).forward(state[:1])[0]
    torch.testing.assert_close(steps.forward(state)[0][:1], alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.decoder.named_buffers())
    assert net.decoder.training is mode


@pytest.mark.parametrize("term", [ImportanceWeighted(samples=3), ImportanceWeighted(samples=2, doubly=True), MMD()])
def test_other_terms_read_it(term: Any) -> None:
    net = hamiltonian()
    out = net(batch())
    value = term(out, net).mean()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(net.raw_step.grad).all()
    assert net.draw(4).shape == (4, 5)


def test_the_step_and_the_temperature_stay_in_their_ranges() -> None:
    net = hamiltonian(largest_step=0.2)
    for raw in (-50.0, 0.0, 50.0):
        torch.nn.init.constant_(net.raw_step, raw)
        torch.nn.init.constant_(net.raw_beta, raw)
        assert 0 <= net.step_size().min() <= net.step_size().max() <= 0.2
        assert net.log_beta() <= 0
    torch.testing.assert_close(hamiltonian().step_size(), torch.full((5,), 0.1))


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(UserError, match="the posterior must be Gaussian, but bottleneck TopK"):
        hamiltonian(bottleneck=BOTTLENECKS["topk"])
    with pytest.raises(UserError, match="model hamiltonian: steps must be from 0 to 1,000"):
        hamiltonian(steps=-1)
    with pytest.raises(UserError, match="without steps nothing is tempered"):
        hamiltonian(steps=0)
    with pytest.raises(UserError, match="no tempering 'quadratc': did you mean 'quadratic'"):
        hamiltonian(tempering="quadratc")
    net = hamiltonian()
    with pytest.raises(UserError, match="reads a GaussianLatent, but model HamiltonianAutoencoder returns a Momentum"):
        LOSSES["beta_tc"]().check(type(net), net.bottleneck, type(net.corruption))
