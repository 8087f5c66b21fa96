"""The datamodule under a real Trainer: where training stands, it is told by Lightning's counters."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from narrows.data.datamodule import DataModule
from narrows.data.sources.digits import Digits
from narrows.errors import UserError
from narrows.types import Batch

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*treespec.*"
)


class Recorder(LightningModule):
    """Notes which rows it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []
        self.validated = 0

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        assert batch.index is not None
        self.seen.append(batch.index.tolist())
        return self.weight * batch.x.mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        self.validated += len(batch)

    def test_step(self, batch: Batch) -> None:
        self.validated += len(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def datamodule(batch_size: int = 400) -> DataModule:
    return DataModule(Digits(), batch_size=batch_size)  # 1455 training rows: four batches an epoch


def run(callbacks: list[Callback], checkpoint: Path | None = None, **settings: Any) -> Recorder:
    model = Recorder()
    trainer = Trainer(**QUIET, callbacks=callbacks, **({"max_epochs": 3} | settings))
    trainer.fit(model, datamodule=datamodule(), ckpt_path=None if checkpoint is None else str(checkpoint))
    return model


@pytest.mark.parametrize("step", [2, 4, 5, 8, 11])
def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(step: int, tmp_path: Path) -> None:
    whole = run([SaveAt(step, tmp_path / "middle.ckpt")])
    assert len(whole.seen) == 12
    assert sorted(chain(*whole.seen[4:8])) == sorted(chain(*whole.seen[:4]))
    assert whole.seen[4:8] != whole.seen[:4]
    assert run([], tmp_path / "middle.ckpt").seen == whole.seen[step:]


def test_limited_epochs_resume_as_well(tmp_path: Path) -> None:
    whole = run([SaveAt(4, tmp_path / "middle.ckpt")], limit_train_batches=3)
    assert len(whole.seen) == 9
    assert run([], tmp_path / "middle.ckpt", limit_train_batches=3).seen == whole.seen[4:]


def test_overfitting_repeats_the_same_batches() -> None:
    seen = run([], overfit_batches=2).seen
    assert len(seen) == 6
    assert seen[:2] == seen[2:4] == seen[4:]


def test_validation_and_test_see_every_row() -> None:
    data, model = datamodule(), Recorder()
    trainer = Trainer(**QUIET)
    trainer.validate(model, datamodule=data, verbose=False)
    assert model.validated == 162
    trainer.test(model, datamodule=data, verbose=False)
    assert model.validated == 162 + 180


def test_resuming_with_other_batches_is_refused(tmp_path: Path) -> None:
    run([SaveAt(2, tmp_path / "middle.ckpt")], max_epochs=1)
    trainer = Trainer(**QUIET, max_epochs=2)
    with pytest.raises(UserError, match="trained with data of batch_size 400, but now it is 100"):
        trainer.fit(Recorder(), datamodule=datamodule(100), ckpt_path=str(tmp_path / "middle.ckpt"))
    Trainer(**QUIET).test(
        Recorder(), datamodule=datamodule(100), ckpt_path=str(tmp_path / "middle.ckpt"), verbose=False
    )
