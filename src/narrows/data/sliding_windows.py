"""Sliding windows: one long signal cut into examples of equal length, which overlap where the stride is shorter."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.data.contents import Part


def cut_windows(values: Tensor, label: Tensor | None, window: int, stride: int) -> Part:
    """The windows `[N, C, window]` of a signal `[C, T]`, one every `stride` time steps.

    A window's label is 1 where the label `[T]` of any of its time steps is not 0.
    """
    x = values.unfold(1, window, stride).transpose(0, 1).contiguous()
    if label is None:
        return Part(x)
    return Part(x, (label.unfold(0, window, stride) != 0).any(1).to(torch.int64))
