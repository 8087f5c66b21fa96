"""The layout of compressed scans, checked before anything that it claims is believed.

It holds the `shape` of an example, which is the model's, a whole volume `[1, D, H, W]` or a slice `[1, h, w]`; and of
every scan, in lists, its own `sides` `[D, H, W]`, the `ends` of its values, low and high, which became 0 and 1, and the
`headers` of NIfTI, 348 bytes in base64, which say where its voxels lie, or null of an array, which does not; of a
folder `names`; and, of whole volumes, `fitted`, the sides of each on the run's grid, where some differ from the
model's, which then is one of convolutions alone. How many slices a scan has follows from the run's grid.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
from collections.abc import Mapping
from typing import Any

from narrows.errors import require
from narrows.types import Shape

KINDS = ("scan", "scans")
"""A scan by itself, and a folder of them."""
FILES = "sides"
"""The list that has an entry for each scan."""
ENDINGS = (".nii", ".nii.gz", ".npy")
LONGEST_SIDE = 2**15 - 1
"""That of NIfTI."""
MOST_VOXELS = 2**28
"""Of one scan, on its own grid: 2 GB as it is restored."""
HEADER = 348
"""Bytes of the header of NIfTI."""


def check(layout: Mapping[str, Any]) -> None:
    """Refuse a layout that describes no scans.

    Raises:
        UserError: names what is wrong.
    """
    sides, ends, headers = (layout.get(name) for name in ("sides", "ends", "headers"))
    listed = all(isinstance(values, list) for values in (sides, ends, headers))
    unclear = (
        "the file's header does not say of each of its scans how large it is, what its values are and where it lies"
    )
    require(listed, unclear)
    assert isinstance(sides, list)
    assert isinstance(ends, list)
    assert isinstance(headers, list)
    right = len(sides) == len(ends) == len(headers) >= 1
    require(right and (layout["kind"] == "scans" or len(sides) == 1), unclear)
    require(
        all(_are_sides(each) and math.prod(each) <= MOST_VOXELS for each in sides),
        f"the file's header says that a scan has other sides than three, or more than {MOST_VOXELS:,} voxels",
    )
    require(all(map(_are_ends, ends)), "the file's header does not say between which numbers the values of a scan lie")
    require(all(map(_is_header, headers)), "the file's header has a header of NIfTI that is none")
    shape = layout.get("shape")
    right = isinstance(shape, list) and len(shape) in (3, 4) and all(type(side) is int and side >= 1 for side in shape)
    require(right and layout["shape"][0] == 1, "the file's header does not say how large the examples of scans are")
    fitted = layout.get("fitted")
    if fitted is None:
        return
    right = isinstance(fitted, list) and len(fitted) == len(sides) and len(layout["shape"]) == 4
    require(
        right and all(_are_sides(each) and math.prod(each) <= MOST_VOXELS for each in fitted),
        "the file's header does not say how large each of its scans is on the run's grid",
    )


def _are_sides(sides: Any) -> bool:
    return (
        isinstance(sides, list)
        and len(sides) == 3
        and all(type(side) is int and 1 <= side <= LONGEST_SIDE for side in sides)
    )


def _are_ends(ends: Any) -> bool:
    right = isinstance(ends, list) and len(ends) == 2 and all(type(end) in (int, float) for end in ends)
    return right and all(abs(end) < math.inf for end in ends) and ends[0] < ends[1]


def _is_header(header: Any) -> bool:
    if header is None:
        return True
    try:
        return isinstance(header, str) and len(base64.b64decode(header, validate=True)) == HEADER
    except (binascii.Error, ValueError):
        return False


def shapes(layout: Mapping[str, Any], count: int) -> list[tuple[int, Shape]]:
    """The number and shape of examples, in groups of equal shape; whole volumes are as many as scans.

    Raises:
        UserError: they are not.
    """
    shape, scans = tuple(layout["shape"]), len(layout["sides"])
    require(
        count == scans if len(shape) == 4 else count >= scans,
        f"the file's header says that {scans} scans are {count} examples",
    )
    alike = itertools.groupby(map(tuple, layout.get("fitted") or []))
    return [(len(list(same)), (1, *each)) for each, same in alike] or [(count, shape)]
