"""Pictures of defects beside the masks that show where they are, in the folders of the MVTec sets: `train/good`,
`test/<defect>` and `ground_truth/<defect>`.

"The MVTec Anomaly Detection Dataset" (Bergmann et al., 2021, https://doi.org/10.1007/s11263-020-01400-4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from narrows.data.image_files import ImageReader, open_image, read_header
from narrows.data.image_tree import PARTS, Tree, class_names
from narrows.data.stores import Packed
from narrows.errors import UserError, require

FOLDER = "ground_truth"
"""The name of the folder of masks, in small letters."""
MARK = "_mask"
"""What follows a picture's name in that of its mask; it may be missing."""


def split_off_masks(root: Tree) -> tuple[Tree, Tree | None]:
    """The tree of the pictures and that of their masks; None where no folder `ground_truth` stands beside folders that
    are splits.

    Raises:
        UserError: there are masks, but no folder of test pictures that they are of.
    """
    tops = {root.inside(file)[0] for file in root.files if len(root.inside(file)) > 1}
    found = [name for name in tops if name.lower() == FOLDER]
    if not found or not any(name.lower() in PARTS for name in tops):
        return root, None
    masks = root.below(found[0])
    files = [file for file in root.files if root.inside(file)[0] != found[0]]
    parts = {PARTS.get(name.lower()) for name in tops}
    require(
        {"train", "test"} <= parts,
        f"{masks.root} holds masks, as of MVTec, but beside it there are not both train/ and test/, whose pictures "
        "they are of: bring the missing folder, or take the masks away",
    )
    return Tree(root.root, files, root.hidden, root.empty, root.others), masks


def number_defects(trees: Mapping[str, Tree]) -> dict[str, int]:
    """The number of each class: those of training first, from 0, then the defects, both in the order of their names.

    Raises:
        UserError: pictures outside folders of classes, or a test split without one of training's classes.
    """
    for part, tree in trees.items():
        require(
            bool(class_names(tree)),
            f"{tree.root} holds pictures in no folder: as of MVTec, {part} needs one for each class, such as "
            f"{part}/good",
        )
    normal = class_names(trees["train"])
    names = [*normal, *(name for name in class_names(trees["test"]) if name not in normal)]
    require(
        len(names) > len(normal),
        f"{trees['test'].root} has no class but those of training ({', '.join(normal)}), so that there is no defect: "
        "name the folders of defects otherwise",
    )
    return {name: number for number, name in enumerate(names)}


def refuse_stray_masks(trees: Mapping[str, Tree]) -> None:
    """Refuse masks among the pictures, which would be trained on or judged as pictures.

    Raises:
        UserError: names the first one.
    """
    for part, tree in trees.items():
        for file in tree.files:
            inside = tree.inside(file)
            require(
                not Path(file).stem.endswith(MARK) and FOLDER not in map(str.lower, inside[:-1]),
                f"{file} is named like a mask, but it lies among the pictures of {part}: masks belong to "
                f"{FOLDER}/<defect>, beside {part}, and training has none",
            )


def read_masks(test: Tree, masks: Tree, normal: Sequence[str], reader: ImageReader) -> tuple[Packed, str]:
    """The masks `[N, 1, H, W]` of the test pictures, in their order, as black and white, and a line that says how many
    there are. They are found by name, and scaled and cut as the pictures are, by nearest neighbours.

    Args:
        test: the pictures.
        masks: the files below the folder of masks.
        normal: classes whose pictures need no mask.

    Raises:
        UserError: a picture of a defect without a mask; a mask without a picture, of another size than it, that is
            not black and one other level, or that says otherwise than its folder whether there is a defect.
    """
    require(
        reader.pictures.frames != "each",
        "source.pictures.frames=each makes many examples of a file, but a mask is of one: set frames=first",
    )
    files = _by_picture(masks)
    _, height, width = reader.shape
    flags = np.zeros((len(test.files), height, width), dtype=bool)
    found = lost = 0
    for row, picture in enumerate(test.files):
        defect, *_ = test.inside(picture)
        path = files.pop(_name(test, picture), None)
        if path is None:
            _require_none_due(picture, defect, normal, masks)
            continue
        whole = _read(path, picture, reader)
        _compare_with_folder(path, picture, bool(whole.any()), defect in normal)
        flags[row] = _as_the_picture(whole, reader)
        found += 1
        lost += bool(whole.any()) and not flags[row].any()
    stray = next(iter(files.values()), None)
    require(stray is None, f"{stray} is the mask of no picture in {test.root}: bring the picture, or take it away")
    line = f"{found} masks"
    if lost:
        line += f", of which {lost} {'marks' if lost == 1 else 'mark'} no pixel at {height}x{width}"
    return Packed(torch.from_numpy(np.packbits(flags.reshape(len(flags), -1), axis=1)), (1, height, width)), line


def _by_picture(masks: Tree) -> dict[str, str]:
    """The file of each mask by class and name of its picture."""
    files: dict[str, str] = {}
    for file in masks.files:
        name = _name(masks, file, MARK)
        require(name not in files, f"{files.get(name)} and {file} are masks of one picture: take one away")
        files[name] = file
    return files


def _name(tree: Tree, file: str, mark: str = "") -> str:
    *folders, _ = tree.inside(file)
    return "/".join([*folders, Path(file).stem.removesuffix(mark)])


def _require_none_due(picture: str, defect: str, normal: Sequence[str], masks: Tree) -> None:
    wanted = Path(masks.root) / defect / f"{Path(picture).stem}{MARK}.png"
    require(
        defect in normal,
        f"{picture} shows a defect, but has no mask: {wanted} is missing; bring it, or take {masks.root} away to judge "
        "whole pictures alone",
    )


def _read(path: str, picture: str, reader: ImageReader) -> NDArray[np.bool_]:
    """bool `[H, W]` of the file, True where it is not black."""
    how = reader.pictures
    mask, shown = read_header(path, how), read_header(picture, how)
    require(
        (mask.height, mask.width) == (shown.height, shown.width),
        f"{path} measures {mask.width} x {mask.height} pixels, but {picture}, whose mask it is, {shown.width} x "
        f"{shown.height}: they must be alike",
    )
    levels = np.asarray(open_image(path, how).convert("L"))
    kinds = np.unique(levels)
    require(
        len(kinds) <= 1 or (len(kinds) == 2 and kinds[0] == 0),
        f"{path} holds {len(kinds)} levels, from {kinds[0]} to {kinds[-1]}, but a mask is black where nothing is "
        "anomalous and of one other level where something is: convert it, without the losses of JPEG",
    )
    return levels > 0


def _compare_with_folder(path: str, picture: str, marked: bool, normal: bool) -> None:
    if marked and normal:
        raise UserError(
            f"{path} marks a defect, but {picture} lies in a folder of normal pictures, which training has too: move "
            "it, or take the mask away"
        )
    require(
        marked or normal,
        f"{path} is black, as if {picture} had no defect: move the picture to the normal ones, or repair its mask",
    )


def _as_the_picture(whole: NDArray[np.bool_], reader: ImageReader) -> NDArray[np.bool_]:
    image = Image.fromarray(np.where(whole, np.uint8(255), np.uint8(0)))
    return np.asarray(reader.fitted(image, Image.Resampling.NEAREST)) > 0
