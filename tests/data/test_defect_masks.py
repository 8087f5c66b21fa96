"""The layout of MVTec: what is normal, which pixels are defects, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from defect_pictures import save, write_defects
from PIL import Image

from narrows.data import DataModule, ImageFolder, Pictures
from narrows.errors import UserError
from narrows.types import Batch


def masks(source: ImageFolder) -> np.ndarray:
    found = source.load().test
    assert found is not None
    assert found.anomalous is not None
    return found.anomalous.take(slice(None)).numpy()


def test_defects_are_classes_and_their_masks_stay_beside_the_test_pictures(tmp_path: Path) -> None:
    root = write_defects(tmp_path, good=10, test=2)
    found = ImageFolder(str(root), size=32, channels=1).load()
    assert found.class_names == ["good", "blob", "scratch"]
    assert found.train_labels == [0]
    assert found.test is not None
    assert found.test.label is not None
    assert found.test.label.tolist() == [1, 1, 0, 0, 2, 2]
    assert found.reading == [
        "images: 10 to train on and 6 to test on of 3 classes (0 good, 1 blob, 2 scratch), 32x32 grey, 4 masks; "
        "trained on good alone"
    ]
    assert found.train.anomalous is None
    read = masks(ImageFolder(str(root), size=32, channels=1))
    wanted = np.asarray(Image.open(root / "ground_truth" / "scratch" / "001_mask.png"))
    assert np.array_equal(read[5, 0], wanted)
    assert not read[2:4].any()
    data = DataModule(ImageFolder(str(root), size=32, channels=1, memory_limit_mb=0), validation="auto")
    data.setup()
    assert data.spec.trained_labels == [0]
    assert data.part("validation").label.tolist() == [0]
    assert np.array_equal(data.part("test").select(torch.tensor([5])).anomalous.take(slice(None))[0, 0], wanted)
    (batch,) = data.ordered_loader("test")
    assert {field.name for field in fields(Batch) if getattr(batch, field.name) is not None} == {
        "x",
        "label",
        "index",
        "share",
    }


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_masks_are_scaled_and_cut_as_their_pictures_are(fit: str, tmp_path: Path) -> None:
    root = write_defects(tmp_path, good=4, test=1)
    where = np.zeros((40, 20), dtype=bool)
    where[12:28, :8] = True
    save(where, root / "test" / "blob" / "000.png")
    save(where, root / "ground_truth" / "blob" / "000_mask.png")
    source = ImageFolder(str(root), size=[10, 10], channels=1, pictures=Pictures(fit=fit))  # type: ignore[arg-type]
    shown = source.load().test
    assert shown is not None
    # White where it is a defect, so that picture and mask are alike but for grey edges.
    assert np.array_equal(shown.x.take(slice(0, 1)).numpy() > 127, masks(source)[:1] > 0)


def test_the_fingerprint_is_of_the_masks_too_and_a_lost_defect_is_said(tmp_path: Path) -> None:
    prints, where = [], np.zeros((32, 32), dtype=bool)
    for rows in (2, 1):
        root = write_defects(tmp_path, good=4, test=1)
        where[:] = False
        where[1 : 1 + rows] = True
        save(where, root / "ground_truth" / "blob" / "000_mask.png")
        data = DataModule(ImageFolder(str(root), size=8, channels=1), validation=1)
        data.setup()
        prints.append(data.spec.fingerprint)
    assert prints[0] != prints[1]
    assert "2 masks, of which 1 marks no pixel at 8x8" in data.reading[0]


def _grey(path: Path) -> None:
    Image.fromarray(np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)).save(path)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no mask": (
        lambda root: (root / "ground_truth/blob/001_mask.png").unlink(),
        "test/blob/001.png shows a defect, but has no mask: {root}/ground_truth/blob/001_mask.png is missing",
    ),
    "another size": (
        lambda root: save(np.ones((16, 32), bool), root / "ground_truth/blob/001_mask.png"),
        "ground_truth/blob/001_mask.png measures 32 x 16 pixels, but {root}/test/blob/001.png, whose mask it is, 32 x",
    ),
    "grey": (lambda root: _grey(root / "ground_truth/blob/001_mask.png"), "001_mask.png holds 256 levels, from 0"),
    "black": (
        lambda root: save(np.zeros((32, 32), bool), root / "ground_truth/blob/001_mask.png"),
        "001_mask.png is black, as if {root}/test/blob/001.png had no defect",
    ),
    "of nothing": (
        lambda root: save(np.ones((32, 32), bool), root / "ground_truth/blob/007_mask.png"),
        "ground_truth/blob/007_mask.png is the mask of no picture in {root}/test",
    ),
    "twice": (
        lambda root: save(np.ones((32, 32), bool), root / "ground_truth/blob/001.png"),
        "ground_truth/blob/001.png and {root}/ground_truth/blob/001_mask.png are masks of one picture",
    ),
    "of a normal picture": (
        lambda root: save(np.ones((32, 32), bool), root / "ground_truth/good/001_mask.png"),
        "ground_truth/good/001_mask.png marks a defect, but {root}/test/good/001.png lies in a folder of normal",
    ),
    "in training": (
        lambda root: save(np.ones((32, 32), bool), root / "train/good/001_mask.png"),
        "train/good/001_mask.png is named like a mask, but it lies among the pictures of train",
    ),
    "a folder in training": (
        lambda root: save(np.ones((32, 32), bool), root / "train/ground_truth/001.png"),
        "train/ground_truth/001.png is named like a mask",
    ),
    "no test pictures": (
        lambda root: (root / "test").rename(root.parent / "away"),
        "ground_truth holds masks, as of MVTec, but beside it there are not both train/ and test/",
    ),
    "no class": (
        lambda root: (root / "train/good").rename(root / "train/loose") and _flatten(root / "train"),
        "train holds pictures in no folder: as of MVTec, train needs one for each class, such as train/good",
    ),
}


def _flatten(folder: Path) -> None:
    for file in list((folder / "loose").iterdir()):
        file.rename(folder / file.name)
    (folder / "loose").rmdir()


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    spoil, said = BAD[name]
    root = write_defects(tmp_path / "set", good=3, test=2)
    spoil(root)
    with pytest.raises(UserError) as error:
        ImageFolder(str(root), size=32, channels=1).load()
    assert said.format(root=root) in str(error.value)


def test_a_mask_of_a_normal_picture_may_be_black(tmp_path: Path) -> None:
    root = write_defects(tmp_path, good=3, test=1)
    save(np.zeros((32, 32), bool), root / "ground_truth" / "good" / "000_mask.png")
    assert not masks(ImageFolder(str(root), size=32, channels=1))[1].any()
