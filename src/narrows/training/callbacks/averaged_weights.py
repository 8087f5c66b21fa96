"""Averaged weights: what is validated, saved and tested is a running mean of the weights over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from narrows.errors import require
from narrows.runs import checkpoint_files
from narrows.training.lightning_module import AutoencoderModule

PREFIX = "model."
RAW = "raw_weights"
"""The key of a checkpoint under which the weights that training goes on from lie, beside the averaged ones."""


class AveragedWeights(L.Callback):
    """Keeps an exponential moving average of the model's weights, a <- decay * a + (1 - decay) * w after every step.

    Validation, pictures, the figures of the test and the checkpoints' `state_dict` are those of the average, so that
    every command reads it; training itself goes on with the raw weights, which checkpoints hold as `raw_weights`. What
    moves without an optimiser (running statistics, the codebook of a vector quantiser) is averaged too, counters are
    copied, and critics are left as they are.

    "Acceleration of stochastic approximation by averaging" (Polyak and Juditsky, 1992), with the exponential weights of
    "Mean teachers are better role models" (Tarvainen and Valpola, 2017, https://arxiv.org/abs/1703.01780), section 2.

    Args:
        decay: weight of the past in one step; 0.999 averages over about 1,000 steps.
        start: optimiser steps without averaging; the average follows the weights until then.

    Raises:
        UserError: a `decay` outside [0, 1), or a negative `start`.
    """

    def __init__(self, decay: float = 0.999, start: int = 0) -> None:
        require(0 <= decay < 1, f"callbacks.averaged.decay must be at least 0 and below 1, not {decay}")
        require(start >= 0, f"callbacks.averaged.start must not be negative, not {start}")
        self.decay, self.start = decay, start
        self._average: dict[str, Tensor] | None = None
        self._raw: dict[str, Tensor] | None = None
        """The raw weights while the model holds the averaged ones."""
        self._step = 0

    # After the sanity check, which judges the weights from which training starts.
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._step = trainer.global_step
        if self._average is None:
            self._average = _copied(_weights(pl_module))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:  # gradients are still gathered
            return
        self._step = trainer.global_step
        self._follow(_weights(pl_module), 0.0 if self._step <= self.start else self.decay)

    @torch.no_grad()
    def _follow(self, weights: dict[str, Tensor], decay: float) -> None:
        assert self._average is not None
        mixed = [name for name, values in weights.items() if decay > 0 and values.is_floating_point()]
        if mixed:
            torch._foreach_lerp_([self._average[name] for name in mixed], [weights[name] for name in mixed], 1 - decay)
        for name in weights.keys() - set(mixed):
            self._average[name].copy_(weights[name])

    # The model holds the average while it is judged, and once it is trained.

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._raw is not None and trainer.state.fn == "fit":
            _place(_weights(pl_module), self._raw)
            self._raw = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(pl_module)

    def _show(self, pl_module: L.LightningModule) -> None:
        if self._average is not None and self._raw is None:
            weights = _weights(pl_module)
            self._raw = _copied(weights)
            _place(weights, self._average)

    # Checkpoints hold both.

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average is None:
            return
        raw = _weights(pl_module) if self._raw is None else self._raw
        checkpoint[RAW] = {PREFIX + name: values for name, values in raw.items()}
        checkpoint["state_dict"] |= {PREFIX + name: values for name, values in self._average.items()}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if RAW not in checkpoint:  # saved before the first step
            return
        self._average = _copied(_weights(pl_module))
        checkpoint_files.restore(pl_module, checkpoint["state_dict"] | checkpoint[RAW], Path(trainer.ckpt_path or ""))


def _weights(module: L.LightningModule) -> dict[str, Tensor]:
    """The model's own parameters and buffers, not copied."""
    return cast(AutoencoderModule, module).model.state_dict()


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in weights.items()}


@torch.no_grad()
def _place(weights: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, own in weights.items():
        own.copy_(values[name])
