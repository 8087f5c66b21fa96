"""How long a run trains, how often it is validated, and how a perceptron starts, where nobody said so.

Fifty epochs of few rows are too few steps to learn anything, and validating after every two steps takes longer than the
steps. So small data get at least `FLOOR` optimiser steps, validated and saved every `SPACING` of them or so.

Half a million weights learn a few hundred rows by heart, long before they know as much of others as PCA does. So on
small data a perceptron starts linear (`shortcut`), where possible at PCA's solution, and drops hidden values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from omegaconf import DictConfig

from narrows.config.auto_values import (
    BATCH,
    DRAWN,
    EPOCHS,
    LENGTHS,
    PCA,
    SAVED,
    STAND_INS,
    VALIDATED,
    Value,
    decided,
    open_keys,
)
from narrows.data.datamodule import DataModule
from narrows.types import COUNTED

FLOOR = 2000
"""Optimiser steps that small data get at least."""
SPACING = 100
"""Optimiser steps between two validations of such a run, at least: they and the checkpoints then cost less than a tenth
of its time."""
DRAWINGS = 5
"""How often such a run draws its pictures."""
FEW = 5000
"""Training rows below which data are small for a perceptron."""
DROPOUT = 0.1
"""Of a perceptron's hidden values on small data."""
LIMITS = ("limit_train_batches", "overfit_batches", "fast_dev_run")
"""Options of a run that is shortened on purpose."""


def decide(config: DictConfig, data: DataModule) -> tuple[DictConfig, list[str]]:
    """The config with everything that it left to the data, which are set up; and what is said of it, in lines.

    The values follow from the config and the number of training rows alone, so that every process of a run, and every
    repetition, finds the same.
    """
    values, told = length_of(config, data.spec.size, data.batch_size)
    # Counts have so many features that a linear map of them is the largest part of a network.
    networks = networks_of(config, FEW if data.spec.kind in COUNTED else data.spec.size)
    lines = [line for line in (told, _told_of_networks(networks)) if line is not None]
    return decided(config, values | networks | {BATCH: data.batch_size}), lines


def networks_of(config: DictConfig, rows: int) -> dict[str, Value]:
    """By key, how the perceptrons that left it open start and are regularised, for a run on so many training rows."""
    values: dict[str, Value] = {}
    keys = open_keys(config)
    for stage in ("encoder", "decoder"):
        node = config.get(stage) or {}
        helps = rows < FEW and bool(node.get("widths")) and not node.get("tied") and not node.get("unit_norm")
        values |= {f"{stage}.dropout": DROPOUT if helps else 0.0, f"{stage}.shortcut": helps}
    # Of an encoder that has none, the start is not possible.
    values[PCA] = "possible" if rows < FEW and config.get("init_from") is None else STAND_INS[PCA]
    return {key: value for key, value in values.items() if key in keys}


def _told_of_networks(values: Mapping[str, Value]) -> str | None:
    # What starts at PCA says so itself.
    set_here = [f"{key}={str(value).lower()}" for key, value in values.items() if value and key != PCA]
    return f"small data: {', '.join(set_here)}, because nothing else was given" if set_here else None


def length_of(config: DictConfig, rows: int, batch_size: int) -> tuple[dict[str, float], str | None]:
    """By key, the numbers for a run on so many training rows, and a line that says them where they are special.

    Only where `trainer.max_epochs` is left open, and no other limit was given, is a short run made longer.
    """
    # Fewer than 1 is refused where the module is built.
    steps = math.ceil(math.ceil(rows / batch_size) / max(1, config.module.accumulate))
    values, keys = dict(LENGTHS), open_keys(config)
    epochs = LENGTHS[EPOCHS]
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
