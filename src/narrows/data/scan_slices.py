"""Volumes as examples: whole, or slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.contents import Part
from narrows.data.stores import Packed
from narrows.errors import nearest, require

Plane = Literal["axial", "coronal", "sagittal"]


@dataclass(frozen=True)
class Slices:
    """Which slices of volumes are examples.

    Args:
        plane: `axial`, `coronal` or `sagittal`; null: whole volumes are.
        margin: share of the slices left out at either end, where there is little to see.

    Raises:
        UserError: an unknown plane, or a margin outside [0, 0.5).
    """

    plane: Plane | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        known = get_args(Plane)
        require(
            self.plane in (None, *known),
            f"unknown source.slices.plane={self.plane!r}: {nearest(str(self.plane), known)}",
        )
        require(0 <= self.margin < 0.5, f"source.slices.margin={self.margin} must be at least 0 and below 0.5")
        require(self.margin == 0 or self.plane is not None, "source.slices.margin is of slices: set plane too, or 0")

    def kept(self, count: int) -> range:
        """The slices that are examples, of so many."""
        left = math.floor(self.margin * count)
        return range(left, count - left)

    def of(self, volume: NDArray) -> NDArray:
        """All slices of a volume `[D, H, W]`, `[S, h, w]`: axial ones as they lie, the others with the head at the
        top."""
        if self.plane == "axial":
            return volume
        upright = volume[::-1]
        return upright.transpose(1, 0, 2) if self.plane == "coronal" else upright.transpose(2, 0, 1)

    def joined(self, slices: NDArray) -> NDArray:
        """The volume of all its slices, the inverse of `of`."""
        if self.plane == "axial":
            return slices
        upright = slices.transpose(1, 0, 2) if self.plane == "coronal" else slices.transpose(1, 2, 0)
        return upright[::-1]


@dataclass
class Volume:
    """A scan on the grid."""

    name: str
    values: NDArray[np.float32]
    """`[D, H, W]`."""
    label: int | None = None
    mask: NDArray[np.bool_] | None = None
    """`[D, H, W]`, where it is anomalous."""


def to_part(volumes: Sequence[Volume], slices: Slices, normal: int = 0) -> tuple[Part, torch.Tensor]:
    """Volumes as a part, and the number of the volume of each example.

    Where there are masks, a slice on which nothing is marked is normal, whatever its volume is.

    Args:
        normal: the label of such slices.
    """
    values, labels, masks, names, groups = [], [], [], [], []
    for number, volume in enumerate(volumes):
        for name, x, mask in _examples(volume, slices):
            values.append(torch.from_numpy(np.ascontiguousarray(x))[None])
            plain = slices.plane is not None and mask is not None and not mask.any()
            labels.append(normal if plain else volume.label)
            masks.append(mask)
            names.append(name)
            groups.append(number)
    label = None if None in labels else torch.tensor([int(one or 0) for one in labels])
    anomalous = None
    if any(mask is not None for mask in masks):
        shape = tuple(values[0].shape)
        flags = [np.zeros(shape[1:], bool) if mask is None else mask for mask in masks]
        bits = np.packbits(np.stack(flags).reshape(len(flags), -1), axis=1)
        anomalous = Packed(torch.from_numpy(bits), shape)
    return Part(torch.stack(values), label, names=names, anomalous=anomalous), torch.tensor(groups)


def _examples(volume: Volume, slices: Slices) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_] | None]]:
    if slices.plane is None:
        yield volume.name, volume.values, volume.mask
        return
    every = slices.of(volume.values)
    marked = None if volume.mask is None else slices.of(volume.mask)
    for place in slices.kept(len(every)):
        yield slice_name(volume.name, slices.plane, place), every[place], None if marked is None else marked[place]


def slice_name(volume: str, plane: str | None, place: int) -> str:
    """The name of an example."""
    return volume if plane is None else f"{volume}:{plane} {place}"
