"""Sounds of a model for people to hear, given to loggers that can play them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.compare.tensorboard_groups import VIEWS
from narrows.evaluation import EvaluationData, evaluating, select
from narrows.models.autoencoder import Autoencoder

HEARD = 3
Sounds = Mapping[str, tuple[NDArray[np.float32], int]]
"""`[C, T]` with their sampling rates, by name."""


def write_sounds(logger: Any, sounds: Sounds, step: int) -> None:
    """Log sounds in the group `views`, to a logger whose experiment has `add_audio`. TensorBoard plays the mean of all
    channels."""
    add_audio = getattr(getattr(logger, "experiment", None), "add_audio", None)
    if add_audio is not None:
        for name, (samples, rate) in sounds.items():
            add_audio(f"{VIEWS}/{name}", samples.mean(0, keepdims=True).clip(-1, 1), step, sample_rate=rate)


def reconstructed_sounds(model: Autoencoder, data: EvaluationData, device: torch.device, seed: int) -> Sounds:
    """The first validation examples, what the corruption makes of them, and what the model makes of that; none where
    the data are no sound. Model and random generators are left unchanged."""
    rate = data.spec.rate
    batch = None if rate is None else next(iter(data.ordered_loader("validation")), None)
    if rate is None or batch is None:
        return {}
    with evaluating(model, seed, "sounds"):
        shown = select(batch, slice(0, HEARD)).to(device)
        seen = shown if getattr(model.corruption, "identity", False) else model.corrupted(shown)
        rows = {"input": shown.x, "model": model.reconstruct(seen)}
        if seen is not shown:
            rows["corrupted"] = seen.x
        steps = [shown.x.shape[-1]] * len(shown) if shown.length is None else shown.length.tolist()
        return {
            f"reconstruction_{number}_{name}": (values[number, :, : steps[number]].float().cpu().numpy(), rate)
            for number in range(len(shown))
            for name, values in rows.items()
        }
