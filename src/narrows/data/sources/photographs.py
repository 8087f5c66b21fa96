"""Patches of the photographs that scikit-learn and scikit-image bring, and of Kodak's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import existing
from narrows.data.image_files import ImageReader, open_image
from narrows.data.image_tree import find_images
from narrows.errors import require

OF_SCIKIT_LEARN = ("china", "flower")
OF_SCIKIT_IMAGE = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "retina", "rocket"),
)
"""Functions of `skimage.data` whose files lie in its wheel."""
HELD_OUT = (
    *("flower", "chelsea", "coffee", "gravel", "hubble_deep_field", "immunohistochemistry"),
    *("kodim03", "kodim15", "kodim19", "kodim23"),
)
"""The photographs whose patches are the test split: scenes, faces, textures, a cloth of stars, a section of tissue."""


class Photographs:
    """Square patches `[3, size, size]` uint8 of photographs, whose shorter side is scaled to `side` pixels; a patch's
    class is its photograph.

    There are 2 of scikit-learn's (`load_sample_images`), 12 of scikit-image's (`skimage.data`, grey ones as three equal
    channels) and, from `<data_dir>/kodak`, the 24 of the Kodak Lossless True Color Image Suite
    (https://r0k.us/graphics/kodak). Whole photographs are held out for the test split, by name (`HELD_OUT`), with
    patches side by side, centred; those of training lie `step` apart.

    Args:
        data_dir: the folder with the folder `kodak`.
        size: of a patch.
        side: of a photograph's shorter side.
        step: pixels from one patch of training to the next.
        kodak: whether Kodak's are read too.

    Raises:
        UserError: a patch larger than a photograph, a step below 1; (`load`) no folder `kodak`, or files in it that are
            no pictures.
    """

    def __init__(
        self, data_dir: str = "data", size: int = 128, side: int = 256, step: int = 32, kodak: bool = True
    ) -> None:
        require(1 <= size <= side, f"source.size={size}: a patch has from 1 to source.side={side} pixels a side")
        require(step >= 1, f"source.step={step} must be at least 1")
        ImageReader(side)  # refuses sides that no picture has
        self.data_dir, self.size, self.side, self.step, self.kodak = (
            Path(data_dir).expanduser(),
            size,
            side,
            step,
            kodak,
        )

    def load(self) -> Contents:
        patches: dict[str, list[Tensor]] = {"train": [], "test": []}
        labels: dict[str, list[int]] = {"train": [], "test": []}
        names: list[str] = []
        for name, photograph in self._photographs():
            part = "test" if name in HELD_OUT else "train"
            cut = list(self._cut(self._scaled(photograph), self.size if part == "test" else self.step))
            patches[part] += cut
            labels[part] += [len(names)] * len(cut)
            names.append(name)
        parts = {part: Part(torch.stack(found), torch.tensor(labels[part])) for part, found in patches.items()}
        held = sum(name in HELD_OUT for name in names)
        reading = (
            f"photographs: {len(names) - held} to train on and {held} to test on, scaled to {self.side} pixels on the "
            f"shorter side; patches of {self.size} x {self.size}: {len(parts['train']):,} and {len(parts['test']):,}"
        )
        return Contents("image", parts["train"], test=parts["test"], class_names=names, reading=[reading])

    def _photographs(self) -> Iterator[tuple[str, Image.Image]]:
        from skimage import data
        from sklearn.datasets import load_sample_image

        for name in OF_SCIKIT_LEARN:
            yield name, Image.fromarray(load_sample_image(f"{name}.jpg"))
        for name in OF_SCIKIT_IMAGE:
            yield name, Image.fromarray(getattr(data, name)()).convert("RGB")
        if self.kodak:
            folder = self.data_dir / "kodak"
            require(
                folder.is_dir(),
                f"{folder.absolute()} does not exist: set data_dir= to the folder with the folder kodak of Kodak's "
                "photographs, or datamodule.source.kodak=false to do without them",
            )
            for file in find_images(existing(folder, "data_dir")).files:
                yield Path(file).stem, open_image(file).convert("RGB")

    def _scaled(self, photograph: Image.Image) -> Tensor:
        """uint8 `[3, H, W]`, the shorter side of which is `side`."""
        factor = self.side / min(photograph.size)
        width, height = (max(self.side, round(length * factor)) for length in photograph.size)
        pixels = np.array(photograph.resize((width, height), Image.Resampling.BICUBIC))
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def _cut(self, photograph: Tensor, step: int) -> Iterator[Tensor]:
        """Patches `step` apart, as many as fit, centred."""
        starts = []
        for length in photograph.shape[1:]:
            count = (length - self.size) // step + 1
            first = (length - self.size - (count - 1) * step) // 2
            starts.append([first + step * number for number in range(count)])
        for top in starts[0]:
            for left in starts[1]:
                yield photograph[:, top : top + self.size, left : left + self.size]
