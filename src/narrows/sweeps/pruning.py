"""The callback through which a sweep gives up on a hopeless run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from narrows.errors import Pruned, nearest, require
from narrows.sweeps.study import Judge


class Pruning(pl.Callback):
    """Reports the objective at each validation, by epoch, and ends the run when the study's pruner says so.

    Args:
        trial: `storage` (the SQLite file), `study` (its name), `id` (the trial's), `metric`, and `pruner`
            (`method` and its options).

    Raises:
        Pruned: at the end of the validation after which the run has no hope.
        UserError: the validation gives no figure of that name.
    """

    def __init__(self, trial: dict[str, Any]) -> None:
        super().__init__()
        self.trial = trial
        self._judge: Judge | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metric = self.trial["metric"]
        known = [name for name in trainer.callback_metrics if name.startswith("val/")]
        require(
            metric in trainer.callback_metrics,
            f"sweep.objective: the validation gives no '{metric}': {nearest(metric, known)}",
        )
        value = float(trainer.callback_metrics[metric])
        epoch = trainer.current_epoch + 1
        # One process asks; its answer is every process's.
        if trainer.strategy.broadcast(trainer.is_global_zero and self._hopeless(epoch, value)):
            raise Pruned(f"{metric} {value:.4g} after epoch {epoch} has no hope")

    def _hopeless(self, epoch: int, value: float) -> bool:
        self._judge = self._judge or Judge(self.trial)
        return self._judge.hopeless(epoch, value)
