"""Critics under several processes: both players get the gradient that one process would give them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from instances import IMAGE, LOSSES, batch, model
from noise import SameNoise
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from narrows.encoders.lstm import LSTMEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.losses import Objective
from narrows.losses.critic import Critic
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch

ADVERSARIAL = ("latent_adversarial", "factor", "output_adversarial", "kl_perceptual")
SHARES = (6, 2)


class Players(nn.Module):
    """The model and its objective's critics, as the training module holds them."""

    def __init__(self, loss: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.model: Autoencoder = model(IMAGE)
        self.objective: Objective = LOSSES[loss]()
        for term in self.objective.values():
            if hasattr(term, "_make_critic"):
                lecam = 0.5 if term.adaptive else 0.0
                term._make_critic = partial(Critic, encoder=partial(MLPEncoder, widths=[8]), r1=2.0, lecam=lecam)
        self.objective.attach(self.model)

    def forward(self, data: Batch) -> Tensor:
        return self.objective(self.model(data), self.model).total


def gradients(players: nn.Module, data: Batch) -> dict[str, Tensor]:
    # The draws of a process are its own; here they are the same, so that nothing but the halves differs.
    with SameNoise():
        loss = players(data) * data.share
    loss.backward()
    return {name.removeprefix("module."): p.grad for name, p in players.named_parameters() if p.grad is not None}


def _process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(5)
    x, first = batch(n=8).x, SHARES[0]
    mine = Batch(x=x[:first], share=1.5) if rank == 0 else Batch(x=x[first:], share=0.5)
    found = {loss: gradients(DistributedDataParallel(Players(loss)), mine) for loss in ADVERSARIAL}
    torch.save(found, f"{folder}/{rank}")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(_process, args=(str(folder),), nprocs=2)
    return [torch.load(folder / str(rank), weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_both_players_get_the_gradient_of_one_process(loss: str, processes: list[dict[str, dict[str, Tensor]]]) -> None:
    torch.manual_seed(5)
    data = Batch(x=batch(n=8).x)
    players = Players(loss)
    expected = gradients(players, data)
    assert expected.keys() == dict(players.named_parameters()).keys()
    assert any("critic" in name for name in expected)
    for found in processes:
        assert found[loss].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(
                found[loss][name], gradient, rtol=1e-4, atol=1e-6, msg=lambda t, n=name: f"{n}: {t}"
            )


def test_r1_works_through_an_lstm() -> None:
    """Second derivatives of a recurrent critic, in training and in evaluation."""
    critic = Critic((2, 9), encoder=partial(LSTMEncoder, hidden=4), r1=3.0)
    loss = critic.loss(torch.randn(5, 2, 9), torch.randn(5, 2, 9))
    loss.mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in critic.parameters())
    with torch.no_grad():
        assert torch.isfinite(critic.eval().loss(torch.randn(5, 2, 9), torch.randn(5, 2, 9))).all()
