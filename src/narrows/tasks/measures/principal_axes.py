"""Principal axes: the directions in which latents vary most."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def principal(codes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Principal axes `[k, D]` of the rows, their standard deviations `[k]` and shares of the variance `[k]`."""
    centred = codes - codes.mean(0)
    count = min(count, *centred.shape)
    if min(centred.shape) <= 256:
        _, values, axes = torch.linalg.svd(centred, full_matrices=False)
        axes = axes[:count]
    else:
        _, values, columns = torch.pca_lowrank(centred, q=count + 8, center=False, niter=4)
        axes = columns.T[:count]
    # A sign is arbitrary; fixed, so that the map does not flip from one drawing to the next.
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    total = centred.square().sum().clamp_min(1e-30)
    return axes, values[:count] / math.sqrt(max(len(codes) - 1, 1)), values[:count].square() / total
