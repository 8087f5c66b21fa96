"""Images in tar archives, in the layout of WebDataset."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import existing
from narrows.data.image_files import ImageReader, Pictures
from narrows.data.image_tree import SUFFIXES
from narrows.data.stores import held_or_streamed, require_memory_limit
from narrows.data.tar_members import Member, members
from narrows.errors import UserError, printable, require

LABEL = "cls"
"""The ending of the file that holds the number of an example's class."""
LARGEST_CLASS = 999_999
PICTURES = {suffix.removeprefix(".") for suffix in SUFFIXES}


class ImageShards:
    """The images in the tar files of a folder, `[channels, height, width]` uint8, in the order of the files' names and
    within them.

    An example is a picture `KEY.jpg` (or another ending of pictures) and, if there are classes, `KEY.cls` in the same
    tar, a text of one whole number. Other files are passed over and counted. Where the examples lie is found once;
    pictures are then read at their places, so that any order costs the same, and are held in memory if all of them fit
    in `memory_limit_mb`. `narrows.data.tar_members` says why archives are not read as streams.

    Args:
        path: a folder, of which all `*.tar` are read, or one such file.
        size: height and width, one number for both or `[height, width]`.
        test: fraction held out for the test split; null for no test split. Ignored with `test_path`.
        test_path: like `path`, for the test split.
        train_labels: the only classes to train and validate on; the test split keeps all.
        pictures: what becomes of pictures of other sizes and depths; of several frames the first is read, or none.

    Raises:
        UserError: (`load`) no tar file or picture, a damaged tar, two pictures under one key, pictures with and without
            a class, a class that is no whole number, or (when it is read) a picture that `ImageReader` refuses.
    """

    def __init__(
        self,
        path: str,
        size: int | Sequence[int] = 64,
        channels: Literal[1, 3] = 3,
        test: float | None = 0.1,
        test_path: str | None = None,
        memory_limit_mb: float = 2048,
        train_labels: Sequence[int] | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self.path, self.test, self.test_path = path, test, test_path
        self.reader = ImageReader(size, channels, pictures=pictures or Pictures())
        require(
            self.reader.pictures.frames != "each",
            "source.pictures.frames=each is for folders of files: of a picture in shards take the first frame, or none",
        )
        require_memory_limit(memory_limit_mb)
        self.memory_limit_mb, self.train_labels = memory_limit_mb, train_labels

    def load(self) -> Contents:
        found = {"train": _found(existing(self.path, "source.path"), "source.path")}
        if self.test_path is not None:
            found["test"] = _found(existing(self.test_path, "source.test_path"), "source.test_path")
        values = sum(len(each.pictures) for each in found.values()) * math.prod(self.reader.shape)
        streamed = values > self.memory_limit_mb * 2**20
        parts = {name: each.part(self.reader, streamed) for name, each in found.items()}
        labelled = {part.label is not None for part in parts.values()}
        require(len(labelled) == 1, "of source.path and source.test_path one has classes and the other has none")
        trained = None if self.train_labels is None else [int(label) for label in self.train_labels]
        return Contents.of_parts(
            "image", parts, self.test, train_labels=trained, reading=[self._said(found, parts, streamed)]
        )

    def _said(self, found: dict[str, _Found], parts: dict[str, Part], streamed: bool) -> str:
        _, height, width = self.reader.shape
        counts = f"{len(parts['train']):,}"
        if len(parts) > 1:
            counts = " and ".join(f"{len(part):,} to {name} on" for name, part in parts.items())
        first = parts["train"].label
        classes = " without classes" if first is None else f" of {len(first.unique()):,} classes"
        shards = sum(each.archives for each in found.values())
        said = f"images: {counts}{classes} in {shards:,} shard{'s' * (shards != 1)}, "
        said += f"{height}x{width} {'in colour' if self.reader.channels == 3 else 'grey'}"
        said += ", read from their places when they are needed" if streamed else ""
        others = sum((each.others for each in found.values()), Counter[str]())
        passed = [f"{count:,} .{printable(ending)}" for ending, count in others.most_common(6)]
        return f"{said}; passed over: {', '.join(passed)}" if passed else said


@dataclass
class _Found:
    """What the archives of one part hold."""

    archives: int
    pictures: list[Member] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """How many files were neither pictures nor classes, by their endings."""

    def part(self, reader: ImageReader, streamed: bool) -> Part:
        names = [f"{Path(member.archive).name}/{member.name}" for member in self.pictures]
        label = torch.tensor(self.labels) if self.labels else None
        x = held_or_streamed(self.pictures, reader, reader.shape, streamed)
        return Part(x, label, names=names)


def _found(place: Path, option: str) -> _Found:
    archives = sorted(place.glob("*.tar")) if place.is_dir() else [place]
    require(bool(archives), f"{option}={place} holds no shards: files ending in .tar are looked for")
    found = _Found(len(archives))
    for archive in archives:
        _add(found, archive)
    require(
        bool(found.pictures),
        f"{option}={place} holds no pictures: files ending in {', '.join(sorted(SUFFIXES))} are looked for in its tars",
    )
    require(
        len(found.labels) in (0, len(found.pictures)),
        f"{option}={place} has a class for {len(found.labels):,} of {len(found.pictures):,} pictures: give each a file "
        f"KEY.{LABEL}, or none",
    )
    return found


def _add(found: _Found, archive: Path) -> None:
    """Note what one archive holds."""
    pictures: dict[str, Member] = {}
    classes: dict[str, Member] = {}
    for member in members(archive):
        if member.ending in PICTURES:
            _note(pictures, member)
        elif member.ending == LABEL:
            _note(classes, member)
        else:
            found.others[member.ending or "without an ending"] += 1
    lost = sorted(classes.keys() - pictures.keys())
    require(not lost, f"{archive} has the class of {lost[0] if lost else ''}, but no picture of that name")
    found.pictures += pictures.values()
    found.labels += [_class(classes[key]) for key in pictures if key in classes]


def _note(known: dict[str, Member], member: Member) -> None:
    first = known.setdefault(member.key, member)
    require(
        first is member,
        f"{member.archive} holds {first.name} and {member.name}, two files of one kind under one key: name each "
        "example anew",
    )


def _class(member: Member) -> int:
    text = member.read_bytes()[:100].strip()
    if not (text.isdigit() and int(text) <= LARGEST_CLASS):
        raise UserError(
            f"{member} is {printable(text.decode(errors='replace'))!r}, and a class is a whole number of 0 to "
            f"{LARGEST_CLASS:,}"
        )
    return int(text)
