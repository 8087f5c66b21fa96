"""CelebA: faces of celebrities, with 40 attributes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import fetch
from narrows.data.image_files import ImageReader
from narrows.data.stores import Streamed
from narrows.errors import UserError, nearest

FACE = 148
"""Side of the square around the face that is customarily cropped from the 178 x 218 images."""
PARTITION = "list_eval_partition.txt"
ATTRIBUTES = "list_attr_celeba.txt"
PARTS = {"0": "train", "1": "validation", "2": "test"}


class CelebA:
    """Aligned faces, the centre 148 x 148 scaled to `[3, size, size]`, streamed from their JPEG files, with the
    official parts of 162,770, 19,867 and 19,962.

    "Deep learning face attributes in the wild" (Liu, Luo, Wang and Tang, 2015). Reads
    `list_eval_partition.txt`, `img_align_celeba/` and, for labels, `list_attr_celeba.txt` in
    `<data_dir>/celeba` or `<data_dir>/torchvision/celeba`; downloading needs the package gdown.

    Args:
        attribute: whose presence (1) or absence (0) is the label, such as `Smiling`; null for no labels.

    Raises:
        UserError: (`load`) files that are missing and cannot be fetched, an attribute that does not exist.
    """

    def __init__(
        self, data_dir: str = "data", download: bool = True, size: int = 64, attribute: str | None = None
    ) -> None:
        self.data_dir = Path(data_dir).expanduser()
        self.download = download
        self.reader = ImageReader(size, channels=3, crop=FACE)
        self.attribute = attribute

    def load(self) -> Contents:
        folder = self._folder()
        names: dict[str, list[str]] = {part: [] for part in PARTS.values()}
        for line in (folder / PARTITION).read_text().splitlines():
            name, part = _pair(line, folder / PARTITION)
            names[part].append(name)
        labels = _labels(folder / ATTRIBUTES, self.attribute) if self.attribute is not None else None
        parts = {part: self._part(folder, found, labels) for part, found in names.items()}
        return Contents(
            "image",
            parts["train"],
            validation=parts["validation"],
            test=parts["test"],
            class_names=None if self.attribute is None else [f"not {self.attribute}", self.attribute],
        )

    def _part(self, folder: Path, names: list[str], labels: dict[str, int] | None) -> Part:
        paths = [str(folder / "img_align_celeba" / name) for name in names]
        x = Streamed(paths, self.reader, self.reader.shape)
        return Part(x, _look_up(names, labels, folder) if labels is not None else None)

    def _folder(self) -> Path:
        folders = [self.data_dir / "celeba", self.data_dir / "torchvision" / "celeba"]
        for folder in folders:
            if (folder / PARTITION).is_file() and (folder / "img_align_celeba").is_dir():
                return folder
        looked_in = [folder.absolute() for folder in folders]
        fetch("CelebA", self.data_dir, looked_in, self.download, self._download)
        return folders[0]

    def _download(self) -> None:
        from torchvision import datasets

        datasets.CelebA(str(self.data_dir), download=True)


def _pair(line: str, path: Path) -> tuple[str, str]:
    words = line.split()
    if len(words) != 2 or words[1] not in PARTS:
        raise UserError(f"{path} has the line '{line}', which is no file name and a part from 0 to 2")
    return words[0], PARTS[words[1]]


def _labels(path: Path, attribute: str) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise UserError(f"source.attribute needs {path}, which cannot be read ({error.strerror})") from error
    header = lines[1].split()
    if attribute not in header:
        raise UserError(f"CelebA has no attribute '{attribute}': {nearest(attribute, header)}")
    column = header.index(attribute) + 1
    rows = (line.split() for line in lines[2:])
    return {row[0]: int(row[column] == "1") for row in rows}


def _look_up(names: list[str], labels: dict[str, int], folder: Path) -> Tensor:
    missing = [name for name in names if name not in labels]
    if missing:
        raise UserError(f"{folder / ATTRIBUTES} has no line for {missing[0]}, which {PARTITION} names")
    return torch.tensor([labels[name] for name in names])
