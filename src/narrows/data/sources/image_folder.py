"""A folder of image files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import existing
from narrows.data.image_files import ImageReader
from narrows.data.stores import Streamed
from narrows.errors import require

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}


class ImageFolder:
    """The images below `path`, `[channels, size, size]` uint8, in the order of their names.

    Images directly in `path` have no labels. If all images lie in subfolders, the subfolder directly below `path` is
    the class; classes are numbered in the order of their names. The images are held in memory if all of them fit in
    `memory_limit_mb`, else read from their files for every batch.

    Args:
        test: fraction held out for the test split; null for no test split. Ignored if `test_path` is given.
        test_path: a folder like `path`, with the same classes, for the test split.

    Raises:
        UserError: (`load`) a folder without images, images both in and below it, classes of the test folder that the
            training folder lacks, or a file that `ImageReader` refuses (a streamed one when it is read).
    """

    def __init__(
        self,
        path: str,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        test: float | None = 0.1,
        test_path: str | None = None,
        memory_limit_mb: float = 2048,
        train_labels: Sequence[int] | None = None,
    ) -> None:
        self.path = path
        self.reader = ImageReader(size, channels)
        self.test = test
        self.test_path = test_path
        require(memory_limit_mb >= 0, f"source.memory_limit_mb must not be negative, but is {memory_limit_mb}")
        self.memory_limit_mb = memory_limit_mb
        self.train_labels = train_labels

    def load(self) -> Contents:
        root = existing(self.path, "source.path")
        names = _class_names(root)
        roots = [root] if self.test_path is None else [root, existing(self.test_path, "source.test_path")]
        trees = [(tree, image_files(tree)) for tree in roots]
        number = sum(len(files) for _, files in trees)
        streamed = number * self.reader.channels * self.reader.size**2 > self.memory_limit_mb * 2**20
        parts = [self._part(tree, files, names, streamed) for tree, files in trees]
        return Contents(
            "image",
            parts[0],
            test=parts[1] if len(parts) == 2 else None,
            test_fraction=self.test,
            train_labels=self.train_labels,
        )

    def _part(self, root: Path, files: list[str], names: list[str], streamed: bool) -> Part:
        x = _read(files, self.reader, streamed)
        if not names:
            return Part(x)
        numbers = {name: number for number, name in enumerate(names)}
        found = [Path(file).relative_to(root).parts[0] for file in files]
        strange = sorted(set(found) - set(names))
        require(
            not strange,
            f"{root} has the class '{strange[0] if strange else ''}', which source.path has not: its classes are "
            f"{', '.join(names)}",
        )
        return Part(x, torch.tensor([numbers[name] for name in found]))


def _read(files: list[str], reader: ImageReader, streamed: bool) -> Tensor | Streamed:
    shape = (reader.channels, reader.size, reader.size)
    if streamed:
        return Streamed(files, reader, shape)
    x = torch.empty((len(files), *shape), dtype=torch.uint8)
    for row, file in enumerate(files):
        x[row] = reader(file)
    return x


def image_files(root: Path) -> list[str]:
    """The image files below `root`, in the order of their names.

    Raises:
        UserError: there are none.
    """
    found = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    require(bool(found), f"{root} holds no images: files ending in {', '.join(sorted(SUFFIXES))} are looked for")
    return sorted(found)


def _class_names(root: Path) -> list[str]:
    """The names of the folders directly below `root`, in order; empty if the images lie in `root` itself."""
    paths = [Path(file).relative_to(root) for file in image_files(root)]
    flat = [path for path in paths if len(path.parts) == 1]
    require(
        len(flat) in (0, len(paths)),
        f"{root} holds images ({flat[0] if flat else ''}, ...) and also folders of images: put all into folders, one "
        "for each class, or none",
    )
    return [] if flat else sorted({path.parts[0] for path in paths})
