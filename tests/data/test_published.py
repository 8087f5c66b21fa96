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
from source_contents import held, load

from narrows.data.datamodule import DataModule
from narrows.data.sources.binarized_mnist import PARTS, BinarizedMNIST
from narrows.data.sources.cifar10 import CIFAR10
from narrows.data.sources.dsprites import FILE, DSprites
from narrows.data.sources.svhn import SVHN
from narrows.data.stores import Packed
from narrows.types import DataSpec


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
    assert torch.equal(held(one.train), torch.from_numpy(bits["train"] * 255).reshape(3, 1, 28, 28))
    pairs = zip(one.parts().values(), other.parts().values(), strict=True)
    assert sum(torch.equal(held(first), held(second)) for first, second in pairs) == 3


def test_binarized_mnist_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in PARTS:
        monkeypatch.setitem(PARTS, part, 2)
    asked: list[str] = []

    def serve(address: str, timeout: float) -> io.BytesIO:
        asked.append(address)
        return io.BytesIO(b" ".join([b"1"] * 784) + b"\n" + b" ".join([b"0"] * 784) + b"\n")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    for _ in range(2):
        assert held(load(BinarizedMNIST(str(tmp_path))).train).float().mean() == 127.5
    assert len(asked) == 3
    assert asked[0].endswith("/binarized_mnist/binarized_mnist_train.amat")


def sprites(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A file like the published one: pictures of 0 and 1, the colour first, and a pickled description."""
    random = np.random.default_rng(0)
    images = random.integers(0, 2, (9000, 64, 64), dtype=np.uint8)
    classes = np.concatenate([np.zeros((9000, 1), int), random.integers(0, [3, 6, 40, 32, 32], (9000, 5))], axis=1)
    path.mkdir(parents=True, exist_ok=True)
    described = np.array({"title": "dSprites"}, dtype=object)
    np.savez(path / FILE, metadata=described, imgs=images, latents_classes=classes, latents_values=classes / 2)
    return images, classes


def test_sprites_are_the_files_rows_as_bits(tmp_path: Path) -> None:
    images, classes = sprites(tmp_path / "dsprites")
    part = load(DSprites(str(tmp_path), download=False)).train
    assert isinstance(part.x, Packed)
    assert part.x.bits.numel() == images.size / 8
    assert torch.equal(held(part), torch.from_numpy(images[:, None] * 255))
    assert part.label.tolist() == classes[:, 1:].tolist()


def test_a_subset_of_sprites_is_named_by_its_seed(tmp_path: Path) -> None:
    images, _ = sprites(tmp_path)
    known = {row.tobytes(): number for number, row in enumerate(np.packbits(images, axis=2))}

    def rows(**options: Any) -> list[int]:
        bits = load(DSprites(str(tmp_path), max_examples=500, **options)).train.x.bits.numpy()
        return [known[row.tobytes()] for row in bits]

    chosen = rows()
    assert len(set(chosen)) == 500
    assert chosen == sorted(chosen) == rows()
    assert max(chosen) > 8000
    assert rows(subset_seed=1) != chosen
    assert len(load(DSprites(str(tmp_path), max_examples=10**6)).train) == 9000


def test_sprites_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sprites(tmp_path / "elsewhere")
    asked: list[str] = []

    def serve(address: str, timeout: float) -> io.BytesIO:
        asked.append(address)
        return io.BytesIO((tmp_path / "elsewhere" / FILE).read_bytes())

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    for _ in range(2):
        assert len(load(DSprites(str(tmp_path / "data"))).train) == 9000
    assert asked == [f"https://github.com/deepmind/dsprites-dataset/raw/master/{FILE}"]


def test_sprites_of_every_split_with_their_factors(tmp_path: Path) -> None:
    images, classes = sprites(tmp_path)
    datamodule = DataModule(DSprites(str(tmp_path)))
    datamodule.setup()
    spec = datamodule.spec
    assert (spec.shape, spec.size, spec.num_classes, spec.value_range) == ((1, 64, 64), 7290, None, (0.0, 1.0))
    assert spec.factor_names == ["shape", "scale", "orientation", "x", "y"]
    assert spec.factor_sizes == [3, 6, 40, 32, 32]
    assert DataSpec.from_dict(spec.to_dict()) == spec
    seen: list[int] = []
    for name in ("train", "validation", "test"):
        for batch in datamodule.ordered_loader(name):
            assert torch.equal(batch.x, torch.from_numpy(images[batch.index, None]).float())
            assert batch.label.tolist() == classes[batch.index, 1:].tolist()
            seen += batch.index.tolist()
    assert sorted(seen) == list(range(9000))


def test_a_record_from_before_factors_is_read() -> None:
    values = DataSpec((4,), "vector", 10).to_dict()
    del values["factor_names"], values["factor_sizes"]
    assert DataSpec.from_dict(values) == DataSpec((4,), "vector", 10)


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
        assert torch.equal(held(found.train), torch.from_numpy(images).permute(0, 3, 1, 2))
        assert found.train.label is not None
        assert found.train.label.tolist() == [3, 1, 2, 0]
        assert found.test is not None
