"""Two players, one backward: isolated, of the right sign, and equal to two optimisers."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from instances import BOTTLENECKS, CRITIC, IMAGE, LOSSES, TERMS, batch, model
from torch import Tensor, nn
from training.module_helpers import constant, fit, module, network, quiet

from narrows.encoders.conv import ConvEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.adversarial import LatentAdversary, OutputAdversary, shuffled
from narrows.losses.critic import Critic
from narrows.losses.isolation import frozen
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import FINAL_STEP, Batch, DataSpec, Output

pytestmark = quiet
VECTOR = DataSpec(shape=(12,), kind="vector", size=100, value_range=(0.0, 1.0))
ADVERSARIES = ("latent_adversary", "tc_critic", "output_adversary")
SMALL = partial(MLPEncoder, widths=[8], activation="tanh")
OPTIONS = {"plain": {}, "r1": {"r1": 3.0}, "spectral": {"spectral_norm": True}}


def meeting(name: str, **options: float) -> tuple[Autoencoder, nn.Module, Output]:
    net = model(VECTOR)
    term = TERMS[name].func(critic=partial(Critic, encoder=SMALL, **options))  # type: ignore[attr-defined]
    term.attach(net)
    return net, term, net(batch(VECTOR))


def moved(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


# ── isolation: Pythae's and disentangling-vae's critic losses leak into the encoder ─────────────────────


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_a_critic_s_loss_leaves_the_model_s_gradients_untouched(name: str, options: str) -> None:
    net, term, out = meeting(name, **OPTIONS[options])
    term(out, net)
    term.opponent(out, net).mean().backward()
    assert moved(net) == set()
    assert all(p.grad is None for p in net.parameters())
    assert moved(term.critic) == {name for name, _ in term.critic.named_parameters()}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_a_model_s_loss_leaves_the_critic_s_gradients_untouched(name: str, options: str) -> None:
    net, term, out = meeting(name, **OPTIONS[options])
    state = deepcopy(term.state_dict())
    term(out, net).mean().backward()
    assert all(p.grad is None and p.requires_grad for p in term.critic.parameters())
    assert all(torch.equal(value, state[key]) for key, value in term.state_dict().items())
    assert any(name.startswith("encoder.") for name in moved(net)) or name == "output_adversary"
    assert all(part.training for part in term.critic.modules())


def test_the_encoder_sees_the_features_and_not_the_adversary() -> None:
    for match, expected in ((0.0, {"decoder"}), (1.0, {"encoder", "bottleneck", "decoder"})):
        net = model(VECTOR)
        term = OutputAdversary(critic=CRITIC, match=match)
        term.attach(net)
        term(net(batch(VECTOR)), net).mean().backward()
        assert {name.partition(".")[0] for name in moved(net)} == expected


def test_one_backward_gives_each_player_its_own_gradient() -> None:
    net = model(VECTOR)
    objective = LOSSES["latent_adversarial"]()
    objective.attach(net)
    term = objective["adversary"]
    out = net(batch(VECTOR))
    torch.manual_seed(5)
    losses = objective(out, net)
    losses.total.backward(retain_graph=True)
    torch.manual_seed(5)
    term(out, net)
    expected = torch.autograd.grad(term.opponent(out, net).mean(), list(term.critic.parameters()))
    torch.testing.assert_close([p.grad for p in term.critic.parameters()], list(expected))
    assert losses.total.item() == pytest.approx(
        losses.terms["reconstruction"].item() + losses.terms["adversary"].item(), rel=1e-5
    ), "the critic's loss is no part of the total's value"
    assert losses.terms["adversary_critic"].item() == pytest.approx(math.log(2), abs=0.3)


# ── the figure that chooses a checkpoint ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loss", ["latent_adversarial", "factor", "output_adversarial"])
def test_a_moving_critic_does_not_move_the_monitored_loss(loss: str) -> None:
    net, objective = model(VECTOR).eval(), LOSSES[loss]()
    objective.attach(net)
    with torch.no_grad():
        out = net(batch(VECTOR))
        out.step = FINAL_STEP
        before = objective(out, net)
        for critic in (part for part in objective.modules() if isinstance(part, Critic)):
            for parameter in critic.parameters():
                parameter.copy_(3 * torch.randn_like(parameter))
        after = objective(out, net)
    (adversary,) = {name for name in after.terms if f"{name}_critic" in after.terms}
    assert not torch.isclose(after.terms[adversary], before.terms[adversary], rtol=1e-3)
    assert torch.equal(after.monitored, before.monitored)
    rest = sum(objective[name].weight(FINAL_STEP) * after.terms[name] for name in objective if name != adversary)
    torch.testing.assert_close(after.monitored, rest)


def test_validation_reports_the_monitored_loss_and_the_adversary_beside_it() -> None:
    net, objective = network(), LOSSES["latent_adversarial"]()
    trainer, recorder = fit(module(net, objective), max_epochs=1)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert figures["val/loss"] == pytest.approx(figures["val/reconstruction"], rel=1e-6)
    assert {"val/adversary", "val/adversary_critic"} <= set(figures)
    losses, terms, adversary = (recorder.series(f"train/{name}") for name in ("loss", "reconstruction", "adversary"))
    for (_, loss), (_, nats), (_, value) in zip(losses, terms, adversary, strict=True):
        assert loss == pytest.approx(nats + objective["adversary"].weight(0) * value, rel=1e-5)


# ── signs: Pythae's VAEGAN gives the decoder the adversarial gradient reversed ──────────────────────────


def test_fooling_means_that_the_critic_s_logit_of_fakes_rises() -> None:
    net, term, out = meeting("latent_adversary")
    (gradient,) = torch.autograd.grad(term(out, net).sum(), out.latent.z, retain_graph=True)
    z = out.latent.z.detach().requires_grad_()
    (uphill,) = torch.autograd.grad(term.critic(z).sum(), z)
    assert ((-gradient * uphill).sum(1) > 0).all(), "down the loss is up the logit of being real"


def test_the_decoder_s_fakes_rise_too() -> None:
    net = model(VECTOR)
    term = OutputAdversary(critic=CRITIC, match=0.0)
    term.attach(net)
    out = net(batch(VECTOR, 50))
    torch.manual_seed(2)
    loss = term(out, net).mean()
    loss.backward()
    with torch.no_grad():
        for p in net.decoder.parameters():
            p -= 0.01 * p.grad
    torch.manual_seed(2)
    assert term(out, net).mean() < loss
    torch.manual_seed(2)
    fakes = net.decode(out.latent.z.detach()).mean
    assert term.critic(fakes).mean() > term.critic(out.p_x.mean).mean()


def test_a_critic_s_steps_raise_real_and_lower_fake() -> None:
    critic = Critic((2,), encoder=SMALL)
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        critic.loss(torch.randn(64, 2) + 2, torch.randn(64, 2) - 2).mean().backward()
        optimizer.step()
    assert critic(torch.full((1, 2), 2.0)) > 2
    assert critic(torch.full((1, 2), -2.0)) < -2


def test_an_optimal_critic_s_logit_is_the_log_density_ratio() -> None:
    """TC by density ratio: on a correlated Gaussian with known total correlation."""
    rho = 0.8
    exact = -0.5 * math.log(1 - rho**2)
    critic = Critic((2,), encoder=partial(MLPEncoder, widths=[64, 64], activation="tanh"))
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)

    def draw(n: int) -> Tensor:
        a, b = torch.randn(2, n)
        return torch.stack([a, rho * a + math.sqrt(1 - rho**2) * b], 1)

    for _ in range(400):
        optimizer.zero_grad()
        z = draw(512)
        critic.loss(real=z, fake=shuffled(z)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert critic(draw(20_000)).mean().item() == pytest.approx(exact, abs=0.08)


# ── one backward equals two optimisers ──────────────────────────────────────────────────────────────────


def textbook(net: Autoencoder, critic: Critic, batches: list[Tensor], weight: float, lr: float) -> None:
    """Two losses, two optimisers, two backward passes; nothing of narrows' terms."""
    ours, theirs = torch.optim.Adam(net.parameters(), lr=1e-2), torch.optim.Adam(critic.parameters(), lr=lr)
    for step, x in enumerate(batches):
        torch.manual_seed(step)
        out = net(Batch(x))
        fooling = F.binary_cross_entropy_with_logits(critic(out.latent.z), torch.ones(len(x)))
        loss = -out.p_x.log_prob(x).sum(1).mean() + weight * fooling
        real, fake = torch.randn_like(out.latent.z), out.latent.z.detach()
        telling = F.binary_cross_entropy_with_logits(
            torch.cat([critic(real), critic(fake)]), torch.cat([torch.ones(len(x)), torch.zeros(len(x))])
        )
        gradient = torch.autograd.grad(loss, list(net.parameters()))
        ours.zero_grad()
        theirs.zero_grad()
        telling.backward()
        for p, g in zip(net.parameters(), gradient, strict=True):
            p.grad = g
        ours.step()
        theirs.step()


@pytest.mark.parametrize("lr", [None, 1e-3])
def test_one_backward_equals_two_optimisers(lr: float | None) -> None:
    batches = [torch.rand(16, 12) for _ in range(50)]
    net = model(VECTOR)
    term = LatentAdversary(weight=7.0, critic=partial(Critic, encoder=SMALL, lr=lr))
    objective = Objective({"reconstruction": NegativeLogLikelihood(), "adversary": term})
    module = AutoencoderModule(net, objective, optimizer=partial(torch.optim.Adam, lr=1e-2), scheduler=constant)
    (optimizer,), _ = module.configure_optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, lr or 1e-2]
    other, critic = deepcopy(net), deepcopy(term.critic)
    start = nn.utils.parameters_to_vector(term.critic.parameters()).clone()
    for step, x in enumerate(batches):
        torch.manual_seed(step)
        losses = objective(net(Batch(x)), net)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    textbook(other, critic, batches, 7.0, lr or 1e-2)
    for mine, its in ((net, other), (term.critic, critic)):
        vectors = [nn.utils.parameters_to_vector(part.parameters()) for part in (mine, its)]
        torch.testing.assert_close(*vectors, rtol=1e-4, atol=1e-4)
    assert (nn.utils.parameters_to_vector(term.critic.parameters()) - start).norm() > 0.1


# ── the critic ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(5,), (2, 9), (1, 8, 8)])
def test_one_logit_per_example(shape: tuple[int, ...]) -> None:
    encoder = SMALL if len(shape) == 1 else partial(ConvEncoder, channels=[3], flatten=False)
    assert Critic(shape, encoder=encoder)(torch.randn(4, *shape)).shape == (4,)
    assert Critic(shape, encoder=encoder).features(torch.randn(4, *shape)).ndim == 2


def test_r1_is_the_gradient_s_norm_at_real_examples_alone() -> None:
    critic = Critic((5,), encoder=SMALL, r1=4.0).double()
    real, fake = torch.randn(2, 6, 5, dtype=torch.float64)
    bare = 0.5 * (F.softplus(-critic(real)) + F.softplus(critic(fake)))
    slopes = torch.stack([torch.autograd.functional.jacobian(lambda x: critic(x[None])[0], row) for row in real])
    torch.testing.assert_close(critic.loss(real, fake), bare + 2.0 * slopes.square().sum(1))
    with torch.no_grad():
        assert torch.equal(critic.loss(real, fake), critic.loss(real, fake))


def test_spectral_norm_makes_every_layer_a_contraction() -> None:
    critic = Critic((1, 8, 8), encoder=partial(ConvEncoder, channels=[4, 4]), spectral_norm=True)
    for _ in range(100):
        critic(torch.randn(2, 1, 8, 8))
    weights = [m.weight for m in critic.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert len(weights) == 3
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("options", [{"r1": -1.0}, {"lr": 0.0}])
def test_the_critic_refuses(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"critic: (r1 must be at least 0|lr must be above 0)"):
        Critic((3,), **options)


def test_shuffling_permutes_each_entry_over_the_examples() -> None:
    z = torch.randn(40, 5, 3)
    mixed = shuffled(z)
    for entry in range(5):
        rows = {tuple(row.tolist()) for row in mixed[:, entry]}
        assert rows == {tuple(row.tolist()) for row in z[:, entry]}, "positions stay together"
    assert not torch.equal(mixed, z)
    assert torch.equal(shuffled(z[:1]), z[:1])


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("n", [1, 6])
def test_validation_needs_no_gradient_and_a_batch_of_one_works(name: str, n: int) -> None:
    net, term, _ = meeting(name, r1=1.0)
    with torch.no_grad():
        out = net.eval()(batch(VECTOR, n))
        values = term(out, net), term.opponent(out, net)
    assert all(value.shape == (n,) and torch.isfinite(value).all() for value in values)


def test_missing_values_tell_the_critic_nothing() -> None:
    net = model(VECTOR)
    term = OutputAdversary(critic=CRITIC)
    term.attach(net)
    data = batch(VECTOR)
    data.observed = torch.rand_like(data.x) > 0.5
    values = []
    for filling in (0.0, 9.0):
        data.x = torch.where(data.observed, data.x, torch.tensor(filling))
        out = net(Batch(torch.zeros_like(data.x), target=data.x, observed=data.observed))
        out.latent.z = out.latent.point
        out.p_x = net.decode(out.latent.point)
        torch.manual_seed(3)
        values.append((term(out, net), term.opponent(out, net)))
    torch.testing.assert_close(*values)


def test_frozen_gives_everything_back() -> None:
    net = model(bottleneck=BOTTLENECKS["topk"])
    net.encoder.requires_grad_(False)
    before = [(p.requires_grad) for p in net.parameters()]

    def inside(fail: Callable[[], None]) -> None:
        with frozen(net):
            assert not net.training
            assert not any(p.requires_grad for p in net.parameters())
            fail()

    with pytest.raises(ZeroDivisionError):
        inside(lambda: 1 / 0)
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == before


def test_a_tc_critic_needs_a_variational_latent() -> None:
    net, objective = model(IMAGE, bottleneck=BOTTLENECKS["topk"]), LOSSES["factor"]()
    del objective["kl"]
    with pytest.raises(UserError, match=r"'tc' \(TotalCorrelationCritic\) reads a VariationalLatent"):
        objective.check(type(net), net.bottleneck, type(net.corruption))
