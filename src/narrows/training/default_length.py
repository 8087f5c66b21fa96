"""How long a run trains, and how often it is validated, where nobody said so.

Fifty epochs of few rows are too few steps to learn anything, and validating after every two steps takes longer than the
steps. So small data get at least `FLOOR` optimiser steps, validated and saved every `SPACING` of them or so.
"""

from __future__ import annotations

import math

from omegaconf import DictConfig

from narrows.config.auto_values import BATCH, DRAWN, EPOCHS, SAVED, STAND_INS, VALIDATED, decided, open_keys
from narrows.data.datamodule import DataModule

FLOOR = 2000
"""Optimiser steps that small data get at least."""
SPACING = 100
"""Optimiser steps between two validations of such a run, at least: they and the checkpoints then cost less than a tenth
of its time."""
DRAWINGS = 5
"""How often such a run draws its pictures."""
LIMITS = ("limit_train_batches", "overfit_batches", "fast_dev_run")
"""Options of a run that is shortened on purpose."""


def decide(config: DictConfig, data: DataModule) -> tuple[DictConfig, str | None]:
    """The config with every number that it left to the data, which are set up; and what is said of it.

    The numbers follow from the config and the number of training rows alone, so that every process of a run, and every
    repetition, finds the same.
    """
    values, told = length_of(config, data.spec.size, data.batch_size)
    return decided(config, values | {BATCH: data.batch_size}), told


def length_of(config: DictConfig, rows: int, batch_size: int) -> tuple[dict[str, int], str | None]:
    """By key, the numbers for a run on so many training rows, and a line that says them where they are special.

    Only where `trainer.max_epochs` is left open, and no other limit was given, is a short run made longer.
    """
    # Fewer than 1 is refused where the module is built.
    steps = math.ceil(math.ceil(rows / batch_size) / max(1, config.module.accumulate))
    values, keys = dict(STAND_INS), open_keys(config)
    epochs = STAND_INS[EPOCHS]
    most = config.trainer.get("max_steps") or -1
    if EPOCHS not in keys or any(config.trainer.get(limit) for limit in LIMITS) or epochs * steps >= max(FLOOR, most):
        return values, None
    if most > 0:
        # Steps were asked for: epochs must not end the run before them.
        return values | {EPOCHS: max(epochs, math.ceil(most / steps))}, None
    every = math.ceil(SPACING / steps) if VALIDATED in keys else config.trainer.get("check_val_every_n_epoch") or 1
    # The last epoch is validated.
    epochs = math.ceil(FLOOR / (steps * every)) * every
    drawn = max(every, epochs // DRAWINGS // every * every)
    values |= {EPOCHS: epochs, VALIDATED: every, SAVED: every, DRAWN: drawn}
    return values, _told(rows, batch_size, steps, epochs, every)


def _told(rows: int, batch_size: int, steps: int, epochs: int, every: int) -> str:
    step, times = "step" if steps == 1 else "steps", "epoch" if every == 1 else f"{every} epochs"
    return (
        f"{rows:,} training examples: batches of {batch_size}, {epochs:,} epochs of {steps} {step}, validated every "
        f"{times}, because trainer.max_epochs was not given"
    )
