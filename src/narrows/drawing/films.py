"""Clips as animations, several beside one another."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from narrows.drawing.canvas import TILE, Array

GAP = 2


def film_of(clips: Array, bounds: tuple[float, float] | None, columns: int = 4) -> NDArray[np.uint8]:
    """Clips `[N, C, T, H, W]` in reading order, `columns` in a row, as the frames of one film `[T, h, w, 3]`, enlarged
    by a whole factor. Black and white are the bounds, or the least and the largest value."""
    low, high = bounds if bounds is not None else (float(clips.min()), float(clips.max()))
    unit = np.clip((clips - low) / max(high - low, 1e-12), 0, 1)
    if unit.shape[1] not in (1, 3):
        unit = unit.mean(1, keepdims=True)
    pixels = np.rint(unit * 255).astype(np.uint8).transpose(2, 0, 3, 4, 1)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:4], 3))
    scale = max(1, round(TILE / max(pixels.shape[2:4])))
    pixels = pixels.repeat(scale, 2).repeat(scale, 3)
    steps, count, height, width, _ = pixels.shape
    rows, columns = math.ceil(count / columns), min(columns, count)
    found = np.full((steps, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for place in range(count):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        found[:, top : top + height, left : left + width] = pixels[:, place]
    return found
