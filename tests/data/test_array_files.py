"""Files of arrays as they come: what is found, said, and refused before memory is asked for."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from source_contents import held

from narrows.data import Arrays, DataModule, HeldOut, Series, dataset_files
from narrows.data.contents import Contents
from narrows.errors import UserError


def saved(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "a.npz", **arrays)
    return str(folder / "a.npz")


def refused(path: str | Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        Arrays(str(path), **settings).load()
    return str(error.value)


ROWS = np.arange(24.0).reshape(8, 3)
LABELS = np.arange(8) % 2


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("x", None), None),
        (("X", "y"), "y"),
        (("data", "target"), "target"),
        (("Images", "LABELS"), "LABELS"),
        (("features", "y"), "y"),
        (("whatever", None), None),
        (("whatever", "label"), "label"),
    ],
)
def test_examples_and_labels_are_found(names: tuple[str, str | None], label: str | None, tmp_path: Path) -> None:
    x, y = names
    found = Arrays(saved(tmp_path, **({x: ROWS} if y is None else {x: ROWS, y: LABELS}))).load()
    assert held(found.train).tolist() == ROWS.tolist()
    assert (None if found.train.label is None else found.train.label.tolist()) == (y and LABELS.tolist())
    told = "no labels" if label is None else f"labels from '{label}' (2 classes)"
    assert found.reading == [f"arrays: 8 vectors of 3 values, float64 from '{x}', {told}"]


@pytest.mark.parametrize("pattern", ["x_{}", "X_{}", "{}_images", "x{}", "{}-data"])
def test_splits_are_found(pattern: str, tmp_path: Path) -> None:
    parts = {"train": ROWS, "val": ROWS[:4] + 1, "test": ROWS[:2] + 2}
    arrays = {pattern.format(part): rows for part, rows in parts.items()}
    labels = {f"y_{part}": LABELS[: len(rows)] for part, rows in parts.items()}
    found = Arrays(saved(tmp_path, **arrays, **labels)).load()
    for part, rows in zip(("train", "validation", "test"), parts.values(), strict=True):
        assert held(found.parts()[part]).tolist() == rows.tolist()
        assert found.parts()[part].label is not None
    assert found.test_fraction is None
    assert "4 to validate on from" in found.reading[0]
    alone = Arrays(str(tmp_path / "a.npz"), x_key=pattern.format("train"), label_key=None).load()
    assert (alone.test, alone.validation, alone.test_fraction) == (None, None, 0.1)
    assert "not read: " in alone.reading[0]
    unlabelled = Arrays(str(tmp_path / "a.npz"), label_key=None).load()
    assert all(part.label is None for part in unlabelled.parts().values())


def test_a_test_file_is_searched_too(tmp_path: Path) -> None:
    path = saved(tmp_path, x=ROWS, y=LABELS)
    np.savez(tmp_path / "b.npz", X_test=ROWS + 1, y_test=LABELS)
    np.save(tmp_path / "c.npy", ROWS + 1)
    for name, labels in (("b.npz", LABELS.tolist()), ("c.npy", None)):
        test = Arrays(path, test=HeldOut(path=str(tmp_path / name))).load().test
        assert test is not None
        assert held(test).tolist() == (ROWS + 1).tolist()
        assert (None if test.label is None else test.label.tolist()) == labels


def test_what_is_not_found_asks_for_its_name(tmp_path: Path) -> None:
    assert "set source.x_key to one of a, b" in refused(saved(tmp_path, a=ROWS, b=ROWS))
    assert "several arrays that may be meant (data, images): set source.x_key" in refused(
        saved(tmp_path, data=ROWS, images=ROWS)
    )
    assert "several arrays that may be meant (X, DATA)" in refused(saved(tmp_path, X=ROWS, DATA=ROWS))
    assert "several arrays that may be meant (labels, target): set source.label_key" in refused(
        saved(tmp_path, x=ROWS, labels=LABELS, target=LABELS)
    )
    found = Arrays(saved(tmp_path, x=ROWS, y=LABELS + 0.5)).load()  # a target of regression is no label
    assert found.train.label is None
    assert "'y' holds no labels in whole numbers" in found.reading[0]
    for wrong in (np.full(8, np.inf), np.full(8, 2**64 - 1, np.uint64), np.full(8, 1e300)):
        assert "not whole numbers" in refused(saved(tmp_path, x=ROWS, y=wrong), label_key="y")


DOUBTFUL = {
    "keras series": (np.zeros((4, 50, 3)), "or source.channels_last=true for series of 3 channels and 50 time steps"),
    "float images": (np.zeros((4, 24, 24), np.float32), "set source.kind to image or series"),
    "deep images": (np.zeros((4, 24, 30), np.uint16), "images of 24 x 30 pixels or series of 24 channels and 30 time"),
    "counted images": (np.zeros((4, 8, 8), np.int64), "set source.kind to image or series"),
    "small images": (np.zeros((4, 3, 3), np.float32), "set source.kind to image or series"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_may_be_read_two_ways_asks_to_be_told(name: str, tmp_path: Path) -> None:
    x, said = DOUBTFUL[name]
    path = saved(tmp_path, x=x)
    assert said in refused(path)
    image = Arrays(path, kind="image").load()
    assert (image.kind, image.train.x.shape) == ("image", (4, 1, *x.shape[1:]))
    assert f"4 images of 1 channel x {x.shape[1]} x {x.shape[2]} pixels, {x.dtype} from 'x'" in image.reading[0]
    last = Arrays(path, channels_last=True).load()
    assert (last.kind, last.train.x.shape) == ("series", (4, x.shape[2], x.shape[1]))
    assert f"series of {x.shape[2]} channels x {x.shape[1]} time steps" in last.reading[0]
    first = Arrays(path, channels_last=False).load()  # as all were read before, and as recorded runs say
    assert (first.kind, first.train.x.shape) == ("series", x.shape)


def test_series_with_more_channels_than_steps_are_refused_as_images_are(tmp_path: Path) -> None:
    path = saved(tmp_path, X=np.zeros((20, 50, 3), np.float32))
    for load in (Series(path).load, Arrays(path, kind="series").load):
        with pytest.raises(UserError, match="reads as 50 channels of 3 time steps: set channels_last=true"):
            load()
    assert Arrays(path, kind="series", channels_last=False).load().train.x.shape == (20, 50, 3)
    for shape in ((4, 12, 96), (4, 1, 1), (4, 3, 5), (4, 64, 1000)):
        assert Arrays(saved(tmp_path, x=np.zeros(shape))).load().train.x.shape == shape


def header(shape: tuple[int, ...], descr: str = "<f8", values: bytes = b"") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + values


def zipped(path: Path, name: str, body: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, body)
    return path


def patched(path: Path, offset_in_header: int, value: int, central_offset: int) -> Path:
    """The archive with a 16-bit field of its only member changed, in both of its headers."""
    raw = bytearray(path.read_bytes())
    struct.pack_into("<H", raw, offset_in_header, value)
    struct.pack_into("<H", raw, raw.rfind(b"PK\x01\x02") + central_offset, value)
    path.write_bytes(raw)
    return path


def test_claims_are_checked_before_memory_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "claim.npy").write_bytes(header((10**12, 8)))
    zipped(tmp_path / "claim.npz", "x.npy", header((10**12, 8)))
    for name in ("claim.npy", "claim.npz"):
        said = refused(tmp_path / name)
        assert "is broken: by its header it is [1000000000000, 8] of float64, 58.2 TiB, but the file holds 0 " in said
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((2**17, 8)))  # 8 MiB in a few kilobytes
    monkeypatch.setattr(dataset_files, "_free_memory", lambda: 2**22)
    assert "would take 8.0 MiB, but 4.0 MiB of memory are free: keep fewer rows" in refused(tmp_path / "bomb.npz")
    monkeypatch.setattr(dataset_files, "_free_memory", lambda: None)
    assert len(Arrays(str(tmp_path / "bomb.npz")).load().train) == 2**17


def test_the_memory_that_is_free_is_known_where_the_system_says() -> None:
    free = dataset_files._free_memory()
    assert free is None or 2**20 < free < 2**60


def test_files_that_numpy_cannot_read_are_one_sentence(tmp_path: Path) -> None:
    rows = io.BytesIO()
    np.save(rows, ROWS)
    locked = patched(zipped(tmp_path / "locked.npz", "x.npy", rows.getvalue()), 6, 1, 8)
    strange = patched(zipped(tmp_path / "strange.npz", "x.npy", rows.getvalue()), 8, 99, 10)
    bare = zipped(tmp_path / "bare.npz", "notes.txt", b"no array")
    text = zipped(tmp_path / "text.npz", "x.npy", b"no array")
    (tmp_path / "words.npy").write_text("no array")
    (tmp_path / "negative.npy").write_bytes(header((-4, 2), values=bytes(64)))
    (tmp_path / "objects.npy").write_bytes(header((4,), "|O", bytes(64)))
    (tmp_path / "parts.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 64) + b"(" * 63 + b"\n")
    cut = tmp_path / "cut.npy"
    cut.write_bytes(rows.getvalue()[:-8])
    for path in (locked, strange, text, *(tmp_path / name for name in ("words.npy", "negative.npy", "parts.npy"))):
        assert f"{path} cannot be read as numpy arrays without pickle (" in refused(path)
    assert "it holds Python objects" in refused(tmp_path / "objects.npy")
    assert f"{bare} holds no numpy arrays: write it with numpy.savez" in refused(bare)
    assert f"{cut} is broken: by its header it is [8, 3] of float64, 192 bytes, but the file holds 184 bytes" in (
        refused(cut)
    )


@pytest.mark.parametrize(
    ("x", "settings", "said"),
    [
        (np.zeros((4, 0)), {}, "has shape [4, 0]: its examples hold no values"),
        (np.zeros((4, 0, 3), np.uint8), {}, "its examples hold no values"),
        (np.zeros((40, 64)), {"kind": "image"}, "has shape [40, 64], but image data must be [N, H, W] or"),
    ],
)
def test_shapes_that_hold_nothing(x: Any, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refused(saved(tmp_path, x=x), **settings)


def split_sizes(contents: Contents, validation: Any, **settings: Any) -> dict[str, int]:
    class Given:
        def load(self) -> Contents:
            return contents

    data = DataModule(Given(), validation=validation, **settings)
    data.setup()
    return {name: sum(map(len, data.ordered_loader(name))) for name in ("train", "validation")}  # type: ignore[arg-type]


def test_validation_may_be_a_number_of_rows(tmp_path: Path) -> None:
    whole = Arrays(saved(tmp_path, x=np.zeros((100, 2))), test=HeldOut(fraction=None)).load()
    assert split_sizes(whole, 7) == {"train": 93, "validation": 7}
    assert split_sizes(whole, 1) == {"train": 99, "validation": 1}
    assert split_sizes(whole, 0.07) == {"train": 93, "validation": 7}
    assert split_sizes(whole, "auto") == split_sizes(whole, 0.1) == {"train": 90, "validation": 10}
    official = Arrays(saved(tmp_path, x_train=np.zeros((100, 2)), x_val=np.ones((20, 2)))).load()
    official.test_fraction = None
    assert split_sizes(official, "auto") == {"train": 100, "validation": 20}
    assert split_sizes(official, 0.1) == {"train": 108, "validation": 12}
    with pytest.raises(UserError, match="validation=100 takes 100 of 100 examples and leaves none to train on"):
        split_sizes(whole, 100)
    for wrong in (0, -1, 1.0, 1.5, True, "half", None):
        with pytest.raises(UserError, match=r"validation=.* is neither a fraction between 0 and 1, a number of rows"):
            split_sizes(whole, wrong)


def test_a_label_to_train_on_must_exist(tmp_path: Path) -> None:
    contents = Arrays(saved(tmp_path, x=np.zeros((100, 2)), y=np.arange(100) % 3), train_labels=[0, 7]).load()
    with pytest.raises(UserError, match=r"train_labels=\[0, 7\]: no example has the label 7; the labels that exist"):
        split_sizes(contents, 0.1)
    assert torch.equal(contents.train.label, torch.arange(100) % 3)  # type: ignore[arg-type]
