"""Training is the textbook's loop, and nothing beside the losses moves it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from instances import LOSSES
from torch.distributions import kl_divergence
from training.module_helpers import (
    adam,
    datamodule,
    deterministic,
    fit,
    gradient_norm,
    module,
    network,
    quiet,
    sgd,
    watched,
    weights,
)

from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.random import generator, seed_default
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import Batch

pytestmark = quiet


@pytest.fixture(scope="module")
def usual() -> torch.Tensor:
    """The weights that training leaves where nothing is set otherwise."""
    trained = module()
    fit(trained)
    return weights(trained)


def bare_loop(steps: int, x: torch.Tensor, batch_size: int) -> torch.Tensor:
    """A VAE's training, written out: no Trainer, no module, no objective."""
    net = network().train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    per_epoch = -(-len(x) // batch_size)
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        order = torch.randperm(len(x), generator=generator(0, "order", epoch))
        rows = x[order[position * batch_size : (position + 1) * batch_size]]
        seed_default(5, "step", step, 0)
        out = net(Batch(rows))
        reconstruction = (-out.p_x.log_prob(rows)).sum(1).mean()
        kl = kl_divergence(out.latent.posterior, out.latent.prior).sum(1).mean()
        optimizer.zero_grad()
        (reconstruction + kl).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_twenty_steps_equal_a_bare_loop_to_the_bit() -> None:
    data = datamodule(train=48)  # five batches an epoch, the last of eight rows
    data.setup()
    x = torch.cat([batch.x for batch in data.ordered_loader("train")])
    trained = module(seed=5)
    trainer, _ = fit(trained, data, max_epochs=4)
    assert trainer.global_step == 20
    assert torch.equal(weights(trained), bare_loop(20, x, 10))
    assert not torch.equal(weights(trained), bare_loop(19, x, 10))


@pytest.mark.parametrize("train", [60, 50, 54, 63, 61])
def test_accumulation_equals_the_larger_batch(train: int) -> None:
    """Whole groups, a last group of one batch, and groups whose last batch is smaller."""
    small, large = module(deterministic(), optimizer=sgd, accumulate=2), module(deterministic(), optimizer=sgd)
    first, _ = fit(small, datamodule(train, batch_size=10))
    second, _ = fit(large, datamodule(train, batch_size=20))
    assert first.global_step == second.global_step
    torch.testing.assert_close(weights(small), weights(large), rtol=1e-4, atol=1e-5)


def test_the_gradient_that_the_optimiser_sees_is_clipped() -> None:
    free: list[float] = []
    clipped: list[float] = []
    fit(module(deterministic(), optimizer=watched(free, gradient_norm)), max_epochs=1)
    limit = 0.5 * min(free)
    fit(module(deterministic(), optimizer=watched(clipped, gradient_norm), clip_norm=limit), max_epochs=1)
    assert len(clipped) == 5
    assert clipped == pytest.approx([limit] * 5, rel=1e-4)


def test_a_gradient_below_the_limit_is_left_alone(usual: torch.Tensor) -> None:
    limited = module(clip_norm=1e6)
    fit(limited)
    torch.testing.assert_close(weights(limited), usual, rtol=1e-4, atol=1e-5)


def test_clipping_judges_the_accumulated_gradient() -> None:
    seen: list[float] = []
    optimizer = watched(seen, gradient_norm)
    fit(module(deterministic(), optimizer=optimizer, clip_norm=0.05, accumulate=3), max_epochs=1)
    assert seen == pytest.approx([0.05, 0.05], rel=1e-4)


def test_the_scheduler_steps_once_an_epoch() -> None:
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    seen: list[float] = []
    optimizer = watched(seen, lambda self: self.param_groups[0]["lr"], lr=0.08)
    _, recorder = fit(module(optimizer=optimizer, scheduler=scheduler), max_epochs=3)
    assert seen == [0.08] * 5 + [0.04] * 5 + [0.02] * 5
    assert [value for _, value in recorder.series("lr")] == seen


@pytest.mark.parametrize(
    "settings",
    [
        {"limit_val_batches": 0},
        {"check_val_every_n_epoch": 2},
        {"val_check_interval": 2},
        {"num_sanity_val_steps": 2},
        {"log_every_n_steps": 3},
        {"log_every_n_steps": 1000},
        {"logger": False},
    ],
    ids=str,
)
def test_looking_does_not_change_the_trajectory(settings: dict[str, Any], usual: torch.Tensor) -> None:
    otherwise = module()
    fit(otherwise, **settings)
    assert torch.equal(usual, weights(otherwise))


def test_another_seed_is_another_trajectory(usual: torch.Tensor) -> None:
    other = module(seed=1)
    fit(other)
    assert not torch.equal(usual, weights(other))


def test_parameters_of_a_term_are_optimised_too() -> None:
    net = deterministic()
    objective = LOSSES["reconstruction"]()
    term = objective["reconstruction"]
    term.bias = torch.nn.Parameter(torch.tensor(2.0))
    inner = term.forward
    term.forward = lambda out, model: inner(out, model) + term.bias.square()
    fit(module(net, objective, optimizer=adam), max_epochs=1)
    assert term.bias.item() < 2.0


tied_decoder = partial(MLPDecoder, widths=[], tied=True)

# ── halves in turn ──────────────────────────────────────────────────────────────────────────────────────


def two_optimisers(epochs: int, x: torch.Tensor, turns: tuple[int, int], unit: str) -> torch.Tensor:
    """Alternating training, written out with an optimiser for each half; batches of ten. Turns of steps end with the
    twelfth."""
    net = noisy().train()
    halves = [[*net.encoder.parameters(), *net.bottleneck.parameters()], [*net.decoder.parameters()]]
    optimizers = [torch.optim.Adam(half, lr=1e-2, weight_decay=0.1) for half in halves]
    for epoch in range(epochs):
        for batch, rows in enumerate(torch.randperm(len(x), generator=generator(0, "order", epoch)).split(10)):
            step = epoch * -(-len(x) // 10) + batch
            number = epoch if unit == "epochs" else step
            learning = [0 if number % sum(turns) < turns[0] else 1]
            learning = [0, 1] if unit == "steps" and step >= 12 else learning
            net.encoder.train(0 in learning)  # which drops hidden values
            seed_default(5, "step", step, 0)
            out = net(Batch(x[rows]))
            net.zero_grad()
            (-out.p_x.log_prob(x[rows])).sum(1).mean().backward()
            for half in learning:
                optimizers[half].step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def noisy() -> Autoencoder:
    return network("deterministic", "gaussian_fixed", encoder=partial(MLPEncoder, widths=[8], dropout=0.5))


@pytest.mark.parametrize(
    ("turns", "unit", "until"),
    [((2, 1), "epochs", None), ((1, 3), "epochs", None), ((3, 1), "steps", 12), ((2, 3), "steps", 12 / 25)],
)
def test_halves_in_turn_equal_two_optimisers(turns: tuple[int, int], unit: str, until: float | None) -> None:
    data = datamodule(train=48)
    data.setup()
    x = torch.cat([batch.x for batch in data.ordered_loader("train")])
    told = {"alternate": turns, "alternate_in": unit, "alternate_until": until}
    trained = module(noisy(), optimizer=partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1), seed=5, **told)
    fit(trained, data, max_epochs=5)
    torch.testing.assert_close(weights(trained), two_optimisers(5, x, turns, unit), rtol=1e-4, atol=1e-5)
    assert all(part.training for part in trained.model.modules()) or not trained.model.training


def test_what_belongs_to_no_half_always_learns() -> None:
    net, objective = deterministic(), LOSSES["reconstruction"]()
    term = objective["reconstruction"]
    term.bias = torch.nn.Parameter(torch.tensor(2.0))
    inner = term.forward
    term.forward = lambda out, model: inner(out, model) + term.bias.square()
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    fit(module(net, objective, alternate=[1, 1], clip_norm=1.0), max_epochs=1)
    moved = {name.partition(".")[0] for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"encoder", "bottleneck"}
    assert term.bias.item() < 2.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"accumulate": 0}, "module.accumulate must be at least 1, not 0"),
        ({"clip_norm": 0.0}, "module.clip_norm must be above 0 or null, not 0.0"),
        ({"alternate": [3]}, r"module.alternate must be null, or for how many epochs .* \[3, 1\], not \[3\]"),
        ({"alternate": [0, 1]}, r"not \[0, 1\]"),
        ({"alternate": [1.5, 1]}, r"not \[1.5, 1\]"),
        ({"alternate_in": "batches"}, "module.alternate_in must be epochs or steps, not 'batches'"),
        ({"alternate_until": 0}, "module.alternate_until must be null, a step .* not 0"),
        ({"alternate_until": 1.5}, "a share of the run up to 1.0, not 1.5"),
    ],
)
def test_refusals(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        AutoencoderModule(network(), LOSSES["elbo"](), optimizer=adam, scheduler=adam, **options)


def test_halves_that_share_weights_cannot_take_turns() -> None:
    tied = network("deterministic", encoder=partial(MLPEncoder, widths=[]), decoder=tied_decoder)
    assert {id(p) for p in tied.decoder.parameters()} & {id(p) for p in tied.bottleneck.parameters()}
    with pytest.raises(UserError, match="these share weights"):
        module(tied, alternate=[1, 1])
    module(tied)
