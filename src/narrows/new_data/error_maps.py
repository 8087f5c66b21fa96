"""Error maps: a picture, its reconstruction, and where they differ, side by side; of a run on features the picture, and
where its features are rebuilt worst."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from narrows.coding.eight_bits import eight_bits

if TYPE_CHECKING:
    from narrows.tasks.measures.normal_scores import Calibration

SIDE = 128
"""Least height of a panel in pixels: smaller pictures are drawn in whole multiples."""
GAP = 4
"""White pixels between panels."""
Pixels = NDArray[np.uint8]
"""`[H, W, 3]`."""
TYPICAL, TIMES = 0.95, 4
COLOURS = "magma"


def brightest(calibration: Calibration) -> float:
    """The difference that is drawn brightest, one for all pictures so that they compare: four times the root of the
    squared error per value that one normal picture of twenty exceeds."""
    return TIMES * math.sqrt(max(calibration.threshold(TYPICAL), 1e-12))


def error_map(x: Tensor, guess: Tensor, limit: float) -> Image.Image:
    """Input, reconstruction `[C, H, W]` in [0, 1] and the root of their squared difference, mean over channels: black
    is none, brightest `limit` and more."""
    return _beside([_colours(x), _colours(guess), _heat(_difference(x, guess), limit)])


def heat_map(picture: Tensor, x: Tensor, guess: Tensor, limit: float) -> Image.Image:
    """A picture `[C, H, W]` in [0, 1] and the root of the squared difference of its features and their reconstruction,
    `[D, h, w]`, mean over features, brought to the picture's size."""
    size = (picture.shape[1], picture.shape[2])
    brought = F.interpolate(_difference(x, guess)[None, None], size, mode="bilinear", align_corners=False)
    return _beside([_colours(picture), _heat(brought[0, 0], limit)])


def _difference(x: Tensor, guess: Tensor) -> Tensor:
    return (x - guess).square().mean(0).sqrt()


def _heat(difference: Tensor, limit: float) -> Pixels:
    found: Pixels = colormaps[COLOURS](np.clip(difference.numpy() / limit, 0, 1), bytes=True)[..., :3]
    return found


def _beside(panels: list[Pixels]) -> Image.Image:
    times = max(1, -(-SIDE // panels[0].shape[0]))
    large = [panel.repeat(times, 0).repeat(times, 1) for panel in panels]
    gap = np.full((large[0].shape[0], GAP, 3), 255, np.uint8)
    between = [part for panel in large for part in (gap, panel)]
    return Image.fromarray(np.concatenate(between[1:], 1))


def _colours(x: Tensor) -> Pixels:
    """`[C, H, W]` as bytes `[H, W, 3]`."""
    pixels = eight_bits(x).transpose(1, 2, 0)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
