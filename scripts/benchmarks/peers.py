"""Images a second beside Pythae, on its own default VAE: layers of 512, 10 latents, batches of 64, squared error.

Both train and validate for an epoch as their users have it: Pythae by its BaseTrainer and progress bars, narrows with
progress bar, TensorBoard, CSV and checkpoints. `pip install pythae` puts it beside narrows.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import Case
from benchmarks.steps import ALL, spread, with_narrows

NETWORK = ("encoder.widths=[512]", "encoder.dropout=0", "encoder.shortcut=false", "bottleneck.dim=10")
DECODER = ("decoder.widths=[512]", "decoder.dropout=0", "decoder.shortcut=false", "likelihood=gaussian")
BATCH = 64


def ratios(rounds: int, rows: int) -> dict[str, dict[str, float]] | None:
    """Images a second of both, and narrows' over Pythae's; None where Pythae is not installed."""
    if importlib.util.find_spec("pythae") is None:
        return None
    case = Case(("variant=vae", *NETWORK, *DECODER), BATCH, rows)
    data = case.datamodule()
    x, held_out = (torch.cat([batch.x for batch in data.ordered_loader(split)]) for split in ("train", "validation"))
    rates: dict[str, list[float]] = {"narrows": [], "pythae": [], "narrows over pythae": []}
    for _ in range(rounds):
        before = _with_pythae(x, held_out)
        ours = with_narrows(case, data, ALL, "cpu")
        theirs = (before + _with_pythae(x, held_out)) / 2
        for name, value in zip(rates, (rows / ours, rows / theirs, theirs / ours), strict=True):
            rates[name].append(value)
    return {name: spread(values) for name, values in rates.items()}


def _with_pythae(x: Tensor, held_out: Tensor) -> float:
    """Seconds of an epoch and its validation."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Clock(TrainingCallback):  # type: ignore[misc]
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.start

    logging.disable(logging.INFO)  # its loggers have levels and handlers of their own
    train, validation = (BaseDataset(part, torch.zeros(len(part))) for part in (x, held_out))
    clock, model = Clock(), VAE(VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=10))
    quiet = redirect_stderr(nowhere := io.StringIO()), redirect_stdout(nowhere)
    with tempfile.TemporaryDirectory() as folder, quiet[0], quiet[1]:
        config = BaseTrainerConfig(output_dir=folder, num_epochs=1, no_cuda=True)
        BaseTrainer(model, train, validation, config, callbacks=[clock]).train()
    return clock.seconds
