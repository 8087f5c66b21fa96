"""The callback that ends a hopeless trial of a sweep early."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from narrows.errors import Pruned, nearest, require
from narrows.sweeps.optuna_study import TrialReporter


class Pruning(pl.Callback):
    """Reports the objective after each validation, and ends the run if the study's pruner judges it hopeless.

    Args:
        trial: `storage` (the SQLite file), `study` (its name), `id` (the trial's), `metric`, and `pruner`
            (`method` and its options).

    Raises:
        Pruned: after the validation at which the run was judged hopeless.
        UserError: the validation gives no figure of that name.
    """

    def __init__(self, trial: dict[str, Any]) -> None:
        super().__init__()
        self.trial = trial
        self._reporter: TrialReporter | None = None

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
        # One process asks the study, and all processes act on its answer.
        if trainer.strategy.broadcast(trainer.is_global_zero and self._is_hopeless(epoch, value)):
            raise Pruned(f"{metric} {value:.4g} after epoch {epoch} has no hope")

    def _is_hopeless(self, epoch: int, value: float) -> bool:
        self._reporter = self._reporter or TrialReporter(self.trial)
        return self._reporter.is_hopeless(epoch, value)
