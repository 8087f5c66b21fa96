"""A progress bar for the whole run."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from narrows.errors import require


class _Bar(tqdm):  # type: ignore[misc]
    # No monitor thread, because loader workers are forked.
    monitor_interval = 0


class Progress(ProgressBar):
    """Shows one bar over all training batches of the run, in place of Lightning's bar per epoch.

    It shows the epoch, `train/loss` (from `pl_module.latest`, which needs no device synchronisation per step) and
    `val/loss`. Position and total are read from the trainer's own counters, so a resumed run continues where it
    stopped. If stderr is not a terminal, it prints a line for every tenth of the run.

    Args:
        refresh: batches from one update to the next; a batch in between costs one comparison.
        enable: False shows nothing.

    Raises:
        UserError: `refresh` below 1.
    """

    def __init__(self, *, refresh: int = 20, enable: bool = True) -> None:
        require(refresh >= 1, f"callbacks.progress.refresh must be at least 1 batch, not {refresh}")
        super().__init__()
        self.refresh = refresh
        self._enabled = enable
        self._bar: tqdm | None = None
        self._lines = False
        self._total: int | None = None
        self._next_tenth = 0
        self._start = (0.0, 0)
        self._validation: float | None = None

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._enabled:
            return
        done = processed(trainer)
        self._total = total_batches(trainer, getattr(pl_module, "accumulate", 1))
        self._start = (time.monotonic(), done)
        self._lines = not sys.stderr.isatty()
        if self._lines:
            self._next_tenth = 1 + (10 * done // self._total if self._total else 0)
        else:
            self._bar = _Bar(total=self._total, initial=done, unit="step", dynamic_ncols=True, file=sys.stderr)
            if self._bar.ncols is not None and self._bar.ncols < 1:
                # A terminal of unknown width (docker, CI) would show an empty line.
                self._bar.dynamic_ncols, self._bar.ncols = None, 100

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._enabled and processed(trainer) % self.refresh == 0:
            self._show(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not self._enabled:
            return
        value = trainer.callback_metrics.get("val/loss")
        self._validation = None if value is None else float(value)
        if trainer.state.fn == "fit":
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._enabled:
            self._show(trainer, pl_module, last=True)
            self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar, if there is one."""
        if self._bar is None:
            print(*args, **kwargs)
        else:
            self._bar.write(kwargs.get("sep", " ").join(map(str, args)), end=kwargs.get("end", "\n"))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, last: bool = False) -> None:
        done = processed(trainer)
        if self._lines:
            self._print_tenth(trainer, pl_module, done, last)
        elif self._bar is not None:
            self._bar.set_description_str(_epoch(trainer), refresh=False)
            self._bar.set_postfix_str("  ".join(self._losses(pl_module)), refresh=False)
            self._bar.update(done - self._bar.n)
            self._bar.refresh()

    def _print_tenth(self, trainer: pl.Trainer, pl_module: pl.LightningModule, done: int, last: bool) -> None:
        reached = 10 * done // self._total if self._total else 0
        # The last line is printed after the last validation.
        if not last and not self._next_tenth <= reached < 10:
            return
        self._next_tenth = reached + 1
        began, first = self._start
        seconds = max(time.monotonic() - began, 1e-9)
        share = f"/{self._total} ({100 * done // self._total}%)" if self._total else ""
        parts = [_epoch(trainer), f"step {done}{share}", *self._losses(pl_module)]
        parts += [f"{tqdm.format_interval(seconds)} elapsed", f"{(done - first) / seconds:.1f} step/s"]
        print("  ".join(parts), file=sys.stderr, flush=True)

    def _losses(self, pl_module: Any) -> list[str]:
        train = getattr(pl_module, "latest", {}).get("train/loss")
        figures = {"train/loss": train, "val/loss": self._validation}
        return [f"{name} {float(value):.4g}" for name, value in figures.items() if value is not None]


def processed(trainer: pl.Trainer) -> int:
    """The number of training batches processed so far, including those before a resume."""
    # Lightning annotates `total` by its base class, which has no `processed`.
    total: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    return int(total.processed)


def total_batches(trainer: pl.Trainer, accumulate: int = 1) -> int | None:
    """The number of training batches of the whole run, `accumulate` per optimiser step; None if unknown."""
    steps = math.inf if trainer.max_steps in (None, -1) else trainer.max_steps * accumulate
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    total = min(steps, epochs * trainer.num_training_batches if epochs else 0)
    return None if math.isinf(total) else int(total)


def _epoch(trainer: pl.Trainer) -> str:
    last = trainer.max_epochs
    number = trainer.current_epoch + 1
    return f"epoch {number}" if last in (None, -1) else f"epoch {min(number, last)}/{last}"
