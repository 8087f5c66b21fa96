"""Pictures in tar archives, in WebDataset's layout: each is served once, wherever it lies, and no damage passes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from served_over_ranks import every_row_once_in_an_epoch

from narrows.data import ImageFolder, ImageShards, Pictures, Streamed
from narrows.errors import UserError

COUNT = 23


def png(number: int) -> bytes:
    """A picture of its own, 6 x 5 pixels."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pack(archive: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w", format=form) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive


def files(numbers: range, labelled: bool = True) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number in numbers:
        # The class may stand before its picture, and a name may be long.
        found |= {f"{'deep/' * 40}{number:06d}.cls": f"{number % 3}\n".encode()} if labelled else {}
        found |= {f"{'deep/' * 40}{number:06d}.PNG": png(number), f"{'deep/' * 40}{number:06d}.json": b"{}"}
    return found


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three archives of different sizes and kinds of headers."""
    forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.GNU_FORMAT)
    for place, (start, stop) in enumerate([(0, 10), (10, 11), (11, COUNT)]):
        pack(tmp_path / "shards" / f"train-{place:06d}.tar", files(range(start, stop)), forms[place])
    (tmp_path / "shards" / "readme.txt").write_text("no shard")
    return tmp_path / "shards"


def pixels(number: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png(number)))).transpose(2, 0, 1).copy())


def source(path: Path, **settings: Any) -> ImageShards:
    return ImageShards(str(path), **{"size": [6, 5], "test": None, "memory_limit_mb": 0, **settings})


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        source(path, **settings).load()
    return str(error.value)


def test_pictures_are_those_that_were_packed_held_or_read_when_needed(shards: Path) -> None:
    streamed, held = source(shards).load(), source(shards, memory_limit_mb=1).load()
    assert isinstance(streamed.train.x, Streamed)
    for contents in (streamed, held):
        x = contents.train.x.take(torch.arange(COUNT))
        assert torch.equal(x, torch.stack([pixels(number) for number in range(COUNT)]))
        assert contents.train.label is not None
        assert contents.train.label.tolist() == [number % 3 for number in range(COUNT)]
    assert streamed.train.names is not None
    assert streamed.train.names[10] == f"train-000001.tar/{'deep/' * 40}000010.PNG"
    assert streamed.reading == [
        "images: 23 of 3 classes in 3 shards, 6x5 in colour, read from their places when they are needed; passed over: "
        "23 .json"
    ]


def test_shards_are_the_data_of_a_folder_of_the_same_files(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    for number in range(COUNT):
        (tmp_path / "loose" / f"{number:06d}.png").write_bytes(png(number))
    folder = ImageFolder(str(tmp_path / "loose"), size=[6, 5], test=None, memory_limit_mb=0).load().train.x
    assert list(source(shards).load().train.x.bytes()) == list(folder.bytes())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_picture_is_served_once_in_an_epoch_over_all_ranks(shards: Path, world: int, workers: int) -> None:
    every_row_once_in_an_epoch(lambda: source(shards), pixels, COUNT, world, workers)


def test_only_places_are_kept_of_archives(shards: Path) -> None:
    x = source(shards).load().train.x
    with open(shards / "train-000000.tar", "r+b") as file:
        file.truncate(600)
    with pytest.raises(UserError, match="the archive has become shorter since it was opened"):
        x.take(torch.tensor([3]))
    assert x.take(torch.tensor([11])).shape == (1, 3, 6, 5)


def test_a_test_part_of_its_own(shards: Path, tmp_path: Path) -> None:
    other = pack(tmp_path / "test.tar", files(range(90, 94)))
    contents = source(shards, test_path=str(other)).load()
    assert (len(contents.train), len(contents.test or ())) == (COUNT, 4)
    assert "23 to train on and 4 to test on of 3 classes in 4 shards" in contents.reading[0]
    bare = pack(tmp_path / "bare.tar", files(range(90, 94), labelled=False))
    assert "one has classes and the other has none" in refused(shards, test_path=str(bare))


def test_damaged_archives_are_refused_by_name(shards: Path, tmp_path: Path) -> None:
    whole = (shards / "train-000002.tar").read_bytes()
    target = shards / "train-000002.tar"
    with tarfile.open(target) as tar:
        entries = [entry for entry in tar if entry.name.endswith(".PNG")]
    middle, last = entries[5], entries[-1]

    def changed(content: bytes) -> str:
        target.write_bytes(content)
        return refused(shards)

    assert f"{target} is cut off within {last.name}" in changed(whole[: last.offset_data + last.size // 2])
    nowhere = f"{target} is damaged or cut off at byte {middle.offset:,}, where neither a file begins nor"
    assert nowhere in changed(whole[: middle.offset + 100])
    # Between two files, and at a header that is none, an archive would seem to end, and what lies behind be lost.
    assert nowhere in changed(whole[: middle.offset])
    assert nowhere in changed(whole[: middle.offset] + b"\x07" * 512 + whole[middle.offset + 512 :])
    for content in (b"this is no tar" * 100, b""):
        assert f"{target} is no tar archive" in changed(content)
    with tarfile.open(target, "w:gz") as tar:
        tar.add(shards / "readme.txt", "a.png")
    assert "shards are tar files that are not compressed" in refused(shards)


def test_what_would_be_guessed_is_refused(tmp_path: Path) -> None:
    def one(name: str, content: dict[str, bytes]) -> str:
        return refused(pack(tmp_path / f"{name}.tar", content))

    assert "holds no shards" in refused((tmp_path / "none").mkdir() or tmp_path / "none")
    assert "holds no pictures" in one("texts", {"a.txt": b"", "b.json": b""})
    assert "a class for 1 of 2 pictures" in one("half", {"a.png": png(1), "a.cls": b"1", "b.png": png(2)})
    assert "two files of one kind under one key" in one("twice", {"a.png": png(1), "a.jpg": png(2)})
    assert "the class of b, but no picture" in one("lost", {"a.png": png(1), "a.cls": b"0", "b.cls": b"0"})
    for text in (b"cat", b"-1", b"1.5", b"", b"1000000"):
        assert "a class is a whole number" in one("word", {"a.png": png(1), "a.cls": text})
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        entry = tarfile.TarInfo("a.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    assert "is a link or a file with holes" in refused(tmp_path / "link.tar")
    broken = pack(tmp_path / "broken.tar", {"a.png": png(1)[:60]})
    assert "a.png of" in refused(broken, memory_limit_mb=1)
    with pytest.raises(UserError, match="frames=each is for folders"):
        ImageShards("x", pictures=Pictures(frames="each"))
