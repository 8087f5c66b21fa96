"""The layout of compressed films, checked before anything that it claims is believed.

It holds the `shape` of a clip `[C, F, H, W]`, which is the model's; how many `frames` each film has, in a list; and of
a folder `names`. A film is coded as clips side by side, whose last is filled up by its last frame, again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from narrows.errors import require
from narrows.types import Shape

KINDS = ("film", "films")
"""A film by itself, and a folder of them."""
FILES = "frames"
"""The list that has an entry for each film."""
ENDINGS = (".gif", ".npy")
MOST_FRAMES = 2**24
"""Of all films together."""


def check(layout: Mapping[str, Any]) -> None:
    """Refuse a layout that describes no films.

    Raises:
        UserError: names what is wrong.
    """
    frames, shape = layout.get("frames"), layout.get("shape")
    unclear = f"the file's header does not say of its films how many frames they have, at most {MOST_FRAMES:,}"
    require(isinstance(frames, list), unclear)
    assert isinstance(frames, list)
    right = len(frames) >= 1 and (layout["kind"] == "films" or len(frames) == 1)
    right = right and all(type(count) is int and count >= 1 for count in frames) and sum(frames) <= MOST_FRAMES
    require(right, unclear)
    sides = isinstance(shape, list) and len(shape) == 4 and all(type(side) is int and side >= 1 for side in shape)
    require(
        sides and layout["shape"][0] in (1, 3),
        "the file's header does not say how large the clips of its films are, [1 or 3, F, H, W]",
    )


def clips(layout: Mapping[str, Any]) -> list[int]:
    """The clips of every film."""
    return [-(-frames // layout["shape"][1]) for frames in layout["frames"]]


def shapes(layout: Mapping[str, Any], count: int) -> list[tuple[int, Shape]]:
    """The number and shape of clips, in one group.

    Raises:
        UserError: they are not as many as `count`.
    """
    counted = sum(clips(layout))
    require(counted == count, f"the file's header says that {count} clips are {counted}")
    return [(count, tuple(layout["shape"]))]
