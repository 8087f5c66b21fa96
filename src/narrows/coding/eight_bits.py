"""Values in [0, 1] as pixels of eight bits, and pixels as images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def eight_bits(x: Tensor) -> NDArray[np.uint8]:
    """Values in [0, 1] as bytes, rounded."""
    return (x.float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def image_of(picture: NDArray[np.uint8]) -> Image.Image:
    """The image of a picture `[C, H, W]` with one channel or three."""
    return Image.fromarray(picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
