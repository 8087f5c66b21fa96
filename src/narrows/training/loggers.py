"""Loggers of a run's scalars: `metrics.csv`, Weights & Biases, MLflow."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from narrows.errors import UserError, naming
from narrows.runs.file_names import HISTORY


class Waiting:
    """A logger of the run directory, which can be told to wait: what it is given is then written at `begin`, in order.

    A resumed run waits until its first step has been taken, so that an attempt that fails before changes no file.
    """

    _waiting: list[Callable[[], object]] | None = None

    def wait(self) -> None:
        """From now on, keep what is logged."""
        self._waiting = []

    def begin(self) -> None:
        """Write what was kept, and from now on write at once."""
        waiting, self._waiting = self._waiting or [], None
        for write in waiting:
            write()

    def _kept(self, write: Callable[[], object]) -> bool:
        """Whether the logger waits; if so, `write` is called at `begin`."""
        if self._waiting is not None:
            self._waiting.append(write)
        return self._waiting is not None


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
