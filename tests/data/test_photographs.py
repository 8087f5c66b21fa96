"""Patches of photographs: whole ones held out, none of them stretched, Kodak's where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from narrows.data import Photographs
from narrows.data.sources.photographs import HELD_OUT
from narrows.errors import UserError


def test_patches_of_held_out_photographs_are_the_test_split(tmp_path: Path) -> None:
    (tmp_path / "kodak").mkdir()
    ramp = np.tile(np.arange(0, 240, 5, dtype=np.uint8)[None, :, None], (32, 1, 3))  # 32 x 48, brighter to the right
    for name in ("kodim02", "kodim03"):
        Image.fromarray(ramp).save(tmp_path / "kodak" / f"{name}.png")
    contents = Photographs(str(tmp_path), size=16, side=32, step=8).load()
    names, test = contents.class_names, contents.test
    assert names is not None
    assert test is not None
    assert len(names) == 16
    assert {names[k] for k in test.label.tolist()} == {name for name in HELD_OUT if name[:3] != "kod"} | {"kodim03"}  # type: ignore[union-attr]
    assert not set(contents.train.label.tolist()) & set(test.label.tolist())  # type: ignore[union-attr]
    rows = contents.train.label == names.index("kodim02")
    patches = contents.train.x.select(rows.nonzero().flatten()).take(slice(None))  # type: ignore[union-attr]
    assert patches.shape == (3 * 5, 3, 16, 16)
    assert np.array_equal(patches[1, 0, 0].numpy(), ramp[0, 8:24, 0]), "a patch is cut, not scaled"
    assert contents.reading[0].startswith("photographs: 9 to train on and 7 to test on, scaled to 32 pixels")


def test_without_kodak_packages_are_enough_and_its_folder_is_asked_for(tmp_path: Path) -> None:
    contents = Photographs(str(tmp_path), size=24, side=24, step=24, kodak=False).load()
    assert len(contents.class_names or []) == 14
    with pytest.raises(UserError, match=r"kodak does not exist: set data_dir= .*, or datamodule.source.kodak=false"):
        Photographs(str(tmp_path)).load()
    for options, sentence in (({"size": 300}, "size=300: a patch has from 1 to"), ({"step": 0}, "step=0 must be at")):
        with pytest.raises(UserError, match=sentence):
            Photographs(str(tmp_path), **options)  # type: ignore[arg-type]
