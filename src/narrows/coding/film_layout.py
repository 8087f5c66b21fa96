"""The layout of compressed films, checked before anything that it claims is believed.

It holds the `shape` of a clip `[C, F, H, W]`, which is the model's; how many `frames` each film has, in a list; of a
folder `names`; `sizes`, height and width of the frames of each film, where some differ from the model's, which then is
one of convolutions alone; and `pace`, the milliseconds of each film's frames where they are known: of all of them a
number, or a list of one for each. A film is coded as clips side by side, whose last is filled up by its last frame,
again and again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from narrows.data.film_pace import LONGEST, SHORTEST
from narrows.errors import require
from narrows.types import Shape

KINDS = ("film", "films")
"""A film by itself, and a folder of them."""
FILES = "frames"
"""The list that has an entry for each film."""
ENDINGS = (".gif", ".npy")
LONGEST_SIDE = 2**15
"""Of a frame that is not of the model's size."""
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
    sizes = layout.get("sizes")
    require(
        sizes is None or (isinstance(sizes, list) and len(sizes) == len(frames) and all(map(_is_size, sizes))),
        "the file's header does not say how large the frames of each of its films are",
    )
    pace = layout.get("pace")
    require(
        pace is None or (isinstance(pace, list) and len(pace) == len(frames) and all(map(_is_pace, pace, frames))),
        f"the file's header does not say how long the frames of its films are shown, {SHORTEST} to {LONGEST} ms",
    )


def _is_pace(pace: Any, frames: int) -> bool:
    if isinstance(pace, list):
        return len(pace) == frames and all(type(one) is int and SHORTEST <= one <= LONGEST for one in pace)
    return pace is None or (type(pace) is int and SHORTEST <= pace <= LONGEST)


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and 1 <= side <= LONGEST_SIDE for side in size)
    )


def clips(layout: Mapping[str, Any]) -> list[int]:
    """The clips of every film."""
    return [-(-frames // layout["shape"][1]) for frames in layout["frames"]]


def sizes(layout: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Height and width of the frames of every film."""
    told = layout.get("sizes") or [layout["shape"][2:]] * len(layout["frames"])
    return [(height, width) for height, width in told]


def short_pace(pace: Sequence[int]) -> int | list[int] | None:
    """The milliseconds of a film's frames as a layout has them; of none: null."""
    return None if not pace else pace[0] if len(set(pace)) == 1 else list(pace)


def paces(layout: Mapping[str, Any]) -> list[list[int]]:
    """The milliseconds of every frame of every film; none of a film where they are not known."""
    told = layout.get("pace") or [None] * len(layout["frames"])
    return [
        pace if isinstance(pace, list) else [] if pace is None else [pace] * frames
        for pace, frames in zip(told, layout["frames"], strict=True)
    ]


def pixels(layout: Mapping[str, Any]) -> int:
    """Those of all frames of all films together."""
    return sum(count * height * width for count, (height, width) in zip(layout["frames"], sizes(layout), strict=True))


def shapes(layout: Mapping[str, Any], count: int) -> list[tuple[int, Shape]]:
    """The number and shape of clips, in groups of films in a row whose frames are alike.

    Raises:
        UserError: they are not as many as `count`.
    """
    counted = sum(clips(layout))
    require(counted == count, f"the file's header says that {count} clips are {counted}")
    films = itertools.groupby(zip(sizes(layout), clips(layout), strict=True), key=lambda film: film[0])
    return [(sum(many for _, many in alike), (*layout["shape"][:2], *size)) for size, alike in films]
