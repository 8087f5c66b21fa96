"""Anomaly maps of pictures and scans by their values alone, which need no network: how bright a voxel is after
histogram equalisation, and how far it lies from what is usual at its place.

"Challenging Current Semi-Supervised Anomaly Segmentation Methods for Brain MRI" (Meissen et al., 2021,
https://arxiv.org/abs/2109.06023): the former tells bright lesions better than most published autoencoders do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from narrows.tasks.base import TaskContext
from narrows.tasks.measures.anomaly_maps import MapOf
from narrows.types import Batch

FLOOR = 0.01
"""Least variance of a place, as a share of the mean over all."""


def ranks(x: Tensor) -> Tensor:
    """Histogram equalisation of each example `[B, C, *size]`, the mean over channels: the share of its foreground,
    which is what lies above its least value, that is no brighter, `[B, *size]` in [0, 1]; 0 in the background."""
    values = x.double().mean(1).cpu().numpy()
    found = np.zeros(values.shape)
    for one, made in zip(values, found, strict=True):
        inside = one > one.min()
        ordered = np.sort(one[inside])
        made[inside] = np.searchsorted(ordered, one[inside], side="right") / max(len(ordered), 1)
    return torch.from_numpy(found).float()


def equalised(context: TaskContext) -> MapOf:
    """Brighter is more anomalous."""
    return lambda batch: ranks(batch.truth)


def equalised_extremes(context: TaskContext) -> MapOf:
    """Brighter and darker than the foreground's median are more anomalous alike."""

    def found(batch: Batch) -> Tensor:
        rank = ranks(batch.truth)
        return (2 * rank - 1).abs().where(rank > 0, torch.zeros(()))

    return found


def z_score(context: TaskContext) -> MapOf:
    """Squared distance from the training mean at a place over the training variance there, as of scans that are brought
    to one template ("Voxel-Based Morphometry", Ashburner and Friston, 2000, in its simplest form)."""
    count, total, squares = 0, torch.zeros(()).double(), torch.zeros(()).double()
    for batch in context.batches("train"):
        x = batch.truth.cpu().double()
        count, total, squares = count + len(x), total + x.sum(0), squares + x.square().sum(0)
    mean = total / max(count, 1)
    variance = (squares / max(count, 1) - mean.square()).clamp_min(0)
    variance = variance.clamp_min(max(FLOOR * float(variance.mean()), 1e-12))
    return lambda batch: ((batch.truth.cpu().double() - mean).square() / variance).mean(1).float()


INTENSITIES: dict[str, Callable[[TaskContext], MapOf]] = {
    "equalised": equalised,
    "equalised_extremes": equalised_extremes,
    "z_score": z_score,
}
