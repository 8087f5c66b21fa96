"""The logger of `metrics.csv`, and those that configs choose by functions: Weights & Biases, MLflow."""

from __future__ import annotations

import csv
import importlib.util
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from narrows.errors import naming, require
from narrows.runs.file_names import HISTORY
from narrows.training.mlflow_logger import MLflow
from narrows.training.waiting import Waiting
from narrows.training.wandb_logger import WeightsAndBiases


class CSVHistory(Waiting, Logger):
    """Writes `metrics.csv`, one row per value: `step,metric,value`; rows are only appended."""

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
        if self._kept(partial(self.log_metrics, dict(metrics), step)):
            return
        new = not self.path.exists()
        with naming(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "metric", "value"])
            writer.writerows([step, name, repr(float(value))] for name, value in metrics.items())

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run directory holds the config."""


def wandb(
    save_dir: str | Path, project: str = "narrows", entity: str | None = None, offline: bool = False
) -> WeightsAndBiases:
    """Weights & Biases, its files in the run directory.

    Args:
        save_dir: the run directory.
        project: where the run is shown.
        entity: the team or user whose project it is; null: as `WANDB_ENTITY` or the login says.
        offline: only write files, for `wandb sync` to send later.

    Raises:
        UserError: the extra is not installed.
    """
    _require_extra("wandb")
    return WeightsAndBiases(save_dir, project=project, entity=entity, offline=offline)


def mlflow(save_dir: str | Path, experiment_name: str = "narrows", tracking_uri: str | None = None) -> MLflow:
    """MLflow.

    Args:
        save_dir: the run directory.
        experiment_name: the experiment that the run is one of.
        tracking_uri: the store or server; null: what `MLFLOW_TRACKING_URI` says, else `<output_dir>/mlflow.db`.

    Raises:
        UserError: the extra is not installed.
    """
    _require_extra("mlflow")
    return MLflow(save_dir, experiment_name=experiment_name, tracking_uri=tracking_uri)


def _require_extra(name: str) -> None:
    spec = importlib.util.find_spec(name)
    # A folder wandb/ in the working directory is found too, as a package without a file.
    installed = spec is not None and spec.origin is not None
    require(installed, f"logger={name} needs the extra: pip install 'narrows[{name}]'")
