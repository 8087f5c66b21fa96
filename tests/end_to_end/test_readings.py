"""Every run says before training how its data were read, and records it; what looks wrong ends in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import NARROW, NO_TASKS, TINY, manifest, only_run, run_in_process
from PIL import Image

FOLDER = ("datamodule=image_folder", "datamodule.source.size=16", "datamodule.source.path=set")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Class folders as people have them: one linked, beside a notebook's copies of pictures."""
    source = np.random.default_rng(0)
    for folder in ("store/cat", "set/dog", "set/.ipynb_checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(20):
            pixels = source.integers(0, 255, (16, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number:02}.png")
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "store" / "cat", target_is_directory=True)
    return tmp_path


def test_a_run_says_and_records_how_its_images_were_read(place: Path) -> None:
    labels = "datamodule.source.train_labels=[dog]"
    done = run_in_process(*TINY, *NARROW, *NO_TASKS, *FOLDER, labels, "datamodule.source.test=0.2", cwd=place)
    assert done.code == 0, done.err
    record = manifest(only_run(place))
    assert record["reading"] == [
        "images: 40 of 2 classes (0 cat, 1 dog), 16x16 in colour, centre-cropped from 16x24 (height x width); trained "
        "on dog alone; passed over: 1 hidden (.ipynb_checkpoints)",
        *record["reading"][1:],
    ]
    assert record["reading"][2:] == [
        "small data: encoder.dropout=0.1, encoder.shortcut=true, decoder.dropout=0.1, decoder.shortcut=true, because "
        "nothing else was given"
    ]
    assert record["reading"][1].endswith("; none of those held out also stands in train")
    assert record["data"]["class_names"] == ["cat", "dog"]
    assert record["data"]["trained_labels"] == [1]
    assert all(line in done.out + done.err for line in record["reading"])


def test_an_image_that_cannot_be_read_is_one_sentence_in_loader_workers_too(place: Path) -> None:
    (place / "set" / "dog" / "bad.pgm").write_bytes(b"P5\n24 24\n255\n")  # the header is whole, the pixels are not
    streamed = ("datamodule.source.memory_limit_mb=0", "datamodule.loading.num_workers=1")
    for options in ((), streamed):
        done = run_in_process(*TINY, *NARROW, *NO_TASKS, *FOLDER, *options, cwd=place)
        assert done.code == 2, done.err
        assert "Traceback" not in done.err
        assert "set/dog/bad.pgm is no image that can be read" in done.complaints[0]
