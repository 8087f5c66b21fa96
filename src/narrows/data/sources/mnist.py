"""MNIST and its drop-in successors: 28 x 28 grey images, 60,000 for training and 10,000 for testing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import fetch
from narrows.errors import UserError, require


class _MnistLike:
    """`[1, 28, 28]` uint8, 10 classes, read from `<data_dir>/<name>/raw` or
    `<data_dir>/torchvision/<name>/raw`, downloaded into the former where neither holds it.

    Args:
        data_dir: folder of data sets.
        download: fetch what is missing, when loaded.
        train_labels: only these classes are trained and validated on.
        pad: black pixels added at every side: 2 gives 32 x 32, which halves down to 1 x 1.

    Raises:
        UserError: a negative `pad`, or (`load`) files that are missing and cannot be fetched, or are broken.
    """

    name: ClassVar[str]
    class_names: ClassVar[list[str] | None] = None

    def __init__(
        self,
        data_dir: str = "data",
        download: bool = True,
        train_labels: Sequence[int] | None = None,
        pad: int = 0,
    ) -> None:
        require(pad >= 0, f"data {self.name}: pad must be at least 0, not {pad}")
        self.data_dir = Path(data_dir).expanduser()
        self.download = download
        self.train_labels, self.pad = train_labels, pad

    def load(self) -> Contents:
        root = self._root()
        return Contents(
            "image",
            self._part(root, train=True),
            test=self._part(root, train=False),
            train_labels=self.train_labels,
            class_names=self.class_names,
        )

    def _root(self) -> Path:
        roots = [self.data_dir, self.data_dir / "torchvision"]
        for root in roots:
            if self._complete(root):
                return root
        looked_in = [(root / self.name / "raw").absolute() for root in roots]
        fetch(self.name, self.data_dir, looked_in, self.download, lambda: self._open(root=roots[0], download=True))
        return roots[0]

    def _complete(self, root: Path) -> bool:
        names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        return all((root / self.name / "raw" / name).is_file() for name in names)

    def _part(self, root: Path, train: bool) -> Part:
        try:
            opened = self._open(root=root, train=train)
        except (AssertionError, ValueError, RuntimeError, KeyError, OSError) as error:
            part = "training" if train else "test"
            folder = (root / self.name / "raw").absolute()
            raise UserError(
                f"the {part} files of {self.name} in {folder} are broken ({error or 'not of the IDX format'}): "
                "delete them, so that they are downloaded again"
            ) from error
        images = F.pad(opened.data.unsqueeze(1), [self.pad] * 4)
        return Part(images.contiguous(), opened.targets.to(torch.int64))

    def _open(self, **options: Any) -> Any:
        # Imported here, because torchvision takes seconds to import and other sources do not need it.
        from torchvision import datasets

        return getattr(datasets, self.name)(**options)


class MNIST(_MnistLike):
    """Handwritten digits; see `_MnistLike` for arguments and errors.

    "Gradient-based learning applied to document recognition" (LeCun, Bottou, Bengio and Haffner, 1998).
    """

    name = "MNIST"


class FashionMNIST(_MnistLike):
    """Articles of clothing; see `_MnistLike` for arguments and errors.

    "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms" (Xiao, Rasul and
    Vollgraf, 2017), arXiv 1708.07747.
    """

    name = "FashionMNIST"
    class_names: ClassVar[list[str] | None] = [
        *("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    ]


class KMNIST(_MnistLike):
    """Cursive Japanese characters; see `_MnistLike` for arguments and errors.

    "Deep learning for classical Japanese literature" (Clanuwat et al., 2018), arXiv 1812.01718.
    """

    name = "KMNIST"
