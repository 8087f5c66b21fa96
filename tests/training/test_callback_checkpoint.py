"""Best and last, each a whole checkpoint of its own."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch

from narrows.errors import UserError
from narrows.training.callbacks.write_checkpoints import Checkpoint, CheckpointFiles

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*many workers.*", "ignore:.*logging interval.*")


class Falling(L.LightningModule):
    """A module whose `val/loss` follows `values`, one a epoch."""

    accumulating = False

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.values = values
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(-self.weight)
        optimizer.step()
        optimizer.zero_grad()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.values[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def weights(folder: Path) -> dict[str, float]:
    files = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert files == ["best.ckpt", "last.ckpt", *(["previous.ckpt"] if len(files) == 3 else [])]
    states = {name: torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"] for name in files[:2]}
    return {name: state["weight"].item() for name, state in states.items()}


def fit(folder: Path, values: list[float], checkpoint: Checkpoint | None = None) -> dict[str, float]:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=len(values),
        default_root_dir=folder,
        logger=False,
        callbacks=[checkpoint or Checkpoint()],
        plugins=[CheckpointFiles()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data = torch.utils.data.DataLoader([torch.zeros(1)] * 3)
    trainer.fit(Falling(values), data, data)
    return weights(folder)


def test_a_figure_that_nobody_reports_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"val/los': did you mean 'val/loss'"):
        fit(tmp_path, [1.0], Checkpoint(monitor="val/los"))


def test_the_largest_can_be_the_best(tmp_path: Path) -> None:
    assert fit(tmp_path, [3.0, 1.0, 2.0], Checkpoint(mode="max")) == {"best.ckpt": 3.0, "last.ckpt": 9.0}


def test_the_end_of_training_is_kept_between_validations(tmp_path: Path) -> None:
    assert fit(tmp_path, [3.0, 2.0, 1.0], Checkpoint(every_n_epochs=2)) == {"best.ckpt": 6.0, "last.ckpt": 9.0}


def test_when_every_epoch_is_better_both_are_the_last(tmp_path: Path) -> None:
    assert fit(tmp_path, [3.0, 2.0, 1.0]) == {"best.ckpt": 9.0, "last.ckpt": 9.0}


def test_best_stays_where_it_was_and_last_goes_on(tmp_path: Path) -> None:
    assert fit(tmp_path, [3.0, 1.0, 2.0, 5.0]) == {"best.ckpt": 6.0, "last.ckpt": 12.0}
