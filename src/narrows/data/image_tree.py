"""Finding the image files of a folder: what is hidden is passed over, links are followed, and nothing is lost in
silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from narrows.data.folders import folders_below
from narrows.errors import require

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
"""Names of folders around the classes, in small letters, and the split that each means."""
LARGEST_CLASS = 9_999
"""Largest number that a folder's name gives to its class: there is a class for every number up to it."""


@dataclass
class Tree:
    """The image files below `root`, in the order of their names, and what was passed over."""

    root: str
    files: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    """Names that start with a dot, or that systems leave behind."""
    empty: list[str] = field(default_factory=list)
    """Folders directly below the root in which there are no images."""
    others: Counter[str] = field(default_factory=Counter)
    """How many files were no images, by the ending of their names."""

    def inside(self, file: str) -> list[str]:
        """The folders of the file below `root`, and its name."""
        return file.removeprefix(self.root).lstrip(os.sep).split(os.sep)

    def below(self, name: str) -> Tree:
        """The part of the tree in the folder of this name."""
        return Tree(os.path.join(self.root, name), [file for file in self.files if self.inside(file)[0] == name])


def find_images(root: Path) -> Tree:
    """The image files below `root`.

    Raises:
        UserError: there are none; a folder that cannot be read; a link that leads nowhere, or to a folder that it lies
            in; something by the name of an image that is no file.
    """
    tree = Tree(str(root))
    tops = []
    for folder in folders_below(root):
        tree.hidden += folder.hidden
        if folder.path == tree.root:
            tops = folder.folders
        for entry in folder.files:
            _add(tree, entry)
    require(bool(tree.files), f"{root} holds no images: files ending in {', '.join(sorted(SUFFIXES))} are looked for")
    tree.files.sort()
    filled = {tree.inside(file)[0] for file in tree.files}
    tree.empty = sorted(name for name in tops if name not in filled)
    return tree


def _add(tree: Tree, entry: os.DirEntry[str]) -> None:
    suffix = Path(entry.name).suffix.lower()
    if suffix not in SUFFIXES:
        tree.others[suffix or "without an ending"] += 1
        return
    require(entry.is_file(), f"{entry.path} has the name of an image, but is no file: take it away")
    tree.files.append(entry.path)


def find_parts(tree: Tree) -> dict[str, Tree]:
    """The trees of `train`, `validation` and `test` where folders of such names stand around the images; else the whole
    tree as `train`.

    Raises:
        UserError: such folders without one for training, two for one split, or beside other images.
    """
    tops = sorted({tree.inside(file)[0] for file in tree.files if len(tree.inside(file)) > 1})
    named = [name for name in tops if name.lower() in PARTS]
    meant = [PARTS[name.lower()] for name in named]
    deep = all(len(tree.inside(file)) > 2 for file in tree.files)
    if len(set(meant)) < 2 and not (named == tops and meant == ["train"] and deep):
        return {"train": tree}
    loose = any(len(tree.inside(file)) == 1 for file in tree.files)
    beside = "" if named == tops and not loose else " beside other images"
    lacking = "" if "train" in meant else ", none of them to train on"
    require(
        not beside and not lacking and len(set(meant)) == len(meant),
        f"{tree.root} holds folders named like splits ({', '.join(named)}){beside}{lacking}: set source.path to the "
        "folder to train on and source.test_path to that to test on, or rename the folders if they are classes",
    )
    folders = dict(zip(meant, named, strict=True))
    return {part: tree.below(folders[part]) for part in ("train", "validation", "test") if part in folders}


def class_names(tree: Tree) -> list[str]:
    """The names of the folders directly below the root, in order; empty if the images lie in the root itself.

    Raises:
        UserError: images lie in the root and also in folders.
    """
    paths = [tree.inside(file) for file in tree.files]
    flat = [path for path in paths if len(path) == 1]
    require(
        len(flat) in (0, len(paths)),
        f"{tree.root} holds images ({flat[0][0] if flat else ''}, ...) and also folders of images: put all into "
        "folders, one for each class, or none",
    )
    return [] if flat else sorted({path[0] for path in paths})


def number_classes(names: Sequence[str]) -> dict[str, int]:
    """The number of each class: that of its folder if the names of all folders are whole numbers up to
    `LARGEST_CLASS`, each another one; else its place in the order of the names."""
    digits = [name for name in names if name.isascii() and name.isdigit()]
    whole = {name: int(name) for name in sorted(digits, key=int)}
    kept = len(whole) == len(names) == len(set(whole.values())) and max(whole.values(), default=0) <= LARGEST_CLASS
    return whole if kept else {name: number for number, name in enumerate(names)}
