"""Folders of images as they come: what is passed over, followed, understood, refused and said."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from source_contents import held

from narrows.data import DataModule, ImageFolder, ImageReader, Loading, Pictures
from narrows.data.contents import Contents
from narrows.data.image_files import read_header
from narrows.data.image_tree import find_images, number_classes
from narrows.errors import UserError


def grey_files(root: Path, levels: dict[str, int], count: int = 4, side: int = 8) -> Path:
    """`count` pictures of one grey level in each folder."""
    for name, level in levels.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(root / name / f"{number}.png")
    return root


def loaded(path: Path, **settings: Any) -> Contents:
    contents = ImageFolder(str(path), **{"size": 8, **settings}).load()
    streamed = ImageFolder(str(path), **{"size": 8, **settings}, memory_limit_mb=0).load()
    assert streamed.reading == contents.reading
    for name, part in contents.parts().items():
        assert torch.equal(held(part), held(streamed.parts()[name]))
    return contents


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        ImageFolder(str(path), **{"size": 8, **settings}).load()
    return str(error.value)


def test_what_is_hidden_is_passed_over_and_counted(tmp_path: Path) -> None:
    plain = loaded(grey_files(tmp_path / "plain", {"cat": 1, "dog": 2}))
    litter = grey_files(tmp_path / "litter", {"cat": 1, "dog": 2, ".ipynb_checkpoints": 3, "__MACOSX/cat": 4})
    (litter / "cat" / "._00.png").write_bytes(bytes.fromhex("00051607") + bytes(100))
    (litter / "fish").mkdir()
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "notes.txt", "a.heic"):
        (litter / "dog" / name).write_bytes(b"no image")
    found = loaded(litter)
    assert found.class_names == plain.class_names == ["cat", "dog"]
    assert torch.equal(held(found.train), held(plain.train))
    assert plain.reading == ["images: 8 of 2 classes (0 cat, 1 dog), 8x8 in colour"]
    (said,) = found.reading
    assert said.startswith(f"{plain.reading[0]}; passed over: 6 hidden (")
    assert {"1 .txt", "1 .heic", "1 folder without images (fish)"} < set(said.split(", "))


def test_links_are_followed_and_a_loop_is_named(tmp_path: Path) -> None:
    grey_files(tmp_path / "store", {"good": 1, "bad": 2})
    root = grey_files(tmp_path / "set", {"other": 3})
    for name in ("good", "bad"):
        (root / name).symlink_to(tmp_path / "store" / name, target_is_directory=True)
    (root / "other" / "linked.png").symlink_to(tmp_path / "store" / "good" / "0.png")
    found = loaded(root)
    assert found.class_names == ["bad", "good", "other"]
    assert held(found.train)[:, 0, 0, 0].tolist() == [2] * 4 + [1] * 4 + [3] * 4 + [1]
    (root / "good" / "deeper").symlink_to(root, target_is_directory=True)
    assert f"{root / 'good' / 'deeper'} is a link to {root}, a folder that it lies in" in refused(root)
    (tmp_path / "store" / "good" / "deeper").unlink()
    for target, said in (("gone", "leads nowhere"), ("lost", "cannot be followed")):
        (root / "lost").symlink_to(target, target_is_directory=True)
        assert str(root / "lost") in refused(root)
        assert said in refused(root)
        (root / "lost").unlink()
    os.mkfifo(root / "other" / "pipe.png")
    assert "pipe.png has the name of an image, but is no file" in refused(root)


def test_names_of_classes(tmp_path: Path) -> None:
    root = grey_files(tmp_path / "digits", {"0": 0, "1": 60, "2": 120, "10": 250})
    found = loaded(root, train_labels=["2", 10])
    assert found.train_labels == [2, 10]
    assert held(found.train)[found.train.label == 2].unique().tolist() == [120]
    assert found.class_names is not None
    assert (len(found.class_names), found.class_names[10]) == (11, "10")
    assert found.reading == ["images: 16 of 4 classes (0, 1, 2, 10), 8x8 in colour; trained on 2, 10 alone"]
    named = grey_files(tmp_path / "named", {"cat": 1, "dog": 2})
    assert loaded(named, train_labels=["dog"]).train_labels == loaded(named, train_labels=[1]).train_labels == [1]
    assert "there is no class 'dgo'; did you mean 'dog'?" in refused(named, train_labels=["dgo"])
    assert "there is no class '7'" in refused(named, train_labels=[0, 7])
    data = DataModule(ImageFolder(str(named), size=8, test=None), validation=0.2)
    data.setup()
    assert data.spec.class_names == ["cat", "dog"]
    for names in (["1", "01"], ["1", "20250101"], ["1", "²"], ["-1", "1"]):
        assert number_classes(names) == {names[0]: 0, names[1]: 1}


def test_folders_named_like_splits_are_the_splits(tmp_path: Path) -> None:
    levels = {"train/cat": 10, "train/dog": 90, "Test/cat": 20, "Test/dog": 30, "val/cat": 40}
    found = loaded(grey_files(tmp_path / "all", levels))
    assert found.class_names == ["cat", "dog"]
    assert found.validation is not None
    assert found.test is not None
    assert held(found.train)[:, 0, 0, 0].tolist() == [10] * 4 + [90] * 4
    assert held(found.test)[:, 0, 0, 0].tolist() == [20] * 4 + [30] * 4
    assert held(found.validation)[:, 0, 0, 0].tolist() == [40] * 4
    assert found.reading[0].startswith("images: 8 to train on and 4 to validate on and 8 to test on of 2 classes")
    assert "source.test_path=" in refused(tmp_path / "all", test_path=str(tmp_path / "all" / "val"))
    flat = loaded(grey_files(tmp_path / "flat", {"training": 1, "testing": 2}))
    assert flat.test is not None
    assert (flat.train.label, flat.class_names) == (None, None)
    alone = loaded(grey_files(tmp_path / "alone", {"train/cat": 1, "train/dog": 2}))
    assert (alone.class_names, alone.test) == (["cat", "dog"], None)
    classes = loaded(grey_files(tmp_path / "vehicles", {"train": 1, "car": 2}))
    assert classes.class_names == ["car", "train"]
    for levels, said in (
        ({"train": 1, "test": 2, "cat": 3}, "(test, train) beside other images: set source.path"),
        ({"valid": 1, "test": 2}, "none of them to train on: set source.path"),
        ({"train": 1, "val": 2, "valid": 3}, "(train, val, valid): set source.path"),
    ):
        assert said in refused(grey_files(tmp_path / str(len(list(tmp_path.iterdir()))), levels))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_a_long_comment(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path)
    raw = path.read_bytes()
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 2**21))
    path.write_bytes(raw[:33] + comment + raw[33:])


BROKEN: dict[str, Callable[[Path], Any]] = {
    "long.png": png_of_a_long_comment,
    "header.pgm": lambda path: path.write_bytes(b"P5\n24 24\n25q\n" + bytes(576)),
    "short.pgm": lambda path: path.write_bytes(b"P5\n24 "),
    "plain.ppm": lambda path: path.write_bytes(b"P2\n4 4\n255\n1 2 3 x"),
    "size.png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0" * 5)),
    "empty.jpg": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_whatever_pillow_raises_names_the_file(name: str, tmp_path: Path) -> None:
    root = grey_files(tmp_path, {"a": 1}) / "a"
    BROKEN[name](root / name)
    for memory in (2048, 0):
        source = ImageFolder(str(tmp_path), size=8, test=None, memory_limit_mb=memory)
        with pytest.raises(UserError, match=f"{root / name} is no image that can be read \\(.+\\): repair it, or"):
            list(DataModule(source, validation=0.2).ordered_loader("train"))


def test_a_file_that_breaks_a_loader_worker_is_named(tmp_path: Path) -> None:
    root = grey_files(tmp_path, {"a": 1}, count=8) / "a"
    source = ImageFolder(str(tmp_path), size=8, test=None, memory_limit_mb=0)
    datamodule = DataModule(source, batch_size=2, validation=0.2, loading=Loading(num_workers=1))
    datamodule.setup()
    for file in root.iterdir():  # after the data set was opened, as a disk that fails
        BROKEN["header.pgm"](file)
    with pytest.raises(UserError, match=r"\.png is no image that can be read \(invalid literal"):
        list(datamodule.train_dataloader())


def test_a_large_picture_is_not_called_broken(tmp_path: Path) -> None:
    root = grey_files(tmp_path, {"a": 1})
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    (root / "a" / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    said = refused(root)
    assert "large.png measures 20000 x 10000 pixels, more than the 179 megapixels that are read" in said
    assert "set source.pictures.megapixels=200" in said
    assert read_header(str(root / "a" / "large.png"), Pictures(megapixels=200)).width == 20_000


@pytest.mark.parametrize("suffix", [".gif", ".png", ".tif", ".webp"])
def test_frames_are_refused_or_read_by_choice(suffix: str, tmp_path: Path) -> None:
    root = grey_files(tmp_path, {"a": 10, "b": 20}, count=1)
    first, *rest = [Image.new("RGB", (8, 8), (level,) * 3) for level in (50, 100, 150)]
    lossless = {"lossless": True} if suffix == ".webp" else {}
    first.save(root / "a" / f"stack{suffix}", save_all=True, append_images=rest, **lossless)
    assert f"stack{suffix} holds 3 frames, as animations and stacks of pages do: set source.pic" in refused(root)
    one = loaded(root, pictures=Pictures(frames="first"))
    assert held(one.train)[:, 0, 0, 0].tolist() == [10, 50, 20]
    every = loaded(root, pictures=Pictures(frames="each"))
    assert held(every.train)[:, 0, 0, 0].tolist() == [10, 50, 100, 150, 20]
    assert every.train.label is not None
    assert every.train.label.tolist() == [0] * 4 + [1]
    assert "3 frames of 1 files, each an example" in every.reading[0]
    source = ImageFolder(str(root), size=8, pictures=Pictures(frames="each"), test=None, memory_limit_mb=0)
    data = DataModule(source, validation=1)
    assert sum(map(len, data.ordered_loader("train"))) == 4


def test_fits(tmp_path: Path) -> None:
    path = str(tmp_path / "wide.png")
    columns = np.repeat(np.array([10, 20, 30, 40], np.uint8), 2)
    Image.fromarray(np.broadcast_to(columns, (4, 8)).copy()).save(path)  # 4 high, 8 wide

    def row(size: Any, fit: Any) -> list[int]:
        pixels = ImageReader(size, 1, pictures=Pictures(fit=fit))(path)
        assert pixels.shape == (1, *((size, size) if isinstance(size, int) else size))
        return pixels[0, pixels.shape[1] // 2].tolist()

    assert row(4, "crop") == [20, 20, 30, 30]
    assert row([4, 6], "crop") == [10, 20, 20, 30, 30, 40]
    assert row([6, 8], "pad") == row([4, 8], "crop") == columns.tolist()
    assert ImageReader([6, 8], 1, pictures=Pictures(fit="pad"))(path)[0, :, 0].tolist() == [0, 10, 10, 10, 10, 0]
    assert row([4, 4], "stretch")[0] < row([4, 4], "stretch")[-1]
    (tmp_path / "square.png").write_bytes(Path(path).read_bytes())
    said = loaded(tmp_path, size=[4, 6], channels=1).reading
    assert said == ["images: 2 without classes, 4x6 grey, centre-cropped from 4x8 (height x width)"]
    said = loaded(tmp_path, size=[2, 4]).reading
    assert said == ["images: 2 without classes, 2x4 in colour, scaled from 4x8, of the files 2 grey (height x width)"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_a_picture_on_its_side_is_said_as_it_stands(suffix: str, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6  # a quarter turn
    Image.new("RGB", (12, 8)).save(tmp_path / f"a{suffix}", exif=tags)
    assert loaded(tmp_path).reading == [
        "images: 1 without classes, 8x8 in colour, centre-cropped from 12x8 (height x width)"
    ]


def test_deep_grey_is_read_by_its_scale(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tif")
    assert "deep.png is of mode I;16, with more than eight bits: set source.pictures.scale" in refused(tmp_path)
    found = loaded(tmp_path, channels=1, pictures=Pictures(scale=4095))
    wanted = torch.from_numpy(np.rint(values / 4095 * 255).astype(np.uint8))
    assert all(torch.equal(example[0], wanted) for example in held(found.train))
    assert "2 of more than eight bits (white at 4095)" in " ".join(found.reading).replace("1 of", "2 of")
    assert "values from 0 to 4095, outside 0 to source.pictures.scale=255" in refused(
        tmp_path, pictures=Pictures(scale=255)
    )


def test_transparent_pixels_stand_on_a_background(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (200, 100, 0, 0)).save(tmp_path / "clear.png")
    assert "has transparent pixels, which have no colour" in refused(tmp_path)
    found = loaded(tmp_path, pictures=Pictures(background=255))
    assert held(found.train).unique().tolist() == [255]
    found = loaded(tmp_path, pictures=Pictures(background=[1, 2, 3]))
    assert held(found.train)[0, :, 0, 0].tolist() == [1, 2, 3]
    assert "of the files 1 in colour with opacity" in found.reading[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 0}, "size=0 must be at least 1 pixel"),
        ({"size": [4, 0]}, "must be at least 1 pixel"),
        ({"size": [4, 4, 4]}, "one whole number, or [height, width]"),
        ({"size": 8.5}, "one whole number"),
        ({"size": 10**9}, "at most 65535"),
        ({"size": [20_000, 20_000]}, "larger than the largest picture that is read, of 179 megapixels"),
        ({"memory_limit_mb": -1}, "source.memory_limit_mb=-1 must be a number of at least 0"),
        ({"memory_limit_mb": float("nan")}, "must be a number of at least 0"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        ImageFolder("x", **settings)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"fit": "cropp"},
        {"frames": "all"},
        {"scale": 0},
        {"scale": float("inf")},
        {"megapixels": -1},
        {"background": 256},
        {"background": [1, 2]},
        {"background": "white"},
    ],
)
def test_pictures_that_mean_nothing(settings: dict[str, Any]) -> None:
    name = next(iter(settings))
    with pytest.raises(UserError, match=rf"pictures\.{name}="):
        Pictures(**settings)


def test_the_fingerprint_of_a_stream_knows_what_changes_pixels() -> None:
    assert repr(ImageReader(8)) == "ImageReader(size=8, channels=3, crop=None)"  # as it was before there were options
    assert repr(ImageReader([8, 8], pictures=Pictures(megapixels=1))) == repr(ImageReader(8))
    others = [Pictures(fit="pad"), Pictures(scale=4095), Pictures(frames="each"), Pictures(background=0)]
    assert len({repr(ImageReader(8, pictures=how)) for how in others}) == len(others)


def test_files_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    root = grey_files(tmp_path, {"b": 1, "a/z": 2, "a": 3, "a.b": 4}, count=2)
    assert find_images(root).files == sorted(map(str, root.rglob("*.png")))
