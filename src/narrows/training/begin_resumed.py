"""The moment at which a resumed run begins to write.

Until it has taken one step, or finished one validation, an attempt to resume may still fail: Lightning restores its
loops late, and a first step shows whether memory suffices and kernels exist. So until then nothing in the run
directory changes: the record waits, own loggers keep what they are given, and loggers that write elsewhere are absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig

from narrows.errors import require
from narrows.runs.run_directory import RunDirectory
from narrows.training.callbacks.write_checkpoints import Checkpoint
from narrows.training.waiting import Waiting


class BeginResumed(L.Callback):
    """Begins a resumed run after its first step, and lets the config's options win over the checkpoint's.

    It has to be the first callback, so that no other has written before it.

    Args:
        directory: of the run.
        record: the same, in the process that writes it; else None.
        done: whether the run was completed, so that an attempt that trains nothing is a mistake.

    Raises:
        UserError: the run was completed, and this attempt has no step to take.
    """

    def __init__(self, directory: Path, record: RunDirectory | None, done: bool) -> None:
        self.directory, self.record, self.done = directory, record, done
        self.restored = False
        """Whether Lightning has restored everything from the checkpoint."""
        self._begun = False
        self._first_step = 0
        self._elsewhere: list[Any] = []
        self._options: dict[L.Callback, dict[str, Any]] = {}

    def hold_back(self, loggers: Sequence[Any]) -> list[Any]:
        """The loggers of the run directory, which wait from now on; the others are attached when the run begins."""
        own = [logger for logger in loggers if isinstance(logger, Waiting)]
        self._elsewhere = [logger for logger in loggers if logger not in own]
        for logger in own:
            logger.wait()
        return own

    def keep_options(self, callbacks: Mapping[L.Callback, DictConfig]) -> None:
        """Note the options of callbacks, which the checkpoint's state of a callback may overwrite (`patience`)."""
        for callback, node in callbacks.items():
            self._options[callback] = {name: value for name, value in vars(callback).items() if name in node}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.restored, self._first_step = True, trainer.global_step
        for callback, options in self._options.items():
            stopped = isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience
            vars(callback).update(options)
            if stopped and isinstance(callback, EarlyStopping) and callback.wait_count < callback.patience:
                for checkpoint in trainer.checkpoint_callbacks:
                    if isinstance(checkpoint, Checkpoint):
                        checkpoint.go_on()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._begun and trainer.global_step > self._first_step:
            self._begin(trainer)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._begin(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        require(
            self._begun or not self.done,
            f"{self.directory} is completed, and what is asked for leaves no step to take: ask for more, such as "
            "trainer.max_epochs=200 or, where it was stopped early, callbacks.early_stopping.patience=20",
        )
        self.restored = True
        self._begin(trainer)

    def _begin(self, trainer: L.Trainer) -> None:
        if self._begun:
            return
        self._begun = True
        if self.record is not None:
            self.record.begin()
        for logger in trainer.loggers:
            if isinstance(logger, Waiting):
                logger.begin()
        trainer.loggers = [*trainer.loggers, *self._elsewhere]
