"""Stopped and continued is never stopped, to the bit: the mechanism."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from instances import CORRUPTIONS
from training.module_helpers import SaveAt, fit, module, network, quiet, weights

from narrows.training import lightning_module as training
from narrows.training.callbacks.write_checkpoints import Checkpoint
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


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_run_continues_from_the_checkpoint_of_an_epoch_s_end(tmp_path: Path) -> None:
    """Whose learning rate is already the next epoch's."""
    halving = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    whole, stopped, continued = (module(scheduler=halving) for _ in range(3))
    fit(whole, max_epochs=4)
    saving = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    fit(stopped, max_epochs=2, callbacks=[Checkpoint()], **saving)
    last = tmp_path / "checkpoints" / "last.ckpt"
    fit(continued, checkpoint=last, max_epochs=4, callbacks=[Checkpoint()], **saving)
    assert torch.equal(weights(whole), weights(continued))


def test_this_law_needs_the_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stream that lives as long as its process, the same comparison fails."""
    monkeypatch.setattr(training, "seed_default", lambda *_: None)
    whole, (continued,) = stopped_and_continued(tmp_path, 7)
    assert not torch.equal(whole, continued)
