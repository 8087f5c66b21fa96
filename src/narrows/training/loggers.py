"""Loggers: where a run's scalars go."""

from __future__ import annotations

import csv
import math
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from narrows.errors import UserError
from narrows.runs.file_names import HISTORY


class CSVHistory(Logger):
    """`metrics.csv`, one row per value: `step,metric,value`; rows are only ever appended."""

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(save_dir) / HISTORY

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        new = not self.path.exists()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "metric", "value"])
            writer.writerows([step, name, repr(float(value))] for name, value in metrics.items())

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run directory holds the config."""


class TensorBoard(TensorBoardLogger):
    """TensorBoard events in the run directory itself, one HParams row per run and no sub-runs."""

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir=save_dir, name="", version="", default_hp_metric=False)

    @rank_zero_only
    def save(self) -> None:
        """Flush, without Lightning's `hparams.yaml`: `config.yaml` is the record."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush and stay open: fitting and testing share one event file."""
        self.save()

    @rank_zero_only
    def close(self) -> None:
        """End the event file."""
        self.experiment.close()

    @rank_zero_only
    def declare(self, hyperparameters: Mapping[str, Any], metrics: list[str]) -> None:
        """Write the run's one HParams row into its own event file.

        The metric columns are named here, once and at the start, because TensorBoard reads them from the
        first summary that it meets; their values are the scalars of the same names.
        """
        from torch.utils.tensorboard.summary import hparams

        plain = {key: _plain(value) for key, value in hyperparameters.items() if value is not None}
        writer = self.experiment._get_file_writer()
        for summary in hparams(plain, dict.fromkeys(metrics, math.nan)):
            writer.add_summary(summary)


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def wandb(save_dir: str | Path, project: str = "narrows", offline: bool = False) -> Logger:
    """Weights & Biases.

    Raises:
        UserError: the extra is not installed.
    """
    from lightning.pytorch.loggers import WandbLogger

    return _extra("wandb", WandbLogger, save_dir=save_dir, project=project, offline=offline)


def mlflow(save_dir: str | Path, experiment_name: str = "narrows", tracking_uri: str | None = None) -> Logger:
    """MLflow, its files under the run directory unless `tracking_uri` says otherwise.

    Raises:
        UserError: the extra is not installed.
    """
    from lightning.pytorch.loggers import MLFlowLogger

    folder = str(Path(save_dir) / "mlruns")
    return _extra("mlflow", MLFlowLogger, save_dir=folder, experiment_name=experiment_name, tracking_uri=tracking_uri)


def _extra(name: str, logger: Callable[..., Logger], **options: Any) -> Logger:
    try:
        return logger(**options)
    except ModuleNotFoundError as error:
        raise UserError(f"logger={name} needs the extra: pip install 'narrows[{name}]'") from error
