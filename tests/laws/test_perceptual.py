"""What pretrained networks see is compared; critics of patches, their starts, and the weight that balances them."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from instances import IMAGE, SERIES, TABLE, TERMS, batch, model
from torch import nn
from torch.distributions import Normal

from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.layers import FeatureNetwork
from narrows.losses import Critic, Objective, OutputAdversary, Perceptual, TotalCorrelationCritic, perceptual
from narrows.losses.objective import balance
from narrows.losses.perceptual import perceptual_distance
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.types import FINAL_STEP, Batch, DataSpec, Latent, Output

PICTURE = DataSpec((3, 16, 16), "image", 10, value_range=(-1.0, 1.0))
PATCHES = partial(Critic, encoder=partial(ConvEncoder, channels=[3], flatten=False), patches=True, hinge=True)


def judged(data: torch.Tensor, mean: torch.Tensor, spec: DataSpec = PICTURE, **options: Any) -> torch.Tensor:
    term = Perceptual(features=partial(FeatureNetwork, layers=["stem", "stage2"]), **options)
    term.build(spec)
    return term(Output(Batch(data), Batch(data), Latent(data, data), p_x=Normal(mean, 1.0)), None)


# ── the perceptual distance ─────────────────────────────────────────────────────────────────────────────


def test_the_distance_is_the_papers() -> None:
    torch.manual_seed(0)
    seen = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    other = [torch.rand_like(x) for x in seen]
    weights = [torch.rand(3), torch.rand(5)]
    plain, weighted = [0.0, 0.0], [0.0, 0.0]
    for a, b, w in zip(seen, other, weights, strict=True):
        for row in range(2):
            for y in range(a.shape[2]):
                for x in range(a.shape[3]):
                    u, v = a[row, :, y, x], b[row, :, y, x]
                    gap = (u / u.norm() - v / v.norm()) ** 2 / a[row, 0].numel()
                    plain[row] += float(gap.sum()) / 2
                    weighted[row] += float((w * gap).sum())
    torch.testing.assert_close(perceptual_distance(seen, other), torch.tensor(plain))
    torch.testing.assert_close(perceptual_distance(seen, other, weights), torch.tensor(weighted))


def test_equal_pictures_have_no_distance_and_others_have_one() -> None:
    x = 2 * torch.rand(2, 3, 16, 16) - 1
    mean = x.clone().requires_grad_()
    distance = judged(x, mean)
    distance.sum().backward()
    assert distance.shape == (2,)
    torch.testing.assert_close(distance, torch.zeros(2), atol=1e-4, rtol=0)
    assert mean.grad is not None
    assert mean.grad.abs().max() < 1e-2
    small, large = (judged(x, (x + step * torch.randn_like(x)).clamp(-1, 1)) for step in (0.05, 0.5))
    assert (small > 0).all()
    assert (small < large).all()


def test_the_gradient_reaches_the_reconstruction_alone() -> None:
    x, mean = (torch.rand(2, 3, 16, 16, requires_grad=True) for _ in range(2))
    judged(x, mean).sum().backward()
    assert x.grad is None
    assert mean.grad is not None
    assert mean.grad.abs().sum() > 0


def test_the_data_s_own_range_does_not_matter() -> None:
    x, mean = torch.rand(2, 2, 3, 16, 16)
    unit = DataSpec((3, 16, 16), "image", 10, value_range=(0.0, 1.0))
    torch.testing.assert_close(judged(x, mean, unit), judged(2 * x - 1, 2 * mean - 1), rtol=1e-3, atol=1e-2)


def test_missing_values_do_not_count() -> None:
    x = torch.rand(2, 3, 16, 16)
    observed = torch.rand(2, 3, 16, 16) > 0.3
    term = Perceptual(features=partial(FeatureNetwork, layers=["stem"]))
    term.build(PICTURE)
    out = Output(Batch(x, observed=observed), Batch(x), Latent(x, x), p_x=Normal(torch.where(observed, x, 9.0), 1.0))
    torch.testing.assert_close(term(out, None), torch.zeros(2), atol=1e-4, rtol=0)


def test_the_network_is_no_part_of_the_objective_s_state() -> None:
    net = model()
    objective = Objective({"reconstruction": NegativeLogLikelihood(), "perceptual": TERMS["perceptual"]()})
    objective.attach(net)
    assert dict(objective.named_parameters()) == {}
    assert objective.state_dict() == {}
    objective(net(batch()), net).total.backward()
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    assert file.tell() < 10_000
    objective.double()
    net.double()
    examples = batch()
    examples.x = examples.x.double()
    assert objective(net(examples), net).total.dtype == torch.float64


@pytest.mark.parametrize(
    "spec", [TABLE, SERIES, DataSpec((2, 8, 8), "image", 9, value_range=(0.0, 1.0)), DataSpec((1, 8, 8), "image", 9)]
)
def test_other_data_are_refused(spec: DataSpec) -> None:
    with pytest.raises(UserError, match="term perceptual"):
        Perceptual().build(spec)


def test_learned_weights_are_of_vgg_s_layers_and_of_lpips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = FeatureNetwork.usual_layers("vgg16")
    vgg: Any = SimpleNamespace(name="vgg16", layers=layers, channels=(64, 128, 256, 512, 512))
    with pytest.raises(UserError, match=r"not for .* of efficientnet_lite0"):
        perceptual.learned_weights(FeatureNetwork(layers=["stem"]))
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install lpips"):
        perceptual.learned_weights(vgg)
    place = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(perceptual, "find_spec", lambda name: place)
    file = tmp_path / "weights" / "v0.1" / "vgg.pth"
    file.parent.mkdir(parents=True)
    state = {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1) for i, n in enumerate(vgg.channels)}
    torch.save(state, file)
    assert [len(weight) for weight in perceptual.learned_weights(vgg)] == list(vgg.channels)
    torch.save({name: value for name, value in state.items() if "lin4" not in name}, file)
    with pytest.raises(UserError, match="does not hold"):
        perceptual.learned_weights(vgg)


# ── critics of patches ──────────────────────────────────────────────────────────────────────────────────


def test_a_critic_of_patches_judges_each_by_itself() -> None:
    critic = PATCHES((1, 8, 8))
    x = torch.rand(2, 1, 8, 8)
    other = x.clone()
    other[:, :, :2, :2] += 1
    before, after = critic(x), critic(other)
    assert before.shape == (2, 16)
    changed = (before != after).any(0).reshape(4, 4)
    assert changed[0, 0]
    assert not changed[2:].any(), "a patch does not see the far side"
    assert not changed[:, 2:].any()
    assert critic.features(x).shape == (2, 48)


def test_hinge_losses_are_the_formula_s() -> None:
    critic = PATCHES((1, 8, 8))
    real, fake = torch.randn(2, 3, 1, 8, 8) * 9
    expected = 0.5 * (F.relu(1 - critic(real)) + F.relu(1 + critic(fake))).mean(1)
    torch.testing.assert_close(critic.loss(real, fake), expected)
    torch.testing.assert_close(critic.model_loss(fake), -critic(fake).mean(1))


def test_lecam_pulls_judgements_to_each_other_s_running_means() -> None:
    critic = PATCHES((1, 8, 8), lecam=2.0)
    plain = PATCHES((1, 8, 8))
    plain.load_state_dict({name: value for name, value in critic.state_dict().items() if name != "means"})
    real, fake = torch.randn(2, 3, 1, 8, 8)
    loss = critic.loss(real, fake)
    means = 0.01 * torch.stack([plain(real).mean(), plain(fake).mean()])
    torch.testing.assert_close(critic.means, means.detach())
    penalty = (plain(real) - means[1]).square() + (plain(fake) - means[0]).square()
    torch.testing.assert_close(loss, plain.loss(real, fake) + 2 * penalty.mean(1))
    with torch.no_grad():
        critic.eval().loss(real, fake)
    torch.testing.assert_close(critic.means, means.detach())  # evaluation moves nothing
    with pytest.raises(UserError, match="lecam must be at least 0"):
        PATCHES((1, 8, 8), lecam=-1.0)


def test_a_density_ratio_needs_a_whole_judgement_in_nats() -> None:
    term = TotalCorrelationCritic(critic=partial(Critic, hinge=True))
    with pytest.raises(UserError, match="hinge=false and patches=false"):
        term.attach(model())


# ── starts ──────────────────────────────────────────────────────────────────────────────────────────────


def game(**options: Any) -> tuple[Any, Objective, OutputAdversary]:
    net = model()
    term = OutputAdversary(critic=PATCHES, match=0.0, reconstructions=True, **options)
    objective = Objective({"reconstruction": NegativeLogLikelihood(), "adversary": term})
    objective.attach(net)
    objective.span(10)
    return net, objective, term


@pytest.mark.parametrize("start", [4, 0.4])
def test_neither_player_learns_before_the_start(start: int | float) -> None:
    net, objective, term = game(weight=3.0, start=start)
    optimizer = torch.optim.AdamW([*net.parameters(), *objective.parameters()], lr=1e-2)
    fresh = nn.utils.parameters_to_vector(term.critic.parameters()).clone()
    for step in range(6):
        out = net(batch())
        out.step = step
        optimizer.zero_grad()
        losses = objective(out, net)
        losses.total.backward()
        assert all(p.grad is not None for p in term.critic.parameters()), "several processes wait for each"
        objective.hold(step)
        optimizer.step()
        moved = not torch.equal(nn.utils.parameters_to_vector(term.critic.parameters()), fresh)
        weight = objective.weights(step)["adversary"]
        if step < 4:
            assert (weight, moved) == (0.0, False)
            torch.testing.assert_close(losses.total, losses.terms["reconstruction"])
        else:
            assert (weight, moved) == (3.0, True)
            assert losses.terms["adversary"] != 0
    steps = {int(optimizer.state[p]["step"]) for p in term.critic.parameters()}
    assert steps == {2}, "the optimiser begins with the critic"
    assert objective.weights(FINAL_STEP)["adversary"] == 3.0


@pytest.mark.parametrize("start", [-1, 1.5])
def test_a_start_outside_the_run_is_refused(start: int | float) -> None:
    with pytest.raises(UserError, match="start must be"):
        OutputAdversary(start=start)


# ── the adaptive weight ─────────────────────────────────────────────────────────────────────────────────


def test_the_adaptive_weight_brings_both_gradients_to_one_size() -> None:
    net, objective, term = game(weight=0.8, adaptive=True)
    out = net(batch())
    out.step = 1
    losses = objective(out, net)
    last = net.decoder.layers[-1].weight if hasattr(net.decoder, "layers") else list(net.decoder.parameters())[-2]
    rebuilding, fooling = (
        torch.autograd.grad(losses.terms[name], last, retain_graph=True)[0] for name in ("reconstruction", "adversary")
    )
    factor = losses.terms["adversary_factor"]
    torch.testing.assert_close(factor, rebuilding.norm() / (fooling.norm() + 1e-4), rtol=1e-3, atol=0)
    torch.testing.assert_close(
        losses.total, losses.terms["reconstruction"] + 0.8 * factor * losses.terms["adversary"], rtol=1e-4, atol=1e-4
    )
    (together,) = torch.autograd.grad(losses.total, last, retain_graph=True)
    torch.testing.assert_close(together, rebuilding + 0.8 * factor * fooling, rtol=1e-3, atol=1e-3)
    assert not factor.requires_grad
    with torch.no_grad():
        assert "adversary_factor" not in objective(out, net).terms
    assert term.adaptive


def test_a_term_without_a_gradient_cannot_take_over() -> None:
    net, _, _ = game(adaptive=True)
    out = net(batch())
    none = sum(p.sum() for p in net.encoder.parameters()) * 0.0
    factor = balance(-out.log_likelihood.mean(), none, out, net)
    assert 0 < factor <= 1e4 * out.batch.truth[0].numel()


def test_a_frozen_decoder_has_nothing_to_balance() -> None:
    net, objective, _ = game(adaptive=True)
    net.decoder.requires_grad_(False)
    out = net(batch())
    out.step = 1
    with pytest.raises(UserError, match="adaptive=false"):
        objective(out, net)


def test_reconstructions_move_the_encoder_too() -> None:
    net, _, term = game()
    out = net(batch(IMAGE))
    out.step = 1
    term(out, net).mean().backward()
    moved = {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"encoder", "bottleneck", "decoder"}
