"""Writing checkpoints in the run directory, also when a signal ends the run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint as CheckpointBase

from narrows import os_signals
from narrows.config.plain_schema import require_fits
from narrows.errors import UserError, nearest, require
from narrows.runs import checkpoint_files, rewind_histories
from narrows.runs.file_names import CHECKPOINTS
from narrows.runs.record_types import Progress
from narrows.training.lightning_module import AutoencoderModule

log = logging.getLogger(__name__)


class CheckpointFiles(TorchCheckpointIO):
    """Makes Lightning read and write checkpoints through `narrows.runs.checkpoint_files`, with checksums."""

    ready: dict[str, Any] | None = None
    """A checkpoint that was read already, which is given instead of the file, once."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        checkpoint_files.save(checkpoint, Path(path).parent, storage_options or ["last"])

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        state, self.ready = self.ready, None
        if state is None:
            state = checkpoint_files.read(Path(path))
            require_fits(Progress, state, str(path))
        return state


class Checkpoint(CheckpointBase):
    """Keeps `last.ckpt`, the one before it as `previous.ckpt`, and `best.ckpt` by the `monitor`ed figure.

    `last` is written at the very end of an epoch, every `every_n_steps` within it, and when a signal ends the run (see
    `narrows.os_signals`). Lightning's own callback writes `last` only together with a new best checkpoint, so that it
    would not be the last.

    Args:
        monitor: a validation figure; of the epoch's last validation, or of those within an epoch.
        mode: whether the smallest or the largest is best.
        every_n_epochs: epochs from one checkpoint to the next.
        every_n_steps: optimiser steps from one further checkpoint within an epoch to the next; null writes none.

    Raises:
        UserError: an unknown mode, an interval below 1, or (at the first validation) an unknown figure.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
    ) -> None:
        require(mode in ("min", "max"), f"callbacks.checkpoint.mode must be min or max, not '{mode}'")
        for name, value in {"every_n_epochs": every_n_epochs, "every_n_steps": every_n_steps}.items():
            require(value is None or value >= 1, f"callbacks.checkpoint.{name} must be at least 1, not {value}")
        self.monitor, self.mode = monitor, mode
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self.best = math.inf if mode == "min" else -math.inf
        self.best_step: int | None = None
        self.improved = False
        self.saved_step = -1
        self._stopped = False
        self._ending = False
        self._trainer: L.Trainer | None = None

    # State that every checkpoint holds.

    def state_dict(self) -> dict[str, Any]:
        # Early stopping is decided before the checkpoint is written and takes effect after it.
        stopped = self._trainer is not None and self._trainer.should_stop
        best = {"best": self.best, "best_step": self.best_step}
        return best | {"stopped": stopped, "monitor": self.monitor, "mode": self.mode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._stopped = state_dict["stopped"]
        now = (self.monitor, self.mode)
        then = (state_dict.get("monitor", self.monitor), state_dict.get("mode", self.mode))
        if now == then:
            # Runs from before it was kept were not validated before their first step.
            self.best, self.best_step = state_dict["best"], state_dict.get("best_step")
        else:
            log.warning("the best checkpoint is chosen anew, by %s (%s) instead of %s (%s)", *now, *then)

    def go_on(self) -> None:
        """Forget that the run had been stopped early."""
        self._stopped = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            checkpoint["histories"] = rewind_histories.take(Path(trainer.default_root_dir), trainer.loggers)
        if self._ending and trainer.validating:
            before_validation(checkpoint)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._trainer = trainer

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_step = trainer.global_step
        trainer.should_stop = trainer.should_stop or self._stopped
        # Lightning has replaced our signal handlers by its own.
        os_signals.install()

    # When.

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After the last batch, validation and the end of the epoch come first.
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or cast(AutoencoderModule, pl_module).accumulating:
            return
        step = trainer.global_step
        if self.every_n_steps is not None and step % self.every_n_steps == 0 and step != self.saved_step:
            self._save(trainer, ["last"])
        if self._asked_to_end(trainer, batch_idx):
            self._end(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.state.fn == "fit" and trainer.world_size == 1 and os_signals.noted() is not None:
            self._end(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Before the first step, the whole validation split says how good the start is, and a part of it nothing.
        due = math.isinf(trainer.num_sanity_val_steps) if trainer.sanity_checking else self._is_due(trainer)
        if trainer.state.fn != "fit" or not due:
            return
        self.improved = self._improves(trainer) or self.improved
        if self.improved and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            # Before the first step it is the last too: whoever dies in the first save has one to go on from.
            self._save(trainer, ["best", "last"] if trainer.sanity_checking else ["best"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._is_due(trainer):
            self._save(trainer, ["best", "last"] if self.improved else ["last"])
        if os_signals.noted() is not None or (trainer.world_size > 1 and self._asked_to_end(trainer)):
            self._end(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.saved_step != trainer.global_step:
            self._save(trainer, ["last"])
        if self.best_step == 0 < trainer.global_step and trainer.is_global_zero:
            log.warning(
                "no step of training improved %s: the best checkpoint is the start; try a lower optimizer.lr, or more "
                "data",
                self.monitor,
            )

    def _is_due(self, trainer: L.Trainer) -> bool:
        return (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _improves(self, trainer: L.Trainer) -> bool:
        figures = trainer.callback_metrics
        if self.monitor not in figures:
            raise UserError(f"callbacks.checkpoint.monitor '{self.monitor}': {nearest(self.monitor, figures)}")
        now = float(figures[self.monitor])
        better = now < self.best if self.mode == "min" else now > self.best
        if better:
            self.best, self.best_step = now, trainer.global_step
        return better

    def _save(self, trainer: L.Trainer, names: list[checkpoint_files.Name]) -> None:
        path = Path(trainer.default_root_dir) / CHECKPOINTS / f"{names[-1]}.ckpt"
        trainer.save_checkpoint(path, weights_only=False, storage_options=names)
        if "last" in names:
            self.saved_step = trainer.global_step
        if "best" in names:
            self.improved = False

    # Ending.

    def _asked_to_end(self, trainer: L.Trainer, batch_idx: int | None = None) -> bool:
        """Whether a signal has come to any of the processes, which agree on it at every logging interval."""
        if trainer.world_size == 1:
            return os_signals.noted() is not None
        if batch_idx is not None and (batch_idx + 1) % int(cast(Any, trainer).log_every_n_steps):
            return False
        return trainer.strategy.reduce_boolean_decision(os_signals.noted() is not None, all=False)

    def _end(self, trainer: L.Trainer) -> None:
        self._ending = True
        if self.saved_step != trainer.global_step:
            self._save(trainer, ["last"])
        os_signals.leave(os_signals.noted() or os_signals.ENDING[0])


def before_validation(state: dict[str, Any]) -> None:
    """Reset the counters of a checkpoint that was written during validation to the beginning of the validation.

    The checkpoint lacks the sums of the first batches, so a resumed run must validate from the first one.
    """
    progress = state["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    for counter in ("total", "current"):
        # Lightning takes this as "the first batch has started" and validates before it trains on.
        progress[counter] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    progress["is_last_batch"] = False
