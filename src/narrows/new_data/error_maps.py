"""Error maps: a picture, its reconstruction, and where they differ, side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from narrows.coding.example_files import eight_bits

if TYPE_CHECKING:
    from narrows.tasks.measures.normal_scores import Calibration

SIDE = 128
"""Least height of a panel in pixels: smaller pictures are drawn in whole multiples."""
GAP = 4
"""White pixels between panels."""
TYPICAL, TIMES = 0.95, 4
COLOURS = "magma"


def brightest(calibration: Calibration) -> float:
    """The difference that is drawn brightest, one for all pictures so that they compare: four times the root of the
    squared error per value that one normal picture of twenty exceeds."""
    return TIMES * math.sqrt(max(calibration.threshold(TYPICAL), 1e-12))


def error_map(x: Tensor, guess: Tensor, limit: float) -> Image.Image:
    """Input, reconstruction `[C, H, W]` in [0, 1] and the root of their squared difference, mean over channels: black
    is none, brightest `limit` and more."""
    difference = (x - guess).square().mean(0).sqrt().numpy() / limit
    panels = [_colours(x), _colours(guess), colormaps[COLOURS](np.clip(difference, 0, 1), bytes=True)[..., :3]]
    times = max(1, -(-SIDE // x.shape[1]))
    large = [panel.repeat(times, 0).repeat(times, 1) for panel in panels]
    gap = np.full((large[0].shape[0], GAP, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([large[0], gap, large[1], gap, large[2]], 1))


def _colours(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """`[C, H, W]` as bytes `[H, W, 3]`."""
    pixels = eight_bits(x).transpose(1, 2, 0)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def save_map(x: Tensor, guess: Tensor, limit: float, path: Path) -> None:
    """Draw an `error_map` as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    error_map(x, guess, limit).save(path, format="PNG")
