"""Maps of where a picture or a volume is anomalous, `[N, H, W]` or `[N, D, H, W]`, higher where more so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from narrows.tasks.base import TaskContext
from narrows.tasks.measures.anomaly_scores import usual_errors
from narrows.types import Batch

MapOf = Callable[[Batch], Tensor]
"""A function from a batch `[B, C, h, w]` to its maps `[B, h, w]`, before they are enlarged and smoothed; of volumes
with D before h."""
Maps = NDArray[np.float32]


def model_map(context: TaskContext, score: str) -> MapOf:
    """The squared error of the noise-free reconstruction at every position, the mean over channels; where the score is
    `standardised`, over the usual errors of training, as there."""
    usual = None
    if score == "standardised":
        usual = usual_errors(context.model, context.batches("train"), context.spec.shape[-1]).float()
    return guess_map(lambda batch: context.model.reconstruct(batch), usual)


def guess_map(guess: Callable[[Batch], Tensor], usual: Tensor | None = None) -> MapOf:
    """The squared error of a guess `[B, C, h, w]` at every position, the mean over channels, each over its `usual` one
    where that is given."""

    return lambda batch: error_map(guess(batch), batch.truth, batch.observed, usual)


def error_map(guess: Tensor, truth: Tensor, observed: Tensor | None, usual: Tensor | None) -> Tensor:
    """The squared error of a guess `[B, C, h, w]`, 0 where nothing was observed; see `guess_map`."""
    error = (guess - truth).square()
    if usual is not None:
        error = error / usual.to(error)
    if observed is not None:
        error = error.masked_fill(~observed, 0.0)
    return error.mean(1)


def frame_means(maps: Tensor) -> NDArray[np.float64]:
    """The score of each frame of clips by its map, the mean: `[N, T, h, w] -> [N, T]`."""
    found: NDArray[np.float64] = maps.flatten(2).mean(2).double().cpu().numpy()
    return found


def finish(maps: Tensor, size: tuple[int, ...], smoothing: float) -> Maps:
    """Maps `[N, h, w]` at the size of the pictures, `[N, H, W]`: enlarged by bilinear interpolation, then smoothed by a
    Gaussian of `smoothing` pixels (its standard deviation; 0 leaves them as they are), borders mirrored. Those of
    volumes `[N, D, H, W]` are smoothed along all three axes."""
    maps = maps.float().cpu()
    if tuple(maps.shape[1:]) != size:
        maps = torch.nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    values = maps.numpy()
    return ndimage.gaussian_filter(values, smoothing, axes=tuple(range(1, values.ndim))) if smoothing else values


def largest(maps: Maps) -> NDArray[np.float64]:
    """The score of each picture by its map: the largest value, `[N]`."""
    return maps.reshape(len(maps), -1).max(1).astype(np.float64)
