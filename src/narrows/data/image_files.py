"""Reading image files as uint8 tensors; images that could only be read by silently changing them are refused."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from narrows.data.tar_members import Member
from narrows.errors import UserError, nearest, require
from narrows.files import require_no_pipe

EIGHT_BIT = {"1", "L", "P", "RGB", "LA", "PA", "RGBA"}
"""Pillow's modes that convert to eight-bit grey or colour without loss."""
DEEP = {"I;16", "I;16L", "I;16B", "I", "F"}
"""Pillow's modes of grey with more than eight bits, which `Pictures.scale` makes eight."""
LARGEST_SIDE = 65_535
"""Most pixels of a side that is asked for."""
UPRIGHT_ON_ITS_SIDE = {5, 6, 7, 8}
"""Values of the EXIF tag of orientation that exchange height and width."""
ORIENTATION = 0x0112
Fit = Literal["crop", "pad", "stretch"]
Frames = Literal["refuse", "first", "each"]


@dataclass(frozen=True)
class Pictures:
    """How picture files that differ become pixels of one size.

    Args:
        fit: `crop` scales a picture until it covers the size and cuts what stands over, around the centre; `pad` scales
            it until it fits in and fills the rest with black; `stretch` scales height and width apart.
        scale: the value of white in grey pictures of more than eight bits, such as 65535, or 4095 of twelve bits: it
            becomes 255, in proportion; null refuses such pictures.
        frames: of animations and stacks of pages: `refuse` them, read the `first`, or `each` as an example.
        background: the grey level (0 to 255) or colour `[red, green, blue]` on which transparent pixels are put; null
            refuses them.
        megapixels: the largest picture that is read, a guard against files that are made to fill the memory.

    Raises:
        UserError: a value that does not exist or means nothing.
    """

    fit: Fit = "crop"
    scale: float | None = None
    frames: Frames = "refuse"
    background: int | Sequence[int] | None = None
    megapixels: float = 179

    def __post_init__(self) -> None:
        for name, choices in (("fit", get_args(Fit)), ("frames", get_args(Frames))):
            value = getattr(self, name)
            require(value in choices, f"unknown pictures.{name}={value!r}: {nearest(str(value), choices)}")
        for name, value in (("scale", self.scale), ("megapixels", self.megapixels)):
            known = value is None or (_is_number(value) and math.isfinite(value) and value > 0)
            require(known, f"pictures.{name}={value!r} must be a number above 0")
        if self.background is None:
            return
        levels = _listed(self.background, 3)
        right = len(levels) == 3 and all(type(level) is int and 0 <= level <= 255 for level in levels)
        require(right, f"pictures.background={self.background!r} is neither a grey level, 0 to 255, nor three of them")
        object.__setattr__(self, "background", tuple(levels))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(value: Any, times: int) -> list[Any]:
    """A sequence as a list, and anything else as often as is asked for."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * times


class Frame(os.PathLike[str]):
    """One frame of a file of several, which stands for the file wherever a path does."""

    def __init__(self, path: str, number: int) -> None:
        self.path, self.number = path, number

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return f"{self.path} (frame {self.number})"


class Encoded(NamedTuple):
    """An image file in memory, which stands for one wherever a path does."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        """Its content."""
        return self.content


Place = str | Frame | Member | Encoded
"""Where an image file is."""


@dataclass(frozen=True, repr=False)
class ImageReader:
    """Reads one image file as uint8 `[channels, height, width]`: turned upright by its EXIF tag, centre cropped to
    `crop` pixels if that is set, and brought to its size as `pictures.fit` says.

    Args:
        size: height and width, one number for both or `[height, width]`.

    Raises:
        UserError: a size that means nothing; (when called) a file that is missing, broken, truncated, too large, or, if
            `pictures` does not say what becomes of it, of more than eight bits, transparent, or of several frames.
    """

    size: int | Sequence[int]
    channels: Literal[1, 3] = 3
    crop: int | None = None
    pictures: Pictures = field(default_factory=Pictures)

    def __post_init__(self) -> None:
        sides = _listed(self.size, 2)
        require(
            len(sides) == 2 and all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides),
            f"size={self.size} must be at least 1 pixel and at most {LARGEST_SIDE}: one whole number, or [height, "
            "width]",
        )
        require(
            sides[0] * sides[1] <= self.pictures.megapixels * 1e6,
            f"size={self.size} is larger than the largest picture that is read, of {self.pictures.megapixels:g} "
            "megapixels: set a smaller one",
        )
        require(self.channels in (1, 3), f"channels={self.channels} is neither 3 (colour) nor 1 (grey)")
        object.__setattr__(self, "size", sides[0] if sides[0] == sides[1] else tuple(sides))

    def __repr__(self) -> str:
        """All that changes a pixel, as fingerprints need it; what is as it ever was is left out."""
        how = self.pictures
        options = {"fit": how.fit, "scale": how.scale, "frames": how.frames, "background": how.background}
        chosen = "".join(f", {name}={value!r}" for name, value in options.items() if value != getattr(Pictures, name))
        return f"ImageReader(size={self.size}, channels={self.channels}, crop={self.crop}{chosen})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """`[channels, height, width]`."""
        height, width = [self.size] * 2 if isinstance(self.size, int) else self.size
        return self.channels, height, width

    def __call__(self, path: Place) -> Tensor:
        image = open_image(path, self.pictures)
        if self.crop is not None:
            require(
                min(image.size) >= self.crop,
                f"{path} measures {image.width} x {image.height} pixels, too few to cut {self.crop} x {self.crop} from",
            )
            image = _centre(image, self.crop, self.crop)
        # Convert before scaling: palette indices and single bits cannot be interpolated.
        image = self.fitted(image.convert("RGB" if self.channels == 3 else "L"))
        channels, height, width = self.shape
        pixels = np.array(image).reshape(height, width, channels)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def fitted(self, image: Image.Image, how: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
        """The picture at the size that is read, scaled and cut as `pictures.fit` says."""
        _, height, width = self.shape
        wanted = (width, height)
        if self.pictures.fit != "stretch":
            bound = max if self.pictures.fit == "crop" else min
            factor = bound(width / image.width, height / image.height)
            wanted = (
                bound(width, max(1, round(image.width * factor))),
                bound(height, max(1, round(image.height * factor))),
            )
        if wanted != image.size:
            image = image.resize(wanted, how)
        return _centre(image, width, height)


class Header(NamedTuple):
    """What a file says of its picture before its pixels are read."""

    height: int
    width: int
    mode: str
    frames: int


def read_header(path: str, how: Pictures) -> Header:
    """The header of an image file, whose height and width are those of the upright picture.

    Raises:
        UserError: see `ImageReader`; what only the pixels show is not seen.
    """
    with _opened(path, how) as image:
        height, width = image.height, image.width
        # Where there are no tags, `getexif` would look for them behind all pixels; of a TIFF, Pillow says it upright.
        tagged = "exif" in image.info and image.format != "TIFF"
        if tagged and image.getexif().get(ORIENTATION) in UPRIGHT_ON_ITS_SIDE:
            height, width = width, height
        return Header(height, width, image.mode, _count_frames(image))


def open_image(path: Place, how: Pictures | None = None) -> Image.Image:
    """The whole picture, upright and of eight bits; see `ImageReader` for what is refused."""
    how = how or Pictures()
    with _opened(path, how) as image:
        if isinstance(path, Frame):
            image.seek(path.number)
            _check_size(image, path, how)
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode in DEEP:
        return _to_eight_bits(upright, path, how)
    return opaque(upright, path, how)


@contextmanager
def _opened(path: Place, how: Pictures) -> Iterator[Image.Image]:
    if not isinstance(path, Member | Encoded):
        require_no_pipe(Path(path))
    guard = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # `_check_size` says it better, and by an option
    try:
        with Image.open(io.BytesIO(path.read_bytes()) if isinstance(path, Member | Encoded) else path) as image:
            _check_size(image, path, how)
            _check_mode(image, path, how)
            _check_frames(image, path, how)
            yield image
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them into
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is no image that can be read ({reason}): repair it, or take it away") from error
    finally:
        Image.MAX_IMAGE_PIXELS = guard


def _check_size(image: Image.Image, path: Place, how: Pictures) -> None:
    pixels = image.width * image.height
    require(
        pixels <= how.megapixels * 1e6,
        f"{path} measures {image.width} x {image.height} pixels, more than the {how.megapixels:g} megapixels that are "
        "read, a guard against files that are made to fill the memory: make it smaller, or, in a folder of images, "
        f"set source.pictures.megapixels={math.ceil(pixels / 1e6)}",
    )


def _check_mode(image: Image.Image, path: Place, how: Pictures) -> None:
    if image.mode in DEEP:
        require(
            how.scale is not None,
            f"{path} is of mode {image.mode}, with more than eight bits: set source.pictures.scale, in a folder of "
            "images, to the value that is white, such as 65535, or 4095 of twelve bits; or convert it first",
        )
        return
    # Pillow opens 16-bit colour as eight-bit RGB; only the decoder's arguments show it.
    tiles = getattr(image, "tile", [])
    deep = any(";16" in str(tile[3]) for tile in tiles if len(tile) > 3)
    require(
        image.mode in EIGHT_BIT and not deep,
        f"{path} is of mode {image.mode}{' with 16 bits per channel' if deep else ''}, and reading it as eight-bit "
        "grey or colour would change its values: convert it first",
    )


def _count_frames(image: Image.Image) -> int:
    # A second picture in a photograph is a preview or a depth map of the camera.
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return 1
    return int(getattr(image, "n_frames", 1))


def _check_frames(image: Image.Image, path: Place, how: Pictures) -> None:
    if how.frames == "refuse":
        frames = _count_frames(image)
        require(
            frames == 1,
            f"{path} holds {frames} frames, as animations and stacks of pages do: set source.pictures.frames, in a "
            "folder of images, to first or each, or save the frames as files of their own",
        )


def _to_eight_bits(image: Image.Image, path: Place, how: Pictures) -> Image.Image:
    assert how.scale is not None
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    require(
        low >= 0 and high <= how.scale,  # false of NaN too
        f"{path} holds values from {low:g} to {high:g}, outside 0 to source.pictures.scale={how.scale:g}, where white "
        "lies: set the largest value of all pictures, or convert it first",
    )
    return Image.fromarray(np.rint(values / how.scale * 255).astype(np.uint8))


def opaque(image: Image.Image, path: Place | Path, how: Pictures) -> Image.Image:
    """The picture on the background that is asked for, where some of it is transparent.

    Raises:
        UserError: there is none.
    """
    if not image.has_transparency_data:
        return image
    layered = image.convert("RGBA")
    if int(np.asarray(layered)[..., 3].min()) == 255:
        return image
    if not isinstance(how.background, tuple):
        raise UserError(
            f"{path} has transparent pixels, which have no colour: put it on a background first, or, in a folder of "
            "images, set source.pictures.background, such as 255 for white"
        )
    behind = Image.new("RGBA", image.size, (*how.background, 255))
    return Image.alpha_composite(behind, layered).convert("RGB")


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    """The centre of the picture; where it is too small, black is put around it."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
