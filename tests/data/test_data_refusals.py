"""Bad input is refused in one sentence that names what was wrong, where, and what would be right."""

from __future__ import annotations

import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule, Loading
from narrows.data.sources.arrays import Arrays, HeldOut
from narrows.data.sources.binarized_mnist import BinarizedMNIST
from narrows.data.sources.celeba import CelebA
from narrows.data.sources.cifar10 import CIFAR10
from narrows.data.sources.digits import Digits
from narrows.data.sources.dsprites import FILE, DSprites
from narrows.data.sources.image_folder import ImageFolder
from narrows.data.sources.mnist import KMNIST, MNIST, FashionMNIST
from narrows.data.sources.series import Series
from narrows.data.sources.svhn import SVHN
from narrows.errors import UserError


def contents(x: torch.Tensor, **changes: Any) -> Any:
    given = Contents("image", Part(x), **({"test_fraction": 0.2} | changes))
    return SimpleNamespace(load=lambda: given)


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not sentence.endswith(".")
    return sentence


def setup(source: Any, **settings: Any) -> str:
    return refusal(lambda: DataModule(source, **settings).setup())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"validation": 0}, "validation=0 is neither a fraction between 0 and 1, a number of rows"),
        ({"validation": 1.5}, "validation=1.5 is neither"),
        ({"validation": "offical"}, "validation='offical' is neither"),
        ({"folds": 1}, "folds=1 leaves nothing to train on: it must be at least 2"),
        ({"folds": 5, "fold": 5}, "fold=5 does not exist with folds=5: it must lie in 0 to 4"),
        ({"folds": 5, "fold": -1}, "fold=-1 does not exist with folds=5"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"binarise": "sttic"}, "did you mean 'static'?"),
    ],
)
def test_settings_are_refused_before_any_data(settings: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: DataModule(None, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"device": "cuda"}, "neither 'auto' nor 'cpu'"), ({"num_workers": -1}, "must be from 0 to 1,024")],
)
def test_loading_is_checked(settings: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: Loading(**settings))


def test_plans_that_the_data_do_not_allow() -> None:
    few = torch.zeros(5, 1, 2, 2)
    assert "folds=9 is more than the 4 development examples" in setup(contents(few), folds=9)
    assert "takes 4 of 4 examples and leaves none" in setup(contents(few), validation=0.9)
    assert "no official validation split" in setup(contents(few), validation="official")
    assert "the data have no labels" in setup(contents(few, train_labels=[1]))
    assert "labels that exist are [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" in setup(Digits(train_labels=[12]))


def test_values_that_are_not_finite_are_counted_and_located() -> None:
    x = torch.zeros(6, 1, 2, 2)
    x[4, 0, 1, 0], x[5, 0, 0, 0] = float("nan"), float("inf")
    said = setup(contents(x))
    assert "the train split holds 2 values that are NaN or infinite, the first in row 4 at position [0, 1, 0]" in said
    assert "the test split holds 2 values" in setup(contents(torch.zeros(6, 1, 2, 2), test=Part(x)))


def test_splits_that_do_not_fit_together() -> None:
    x = torch.zeros(6, 1, 2, 2)
    assert "the test split is empty" in setup(contents(x, test=Part(x[:0])))
    assert "6 examples but 5 labels" in setup(SimpleNamespace(load=lambda: Contents("image", Part(x, torch.ones(5)))))
    said = setup(contents(x, test=Part(torch.zeros(6, 1, 2, 3))))
    assert "the test split has examples of shape [1, 2, 3], but the train split of shape [1, 2, 2]" in said
    assert "these data leave that range" in setup(contents(x - 1), binarise="static")
    datamodule = DataModule(contents(x, test_fraction=None))
    assert "these data have no test split" in refusal(datamodule.test_dataloader)


def test_more_processes_than_examples() -> None:
    datamodule = DataModule(contents(torch.zeros(20, 1, 2, 2)), batch_size=2)
    datamodule.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=0, world_size=4, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    assert "batch_size=2 is shared by 4 processes" in refusal(datamodule.train_dataloader)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


DOWNLOADED = {
    MNIST: "MNIST/raw",
    FashionMNIST: "FashionMNIST/raw",
    KMNIST: "KMNIST/raw",
    CIFAR10: "cifar-10-batches-py",
    SVHN: "svhn",
    CelebA: "celeba",
    BinarizedMNIST: "binarized_mnist",
    DSprites: "dsprites",
}


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("kind", DOWNLOADED, ids=lambda kind: kind.__name__)
def test_missing_files_without_network(kind: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(kind(str(tmp_path)).load)
    assert str(tmp_path / DOWNLOADED[kind]) in said
    assert "downloading it failed" in said
    assert "data_dir=" in said
    off = refusal(kind(str(tmp_path), download=False).load)
    assert str(tmp_path / DOWNLOADED[kind]) in off
    assert "source.download is off" in off


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert "cannot write in" in refusal(BinarizedMNIST(str(tmp_path / "data")).load)


def test_a_torn_mnist_file(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (raw / name).write_bytes(struct.pack(">IIII", 2051, 60000, 28, 28) + b"\0" * 100)
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        (raw / name).write_bytes(struct.pack(">II", 2049, 60000))
    assert f"the training files of MNIST in {raw} are broken" in refusal(MNIST(str(tmp_path)).load)


def test_binarized_mnist_of_the_wrong_shape(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        (tmp_path / f"binarized_mnist_{part}.amat").write_text("0 1 1\n")
    assert "does not hold 50000 lines of 784 zeros and ones" in refusal(BinarizedMNIST(str(tmp_path)).load)
    np.savez(tmp_path / "binarized_mnist_packed.npz", train=np.zeros((2, 98), np.uint8), valid=[1], test=[1])
    assert "array 'train'" in refusal(BinarizedMNIST(str(tmp_path)).load)


def sprites(path: Path, **arrays: Any) -> str:
    given = {"imgs": np.zeros((6, 64, 64), np.uint8), "latents_classes": np.zeros((6, 5), np.int64)}
    np.savez_compressed(path / FILE, **(given | arrays))
    return str(path)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"imgs": np.zeros((6, 64, 32), np.uint8)}, "'imgs' of"),
        ({"imgs": np.full((6, 64, 64), 255, np.uint8)}, "values up to 255, not uint8 of shape [64, 64] with 0 and 1"),
        ({"imgs": np.zeros((6, 64, 64))}, "is float64 of shape [64, 64]"),
        ({"imgs": np.zeros((5, 64, 64), np.uint8)}, "holds 5 pictures but the factors of 6"),
        ({"imgs": np.zeros((7, 64, 64), np.uint8)}, "holds 7 pictures but the factors of 6"),
        ({"latents_classes": np.zeros((6, 4), int)}, "not whole numbers of shape [N, 5] or [N, 6]"),
        ({"latents_classes": np.zeros((6, 5))}, "is float64 of shape [6, 5]"),
    ],
)
def test_sprites(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(DSprites(sprites(tmp_path, **arrays)).load)


def test_sprites_files(tmp_path: Path) -> None:
    assert "max_examples=0 must be at least 1" in refusal(lambda: DSprites(max_examples=0))
    assert "mine.npz is not in" in refusal(DSprites(str(tmp_path), file="mine.npz").load)
    sprites(tmp_path, imgs=np.random.default_rng(0).integers(0, 2, (6, 64, 64), dtype=np.uint8))
    whole = (tmp_path / FILE).read_bytes()
    for torn in (whole[:500], whole[:700] + bytes(64) + whole[764:]):
        (tmp_path / FILE).write_bytes(torn)
        assert f"{FILE} cannot be read as numpy arrays without pickle" in refusal(DSprites(str(tmp_path)).load)
    np.savez(tmp_path / FILE, latents_classes=np.zeros((6, 5), int), images=np.zeros(3))
    assert "has no array 'imgs'" in refusal(DSprites(str(tmp_path)).load)


def save(path: Path, **arrays: Any) -> str:
    np.savez(path / "a.npz", **arrays)
    return str(path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "settings", "said"),
    [
        ({"X": np.zeros((4, 2))}, {"x_key": "x"}, "has no array 'x'"),
        ({"x": np.zeros((4, 2))}, {"label_key": "y"}, "has no array 'y'"),
        ({"x": np.zeros(4)}, {}, "shape [4], but auto data must be [N, D], [N, T] or"),
        ({"x": np.zeros((4, 2, 2))}, {"kind": "vector"}, "shape [4, 2, 2], but vector data must be [N, D]"),
        ({"x": np.zeros((4, 9, 9, 3), np.uint8)}, {}, "9 channels of width 3: set channels_last=true"),
        ({"x": np.zeros((4, 2))}, {"channels_last": True}, "holds vectors, which have no channels"),
        ({"x": np.array([["a", "b"]])}, {}, "is of type <U1: numbers or truth values are needed"),
        ({"x": np.zeros((4, 2)), "y": np.full(4, 0.5)}, {"label_key": "y"}, "not whole numbers"),
        ({"x": np.zeros((4, 2)), "y": np.zeros((4, 3, 2))}, {"label_key": "y"}, "one whole number for each example"),
        ({"x": np.zeros((4, 2)), "y": np.zeros((4, 0))}, {"label_key": "y"}, "one whole number for each example"),
        (
            {"x": np.zeros((4, 2)), "y": np.zeros((4, 3))},
            {"label_key": "y", "train_labels": [0]},
            "train_labels=[0] chooses classes, but these labels are 3 factors for each example: set null",
        ),
        (
            {"x": np.zeros((4, 2)), "y": np.zeros((4, 3)), "t": np.zeros((4, 2)), "s": np.zeros((4, 2))},
            {"label_key": "y", "test": HeldOut(x_key="t", label_key="s")},
            "labels of shape [2] for each example, but the train split of shape [3]",
        ),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, {"label_key": "y"}, "4 examples but 3 labels"),
        ({"x": np.full((4, 2), 1e300)}, {}, "8 values that are NaN or infinite"),
        ({"x": np.zeros((4, 2))}, {"standardise": "robust"}, "standardise='robust' is none of"),
        ({"x": np.zeros((4, 2))}, {"test": HeldOut(x_key="t")}, "has no array 't'"),
        ({"x": np.zeros((4, 2)), "t": np.zeros((4, 2, 3))}, {"test": HeldOut(x_key="t")}, "holds series data, but"),
    ],
)
def test_arrays(arrays: dict[str, Any], settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in setup(Arrays(save(tmp_path, **arrays), **settings))


def test_array_files(tmp_path: Path) -> None:
    assert "does not exist: set source.path" in setup(Arrays(str(tmp_path / "none.npz")))
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    assert "cannot be read as numpy arrays without pickle" in setup(Arrays(str(tmp_path / "objects.npy")))
    whole = Path(save(tmp_path, x=np.random.default_rng(0).normal(size=(50, 50)))).read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[:2000])
    assert "torn.npz cannot be read" in setup(Arrays(str(tmp_path / "torn.npz")))
    np.save(tmp_path / "one.npy", np.zeros((4, 2)))
    assert "holds one array and no keys" in setup(Arrays(str(tmp_path / "one.npy"), label_key="y"))
    assert "unknown kind='vectors': did you mean 'vector'?" in refusal(lambda: Arrays("x.npz", kind="vectors"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("", {"window": 2}, "holds no rows"),
        ("a,b\n1,2\n3\n", {"window": 2}, "line 3 of"),
        ("a,b\n1,2\n3,oops\n", {"window": 2}, "has 'oops' in column 'b', which is no number"),
        ("a,b\n1,2\n3,\n", {"window": 2}, "line 3 of"),
        ("a,b\n1,2\n3,4\n", {}, "is one long signal: set source.window"),
        ("a,b\n1,2\n3,4\n", {"window": 2, "columns": ["aa"]}, "has no column 'aa': did you mean 'a'?"),
        ("a,b\nx,y\nx,y\n", {"window": 2}, "has no column of numbers"),
        ("a\n" + "1\n" * 20, {"window": 30, "test": None}, "the 20 time steps before the test part are fewer than"),
        ("a\n" + "1\n" * 20, {"window": 5}, "the 2 time steps of the test part are fewer than window=5"),
        ("a,t\n" + "1,0.5\n" * 20, {"window": 2, "label_column": "t"}, "not whole numbers"),
    ],
)
def test_signals(text: str, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text)
    assert said in setup(Series(str(tmp_path / "s.csv"), **settings))


def test_series_files(tmp_path: Path) -> None:
    path = save(tmp_path, Z=np.zeros((4, 5)))
    assert "has neither X nor X_train and X_test" in setup(Series(path))
    assert "source.window=3 cannot be used" in setup(Series(path, window=3))
    assert "source.columns=['a'] cannot be used" in setup(Series(columns=["a"]))
    np.save(tmp_path / "s.npy", np.zeros((4, 5)))
    assert "neither a .npz of examples X nor a table" in setup(Series(str(tmp_path / "s.npy")))
    assert "must be [N, T] or [N, C, T]" in setup(Series(save(tmp_path, X=np.zeros(4))))
    assert "source.test=2 is no fraction" in refusal(lambda: Series(test=2))


def picture(path: Path, mode: str = "RGB", side: int = 16) -> Path:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    image.convert(mode).save(path)
    return path


def deep_colour(path: Path) -> None:
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x12\x34" * 6) * 2)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_image_files(tmp_path: Path) -> None:
    def said(prepare: Callable[[Path], Any]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for number in range(5):
            picture(folder / f"{number}.png")
        prepare(folder / "bad.png")
        sentence = setup(ImageFolder(str(folder), size=8))
        assert str(folder / "bad.png") in sentence
        return sentence

    assert "is no image that can be read" in said(lambda path: path.write_text("no image"))
    assert "is no image that can be read" in said(lambda path: path.write_bytes(picture(path).read_bytes()[:300]))
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 100
    assert "is of mode I;16" in said(lambda path: Image.fromarray(grey).save(path))
    assert "16 bits per channel" in said(deep_colour)
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 100))
    assert "has transparent pixels" in said(clear.save)
    jpeg = Image.new("CMYK", (16, 16))
    assert "is of mode CMYK" in said(lambda path: jpeg.save(path, format="JPEG"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_broken_image_is_named_by_one_sentence(workers: int, tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:200])
    source = ImageFolder(str(tmp_path), size=8, test=None, memory_limit_mb=0)
    datamodule = DataModule(source, validation=0.2, loading=Loading(num_workers=workers))
    loaders = datamodule.ordered_loader("train"), datamodule.ordered_loader("validation")
    assert str(tmp_path / "3.png") in refusal(lambda: [list(loader) for loader in loaders])
    assert "binarise=static would hold all examples in memory" in setup(source, binarise="static")


def test_image_folders(tmp_path: Path) -> None:
    assert "holds no images" in setup(ImageFolder(str(tmp_path)))
    assert "does not exist: set source.path" in setup(ImageFolder(str(tmp_path / "none")))
    for name in ("a", "b", "test/a", "test/c"):
        (tmp_path / "tree" / name).mkdir(parents=True) if "test" not in name else (tmp_path / name).mkdir(parents=True)
    for name in ("tree/a/1.png", "tree/b/1.png", "test/a/1.png", "test/c/1.png"):
        picture(tmp_path / name)
    tree, test = str(tmp_path / "tree"), str(tmp_path / "test")
    assert "has the class 'c', which source.path has not" in setup(ImageFolder(tree, size=8, test_path=test))
    picture(tmp_path / "tree" / "loose.png")
    assert "holds images (loose.png, ...) and also folders of images" in setup(ImageFolder(tree))
    assert "channels=2 is neither 3" in refusal(lambda: ImageFolder(tree, channels=2))  # type: ignore[arg-type]
