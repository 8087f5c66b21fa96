"""The classic codecs: JPEG, WebP, JPEG 2000 and PNG through Pillow, and PCA under narrows' own coder.

Pictures are uint8 `[N, C, H, W]`; of scans and clips `[N, C, D, H, W]` every slice or frame is one. Those smaller than
`TINY` pixels a side lie on one mosaic, which is one file, because headers would be most of a file of their own; larger
ones are a file each.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA

from narrows.coding.ans_entropy_coder import encode, fit_table
from narrows.coding.eight_bits import image_of
from narrows.coding.model_codec import rounded
from narrows.coding.nrwz_file import Header, pack

Pictures = NDArray[np.uint8]

TINY = 64
COMPONENTS = 256
"""Most components of PCA; one that varies less than a step costs next to nothing."""
NEAR = 3
BLOCK = 8
"""Side in pixels of the blocks that PCA reads of a picture that is too large to be read whole."""
WHOLE = {4: 4096, 5: 8192}
"""Most values of a picture, and of a scan or clip, that PCA reads whole, by the axes of many."""
MOST_BLOCKS = 100_000
"""About how many blocks of training scans or clips PCA is fitted to."""


@dataclass
class Coded:
    """The result of a codec: total size and decoded pictures."""

    size: int
    """Bytes of all files together."""
    pictures: Pictures


@dataclass
class Classic:
    """A codec with settings from the smallest files to the largest, and its results on the pictures."""

    settings: Sequence[Any]
    memo: dict[Any, Coded] = field(default_factory=dict)

    def coded(self, setting: Any) -> Coded:
        if setting not in self.memo:
            self.memo[setting] = self.code(setting)
        return self.memo[setting]

    def code(self, setting: Any) -> Coded:
        raise NotImplementedError

    def within(self, budget: int) -> Coded:
        """The result at the best setting whose files fit in `budget` bytes; at the smallest setting if none fits.

        It is found by bisection and among the next `NEAR` settings, because sizes do not always grow.
        """
        low, high = 0, len(self.settings) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.coded(self.settings[middle]).size <= budget else (low, middle - 1)
        near = [self.coded(setting) for setting in self.settings[low : low + NEAR + 1]]
        return max((coded for coded in near if coded.size <= budget), key=lambda coded: coded.size, default=near[0])


OPTIONS: dict[str, tuple[str, Sequence[Any]]] = {
    "jpeg": ("JPEG", range(1, 101)),
    "webp": ("WEBP", range(101)),
    "jpeg2000": ("JPEG2000", np.geomspace(4000, 1, 240).tolist()),
}
"""Pillow's format, and its settings: a quality, or how many times smaller than raw."""


class PillowCodec(Classic):
    """JPEG, WebP or JPEG 2000 of a mosaic or of every picture, all at one quality."""

    def __init__(self, name: str, pictures: Pictures) -> None:
        self.format, settings = OPTIONS[name]
        super().__init__(settings)
        self.shape, self.pictures = pictures.shape, planes(pictures)

    def code(self, setting: Any) -> Coded:
        found = [self._one(sheet, setting) for sheet in sheets(self.pictures)]
        back = unsheeted(np.stack([pixels for _, pixels in found]), self.pictures.shape)
        return Coded(sum(size for size, _ in found), of_planes(back, self.shape))

    def _one(self, sheet: Pictures, setting: Any) -> tuple[int, Pictures]:
        options: dict[str, Any] = {"quality": setting}
        if self.format == "JPEG":
            options["optimize"] = True
        elif self.format == "WEBP":
            options["method"] = 6
        else:
            options = {"quality_mode": "rates", "quality_layers": [setting], "irreversible": True, "no_jp2": True}
        file = io.BytesIO()
        image_of(sheet).save(file, format=self.format, **options)
        with Image.open(file) as image:
            pixels = np.array(image.convert("L" if len(sheet) == 1 else "RGB"))
        return len(file.getvalue()), pixels.reshape(*sheet.shape[1:], len(sheet)).transpose(2, 0, 1)


def png_bytes(pictures: Pictures) -> int:
    """The bytes of the pictures as PNG, without loss."""
    total = 0
    for sheet in sheets(planes(pictures)):
        file = io.BytesIO()
        image_of(sheet).save(file, format="PNG", optimize=True)
        total += len(file.getvalue())
    return total


def planes(pictures: Pictures) -> Pictures:
    """Pictures as they are; the slices or frames of `[N, C, D, H, W]` as pictures, `[N D, C, H, W]`."""
    if pictures.ndim == 4:
        return pictures
    return np.ascontiguousarray(pictures.swapaxes(1, 2)).reshape(-1, pictures.shape[1], *pictures.shape[3:])


def of_planes(found: Pictures, shape: tuple[int, ...]) -> Pictures:
    """The inverse of `planes`, of that shape."""
    if len(shape) == 4:
        return found
    count, channels, depth, *sides = shape
    return np.ascontiguousarray(found.reshape(count, depth, channels, *sides).swapaxes(1, 2))


def _columns(shape: tuple[int, ...]) -> int:
    """Pictures per row of the mosaic; 0 if every picture is its own file."""
    return math.ceil(math.sqrt(shape[0])) if max(shape[2:]) < TINY else 0


def sheets(pictures: Pictures) -> list[Pictures]:
    """The pictures `[C, H, W]` of the files: all of them, or one mosaic of all, filled up with black."""
    columns = _columns(pictures.shape)
    if not columns:
        return list(pictures)
    count, channels, height, width = pictures.shape
    rows = math.ceil(count / columns)
    padded = np.zeros((rows * columns, channels, height, width), dtype=np.uint8)
    padded[:count] = pictures
    placed = padded.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return [placed.reshape(channels, rows * height, columns * width)]


def unsheeted(found: Pictures, shape: tuple[int, ...]) -> Pictures:
    """The pictures `[N, C, H, W]` again, from sheets `[M, C, H', W']`."""
    columns = _columns(shape)
    if not columns:
        return found
    count, channels, height, width = shape
    apart = found[0].reshape(channels, -1, height, columns, width).transpose(1, 3, 0, 2, 4)
    return apart.reshape(-1, channels, height, width)[:count]


class PCACodec(Classic):
    """Principal components of whole pictures, or of blocks 8 pixels long where these are large, rounded to multiples
    of a step, under tables of narrows' own coder fitted to the training pictures, in a file with narrows' own header.

    With one step for all, a component that varies by less than it is 0 and costs next to nothing: how many components
    are kept need not be chosen.
    """

    def __init__(self, train: Pictures, test: Pictures, seed: int) -> None:
        self.shape, self.whole = test.shape, math.prod(test.shape[1:]) <= WHOLE[test.ndim]
        if test.ndim == 5 and not self.whole:
            blocks = math.prod(-(-side // BLOCK) for side in test.shape[2:])
            train = train[:: -(-len(train) * blocks // MOST_BLOCKS)]
        rows = self._rows(train)
        components = min(COMPONENTS, *rows.shape)
        self.pca = PCA(components, random_state=seed % 2**32).fit(rows)
        self.train, self.test = self.pca.transform(rows), self.pca.transform(self._rows(test))
        widest = float(np.sqrt(self.pca.explained_variance_[0]))
        # From a step that leaves nothing to one of an eighth of a grey level.
        super().__init__(np.geomspace(16 * widest, 1 / 2048, 200).tolist())

    def code(self, setting: Any) -> Coded:
        train, test = (rounded(list(values.T), setting) for values in (self.train, self.test))
        code = encode(test, [fit_table(values) for values in train])
        layout = {"kind": "npy", "shape": list(self.shape[1:]), "dtype": "uint8", "channel": True}
        header = Header(bytes(8), bytes(8), setting, self.shape[0], layout)
        back = self.pca.inverse_transform(np.stack(test, axis=1) * setting)
        return Coded(len(pack(header, code)), self._pictures(back))

    def _rows(self, pictures: Pictures) -> NDArray[np.floating]:
        """`[M, D]` in [0, 1], M the pictures or all of their blocks."""
        values = pictures.astype(np.float32) / np.float32(255)
        if self.whole:
            return values.reshape(len(values), -1)
        sides = values.shape[2:]
        values = np.pad(values, ((0, 0), (0, 0), *((0, -side % BLOCK) for side in sides)), mode="edge")
        apart = [part for side in values.shape[2:] for part in (side // BLOCK, BLOCK)]
        blocks = values.reshape(*values.shape[:2], *apart)
        order = (0, *range(2, 2 + len(apart), 2), 1, *range(3, 3 + len(apart), 2))
        return blocks.transpose(order).reshape(-1, values.shape[1] * BLOCK ** len(sides))

    def _pictures(self, rows: NDArray[np.floating]) -> Pictures:
        values = np.rint(rows.clip(0, 1) * 255).astype(np.uint8)
        if self.whole:
            return values.reshape(self.shape)
        count, channels, *sides = self.shape
        many, axes = [-(-side // BLOCK) for side in sides], len(sides)
        blocks = values.reshape(count, *many, channels, *[BLOCK] * axes)
        pairs = [axis for place in range(axes) for axis in (1 + place, 2 + axes + place)]
        joined = blocks.transpose(0, 1 + axes, *pairs).reshape(count, channels, *(number * BLOCK for number in many))
        return joined[(..., *(slice(side) for side in sides))]
