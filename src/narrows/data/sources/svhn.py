"""Street View House Numbers: digits in colour photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import fetch


class SVHN:
    """`[3, 32, 32]` uint8, 10 classes, 73,257 for training and 26,032 for testing (cropped digits), read from
    `{train,test}_32x32.mat` in `<data_dir>/svhn` or `<data_dir>/torchvision`, downloaded into the former
    where neither holds them.

    "Reading digits in natural images with unsupervised feature learning" (Netzer et al., 2011).

    Raises:
        UserError: (`load`) files that are missing or changed and cannot be fetched.
    """

    def __init__(self, data_dir: str = "data", download: bool = True) -> None:
        self.data_dir = Path(data_dir).expanduser()
        self.download = download

    def load(self) -> Contents:
        return Contents("image", self._part("train"), test=self._part("test"))

    def _part(self, split: str) -> Part:
        from torchvision.datasets import SVHN as Files

        opened: Any = Files(str(self._root(split)), split=split)
        x = torch.from_numpy(np.ascontiguousarray(opened.data))
        return Part(x, torch.from_numpy(opened.labels).to(torch.int64))

    def _root(self, split: str) -> Path:
        from torchvision.datasets import SVHN as Files
        from torchvision.datasets.utils import check_integrity

        roots = [self.data_dir / "svhn", self.data_dir / "torchvision"]
        _, name, md5 = Files.split_list[split]
        for root in roots:
            if check_integrity(str(root / name), md5):
                return root
        looked_in = [root.absolute() for root in roots]
        fetch("SVHN", roots[0], looked_in, self.download, lambda: Files(str(roots[0]), split, download=True))
        return roots[0]
