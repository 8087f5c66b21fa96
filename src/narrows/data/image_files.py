"""Reading image files as uint8 tensors; images that could only be read by silently changing them are refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from narrows.errors import UserError, require
from narrows.files import require_no_pipe

EIGHT_BIT = {"1", "L", "P", "RGB", "LA", "PA", "RGBA"}
"""Pillow's modes that convert to eight-bit grey or colour without loss."""


@dataclass(frozen=True)
class ImageReader:
    """Reads one image file as uint8 `[channels, size, size]`: turned upright by its EXIF tag, centre cropped to `crop`
    pixels if that is set, scaled until its shorter side is `size`, and centre cropped to a square.

    Raises:
        UserError: (when called) a file that is missing, broken, truncated, of more than eight bits, or transparent.
    """

    size: int
    channels: Literal[1, 3] = 3
    crop: int | None = None

    def __post_init__(self) -> None:
        require(self.size >= 1, f"size={self.size} must be at least 1 pixel")
        require(self.channels in (1, 3), f"channels={self.channels} is neither 3 (colour) nor 1 (grey)")

    def __call__(self, path: str) -> Tensor:
        image = open_image(path)
        if self.crop is not None:
            require(
                min(image.size) >= self.crop,
                f"{path} measures {image.width} x {image.height} pixels, too few to cut {self.crop} x {self.crop} from",
            )
            image = _centre(image, self.crop)
        # Convert before scaling: palette indices and single bits cannot be interpolated.
        image = image.convert("RGB" if self.channels == 3 else "L")
        factor = self.size / min(image.size)
        if factor != 1:
            wanted = [max(self.size, round(side * factor)) for side in image.size]
            image = image.resize((wanted[0], wanted[1]), Image.Resampling.BILINEAR)
        pixels = np.array(_centre(image, self.size)).reshape(self.size, self.size, self.channels)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def open_image(path: str) -> Image.Image:
    """The whole picture, upright; see `ImageReader` for what is refused."""
    require_no_pipe(Path(path))
    try:
        with Image.open(path) as image:
            _check_mode(image, path)
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no image that can be read ({error}): repair it, or take it away") from error
    _check_opaque(upright, path)
    return upright


def _check_mode(image: Image.Image, path: str) -> None:
    # Pillow opens 16-bit colour as eight-bit RGB; only the decoder's arguments show it.
    tiles = getattr(image, "tile", [])
    deep = any(";16" in str(tile[3]) for tile in tiles if len(tile) > 3)
    require(
        image.mode in EIGHT_BIT and not deep,
        f"{path} is of mode {image.mode}{' with 16 bits per channel' if deep else ''}, and reading it as eight-bit "
        "grey or colour would change its values: convert it first",
    )


def _check_opaque(image: Image.Image, path: str) -> None:
    if not image.has_transparency_data:
        return
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    require(
        int(alpha.min()) == 255, f"{path} has transparent pixels, which have no colour: put it on a background first"
    )


def _centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
