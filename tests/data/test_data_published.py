"""Published sets, as their makers' files and torchvision's readers give them."""

# mypy: disable-error-code="arg-type, union-attr"

from __future__ import annotations

import io
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from narrows.data.binarized_mnist import PARTS, BinarizedMNIST
from narrows.data.cifar10 import CIFAR10
from narrows.data.contents import Contents
from narrows.data.svhn import SVHN


def load(source: Any) -> Contents:
    contents: Contents = source.load()
    return contents


def test_binarized_mnist_texts_and_bits_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in PARTS:
        monkeypatch.setitem(PARTS, part, 3)
    bits = {part: np.random.default_rng(n).integers(0, 2, (3, 784), dtype=np.uint8) for n, part in enumerate(PARTS)}
    (tmp_path / "bits").mkdir()
    packed: dict[str, Any] = {part: np.packbits(array, axis=1) for part, array in bits.items()}
    np.savez(tmp_path / "bits" / "binarized_mnist_packed.npz", **packed)
    (tmp_path / "text" / "binarized_mnist").mkdir(parents=True)
    for part, array in bits.items():
        np.savetxt(tmp_path / "text" / "binarized_mnist" / f"binarized_mnist_{part}.amat", array, fmt="%d")
    one, other = (load(BinarizedMNIST(str(tmp_path / name))) for name in ("bits", "text"))
    assert torch.equal(one.train.x, torch.from_numpy(bits["train"] * 255).reshape(3, 1, 28, 28))
    assert all(torch.equal(one.parts()[name].x, other.parts()[name].x) for name in ("train", "validation", "test"))


def test_binarized_mnist_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in PARTS:
        monkeypatch.setitem(PARTS, part, 2)
    asked: list[str] = []

    def serve(address: str, timeout: float) -> io.BytesIO:
        asked.append(address)
        return io.BytesIO(b" ".join([b"1"] * 784) + b"\n" + b" ".join([b"0"] * 784) + b"\n")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    for _ in range(2):
        assert load(BinarizedMNIST(str(tmp_path))).train.x.float().mean() == 127.5
    assert len(asked) == 3
    assert asked[0].endswith("/binarized_mnist/binarized_mnist_train.amat")


def test_cifar10_and_svhn_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets
    from torchvision.datasets import utils

    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

    class Files(datasets.CIFAR10):
        def __init__(self, root: str, train: bool) -> None:
            self.data, self.targets = images, [3, 1, 2, 0]

    class Digits(datasets.SVHN):
        def __init__(self, root: str, split: str) -> None:
            self.data, self.labels = images.transpose(0, 3, 1, 2), np.array([3, 1, 2, 0])

    monkeypatch.setattr(utils, "check_integrity", lambda *_: True)
    monkeypatch.setattr(datasets, "CIFAR10", Files)
    monkeypatch.setattr(datasets, "SVHN", Digits)
    for kind in (CIFAR10, SVHN):
        found = load(kind(str(tmp_path)))
        assert torch.equal(found.train.x, torch.from_numpy(images).permute(0, 3, 1, 2))
        assert found.train.label is not None
        assert found.train.label.tolist() == [3, 1, 2, 0]
        assert found.test is not None
