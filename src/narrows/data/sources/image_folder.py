"""A folder of image files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import existing
from narrows.data.defect_masks import number_defects, read_masks, refuse_stray_masks, split_off_masks
from narrows.data.image_files import Frame, Header, ImageReader, Pictures, read_header
from narrows.data.image_reading import describe, passed_over
from narrows.data.image_tree import Tree, class_names, find_images, find_parts, number_classes
from narrows.data.stores import held_or_streamed, require_memory_limit
from narrows.errors import nearest, printable, require


class ImageFolder:
    """The images below `path`, `[channels, height, width]` uint8, in the order of their names.

    Images directly in `path` have no labels. If all images lie in subfolders, the subfolder directly below `path` is
    the class; classes are numbered in the order of their names, and folders whose names are all whole numbers keep
    them. Folders `train`, `test` and `val` around the images or their classes are the splits of these names. Where
    `ground_truth` stands beside them, as of MVTec, the classes of `train` are the normal ones and those that `test`
    alone has are defects, whose masks it holds (`narrows.data.defect_masks`): `Part.anomalous`. What is
    hidden is passed over and links are followed. The images are held in memory if all of them fit in `memory_limit_mb`,
    else read from their files for every batch.

    Args:
        size: height and width, one number for both or `[height, width]`.
        test: fraction held out for the test split; null for no test split. Ignored if a folder is the test split.
        test_path: a folder like `path`, with the same classes, for the test split.
        train_labels: names or numbers of the only classes to train and validate on; the test split keeps all.
        pictures: what becomes of pictures of other sizes, depths and frames.

    Raises:
        UserError: (`load`) a folder without images, images both in and below it, classes of the test folder that the
            training folder lacks, or a file that `ImageReader` refuses (a streamed one when it is read).
    """

    def __init__(
        self,
        path: str,
        size: int | Sequence[int] = 64,
        channels: Literal[1, 3] = 3,
        test: float | None = 0.1,
        test_path: str | None = None,
        memory_limit_mb: float = 2048,
        train_labels: Sequence[int | str] | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self.path = path
        self.reader = ImageReader(size, channels, pictures=pictures or Pictures())
        require_memory_limit(memory_limit_mb)
        self.test = test
        self.test_path = test_path
        self.memory_limit_mb = memory_limit_mb
        self.train_labels = train_labels

    def load(self) -> Contents:
        root, masks = split_off_masks(find_images(existing(self.path, "source.path")))
        trees = self._trees(root)
        if masks is None:
            numbers = number_classes(class_names(trees["train"]))
        else:
            refuse_stray_masks(trees)
            numbers = number_defects(trees)
        how = self.reader.pictures
        headers = {name: [read_header(file, how) for file in tree.files] for name, tree in trees.items()}
        examples = {name: self._examples(tree, headers[name]) for name, tree in trees.items()}
        streamed = sum(map(len, examples.values())) * math.prod(self.reader.shape) > self.memory_limit_mb * 2**20
        parts = {name: _part(trees[name], files, numbers, self.reader, streamed) for name, files in examples.items()}
        seen = [header for several in headers.values() for header in several]
        line = describe({name: len(part) for name, part in parts.items()}, numbers, self.reader, seen)
        trained = None if self.train_labels is None else _chosen(self.train_labels, numbers)
        if masks is not None:
            normal = class_names(trees["train"])
            parts["test"].anomalous, said = read_masks(trees["test"], masks, normal, self.reader)
            line += f", {said}"
            trained = [numbers[name] for name in normal] if trained is None else trained
        if trained is not None and numbers:
            names = [printable(name) for name, number in numbers.items() if number in trained]
            line += f"; trained on {', '.join(names)} alone"
        found = [root] if self.test_path is None else [root, trees["test"]]
        return Contents(
            "image",
            parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            test_fraction=self.test,
            train_labels=trained,
            class_names=_names(numbers),
            reading=["; ".join(filter(None, [line, passed_over(found)]))],
        )

    def _trees(self, root: Tree) -> dict[str, Tree]:
        """The files of each split that folders give."""
        trees = find_parts(root)
        if self.test_path is None:
            return trees
        require(
            "test" not in trees,
            f"{root.root} has a folder for the test split, and source.test_path={self.test_path} is another: set "
            "test_path=null, or source.path to the folder to train on",
        )
        return trees | {"test": find_images(existing(self.test_path, "source.test_path"))}

    def _examples(self, tree: Tree, headers: Sequence[Header]) -> list[str | Frame]:
        """The files, or, of those that hold several frames each of which is an example, the frames."""
        if self.reader.pictures.frames != "each":
            return list(tree.files)
        return [
            example
            for file, header in zip(tree.files, headers, strict=True)
            for example in ([file] if header.frames == 1 else [Frame(file, number) for number in range(header.frames)])
        ]


def _part(
    tree: Tree, examples: Sequence[str | Frame], numbers: Mapping[str, int], reader: ImageReader, streamed: bool
) -> Part:
    x = held_or_streamed(examples, reader, reader.shape, streamed)
    names = [_name(tree, example) for example in examples]
    if not numbers:
        return Part(x, names=names)
    found = [tree.inside(example if isinstance(example, str) else example.path)[0] for example in examples]
    strange = sorted(set(found) - set(numbers))
    require(
        not strange,
        f"{tree.root} has the class '{strange[0] if strange else ''}', which source.path has not: its classes are "
        f"{', '.join(numbers)}",
    )
    return Part(x, torch.tensor([numbers[name] for name in found]), names=names)


def _name(tree: Tree, example: str | Frame) -> str:
    """The path of a file below the folder, with `#` and its number that of a frame."""
    if isinstance(example, Frame):
        return f"{'/'.join(tree.inside(example.path))}#{example.number}"
    return "/".join(tree.inside(example))


def _names(numbers: Mapping[str, int]) -> list[str] | None:
    """The name of every class, by number; a number that no folder has is its own name."""
    if not numbers:
        return None
    named = {number: name for name, number in numbers.items()}
    return [named.get(number, str(number)) for number in range(max(named) + 1)]


def _chosen(labels: Sequence[int | str], numbers: Mapping[str, int]) -> list[int]:
    """The numbers of classes that are given by name or number."""
    known = set(numbers.values())
    chosen = []
    for label in labels:
        if isinstance(label, int) and (label in known or not numbers):
            chosen.append(int(label))
            continue
        require(
            str(label) in numbers,
            f"source.train_labels={list(labels)}: there is no class '{label}'; {nearest(str(label), numbers)}",
        )
        chosen.append(numbers[str(label)])
    return chosen
