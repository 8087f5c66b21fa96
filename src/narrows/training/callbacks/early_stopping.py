"""Ending a run whose monitored figure has stopped improving."""

from __future__ import annotations

from typing import Literal

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping
from torch import Tensor

from narrows.errors import nearest, require


class EarlyStopping(LightningEarlyStopping):
    """Ends the run once `monitor` has not improved for `patience` validations in a row.

    Args:
        monitor: a figure of the validation split.
        mode: whether it should be small (`min`) or large (`max`).
        patience: validations in a row without an improvement.
        min_delta: smallest change that counts as an improvement.
        start: the first epoch (from 1) whose validations count, so that a figure that cannot improve during a warm-up
            uses up no patience.

    Raises:
        UserError: `start` below 1, `patience` or `min_delta` below 0, or (at the first validation) an unknown figure.
    """

    def __init__(
        self,
        *,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        patience: int = 10,
        min_delta: float = 0.0,
        start: int = 1,
    ) -> None:
        require(start >= 1, f"callbacks.early_stopping.start must be an epoch, at least 1, not {start}")
        require(patience >= 0, f"callbacks.early_stopping.patience must not be negative, but is {patience}")
        require(min_delta >= 0, f"callbacks.early_stopping.min_delta must not be negative, but is {min_delta}")
        super().__init__(monitor, mode=mode, patience=patience, min_delta=min_delta)
        self.start = start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._counts(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._counts(trainer):
            super().on_validation_end(trainer, pl_module)

    def _validate_condition_metric(self, logs: dict[str, Tensor]) -> bool:
        known = nearest(self.monitor, logs)
        require(self.monitor in logs, f"callbacks.early_stopping.monitor: there is no figure '{self.monitor}': {known}")
        return super()._validate_condition_metric(logs)

    def _counts(self, trainer: L.Trainer) -> bool:
        return trainer.current_epoch + 1 >= self.start
