"""The layout in a compressed file: what its examples are, checked before anything that it claims is believed.

A file may be a stranger's, and its checksum protects against damage alone. The layout is a mapping: `kind` ("image",
"folder", "npy", "npz"), `shape` of an example (or `shapes`, one for each picture of a folder), and, depending on the
kind, `names`, `key`, `dtype` and whether the array had a `channel` axis. Of sounds, films and scans see
`narrows.coding.sound_layout`, `film_layout` and `scan_layout`.
`codebooks` says how many of the model's levels are there, where they are not all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from narrows.coding import film_layout, scan_layout, sound_layout
from narrows.errors import UserError, printable, require
from narrows.types import Shape

LAYOUTS: dict[str, Any] = {kind: own for own in (sound_layout, film_layout, scan_layout) for kind in own.KINDS}
"""What has a layout of its own, by kind."""
KINDS = ("image", "folder", "npy", "npz", *LAYOUTS)
SEVERAL = {"sounds": "sound", "films": "film", "scans": "scan"}
"""What each file of a folder is."""
DTYPES = ("uint8", "bool", "float32")
PNG = ".png"
AXES = 8
"""Most axes of an example."""
LONGEST = 2**31
"""Longest axis."""


def check_layout(layout: Any, count: int) -> None:
    """Refuse a layout that does not describe `count` examples, or names files and arrays that must not be written.

    Raises:
        UserError: names what is wrong.
    """
    require(isinstance(layout, dict), "the file's header holds no names and values")
    kind = layout.get("kind")
    require(kind in KINDS, f"the file says that it is of the kind {_shown(kind)}, which this narrows does not know")
    require(count >= 1, "the file's header says that it holds no examples")
    require(kind != "image" or count == 1, f"the file's header says that one picture is {count} pictures")
    if (codebooks := layout.get("codebooks")) is not None:
        right = isinstance(codebooks, int) and not isinstance(codebooks, bool) and codebooks >= 1
        require(right, f"the file's header says that {_shown(codebooks)} codebooks are there")
    if kind in LAYOUTS:
        LAYOUTS[kind].check(layout)
    shapes(layout, count)
    if kind == "folder":
        _check_names(layout.get("names"), count, "picture", (PNG,))
    elif kind in SEVERAL:
        own = LAYOUTS[kind]
        _check_names(layout.get("names"), len(layout[own.FILES]), SEVERAL[kind], own.ENDINGS)
    elif kind in ("npy", "npz"):
        _check_array(layout)


def shapes(layout: dict[str, Any], count: int) -> list[tuple[int, Shape]]:
    """The number and shape of examples in each group of equal shapes.

    Raises:
        UserError: the layout does not have them.
    """
    if layout["kind"] in LAYOUTS:
        own: list[tuple[int, Shape]] = LAYOUTS[layout["kind"]].shapes(layout, count)
        return own
    listed = layout.get("shapes")
    found = [layout.get("shape")] if listed is None else listed
    right = isinstance(found, list) and all(map(_is_shape, found)) and (listed is None or len(listed) == count)
    require(right, "the file's header does not say how large its examples are")
    if listed is None:
        return [(count, tuple(layout["shape"]))]
    return [(len(list(same)), shape) for shape, same in itertools.groupby(map(tuple, listed))]


def _is_shape(shape: Any) -> bool:
    if not isinstance(shape, list) or not 1 <= len(shape) <= AXES:
        return False
    return all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= LONGEST for side in shape)


def _check_names(names: Any, count: int, what: str, endings: Sequence[str]) -> None:
    ending = " or ".join(endings)
    right = isinstance(names, list) and len(names) == count
    require(right, f"the file's header does not name each of its {count} {what}s")
    for name in names:
        if not is_inside(name, endings):
            raise UserError(f"the file names a {what} {_shown(name)}, which leads out of its folder or is no {ending}")
    taken = set(names)
    doubled = next((name for name, same in itertools.groupby(sorted(names)) if len(list(same)) > 1), None)
    require(doubled is None, f"the file names several {what}s {_shown(doubled)}, of which one alone could be kept")
    folders = {str(folder) for name in taken for folder in PurePosixPath(name).parents}
    require(not taken & folders, f"the file names a {what} and a folder alike")


def is_inside(name: Any, endings: Sequence[str] = (PNG,)) -> bool:
    """Whether a name from a file is one within its folder, with one of these endings."""
    if not isinstance(name, str) or printable(name) != name or "\\" in name or len(name) > 1000:
        return False
    path = PurePosixPath(name)
    return (
        str(path) == name and not path.is_absolute() and ".." not in path.parts and path.name.endswith(tuple(endings))
    )


def _check_array(layout: dict[str, Any]) -> None:
    dtype, channel = layout.get("dtype"), layout.get("channel", True)
    require(layout.get("shapes") is None, "the file's header gives the examples of one array shapes of their own")
    require(dtype in DTYPES, f"the file says that it holds {_shown(dtype)}, which is none of {', '.join(DTYPES)}")
    require(isinstance(channel, bool), f"the file's header has channel {_shown(channel)}, which is no true or false")
    channels = {shape[0] for _, shape in shapes(layout, 1)} if not channel else {1}
    require(channels == {1}, "the file's header says that its array had no channel axis, but it has channels")
    if layout["kind"] == "npz":
        check_key(layout.get("key", "x"))


def check_key(key: Any) -> None:
    """Refuse a name under which an array must not be written into an .npz.

    Raises:
        UserError: it is no text, leads out of a folder, or is one that numpy cannot write.
    """
    # An entry of an .npz is a file in an archive, and `numpy.savez` has a parameter called `file`.
    right = isinstance(key, str) and 0 < len(key) <= 200 and printable(key) == key and not {*"/\\:"} & {*key}
    require(
        right and key not in ("file", ".", ".."),
        f"an array called {_shown(key)} cannot be restored: rename it, to 'x' for example",
    )


def check_pictures(groups: Sequence[tuple[int, Shape]]) -> None:
    """Refuse shapes that are none of grey or colour pictures `[C, H, W]`.

    Raises:
        UserError: names the shape.
    """
    for _, shape in groups:
        right = len(shape) == 3 and shape[0] in (1, 3)
        require(right, f"the file's header says that a picture is of shape {list(shape)}, and [1 or 3, H, W] is due")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
