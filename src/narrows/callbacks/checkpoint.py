"""Checkpoints in the run directory."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import Checkpoint as CheckpointBase

from narrows.errors import UserError, nearest, require


class Checkpoint(CheckpointBase):
    """Keeps `checkpoints/last.ckpt`, and `checkpoints/best.ckpt` by the `monitor`ed validation figure.

    Lightning's own writes `last` only when it has just written a new best one: it would not be the last.

    Raises:
        UserError: an unknown mode, `every_n_epochs` below 1, or (when first validated) a figure nobody reports.
    """

    def __init__(self, monitor: str = "val/loss", mode: Literal["min", "max"] = "min", every_n_epochs: int = 1) -> None:
        require(mode in ("min", "max"), f"callbacks.checkpoint.mode must be min or max, not '{mode}'")
        require(every_n_epochs >= 1, f"callbacks.checkpoint.every_n_epochs must be at least 1, not {every_n_epochs}")
        self.monitor, self.mode, self.every_n_epochs = monitor, mode, every_n_epochs
        self.best = math.inf if mode == "min" else -math.inf
        self.saved_step = -1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer, self._improves(trainer))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.saved_step != trainer.global_step:
            self._save(trainer, better=False)

    def _improves(self, trainer: L.Trainer) -> bool:
        figures = trainer.callback_metrics
        if self.monitor not in figures:
            raise UserError(f"callbacks.checkpoint.monitor '{self.monitor}': {nearest(self.monitor, figures)}")
        now = float(figures[self.monitor])
        better = now < self.best if self.mode == "min" else now > self.best
        self.best = now if better else self.best
        return better

    def _save(self, trainer: L.Trainer, better: bool) -> None:
        folder = Path(trainer.default_root_dir) / "checkpoints"
        trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)  # with the optimiser and the loops
        self.saved_step = trainer.global_step
        if better and trainer.is_global_zero:
            # The same state: copied, not serialised a second time.
            shutil.copyfile(folder / "last.ckpt", folder / ".best.ckpt.tmp")
            os.replace(folder / ".best.ckpt.tmp", folder / "best.ckpt")
        trainer.strategy.barrier()
