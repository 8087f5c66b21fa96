"""CIFAR-10: small colour photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import fetch

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class CIFAR10:
    """`[3, 32, 32]` uint8, 10 classes, 50,000 for training and 10,000 for testing, read from
    `<data_dir>/cifar-10-batches-py` or `<data_dir>/torchvision/cifar-10-batches-py`, downloaded into the
    former where neither holds it.

    "Learning multiple layers of features from tiny images" (Krizhevsky, 2009). torchvision checks every file
    against its MD5 before it is unpickled.

    Raises:
        UserError: (`load`) files that are missing or changed and cannot be fetched.
    """

    def __init__(self, data_dir: str = "data", download: bool = True) -> None:
        self.data_dir = Path(data_dir).expanduser()
        self.download = download

    def load(self) -> Contents:
        root = self._root()
        return Contents("image", self._part(root, train=True), test=self._part(root, train=False), class_names=CLASSES)

    def _root(self) -> Path:
        from torchvision.datasets import CIFAR10 as Files
        from torchvision.datasets.utils import check_integrity

        roots = [self.data_dir, self.data_dir / "torchvision"]
        names = [*Files.train_list, *Files.test_list, (Files.meta["filename"], Files.meta["md5"])]
        for root in roots:
            if all(check_integrity(str(root / Files.base_folder / name), md5) for name, md5 in names):
                return root
        looked_in = [(root / Files.base_folder).absolute() for root in roots]
        fetch("CIFAR-10", self.data_dir, looked_in, self.download, lambda: Files(str(roots[0]), download=True))
        return roots[0]

    def _part(self, root: Path, train: bool) -> Part:
        from torchvision.datasets import CIFAR10 as Files

        opened: Any = Files(str(root), train=train)
        x = torch.from_numpy(np.ascontiguousarray(opened.data.transpose(0, 3, 1, 2)))
        return Part(x, torch.tensor(opened.targets))
