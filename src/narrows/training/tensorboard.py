"""The TensorBoard logger of a run: the order of its groups, and the run's HParams row."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from narrows.compare.tensorboard_groups import STAGES, tag_of
from narrows.errors import naming
from narrows.training.waiting import Waiting


class _Later:
    """Stands for the writer of a logger that waits: its methods are called at `begin`."""

    def __init__(self, logger: TensorBoard) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Callable[..., None]:
        def keep(*args: Any, **kwargs: Any) -> None:
            self._logger._kept(lambda: getattr(self._logger.experiment, name)(*args, **kwargs))

        return keep


class TensorBoard(Waiting, TensorBoardLogger):
    """Writes TensorBoard events in the run directory itself, with one HParams row per run and no sub-runs."""

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir=save_dir, name="", version="", default_hp_metric=False)
        threading.excepthook = _say_once

    @property
    def experiment(self) -> Any:
        """The writer, whose file is opened at the first access; while the logger waits, none is."""
        return super().experiment if self._waiting is None else _Later(self)

    @rank_zero_only
    def save(self) -> None:
        """Flush, without Lightning's `hparams.yaml`: `config.yaml` is the record."""
        if self._experiment is not None:
            with naming(self.log_dir):
                self._experiment.flush()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write each figure under its `tag_of`."""
        with naming(self.log_dir):
            super().log_metrics({tag_of(name): value for name, value in metrics.items()}, step)

    @rank_zero_only
    def add_png(self, name: str, png: bytes, shape: tuple[int, ...], step: int) -> None:
        """Write a picture `[H, W, 3]` that is encoded already; the writer's own `add_image` would do it again."""
        if self._kept(partial(self.add_png, name, png, shape, step)):
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width, channels = shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
        with naming(self.log_dir):
            writer = self.experiment._get_file_writer()
            writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush and stay open: fitting and testing share one event file."""
        self.save()

    @rank_zero_only
    def close(self) -> None:
        """End the event file."""
        with naming(self.log_dir):
            self.experiment.close()

    @rank_zero_only
    def declare(self, hyperparameters: Mapping[str, Any], metrics: Iterable[str], terms: Iterable[str]) -> None:
        """Write the run's one HParams row into its own event file, and the charts of Custom Scalars: for the loss and
        each term, training and validation in one.

        The metric columns are named here, once at the start, because TensorBoard reads them from the first summary that
        it finds; their values are the scalars of the same names.
        """
        if self._kept(partial(self.declare, hyperparameters, list(metrics), list(terms))):
            return
        from torch.utils.tensorboard.summary import custom_scalars, hparams

        plain = {key: _plain(value) for key, value in hyperparameters.items() if value is not None}
        writer = self.experiment._get_file_writer()
        for summary in hparams(plain, dict.fromkeys(map(tag_of, metrics), math.nan)):
            writer.add_summary(summary)
        pairs = {term: [tag_of(f"{stage}/{term}") for stage in STAGES] for term in ("loss", *terms)}
        charts = {term: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]] for term, tags in pairs.items()}
        writer.add_summary(custom_scalars({"training and validation": charts}))


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


_usual = threading.excepthook


def _say_once(failure: threading.ExceptHookArgs, /) -> None:
    """Print nothing of a failure that TensorBoard's writing thread keeps: the next call to the writer raises it."""
    if getattr(failure.thread, "exception", None) is not failure.exc_value:
        _usual(failure)
