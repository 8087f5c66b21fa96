"""Stopped and continued is never stopped, to the bit: the mechanism."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from instances import CORRUPTIONS
from training.module_helpers import SaveAt, fit, module, network, quiet, weights

from narrows.training import lightning_module as training
from narrows.training.callbacks.write_checkpoints import Checkpoint
from narrows.training.learning_rate import WarmUpCosine
from narrows.training.lightning_module import AutoencoderModule

pytestmark = quiet


def trained(checkpoint: Path | None = None, **settings: Any) -> AutoencoderModule:
    """Three epochs of five steps; the encoder's input and the latent are noisy, Adam has momenta."""
    fitted = module(network(corruption=CORRUPTIONS["gaussian"]), seed=11)
    fit(fitted, checkpoint=checkpoint, max_epochs=3, **settings)
    return fitted


def stopped_and_continued(folder: Path, *batches: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Weights of a whole run, and of those that go on from where it was after each of `batches`."""
    whole = trained(callbacks=[SaveAt(n, folder / str(n) / "last.ckpt") for n in batches])
    torch.manual_seed(12345)  # another process would start elsewhere
    torch.rand(7)
    return weights(whole), [weights(trained(folder / str(n) / "last.ckpt")) for n in batches]


def test_a_continued_run_has_the_weights_of_the_uninterrupted_one(tmp_path: Path) -> None:
    batches = (1, 5, 7, 10, 13)
    whole, continued = stopped_and_continued(tmp_path, *batches)
    for number, found in zip(batches, continued, strict=True):
        assert torch.equal(whole, found), f"stopped after {number} batches"


@pytest.mark.parametrize(
    ("batches", "told"),
    [*((n, {}) for n in (3, 8, 20)), *((n, {"alternate_in": "steps", "alternate_until": 0.6}) for n in (4, 13, 17))],
)
def test_halves_that_learn_in_turn_go_on_where_they_were(batches: int, told: dict[str, Any], tmp_path: Path) -> None:
    whole, continued = (module(seed=11, alternate=[2, 1], **told) for _ in range(2))
    last = tmp_path / "last.ckpt"
    fit(whole, max_epochs=5, callbacks=[SaveAt(batches, last)])
    fit(continued, checkpoint=last, max_epochs=5)
    assert torch.equal(weights(whole), weights(continued))


SCHEDULERS = {
    "halving": partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
    "warmup_cosine": partial(WarmUpCosine, epochs=5, warm_up=2),
    "one_cycle": partial(WarmUpCosine, epochs=5, warm_up=0.3, start=0.04, end=4e-6, rise="cosine"),
    # Whatever is found is no improvement, so the rate halves after every second validation.
    "plateau": partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=1, threshold=1e9),
}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("batches", [2, 8, 17])
def test_a_learning_rate_goes_on_where_it_was(name: str, batches: int, tmp_path: Path) -> None:
    whole, continued = (module(scheduler=SCHEDULERS[name], seed=11) for _ in range(2))
    rates = Rates()
    last = tmp_path / "last.ckpt"
    fit(whole, max_epochs=5, callbacks=[rates, SaveAt(batches, last)])
    fit(continued, checkpoint=last, max_epochs=5)
    assert torch.equal(weights(whole), weights(continued))
    assert len(set(rates.seen)) > 2


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_run_continues_from_the_checkpoint_of_an_epoch_s_end(name: str, tmp_path: Path) -> None:
    """Whose learning rate is already the next epoch's."""
    whole, stopped, continued = (module(scheduler=SCHEDULERS[name]) for _ in range(3))
    fit(whole, max_epochs=4)
    saving = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    fit(stopped, max_epochs=2, callbacks=[Checkpoint()], **saving)
    last = tmp_path / "checkpoints" / "last.ckpt"
    fit(continued, checkpoint=last, max_epochs=4, callbacks=[Checkpoint()], **saving)
    assert torch.equal(weights(whole), weights(continued))


class Rates(L.Callback):
    """Notes the learning rate of every epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_this_law_needs_the_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stream that lives as long as its process, the same comparison fails."""
    monkeypatch.setattr(training, "seed_default", lambda *_: None)
    whole, (continued,) = stopped_and_continued(tmp_path, 7)
    assert not torch.equal(whole, continued)
