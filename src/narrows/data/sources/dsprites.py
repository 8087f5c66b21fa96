"""dSprites: pictures of a single shape whose factors of variation are all known."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import fetch, read_arrays, read_in_chunks
from narrows.data.stores import Packed
from narrows.errors import require
from narrows.random import generator

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
ADDRESS = "https://github.com/deepmind/dsprites-dataset/raw/master/"
FACTORS = ["shape", "scale", "orientation", "x", "y"]
SHAPE = (1, 64, 64)
TIMEOUT_SECONDS = 60


class DSprites:
    """Black and white images `[1, 64, 64]`, one for each of 3 shapes x 6 scales x 40 orientations x 32 x 32 positions,
    737,280 in all, held as bits (0.4 GB). Labels are the five factors as whole numbers `[N, 5]`, without the colour,
    which never changes.

    "dSprites: Disentanglement testing Sprites dataset" (Matthey, Higgins, Hassabis and Lerchner, 2017).

    The first and the last orientation give the same picture, and squares and ellipses look alike at several
    orientations: the orientation cannot always be told from the picture, and some pictures are in more than one split.

    Args:
        data_dir: holds `file`, directly or in `dsprites/`.
        download: fetch the published file, when loaded, if it is missing.
        file: a .npz with `imgs` `[N, 64, 64]` of 0 and 1 and `latents_classes` `[N, 5]` or, with the colour
            first, `[N, 6]`: the published one, or rows of it.
        max_examples: size of a random subset of the rows, the same for equal `subset_seed`; null for all rows.
        test: fraction held out for the test split, as there is no official one; null for no test split.

    Raises:
        UserError: `max_examples` below 1; (`load`) a file that is missing and cannot be fetched, or holds other data.
    """

    def __init__(
        self,
        data_dir: str = "data",
        download: bool = True,
        file: str = FILE,
        max_examples: int | None = None,
        subset_seed: int = 0,
        test: float | None = 0.1,
    ) -> None:
        require(max_examples is None or max_examples >= 1, f"max_examples={max_examples} must be at least 1 or null")
        self.data_dir = Path(data_dir).expanduser()
        self.download = download
        self.file = file
        self.max_examples = max_examples
        self.subset_seed = subset_seed
        self.test = test

    def load(self) -> Contents:
        path = self._path()
        factors = _read_factors(path)
        kept = self._kept(len(factors))
        part = Part(Packed(_read_bits(path, kept), SHAPE), factors[kept])
        return Contents("image", part, test_fraction=self.test, factor_names=FACTORS)

    def _kept(self, size: int) -> Tensor:
        """bool `[size]`, True for the rows of the subset."""
        if self.max_examples is None or self.max_examples >= size:
            return torch.ones(size, dtype=torch.bool)
        order = torch.randperm(size, generator=generator(self.subset_seed, "subset"))
        return torch.zeros(size, dtype=torch.bool).index_fill_(0, order[: self.max_examples], True)

    def _path(self) -> Path:
        folders = [self.data_dir / "dsprites", self.data_dir]
        paths = [folder / self.file for folder in folders]
        found = [path for path in paths if path.is_file()]
        if found:
            return found[0]
        looked_in = [folder.absolute() for folder in folders]
        require(
            self.file == FILE,
            f"{self.file} is not in {' or '.join(map(str, looked_in))}: put it there, or leave source.file out to "
            "take the published one",
        )
        fetch("dSprites", folders[0], looked_in, self.download, lambda: _download(paths[0]))
        return paths[0]


def _download(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.part")
    with urllib.request.urlopen(ADDRESS + FILE, timeout=TIMEOUT_SECONDS) as response, unfinished.open("wb") as file:
        shutil.copyfileobj(response, file)
    unfinished.replace(path)


def _read_factors(path: Path) -> Tensor:
    """int64 `[N, 5]`, without the colour."""
    classes = read_arrays(path, ["latents_classes"])["latents_classes"]
    named = len(FACTORS)
    require(
        classes.dtype.kind in "iu" and classes.ndim == 2 and classes.shape[1] in (named, named + 1),
        f"array 'latents_classes' of {path} is {classes.dtype} of shape {list(classes.shape)}, not whole numbers "
        f"of shape [N, {named}] or [N, {named + 1}]",
    )
    return torch.from_numpy(classes[:, -named:].astype(np.int64))


def _read_bits(path: Path, kept: Tensor) -> Tensor:
    """uint8 `[kept.sum(), 512]`: the pictures of the kept rows, eight pixels to a byte."""
    bits = torch.empty(int(kept.sum()), SHAPE[1] * SHAPE[2] // 8, dtype=torch.uint8)
    row = filled = 0
    for images in read_in_chunks(path, "imgs"):
        _require_images(images, path)
        chosen = kept[row : row + len(images)].numpy()
        packed = np.packbits(images[: len(chosen)][chosen].reshape(-1, SHAPE[1] * SHAPE[2]), axis=1)
        bits[filled : filled + len(packed)] = torch.from_numpy(packed)
        row, filled = row + len(images), filled + len(packed)
    require(row == len(kept), f"{path} holds {row} pictures but the factors of {len(kept)}")
    return bits


def _require_images(images: NDArray, path: Path) -> None:
    require(
        images.dtype == np.uint8 and images.shape[1:] == SHAPE[1:] and images.max() <= 1,
        f"array 'imgs' of {path} is {images.dtype} of shape {list(images.shape[1:])} for each example, with values "
        f"up to {images.max()}, not uint8 of shape {list(SHAPE[1:])} with 0 and 1",
    )
