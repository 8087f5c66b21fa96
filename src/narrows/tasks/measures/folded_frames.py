"""Scores of the frames of clips folded back to those of their films."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.data.sources.video import frames_of_clip

Scores = NDArray[np.float64]


class Folding:
    """What clips say of each frame of their films, folded back: the mean over the clips that hold it.

    Args:
        names: of clips (`narrows.data.sources.video.clip_name`); None, or another name: every clip is a film by itself.
        count: of clips.
        frames: of a clip.
    """

    def __init__(self, names: Sequence[str] | None, count: int, frames: int) -> None:
        told = [None if names is None else frames_of_clip(name) for name in names or [""] * count]
        films = [clip[0] if clip is not None else f"clip {row}" for row, clip in enumerate(told)]
        self.names = list(dict.fromkeys(films))
        number = {name: place for place, name in enumerate(self.names)}
        pairs = np.empty((count, frames, 2), dtype=np.int64)
        for row, (film, clip) in enumerate(zip(films, told, strict=True)):
            first, last = (0, frames - 1) if clip is None else clip[1:]
            pairs[row, :, 0], pairs[row, :, 1] = number[film], np.linspace(first, last, frames).round()
        places, self._cells = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        self.film, self.place = places.T

    def mean(self, values: NDArray[Any]) -> Scores:
        """`[N, T] -> [F]`."""
        cells = self._cells.ravel()
        sums = np.bincount(cells, values.astype(np.float64).ravel(), len(self.film))
        found: Scores = sums / np.bincount(cells, minlength=len(self.film))
        return found
