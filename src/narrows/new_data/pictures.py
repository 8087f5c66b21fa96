"""New pictures: an image file, or a folder of them, read at the run's size and written back as PNG."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from narrows.coding.eight_bits import eight_bits, image_of
from narrows.data import Frame, ImageReader
from narrows.data.batch_loader import unit
from narrows.data.image_files import read_header
from narrows.data.image_tree import find_images
from narrows.errors import UserError, require
from narrows.files import appearing, replacing, require_file
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.places_apart import PlacesApart, renamed
from narrows.new_data.problem_file import listing_problems
from narrows.random import generator

PNG = ".png"
FRAME = re.compile(r"#(\d+)$")
"""What stands behind the name of a file for one of its frames."""


class NewPictures(NewData):
    """An image file, or every image file of a folder and below it in the order of their names, labels ignored.

    They are brought to the run's size and colours by the reader of its source: that of `image_folder` with its options,
    of other sources centre-cropped and scaled.
    """

    form = "pictures"

    def __init__(self, source: Any, known: Known, given: Any) -> None:
        super().__init__(source, known, given)
        shape = known.spec.shape
        require(
            len(shape) == 3 and shape[0] in (1, 3) and known.spec.value_range == (0.0, 1.0) and known.scaling is None,
            f"{given} is no .npy or .npz: the run was trained on arrays that are no grey or colour pictures of bytes",
        )
        self._pad = int(getattr(source, "pad", 0))
        own = getattr(source, "reader", None)
        inner = [side - 2 * self._pad for side in shape[1:]]
        # A source that reads numbers as well as pictures has a reader that may not be of this run's size.
        if not isinstance(own, ImageReader) or own.shape != (shape[0], *inner):
            own = ImageReader(inner, 1 if shape[0] == 1 else 3)
        self.reader: ImageReader = own
        self.how = self.reader.pictures

    @cached_property
    def files(self) -> list[str]:
        """The image files."""
        if self.path.is_dir():
            return find_images(self.path).files
        require_file(self.path)
        return [str(self.path)]

    def chunks(self) -> Iterator[Chunk]:
        names: list[str] = []
        found: list[Tensor | None] = []
        problems: list[str | None] = []
        for number, file in enumerate(self.files, 1):
            for name, picture, problem in self._of_file(file):
                names.append(name)
                found.append(picture)
                problems.append(problem)
                if len(names) == self.known.rows:
                    yield Chunk.of(names, found, problems, number / len(self.files))
                    names, found, problems = [], [], []
        if names:
            yield Chunk.of(names, found, problems, 1.0)

    def _of_file(self, file: str) -> Iterator[tuple[str, Tensor | None, str | None]]:
        """The name, the picture `[C, H, W]` in [0, 1] and the problem of every frame of a file that is an example."""
        name = self.name_of(Path(file))
        try:
            frames = read_header(file, self.how).frames if self.how.frames == "each" else 1
        except (UserError, OSError) as error:
            yield name, None, str(error)
            return
        for number in range(frames):
            called = name if frames == 1 else f"{name}#{number}"
            try:
                yield called, self._read(file if frames == 1 else Frame(file, number)), None
            except (UserError, OSError) as error:
                yield called, None, str(error)

    def _read(self, example: str | Frame) -> Tensor:
        x = unit(F.pad(self.reader(example), [self._pad] * 4))
        return x if self.known.drawn is None else drawn(x, self.known.drawn)

    def default_target(self) -> Path:
        return self.stem("reconstructed", "" if self.path.is_dir() else PNG)

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """A PNG, or a folder of them; in it `problems.csv` lists the pictures that could not be read."""
        if self.path.is_dir():
            with appearing(out) as folder, listing_problems(folder) as problems:
                place = self.places(folder)

                def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
                    problems.add(chunk)
                    for row, picture in zip(chunk.rows.tolist(), [] if rebuilt is None else rebuilt, strict=True):
                        with place(chunk.names[row]).open("wb") as file:
                            save_png(picture, file)

                yield write
            return
        require(
            out.suffix.lower() == PNG and self.how.frames != "each",
            f"the reconstruction of one picture is a PNG, which {out} is not by its name: let OUT end in {PNG}, or "
            "name a folder of pictures",
        )
        with replacing(out) as file:
            yield lambda chunk, rebuilt: None if rebuilt is None else save_png(rebuilt[0], file)

    def places(self, folder: Path) -> Callable[[str], Path]:
        """What gives every example, by its name, the place of a PNG of its own in `folder`, which it makes."""
        names = [self.name_of(Path(file)) for file in self.files]
        apart = PlacesApart((name, _target_name(name)) for name in names)
        return lambda name: apart.place(folder, name, _target_name(name), PNG)

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        return eight_bits(rebuilt)


def _target_name(name: str) -> str:
    """The usual name of the PNG for an example of this name: `a.png` for `a.jpg`, `a_2.png` for its frame `a.tif#2`."""
    frame = FRAME.search(name)
    return renamed(name.removesuffix(frame[0]), f"_{frame[1]}{PNG}") if frame else renamed(name, PNG)


def save_png(picture: Tensor, file: Any) -> None:
    """Write a picture `[C, H, W]` in [0, 1] to an open file."""
    image: Image.Image = image_of(eight_bits(picture))
    image.save(file, format="PNG")


def drawn(x: Tensor, seed: int) -> Tensor:
    """Grey values in [0, 1], of one example, drawn once black or white, seeded by the example itself: wherever it
    stands, and with whatever others, it is drawn alike."""
    content = np.ascontiguousarray(x.numpy()).tobytes()
    source = generator(seed, "binarise", "new", hashlib.sha256(content).hexdigest())
    return (torch.rand(x.shape, generator=source) < x).to(x.dtype)
