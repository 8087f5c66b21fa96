"""Which examples are compressed, as pixels of eight bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.coding.eight_bits import eight_bits
from narrows.data.sources.video import frames_of_clip
from narrows.evaluation import subset
from narrows.tasks.base import TaskContext

Pictures = NDArray[np.uint8]


def coded_examples(context: TaskContext, split: str, most: int) -> Pictures:
    """Examples of a split, uint8 `[N, C, H, W]`, of scans and clips `[N, C, D, H, W]`: of the test split the first, of
    clips those that share no frame with one before; of another split rows that are spaced evenly."""
    size = context.spec.size
    if split != "test":
        rows = torch.arange(most) if size <= most else torch.arange(most) * size // most
    else:
        part = getattr(context.datamodule, "part", None)  # that of a test's or a user's data may be missing
        names = None if part is None or context.spec.kind != "video" else part("test").names
        rows = torch.arange(most) if names is None else torch.tensor(apart(names)[:most])
    parts = [eight_bits(batch.x.cpu()) for batch in subset(context.datamodule.ordered_loader(split), rows)]
    return np.concatenate(parts) if parts else np.empty((0, *context.spec.shape), dtype=np.uint8)


def apart(names: Sequence[str]) -> list[int]:
    """The rows of the clips of these names that share no frame with one before that is taken, so that every frame of a
    film is coded once; all rows, where names say nothing of frames.

    Example:
        >>> apart(["a:0-7", "a:2-9", "a:8-15", "b:2-9"])
        [0, 2, 3]
    """
    taken: list[int] = []
    ends: dict[str, int] = {}
    for row, name in enumerate(names):
        clip = frames_of_clip(name)
        if clip is None or clip[1] > ends.get(clip[0], -1):
            taken.append(row)
            if clip is not None:
                ends[clip[0]] = clip[2]
    return taken
