"""Masks of films: which pixels of which frames are anomalous."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.defect_masks import FOLDER, MARK
from narrows.data.film_files import GIF, Film, FrameSize, plain_name, read_films
from narrows.data.image_tree import PARTS
from narrows.data.stores import Packed
from narrows.errors import require

STILL = "; in a GIF, frames that do not change may be one that stays for longer: save it as frames or as an array"
Marks = NDArray[np.bool_]
"""`[T, 1, H, W]`."""


def split_off_masks(films: Sequence[Film], path: str) -> tuple[list[Film], dict[str, Film]]:
    """The films without the masks that lie in a folder `ground_truth` beside train and test, and these by what they
    are masks of: `ground_truth/walk_mask.gif` of `test/walk.mp4`.

    Raises:
        UserError: masks without both folders, or of no film by their names.
    """
    masks = [film for film in films if _top(film) == FOLDER]
    rest = [film for film in films if _top(film) != FOLDER]
    if not masks:
        return rest, {}
    tops = {PARTS.get(_top(film)) for film in rest}
    require(
        {"train", "test"} <= tops and None not in tops,
        f"{path} holds a folder {FOLDER} of masks, but the films beside it do not all lie in folders train, val and "
        "test, of which train and test are needed: move them, or take the masks away",
    )
    found = {mask_key(film): film for film in masks}
    known = {f"{mask_key(film)}{MARK}": mask_key(film) for film in rest if PARTS.get(_top(film)) == "test"}
    stray = next((film for key, film in found.items() if key not in known), None)
    require(
        stray is None,
        f"{path}/{stray.name if stray else ''} is the mask of no test film: its name is the film's and {MARK}",
    )
    return rest, {known[key]: film for key, film in found.items()}


def _top(film: Film) -> str:
    return film.name.split("/")[0].lower() if "/" in film.name else ""


def mask_key(film: Film) -> str:
    """A film's name below the folder of its part, without its ending."""
    return plain_name(film.name.partition("/")[2])


def read_masks(mask: Film | None, size: FrameSize, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> Iterator[Marks]:
    """The masks of the films of a file: a pixel is marked where it is more than half as bright as the brightest.

    Args:
        mask: None: nothing is marked.
        shapes: name and `[T, C, H, W]` of each film.

    Raises:
        UserError: other films, frames or sizes than these.
    """
    if mask is None:
        yield from (np.zeros((shape[0], 1, *shape[2:]), bool) for _, shape in shapes)
        return
    read = [frames for _, frames in read_films(mask, replace(size, channels=1))]
    require(len(read) == len(shapes), f"{mask.path} holds {len(read)} films, but marks a file of {len(shapes)}")
    for frames, (name, shape) in zip(read, shapes, strict=True):
        right = frames.shape == (shape[0], 1, *shape[2:])
        require(
            right,
            f"{mask.path} has {len(frames)} frames of {frames.shape[2]} x {frames.shape[3]} pixels, but {name}, whose "
            f"mask it is, {shape[0]} of {shape[2]} x {shape[3]}{STILL if mask.path.suffix.lower() == GIF else ''}",
        )
        yield frames > frames.max() / 2


def packed(marks: Sequence[NDArray[Any]]) -> Packed:
    """The masks of clips, bool `[1, T, H, W]` each, as bits."""
    shape = marks[0].shape
    bits = np.packbits(np.stack(marks).reshape(len(marks), -1), axis=1)
    return Packed(torch.from_numpy(bits), shape)
