"""Binarized MNIST, one fixed black-and-white draw of MNIST: a benchmark of density estimation."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import fetch, read_arrays
from narrows.errors import UserError, require

ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
PACKED = "binarized_mnist_packed.npz"
PARTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
TIMEOUT_SECONDS = 30


class BinarizedMNIST:
    """MNIST drawn once as Bernoulli pixels by Larochelle: `[1, 28, 28]` of 0 and 1, no labels, with official
    train, validation and test parts of 50,000, 10,000 and 10,000.

    "The neural autoregressive distribution estimator" (Larochelle and Murray, 2011), after "On the
    quantitative analysis of deep belief networks" (Salakhutdinov and Murray, 2008).

    Reads `binarized_mnist_packed.npz` (arrays train, valid, test: the 784 bits of a row in 98 bytes) or the
    original `binarized_mnist_{train,valid,test}.amat` in `data_dir` or `<data_dir>/binarized_mnist`.

    Raises:
        UserError: (`load`) files that are missing and cannot be fetched, or hold something else.
    """

    def __init__(self, data_dir: str = "data", download: bool = True) -> None:
        self.data_dir = Path(data_dir).expanduser()
        self.download = download

    def load(self) -> Contents:
        parts = self._parts()
        return Contents("image", parts["train"], validation=parts["valid"], test=parts["test"])

    def _parts(self) -> dict[str, Part]:
        folders = [self.data_dir / "binarized_mnist", self.data_dir]
        for folder in folders:
            if (folder / PACKED).is_file():
                return _read_packed(folder / PACKED)
            if all((folder / _text_name(part)).is_file() for part in PARTS):
                return _read_texts(folder)
        looked_in = [folder.absolute() for folder in folders]
        fetch("binarized MNIST", folders[0], looked_in, self.download, lambda: _download(folders[0]))
        return _read_texts(folders[0])


def _text_name(part: str) -> str:
    return f"binarized_mnist_{part}.amat"


def _download(folder: Path) -> None:
    for part in PARTS:
        name = _text_name(part)
        unfinished = folder / f"{name}.part"
        with (
            urllib.request.urlopen(ADDRESS + name, timeout=TIMEOUT_SECONDS) as response,
            unfinished.open("wb") as file,
        ):
            shutil.copyfileobj(response, file)
        unfinished.replace(folder / name)


def _read_packed(path: Path) -> dict[str, Part]:
    arrays = read_arrays(path, list(PARTS))
    for part, array in arrays.items():
        require(
            array.dtype == np.uint8 and array.shape == (PARTS[part], 98),
            f"array '{part}' of {path} is {array.dtype} of shape {list(array.shape)}, not uint8 of shape "
            f"[{PARTS[part]}, 98]",
        )
    return {part: Part(_white(np.unpackbits(array, axis=1))) for part, array in arrays.items()}


def _read_texts(folder: Path) -> dict[str, Part]:
    return {part: Part(_white(_read_text(folder / _text_name(part), rows))) for part, rows in PARTS.items()}


def _read_text(path: Path, rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    # A row is 784 digits separated by spaces: slicing its bytes is a hundred times faster than np.loadtxt.
    raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    bits = raw[(raw != ord(" ")) & (raw != ord("\n")) & (raw != ord("\r"))] - ord("0")
    if bits.size != rows * 784 or (bits > 1).any():
        raise UserError(
            f"{path} does not hold {rows} lines of 784 zeros and ones: delete it, so that it is downloaded again"
        )
    return bits.reshape(rows, 784)


def _white(bits: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(bits * np.uint8(255)).reshape(-1, 1, 28, 28)
